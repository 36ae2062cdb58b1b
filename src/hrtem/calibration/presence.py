"""Probability of a column, given its peak and the neighbouring peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from hrtem.calibration.evidence import mean_around
from hrtem.columns import Columns
from hrtem.metrics import TOLERANCE, match_counts

#: Masses are clipped to this distance from 0 and 1; variances, in units of that of the target Gaussians, to this range.
LEAST_MASS, VARIANCES = 0.01, (0.25, 20.0)
#: Coefficients for which the probability of a column is the mass of its peak.
MASS = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def features(peaks: Columns, sigma: float) -> np.ndarray:
    """Features of each peak for the logistic regression, ``(N, 6)``.

    The features are 1, u, w, u w, v and u v. Here u is the log odds of the mass of the peak, w the logarithm of its
    variance in units of ``sigma**2``, and v the mean of w over the neighbouring peaks, see
    :func:`hrtem.calibration.evidence.mean_around`.

    The feature w accounts for the mass that a disc of fixed size loses if positions are uncertain. The feature v
    accounts for the neighbourhood: the same mass means a different probability among sharp peaks than in an image with
    hardly any electrons.

    Args:
        peaks: all peaks of an image or of a piece of it, with masses as probabilities and widths as ``sigmas`` in Å.
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
    """
    mass = peaks.probabilities
    u = logit(mass.clip(LEAST_MASS, 1.0 - LEAST_MASS))
    w = np.log(np.square(peaks.sigmas / sigma).clip(*VARIANCES))
    v = mean_around(peaks, w)
    return np.stack([np.ones(len(peaks)), u, w, u * w, v, u * v], axis=1)


def probabilities(peaks: Columns, sigma: float, coefficients: np.ndarray) -> np.ndarray:
    """Probability ``(N,)`` that each peak of an image is a column.

    Args:
        peaks, sigma: see :func:`features`.
        coefficients: coefficients from :meth:`Presence.compute`.
    """
    return expit(features(peaks, sigma) @ coefficients)


class Presence(Metric):
    """Coefficients of a logistic regression of the presence of true columns on the :func:`features` of peaks.

    Args:
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
        prior: weight of the prior that the mass is the probability, in columns.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the edge of the image do not count, Å.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, sigma: float, prior: float = 10.0, tolerance: float = TOLERANCE, border: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma
        self.prior = prior
        self.tolerance = tolerance
        self.border = border
        # Features of each peak, and 1 if there is a true column, else 0: (N, 7).
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, peaks: Sequence[Columns], true: Sequence[Columns], width: float, height: float) -> None:
        """Add images of ``width`` x ``height`` Å with all their ``peaks``; see :func:`features`."""
        for answer, truth in zip(peaks, true, strict=True):
            i, _, invented, _ = match_counts(answer, truth, width, height, self.tolerance, self.border)
            values = features(answer, self.sigma)
            there = np.concatenate([np.ones(len(i)), np.zeros(int(invented.sum()))])
            rows = np.column_stack([np.concatenate([values[i], values[invented]]), there])
            self.rows.append(torch.as_tensor(rows, device=self.device))

    def compute(self) -> Tensor:
        """Coefficients ``(6,)``; :data:`MASS` if there are no peaks."""
        prior = np.array(MASS)
        answer = prior.copy()
        if not len(self.rows):
            return torch.from_numpy(answer)
        rows = dim_zero_cat(self.rows).cpu().numpy()
        values, there = rows[:, :-1], rows[:, -1]
        penalty = self.prior * np.eye(len(prior))
        # Newton's method; the penalty makes the problem strictly convex, with a single minimum.
        for _ in range(25):
            chance = expit(values @ answer)
            gradient = values.T @ (there - chance) - penalty @ (answer - prior)
            curvature = (values * (chance * (1.0 - chance))[:, None]).T @ values + penalty
            step = np.linalg.solve(curvature, gradient)
            answer += step
            if np.abs(step).max() < 1e-9:
                break
        return torch.from_numpy(answer)
