"""Uncertainty of a position from the width of its peak alone, for older models that were calibrated in this way."""

from __future__ import annotations

import numpy as np

#: Knots of the calibration: excess variances of a peak, in units of the variance of the target Gaussians.
KNOTS = (-0.1, -0.05, 0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 4.0, 15.0)
#: Variances of positions at the knots for a Gaussian posterior: the excess variance itself, and at least zero.
UNCORRECTED = tuple(max(knot, 0.0) for knot in KNOTS)


def position_variance(excess: np.ndarray, sigma: float, values: np.ndarray) -> np.ndarray:
    """Variance ``(N,)`` of positions along x or y in Å².

    Args:
        excess: variance of the peaks minus ``sigma**2``, ``(N,)`` Å².
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
        values: ``(knots,)``, the variance of a position at each of :data:`KNOTS`, in units of ``sigma**2``.
    """
    return sigma**2 * np.interp(excess / sigma**2, KNOTS, values)
