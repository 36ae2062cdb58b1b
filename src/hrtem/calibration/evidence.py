"""What a calibration looks at: the peaks of an image, and what is around each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hrtem.columns import Columns

#: Peaks this near tell how sharply the network sees in a place, Å.
AROUND = 8.0


@dataclass(frozen=True)
class Peaks:
    """Peaks of the maps of an image, before anything is known of what they mean.

    Attributes:
        columns: N, with their masses as probabilities and the widths of their peaks as ``sigmas``, Å.
        spreads: ``(N,)`` Å², how uncertain the maps draw each position along x or y, taken at their word: the variance
            of the votes for it, or by how much its peak is wider than a Gaussian of the training.
    """

    columns: Columns
    spreads: np.ndarray

    def __len__(self) -> int:
        return len(self.columns)


def mean_around(peaks: Columns, values: np.ndarray) -> np.ndarray:
    """Mean ``(N,)`` of values of the peaks within :data:`AROUND` of each and of itself, weighted with their masses.

    Args:
        peaks: all of an image or a piece of it, with masses as probabilities.
        values: ``(N,)``, of each peak.
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
