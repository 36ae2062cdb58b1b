"""Pieces of an image that fit into memory: each sees more than it answers for, and every pixel has one that answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from hrtem.columns import Columns

#: Images are cut at multiples of this, so that pooling sees every tile on the same grid, px.
GRID = 32
#: A network that sees further than this, px, sees everything, and cannot be had without seams.
FARTHEST = 288
#: How near a border of tiles, px, a column may be found by both sides.
NEAR = 0.1
#: How many times what its largest layer takes and gives a network holds at a time, roughly.
HELD = 3


@dataclass(frozen=True)
class Tile:
    """Which pixels the network sees, and which it answers for, each from (top, left) to before (bottom, right).

    Attributes:
        seen, own: (top, bottom, left, right) px.
    """

    seen: tuple[int, int, int, int]
    own: tuple[int, int, int, int]

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the own pixels among those that are seen."""
        return self.among(self.own)

    def among(self, part: tuple[int, int, int, int]) -> tuple[slice, slice]:
        """Rows and columns of some pixels, (top, bottom, left, right), among those that are seen."""
        top, bottom, left, right = part
        return slice(top - self.seen[0], bottom - self.seen[0]), slice(left - self.seen[2], right - self.seen[2])

    def within(self, margin: int) -> Tile:
        """The same tile, of which no more is seen than ``margin`` px around its own."""
        top, bottom, left, right = self.own
        seen = self.seen
        rows = max(seen[0], top - margin), min(seen[1], bottom + margin)
        columns = max(seen[2], left - margin), min(seen[3], right + margin)
        return Tile(rows + columns, self.own)

    def owned(self, columns: Columns, sampling: float) -> Columns:
        """The tile's own of columns found in what it sees, at their places in the image.

        A column within :data:`NEAR` of a border is kept on both sides; :func:`remove_duplicates` keeps one of them.
        """
        top, bottom, left, right = self.own
        place = columns.positions / sampling + [self.seen[2], self.seen[0]]
        x, y = place.T
        # The centre of the first pixel is at 0, its edge at -0.5.
        low, high = -0.5 - NEAR, -0.5 + NEAR
        mine = (x >= left + low) & (x <= right + high) & (y >= top + low) & (y <= bottom + high)
        return columns.moved(place * sampling)[mine]


def remove_duplicates(parts: list[Columns], tiles: list[Tile], sampling: float) -> Columns:
    """All columns of the tiles, sorted by (y, x), those at borders once."""
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
    """Tiles over an image, that see ``halo`` px around their own and no more than about ``area`` pixels.

    Of the ways to cut the image into equal tiles, the one that sees the fewest pixels twice.

    Args:
        shape: (Y, X) px; what is seen reaches to the next multiple of :data:`GRID`.
        halo: px, a multiple of :data:`GRID`.
        area: largest number of pixels seen at a time.
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
    """One way to cut an axis: the pieces, the longest that is seen, and the sum of what is seen, px."""

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


# Kernels that only serve where no gradient is asked for may take what is not a number for 0.
@torch.enable_grad()
def measure_sight(network: nn.Module, images: int, device: str = "cpu") -> tuple[int, float]:
    """How far a network sees, and what it holds in memory.

    A pixel that is not a number spoils all that depends on it.

    Args:
        network: from ``(1, images, Y, X)`` to maps.
        images: in a focal series.
        device: where the network is.

    Returns:
        The distance in px beyond which a pixel has no say in the answer, no more than :data:`FARTHEST`, and roughly how
        many bytes the network holds for each pixel.
    """
    sizes: list[int] = []

    def measure(module: nn.Module, given: tuple[object, ...], answer: object) -> None:
        both = [values for values in (*given, answer) if isinstance(values, Tensor)]
        sizes.append(sum(values.numel() * values.element_size() for values in both))

    spoilt = torch.zeros(1, images, GRID, 2 * FARTHEST + 2 * GRID, device=device)
    middle = spoilt.shape[-1] // 2
    # As wide as the grid of the pooling: wherever in a cell of it a pixel lies, it is spoilt.
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
