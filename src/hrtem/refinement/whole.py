"""Whole numbers from estimates with correlated errors: integer least squares.

The errors of numbers of atoms are strongly correlated: contrast, blur and camera change all of them together. Rounding
each by itself ignores this. Sequential conditional rounding rounds the most precise number first and corrects all
others by what this says about the common errors (Teunissen, Journal of Geodesy 70 (1995) 65; Babai, Combinatorica 6
(1986) 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Whole:
    """Whole numbers for estimates with correlated errors.

    Attributes:
        numbers: whole numbers, ``(N,)``.
        values, deviations: estimates, corrected by the numbers that were rounded before, and their standard deviations,
            ``(N,)``.
    """

    numbers: np.ndarray
    values: np.ndarray
    deviations: np.ndarray

    def probabilities(self, most: int) -> np.ndarray:
        """Probability of 1, 2, … ``most`` atoms, ``(N, most)``, if all were equally likely before."""
        away = (np.arange(1, most + 1) - self.values[:, None]) / np.maximum(self.deviations, 1e-3)[:, None]
        likelihood = np.exp(-0.5 * (away**2 - (away**2).min(axis=1, keepdims=True)))
        return likelihood / likelihood.sum(axis=1, keepdims=True)


def round_together(values: np.ndarray, covariance: np.ndarray) -> Whole:
    """Round estimates ``values`` ``(N,)``, whose errors have a ``covariance`` ``(N, N)``, to whole numbers.

    A wrong first number would shift all others. Therefore it is rounded up and down, and the most likely result counts.
    """
    scale = np.sqrt(covariance.diagonal())
    inverse = np.linalg.inv(covariance / np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))

    def distance(whole: Whole) -> float:
        away = (whole.numbers - values) / scale
        return float(away @ inverse @ away)

    return min((_round_in_turn(values, covariance, more) for more in (0, 1, -1)), key=distance)


def _round_in_turn(values: np.ndarray, covariance: np.ndarray, more: int) -> Whole:
    """Round one number after the other, the first one to its nearest whole number plus ``more``."""
    values, covariance = np.array(values, dtype=float), np.array(covariance, dtype=float)
    whole = Whole(np.zeros(len(values), int), np.zeros(len(values)), np.zeros(len(values)))
    left = np.ones(len(values), dtype=bool)
    for turn in range(len(values)):
        one = int(np.where(left, covariance.diagonal(), np.inf).argmin())
        variance = max(float(covariance[one, one]), 1e-12)
        whole.numbers[one], whole.values[one] = round(values[one]) + (0 if turn else more), values[one]
        whole.deviations[one] = np.sqrt(variance)
        share = covariance[:, one] / variance
        values += share * (whole.numbers[one] - values[one])
        covariance -= np.outer(share, covariance[one])
        left[one] = False
    return whole
