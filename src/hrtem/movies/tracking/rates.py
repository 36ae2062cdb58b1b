"""Rates at which columns leave and arrive, with 95 % intervals.

Histories of all sites are drawn from their posterior distribution given the frames (forward filtering, backward
sampling; C. K. Carter and R. Kohn, Biometrika 81 (1994) 541). For each history, a rate is drawn from its number of
events. The spread of these rates therefore includes counting statistics and missed or false detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from hrtem.movies.tracking.occupancy import Occupancy
from hrtem.movies.tracking.sites import HELD, SUPPORT, Sites

#: Number of histories that are drawn, and the share of them inside an interval.
DRAWS, LEVEL = 400, 0.95
#: Range of the factor a in :func:`estimate_rates`: loss of short stays in continuously exposed frames, relative to
#: instantaneous frames with the same spacing. The lower limit is the loss by the exposure alone; at the upper limit,
#: the rates of 50 simulated movies agree with their hops. A value is drawn for each history.
EXPOSED = (1.25, 5.0)


@dataclass(frozen=True)
class Rate:
    """Rate of one type of event.

    Attributes:
        what: ``leave`` or ``arrive``.
        neighbours: number of neighbours of the sites, or None for all sites on the surface.
        value: median rate, 1/s.
        low, high: limits of the interval with probability :data:`LEVEL`, 1/s.
        events: mean number of events in the histories.
        exposure: mean total time during which the event could happen, summed over all sites, s.
        draws: ``(DRAWS,)`` 1/s, rate of each history.
    """

    what: str
    neighbours: int | None
    value: float
    low: float
    high: float
    events: float
    exposure: float
    draws: np.ndarray


@dataclass(frozen=True)
class Rates:
    """All rates of a movie: for the whole surface, and for sites with each number of neighbours."""

    leave: Rate
    arrive: Rate
    by_neighbours: tuple[Rate, ...]

    def all(self) -> list[Rate]:
        """List all rates in the order of the table."""
        return [self.leave, self.arrive, *self.by_neighbours]


def estimate_rates(
    sites: Sites,
    occupancy: Occupancy,
    frame_time: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Rates:
    """Estimate the rates of a movie.

    A column that leaves at the rate λ is absent after a frame of length τ with the probability

        λ (1 - exp(-M τ)) / M,    M = a μ + max(λ, a ν)

    Here μ is the rate at which the vacated site is occupied again, often by the same column, and ν is the rate at which
    columns leave that have just arrived. For a = 1 and ν = λ, this is a two-state Markov chain sampled at intervals τ.
    The rates μ and ν follow from the events that the next frame undoes. Columns that have just arrived are at sites
    that columns leave quickly, so their rate ν exceeds the mean.

    The factor a describes continuously exposed frames, which show a column where it was for most of the exposure. All
    stays shorter than half a frame are lost; this alone gives a = 5/4. Stays of about one frame are uncertain, and more
    so in noisy frames. The size of this effect is unknown, so a is drawn from :data:`EXPOSED`.

    The rate of the surface is the mean of the rates for each number of neighbours, weighted with the exposure, because
    columns with high rates leave soon. Columns that appear and vanish within one frame contribute neither events nor
    exposure.

    Args:
        sites: sites of the movie.
        occupancy: result of :func:`hrtem.movies.tracking.occupancy.smooth_occupancy`.
        frame_time: s from frame to frame.
        rng: random generator for the histories.
        draws: number of histories.
    """
    happened, exposed, returned = _histories(sites, occupancy, rng, draws)
    drawn_rates = [
        _drawn(happened[kind], exposed[kind], returned[[kind, 1 - kind]], frame_time, rng) for kind in (0, 1)
    ]

    def rate(kind: int, numbers: Sequence[int], neighbours: int | None) -> Rate:
        chosen = list(numbers)
        events, exposure = happened[kind][:, chosen].sum(axis=1), exposed[kind][:, chosen].sum(axis=1)
        weights = exposed[kind][:, chosen] + 1e-9
        drawn = (drawn_rates[kind][:, chosen] * weights).sum(axis=1) / weights.sum(axis=1)
        low, value, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2])
        return Rate(
            ("leave", "arrive")[kind], neighbours, float(value), float(low), float(high), float(events.mean()),
            float(exposure.mean() * frame_time), drawn,
        )  # fmt: skip

    surface = range(sites.full)
    each = [rate(kind, [number], number) for kind, least in ((0, 1), (1, HELD)) for number in range(least, sites.full)]
    return Rates(rate(0, surface, None), rate(1, range(HELD, sites.full), None), tuple(each))


def _drawn(
    events: np.ndarray, exposure: np.ndarray, returned: np.ndarray, frame_time: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw rates ``(draws, full + 1)``, 1/s, from their posterior given the events, one per history.

    Args:
        events, exposure: ``(draws, full + 1)``, events and exposed frames of each history, by number of neighbours.
        returned: ``(2, draws, 2)``, for changes of the same type and of the opposite type: the number that the next
            frame undoes, and the number with a next frame.
        frame_time: s.
        rng: random generator.
    """
    # Jeffreys' prior of a proportion, divided among the numbers of neighbours so that it is counted only once.
    part = 0.5 / events.shape[1]
    chance = np.minimum(rng.beta(events + part, np.maximum(exposure - events, 0) + 0.5), 0.999)
    undone = rng.beta(returned[..., 0] + 0.5, np.maximum(returned[..., 1] - returned[..., 0], 0) + 9.5)
    back, again = -np.log1p(-undone)[..., None]
    lost_more = rng.uniform(*EXPOSED, size=(len(events), 1))
    rate = -np.log1p(-chance)
    for _ in range(50):
        lost = lost_more * back + np.maximum(rate, lost_more * again)
        rate = np.minimum(chance * lost / -np.expm1(-lost), 20.0)
    return rate / frame_time


