"""Peaks whose pixels say where their column is."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.peaks.mass import MassPeaks, Variance, as_it_is
from hrtem.peaks.maxima import disc_share, smoothed
from hrtem.ranges import Range

#: Least share of a disc that counts as seen where the image's border cuts it, that of a column in its corner.
LEAST_SEEN = 0.25


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
        drawn = Range.parse("peaks.radius", radius, unit="Å", minimum=0.05, maximum=5.0).low
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

    def votes(self, maps: Tensor, sampling: float) -> Tensor:
        """Maps ``(B, C, Y, X)`` with a Gaussian of height 1 at each certain column; see :meth:`__call__`."""
        discs, offsets = maps[:, :-2], maps[:, -2:] / sampling
        batch, channels, rows, width = discs.shape
        y = torch.arange(rows, device=maps.device)[:, None] + offsets[:, 1]
        x = torch.arange(width, device=maps.device) + offsets[:, 0]
        top, left = y.floor(), x.floor()
        plane = torch.arange(batch, device=maps.device)[:, None, None] * (rows * width)
        cast = torch.zeros(channels, batch * rows * width, device=maps.device, dtype=maps.dtype)
        for down in (0, 1):
            for right in (0, 1):
                row, column = (top + down).long(), (left + right).long()
                share = (1.0 - (y - row).abs()) * (1.0 - (x - column).abs())
                inside = (row >= 0) & (row < rows) & (column >= 0) & (column < width)
                place = (plane + row * width + column)[inside]
                cast.index_add_(1, place, (discs * share[:, None]).movedim(1, 0)[:, inside])
        # Sharing a vote between four pixels has widened it by a sixth of a pixel's square already.
        broad = math.sqrt(max(self.sigma**2 / sampling**2 - 1.0 / 6.0, 0.01))
        gathered = smoothed(cast.reshape(-1, 1, rows, width), broad).reshape(channels, batch, rows, width)
        gaussian = 2.0 * math.pi * (self.sigma / sampling) ** 2
        return gathered.movedim(0, 1) * (gaussian / self._seen(discs, sampling))

    def _seen(self, like: Tensor, sampling: float) -> Tensor:
        """Pixels of a disc around each pixel ``(1, 1, Y, X)`` that the image shows."""
        reach = math.ceil(self.drawn / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
        disc = disc_share((index[:, None] ** 2 + index**2).sqrt() * sampling, self.drawn, sampling)
        seen = F.conv2d(torch.ones_like(like[:1, :1]), disc[None, None], padding=reach)
        return seen.clamp_min(LEAST_SEEN * float(disc.sum()))

    def _located(self, columns: Columns, answer: Tensor, sampling: float) -> Columns:
        """The columns of one example at the mean of the votes in the disc around them."""
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
        weights = discs.sum(dim=0)[at] * inside * disc_share(away, self.drawn, sampling)
        mean = (votes * weights).sum(dim=(2, 3)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)
        return replace(columns, positions=mean.T.double().cpu().numpy())
