"""Occupancy of the sites in each frame, from all frames together: a hidden Markov model of each site.

A site is vacant or occupied. The observation in a frame is the probability of a detection at the site, as one of
several grades: no detection, or a range of probabilities. The emission probabilities of the grades are learnt from the
movie itself (Baum and Welch; L. R. Rabiner, Proc. IEEE 77 (1989) 257), starting from the meaning of calibrated
probabilities. The detection rate is also learnt for each site, because some sites show their column less often.

The relative contrast of vacant and of occupied sites, see :mod:`hrtem.movies.tracking.contrast`, is learnt as well, as
normal distributions with a small share of outliers. Noise that causes a false detection also changes the brightness.
Sites with and without a detection therefore have separate contrast distributions, so that the same information is not
counted twice. In a frame with a larger spread of the bulk columns, the contrast has less weight.

The probabilities that columns leave and arrive depend on the number of neighbours, in the mean field of the neighbours'
occupancies, and are also learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hrtem.movies.tracking.contrast import FEWEST
from hrtem.movies.tracking.sites import BULK, SUPPORT, SURFACE, Sites, average_seen

#: Edges between the probability grades of a detection; grade 0 is no detection.
EDGES = np.array([0.3, 0.6, 0.85])
GRADES = len(EDGES) + 2
#: Prior probability of each grade for a vacant and for an occupied site, and the weight of this prior, frames.
PRIOR = np.array([[0.94, 0.03, 0.015, 0.01, 0.005], [0.06, 0.03, 0.05, 0.10, 0.76]])
WORTH = 40.0
#: Weight of the mean detection rate of all sites in the detection rate of one site, frames.
OWN = 40.0
#: Prior mean and standard deviation of the relative contrast of a vacant and of an occupied site, and the minimum
#: standard deviation.
SHADES, NARROWEST = np.array([[0.05, 0.15], [0.95, 0.15]]), 0.08
#: Share of outliers in the relative contrast, and width of their uniform distribution.
STRANGE, RANGE = 0.01, 4.0
#: Prior probabilities per frame of leaving and arriving, and the weight of this prior, frames of one site.
LEAVING, ARRIVING, KNOWN = 0.02, 0.01, 20.0
#: Probability per frame that a column with neighbours on all sides leaves, although no neighbouring site is vacant.
STUCK = 1e-5
#: Number of learning iterations, and minimum distance of detection probabilities from 0 and 1.
ROUNDS, LEAST = 8, 1e-3
#: Weight of the mean of all frames in the quality of one frame, bulk columns.
USUAL = 4.0


@dataclass(frozen=True)
class Occupancy:
    """Occupancy probabilities of S sites in T frames.

    Attributes:
        probability: ``(T, S)``, probability of occupancy from all frames.
        filtered: ``(T, S)``, probability of occupancy from the current and earlier frames.
        appearing: ``(T - 1, S)``, probability that a site is vacant in a frame and occupied in the next.
        vanishing: ``(T - 1, S)``, probability that a site is occupied in a frame and vacant in the next.
        kinds: ``(S,)``, see :data:`hrtem.movies.tracking.sites.KINDS`.
        leaving: ``(T - 1, S)``, transition probability from occupied to vacant, given the neighbours.
        arriving: ``(T - 1, S)``, transition probability from vacant to occupied, given the neighbours.
        emission: ``(2, GRADES)``, probability of each grade for vacant and for occupied sites.
        shades: ``(2, 2, 2)``, for vacant and occupied sites, without and with a detection: mean and standard deviation
            of the relative contrast.
        quality: ``(T,)``, detection rate of bulk columns, relative to the mean of all frames.
    """

    probability: np.ndarray
    filtered: np.ndarray
    appearing: np.ndarray
    vanishing: np.ndarray
    kinds: np.ndarray
    leaving: np.ndarray
    arriving: np.ndarray
    emission: np.ndarray
    shades: np.ndarray
    quality: np.ndarray


def smooth_occupancy(
    sites: Sites, seen: np.ndarray, contrast: np.ndarray | None = None, rounds: int = ROUNDS
) -> Occupancy:
    """Fit the hidden Markov model to the observations.

    Args:
        sites: S sites.
        seen: ``(T, S)``, probability of a column from each frame alone; 0 without a detection, NaN if the site is not
            visible or the frame is not registered.
        contrast: ``(T, S)``, see :func:`hrtem.movies.tracking.contrast.measure_contrast`; NaN if unknown.
        rounds: number of learning iterations.
    """
    frames, number = seen.shape
    contrast = np.full(seen.shape, np.nan) if contrast is None else contrast
    grades = _grades(seen)
    found = grades > 0
    emission, shades = PRIOR.copy(), np.repeat(SHADES[:, None], 2, axis=1)
    quality, showing = np.ones(frames), np.repeat(emission[:, 1:].sum(axis=1)[:, None], number, axis=1)
    occupied = average_seen(seen)
    leaving = np.full((sites.full + 1,), LEAVING)
    leaving[sites.full] = STUCK
    arriving = np.full((sites.full + 1,), ARRIVING)
    field = np.broadcast_to(sites.coordination(occupied), seen.shape)
    start = np.clip(occupied, 0.05, 0.95)
    noise = _noise(contrast, sites.kinds(occupied))
    for _ in range(rounds):
        table = _seen_likelihood(grades, emission, showing, quality) * _shade_likelihood(contrast, found, shades, noise)
        out, back = _by_neighbours(field, leaving, arriving)
        state, filtered, appearing, vanishing = _forward_backward(table, start, out, back)
        kinds = sites.kinds(state.mean(axis=0))
        noise = _noise(contrast, kinds)
        emission = _learnt(grades, state, kinds)
        showing = _shown(grades, state, emission)
        shades = _learnt_shades(contrast, found, state, kinds, shades, noise)
        quality = _quality(grades, state, kinds, emission)
        field = sites.coordination(lasting(state))
        leaving, arriving = _rates(field, state, appearing, vanishing, kinds, sites.full)
        start = np.clip(state[0], 0.02, 0.98)
    return Occupancy(state, filtered, appearing, vanishing, kinds, out, back, emission, shades, quality)


def lasting(states: np.ndarray) -> np.ndarray:
    """Occupancy that was also present in the frame before: minimum of consecutive ``states`` ``(T, S)``.

    A column that hops during a frame appears in both places and would otherwise count as its own neighbour.
    """
    return np.concatenate([states[:1], np.minimum(states[1:], states[:-1])])


def _grades(seen: np.ndarray) -> np.ndarray:
    """Grade of each probability in ``seen``; 0 without a detection, −1 if the site was not visible."""
    values = np.nan_to_num(seen)
    return np.where(np.isfinite(seen), np.digitize(values, EDGES) + (values > 0.0), -1)


def _noise(contrast: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Spread of the relative contrast of bulk columns in each frame, relative to the median of all frames, ``(T,)``.

    Bulk sites are always occupied, so a larger spread is due to noise or to a defocus at which columns differ. The
    contrast of surface sites in this frame is less reliable by the same factor. Values are at least 1.
    """
    inside = contrast[:, kinds == BULK]
    spread = np.full(len(contrast), np.nan)
    told = np.isfinite(inside).sum(axis=1) >= FEWEST
    if told.any():
        values = inside[told]
        spread[told] = np.nanmedian(np.abs(values - np.nanmedian(values, axis=1, keepdims=True)), axis=1)
    usual = np.nanmedian(spread) if told.any() else np.nan
    return np.maximum(np.nan_to_num(spread / usual, nan=1.0), 1.0) if usual > 0.0 else np.ones(len(contrast))


