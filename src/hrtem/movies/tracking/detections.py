"""Detections in one frame, reduced to the data needed for tracking because a movie may have many frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hrtem.columns import Columns


@dataclass(frozen=True)
class Detections:
    """The columns found in a frame.

    Attributes:
        positions: ``(N, 2)`` float32, (x, y) in Å from the centre of pixel ``[0, 0]``.
        probabilities: ``(N,)`` float32, probability that there is a column.
        usable: False for a frame that cannot be read or is blank, in which nothing can be found.
    """

    positions: np.ndarray
    probabilities: np.ndarray
    usable: bool = True

    @classmethod
    def of(cls, columns: Columns, usable: bool = True) -> Detections:
        """Construct the detections from the columns that a network has found."""
        return cls(columns.positions.astype(np.float32), columns.probabilities.astype(np.float32), usable)

    def __len__(self) -> int:
        return len(self.positions)
