"""Detection of pixels that hold no image: borders, apertures, dead and hot lines, NaN; and their replacement.

Detection is conservative: an ordinary image of any kind keeps all of its pixels. An area holds no image if it is
constant, or dark with far less noise than the image; if it touches the edge of the image; if its own outline or that of
the remaining image is convex, as for drift, rotation and apertures; and if the intensity jumps at its edge within 3 px.
Vacuum, saturation and zeros of single electrons fail at least one of these tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

#: Blocks, px, in which constant areas and dark areas are looked for.
FLAT_BLOCK, DARK_BLOCK = 8, 16
#: Largest share of constant blocks of other levels; above it the image itself consists of constant areas.
POSTERISED = 0.01
#: A dark area has less noise than this share of the image's; its pixels lie within so many standard deviations; and it
#: is at least this share of the image, as the surroundings of an aperture are.
DARK_NOISE, DARK_SIGMAS, DARK_SHARE = 0.2, 6.0, 0.02
#: Number of pixels of a run, times the share of other pixels in the image, for which chance is excluded: e⁻²⁰.
EVIDENCE = 20.0
#: Smallest difference from the level of an area 1 to 2 px and 2 to 3 px outside, relative to that ``FAR`` px outside.
JUMPS = 0.5, 0.8
FAR = 3, 12
#: Smallest ratio of an area to its convex hull for which its outline counts as convex.
CONVEX = 0.97
#: Widest hot or dead line, px; lines and isolated pixels up to this width are interpolated and not left out.
THIN = 3
#: A line deviates from the lines around it by more than this many robust standard deviations and 95th percentiles.
LINE_SIGMAS, LINE_TAILS = 8.0, 4.0
#: Every part of a line deviates by more than the first share of the largest deviation, the lines beside it by less than
#: the second; a Gaussian feature with a full width at half maximum of 2 px or more fails.
LINE_INSIDE, LINE_OUTSIDE = 0.7, 0.2
#: Largest share of hot or dead lines; an image with more has stripes.
LINES = 0.02
#: Standard deviation, px, of the Gaussian weights for the interpolation of lines and isolated pixels.
WIDTH = 1.0


@dataclass(frozen=True, eq=False)
class Validity:
    """Pixels of an image that hold an image, and reasons for the others.

    Attributes:
        valid: bool ``(Y, X)``, False in areas that hold no image.
        repaired: bool ``(Y, X)``, True for isolated pixels and lines, which are interpolated.
        left_out: reason and share for each kind of pixels that are not valid.
        remarks: sentences about hot and dead lines, without the name of the file.
    """

    valid: np.ndarray
    repaired: np.ndarray
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def find_validity(image: np.ndarray, given: np.ndarray | None = None) -> Validity:
    """Find the pixels of an image that hold no image.

    Args:
        image: ``(Y, X)``; values may be NaN or infinite.
        given: bool ``(Y, X)``, known pixels that hold an image; None detects constant and dark areas. NaN and hot lines
            are detected in both cases.
    """
    finite = np.isfinite(image)
    if not finite.all():
        image = np.where(finite, image, np.float32(np.nan))  # differences of infinite values would warn
    out, reasons = _wide(~finite), []
    if given is not None:
        out &= given
    if out.any():
        reasons.append(f"NaN or infinite ({out.mean():.1%})")
    if given is not None:
        out |= ~given
    if given is None and (gaps := _gaps(image, finite) & ~out).any():
        reasons.append(f"bands without an image ({gaps.mean():.1%})")
        out |= gaps
    for level, tolerance in _levels(image, finite) if given is None else ():
        area = _area(image, level, tolerance, out | ~finite)
        new = area & ~out
        if new.any():
            kind = "dark around" if tolerance else "constant at"
            reasons.append(f"{kind} {level:.4g} ({new.mean():.1%})")
            out |= area
    lines = np.zeros(image.shape, bool)
    remarks = []
    for name, axis in (("column", 1), ("row", 0)):
        found = _lines(image if axis else image.T, ~out & finite if axis else (~out & finite).T)
        if len(found):
            lines[(slice(None), found) if axis else found] = True
            numbers = ", ".join(map(str, found.tolist()))
            remarks.append(f"{name}{'s' * (len(found) > 1)} {numbers} hot or dead and interpolated")
    return Validity(~out, (lines | ~finite) & ~out, tuple(reasons), tuple(remarks))


def fill(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replace the pixels of an image that are not known.

    Lines and isolated pixels become Gaussian averages over the known pixels around them, the normalised convolution of
    H. Knutsson and C.-F. Westin (1993). Pixels of wide areas repeat the nearest known pixel, as pixels beyond the edges
    of an image do: a network finds the columns beside a border of zeros or of mean intensity less well.

    Args:
        image: ``(Y, X)``.
        known: bool ``(Y, X)``, True for pixels that are kept; at least one.
    """
    if known.all():
        return image
    wide = _wide(~known)
    answer = np.where(known, image, np.float32(0.0))
    thin = ~known & ~wide
    if thin.any():
        middle = np.median(image[known])
        weights = ndimage.gaussian_filter(known.astype(np.float32), WIDTH)
        values = ndimage.gaussian_filter(np.where(known, image - middle, np.float32(0.0)), WIDTH)
        answer[thin] = middle + values[thin] / np.maximum(weights[thin], 1e-6)
    if wide.any():
        rows, columns = ndimage.distance_transform_edt(wide, return_distances=False, return_indices=True)
        answer = answer[rows, columns]
    return answer