def _histories(
    sites: Sites, occupancy: Occupancy, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw histories: events and exposed frames ``(2, draws, full + 1)`` of leaving and arriving, by neighbours.

    The third array, ``(2, draws, 2)``, contains the number of events that the next frame undoes, and the number of
    events with a next frame.
    """
    frames, number = occupancy.probability.shape
    counted = (occupancy.kinds != SUPPORT)[None]
    happened, exposed = np.zeros((2, 2, draws, sites.full + 1))
    returned = np.zeros((2, draws, 2))
    later = rng.random((draws, number)) < occupancy.filtered[-1]
    latest = None
    rows = np.repeat(np.arange(draws), number)

    def count(state: np.ndarray, after: np.ndarray, neighbours: np.ndarray) -> None:
        beside = np.minimum(sites.coordination(neighbours.astype(np.int16)), sites.full)
        for kind, (before, event) in enumerate(((state, state & ~after), (~state, ~state & after))):
            for table, values in ((exposed, before), (happened, event)):
                weight = (values & counted).ravel()
                flat = rows[weight] * (sites.full + 1) + beside.ravel()[weight]
                table[kind] += np.bincount(flat, minlength=draws * (sites.full + 1)).reshape(draws, -1)

    for frame in range(frames - 2, -1, -1):
        chance, out, back = occupancy.filtered[frame], occupancy.leaving[frame], occupancy.arriving[frame]
        one = np.where(later, chance * (1.0 - out), chance * out)
        none = np.where(later, (1.0 - chance) * back, (1.0 - chance) * (1.0 - back))
        state = rng.random((draws, number)) * (one + none) < one
        # Only neighbours that also existed in the frame before count, see hrtem.movies.tracking.occupancy.lasting.
        if latest is not None:
            count(later, latest, state & later)
        if frame == 0:
            count(state, later, state)
        if latest is not None:
            for kind, event in enumerate((state & ~later & counted, ~state & later & counted)):
                returned[kind, :, 0] += (event & (latest == state)).sum(axis=1)
                returned[kind, :, 1] += event.sum(axis=1)
        latest, later = later, state
    return happened, exposed, returned


@dataclass(frozen=True)
class RateComparison:
    """Comparison of two rates.

    Attributes:
        ratio: median ratio of the second rate to the first.
        low, high: limits of the interval of the ratio.
        p: p-value for equal rates (the exact conditional test of two Poisson means; J. Przyborowski and H. Wilenski,
            Biometrika 31 (1940) 313): probability of numbers of events that are at least as unequal.
        faster: probability that the second rate is higher, from the histories.
    """

    ratio: float
    low: float
    high: float
    p: float
    faster: float


def compare_rates(first: Rate, second: Rate) -> RateComparison:
    """Compare the rates of two movies."""
    size = min(len(first.draws), len(second.draws))
    # The roll makes the draws of two movies independent, even if both come from the same random numbers.
    one, other = first.draws[:size], np.roll(second.draws[:size], size // 2)
    ratio = other / np.maximum(one, 1e-12)
    low, middle, high = np.quantile(ratio, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2])
    events = [round(first.events), round(second.events)]
    share = second.exposure / max(first.exposure + second.exposure, 1e-12)
    p = float(binomtest(events[1], sum(events), share).pvalue) if sum(events) and 0.0 < share < 1.0 else 1.0
    faster = float((other > one).mean())
    return RateComparison(float(middle), float(low), float(high), p, faster)
