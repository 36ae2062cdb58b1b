"""Three-dimensional model from a projection: the position of each column and its number of atoms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, reference_states
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.structure.lattice import fit_lattice

#: Zone axes that the lattice of the columns can identify.
ZONE_AXES = ((1, 0, 0), (1, 1, 0), (1, 1, 1))
#: Relative tolerance for the distances of columns along a zone axis.
AGREEMENT = 0.07
#: Primitive vectors of the cubic lattices, in lattice constants.
PRIMITIVE = {
    "fcc": 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    "bcc": 0.5 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
}


@dataclass(frozen=True)
class ZoneAxis:
    """A cubic crystal in projection along a direction; lengths in lattice constants.

    Attributes:
        axis: direction of the projection.
        period: distance of the atoms in a column.
        vectors: ``(2, 2)``, reduced lattice vectors of the columns, as rows.
        heights: ``(2,)``, height difference of two columns that are one lattice vector apart, as a share of the period.
    """

    axis: tuple[int, int, int]
    period: float
    vectors: np.ndarray
    heights: np.ndarray

    @classmethod
    def of(cls, structure: str, axis: tuple[int, int, int]) -> ZoneAxis:
        """Construct the zone axis of an ``fcc`` or ``bcc`` crystal."""
        steps = np.array(list(product(range(-4, 5), repeat=3))) @ PRIMITIVE[structure]
        z = np.array(axis) / np.linalg.norm(axis)
        x = np.cross(z, (0.0, 0.0, 1.0) if axis != (0, 0, 1) else (1.0, 0.0, 0.0))
        x /= np.linalg.norm(x)
        flat, high = steps @ np.stack([x, np.cross(z, x)]).T, steps @ z
        length = np.linalg.norm(flat, axis=1)
        period = high[(length < 1e-6) & (high > 1e-6)].min()
        order = np.lexsort([-flat[:, 0], length])
        order = order[length[order] > 1e-6]
        first = order[0]
        across = np.abs(flat[order] @ [-flat[first, 1], flat[first, 0]]) > 1e-6
        # Of two vectors of equal length, take the vector at an acute angle to the first.
        sharp = flat[order] @ flat[first] > -1e-6
        second = order[across & sharp][0]
        pair = [first, second]
        return cls(axis, float(period), flat[pair], (high[pair] / period) % 1.0)

    @property
    def levels(self) -> dict[float, float]:
        """Height difference of two columns by their distance, if the three shortest distances determine it; else empty.

        The distances determine it along [100] and [110] of fcc: the columns of all twins are at one of two levels.
        """
        (first, second), (one, other) = self.vectors, self.heights
        steps = [(first, one), (second, other), (first - second, one - other)]
        levels = {
            round(float(np.linalg.norm(step)), 3): round(2.0 * float(height)) / 2.0 % 1.0 for step, height in steps
        }
        ambiguous = any(
            abs(2.0 * height - round(2.0 * height)) > 0.01
            or levels[round(float(np.linalg.norm(step)), 3)] != height % 1.0
            for step, height in steps
        )
        return levels if not ambiguous and set(levels.values()) == {0.0, 0.5} else {}

    def matched(self, cell: np.ndarray) -> tuple[float, np.ndarray] | None:
        """Misfit of ``cell`` ``(2, 2)``, in lattice constants, and the heights of its rows; None if it does not fit."""
        best = None
        # One lattice has several reduced cells, related by rotation and reflection.
        for one, other in product(product(range(-1, 2), repeat=2), repeat=2):
            turn = np.array([one, other])
            if abs(one[0] * other[1] - one[1] * other[0]) != 1:
                continue
            off = float(np.abs(_gram(cell) / _gram(turn @ self.vectors) - 1.0).max())
            if off < 2.0 * AGREEMENT and (best is None or off < best[0] - 1e-9):
                best = off, (turn @ self.heights) % 1.0
        return best


@dataclass(frozen=True)
class Solid:
    """A three-dimensional model rebuilt from columns.

    Attributes:
        atoms: x to the right and y down as in the image, z along the beam; ``column`` is the array of column numbers.
        axis: zone axis from the lattice of the columns.
        placed: bool ``(N,)``, columns whose relative height follows from the lattice; the other columns, isolated or in
            another grain, are only centred.
        period: distance of the atoms in a column, Å.
    """

    atoms: Atoms
    axis: tuple[int, int, int]
    placed: np.ndarray
    period: float


def build_solid(columns: Columns, element: str, lattice_constant: float | None = None) -> Solid:
    """Stack the atoms of each column along the beam.

    Assumptions: the crystal is cubic and exactly on a zone axis, and no column has a gap. Atom counts do not determine
    heights, so each column is centred about one plane perpendicular to the beam, as closely as the lattice allows.
    Columns are shifted along the beam by the fraction of the period that the stacking requires. Along [100] and [110]
    of fcc, the shifts follow from neighbour to neighbour, also across twins, because the distance of two columns
    determines whether they are at the same level. In other cases they follow from the lattice of the largest grain.
    Along [111] a lattice and its mirror image have the same projection, and one of them is chosen.

    Args:
        columns: N columns with ``counts``, of one class; columns with 0 atoms are left out.
        element: symbol of an fcc or bcc metal.
        lattice_constant: Å; None uses the table of ASE.

    Raises:
        InputError: the element is neither fcc nor bcc, no atoms were counted, or the lattice of the columns does not
            fit [100], [110] or [111].
    """
    state: Any = reference_states[atomic_numbers.get(element, 0)] or {}
    if state.get("symmetry") not in PRIMITIVE:
        raise InputError(f"a three-dimensional model needs an fcc or bcc metal, and {element} is neither.")
    a = float(state["a"]) if lattice_constant is None else lattice_constant
    columns = columns[columns.counts > 0]
    found = fit_lattice(columns)
    if found is None:
        raise InputError(f"a model needs counted columns on a lattice, and {len(columns)} columns lie on none.")
    known = [ZoneAxis.of(str(state["symmetry"]), axis) for axis in ZONE_AXES]
    fits = [(match[0], match[1], zone) for zone in known if (match := zone.matched(found.cell / a))]
    if not fits:
        lengths = "{:.2f} and {:.2f} Å at {:.0f}°".format(*found.lengths())
        raise InputError(f"columns must lie as in {element} along [100], [110] or [111], and their cell is {lengths}.")
    _, heights, zone = min(fits, key=lambda fit: fit[0])
    if levels := zone.levels:
        phase, placed = _spread(columns.positions / a, levels)
    else:
        phase, placed = (found.indices @ heights) % 1.0, found.motif == 0
    period = zone.period * a
    phase[~placed] = 0.5 * ((columns.counts[~placed] + 1) % 2)
    # Height of the lowest atom of each column, which puts the middle of the column close to z = 0.
    below = np.round(-0.5 * (columns.counts - 1) - phase) + phase
    number = np.repeat(np.arange(len(columns)), columns.counts)
    rank = np.arange(len(number)) - np.repeat(np.cumsum(columns.counts) - columns.counts, columns.counts)
    positions = np.column_stack([columns.positions[number], period * (below[number] + rank)])
    atoms = Atoms([element] * len(number), positions)
    atoms.set_array("column", number)
    return Solid(atoms, zone.axis, placed, period)


def _spread(places: np.ndarray, levels: dict[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Assign heights from neighbour to neighbour by their distances, from the column nearest to the middle outwards.

    Each distance votes for equal or different levels with the difference of its squared misfits to the two cases. The
    next column is always the column with the clearest vote of its neighbours. At the end, columns are corrected with
    the votes of all their neighbours.

    Args:
        places: ``(N, 2)`` in lattice constants.
        levels: height difference of two columns by their distance, see :attr:`ZoneAxis.levels`.

    Returns:
        Heights ``(N,)``, 0 or 1/2 of the period, and a mask of the columns that were reached, bool ``(N,)``.
    """
    pairs = cKDTree(places).query_pairs((1.0 + 2.0 * AGREEMENT) * max(levels), output_type="ndarray").reshape(-1, 2)
    distance = np.linalg.norm(np.subtract(*places[pairs.T]), axis=1)
    misfit = [
        np.min([(distance - length) ** 2 for length, height in levels.items() if height == level], axis=0)
        for level in (0.0, 0.5)
    ]
    votes = np.zeros((len(places), len(places)))
    for one, other in (pairs.T, pairs.T[::-1]):
        votes[one, other] = misfit[1] - misfit[0]  # positive: at the same level
    side = np.zeros(len(places))
    side[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()] = 1.0
    while True:
        said = np.where(side == 0.0, votes @ side, 0.0)
        column = int(np.abs(said).argmax())
        if said[column] == 0.0:
            break
        side[column] = np.sign(said[column])
    for _ in range(10):
        again = np.where(side != 0.0, np.sign(votes @ side), 0.0)
        changed = (again != 0.0) & (again != side)
        if not changed.any():
            break
        # One column at a time: neighbours that change together would change back.
        column = int(np.where(changed, np.abs(votes @ side), 0.0).argmax())
        side[column] = again[column]
    return np.where(side < 0.0, 0.5, 0.0), side != 0.0


def _gram(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths of two vectors and of their difference, ``(3,)``, invariant under rotation and reflection."""
    first, second = vectors
    return np.array([first @ first, second @ second, (first - second) @ (first - second)])
