"""An image at another pixel size, any window of it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

#: An image whose pixels would move by no more than this stays as it is, px.
NEGLIGIBLE = 0.02
#: Points at which the transfer function of the filter is known.
FREQUENCIES = 4096
#: Pixels of the output that are computed together: each needs only the pixels of the input around it.
CHUNK = 128


class ResampledAxis:
    """One axis of an image brought to another pixel size.

    Pixel i of the output lies at ``i * target``, pixel n of the input at ``n * sampling``. Cubic splines interpolate;
    before coarsening, a Gaussian of variance ``(target² - sampling²) / 12`` keeps finer detail from aliasing. Both are
    one filter of finite reach, so that a pixel of the output depends on those of the input nearby and on nothing else.
    Beyond its edges the input is mirrored about the outermost pixel centres.

    Args:
        size: px of the input.
        sampling, target: Å/px of the input and of the output.
        same: whether the output is the input; decided for both axes together by :func:`is_unchanged`.
    """

    def __init__(self, size: int, sampling: float, target: float, same: bool) -> None:
        self.given = size
        self.same = same
        self.ratio = target / sampling
        # A ratio such as 0.3 / 0.1 may fall short of the whole number by rounding and must not cost a row.
        self.size = size if same else math.floor((size - 1) / self.ratio + 1e-6) + 1
        variance = max(0.0, (self.ratio**2 - 1.0) / 12.0)
        self.reach = 24 + math.ceil(6.0 * math.sqrt(variance))
        # The spline coefficients of an image are the image filtered by one over the spectrum of the sampled B-spline.
        frequency = np.fft.rfftfreq(FREQUENCIES)
        spectrum = np.exp(-2.0 * np.pi**2 * variance * frequency**2) * 3.0 / (2.0 + np.cos(2.0 * np.pi * frequency))
        response = np.fft.irfft(spectrum)
        self.coefficients = response[np.arange(-self.reach, self.reach + 1)]
        self.coefficients /= self.coefficients.sum()

    def source(self, first: int, last: int) -> tuple[int, int]:
        """The pixels ``[start, stop)`` of the input on which those of the output from ``first`` to ``last`` depend."""
        if self.same:
            return first, last
        start = math.floor(first * self.ratio) - 1 - self.reach
        stop = math.floor((last - 1) * self.ratio) + 3 + self.reach
        # What lies outside is mirrored, and its mirror image must be there too.
        start, stop = min(start, 2 * (self.given - 1) - stop + 1), max(stop, 1 - start)
        return max(0, start), min(self.given, stop)

    def weights(self, first: int, last: int) -> Tensor:
        """Weights ``(last - first, stop - start)`` of the pixels that :meth:`source` names."""
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
    """Pixels ``first`` to ``last`` of an axis.

    Args:
        values: ``(h, w)``, whose rows are the pixels that ``axis.source(first, last)`` names.

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