def _shade_likelihood(contrast: np.ndarray, found: np.ndarray, shades: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Likelihood of each relative contrast for a vacant and for an occupied site, ``(T, S, 2)``; 1 if unknown."""
    return np.nan_to_num((1.0 - STRANGE) * _normal(contrast, found, shades, noise) + STRANGE / RANGE, nan=1.0)


def _normal(contrast: np.ndarray, found: np.ndarray, shades: np.ndarray, noise: np.ndarray) -> np.ndarray:
    mean, deviation = (np.moveaxis(shades[:, :, which], 0, -1)[found.astype(int)] for which in (0, 1))
    deviation = deviation * noise[:, None, None]
    away = (contrast[..., None] - mean) / deviation
    return np.exp(-0.5 * away**2) / (np.sqrt(2.0 * np.pi) * deviation)


def _learnt_shades(
    contrast: np.ndarray,
    found: np.ndarray,
    state: np.ndarray,
    kinds: np.ndarray,
    shades: np.ndarray,
    noise: np.ndarray,
) -> np.ndarray:
    """Learn mean and standard deviation of the relative contrast of surface sites, without outliers of ``shades``."""
    normal = (1.0 - STRANGE) * _normal(contrast, found, shades, noise)
    usual = normal / (normal + STRANGE / RANGE)
    surface = np.isfinite(contrast) & (kinds == SURFACE)[None]
    worth = np.broadcast_to(noise[:, None] ** -2.0, contrast.shape)
    answer = np.empty_like(shades)
    for occupied, there in enumerate((1.0 - state, state)):
        for seen in (0, 1):
            known = surface & (found == bool(seen))
            values, weights = contrast[known], there[known] * usual[..., occupied][known]
            precise = weights * worth[known]
            first, width = SHADES[occupied]
            mean = (precise @ values + WORTH * first) / (precise.sum() + WORTH)
            square = (precise @ (values - mean) ** 2 + WORTH * (width**2 + (first - mean) ** 2)) / (
                weights.sum() + WORTH
            )
            answer[occupied, seen] = mean, max(np.sqrt(square), NARROWEST)
    return answer


def _seen_likelihood(grades: np.ndarray, emission: np.ndarray, showing: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Likelihood of each grade for a vacant and for an occupied site, ``(T, S, 2)``; 1 if the site was not visible."""
    # If a frame misses even bulk columns, a missing detection is weaker evidence for a vacant site.
    shown = np.stack(np.broadcast_arrays(showing[0], quality[:, None] * showing[1]), axis=-1)
    shown = np.clip(shown, LEAST, 1.0 - LEAST)
    of_these = (emission[:, 1:] / emission[:, 1:].sum(axis=1, keepdims=True)).T[np.maximum(grades, 1) - 1]
    answer = np.where(grades[..., None] > 0, shown * of_these, 1.0 - shown)
    return np.where(grades[..., None] < 0, 1.0, answer)


def _shown(grades: np.ndarray, state: np.ndarray, emission: np.ndarray) -> np.ndarray:
    """Detection rate at each site while it is vacant and while it is occupied, ``(2, S)``."""
    known, found = grades >= 0, grades > 0
    answer = np.empty((2, grades.shape[1]))
    for occupied, there in enumerate((1.0 - state, state)):
        usual = emission[occupied, 1:].sum()
        answer[occupied] = ((there * found).sum(axis=0) + OWN * usual) / ((there * known).sum(axis=0) + OWN)
    return answer


def _by_neighbours(field: np.ndarray, leaving: np.ndarray, arriving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``(T - 1, S)`` to leave and to arrive until the next frame, from the ``field`` of neighbours.

    The ``field`` ``(T, S)`` is the expected number of occupied neighbours. Between integers, logarithms of the
    probabilities are interpolated, so that a column with one doubtful neighbour does not yet count as free to leave.
    """
    number = np.clip(field[:-1], 0.0, len(leaving) - 1.0)
    whole = np.arange(len(leaving))
    out, back = (np.exp(np.interp(number, whole, np.log(chances))) for chances in (leaving, arriving))
    return out, back


def _forward_backward(
    likelihood: np.ndarray, start: np.ndarray, leaving: np.ndarray, arriving: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Marginal probabilities of all sites: occupied and filtered ``(T, S)``, appearing and vanishing ``(T - 1, S)``."""
    frames, number = likelihood.shape[:2]
    filtered, behind = np.empty((frames, number)), np.ones((frames, number, 2))
    chance = start
    for frame in range(frames):
        if frame:
            chance = chance * (1.0 - leaving[frame - 1]) + (1.0 - chance) * arriving[frame - 1]
        one = chance * likelihood[frame, :, 1]
        chance = one / (one + (1.0 - chance) * likelihood[frame, :, 0])
        filtered[frame] = chance
    for frame in range(frames - 2, -1, -1):
        vacant, occupied = (likelihood[frame + 1] * behind[frame + 1]).T
        back, out = arriving[frame], leaving[frame]
        behind[frame, :, 0] = (1.0 - back) * vacant + back * occupied
        behind[frame, :, 1] = out * vacant + (1.0 - out) * occupied
        behind[frame] /= behind[frame].sum(axis=1, keepdims=True)
    one, none = filtered * behind[..., 1], (1.0 - filtered) * behind[..., 0]
    state = one / (one + none)
    ahead = likelihood[1:] * behind[1:]
    stay = filtered[:-1] * (1.0 - leaving) * ahead[..., 1]
    vanish = filtered[:-1] * leaving * ahead[..., 0]
    appear = (1.0 - filtered[:-1]) * arriving * ahead[..., 1]
    remain = (1.0 - filtered[:-1]) * (1.0 - arriving) * ahead[..., 0]
    total = stay + vanish + appear + remain
    return state, filtered, appear / total, vanish / total


def _learnt(grades: np.ndarray, state: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Learn the probability of each grade for vacant and for occupied sites, ``(2, GRADES)``.

    Only surface sites in vacuum are used: bulk sites are never vacant, and a support has its own columns.
    """
    teaches = (grades >= 0) & (kinds == SURFACE)[None]
    answer = WORTH * PRIOR
    for grade in range(GRADES):
        here = teaches & (grades == grade)
        answer[1, grade] += state[here].sum()
        answer[0, grade] += (1.0 - state[here]).sum()
    return answer / answer.sum(axis=1, keepdims=True)


def _quality(grades: np.ndarray, state: np.ndarray, kinds: np.ndarray, emission: np.ndarray) -> np.ndarray:
    """Detection rate of bulk columns in each frame, relative to the mean of all frames, ``(T,)``."""
    sure = (grades >= 0) & (kinds == BULK)[None] & (state > 0.9)
    found = (sure & (grades > 0)).sum(axis=1)
    number = sure.sum(axis=1)
    mean = found.sum() / max(number.sum(), 1) if number.any() else 1.0
    if mean == 0.0:
        return np.ones(len(grades))
    return np.clip((found + USUAL * mean) / (number + USUAL) / mean, 0.05, 1.0 / max(emission[1, 1:].sum(), LEAST))


def _rates(
    field: np.ndarray, state: np.ndarray, appearing: np.ndarray, vanishing: np.ndarray, kinds: np.ndarray, full: int
) -> tuple[np.ndarray, np.ndarray]:
    """Learn probabilities per frame to leave and to arrive with 0 … ``full`` neighbours, each shrunk to their mean."""
    counted = (kinds != SUPPORT)[None] & np.ones((len(appearing), 1), bool)
    number = np.clip(np.rint(field[:-1]), 0, full).astype(int)
    answers = []
    for events, base, prior in (
        (vanishing, state[:-1], LEAVING),
        (appearing, 1.0 - state[:-1], ARRIVING),
    ):
        happened = np.bincount(number[counted], events[counted], minlength=full + 1)
        exposed = np.bincount(number[counted], base[counted], minlength=full + 1)
        surface = slice(0, full)
        mean = (happened[surface].sum() + KNOWN * prior) / (exposed[surface].sum() + KNOWN)
        answers.append(np.clip((happened + KNOWN * mean) / (exposed + KNOWN), 1e-5, 0.9))
    answers[0][full] = STUCK
    return answers[0], answers[1]
