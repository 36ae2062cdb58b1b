"""Peaks whose pixels say how far their column is."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.peaks.mass import HeightPeaks, Variance, as_it_is, disc_share
from hrtem.ranges import Range


class OffsetPeaks(HeightPeaks):
    """Discs, each at the weighted mean of where its pixels say that its column is.

    A column's probability is the mean of the disc maps over a disc around it, which an uncertain position lowers.

    Args:
        radius: of the discs that the network was trained on, Å.
        min_distance: of two columns along a row or a column of pixels, Å.
        threshold: smallest mean over a disc that is reported.
    """

    reads = "offsets"
    calibrated = True

    def __init__(self, radius: float, min_distance: float, threshold: float) -> None:
        radius = Range.parse("peaks.radius", radius, unit="Å", minimum=0.05, maximum=5.0).low
        # The mean over a disc is about as wide as a Gaussian of half its radius.
        super().__init__(radius / 2.0, min_distance=min_distance, threshold=threshold)
        self.radius = radius

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
        discs, offsets = maps[:, :-2], maps[:, -2:]
        reach = math.ceil(self.radius / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=maps.device)
        disc = disc_share((index[:, None] ** 2 + index**2).sqrt() * sampling, self.radius, sampling)
        channels = discs.shape[1]

        def summed(values: Tensor) -> Tensor:
            return F.conv2d(values, disc.to(values).expand(values.shape[1], 1, -1, -1), padding=reach, groups=channels)

        # At the border a part of a disc is seen; it is taken for the whole.
        found = super().__call__(summed(discs) / summed(torch.ones_like(discs)), sampling, classes, threshold, variance)
        return [
            self._located(columns, disc_maps, way, index, sampling)
            for columns, disc_maps, way in zip(found, discs, offsets, strict=True)
        ]

    def _located(self, columns: Columns, discs: Tensor, offsets: Tensor, index: Tensor, sampling: float) -> Columns:
        """The columns of one example where its offsets ``(2, Y, X)`` say, with probabilities from there."""
        rows, width = discs.shape[-2:]
        where = torch.from_numpy(columns.positions).to(offsets)
        nearest = (where / sampling).round().long()
        x, y = torch.broadcast_tensors(
            (nearest[:, 0, None] + index)[:, None, :], (nearest[:, 1, None] + index)[:, :, None]
        )
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < rows)
        at = y.clamp(0, rows - 1), x.clamp(0, width - 1)
        mask = discs.sum(dim=0)[at] * inside
        pixels = torch.stack([x, y]) * sampling
        # First the disc around the maximum, then the one around where that points to.
        for _ in range(2):
            disc = disc_share(torch.hypot(*(pixels - where.T[:, :, None, None])), self.radius, sampling) * inside
            weights = disc * mask
            where = ((pixels + offsets[:, *at]) * weights).sum(dim=(2, 3)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)
            where = where.T
        probability = (weights.sum(dim=(1, 2)) / disc.square().sum(dim=(1, 2)).clamp_min(1e-6)).clamp(0.0, 1.0)
        return replace(
            columns, positions=where.double().cpu().numpy(), probabilities=probability.double().cpu().numpy()
        )
