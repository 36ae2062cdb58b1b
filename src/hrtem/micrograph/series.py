"""Order and registration of focal series, whose images may have reversed contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import fft, ndimage
from skimage.registration import phase_cross_correlation

from hrtem.micrograph.image import Micrograph, require_calibration

#: Lowest and highest spatial frequency used for registration, and width of a ring of constant contrast sign, 1/Å.
LOWEST, HIGHEST, RING = 0.05, 0.75, 0.1
#: Largest side of the central square used for registration, px.
SQUARE = 1024
#: Largest shift searched, as a share of the side of that square, and in Å; the smaller limit applies.
SHARE, FARTHEST = 0.125, 20.0
#: Minimum difference between the scores of the best and the next best shift (twice a log-odds) to accept a shift.
CONVINCING = 25.0
#: Relative difference of mean intensities up to which images count as recorded with equal dose.
EQUAL = 0.03
#: Distance below which two shifts count as equal, Å; less than half the shortest lattice vector.
SAME = 0.6


def order_series(micrograph: Micrograph, defocus: Sequence[float] | None = None) -> Micrograph:
    """Sort a series from overfocus to underfocus, like the simulated series, if its defocus is known.

    Args:
        micrograph: the series.
        defocus: defocus of each image, Å, positive is underfocus; overrides the values in the file.
    """
    known = micrograph.acquisition.defocus if defocus is None else tuple(float(value) for value in defocus)
    if known is None or len(known) != len(micrograph.images):
        return micrograph
    order = np.argsort(known, kind="stable")
    acquisition = replace(micrograph.acquisition, defocus=tuple(known[place] for place in order))
    return replace(micrograph, images=micrograph.images[order], acquisition=acquisition)


def equalise_dose(images: np.ndarray) -> np.ndarray:
    """Scale the images of a series ``(F, Y, X)`` with unequal doses to the mean intensity of the middle image.

    Networks are trained on series of equal dose and would interpret brightness differences as contrast. If the mean of
    an image is not above its standard deviation, zero intensity does not mean zero electrons, and the series is
    returned unchanged.
    """
    means, spreads = images.mean(axis=(1, 2), dtype=np.float64), images.std(axis=(1, 2), dtype=np.float64)
    if len(images) == 1 or (means <= spreads).any() or np.ptp(means) <= EQUAL * means.min():
        return images
    return images * (means[len(images) // 2] / means)[:, None, None].astype(np.float32)


def register_series(micrograph: Micrograph) -> Micrograph:
    """Register the images of a series to the middle image, with cubic-spline interpolation.

    Each image is compared with its neighbour towards the middle. An ambiguous shift is set to zero, and a remark
    reports it: in a perfect lattice, shifts by lattice vectors cannot be distinguished.

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
    valid = micrograph.valid
    if not valid.all():
        # A pixel is valid if it is valid in all registered images.
        given = valid.astype(np.float32)
        valid = np.logical_and.reduce([_moved(given, shift / sampling, order=1) > 0.999 for shift in shifts])
    remarks = micrograph.remarks
    if unsure:
        which = ", ".join(map(str, sorted(unsure)))
        remarks += (
            f"{micrograph.source} could not be registered with certainty: image {which} of {len(images)} was left "
            f"where its neighbour is.",
        )
    return replace(micrograph, images=moved, shifts=shifts, remarks=remarks, valid=valid)


def measure_displacement(reference: np.ndarray, image: np.ndarray, sampling: float) -> tuple[np.ndarray, float]:
    """Measure the shift that registers an image to a reference, and how much its score exceeds the next best score.

    Between two defoci, contrast may reverse at some spatial frequencies and not at others, so that the contributions
    to a plain correlation cancel. The cross spectrum is therefore divided into rings. The correlation ``r`` of each
    ring is divided by its standard deviation for unrelated images. The score of a shift is the sum of ``r²`` over the
    rings: twice its log-likelihood, for any sign and strength of each ring. With the ring signs of the best shift,
    phase_cross_correlation of scikit-image then refines the shift to a fraction of a pixel.

    Args:
        reference, image: ``(Y, X)``, with any gain and offset.
        sampling: Å/px.

    Returns:
        The shift ``(x, y)`` in Å, and the difference between its score and that of the next best shift more than
        0.6 Å away; 0 if the coarse and the refined shift disagree.
    """
    first, second = (fft.fft2(_windowed(one)) for one in (reference, image))
    shape = first.shape
    frequency = np.hypot(fft.fftfreq(shape[0], sampling)[:, None], fft.fftfreq(shape[1], sampling))
    # Square roots of the amplitudes: a compromise between plain correlation, in which the strongest beams dominate,
    # and phase correlation.
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
    """Central square of an image, scaled to mean 0 and variance 1 and tapered towards its edges."""
    # This import takes most of a second, and only focal series need it.
    from scipy.signal.windows import tukey

    rows, columns = ((length - min(length, SQUARE)) // 2 for length in image.shape)
    square = image[rows : rows + SQUARE, columns : columns + SQUARE].astype(np.float64)
    window = np.outer(*(tukey(length, 0.5) for length in square.shape))
    square -= np.sum(square * window) / window.sum()
    return square * window / square.std()


def _moved(image: np.ndarray, shift: np.ndarray, order: int = 3) -> np.ndarray:
    """Shift an image by ``(x, y)`` px with splines of some order, mirrored at its edges."""
    if np.abs(shift).max() < 0.02:
        return image
    return ndimage.shift(image.astype(np.float64), shift[::-1], order=order, mode="mirror").astype(np.float32)
