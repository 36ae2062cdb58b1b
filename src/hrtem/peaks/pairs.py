"""Pairs of columns so close that their peaks overlap: assignment of pixels to one of two maxima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from hrtem.peaks.maxima import Maxima, places

#: Two close maxima are two columns if each has at least this mass; a single column with an uncertain position has a
#: total mass of 1.
EACH = 0.6
#: Smallest distance of two maxima that may be two columns, in units of the smallest distance of single maxima.
CLOSEST = 0.5


@dataclass(frozen=True)
class Candidates:
    """Maxima that are either single or members of a pair.

    Attributes:
        peaks: P maxima.
        place: ``(P, 2)`` sub-pixel position (x, y), px.
        towards: ``(P, 2)`` unit vector to the partner; 0 for single maxima.
        half: ``(P,)`` half the distance to the partner, px; infinite for single maxima.
        masses: ``(P, C)`` mass of each class in units of the mass of a column; ``(P, 0)`` before it is computed.
    """

    peaks: Maxima
    place: Tensor
    towards: Tensor
    half: Tensor
    masses: Tensor

    @classmethod
    def alone(cls, peaks: Maxima, maps: Tensor) -> Candidates:
        """Single maxima, without a partner, of maps ``(B, 1, Y, X)``."""
        place = places(maps, peaks)
        far = torch.full_like(place[:, 0], torch.inf)
        return cls(peaks, place, torch.zeros_like(place), far, place.new_empty(len(place), 0))

    def __getitem__(self, keep: Tensor) -> Candidates:
        """Select candidates with a mask or an index."""
        return Candidates(self.peaks[keep], self.place[keep], self.towards[keep], self.half[keep], self.masses[keep])

    def offsets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets x and y, each ``(P, K)`` px, from ``place`` to pixels at ``index`` ``(K,)`` px from the maxima."""
        pixel = torch.stack([self.peaks.column, self.peaks.row], dim=1)
        x, y = ((pixel - self.place)[:, :, None] + index).unbind(1)
        return x, y

    def own(self, index: Tensor, outer: bool = False) -> Tensor:
        """Share ``(P, K, K)`` of each pixel that is nearer to the maximum than to its partner.

        Args:
            index: ``(K,)`` px from the maxima, along rows and columns.
            outer: for members of pairs, count only the half-plane that faces away from the partner.
        """
        x, y = self.offsets(index)
        along = x[:, None] * self.towards[:, 0, None, None] + y[:, :, None] * self.towards[:, 1, None, None]
        border = torch.where(self.half.isinf(), self.half, 0.0) if outer else self.half
        return (0.5 + border[:, None, None] - along).clamp(0.0, 1.0)


def join_pairs(parts: Sequence[Candidates]) -> Candidates:
    """Concatenate candidates and sort them by (example, row, column)."""
    peaks = Maxima(*(torch.cat(values) for values in zip(*(part.peaks.pixels for part in parts), strict=True)))
    names = ("place", "towards", "half", "masses")
    together = Candidates(peaks, *(torch.cat([getattr(part, name) for part in parts]) for name in names))
    order = torch.arange(peaks.number, device=peaks.row.device)
    for key in (peaks.column, peaks.row, peaks.example):
        order = order[key[order].argsort(stable=True)]
    return together[order]


def beside(single: Candidates, near: Maxima, maps: Tensor, reach: int) -> tuple[Tensor, Candidates, Candidates]:
    """Find lower maxima within ``reach`` pixels of higher maxima, which may be separate columns.

    Args:
        single: maxima that are the largest value within ``reach`` pixels.
        near: maxima that are the largest value within one pixel.
        maps: maps ``(B, 1, Y, X)`` to which the maxima belong.
        reach: px.

    Returns:
        For K pairs, the indices of the higher maxima in ``single`` ``(K,)``, the higher maxima, and the lower maxima,
        the latter without masses. No maximum belongs to two pairs.
    """
    numbered = torch.full(maps.shape[:1] + maps.shape[2:], -1, dtype=torch.int32, device=maps.device)
    numbered[single.peaks.pixels] = torch.arange(single.peaks.number, dtype=torch.int32, device=maps.device)
    lower = near[(numbered[near.pixels] < 0) & (maps[near.example, 0, near.row, near.column] >= 0.5 * EACH)]
    place = places(maps, lower)
    other = torch.full_like(lower.row, -1)
    rows, columns = numbered.shape[1:]
    nearest = torch.full_like(place[:, 0], torch.inf)
    # The flank of a maximum one pixel farther away is still within reach.
    steps = range(-reach - 1, reach + 2)
    for down, right in product(steps, steps):
        row, column = lower.row + down, lower.column + right
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        number = numbered[lower.example, row.clamp(0, rows - 1), column.clamp(0, columns - 1)].long()
        there = inside & (number >= 0)
        away = torch.full_like(nearest, torch.inf)
        away[there] = (place[there] - single.place[number[there]]).norm(dim=1)
        other = torch.where(away < nearest, number, other)
        nearest = torch.minimum(away, nearest)
    seen = other >= 0
    lower, place, other = lower[seen], place[seen], other[seen]
    way = place - single.place[other]
    distance = way.norm(dim=1)
    apart = distance >= CLOSEST * reach
    lower, place, other, way, distance = lower[apart], place[apart], other[apart], way[apart], distance[apart]
    # If several lower maxima have the same higher neighbour, the highest of them is taken.
    order = maps[lower.example, 0, lower.row, lower.column].argsort(descending=True, stable=True)
    order = order[other[order].argsort(stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = other[order][1:] != other[order][:-1]
    best = order[first]
    towards, half, other = way[best] / distance[best, None], 0.5 * distance[best], other[best]
    higher = replace(single[other], towards=towards, half=half)
    return other, higher, Candidates(lower[best], place[best], -towards, half, place.new_empty(len(best), 0))
