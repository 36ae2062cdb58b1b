"""Probability of a column, given its peak and the neighbouring peaks."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from hrtem.calibration.evidence import mean_around
from hrtem.columns import Columns

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
