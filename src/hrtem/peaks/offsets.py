"""Peaks whose pixels say where their column is."""

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

#: Least share of a disc that counts as seen where the image's border cuts it, that of a column in its corner.
LEAST_SEEN = 0.25
#: Votes of less are not counted; all of a disc's together would be less than this of a column.
LEAST_VOTE = 1e-3


class OffsetPeaks(MassPeaks):
    """Where the pixels of a disc say that its column is, for :class:`hrtem.targets.OffsetMaps`.

    Each pixel votes for the place that its offset points to, with the probability that it lies in a disc. The votes of
    a certain column fall on one point, so that columns are told apart whose discs overlap; smoothed, they are a
    Gaussian of height 1, whose mass and width are read as :class:`MassPeaks` reads them. The position is the mean of
    the votes.

    Args:
        radius: of the discs that the network was trained on, Å.
        min_distance: of two columns along a row or a column of pixels, Å.
        threshold: smallest probability that is reported.
    """

    reads = "offsets"

    def __init__(self, radius: float, min_distance: float, threshold: float) -> None:
        drawn = parse_number("peaks.radius", radius, unit="Å", minimum=0.05, maximum=5.0)
        # Gaussians of half a disc's radius, and their masses nearly whole, also where a maximum is half a pixel off.
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
        """How uncertain maps draw positions along x or y, ``(N,)`` Å²: the variance of the votes for each.

        Args:
            columns: N peaks of one example.
            maps: of that example, as in :meth:`__call__`.
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
        # Most pixels of most images have nothing to say.
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
        # Sharing a vote between four pixels has widened it by a sixth of a pixel's square already.
        broad = math.sqrt(max(self.sigma**2 / sampling**2 - 1.0 / 6.0, 0.01))
        gathered = smooth(cast.reshape(-1, 1, rows, width), broad).reshape(channels, batch, rows, width)
        gaussian = 2.0 * math.pi * (self.sigma / sampling) ** 2
        return gathered.movedim(0, 1) * (gaussian / self._seen(discs, sampling))

    def _seen(self, like: Tensor, sampling: float) -> Tensor:
        """Pixels of a disc around each pixel ``(1, 1, Y, X)`` that the image shows."""
        reach = math.ceil(self.drawn / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
        disc = disc_share((index[:, None] ** 2 + index**2).sqrt() * sampling, self.drawn, sampling)
        # A small image has all there is to know: what lies further than a disc from a border is like its middle.
        places = []
        for size in like.shape[-2:]:
            place = torch.arange(size, device=like.device)
            middle = place.clamp_max(reach) + (place - (size - 1 - reach)).clamp(0, reach)
            places.append(middle if size > 2 * reach else place)
        small = torch.ones(1, 1, *(int(place[-1]) + 1 for place in places), device=like.device, dtype=like.dtype)
        seen = F.conv2d(small, disc[None, None], padding=reach).clamp_min(LEAST_SEEN * float(disc.sum()))
        return seen[..., places[0][:, None], places[1]]

    def _located(self, columns: Columns, answer: Tensor, sampling: float) -> Columns:
        """The columns of one example at the mean of the votes in the disc around them."""
        votes, weights, _ = self._voters(columns, answer, sampling)
        mean = (votes * weights).sum(dim=(2, 3)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)
        return replace(columns, positions=mean.T.double().cpu().numpy())

    def _voters(
        self, columns: Columns, answer: Tensor, sampling: float
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The pixels around N columns of one example ``(C + 2, Y, X)``.

        Returns:
            The places that they point to ``(2, N, K, K)`` Å, (x, y); their weights ``(N, K, K)``; and their indices
            ``(N, K, K)`` along y and x.
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
        # Of where discs of two columns meet, each takes the votes that it got.
        away = torch.hypot(*(votes - where.T[:, :, None, None]))
        return votes, discs.sum(dim=0)[at] * inside * disc_share(away, self.drawn, sampling), at


class CountedOffsetPeaks(OffsetPeaks):
    """As :class:`OffsetPeaks`, and the pixels that vote for a column vote for its number of atoms too.

    The number is the most probable one of the mean of their distributions.

    Args:
        radius, min_distance, threshold: see :class:`OffsetPeaks`.
    """

    reads = "counted offsets"

    def votes(self, maps: Tensor, sampling: float) -> Tensor:
        """Of maps ``(B, 1 + K + 2, Y, X)``, discs, probabilities of 1 … K atoms, offsets in Å; as of those without."""
        return super().votes(_uncounted(maps, dim=1), sampling)

    def spreads(self, columns: Columns, maps: Tensor, sampling: float) -> np.ndarray:
        """As of :class:`OffsetPeaks`; numbers of atoms have no part in it."""
        return super().spreads(columns, _uncounted(maps, dim=0), sampling)

    def _located(self, columns: Columns, answer: Tensor, sampling: float) -> Columns:
        located, counts = _uncounted(answer, dim=0), answer[1:-2]
        columns = super()._located(columns, located, sampling)
        _, weights, at = self._voters(columns, located, sampling)
        total = (counts[:, *at] * weights).sum(dim=(2, 3)).T.double()
        shares = total / total.sum(dim=1, keepdim=True).clamp_min(1e-9)
        return replace(columns, counts=1 + shares.argmax(dim=1).cpu().numpy(), count_probabilities=shares.cpu().numpy())


def _uncounted(maps: Tensor, dim: int) -> Tensor:
    """The discs and the offsets of maps that have probabilities of numbers of atoms between them."""
    return torch.cat([maps.narrow(dim, 0, 1), maps.narrow(dim, maps.shape[dim] - 2, 2)], dim=dim)
