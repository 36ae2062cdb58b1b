"""A model in three dimensions from what a projection tells: the place of each column and the number of its atoms."""

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

#: Zone axes that are told apart by the lattice of their columns.
ZONE_AXES = ((1, 0, 0), (1, 1, 0), (1, 1, 1))
#: Distances of columns agree with those of a zone axis within this share.
AGREEMENT = 0.07
#: Primitive vectors of the cubic lattices, in lattice constants.
PRIMITIVE = {
    "fcc": 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    "bcc": 0.5 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
}


@dataclass(frozen=True)
class ZoneAxis:
    """A cubic crystal seen along a direction; lengths in lattice constants.

    Attributes:
        axis: the direction.
        period: of the atoms in a column.
        vectors: ``(2, 2)``, as rows, reduced vectors of the lattice of the columns.
        heights: ``(2,)``, by which share of the period a column lies higher than the one a vector before it.
    """

    axis: tuple[int, int, int]
    period: float
    vectors: np.ndarray
    heights: np.ndarray

    @classmethod
    def of(cls, structure: str, axis: tuple[int, int, int]) -> ZoneAxis:
        """The zone axis of ``fcc`` or ``bcc``."""
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
        # Of two that are equally long the one that makes a sharp angle with the first.
        sharp = flat[order] @ flat[first] > -1e-6
        second = order[across & sharp][0]
        pair = [first, second]
        return cls(axis, float(period), flat[pair], (high[pair] / period) % 1.0)

    @property
    def levels(self) -> dict[float, float]:
        """Height between two columns by their distance, where the three shortest distances decide it; else empty.

        So it is along [100] and [110] of fcc, where all columns stand at one of two levels, whichever twin they are of.
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
        """How far ``cell`` ``(2, 2)``, in lattice constants, is off, and the heights of its rows, or None."""
        best = None
        # The same lattice has several reduced cells, turned and mirrored.
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
    """A model rebuilt from columns.

    Attributes:
        atoms: x to the right and y down as in the image, z along the beam; ``column`` is the array of column numbers.
        axis: zone axis that the lattice of the columns has.
        placed: bool ``(N,)``, columns whose height against their neighbours the lattice tells; the others, of another
            grain or by themselves, are only centred.
    """

    atoms: Atoms
    axis: tuple[int, int, int]
    placed: np.ndarray


def build_solid(columns: Columns, element: str, lattice_constant: float | None = None) -> Solid:
    """Stack the atoms of each column along the beam.

    Taken for granted: the crystal is cubic and seen exactly along a zone axis; no column has a gap; and each is
    centred, as near as its lattice lets it, about one plane across the beam, since a count says nothing of heights.
    Columns are shifted along the beam by the fraction of the period that the stacking asks for: along [100] and [110]
    of fcc from neighbour to neighbour, twins too, since there the distance of two columns says whether they stand at
    one level; else where they lie on the lattice of the largest grain. Along [111] a lattice and its mirror image look
    alike, and one of them is taken.

    Args:
        columns: N columns with ``counts``, of one class; those of 0 atoms are left out.
        element: symbol of an fcc or bcc metal.
        lattice_constant: Å; None: as the table of ASE has it.

    Raises:
        InputError: the element is neither fcc nor bcc, no atoms were counted, or the columns do not lie as along
            [100], [110] or [111].
    """
    state: Any = reference_states[atomic_numbers.get(element, 0)] or {}
    if state.get("symmetry") not in PRIMITIVE:
        raise InputError(f"a model is rebuilt of fcc and bcc metals, and {element} is none.")
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
    # The lowest atom of each column so that its middle comes next to z = 0.
    below = np.round(-0.5 * (columns.counts - 1) - phase) + phase
    number = np.repeat(np.arange(len(columns)), columns.counts)
    rank = np.arange(len(number)) - np.repeat(np.cumsum(columns.counts) - columns.counts, columns.counts)
    positions = np.column_stack([columns.positions[number], period * (below[number] + rank)])
    atoms = Atoms([element] * len(number), positions)
    atoms.set_array("column", number)
    return Solid(atoms, zone.axis, placed)


def _spread(places: np.ndarray, levels: dict[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Heights from neighbour to neighbour, as their distances say; begins at the column nearest to the middle.

    A distance votes for one level or the other by the difference of its squared misfits to both. Next comes always the
    column on which its neighbours agree most; last, each is asked again with all of its neighbours known.

    Args:
        places: ``(N, 2)`` in lattice constants.
        levels: of a distance the height between two columns, see :attr:`ZoneAxis.levels`.

    Returns:
        Heights ``(N,)``, 0 or 1/2 of the period, and which columns were reached, bool ``(N,)``.
    """
    pairs = cKDTree(places).query_pairs((1.0 + 2.0 * AGREEMENT) * max(levels), output_type="ndarray").reshape(-1, 2)
    distance = np.linalg.norm(np.subtract(*places[pairs.T]), axis=1)
    misfit = [
        np.min([(distance - length) ** 2 for length, height in levels.items() if height == level], axis=0)
        for level in (0.0, 0.5)
    ]
    votes = np.zeros((len(places), len(places)))
    for one, other in (pairs.T, pairs.T[::-1]):
        votes[one, other] = misfit[1] - misfit[0]  # positive: at one level
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
        # One at a time, since neighbours that change together would change back.
        column = int(np.where(changed, np.abs(votes @ side), 0.0).argmax())
        side[column] = again[column]
    return np.where(side < 0.0, 0.5, 0.0), side != 0.0


def _gram(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths of two vectors and of their difference, ``(3,)``: all that a turn and a mirror leave."""
    first, second = vectors
    return np.array([first @ first, second @ second, (first - second) @ (first - second)])