def _wide(holes: np.ndarray) -> np.ndarray:
    """Select the areas in bool ``(Y, X)`` that are wider than :data:`THIN` or touch the edge of the image."""
    return _opened(holes, THIN + 1) if holes.any() else holes


def _opened(mask: np.ndarray, side: int) -> np.ndarray:
    """Union of all squares of ``side`` px within a mask, which continues beyond the edges of the image."""
    padded = np.pad(mask, side, constant_values=True).astype(np.uint8)
    low = ndimage.minimum_filter(padded, side, mode="constant", cval=1)
    # A window of even side is off centre; the second filter is off by the same half pixel in the other direction.
    origin = 0 if side % 2 else -1
    return ndimage.maximum_filter(low, side, mode="constant", cval=0, origin=origin)[side:-side, side:-side] > 0


def _gaps(image: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Bands ``(Y, X)`` of constant, or dark and calm, lines within an image, as between the tiles of a detector."""
    gaps = np.zeros(image.shape, bool)
    clean = image if finite.all() else np.where(finite, image, np.median(image[finite]))
    for axis, lines, mask in ((1, image, gaps), (0, image.T, gaps.T)):
        means, noise = clean.mean(axis, dtype=np.float64), clean.std(axis, dtype=np.float64)
        calm = (noise < DARK_NOISE * np.median(noise)) & (means + DARK_SIGMAS * noise < np.quantile(means, 0.5))
        constant = np.fmin.reduce(lines, axis=1) == np.fmax.reduce(lines, axis=1)
        for (band,) in ndimage.find_objects(ndimage.label(calm | constant)[0]):
            first, last = band.start, band.stop
            # Bands at an edge are borders, and narrow ones are lines that are interpolated.
            if first < FAR[1] or last > len(lines) - FAR[1] or last - first <= THIN:
                continue
            away = np.abs(means - np.median(means[band]))
            near = away[[first - 2, last + 1]].mean()
            far = np.concatenate([away[first - FAR[1] : first - FAR[0]], away[last + FAR[0] : last + FAR[1]]]).mean()
            mask[band] = far > 0.0 and near >= JUMPS[1] * far
    return gaps


def _levels(image: np.ndarray, finite: np.ndarray) -> Iterator[tuple[float, float]]:
    """Yield level and tolerance of areas that may hold no image: at most three constants, then one dark level."""
    low, high = (_blocks(image, FLAT_BLOCK, choose) for choose in (np.min, np.max))
    values, numbers = np.unique(low[low == high], return_counts=True)
    order = np.argsort(-numbers)[:3]
    constants = dict.fromkeys(values[order].tolist())
    if numbers.sum() - numbers[order].sum() <= POSTERISED * low.size:
        for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
            starts = np.flatnonzero(np.append(True, edge[1:] != edge[:-1]))
            runs = np.diff(np.append(starts, len(edge)))
            if runs.max() >= EVIDENCE:
                constants.setdefault(float(edge[starts[runs.argmax()]]))
        yield from ((level, 0.0) for level in constants if math.isfinite(level))
    spread = _blocks(np.where(finite, image, np.nan), DARK_BLOCK, np.std)
    if min(spread.shape) < 3:
        return
    frame = np.ones(spread.shape, bool)
    frame[1:-1, 1:-1] = False
    frame &= spread > 0.0
    if frame.any():
        noise = float(spread[frame].min())
        level = float(_blocks(image, DARK_BLOCK, np.mean)[frame & (spread == noise)][0])
        if noise < DARK_NOISE * np.nanpercentile(spread, 75) and level < np.median(image[finite]):
            yield level, DARK_SIGMAS * noise


def _blocks(image: np.ndarray, side: int, reduce: Any) -> np.ndarray:
    """Reduce square blocks of ``side`` px, without incomplete blocks at the last rows and columns."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    cut = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return reduce(reduce(cut, axis=3), axis=1) if reduce is not np.std else np.std(cut, axis=(1, 3), dtype=np.float64)


def _area(image: np.ndarray, level: float, tolerance: float, out: np.ndarray) -> np.ndarray:
    """Area ``(Y, X)`` of a level that passes all tests, with its blurred edge.

    Args:
        image: ``(Y, X)``.
        level, tolerance: range of the pixels.
        out: pixels that are known to hold no image.
    """
    if tolerance:
        equal = np.abs(image - np.float32(level)) <= tolerance
        equal = ndimage.median_filter(equal, 3)
    else:
        equal = image == np.float32(level)
    equal |= out
    area = out
    for _ in range(2):
        # Chance: a run of pixels of this level has a probability that decreases exponentially with its length.
        other = 1.0 - float(np.count_nonzero(equal & ~area)) / max(1, int(np.count_nonzero(~area)))
        side = math.ceil(EVIDENCE / max(1e-9, other))
        if side > min(image.shape) // 2:
            return np.zeros_like(out)
        area = _opened(equal, side)
    labels = ndimage.label(area)[0]
    away = np.minimum(np.abs(image - np.float32(level)), np.float32(np.nanpercentile(np.abs(image - level), 99)))
    passed = np.zeros_like(out)
    kept = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        whole = labels == label
        if not (whole & ~out).any() or not _touches_edge(box, image.shape) or np.count_nonzero(whole) < 2 * side:
            continue
        free = ~area & ~out
        rings = [_grown(whole, outer) & ~_grown(whole, inner) & free for inner, outer in ((0, 2), (1, 3), FAR)]
        if not all(ring.any() for ring in rings):
            continue
        first, second, far = (float(away[ring].mean()) for ring in rings)
        if far > tolerance and first >= JUMPS[0] * far and second >= JUMPS[1] * far:
            kept.append(whole)
            passed |= whole
    if tolerance and np.count_nonzero(passed) < DARK_SHARE * passed.size:
        return np.zeros_like(out)
    if kept and not _is_convex(~(passed | out)):
        passed = np.zeros_like(out)
        for whole in kept:
            passed |= whole if _is_convex(whole) else False
    # The edge of an interpolated or noisy border is a mixture of border and image.
    return _grown(passed, 2 if tolerance else 1)


def _touches_edge(box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    return any(cut.start == 0 or cut.stop == size for cut, size in zip(box, shape, strict=True))


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    return ndimage.maximum_filter(mask.astype(np.uint8), 2 * reach + 1) > 0


def _is_convex(mask: np.ndarray) -> bool:
    """Whether a mask fills its convex hull, at a reduced resolution."""
    # This import takes a fraction of a second, and few images need it.
    from skimage.morphology import convex_hull_image

    step = max(1, max(mask.shape) // 512)
    reduced = mask[::step, ::step]
    if np.count_nonzero(reduced) < 3 or min(np.ptp(np.nonzero(reduced), axis=1)) == 0:
        return bool(reduced.any())
    hull = convex_hull_image(reduced, offset_coordinates=False)
    return bool(np.count_nonzero(reduced) >= CONVEX * np.count_nonzero(hull))


def _is_long(difference: np.ndarray, largest: float) -> bool:
    """Whether the difference ``(Y,)`` of a line from those beside it is found in most of its eighths."""
    means = [float(np.mean(part)) / largest for part in np.array_split(difference, 8)]
    return float(np.nanmedian(means)) > 0.4


def _lines(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Numbers of the hot and dead columns of an image ``(Y, X)``, from the means of the valid pixels of each column."""
    number = np.count_nonzero(valid, axis=0)
    used = number >= max(16, 0.1 * number.max(initial=0))
    if np.count_nonzero(used) < 16:
        return np.empty(0, int)
    sample = image[:: max(1, len(image) // 512)][valid[:: max(1, len(image) // 512)]]
    low, high = np.percentile(sample, (0.5, 99.5))
    image = np.clip(image, low, high)
    means = np.sum(image, axis=0, where=valid, dtype=np.float64) / np.maximum(number, 1)
    means[~used] = np.interp(np.flatnonzero(~used), np.flatnonzero(used), means[used])
    # The running median of 9 columns is not influenced by 3 columns together.
    off = means - ndimage.median_filter(means, 2 * THIN + 3, mode="mirror")
    off *= np.sqrt(number / number.max()) * used
    sizes = np.abs(off[used])
    noise = 1.4826 * np.median(np.abs(off[used] - np.median(off[used])))
    limit = max(LINE_SIGMAS * noise, LINE_TAILS * np.percentile(sizes, 95), 0.02 * float(high - low))
    found: list[int] = []
    most = max(THIN, int(LINES * len(means)))
    for _ in range(4 * most):
        peak = int(np.abs(off).argmax())
        largest = off[peak]
        if abs(largest) <= limit:
            break
        first, last = peak, peak + 1
        while first > 0 and off[first - 1] / largest >= LINE_INSIDE:
            first -= 1
        while last < len(off) and off[last] / largest >= LINE_INSIDE:
            last += 1
        # At the edge of an image, where an atom may be cut, a line cannot be told from a feature of the image.
        beside = [place for place in (first - 1, last) if 0 <= place < len(off)]
        sharp = max(abs(off[place] / largest) for place in beside) <= LINE_OUTSIDE
        sharp &= len(beside) == 2 and last - first <= THIN
        if sharp and _is_long(image[:, peak] - image[:, beside].mean(axis=1), largest):
            found += range(first, last)
            off[first:last] = 0.0
        else:
            # Neither this feature nor its flanks are lines.
            off[max(0, first - THIN) : last + THIN] = 0.0
    return np.array(sorted(found)) if len(found) <= most else np.empty(0, int)
