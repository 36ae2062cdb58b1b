"""Patches of amorphous carbon on a sheet, as on every real one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from hrtem.ranges import Range, parse_number
from hrtem.samples.amorphous import amorphous_carbon
from hrtem.samples.base import smooth_noise

#: Distance of the film from the outermost atoms of the sheet, Å: somewhat less than between the layers of graphite.
GAP = 3.0

#: Width of the wall that a hollow patch is left with, Å.
WALL = 2.0

#: Pixel of the map of thickness, Å.
PITCH = 0.5


class Contamination:
    """Amorphous carbon that covers part of a field, on one side or on both.

    A patch ends in a ragged rim, where its thickness rises from zero. A hollow one is a bubble or a cage: a steep
    wall with a smooth outline, seen edge-on, and nothing within. The columns below keep their labels, so that the
    probability that a network learns tells how well they are seen; a thin film hides little, and no thickness tells
    seen from unseen at every dose. ``labelled_under`` sets one all the same.

    Args:
        probability: that there is any.
        share: of the field that is covered, a number or a range.
        thickness: of a patch, Å, a number or a range.
        size: correlation length of the outline, Å, a number or a range.
        taper: distance from the rim at which a patch is as thick as it gets, Å, a number or a range.
        hollow: probability that a patch is hollow.
        both_sides: probability that both sides are soiled.
        density: g/cm³, a number or a range; hydrogen is left out.
        labelled_under: columns below more film than this are not labelled, Å; all are if it is null.
    """

    def __init__(
        self,
        probability: float = 0.0,
        share: Any = 0.2,
        thickness: Any = 6.0,
        size: Any = 12.0,
        taper: Any = 4.0,
        hollow: float = 0.0,
        both_sides: float = 0.0,
        density: Any = 1.6,
        labelled_under: float | None = None,
    ) -> None:
        where = "sample.contamination"
        self.probability = parse_number(f"{where}.probability", probability, minimum=0.0, maximum=1.0)
        self.share = Range.parse(f"{where}.share", share, minimum=0.0, maximum=1.0)
        self.thickness = Range.parse(f"{where}.thickness", thickness, unit="Å", minimum=0.0, maximum=100.0)
        self.size = Range.parse(f"{where}.size", size, unit="Å", minimum=1.0, maximum=1000.0)
        self.taper = Range.parse(f"{where}.taper", taper, unit="Å", minimum=0.1, maximum=100.0)
        self.hollow = parse_number(f"{where}.hollow", hollow, minimum=0.0, maximum=1.0)
        self.both_sides = parse_number(f"{where}.both_sides", both_sides, minimum=0.0, maximum=1.0)
        self.density = Range.parse(f"{where}.density", density, unit="g/cm³", minimum=0.1, maximum=3.5)
        self.labelled_under = (
            np.inf
            if labelled_under is None
            else parse_number(f"{where}.labelled_under", labelled_under, unit="Å", minimum=0.0)
        )

    def __call__(self, points: np.ndarray, extent: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw the contamination of one field.

        Args:
            points: ``(N, 2)`` Å, where columns stand.
            extent: side of the field, Å.
            rng: generator.

        Returns:
            Carbon atoms ``(M, 3)`` Å, their heights counted from the surface of the sheet they lie on, positive above
            and negative below; and for each of the points whether its column is labelled, bool ``(N,)``.
        """
        atoms, cover = np.zeros((0, 3)), np.zeros(len(points))
        if rng.random() < self.probability:
            first = rng.choice([-1.0, 1.0])
            for side in [first, -first] if rng.random() < self.both_sides else [first]:
                thickness = self._thickness(extent, rng)
                film = self._film(thickness, rng)
                film[:, 2] = side * (GAP + film[:, 2])
                atoms = np.concatenate([atoms, film])
                cover += _at(points, thickness)
        return atoms, cover <= self.labelled_under

    def _thickness(self, extent: float, rng: np.random.Generator) -> np.ndarray:
        """Map ``(Y, X)`` of the thickness of one patch, Å."""
        number = max(2, round(extent / PITCH))
        y, x = np.mgrid[:number, :number].reshape(2, -1) * PITCH
        points = np.column_stack([x, y])
        hollow = rng.random() < self.hollow
        outline = smooth_noise(points, self.size.draw(rng), rng)
        if not hollow:
            outline += 0.25 * smooth_noise(points, 3.0, rng)
        covered = (outline > np.quantile(outline, 1.0 - self.share.draw(rng))).reshape(number, number)
        inward = distance_transform_edt(covered) * PITCH
        thickness, taper = self.thickness.draw(rng), self.taper.draw(rng)
        if hollow:
            return np.where((inward > 0.0) & (inward <= WALL), thickness, 0.0)
        lumps = 1.0 + 0.2 * smooth_noise(points, 5.0, rng).reshape(number, number)
        return thickness * np.minimum(inward / taper, 1.0) * np.clip(lumps, 0.3, 1.7)

    def _film(self, thickness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Atoms ``(M, 3)`` Å of a film on a plane, below the surface that a map of thickness describes."""
        rows, columns = np.nonzero(thickness)
        if not len(rows):
            return np.zeros((0, 3))
        corner = np.array([columns.min(), rows.min()]) * PITCH
        # Amorphous carbon is made in a periodic box, which must hold its shortest period twice.
        size = np.maximum(np.array([np.ptp(columns) + 1, np.ptp(rows) + 1]) * PITCH, 4.0)
        box = [*size, float(thickness.max())]
        atoms = amorphous_carbon(box, rng, density=self.density.draw(rng), steps=20)
        atoms[:, :2] += corner
        return atoms[atoms[:, 2] < _at(atoms[:, :2], thickness)]


def _at(points: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """A map ``(Y, X)`` at points ``(N, 2)`` Å, by linear interpolation."""
    return np.asarray(map_coordinates(thickness, points[:, ::-1].T / PITCH, order=1, mode="nearest"))
