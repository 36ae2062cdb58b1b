"""Input of the calibration: the peaks of an image, and averages over the neighbourhood of each peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hrtem.columns import Columns

#: Radius of the neighbourhood of a peak, Å, over which the widths of peaks are averaged.
AROUND = 8.0


@dataclass(frozen=True)
class Peaks:
    """Peaks of the maps of an image before calibration.

    Attributes:
        columns: N columns, with masses as probabilities and the widths of their peaks as ``sigmas``, Å.
        spreads: ``(N,)`` Å², uncalibrated variance of each position along x or y: the variance of the votes for the
            position, or the excess variance of the peak over that of a target Gaussian.
    """

    columns: Columns
    spreads: np.ndarray

    def __len__(self) -> int:
        return len(self.columns)


def mean_around(peaks: Columns, values: np.ndarray) -> np.ndarray:
    """Mean ``(N,)`` of values over each peak and its neighbours within :data:`AROUND`, weighted with their masses.

    Args:
        peaks: all peaks of an image or of a piece of it, with masses as probabilities.
        values: ``(N,)``, a value for each peak.
    """
    if not len(peaks):
        return np.zeros(0)
    mass = peaks.probabilities
    i, j = cKDTree(peaks.positions).query_pairs(AROUND, output_type="ndarray").T
    weighted, weight = (
        value + np.bincount(i, value[j], len(peaks)) + np.bincount(j, value[i], len(peaks))
        for value in (mass * values, mass)
    )
    return weighted / np.maximum(weight, 1e-12)
