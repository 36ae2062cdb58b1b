"""Resampling of any window of an image to another pixel size."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

#: An image is not resampled if its pixels would move by no more than this, px.
NEGLIGIBLE = 0.02
#: Number of points of the filter's transfer function.
FREQUENCIES = 4096
#: Number of output pixels that are computed together; each depends only on nearby input pixels.
CHUNK = 128


class ResampledAxis:
    """Resampling of one axis of an image to another pixel size.

    Pixel i of the output lies at ``i * target``, pixel n of the input at ``n * sampling``. The interpolation uses cubic
    splines; if the output is coarser, a Gaussian of variance ``(target² - sampling²) / 12`` first suppresses aliasing.
    Both are combined into a filter of finite range, so that an output pixel depends only on nearby input pixels.
    Beyond its edges the input is mirrored about the outermost pixel centres.

    Args:
        size: size of the input, px.
        sampling, target: Å/px of the input and of the output.
        same: whether the output equals the input; decided for both axes together by :func:`is_unchanged`.
    """

    def __init__(self, size: int, sampling: float, target: float, same: bool) -> None:
        self.given = size
        self.same = same
        self.ratio = target / sampling
        # A ratio such as 0.3 / 0.1 may be slightly off a whole number by rounding; this must not lose a row.
        self.size = size if same else math.floor((size - 1) / self.ratio + 1e-6) + 1
        variance = max(0.0, (self.ratio**2 - 1.0) / 12.0)
        self.reach = 24 + math.ceil(6.0 * math.sqrt(variance))
        # The spline coefficients of an image are the image divided, in Fourier space, by the sampled B-spline.
        frequency = np.fft.rfftfreq(FREQUENCIES)
        spectrum = np.exp(-2.0 * np.pi**2 * variance * frequency**2) * 3.0 / (2.0 + np.cos(2.0 * np.pi * frequency))
        response = np.fft.irfft(spectrum)
        self.coefficients = response[np.arange(-self.reach, self.reach + 1)]
        self.coefficients /= self.coefficients.sum()

    def source(self, first: int, last: int) -> tuple[int, int]:
        """Range ``[start, stop)`` of input pixels on which the output pixels from ``first`` to ``last`` depend."""
        if self.same:
            return first, last
        start = math.floor(first * self.ratio) - 1 - self.reach
        stop = math.floor((last - 1) * self.ratio) + 3 + self.reach
        # Pixels outside the input are mirrored, and the range must contain their mirror images.
        start, stop = min(start, 2 * (self.given - 1) - stop + 1), max(stop, 1 - start)
        return max(0, start), min(self.given, stop)

    def weights(self, first: int, last: int) -> Tensor:
        """Weights ``(last - first, stop - start)`` of the input pixels in the range of :meth:`source`."""
        place = np.arange(first, last) * self.ratio
        below = np.floor(place).astype(np.int64)
        share = (place - below)[:, None]
        spline = np.concatenate(
            [(1 - share) ** 3, 3 * share**3 - 6 * share**2 + 4, -3 * share**3 + 3 * share**2 + 3 * share + 1, share**3],
            axis=1,
        )
        band = np.zeros((last - first, 2 * self.reach + 4))
        for index in range(4):
            band[:, index : index + 2 * self.reach + 1] += spline[:, index : index + 1] / 6.0 * self.coefficients
        pixel = below[:, None] + np.arange(-1 - self.reach, self.reach + 3)
        period = max(1, 2 * (self.given - 1))
        pixel = np.abs((pixel + self.given - 1) % period - (self.given - 1))
        start, stop = self.source(first, last)
        weights = np.zeros((last - first, stop - start))
        np.add.at(weights, (np.arange(last - first)[:, None], pixel - start), band)
        return torch.from_numpy(weights).float()


def is_unchanged(shape: tuple[int, int], sampling: float, target: float) -> bool:
    """Whether no pixel of an image of ``shape`` would move by more than :data:`NEGLIGIBLE`."""
    return all(abs((length - 1) * (sampling / target - 1.0)) <= NEGLIGIBLE for length in shape)


def resample_window(values: Tensor, axis: ResampledAxis, first: int, last: int) -> Tensor:
    """Compute output pixels ``first`` to ``last`` along the first axis.

    Args:
        values: ``(h, w)``; its rows are the input pixels of ``axis.source(first, last)``.
        axis: the resampling.
        first, last: range of output pixels, without ``last``.

    Returns:
        ``(last - first, w)``.
    """
    if axis.same:
        return values
    start, _ = axis.source(first, last)
    pieces = []
    for low in range(first, last, CHUNK):
        high = min(last, low + CHUNK)
        begin, end = axis.source(low, high)
        pieces.append(axis.weights(low, high) @ values[begin - start : end - start])
    return torch.cat(pieces)
