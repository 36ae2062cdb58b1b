"""Focal series: their order, and registration of images whose contrast may be reversed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import fft, ndimage
from skimage.registration import phase_cross_correlation

from hrtem.micrograph.image import Micrograph, require_calibration

#: Spatial frequencies that are compared, 1/Å, in rings of this width, within which the contrast has one sign.
LOWEST, HIGHEST, RING = 0.05, 0.75, 0.1
#: Images are registered by their central square of at most so many px.
SQUARE = 1024
#: Shifts are searched up to this share of that square, at most so many Å.
SHARE, FARTHEST = 0.125, 20.0
#: A shift is believed where its score exceeds that of the next best one by this much, twice a logarithm of odds.
CONVINCING = 25.0
#: Images whose mean intensities differ by no more than this share had one dose.
EQUAL = 0.03
#: Shifts nearer to each other than this are one, Å; less than half the shortest lattice vector.
SAME = 0.6


def order_series(micrograph: Micrograph, defocus: Sequence[float] | None = None) -> Micrograph:
    """The same series from overfocus to underfocus, as simulated ones are, if its defocus is known.

    Args:
        micrograph: the series.
        defocus: of each of its images, Å, positive is underfocus; overrides what its file says.
    """
    known = micrograph.acquisition.defocus if defocus is None else tuple(float(value) for value in defocus)
    if known is None or len(known) != len(micrograph.images):
        return micrograph
    order = np.argsort(known, kind="stable")
    acquisition = replace(micrograph.acquisition, defocus=tuple(known[place] for place in order))
    return replace(micrograph, images=micrograph.images[order], acquisition=acquisition)


def equalise_dose(images: np.ndarray) -> np.ndarray:
    """A series ``(F, Y, X)`` whose images had different doses, brought to one mean intensity, that of the middle one.

    A network learns from series of equal doses and takes differences of brightness for contrast. Where a mean is not
    above the image's standard deviation, zero is not where no electron hits, and the series stays as it is.
    """
    means, spreads = images.mean(axis=(1, 2), dtype=np.float64), images.std(axis=(1, 2), dtype=np.float64)
    if len(images) == 1 or (means <= spreads).any() or np.ptp(means) <= EQUAL * means.min():
        return images
    return images * (means[len(images) // 2] / means)[:, None, None].astype(np.float32)


def register_series(micrograph: Micrograph) -> Micrograph:
    """The same series with its images moved, by cubic splines, to lie on the middle one.

    Each image is compared with its neighbour towards the middle. A shift that no comparison shows convincingly is
    taken as zero, and a remark says so: in a perfect lattice, shifts by its vectors look alike.

    Raises:
        InputError: the pixel size is unknown.
    """
    sampling = require_calibration(micrograph).sampling
    assert sampling is not None
    images, middle = micrograph.images, len(micrograph.images) // 2
    shifts, unsure = np.zeros((len(images), 2)), []
    for step in (-1, 1):
        for place in range(middle + step, len(images) if step > 0 else -1, step):
            shift, score = measure_displacement(images[place - step], images[place], sampling)
            if score < CONVINCING:
                unsure.append(place + 1)
                shift = np.zeros(2)
            shifts[place] = shifts[place - step] + shift
    moved = np.stack([_moved(image, shift / sampling) for image, shift in zip(images, shifts, strict=True)])
    remarks = micrograph.remarks
    if unsure:
        which = ", ".join(map(str, sorted(unsure)))
        remarks += (
            f"{micrograph.source} could not be registered with certainty: image {which} of {len(images)} was left "
            f"where its neighbour is.",
        )
    return replace(micrograph, images=moved, shifts=shifts, remarks=remarks)


def measure_displacement(reference: np.ndarray, image: np.ndarray, sampling: float) -> tuple[np.ndarray, float]:
    """The shift that lays an image on a reference, and how far it exceeds the next best one.

    Between two defoci, contrast may be reversed at some spatial frequencies and not at others, and correlations
    cancel. So the cross spectrum is cut into rings, whose correlations ``r`` are each divided by the standard
    deviation that unrelated images give. The sum of their squares over the rings is the score of a shift: twice the
    logarithm of its likelihood, whatever the sign and strength of each ring. With the signs that the best shift
    has, phase_cross_correlation of scikit-image finds its fraction of a pixel.

    Args:
        reference, image: ``(Y, X)``, of any gain and offset.
        sampling: Å/px.

    Returns:
        The shift ``(x, y)`` in Å, and the difference of its score from that of the next best shift more than
        0.6 Å away; 0 where the two steps disagree.
    """
    first, second = (fft.fft2(_windowed(one)) for one in (reference, image))
    shape = first.shape
    frequency = np.hypot(fft.fftfreq(shape[0], sampling)[:, None], fft.fftfreq(shape[1], sampling))
    # Square roots of the amplitudes, between a plain correlation, which the strongest beams rule, and phases alone.
    first, second = (one / np.sqrt(np.maximum(np.abs(one), 1e-30)) for one in (first, second))
    product = first * second.conj()
    ring = np.floor((frequency - LOWEST) / RING).astype(int)
    rings = round((HIGHEST - LOWEST) / RING)
    ring[(frequency < LOWEST) | (ring >= rings)] = -1
    reach = max(1, int(min(SHARE * min(shape), FARTHEST / sampling)))
    near = np.ix_(*[np.arange(-reach, reach + 1) % length for length in shape])
    correlations = []
    for number in range(rings):
        part = np.where(ring == number, product, 0.0)
        deviation = np.sqrt(np.sum(np.abs(part) ** 2)) / part.size
        correlations.append(fft.ifft2(part).real[near] / max(deviation, 1e-30))
    correlation = np.stack(correlations)
    score = np.sum(correlation**2, axis=0)
    best = np.unravel_index(int(score.argmax()), score.shape)
    coarse = np.array(best) - reach
    away = np.hypot(*(np.indices(score.shape) - np.array(best)[:, None, None])) * sampling > SAME
    tops = away & (score == ndimage.maximum_filter(score, size=max(3, 2 * round(0.5 * SAME / sampling) + 1)))
    next_best = float(score[tops].max()) if tops.any() else float(np.median(score))
    signs = np.append(np.sign(correlation[:, best[0], best[1]]), 0.0)[ring]
    shift = phase_cross_correlation(first * signs, second, space="fourier", upsample_factor=100, normalization=None)[0]
    if np.hypot(*(shift - coarse)) * sampling > SAME:
        return coarse[::-1] * sampling, 0.0
    return shift[::-1] * sampling, float(score[best]) - next_best


def _windowed(image: np.ndarray) -> np.ndarray:
    """The central square, of mean 0 and variance 1, faded out towards its edges."""
    # Its import takes most of a second, and only a series needs it.
    from scipy.signal.windows import tukey

    rows, columns = ((length - min(length, SQUARE)) // 2 for length in image.shape)
    square = image[rows : rows + SQUARE, columns : columns + SQUARE].astype(np.float64)
    window = np.outer(*(tukey(length, 0.5) for length in square.shape))
    square -= np.sum(square * window) / window.sum()
    return square * window / square.std()


def _moved(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """An image moved by ``(x, y)`` px; beyond its edges it is mirrored."""
    if np.abs(shift).max() < 0.02:
        return image
    return ndimage.shift(image.astype(np.float64), shift[::-1], order=3, mode="mirror").astype(np.float32)
