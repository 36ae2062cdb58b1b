"""How uncertain a position is by the width of its peak alone, as models say it that were trained with that."""

from __future__ import annotations

import numpy as np

#: Where such a model says what a peak's excess of variance means, in variances of the network's Gaussians.
KNOTS = (-0.1, -0.05, 0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 4.0, 15.0)
#: The knots' variances as a Gaussian posterior would have them: the excess itself, and nothing below zero.
UNCORRECTED = tuple(max(knot, 0.0) for knot in KNOTS)


def position_variance(excess: np.ndarray, sigma: float, values: np.ndarray) -> np.ndarray:
    """Variance ``(N,)`` of positions along x or y in Å².

    Args:
        excess: variance of the peaks less ``sigma**2``, ``(N,)`` Å².
        sigma: standard deviation of the Gaussians that the network was trained on, Å.
        values: ``(knots,)``, the variance of a position at each of :data:`KNOTS`, in ``sigma**2``.
    """
    return sigma**2 * np.interp(excess / sigma**2, KNOTS, values)
