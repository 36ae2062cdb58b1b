"""Local maxima of maps, their sub-pixel positions, and the windows of pixels around them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Lower maxima are ignored.
LOWEST = 1e-3
#: Number of windows that are processed together, so that the memory does not grow with the number of maxima.
TOGETHER = 2**13


@dataclass(frozen=True)
class Maxima:
    """Pixels of P maxima: index of the example in the batch, row and column, each ``(P,)``."""

    example: Tensor
    row: Tensor
    column: Tensor

    @property
    def pixels(self) -> tuple[Tensor, Tensor, Tensor]:
        """All three indices, for indexing maps ``(B, Y, X)``."""
        return self.example, self.row, self.column

    def __getitem__(self, keep: Tensor) -> Maxima:
        """Select maxima with a mask or an index."""
        return Maxima(self.example[keep], self.row[keep], self.column[keep])

    @property
    def number(self) -> int:
        """Number of maxima."""
        return len(self.row)


def highest(maps: Tensor, reach: int) -> Tensor:
    """Largest value of maps ``(B, 1, Y, X)`` within ``reach`` pixels along rows and columns.

    Shifted whole maps are compared, which on a CPU takes a fifth of the time of pooling.
    """
    for axis in (2, 3):
        edge = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        values, seen = F.pad(maps, edge, value=-torch.inf), 1
        # Maximum over 2, 4, 8 … neighbours, and finally over 2 reach + 1.
        while seen < 2 * reach + 1:
            step = min(seen, 2 * reach + 1 - seen)
            size = values.shape[axis] - step
            values = torch.maximum(values.narrow(axis, 0, size), values.narrow(axis, step, size))
            seen += step
        maps = values
    return maps


def find_maxima(maps: Tensor, reach: int) -> Maxima:
    """Local maxima of maps ``(B, 1, Y, X)`` within ``reach`` pixels, sorted by (example, row, column).

    A column half-way between two pixels may give several equal maxima within reach; the last of them is kept.
    """
    found = (maps == highest(maps, reach)) & (maps > LOWEST)
    peaks = Maxima(*torch.nonzero(found[:, 0], as_tuple=True))
    bordered = F.pad(found[:, 0], (reach,) * 4)
    alone = torch.ones(peaks.number, dtype=torch.bool, device=maps.device)
    for down in range(reach + 1):
        for right in range(-reach if down else 1, reach + 1):
            alone &= ~bordered[peaks.example, peaks.row + reach + down, peaks.column + reach + right]
    return peaks[alone]


def windows(maps: Tensor, peaks: Maxima, reach: int) -> Iterator[tuple[slice, Tensor]]:
    """Iterate over windows of pixels within ``reach`` of the maxima, in chunks; windows are 0 beyond the border.

    Args:
        maps: ``(B, C, Y, X)``.
        peaks: P maxima.
        reach: px.

    Yields:
        Slice of p maxima, and their windows ``(p, C, K, K)``.
    """
    bordered = F.pad(maps, (reach,) * 4)
    size = 2 * reach + 1
    # View of the windows around all pixels: (B, C, Y, X, K, K).
    unfolded = bordered.unfold(2, size, 1).unfold(3, size, 1)
    for first in range(0, peaks.number, TOGETHER):
        some = slice(first, min(peaks.number, first + TOGETHER))
        yield some, unfolded[peaks.example[some], :, peaks.row[some], peaks.column[some]]


def places(maps: Tensor, peaks: Maxima) -> Tensor:
    """Sub-pixel positions ``(P, 2)`` (x, y) px of maxima: parabola through the logarithm, exact for Gaussians."""
    _, _, rows, columns = maps.shape

    def at(down: int, right: int) -> Tensor:
        row = (peaks.row + down).clamp(0, rows - 1)
        column = (peaks.column + right).clamp(0, columns - 1)
        return maps[peaks.example, 0, row, column].clamp_min(1e-6).log()

    def vertex(before: Tensor, centre: Tensor, after: Tensor) -> Tensor:
        curvature = before - 2.0 * centre + after
        shift = 0.5 * (before - after) / torch.where(curvature < -1e-6, curvature, -torch.inf)
        return shift.clamp(-0.5, 0.5)

    centre = at(0, 0)
    x = peaks.column + vertex(at(0, -1), centre, at(0, 1))
    y = peaks.row + vertex(at(-1, 0), centre, at(1, 0))
    return torch.stack([x, y], dim=1)


def smooth(maps: Tensor, width: float) -> Tensor:
    """Gaussian smoothing of maps ``(B, 1, Y, X)`` with a standard deviation of ``width`` px; 0 beyond the border.

    Shifted whole maps are added, which on a CPU takes a tenth of the time of a convolution of a single channel.
    """
    reach = max(1, math.ceil(3.0 * width))
    weights = [math.exp(-0.5 * (index / width) ** 2) for index in range(reach + 1)]
    whole = weights[0] + 2.0 * sum(weights[1:])
    for axis in (2, 3):
        size = maps.shape[axis]
        total = maps * (weights[0] / whole)
        for index in range(1, min(reach, size - 1) + 1):
            for there, here in ((0, index), (index, 0)):
                added = maps.narrow(axis, there, size - index)
                total.narrow(axis, here, size - index).add_(added, alpha=weights[index] / whole)
        maps = total
    return maps


def disc_share(distance: Tensor, radius: float, sampling: float) -> Tensor:
    """Share of a pixel at ``distance`` Å from the centre that lies in a disc.

    The rim of the disc is one pixel wide, so that sums change continuously with the position within a pixel.
    """
    return (0.5 + (radius - distance) / sampling).clamp(0.0, 1.0)
