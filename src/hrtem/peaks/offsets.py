"""Columns from disc pixels that vote for the position of their column."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.peaks.mass import MassPeaks, Variance, as_it_is
from hrtem.peaks.maxima import disc_share, smooth
from hrtem.ranges import parse_number

#: Smallest share of a disc that counts as visible where the edge of the image cuts it: the share in a corner.
LEAST_SEEN = 0.25
#: Smaller votes are ignored; all ignored votes of a disc add up to less than this share of a column.
LEAST_VOTE = 1e-3


class OffsetPeaks(MassPeaks):
    """Columns at the positions for which disc pixels vote, for :class:`hrtem.targets.OffsetMaps`.

    Each pixel votes for the position to which its offset points; the weight of the vote is the probability that the
    pixel lies in a disc. The votes for a certain column coincide in a point, so that columns with overlapping discs are
    separated. After smoothing, the votes form a Gaussian of height 1, whose mass and width are evaluated as by
    :class:`MassPeaks`. The position of the column is the mean of the votes.

    Args:
        radius: radius of the discs in the training of the network, Å.
        min_distance: smallest distance of two columns along a row or a column of pixels, Å.
        threshold: smallest reported probability.
    """

    reads = "offsets"

    def __init__(self, radius: float, min_distance: float, threshold: float) -> None:
        drawn = parse_number("peaks.radius", radius, unit="Å", minimum=0.05, maximum=5.0)
        # The sigma of the Gaussians is half the radius of the discs. The disc of the mass contains nearly all of their
        # mass, even if a maximum is displaced by half a pixel.
        super().__init__(drawn / 2.0, 1.2 * drawn, min_distance, threshold)
        self.drawn = drawn

    def __call__(
        self,
        maps: Tensor,
        sampling: float,
        classes: tuple[str, ...],
        threshold: float | None = None,
        variance: Variance = as_it_is,
    ) -> list[Columns]:
        """Find the columns of a batch; see :class:`MassPeaks`.

        Args:
            maps: real ``(B, C + 2, Y, X)``: discs in [0, 1], and offsets along x and y in Å.
            sampling: Å/px.
            classes: C names.
            threshold, variance: see :class:`MassPeaks`.
        """
        found = super().__call__(self.votes(maps, sampling), sampling, classes, threshold, variance)
        return [self._located(columns, answer, sampling) for columns, answer in zip(found, maps, strict=True)]

    def spreads(self, columns: Columns, maps: Tensor, sampling: float) -> np.ndarray:
        """Uncalibrated variance of positions along x or y, ``(N,)`` Å²: the variance of the votes for each column.

        Args:
            columns: N peaks of one example.
            maps: maps of this example, as in :meth:`__call__`.
            sampling: Å/px.
        """
        votes, weights, _ = self._voters(columns, maps, sampling)
        weights = weights / weights.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
        away = votes - (votes * weights).sum(dim=(2, 3), keepdim=True)
        variance = 0.5 * (away.square().sum(dim=0) * weights).sum(dim=(1, 2))
        return variance.double().cpu().numpy()

    def votes(self, maps: Tensor, sampling: float) -> Tensor:
        """Maps ``(B, C, Y, X)`` with a Gaussian of height 1 at each certain column; see :meth:`__call__`."""
        discs = maps[:, :-2]
        batch, channels, rows, width = discs.shape
        # Most pixels of most images have no vote.
        example, row, column = torch.nonzero(discs.sum(dim=1) > LEAST_VOTE, as_tuple=True)
        votes = discs[example, :, row, column].T
        way = maps[example, -2:, row, column] / sampling
        x, y = column + way[:, 0], row + way[:, 1]
        left, top = x.floor(), y.floor()
        cast = torch.zeros(channels, batch * rows * width, device=maps.device, dtype=maps.dtype)
        for down in (0, 1):
            for right in (0, 1):
                at_row, at_column = (top + down).long(), (left + right).long()
                share = (1.0 - (y - at_row).abs()) * (1.0 - (x - at_column).abs())
                inside = (at_row >= 0) & (at_row < rows) & (at_column >= 0) & (at_column < width)
                place = (example * rows + at_row) * width + at_column
                cast.index_add_(1, place.where(inside, 0), votes * share.where(inside, 0.0))
        # Distributing a vote among four pixels has already added a variance of 1/6 px².
        broad = math.sqrt(max(self.sigma**2 / sampling**2 - 1.0 / 6.0, 0.01))
        gathered = smooth(cast.reshape(-1, 1, rows, width), broad).reshape(channels, batch, rows, width)
        gaussian = 2.0 * math.pi * (self.sigma / sampling) ** 2
        return gathered.movedim(0, 1) * (gaussian / self._seen(discs, sampling))

    def _seen(self, like: Tensor, sampling: float) -> Tensor:
        """Area in pixels, ``(1, 1, Y, X)``, of the visible part of a disc around each pixel of the image."""
        reach = math.ceil(self.drawn / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
        disc = disc_share((index[:, None] ** 2 + index**2).sqrt() * sampling, self.drawn, sampling)
        # Computed for a small image only: all pixels farther than a disc from the edges have the same value.
        places = []
        for size in like.shape[-2:]:
            place = torch.arange(size, device=like.device)
            middle = place.clamp_max(reach) + (place - (size - 1 - reach)).clamp(0, reach)
            places.append(middle if size > 2 * reach else place)
        small = torch.ones(1, 1, *(int(place[-1]) + 1 for place in places), device=like.device, dtype=like.dtype)
        seen = F.conv2d(small, disc[None, None], padding=reach).clamp_min(LEAST_SEEN * float(disc.sum()))
        return seen[..., places[0][:, None], places[1]]

    def _located(self, columns: Columns, answer: Tensor, sampling: float) -> Columns:
        """Move the columns of one example to the mean of the votes within a disc around them."""
        votes, weights, _ = self._voters(columns, answer, sampling)
        mean = (votes * weights).sum(dim=(2, 3)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)
        return replace(columns, positions=mean.T.double().cpu().numpy())

    def _voters(
        self, columns: Columns, answer: Tensor, sampling: float
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Votes of the pixels around N columns of one example ``(C + 2, Y, X)``.

        Returns:
            The positions to which the pixels point, ``(2, N, K, K)`` Å, (x, y); the weights of the pixels
            ``(N, K, K)``; and the indices of the pixels ``(N, K, K)`` along y and x.
        """
        discs, offsets = answer[:-2], answer[-2:]
        rows, width = discs.shape[-2:]
        where = torch.from_numpy(columns.positions).to(offsets)
        nearest = (where / sampling).round().long()
        reach = math.ceil(self.drawn / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=answer.device)
        x, y = torch.broadcast_tensors(
            (nearest[:, 0, None] + index)[:, None, :], (nearest[:, 1, None] + index)[:, :, None]
        )
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < rows)
        at = y.clamp(0, rows - 1), x.clamp(0, width - 1)
        votes = torch.stack([x, y]) * sampling + offsets[:, *at]
        # Where the discs of two columns overlap, a vote counts for the column near which it falls.
        away = torch.hypot(*(votes - where.T[:, :, None, None]))
        return votes, discs.sum(dim=0)[at] * inside * disc_share(away, self.drawn, sampling), at


