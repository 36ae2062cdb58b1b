"""How probable a column is, given its peak and the peaks around it."""

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

#: Masses are kept this far from 0 and 1, variances over those of the Gaussians within this range.
LEAST_MASS, VARIANCES = 0.01, (0.25, 20.0)
#: Coefficients that take the mass of a peak for its probability.
MASS = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def features(peaks: Columns, sigma: float) -> np.ndarray:
    """What of each peak its probability follows from, ``(N, 6)``.

    With u the log odds of its mass, w the logarithm of its variance over ``sigma**2``, and v the mean of w over the
    peaks around it, see :func:`hrtem.calibration.evidence.mean_around`: 1, u, w, u w, v, u v.

    A disc of fixed size loses mass where positions are uncertain, which w shows; and a column that is present in
    half of all cases is another thing where the others are sharp than in an image with hardly any electrons, which
    v shows.

    Args:
        peaks: all of an image or a piece of it, with masses as probabilities and widths as ``sigmas`` in Å.
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
    """
    mass = peaks.probabilities
    u = logit(mass.clip(LEAST_MASS, 1.0 - LEAST_MASS))
    w = np.log(np.square(peaks.sigmas / sigma).clip(*VARIANCES))
    v = mean_around(peaks, w)
    return np.stack([np.ones(len(peaks)), u, w, u * w, v, u * v], axis=1)


def probabilities(peaks: Columns, sigma: float, coefficients: np.ndarray) -> np.ndarray:
    """Probability ``(N,)`` that each of an image's peaks is a column; the arguments are those of :func:`features`.

    Args:
        peaks, sigma: see :func:`features`.
        coefficients: what :meth:`Presence.compute` returned.
    """
    return expit(features(peaks, sigma) @ coefficients)


class Presence(Metric):
    """Coefficients of a logistic regression of what was there on the :func:`features` of peaks.

    Args:
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        prior: weight of the belief that the mass is the probability, in columns.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the image's border do not count, Å.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, sigma: float, prior: float = 10.0, tolerance: float = TOLERANCE, border: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma
        self.prior = prior
        self.tolerance = tolerance
        self.border = border
        # Of each peak its features and whether a column is there, (N, 7).
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, peaks: Sequence[Columns], true: Sequence[Columns], width: float, height: float) -> None:
        """Add images of ``width`` x ``height`` Å with all their ``peaks``, as :func:`features` takes them."""
        for answer, truth in zip(peaks, true, strict=True):
            i, _, invented, _ = match_counts(answer, truth, width, height, self.tolerance, self.border)
            values = features(answer, self.sigma)
            there = np.concatenate([np.ones(len(i)), np.zeros(int(invented.sum()))])
            rows = np.column_stack([np.concatenate([values[i], values[invented]]), there])
            self.rows.append(torch.as_tensor(rows, device=self.device))

    def compute(self) -> Tensor:
        """Coefficients ``(6,)``; :data:`MASS` where there are no peaks."""
        prior = np.array(MASS)
        answer = prior.copy()
        if not len(self.rows):
            return torch.from_numpy(answer)
        rows = dim_zero_cat(self.rows).cpu().numpy()
        values, there = rows[:, :-1], rows[:, -1]
        penalty = self.prior * np.eye(len(prior))
        # Newton's method; the penalty keeps the problem convex with one minimum.
        for _ in range(25):
            chance = expit(values @ answer)
            gradient = values.T @ (there - chance) - penalty @ (answer - prior)
            curvature = (values * (chance * (1.0 - chance))[:, None]).T @ values + penalty
            step = np.linalg.solve(curvature, gradient)
            answer += step
            if np.abs(step).max() < 1e-9:
                break
        return torch.from_numpy(answer)
