"""Peaks that know how many atoms stand in a column."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.peaks.mass import MassPeaks, Variance, as_it_is
from hrtem.peaks.maxima import Maxima
from hrtem.peaks.pairs import Found
from hrtem.ranges import Range


class CountPeaks(MassPeaks):
    """Local maxima of the sum of maps for each number of atoms; the masses say how many atoms a column has.

    Columns get the median of that distribution, whose expected absolute error is least.

    Args:
        sigma, radius, min_distance, threshold: see :class:`MassPeaks`.
    """

    reads = "counts"

    def __call__(
        self,
        maps: Tensor,
        sampling: float,
        classes: tuple[str, ...],
        threshold: float | None = None,
        variance: Variance = as_it_is,
    ) -> list[Columns]:
        """Find the columns of a batch with their counts; see :class:`MassPeaks`.

        Args:
            maps: real ``(B, channels, Y, X)`` in [0, 1] of :class:`hrtem.targets.CountMaps`.
            sampling: Å/px.
            classes: one name.
            threshold, variance: see :class:`MassPeaks`.
        """
        found = super().__call__(self._presence(maps), sampling, classes, threshold, variance)
        answers = []
        for number, columns in enumerate(found):
            at = torch.from_numpy(columns.positions / sampling).round().long().to(maps.device)
            x, y = at[:, 0].clamp(0, maps.shape[-1] - 1), at[:, 1].clamp(0, maps.shape[-2] - 1)
            peaks = Found.alone(Maxima(torch.full_like(x, number), y, x), maps[:, :1])
            answers.append(replace(columns, counts=self.counts(self._masses(maps, peaks, sampling)).cpu().numpy()))
        return answers

    def counts(self, masses: Tensor) -> Tensor:
        """Atoms ``(P,)`` in columns of the given masses ``(P, channels)``."""
        return 1 + (self.distribution(masses).cumsum(dim=1) < 0.5).sum(dim=1).clamp_max(masses.shape[1] - 1)

    def distribution(self, masses: Tensor) -> Tensor:
        """Probabilities ``(P, channels)`` of 1, 2, … atoms, given that there is a column."""
        return masses / masses.sum(dim=1, keepdim=True).clamp_min(1e-6)

    def _presence(self, maps: Tensor) -> Tensor:
        """Map ``(B, 1, Y, X)`` of all columns."""
        return maps.sum(dim=1, keepdim=True)


class OrdinalPeaks(CountPeaks):
    """As :class:`CountPeaks`, from maps of P(count > k) as :class:`hrtem.targets.OrdinalMaps` has them."""

    reads = "ordinal counts"

    def distribution(self, masses: Tensor) -> Tensor:
        """Probabilities ``(P, channels)`` of 1, 2, … atoms, given that there is a column."""
        # More than k + 1 atoms cannot be more probable than more than k, whatever the network says.
        above = (masses / masses[:, :1].clamp_min(1e-6)).clamp(0.0, 1.0).cummin(dim=1).values
        return above - F.pad(above[:, 1:], (0, 1))

    def _presence(self, maps: Tensor) -> Tensor:
        return maps[:, :1]


class MeanCountPeaks(CountPeaks):
    """As :class:`CountPeaks`, from the two maps of :class:`hrtem.targets.MeanCountMaps`: the nearest whole number.

    Args:
        sigma, radius, min_distance, threshold: see :class:`MassPeaks`.
        largest: number of atoms that a height of 1 stands for.
    """

    reads = "mean count"

    def __init__(self, sigma: float, radius: float, min_distance: float, threshold: float, largest: int) -> None:
        super().__init__(sigma, radius, min_distance, threshold)
        self.largest = int(Range.parse("peaks.largest", largest, unit="atoms", minimum=1.0).low)

    def counts(self, masses: Tensor) -> Tensor:
        """Atoms ``(P,)`` in columns of the given masses ``(P, 2)``."""
        mean = self.largest * masses[:, 1] / masses[:, 0].clamp_min(1e-6)
        return mean.round().long().clamp(1, self.largest)

    def _presence(self, maps: Tensor) -> Tensor:
        return maps[:, :1]
