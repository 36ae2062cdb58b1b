"""Contamination of a sheet: patches of amorphous carbon, as found on real sheets."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from hrtem.ranges import Range, parse_number
from hrtem.samples.amorphous import amorphous_carbon
from hrtem.samples.base import smooth_noise

#: Distance of the film from the outermost atoms of the sheet, Å; slightly less than the layer spacing of graphite.
GAP = 3.0

#: Width of the wall of a hollow patch, Å.
WALL = 2.0

#: Pixel size of the thickness map, Å.
PITCH = 0.5


class Contamination:
    """Amorphous carbon that covers part of the field, on one side of a sheet or on both.

    A patch has a ragged rim, from which its thickness rises from zero. A hollow patch is a bubble or a cage: a steep
    wall with a smooth outline, seen edge-on, around an empty interior. Columns under a patch keep their labels, so
    that a network learns probabilities that reflect their visibility. A thin film hides little, and no single
    thickness separates visible from invisible columns at every dose; ``labelled_under`` nevertheless sets such a limit.

    Args:
        probability: probability that a field is contaminated.
        share: covered fraction of the field, a number or a range.
        thickness: thickness of a patch, Å, a number or a range.
        size: correlation length of the outline, Å, a number or a range.
        taper: distance from the rim at which a patch reaches its full thickness, Å, a number or a range.
        hollow: probability that a patch is hollow.
        both_sides: probability that both sides are contaminated.
        density: density of the carbon, g/cm³, a number or a range; hydrogen is neglected.
        labelled_under: largest film thickness under which columns are labelled, Å; null labels all columns.
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
            points: positions of the columns, ``(N, 2)`` Å.
            extent: side of the field, Å.
            rng: random generator.

        Returns:
            Carbon atoms ``(M, 3)`` Å, with heights relative to the covered surface of the sheet, positive above and
            negative below; and whether the column at each point is labelled, bool ``(N,)``.
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
        """Draw the thickness map ``(Y, X)`` of one patch, Å."""
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
        """Draw the atoms ``(M, 3)`` Å of a film that lies on the plane z = 0 and has the given thickness map."""
        rows, columns = np.nonzero(thickness)
        if not len(rows):
            return np.zeros((0, 3))
        corner = np.array([columns.min(), rows.min()]) * PITCH
        # The periodic box of the amorphous carbon must be more than two bond lengths wide.
        size = np.maximum(np.array([np.ptp(columns) + 1, np.ptp(rows) + 1]) * PITCH, 4.0)
        box = [*size, float(thickness.max())]
        atoms = amorphous_carbon(box, rng, density=self.density.draw(rng), steps=20)
        atoms[:, :2] += corner
        return atoms[atoms[:, 2] < _at(atoms[:, :2], thickness)]


def _at(points: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Interpolate a thickness map ``(Y, X)`` linearly at points ``(N, 2)`` Å."""
    return np.asarray(map_coordinates(thickness, points[:, ::-1].T / PITCH, order=1, mode="nearest"))
