"""Atomic columns in projection along the beam: the truth of a simulation or the output of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True)
class Columns:
    """Atomic columns of one image; a single atom is a column with one atom.

    Attributes:
        positions: ``(N, 2)`` float, (x, y) in Å from the centre of pixel ``[0, 0]``.
        labels: ``(N,)`` int, indices into ``classes``.
        classes: names of the classes, for instance ``("Mo", "S2", "S")``.
        counts: ``(N,)`` int, atoms in the column; 0 where unknown or vacant.
        probabilities: ``(N,)`` float in [0, 1]; 1 for the truth of a simulation.
        sigmas: ``(N,)`` float, standard deviation of a position along x or y in Å; 0 for the truth of a simulation.
        class_probabilities: ``(N, C)`` float in [0, 1], the probability of a column of each class; a row adds up to
            ``probabilities``. By default the whole probability belongs to the class of the label.
        count_probabilities: ``(N, K)`` float in [0, 1], the probability of 1, 2, … K atoms, given that there is a
            column; K is 0 if atoms were not counted.
    """

    positions: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    counts: np.ndarray = None  # type: ignore[assignment]
    probabilities: np.ndarray = None  # type: ignore[assignment]
    sigmas: np.ndarray = None  # type: ignore[assignment]
    class_probabilities: np.ndarray = None  # type: ignore[assignment]
    count_probabilities: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions, dtype=np.float64).reshape(-1, 2)
        number = len(positions)
        arrays = {
            "positions": positions,
            "labels": np.asarray(self.labels, dtype=np.int64),
            "counts": np.zeros(number, np.int64) if self.counts is None else np.asarray(self.counts, np.int64),
            "probabilities": np.ones(number)
            if self.probabilities is None
            else np.asarray(self.probabilities, dtype=np.float64),
            "sigmas": np.zeros(number) if self.sigmas is None else np.asarray(self.sigmas, dtype=np.float64),
        }
        object.__setattr__(self, "classes", tuple(self.classes))
        for name, array in arrays.items():
            if len(array) != number:
                raise ValueError(f"{name} has {len(array)} entries for {number} positions")
            object.__setattr__(self, name, array)
        if number and (self.labels.min() < 0 or self.labels.max() >= len(self.classes)):
            raise ValueError(f"labels must index the {len(self.classes)} classes {self.classes}")
        shares = self.class_probabilities
        if shares is None:
            shares = np.zeros((number, len(self.classes)))
            shares[np.arange(number), self.labels] = self.probabilities
        shares = np.asarray(shares, dtype=np.float64)
        if shares.shape != (number, len(self.classes)):
            raise ValueError(
                f"class_probabilities has the shape {shares.shape} for {number} positions "
                f"and {len(self.classes)} classes"
            )
        object.__setattr__(self, "class_probabilities", shares)
        numbers = self.count_probabilities
        numbers = np.zeros((number, 0)) if numbers is None else np.asarray(numbers, dtype=np.float64)
        if numbers.ndim != 2 or len(numbers) != number:
            raise ValueError(f"count_probabilities has the shape {numbers.shape} for {number} positions")
        object.__setattr__(self, "count_probabilities", numbers)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, keep: np.ndarray | slice) -> Columns:
        """Select columns with a boolean mask, an index array or a slice."""
        return Columns(classes=self.classes, **{name: array[keep] for name, array in self.arrays().items()})

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Concatenate the columns of several images, or of parts of one image, in their order; at least one part."""
        arrays = [part.arrays() for part in parts]
        together = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
        return cls(classes=parts[0].classes, **together)

    def arrays(self) -> dict[str, np.ndarray]:
        """The per-column arrays by name; together with ``classes`` they are the arguments of the constructor."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "classes"}

    def moved(self, positions: np.ndarray) -> Columns:
        """The same columns at other positions, `(N, 2)` Å."""
        return replace(self, positions=positions)

    def with_probabilities(self, probabilities: np.ndarray) -> Columns:
        """The same columns with other probabilities ``(N,)``, divided among the classes in the same shares."""
        total = self.class_probabilities.sum(axis=1, keepdims=True)
        certain = np.eye(len(self.classes))[self.labels]
        shares = np.divide(self.class_probabilities, total, out=certain, where=total > 0.0)
        return replace(
            self, probabilities=probabilities, class_probabilities=shares * np.asarray(probabilities)[:, None]
        )

    def inside(self, width: float, height: float, border: float = 0.0) -> np.ndarray:
        """Mask, bool `(N,)`, of the columns in ``[border, width - border] x [border, height - border]`` (Å)."""
        x, y = self.positions.T
        return (x >= border) & (x <= width - border) & (y >= border) & (y <= height - border)
