"""From maps to columns: where, which class, how sure."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.ranges import Range

#: Gives the variance of positions along x or y, ``(N,)`` Å², from how much the variance of their peaks exceeds that of
#: the Gaussians that were drawn.
Variance = Callable[[np.ndarray], np.ndarray]


def as_it_is(excess: np.ndarray) -> np.ndarray:
    """The excess itself, and no less than 0."""
    return excess.clip(min=0.0)


class MassPeaks:
    """Local maxima whose mass says how probable a column is.

    A network trained with a proper loss answers with the expected map: the Gaussians of all possible columns,
    each weighted with its probability. An uncertain position makes a peak lower and wider but keeps its mass,
    so the mass within a disc over the mass of one Gaussian is the probability that the disc holds a column.
    How much wider tells how uncertain the position is: variances add, and that of the Gaussians is known.

    Args:
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        radius: of the disc, Å; about half of the smallest distance between columns.
        min_distance: of two maxima along a row or a column of pixels, Å.
        threshold: smallest probability of a column that is reported.
    """

    #: Whether the task replaces masses by the probabilities that a validation found for them.
    calibrated = True

    def __init__(self, sigma: float, radius: float, min_distance: float, threshold: float) -> None:
        self.sigma = Range.parse("peaks.sigma", sigma, unit="Å", minimum=0.02, maximum=5.0).low
        self.radius = Range.parse("peaks.radius", radius, unit="Å", minimum=0.05, maximum=10.0).low
        self.min_distance = Range.parse("peaks.min_distance", min_distance, unit="Å", minimum=0.0, maximum=10.0).low
        self.threshold = Range.parse("peaks.threshold", threshold, minimum=0.0, maximum=1.0).low

    def __call__(
        self,
        maps: Tensor,
        sampling: float,
        classes: tuple[str, ...],
        threshold: float | None = None,
        variance: Variance = as_it_is,
    ) -> list[Columns]:
        """Find the columns of a batch.

        Args:
            maps: real ``(B, C, Y, X)`` in [0, 1].
            sampling: Å/px.
            classes: C names.
            threshold: smallest probability of a column that is reported; that of the constructor where None.
            variance: of positions, from the excess over ``sigma**2``, see :data:`Variance`.

        Returns:
            For each of the B examples its columns, sorted by (y, x).
        """
        mass = self._probability(maps, sampling)
        total = maps.sum(dim=1, keepdim=True)
        threshold = self.threshold if threshold is None else threshold
        # A little smoothing first: a plateau of a broad peak must not give several maxima.
        smooth = smoothed(total, 0.5 * self.sigma / sampling)
        reach = max(1, round(self.min_distance / sampling))
        highest = F.max_pool2d(smooth, 2 * reach + 1, stride=1, padding=reach)
        found = (smooth == highest) & (mass.sum(dim=1, keepdim=True) >= threshold) & (smooth > 1e-3)
        example, _, row, column = torch.nonzero(_unique(found, reach), as_tuple=True)
        place = _refined(smooth, example, row, column)
        spread = self._variance(total, example, row, column, place, sampling)
        position = place * sampling
        masses = mass[example, :, row, column]
        label = masses.argmax(dim=1)
        probability = masses.sum(dim=1).clamp(0.0, 1.0)
        share = masses.clamp_min(0.0)
        share = share * (probability / share.sum(dim=1).clamp_min(1e-9))[:, None]
        answers = []
        for number in range(len(maps)):
            mine = example == number
            excess = spread[mine].double().cpu().numpy() - self.sigma**2
            answers.append(
                Columns(
                    position[mine].double().cpu().numpy(),
                    label[mine].cpu().numpy(),
                    classes,
                    probabilities=probability[mine].double().cpu().numpy(),
                    sigmas=np.sqrt(variance(excess)),
                    class_probabilities=share[mine].double().cpu().numpy(),
                )
            )
        return answers

    def _probability(self, maps: Tensor, sampling: float) -> Tensor:
        """Probability ``(B, C, Y, X)`` of a column of each class, were there a maximum at each pixel."""
        disc = self._disc(sampling, maps)
        channels = maps.shape[1]
        return F.conv2d(maps, disc.expand(channels, 1, -1, -1), padding=disc.shape[-1] // 2, groups=channels)

    def _variance(
        self, maps: Tensor, example: Tensor, row: Tensor, column: Tensor, place: Tensor, sampling: float
    ) -> Tensor:
        """Variance ``(P,)`` in Å², along x or y, of the Gaussians with the second moment that maps have in discs.

        The curvature at a maximum would do for a Gaussian, but is what a network draws least well.

        Args:
            maps: ``(B, 1, Y, X)``.
            example, row, column: of the maxima.
            place: their sub-pixel places ``(P, 2)`` (x, y) in px.
            sampling: Å/px.
        """
        radius = max(self.radius, 2.0 * self.sigma)
        reach = math.ceil(radius / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=maps.device)
        padded = F.pad(maps[:, 0], (reach,) * 4)
        window = padded[
            example[:, None, None],
            (row[:, None] + reach + index)[:, :, None],
            (column[:, None] + reach + index)[:, None],
        ]
        x, y = ((torch.stack([column, row], dim=1) - place)[:, :, None] + index).unbind(1)
        moment = _moment(window, x * sampling, y * sampling, radius, sampling)
        # Variance against moment for Gaussians off a pixel's centre by as much as maxima are on average.
        variance = (self.sigma * torch.logspace(-1.0, 1.0, 201, base=4.0, device=maps.device)) ** 2
        axis = ((index + 0.25) * sampling).to(maps.dtype).expand(len(variance), -1)
        gaussian = torch.exp(-0.5 * (axis[:, None] ** 2 + axis[:, :, None] ** 2) / variance[:, None, None])
        known = _moment(gaussian, axis, axis, radius, sampling)
        # The table rises with the variance: the next entry above, and the share of the step below it.
        upper = torch.searchsorted(known, moment).clamp(1, len(known) - 1)
        share = ((moment - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0.0, 1.0)
        return torch.lerp(variance[upper - 1], variance[upper], share)

    def _disc(self, sampling: float, like: Tensor) -> Tensor:
        """Kernel ``(1, 1, K, K)`` whose sum over a Gaussian of height 1 at its centre is 1."""
        reach = math.ceil(self.radius / sampling)
        index = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype) * sampling
        distance = torch.sqrt(index[:, None] ** 2 + index[None, :] ** 2)
        disc = disc_share(distance, self.radius, sampling)
        gaussian = torch.exp(-0.5 * (distance / self.sigma) ** 2)
        return (disc / (disc * gaussian).sum())[None, None]


class HeightPeaks(MassPeaks):
    """Local maxima whose height counts, as in arXiv 1802.03008.

    Args:
        sigma, min_distance, threshold: see :class:`MassPeaks`; the threshold is one of heights.
    """

    calibrated = False

    def __init__(self, sigma: float, min_distance: float, threshold: float) -> None:
        super().__init__(sigma, radius=sigma, min_distance=min_distance, threshold=threshold)

    def _probability(self, maps: Tensor, sampling: float) -> Tensor:
        return maps


def _unique(found: Tensor, reach: int) -> Tensor:
    """Keep one of several equally high maxima within ``reach`` pixels, as a column between two pixels gives."""
    index = torch.arange(1, found[0].numel() + 1, device=found.device, dtype=torch.float64).reshape(found.shape[1:])
    numbered = torch.where(found, index, 0.0)
    return found & (numbered == F.max_pool2d(numbered, 2 * reach + 1, stride=1, padding=reach))


def disc_share(distance: Tensor, radius: float, sampling: float) -> Tensor:
    """Which share of a pixel at ``distance`` Å lies in a disc.

    Its rim is one pixel wide, so that sums do not jump with the position within a pixel.
    """
    return (0.5 + (radius - distance) / sampling).clamp(0.0, 1.0)


def _moment(windows: Tensor, x: Tensor, y: Tensor, radius: float, sampling: float) -> Tensor:
    """Half the second moment ``(P,)`` in Å² of windows ``(P, K, K)`` in discs around x = y = 0.

    Args:
        windows: of maps.
        x, y: ``(P, K)`` Å, of their columns and rows.
        radius: Å.
        sampling: Å/px.
    """
    distance = torch.sqrt(x[:, None] ** 2 + y[:, :, None] ** 2)
    weight = windows * disc_share(distance, radius, sampling)
    return 0.5 * (weight * distance**2).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-9)


def smoothed(maps: Tensor, width: float) -> Tensor:
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
