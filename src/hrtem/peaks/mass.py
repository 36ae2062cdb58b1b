"""Conversion of maps to columns by the masses of peaks: positions, classes, probabilities and uncertainties."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hrtem.columns import Columns
from hrtem.peaks.maxima import disc_share, find_maxima, smooth, windows
from hrtem.peaks.pairs import EACH, Candidates, beside, join_pairs
from hrtem.ranges import parse_number

#: Maps the excess variance of peaks, relative to the variance of the target Gaussians, to the variance of positions
#: along x or y, both ``(N,)`` Å².
Variance = Callable[[np.ndarray], np.ndarray]


def as_it_is(excess: np.ndarray) -> np.ndarray:
    """Take the excess variance itself, but not less than 0, for the variance of a position."""
    return excess.clip(min=0.0)


class MassPeaks:
    """Local maxima; the mass of a peak is the probability of a column.

    The output of a network trained with a proper loss is the expected map: the sum of the Gaussians of all possible
    columns, each weighted with its probability. An uncertain position makes a peak lower and wider but conserves its
    mass. Therefore the mass within a disc, divided by the mass of a Gaussian, is the probability that the disc contains
    a column. The additional width gives the uncertainty of the position: variances add, and the variance of the target
    Gaussians is known.

    The mass also distinguishes two columns from a single column with two possible positions, if two maxima are nearer
    than ``min_distance``: two columns have twice the mass. Each pixel is then assigned to the nearer maximum.

    Args:
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
        radius: radius of the disc, Å; about half of the smallest distance between columns.
        min_distance: smallest distance of two maxima along a row or a column of pixels, Å; two nearer maxima must each
            have the mass of a column.
        threshold: smallest reported probability of a column.
    """

    #: Whether masses are replaced by probabilities that are calibrated on validation images.
    calibrated = True

    def __init__(self, sigma: float, radius: float, min_distance: float, threshold: float) -> None:
        self.sigma = parse_number("peaks.sigma", sigma, unit="Å", minimum=0.02, maximum=5.0)
        self.radius = parse_number("peaks.radius", radius, unit="Å", minimum=0.05, maximum=10.0)
        self.min_distance = parse_number("peaks.min_distance", min_distance, unit="Å", minimum=0.0, maximum=10.0)
        self.threshold = parse_number("peaks.threshold", threshold, minimum=0.0, maximum=1.0)

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
            threshold: smallest reported probability of a column; None: the threshold of the constructor.
            variance: function from the excess variance over ``sigma**2`` to the variance of positions, see
                :data:`Variance`.

        Returns:
            The columns of each of the B examples, sorted by (y, x).
        """
        total = maps.sum(dim=1, keepdim=True)
        threshold = self.threshold if threshold is None else threshold
        # Slight smoothing, so that the plateau of a broad peak does not give several maxima.
        blurred = smooth(total, 0.5 * self.sigma / sampling)
        found = self._found(maps, blurred, max(1, round(self.min_distance / sampling)), sampling)
        found = found[found.masses.sum(dim=1) >= threshold]
        spread = self._spread(total, found, sampling)
        position = found.place * sampling
        label = found.masses.argmax(dim=1)
        probability = found.masses.sum(dim=1).clamp(0.0, 1.0)
        share = found.masses.clamp_min(0.0)
        share = share * (probability / share.sum(dim=1).clamp_min(1e-9))[:, None]
        answers = []
        for number in range(len(maps)):
            mine = found.peaks.example == number
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

    def spreads(self, columns: Columns, maps: Tensor, sampling: float) -> np.ndarray:
        """Uncalibrated variance of positions along x or y, ``(N,)`` Å²: excess variance of peaks over ``sigma**2``.

        Args:
            columns: N peaks of one example, with their widths in Å as ``sigmas``.
            maps: maps of this example, as in :meth:`__call__`.
            sampling: Å/px.
        """
        return columns.sigmas**2 - self.sigma**2

    def _found(self, maps: Tensor, smooth: Tensor, reach: int, sampling: float) -> Candidates:
        """Maxima within ``reach`` pixels, and lower neighbouring maxima if both have the mass of a column."""
        single = Candidates.alone(find_maxima(smooth, reach), smooth)
        number, higher, lower = beside(single, find_maxima(smooth, 1), smooth, reach)
        higher, lower = (replace(one, masses=self._masses(maps, one, sampling)) for one in (higher, lower))
        two = (higher.masses.sum(dim=1) >= EACH) & (lower.masses.sum(dim=1) >= EACH)
        alone = torch.ones(single.peaks.number, dtype=torch.bool, device=maps.device)
        alone[number[two]] = False
        single = single[alone]
        single = replace(single, masses=self._masses(maps, single, sampling))
        return join_pairs([single, higher[two], lower[two]]) if bool(two.any()) else single

    def _masses(self, maps: Tensor, found: Candidates, sampling: float) -> Tensor:
        """Mass ``(P, C)`` of each class in the discs around maxima, in units of the mass of a column."""
        disc = self._disc(sampling, maps)
        reach = disc.shape[-1] // 2
        index = torch.arange(-reach, reach + 1, device=maps.device)
        masses = maps.new_empty(found.peaks.number, maps.shape[1])
        for some, pixels in windows(maps, found.peaks, reach):
            share = found[torch.arange(some.start, some.stop, device=maps.device)].own(index)
            masses[some] = (pixels * (share * disc)[:, None]).sum(dim=(2, 3))
        return masses

    def _spread(self, total: Tensor, found: Candidates, sampling: float) -> Tensor:
        """Variance ``(P,)`` in Å², along x or y, of the Gaussians with the same second moment in a disc as the maps.

        The curvature at a maximum would suffice for a Gaussian, but the network reproduces the curvature least well.

        Args:
            total: sum of the maps of all classes, ``(B, 1, Y, X)``.
            found: the maxima.
            sampling: Å/px.
        """
        radius = max(self.radius, 2.0 * self.sigma)
        reach = math.ceil(radius / sampling) + 1
        index = torch.arange(-reach, reach + 1, device=total.device)
        moment = total.new_empty(found.peaks.number)
        for some, pixels in windows(total, found.peaks, reach):
            these = found[torch.arange(some.start, some.stop, device=total.device)]
            x, y = these.offsets(index)
            # Both halves of a Gaussian have the same moment.
            own = pixels[:, 0] * these.own(index, outer=True)
            moment[some] = _moment(own, x * sampling, y * sampling, radius, sampling)
        # Table of moment against variance, for Gaussians displaced from a pixel's centre by the average distance.
        variance = (self.sigma * torch.logspace(-1.0, 1.0, 201, base=4.0, device=total.device)) ** 2
        axis = ((index + 0.25) * sampling).to(total.dtype).expand(len(variance), -1)
        gaussian = torch.exp(-0.5 * (axis[:, None] ** 2 + axis[:, :, None] ** 2) / variance[:, None, None])
        known = _moment(gaussian, axis, axis, radius, sampling)
        # The moment increases with the variance: linear interpolation between the neighbouring entries.
        upper = torch.searchsorted(known, moment).clamp(1, len(known) - 1)
        share = ((moment - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0.0, 1.0)
        return torch.lerp(variance[upper - 1], variance[upper], share)

    def _disc(self, sampling: float, like: Tensor) -> Tensor:
        """Disc-shaped weights ``(K, K)``, normalised to give 1 for a centred Gaussian of height 1."""
        reach = math.ceil(self.radius / sampling)
        index = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype) * sampling
        distance = torch.sqrt(index[:, None] ** 2 + index[None, :] ** 2)
        disc = disc_share(distance, self.radius, sampling)
        gaussian = torch.exp(-0.5 * (distance / self.sigma) ** 2)
        return disc / (disc * gaussian).sum()


