"""Base class of single-layer sheets: holes, edges, strain, ripples, tilt and contamination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range, parse_number
from hrtem.samples.base import VACUUM, Sample, smooth_noise
from hrtem.samples.contamination import Contamination

#: Width by which a sheet extends beyond the field of view, so that its rim is never visible, Å.
RIM = 8.0


class Sheet(Sample):
    """A single layer perpendicular to the beam.

    Args:
        name, classes, extent, rms_displacement: see :class:`Sample`.
        hole: probability of a hole; several may follow.
        hole_radius: radius of a hole, Å, a number or a range.
        edge: probability that the sheet ends within the field.
        edge_roughness: root mean square roughness of the edge, Å, a number or a range.
        strain: isotropic strain, a number or a range.
        shear: magnitude of an additional pure shear, a number or a range.
        corrugation: root mean square height of the ripples, Å, a number or a range.
        tilt: angle between the beam and the sheet's normal, degrees, a number or a range; its azimuth is random.
        contamination: settings of :class:`Contamination`; no contamination if omitted.
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
        edge_roughness: Any = 2.0,
        strain: Any = 0.0,
        shear: Any = 0.0,
        corrugation: Any = 0.0,
        tilt: Any = 0.0,
        contamination: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, classes, extent, rms_displacement)
        self.hole = parse_number("sample.hole", hole, minimum=0.0, maximum=0.9)
        self.hole_radius = Range.parse("sample.hole_radius", hole_radius, unit="Å", minimum=0.0)
        self.edge = parse_number("sample.edge", edge, minimum=0.0, maximum=1.0)
        self.edge_roughness = Range.parse("sample.edge_roughness", edge_roughness, unit="Å", minimum=0.0, maximum=50.0)
        self.strain = Range.parse("sample.strain", strain, minimum=-0.1, maximum=0.1)
        self.shear = Range.parse("sample.shear", shear, minimum=0.0, maximum=0.1)
        self.corrugation = Range.parse("sample.corrugation", corrugation, unit="Å", minimum=0.0, maximum=5.0)
        self.tilt = Range.parse("sample.tilt", tilt, unit="degrees", minimum=0.0, maximum=10.0)
        try:
            self.contamination = Contamination(**(contamination or {}))
        except TypeError as error:
            known = ", ".join(list(signature(Contamination).parameters))
            raise InputError(
                f"sample.contamination has the settings {known}, got {dict(contamination or {})}."
            ) from error

    def torn(self, points: np.ndarray, rng: np.random.Generator, orientation: float | None = None) -> np.ndarray:
        """Draw holes and edges, and find the points within a hole or beyond an edge.

        Args:
            points: ``(N, 2)`` Å.
            rng: random generator.
            orientation: angle of a zigzag direction, radians. If it is given, half of the edges run along a zigzag
                or an armchair direction, which real edges prefer.

        Returns:
            bool ``(N,)``.
        """
        gone = np.zeros(len(points), bool)
        while rng.random() < self.hole:
            centre = rng.uniform(0.0, self.extent, size=2)
            gone |= np.linalg.norm(points - centre, axis=1) < self.hole_radius.draw(rng)
        if rng.random() < self.edge:
            angle = rng.uniform(0.0, 2.0 * np.pi)
            if orientation is not None and rng.random() < 0.5:
                angle = orientation + np.pi / 6.0 * rng.integers(12)
            across = (points - self.extent / 2) @ np.array([np.cos(angle), np.sin(angle)])
            roughness = self.edge_roughness.draw(rng) * smooth_noise(points, 6.0, rng)
            gone |= across + roughness > rng.uniform(-0.3, 0.4) * self.extent
        return gone

    def deformation(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the symmetric matrix ``(2, 2)`` of a homogeneous strain, which multiplies row vectors."""
        isotropic, shear, angle = self.strain.draw(rng), self.shear.draw(rng), rng.uniform(0.0, 2.0 * np.pi)
        pure = shear * np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), -np.cos(angle)]])
        return np.eye(2) * (1.0 + isotropic) + pure

    def ripples(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the heights ``(N,)`` Å of a rippled sheet at the points ``(N, 2)`` Å."""
        return self.corrugation.draw(rng) * smooth_noise(points, 15.0, rng)

    def laid_out(
        self,
        symbols: Sequence[str],
        positions: np.ndarray,
        column: np.ndarray,
        sites: np.ndarray,
        labels: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[Atoms, Columns]:
        """Add contamination, ripples and tilt to a flat sheet, and cut out the field of view.

        Args:
            symbols: chemical symbols of the N atoms.
            positions: ``(N, 3)`` Å, heights relative to the middle of the sheet.
            column: index of each atom's column, ``(N,)``, -1 for none.
            sites: positions of all columns in the flat sheet, ``(M, 2)`` Å; they define the places of empty columns.
            labels: classes of the columns, ``(M,)``.
            rng: random generator.

        Returns:
            Atoms and columns, see :class:`Sample`.
        """
        film, labelled = self.contamination(sites, self.extent, rng)
        half = np.abs(positions[:, 2]).max(initial=0.0)
        film[:, 2] += half * np.sign(film[:, 2])
        points = np.concatenate([positions, film, np.pad(sites, ((0, 0), (0, 1)))])
        points[:, 2] += self.ripples(points[:, :2], rng)
        points = self._tilted(points, rng)
        atoms, empty = points[: len(positions)], points[len(positions) + len(film) :, :2]
        film = points[len(positions) : len(positions) + len(film)]

        number, owned = len(sites), column >= 0
        counts = np.bincount(column[owned], minlength=number)
        means = np.column_stack([np.bincount(column[owned], atoms[owned, axis], number) for axis in range(2)])
        places = np.where(counts[:, None] > 0, means / np.maximum(counts, 1)[:, None], empty)
        # A column at the border is kept with all of its atoms or removed.
        inside = _within(places, self.extent)
        inside[column[owned & ~_within(atoms, self.extent)]] = False
        shown = inside & labelled
        # Atoms without a column have the index -1, which selects the last entry.
        stays = np.append(inside, True)[column]
        renamed = np.append(np.where(shown, np.cumsum(shown) - 1, -1), -1)

        made = Atoms(
            [symbol for symbol, one in zip(symbols, stays, strict=True) if one] + ["C"] * len(film),
            np.concatenate([atoms[stays], film]),
        )
        made.set_array("column", np.concatenate([renamed[column[stays]], np.full(len(film), -1)]))
        made = made[_within(made.positions, self.extent)]
        height = np.ptp(made.positions[:, 2]) if len(made) else 0.0
        made = self.in_cell(made, thickness=height + 2.0 * VACUUM)
        return made, Columns(places[shown], labels[shown], self.classes, counts=counts[shown])

    def _tilted(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rotate points ``(N, 3)`` Å about a random axis in the sheet through the centre of the field."""
        angle, azimuth = np.radians(self.tilt.draw(rng)), rng.uniform(0.0, 2.0 * np.pi)
        turn = Rotation.from_rotvec(angle * np.array([np.cos(azimuth), np.sin(azimuth), 0.0]))
        middle = np.array([self.extent / 2, self.extent / 2, 0.0])
        return np.asarray(turn.apply(points - middle)) + middle


def _within(points: np.ndarray, extent: float) -> np.ndarray:
    """Whether each point lies in the field of view, bool ``(N,)``."""
    return np.all((points[:, :2] >= 0.0) & (points[:, :2] < extent), axis=1)
