"""Uncertainty of a position, given the spread of its peak and of the neighbouring peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from hrtem.calibration.evidence import Peaks, mean_around
from hrtem.columns import Columns
from hrtem.metrics import TOLERANCE, match_counts

#: Added to spreads, in units of the variance of the target Gaussians: the resolution limit of the maps.
LEAST = 2e-3
#: Added to squared errors in the same unit, so that the fitted variance is above 0 even without any error.
LEAST_ERROR = 1e-5
#: Typical spread in the same unit; reference of the logarithms, which makes the coefficients nearly independent.
USUAL = 0.02
#: Share of the columns at either end of the measured s and v that is excluded from the range of validity of a law.
TAIL = 1e-3
#: Law in which the variance of a position is the spread of its peak, with an unlimited range of validity.
AS_DRAWN = (float(np.log(USUAL)), 1.0, 0.0, 0.0, 0.0, 0.0, -np.inf, np.inf, -np.inf, np.inf)
#: Placeholder for a law that has not been measured.
UNKNOWN = (float("nan"),) * len(AS_DRAWN)
#: Number of coefficients of a law; its other numbers are the smallest and largest s and v of the range of validity.
COEFFICIENTS = 6


def logarithms(peaks: Peaks, sigma: float) -> np.ndarray:
    """Features s and v of each peak, ``(N, 2)``, from which the uncertainty of its position is computed.

    The feature s is the logarithm of the spread of a peak, in units of :data:`USUAL` times ``sigma**2``. The feature v
    is the mean of s over the neighbouring peaks, see :func:`hrtem.calibration.evidence.mean_around`. The same spread
    means a different error among sharp peaks than in an image with hardly any electrons.

    Args:
        peaks: all peaks of an image or of a piece of it.
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
    """
    s = np.log((peaks.spreads / sigma**2).clip(min=0.0) + LEAST) - np.log(USUAL)
    return np.column_stack([s, mean_around(peaks.columns, s)])


def variances(peaks: Peaks, sigma: float, law: np.ndarray) -> np.ndarray:
    """Variance ``(N,)`` of the position of each peak along x or y in Å².

    Outside the measured range of s and v, the law is continued with its value at the limit of the range.

    Args:
        peaks, sigma: see :func:`logarithms`.
        law: ``(10,)``, from :meth:`Uncertainty.compute`.
    """
    coefficients, (least, most) = law[:COEFFICIENTS], law[COEFFICIENTS:].reshape(2, 2).T
    return sigma**2 * np.exp(_terms(logarithms(peaks, sigma).clip(least, most)) @ coefficients)


class Uncertainty(Metric):
    """Regression of the squared error of positions on the spreads of peaks; the result is called a law.

    For an exact posterior the spread would be the variance of the position. The maps of a network are not exact: their
    spread underestimates the effect of noise and is not zero without noise. Therefore the logarithm of the mean squared
    error is modelled as a polynomial of second degree in the :func:`logarithms` s and v of a peak, with the terms 1, s,
    v, s², s v, v². The coefficients are those of a gamma regression with a logarithmic link (McCullagh and Nelder,
    Generalized Linear Models, chapter 8). With the squared error e² along an axis and the variance σ² of the law, they
    solve Σ x (e²/σ² - 1) = 0 for each term x. Hence the mean of e²/σ² is 1 over all columns, and likewise for blurred
    and for sharp columns.

    Args:
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
        prior: weight of the prior that a spread is a variance, in columns. The columns of an image share much of their
            error, so the prior weighs far less than the columns of a single image.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the edge of the image do not count, Å.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, sigma: float, prior: float = 100.0, tolerance: float = TOLERANCE, border: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma
        self.prior = prior
        self.tolerance = tolerance
        self.border = border
        # s, v and the squared error along an axis in sigma² of each matched column, (N, 3).
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(
        self,
        peaks: Sequence[Peaks],
        reported: Sequence[np.ndarray],
        true: Sequence[Columns],
        width: float,
        height: float,
    ) -> None:
        """Add images.

        Args:
            peaks: all peaks of each image.
            reported: mask, bool ``(N,)``, of the peaks that are reported columns; only their positions count.
            true: true columns of each image.
            width, height: largest x and y of a pixel centre, Å.
        """
        for answer, sure, truth in zip(peaks, reported, true, strict=True):
            found = answer.columns[sure]
            i, j, _, _ = match_counts(found, truth, width, height, self.tolerance, self.border)
            error2 = squared_error(found, truth, i, j) / self.sigma**2
            rows = np.column_stack([logarithms(answer, self.sigma)[sure][i], error2])
            self.rows.append(torch.as_tensor(rows, device=self.device))

    def compute(self) -> Tensor:
        """The law ``(10,)``: six coefficients, then smallest and largest s, smallest and largest v.

        It is :data:`AS_DRAWN` if there are no columns.
        """
        law = np.array(AS_DRAWN)
        rows = dim_zero_cat(self.rows).cpu().numpy() if len(self.rows) else np.empty((0, 3))
        if not len(rows):
            return torch.from_numpy(law)
        values, error2 = rows[:, :2], rows[:, 2] + LEAST_ERROR
        law[COEFFICIENTS:] = np.quantile(values, [TAIL, 1.0 - TAIL], axis=0).T.ravel()
        values = values.clip(*law[COEFFICIENTS:].reshape(2, 2).T)
        law[:COEFFICIENTS] = _regression(_terms(values), error2, np.array(AS_DRAWN[:COEFFICIENTS]), self.prior)
        return torch.from_numpy(law)


def squared_error(found: Columns, true: Columns, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared error ``(K,)`` in Å² of the K pairs along an axis, averaged over both axes."""
    return 0.5 * np.square(found.positions[i] - true.positions[j]).sum(axis=1)


def _terms(values: np.ndarray) -> np.ndarray:
    """Terms 1, s, v, s², s v, v² ``(N, 6)`` of the regression, from s and v ``(N, 2)``."""
    s, v = values.T
    return np.stack([np.ones(len(s)), s, v, s * s, s * v, v * v], axis=1)


def _regression(terms: np.ndarray, values: np.ndarray, believed: np.ndarray, prior: float) -> np.ndarray:
    """Coefficients ``(K,)`` of a gamma regression with a logarithmic link.

    Args:
        terms: ``(N, K)``.
        values: ``(N,)``, above 0.
        believed: ``(K,)``, mean of the prior: the coefficients without any data.
        prior: weight of the prior, in rows.
    """

    def loss(coefficients: np.ndarray) -> float:
        logarithm = terms @ coefficients
        away = coefficients - believed
        return float((logarithm + values * np.exp(-logarithm)).sum() + 0.5 * prior * away @ away)

    answer = believed.copy()
    least = loss(answer)
    # The loss is strictly convex: Newton's method, with steps halved until the loss decreases, finds the minimum.
    for _ in range(100):
        ratio = values * np.exp(-(terms @ answer))
        gradient = terms.T @ (1.0 - ratio) + prior * (answer - believed)
        curvature = (terms * ratio[:, None]).T @ terms + prior * np.eye(len(answer))
        step = -np.linalg.solve(curvature, gradient)
        share = 1.0
        # The exponentials of too long a step overflow; an infinite loss is rejected like any larger loss.
        with np.errstate(over="ignore"):
            while not (new := loss(answer + share * step)) <= least and share > 1e-9:
                share *= 0.5
        if share <= 1e-9:
            break
        answer, least = answer + share * step, new
        if np.abs(share * step).max() < 1e-9:
            break
    return answer