class HeightPeaks(MassPeaks):
    """Local maxima; the height of a peak is the probability of a column, as in arXiv 1802.03008.

    Args:
        sigma, min_distance, threshold: see :class:`MassPeaks`; the threshold applies to heights.
    """

    calibrated = False

    def __init__(self, sigma: float, min_distance: float, threshold: float) -> None:
        super().__init__(sigma, radius=sigma, min_distance=min_distance, threshold=threshold)

    def _found(self, maps: Tensor, smooth: Tensor, reach: int, sampling: float) -> Candidates:
        """Maxima within ``reach`` pixels; heights, unlike masses, do not distinguish two columns from one."""
        found = Candidates.alone(find_maxima(smooth, reach), smooth)
        return replace(found, masses=self._masses(maps, found, sampling))

    def _masses(self, maps: Tensor, found: Candidates, sampling: float) -> Tensor:
        return maps[found.peaks.example, :, found.peaks.row, found.peaks.column]


def _moment(windows: Tensor, x: Tensor, y: Tensor, radius: float, sampling: float) -> Tensor:
    """Half the normalised second moment ``(P,)`` in Å² of windows ``(P, K, K)`` in discs around x = y = 0.

    Args:
        windows: windows of maps.
        x, y: ``(P, K)`` Å, coordinates of the columns and rows of pixels.
        radius: radius of the discs, Å.
        sampling: Å/px.
    """
    distance = torch.sqrt(x[:, None] ** 2 + y[:, :, None] ** 2)
    weight = windows * disc_share(distance, radius, sampling)
    return 0.5 * (weight * distance**2).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-9)
