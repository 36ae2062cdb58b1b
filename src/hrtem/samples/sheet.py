"""What sheets one layer thick have in common: holes, edges, strain and ripples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrtem.ranges import Range
from hrtem.samples.base import Sample, smooth_noise

#: A sheet is grown this far beyond the field of view, so that its rim never shows; Å.
RIM = 8.0


class Sheet(Sample):
    """A single layer across the beam.

    Args:
        name, classes, extent, rms_displacement: see :class:`Sample`.
        hole: probability of a hole; several may follow.
        hole_radius: its radius, Å, a number or a range.
        edge: probability that the sheet ends within the field.
        strain: isotropic strain, a number or a range.
        shear: magnitude of an additional pure shear, a number or a range.
        corrugation: root mean square height of the ripples, Å, a number or a range.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        hole: float = 0.0,
        hole_radius: Any = 5.0,
        edge: float = 0.0,
        strain: Any = 0.0,
        shear: Any = 0.0,
        corrugation: Any = 0.0,
    ) -> None:
        super().__init__(name, classes, extent, rms_displacement)
        self.hole = Range.parse("sample.hole", hole, minimum=0.0, maximum=0.9).low
        self.hole_radius = Range.parse("sample.hole_radius", hole_radius, unit="Å", minimum=0.0)
        self.edge = Range.parse("sample.edge", edge, minimum=0.0, maximum=1.0).low
        self.strain = Range.parse("sample.strain", strain, minimum=-0.1, maximum=0.1)
        self.shear = Range.parse("sample.shear", shear, minimum=0.0, maximum=0.1)
        self.corrugation = Range.parse("sample.corrugation", corrugation, unit="Å", minimum=0.0, maximum=5.0)

    def torn(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which of the points ``(N, 2)`` Å lie within a hole or beyond an edge, as bool ``(N,)``."""
        gone = np.zeros(len(points), bool)
        while rng.random() < self.hole:
            centre = rng.uniform(0.0, self.extent, size=2)
            gone |= np.linalg.norm(points - centre, axis=1) < self.hole_radius.draw(rng)
        if rng.random() < self.edge:
            angle = rng.uniform(0.0, 2.0 * np.pi)
            across = (points - self.extent / 2) @ np.array([np.cos(angle), np.sin(angle)])
            roughness = 2.0 * smooth_noise(points, 6.0, rng)
            gone |= across + roughness > rng.uniform(-0.3, 0.4) * self.extent
        return gone

    def deformation(self, rng: np.random.Generator) -> np.ndarray:
        """Symmetric matrix ``(2, 2)`` of a homogeneous strain; row vectors are multiplied by it."""
        isotropic, shear, angle = self.strain.draw(rng), self.shear.draw(rng), rng.uniform(0.0, 2.0 * np.pi)
        pure = shear * np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), -np.cos(angle)]])
        return np.eye(2) * (1.0 + isotropic) + pure

    def ripples(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Heights ``(N,)`` Å of the sheet at the points ``(N, 2)`` Å."""
        return self.corrugation.draw(rng) * smooth_noise(points, 15.0, rng)
