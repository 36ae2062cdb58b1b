"""Hot pixels and resampling of whole images by SciPy, written apart from the package: a reference for its windows."""

from __future__ import annotations

import math

import numpy as np
from scipy import fft, ndimage

from hrtem.inference.preparation import HOT_CONTRASTS, HOT_SIGMAS


def remove_hot_pixels(image: np.ndarray) -> np.ndarray:
    """Replace the pixels that a camera or an X-ray got wrong by the median of their 3×3 neighbourhood.

    A hot (or dead) pixel lies further from that median than 8 standard deviations of the noise, which
    are 1.4826 times the median absolute deviation of image minus median, and further than four times the
    local contrast, which is the range of the median over its own 3×3 neighbourhood. The second condition
    spares atoms however high their contrast and low the noise, as long as a Gaussian atom has a full width
    at half maximum of 2 px or more. Clusters of up to 4 pixels go too.

    Args:
        image: ``(Y, X)``; any gain and offset.

    Returns:
        ``(Y, X)``, of the same type.
    """
    image = np.asarray(image)
    median = ndimage.median_filter(image, size=3, mode="reflect")
    residual = image.astype(np.float64) - median
    noise = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    if noise == 0.0:  # more than half of the pixels equal their median: few counts per pixel, or no noise at all
        noise = float(residual.std())
    contrast = ndimage.maximum_filter(median, size=3, mode="reflect").astype(np.float64)
    contrast -= ndimage.minimum_filter(median, size=3, mode="reflect")
    hot = np.abs(residual) > np.maximum(HOT_SIGMAS * noise, HOT_CONTRASTS * contrast)
    return np.where(hot, median, image)


def resample(image: np.ndarray, sampling: float, target: float) -> np.ndarray:
    """Bring an image to another pixel size by cubic splines; positions in Å stay what they are.

    Pixel ``[j, i]`` of the output lies at ``(i, j) * target``, that of the input at ``(i, j) * sampling``.
    The output ends at the last pixel centre that the input reaches.

    Before coarsening, a Gaussian of variance ``(target² - sampling²) / 12`` keeps finer detail from
    aliasing. It has the variance that a square pixel of the target size has beyond the one over which the
    camera has averaged already, so that the noise ends up about as white as on a camera of larger pixels. Onto
    0.2 Å/px a period of 2 Å keeps 98.4 % of its amplitude or more, one of 1.23 Å 96 %.

    Args:
        image: ``(Y, X)``; beyond its edges it is taken as mirrored about the outermost pixel centres.
        sampling: its pixel size, Å/px.
        target: the pixel size wanted, Å/px.

    Returns:
        ``(Y', X')`` float32 with ``Y' = floor((Y - 1) * sampling / target) + 1``; the image as it is where
        the pixel sizes are so close that no pixel would move by more than 0.02 px.
    """
    image = np.asarray(image, dtype=np.float32)
    extents = [(length - 1) * sampling / target for length in image.shape]
    if all(abs(extent - (length - 1)) <= 0.02 for extent, length in zip(extents, image.shape, strict=True)):
        return image
    signal = image.astype(np.float64)
    if target > sampling:
        variance = ((target / sampling) ** 2 - 1.0) / 12.0
        # Applied to the cosine transform, whose edges are mirrored too: on pixels this Gaussian is undersampled.
        frequencies = [np.linspace(0.0, 0.5, length) for length in image.shape]
        transfer = np.outer(*(np.exp(-2.0 * np.pi**2 * variance * frequency**2) for frequency in frequencies))
        signal = fft.idctn(fft.dctn(signal, type=1) * transfer, type=1)
    # A ratio such as 0.3 / 0.1 may fall short of the whole number by rounding and must not cost a row.
    shape = tuple(math.floor(extent + 1e-6) + 1 for extent in extents)
    scale = np.full(2, target / sampling)
    return ndimage.affine_transform(signal, scale, output_shape=shape, order=3, mode="mirror").astype(np.float32)
