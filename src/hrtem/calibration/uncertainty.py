"""Uncertainty of a position, given the spread of its peak and of the neighbouring peaks."""

from __future__ import annotations

import numpy as np

from hrtem.calibration.evidence import Peaks, mean_around
from hrtem.columns import Columns

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
        law: ``(10,)``, from :meth:`hrtem.calibration.measurement.Uncertainty.compute`.
    """
    coefficients, (least, most) = law[:COEFFICIENTS], law[COEFFICIENTS:].reshape(2, 2).T
    return sigma**2 * np.exp(terms(logarithms(peaks, sigma).clip(least, most)) @ coefficients)


def squared_error(found: Columns, true: Columns, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared error ``(K,)`` in Å² of the K pairs along an axis, averaged over both axes."""
    return 0.5 * np.square(found.positions[i] - true.positions[j]).sum(axis=1)


def terms(values: np.ndarray) -> np.ndarray:
    """Terms 1, s, v, s², s v, v² ``(N, 6)`` of the regression, from s and v ``(N, 2)``."""
    s, v = values.T
    return np.stack([np.ones(len(s)), s, v, s * s, s * v, v * v], axis=1)


def fit_gamma(terms: np.ndarray, values: np.ndarray, believed: np.ndarray, prior: float) -> np.ndarray:
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