class CountedOffsetPeaks(OffsetPeaks):
    """:class:`OffsetPeaks` whose pixels also vote for the number of atoms of their column.

    The number of atoms is the most probable number in the weighted mean of the pixels' distributions.

    Args:
        radius, min_distance, threshold: see :class:`OffsetPeaks`.
    """

    reads = "counted offsets"

    def votes(self, maps: Tensor, sampling: float) -> Tensor:
        """Votes as in :class:`OffsetPeaks`, from maps ``(B, 1 + K + 2, Y, X)``.

        The maps are discs, probabilities of 1 … K atoms, and offsets in Å.
        """
        return super().votes(_uncounted(maps, dim=1), sampling)

    def spreads(self, columns: Columns, maps: Tensor, sampling: float) -> np.ndarray:
        """Variance of the votes as in :class:`OffsetPeaks`; it does not depend on the numbers of atoms."""
        return super().spreads(columns, _uncounted(maps, dim=0), sampling)

    def _located(self, columns: Columns, answer: Tensor, sampling: float) -> Columns:
        located, counts = _uncounted(answer, dim=0), answer[1:-2]
        columns = super()._located(columns, located, sampling)
        _, weights, at = self._voters(columns, located, sampling)
        total = (counts[:, *at] * weights).sum(dim=(2, 3)).T.double()
        shares = total / total.sum(dim=1, keepdim=True).clamp_min(1e-9)
        return replace(columns, counts=1 + shares.argmax(dim=1).cpu().numpy(), count_probabilities=shares.cpu().numpy())


def _uncounted(maps: Tensor, dim: int) -> Tensor:
    """Remove the probabilities of numbers of atoms, which lie between discs and offsets, from maps."""
    return torch.cat([maps.narrow(dim, 0, 1), maps.narrow(dim, maps.shape[dim] - 2, 2)], dim=dim)
