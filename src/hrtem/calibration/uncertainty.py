"""How uncertain a position is, given how the maps draw it and those around it."""

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

#: Added to spreads, in variances of the network's Gaussians: maps draw nothing sharper.
LEAST = 2e-3
#: Added to squared errors in the same unit, so that a network without any error has an uncertainty too.
LEAST_ERROR = 1e-5
#: A usual spread in the same unit; logarithms count from it, so that coefficients hardly depend on each other.
USUAL = 0.02
#: This share of the columns at either end of what is measured does not say how far the law holds.
TAIL = 1e-3
#: The law that takes a spread for the variance of its position, wherever it lies.
AS_DRAWN = (float(np.log(USUAL)), 1.0, 0.0, 0.0, 0.0, 0.0, -np.inf, np.inf, -np.inf, np.inf)
#: What stands in the place of a law where none has been measured.
UNKNOWN = (float("nan"),) * len(AS_DRAWN)
#: The coefficients of a law; its other numbers are the least and the greatest s and v that it was measured with.
COEFFICIENTS = 6


def logarithms(peaks: Peaks, sigma: float) -> np.ndarray:
    """What of each peak the uncertainty of its position follows from, s and v as ``(N, 2)``.

    s is the logarithm of the spread of a peak, in units of :data:`USUAL` times ``sigma**2``. v is the mean of s over
    the peaks around it, see :func:`hrtem.calibration.evidence.mean_around`. The same spread means another error among
    sharp peaks than in an image with hardly any electrons.

    Args:
        peaks: all of an image or a piece of it.
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
    """
    s = np.log((peaks.spreads / sigma**2).clip(min=0.0) + LEAST) - np.log(USUAL)
    return np.column_stack([s, mean_around(peaks.columns, s)])


def variances(peaks: Peaks, sigma: float, law: np.ndarray) -> np.ndarray:
    """Variance ``(N,)`` of the position of each peak along x or y in Å².

    Beyond the s and v with which a law was measured, it is continued with its value at the border.

    Args:
        peaks, sigma: see :func:`logarithms`.
        law: ``(10,)``, what :meth:`Uncertainty.compute` returned.
    """
    coefficients, (least, most) = law[:COEFFICIENTS], law[COEFFICIENTS:].reshape(2, 2).T
    return sigma**2 * np.exp(_terms(logarithms(peaks, sigma).clip(least, most)) @ coefficients)


class Uncertainty(Metric):
    """A law by which the squared error of positions follows from the spreads of peaks.

    Of a proper posterior the spread would be the variance of the position. What a network draws is not: it
    shows too little of what noise does, and something where there is none. So the logarithm of the mean squared error
    is a polynomial of second degree in the :func:`logarithms` s and v of a peak, 1, s, v, s², s v, v², whose
    coefficients are those of a gamma regression with a logarithmic link (McCullagh and Nelder, Generalized Linear
    Models, chapter 8). With the squared error e² along an axis and the variance σ² that the law says, these solve
    Σ x (e²/σ² - 1) = 0 for each term x: that the squares of errors over their standard deviations have the mean 1,
    in all columns, in blurred and in sharp ones.

    Args:
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        prior: weight of the belief that a spread is a variance, in columns. Those of an image share much of their
            error, so that it is far less than that of the columns of one image.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the image's border do not count, Å.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, sigma: float, prior: float = 100.0, tolerance: float = TOLERANCE, border: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma
        self.prior = prior
        self.tolerance = tolerance
        self.border = border
        # Of each matched column s, v and its squared error along an axis in sigma², (N, 3).
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
            peaks: all of each image.
            reported: bool ``(N,)``, which of them are columns that are reported; only then their position counts.
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
        """The law ``(10,)``: six coefficients, then the least and the greatest s, the least and the greatest v.

        It is :data:`AS_DRAWN` where there are no columns.
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
    """Squared error ``(K,)`` in Å² of pairs along one axis, the mean of both axes."""
    return 0.5 * np.square(found.positions[i] - true.positions[j]).sum(axis=1)


def _terms(values: np.ndarray) -> np.ndarray:
    """1, s, v, s², s v, v² ``(N, 6)`` of s and v ``(N, 2)``."""
    s, v = values.T
    return np.stack([np.ones(len(s)), s, v, s * s, s * v, v * v], axis=1)


def _regression(terms: np.ndarray, values: np.ndarray, believed: np.ndarray, prior: float) -> np.ndarray:
    """Coefficients ``(K,)`` of a gamma regression with a logarithmic link.

    Args:
        terms: ``(N, K)``.
        values: ``(N,)``, above 0.
        believed: ``(K,)``, coefficients without any data.
        prior: weight of the belief, in rows.
    """

    def loss(coefficients: np.ndarray) -> float:
        logarithm = terms @ coefficients
        away = coefficients - believed
        return float((logarithm + values * np.exp(-logarithm)).sum() + 0.5 * prior * away @ away)

    answer = believed.copy()
    least = loss(answer)
    # The loss is strictly convex: Newton's method with steps that are halved until they lead down finds its minimum.
    for _ in range(100):
        ratio = values * np.exp(-(terms @ answer))
        gradient = terms.T @ (1.0 - ratio) + prior * (answer - believed)
        curvature = (terms * ratio[:, None]).T @ terms + prior * np.eye(len(answer))
        step = -np.linalg.solve(curvature, gradient)
        share = 1.0
        # Exponentials of a step too long overflow, and infinity is not less.
        with np.errstate(over="ignore"):
            while not (new := loss(answer + share * step)) <= least and share > 1e-9:
                share *= 0.5
        if share <= 1e-9:
            break
        answer, least = answer + share * step, new
        if np.abs(share * step).max() < 1e-9:
            break
    return answer
