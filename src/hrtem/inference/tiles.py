"""Division of an image into overlapping tiles that fit into memory; every pixel belongs to exactly one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from hrtem.columns import Columns

#: Images are cut at multiples of this, px, so that the grid of the pooling is the same in all tiles.
GRID = 32
#: Largest receptive field, px on each side, for which tiles are exact.
FARTHEST = 288
#: Distance from the border between tiles, px, within which both tiles may report a column.
NEAR = 0.1
#: Memory of a network in units of the input and output of its largest layer, roughly.
HELD = 3


@dataclass(frozen=True)
class Tile:
    """A tile: the pixels that the network sees, and the tile's own pixels, for which its output is used.

    Attributes:
        seen, own: (top, bottom, left, right) px, excluding bottom and right.
    """

    seen: tuple[int, int, int, int]
    own: tuple[int, int, int, int]

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the own pixels, relative to the seen pixels."""
        return self.among(self.own)

    def among(self, part: tuple[int, int, int, int]) -> tuple[slice, slice]:
        """Rows and columns of the pixels ``part``, (top, bottom, left, right), relative to the seen pixels."""
        top, bottom, left, right = part
        return slice(top - self.seen[0], bottom - self.seen[0]), slice(left - self.seen[2], right - self.seen[2])

    def within(self, margin: int) -> Tile:
        """The same tile with at most ``margin`` px seen around its own pixels."""
        top, bottom, left, right = self.own
        seen = self.seen
        rows = max(seen[0], top - margin), min(seen[1], bottom + margin)
        columns = max(seen[2], left - margin), min(seen[3], right + margin)
        return Tile(rows + columns, self.own)

    def owned(self, columns: Columns, sampling: float) -> Columns:
        """Select the columns in the tile's own pixels and convert positions from the tile to the image.

        Both neighbouring tiles keep a column within :data:`NEAR` of their border; :func:`remove_duplicates` removes
        one of the copies.
        """
        top, bottom, left, right = self.own
        place = columns.positions / sampling + [self.seen[2], self.seen[0]]
        x, y = place.T
        # The centre of the first pixel is at 0, its edge at -0.5.
        low, high = -0.5 - NEAR, -0.5 + NEAR
        mine = (x >= left + low) & (x <= right + high) & (y >= top + low) & (y <= bottom + high)
        return columns.moved(place * sampling)[mine]


def remove_duplicates(parts: list[Columns], tiles: list[Tile], sampling: float) -> Columns:
    """Concatenate the columns of all tiles, sorted by (y, x), without duplicates at borders."""
    together = Columns.joined(parts)
    keep = np.ones(len(together), bool)
    if len(tiles) > 1:
        number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        for a, b in cKDTree(together.positions).query_pairs(2.0 * NEAR * sampling, output_type="ndarray"):
            if number[a] != number[b] and keep[a]:
                keep[b] = False
    together = together[keep]
    return together[np.lexsort(together.positions.T)]


def cover(shape: tuple[int, int], halo: int, area: int) -> list[Tile]:
    """Divide an image into tiles that see ``halo`` px around their own pixels, and at most about ``area`` pixels.

    Among the divisions into equal tiles, the division with the smallest total number of seen pixels is chosen.

    Args:
        shape: (Y, X) px; the seen pixels extend to the next multiple of :data:`GRID`.
        halo: px, a multiple of :data:`GRID`.
        area: largest number of pixels that a tile sees.
    """
    rows, columns = (-(-size // GRID) * GRID for size in shape)
    ways = [(y, x) for y in _ways(rows, halo) for x in _ways(columns, halo)]
    least = min(y.seen * x.seen for y, x in ways)
    fitting = [(y, x) for y, x in ways if y.seen * x.seen <= max(area, least)]
    y, x = min(fitting, key=lambda way: way[0].total * way[1].total)
    return [
        Tile(
            (max(0, top - halo), min(rows, bottom + halo), max(0, left - halo), min(columns, right + halo)),
            (top, bottom, left, right),
        )
        for top, bottom in y.cuts
        for left, right in x.cuts
    ]


class _Way(NamedTuple):
    """A division of an axis: own pixels of the pieces, largest number of seen pixels, and sum of seen pixels."""

    cuts: list[tuple[int, int]]
    seen: int
    total: int


def _ways(size: int, halo: int) -> list[_Way]:
    steps = {-(-size // (GRID * number)) * GRID for number in range(1, max(1, size // max(GRID, halo)) + 1)}
    answer = []
    for step in sorted(steps, reverse=True):
        cuts = [(first, min(size, first + step)) for first in range(0, size, step)]
        lengths = [min(size, last + halo) - max(0, first - halo) for first, last in cuts]
        answer.append(_Way(cuts, max(lengths), sum(lengths)))
    return answer


# With gradients enabled, since some kernels that are used only without gradients replace NaN by 0.
@torch.enable_grad()
def measure_sight(network: nn.Module, images: int, device: str = "cpu") -> tuple[int, float]:
    """Measure the range of the receptive field and the memory of a network.

    Input pixels are set to NaN, which propagates to all output pixels that depend on them.

    Args:
        network: from ``(1, images, Y, X)`` to maps.
        images: number of images in a focal series.
        device: device of the network.

    Returns:
        Distance in px beyond which a pixel does not influence the output, at most :data:`FARTHEST`; and the approximate
        memory of the network in bytes per pixel.
    """
    sizes: list[int] = []

    def measure(module: nn.Module, given: tuple[object, ...], answer: object) -> None:
        both = [values for values in (*given, answer) if isinstance(values, Tensor)]
        sizes.append(sum(values.numel() * values.element_size() for values in both))

    spoilt = torch.zeros(1, images, GRID, 2 * FARTHEST + 2 * GRID, device=device)
    middle = spoilt.shape[-1] // 2
    # As wide as the grid of the pooling, so that every position of a pixel within a grid cell is covered.
    spoilt[..., middle : middle + GRID] = torch.nan
    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(measure) for leaf in leaves]
    try:
        answer = network(spoilt)
    finally:
        for hook in hooks:
            hook.remove()
    (bad,) = torch.nonzero(answer.isnan().flatten(0, -2).any(dim=0), as_tuple=True)
    largest = max(sizes, default=answer.numel() * answer.element_size())
    pixels = spoilt.shape[-1] * spoilt.shape[-2]
    reach = max(middle - int(bad[0]), int(bad[-1]) - middle - GRID + 1, 0) if len(bad) else 0
    return min(reach, FARTHEST), HELD * largest / pixels
