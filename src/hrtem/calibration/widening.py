"""How uncertain a position is, given the width of its peak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor
from torchmetrics import Metric

from hrtem.columns import Columns
from hrtem.metrics import TOLERANCE, counted_pairs

#: Where :class:`Widening` says what a peak's excess of variance means, in variances of the network's Gaussians.
KNOTS = (-0.1, -0.05, 0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 4.0, 15.0)
#: The knots' variances as a Gaussian posterior would have them: the excess itself, and nothing below zero.
UNCORRECTED = tuple(max(knot, 0.0) for knot in KNOTS)


def squared_error(found: Columns, true: Columns, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared error ``(K,)`` in Å² of pairs along one axis."""
    return 0.5 * np.square(found.positions[i] - true.positions[j]).sum(axis=1)


class Widening(Metric):
    """How uncertain a position is, given how much wider than a Gaussian its peak is.

    Of a proper posterior the excess of variance would be the variance of the position. A network of finite
    resolution widens every peak a little, so what an excess means is measured: isotonic regression of the squared
    error over the excess, on :data:`KNOTS`. Until there are data, the excess counts as it is.

    Args:
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        prior: how many columns' worth of belief each knot has in the uncorrected variance.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the image's border do not count, Å.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, sigma: float, prior: float = 10.0, tolerance: float = TOLERANCE, border: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma
        self.prior = prior
        self.tolerance = tolerance
        self.border = border
        # Around each knot: number of columns, summed excess and summed squared error along an axis, in sigma².
        self.add_state("sums", torch.zeros(3, len(KNOTS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, found: Sequence[Columns], true: Sequence[Columns], width: float, height: float) -> None:
        """Add images of ``width`` x ``height`` Å; the ``sigmas`` of ``found`` are the widths of the peaks, in Å."""
        middles = 0.5 * (np.array(KNOTS[1:]) + np.array(KNOTS[:-1]))
        for answer, truth in zip(found, true, strict=True):
            i, j, _, _ = counted_pairs(answer, truth, width, height, self.tolerance, self.border)
            excess = (answer.sigmas[i] / self.sigma) ** 2 - 1.0
            place = np.searchsorted(middles, excess)
            values = (np.ones(len(excess)), excess, squared_error(answer, truth, i, j) / self.sigma**2)
            rows = np.stack([np.bincount(place, value, len(KNOTS)) for value in values])
            self.sums += torch.as_tensor(rows, device=self.sums.device)

    def compute(self) -> Tensor:
        """Variance ``(knots,)`` of a position at each of :data:`KNOTS`, both in ``sigma**2``."""
        number, excess, error2 = self.sums.cpu().numpy()
        weight = number + self.prior
        at = (excess + self.prior * np.array(KNOTS)) / weight
        value = isotonic_regression((error2 + self.prior * np.array(UNCORRECTED)) / weight, weights=weight).x
        return torch.from_numpy(np.interp(KNOTS, at, value)).float()


def position_variance(excess: np.ndarray, sigma: float, values: np.ndarray) -> np.ndarray:
    """Variance of positions along x or y in Å².

    Args:
        excess: variance of the peaks less ``sigma**2``, ``(N,)`` Å².
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        values: what :meth:`Widening.compute` returned.
    """
    return sigma**2 * np.interp(excess / sigma**2, KNOTS, values)
