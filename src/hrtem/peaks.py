"""From maps to columns: where, which class, how sure."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.ranges import Range


class MassPeaks:
    """Local maxima whose mass says how probable a column is.

    A network trained with a proper loss answers with the expected map: the Gaussians of all possible columns,
    each weighted with its probability. An uncertain position makes a peak lower and wider but keeps its mass,
    so the mass within a disc over the mass of one Gaussian is the probability that the disc holds a column.

    Args:
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        radius: of the disc, Å; about half of the smallest distance between columns.
        min_distance: of two maxima along a row or a column of pixels, Å.
        threshold: smallest probability of a column that is reported.
    """

    def __init__(self, sigma: float, radius: float, min_distance: float, threshold: float) -> None:
        self.sigma = Range.parse("peaks.sigma", sigma, unit="Å", minimum=0.02, maximum=5.0).low
        self.radius = Range.parse("peaks.radius", radius, unit="Å", minimum=0.05, maximum=10.0).low
        self.min_distance = Range.parse("peaks.min_distance", min_distance, unit="Å", minimum=0.0, maximum=10.0).low
        self.threshold = Range.parse("peaks.threshold", threshold, minimum=0.0, maximum=1.0).low

    def __call__(self, maps: Tensor, sampling: float, classes: tuple[str, ...]) -> list[Columns]:
        """Find the columns of a batch.

        Args:
            maps: real ``(B, C, Y, X)`` in [0, 1].
            sampling: Å/px.
            classes: C names.

        Returns:
            For each of the B examples its columns, sorted by (y, x).
        """
        mass = self._probability(maps, sampling)
        total = maps.sum(dim=1, keepdim=True)
        # A little smoothing first: a plateau of a broad peak must not give several maxima.
        smooth = _smoothed(total, 0.5 * self.sigma / sampling)
        reach = max(1, round(self.min_distance / sampling))
        highest = F.max_pool2d(smooth, 2 * reach + 1, stride=1, padding=reach)
        found = (smooth == highest) & (mass.sum(dim=1, keepdim=True) >= self.threshold) & (smooth > 1e-3)
        example, _, row, column = torch.nonzero(_unique(found, reach), as_tuple=True)
        position = _refined(smooth, example, row, column) * sampling
        masses = mass[example, :, row, column]
        label = masses.argmax(dim=1)
        probability = masses.sum(dim=1).clamp(0.0, 1.0)
        answers = []
        for number in range(len(maps)):
            mine = example == number
            answers.append(
                Columns(
                    position[mine].double().cpu().numpy(),
                    label[mine].cpu().numpy(),
                    classes,
                    probabilities=probability[mine].double().cpu().numpy(),
                )
            )
        return answers

    def _probability(self, maps: Tensor, sampling: float) -> Tensor:
        """Probability ``(B, C, Y, X)`` of a column of each class, were there a maximum at each pixel."""
        disc = self._disc(sampling, maps)
        channels = maps.shape[1]
        return F.conv2d(maps, disc.expand(channels, 1, -1, -1), padding=disc.shape[-1] // 2, groups=channels)

    def _disc(self, sampling: float, like: Tensor) -> Tensor:
        """Kernel ``(1, 1, K, K)`` whose sum over a Gaussian of height 1 at its centre is 1."""
        reach = math.ceil(self.radius / sampling)
        index = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype) * sampling
        distance = torch.sqrt(index[:, None] ** 2 + index[None, :] ** 2)
        # A rim one pixel wide, so that the mass does not jump with the position within a pixel.
        disc = (0.5 + (self.radius - distance) / sampling).clamp(0.0, 1.0)
        gaussian = torch.exp(-0.5 * (distance / self.sigma) ** 2)
        return (disc / (disc * gaussian).sum())[None, None]


class HeightPeaks(MassPeaks):
    """Local maxima whose height counts, as in arXiv 1802.03008.

    Args:
        sigma, min_distance, threshold: see :class:`MassPeaks`; the threshold is one of heights.
    """

    def __init__(self, sigma: float, min_distance: float, threshold: float) -> None:
        super().__init__(sigma, radius=sigma, min_distance=min_distance, threshold=threshold)

    def _probability(self, maps: Tensor, sampling: float) -> Tensor:
        return maps


class CountPeaks(MassPeaks):
    """Local maxima of the sum of maps for each number of atoms; the masses say how many atoms a column has.

    Columns get the median of that distribution, whose expected absolute error is least.

    Args:
        sigma, radius, min_distance, threshold: see :class:`MassPeaks`.
    """

    reads = "counts"

    def __call__(self, maps: Tensor, sampling: float, classes: tuple[str, ...]) -> list[Columns]:
        """Find the columns of a batch with their counts; see :class:`MassPeaks`.

        Args:
            maps: real ``(B, channels, Y, X)`` in [0, 1] of :class:`hrtem.targets.CountMaps`.
            sampling: Å/px.
            classes: one name.
        """
        found = super().__call__(self._presence(maps), sampling, classes)
        mass = self._probability(maps, sampling)
        answers = []
        for columns, masses in zip(found, mass, strict=True):
            at = torch.from_numpy(columns.positions / sampling).round().long().to(maps.device)
            x, y = at[:, 0].clamp(0, maps.shape[-1] - 1), at[:, 1].clamp(0, maps.shape[-2] - 1)
            answers.append(replace(columns, counts=self.counts(masses[:, y, x].T).cpu().numpy()))
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


class OffsetPeaks(HeightPeaks):
    """Discs, each at the weighted mean of where its pixels say that its column is.

    A column's probability is the mean of the disc maps over a disc around it, which an uncertain position lowers.

    Args:
        radius: of the discs that the network was trained on, Å.
        min_distance: of two columns along a row or a column of pixels, Å.
        threshold: smallest mean over a disc that is reported.
    """

    reads = "offsets"

    def __init__(self, radius: float, min_distance: float, threshold: float) -> None:
        radius = Range.parse("peaks.radius", radius, unit="Å", minimum=0.05, maximum=5.0).low
        # The mean over a disc is about as wide as a Gaussian of half its radius.
        super().__init__(radius / 2.0, min_distance=min_distance, threshold=threshold)
        self.radius = radius

    def __call__(self, maps: Tensor, sampling: float, classes: tuple[str, ...]) -> list[Columns]:
        """Find the columns of a batch; see :class:`MassPeaks`.

        Args:
            maps: real ``(B, C + 2, Y, X)``: discs in [0, 1], and offsets along x and y in Å.
            sampling: Å/px.
            classes: C names.
        """
        discs, offsets = maps[:, :-2], maps[:, -2:]
        reach = math.ceil(self.radius / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=maps.device)
        disc = self._weights((index[:, None] ** 2 + index**2).sqrt() * sampling, sampling)
        channels = discs.shape[1]

        def summed(values: Tensor) -> Tensor:
            return F.conv2d(values, disc.to(values).expand(values.shape[1], 1, -1, -1), padding=reach, groups=channels)

        # At the border a part of a disc is seen; it is taken for the whole.
        found = super().__call__(summed(discs) / summed(torch.ones_like(discs)), sampling, classes)
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
            disc = self._weights(torch.hypot(*(pixels - where.T[:, :, None, None])), sampling) * inside
            weights = disc * mask
            where = ((pixels + offsets[:, *at]) * weights).sum(dim=(2, 3)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)
            where = where.T
        probability = (weights.sum(dim=(1, 2)) / disc.square().sum(dim=(1, 2)).clamp_min(1e-6)).clamp(0.0, 1.0)
        return replace(
            columns, positions=where.double().cpu().numpy(), probabilities=probability.double().cpu().numpy()
        )

    def _weights(self, distance: Tensor, sampling: float) -> Tensor:
        """A disc with a rim one pixel wide, from distances in Å."""
        return (0.5 + (self.radius - distance) / sampling).clamp(0.0, 1.0)


def _unique(found: Tensor, reach: int) -> Tensor:
    """Keep one of several equally high maxima within ``reach`` pixels, as a column between two pixels gives."""
    index = torch.arange(1, found[0].numel() + 1, device=found.device, dtype=torch.float64).reshape(found.shape[1:])
    numbered = torch.where(found, index, 0.0)
    return found & (numbered == F.max_pool2d(numbered, 2 * reach + 1, stride=1, padding=reach))


def _smoothed(maps: Tensor, width: float) -> Tensor:
    """Gaussian average of ``width`` pixels of maps ``(B, 1, Y, X)``."""
    reach = max(1, math.ceil(3.0 * width))
    index = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    weights = torch.exp(-0.5 * (index / width) ** 2)
    weights = weights / weights.sum()
    maps = F.conv2d(maps, weights[None, None, :, None], padding=(reach, 0))
    return F.conv2d(maps, weights[None, None, None, :], padding=(0, reach))


def _refined(maps: Tensor, example: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Sub-pixel maxima ``(P, 2)`` (x, y) in pixels: a parabola through the logarithm, exact for a Gaussian."""
    padded = F.pad(maps[:, 0], (1, 1, 1, 1), mode="replicate").clamp_min(1e-6).log()

    def at(dy: int, dx: int) -> Tensor:
        return padded[example, row + 1 + dy, column + 1 + dx]

    def vertex(before: Tensor, centre: Tensor, after: Tensor) -> Tensor:
        curvature = before - 2.0 * centre + after
        shift = 0.5 * (before - after) / torch.where(curvature < -1e-6, curvature, -torch.inf)
        return shift.clamp(-0.5, 0.5)

    x = column + vertex(at(0, -1), at(0, 0), at(0, 1))
    y = row + vertex(at(-1, 0), at(0, 0), at(1, 0))
    return torch.stack([x, y], dim=1)
