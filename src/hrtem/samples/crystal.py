"""Crystals of fcc and bcc metals: their sites, facets, stacking and thermal motion."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from ase.data import atomic_numbers, reference_states

from hrtem.errors import InputError

Direction = tuple[int, int, int]

#: Zone axes, each with the perpendicular direction that becomes y before the in-plane rotation.
ZONE_AXES: dict[Direction, Direction] = {(1, 0, 0): (0, 1, 0), (1, 1, 0): (0, 0, 1), (1, 1, 1): (1, -1, 0)}

#: Normals of the {111} planes of fcc whose reversed stacking leaves the columns along a zone axis straight: the planes
#: parallel to [110] and the plane perpendicular to [111]. Each normal is followed by the Shockley partial, in a/6, that
#: turns fcc into hcp stacking.
TWIN_PLANES: dict[Direction, list[tuple[Direction, Direction]]] = {
    (1, 0, 0): [],
    (1, 1, 0): [((1, -1, 1), (1, -1, -2)), ((1, -1, -1), (1, -1, 2))],
    (1, 1, 1): [((1, 1, 1), (1, 1, -2))],
}

#: Debye-Waller factors B = 8π² u² at 280 K, Å²: L.-M. Peng, G. Ren, S. L. Dudarev and M. J. Whelan, Acta Cryst. A52
#: (1996) 456, table 1. Rh and Ir are missing there and follow from the Debye model with Debye temperatures of 480 and
#: 420 K.
DEBYE_WALLER = {
    "Al": 0.746, "V": 0.546, "Cr": 0.239, "Fe": 0.310, "Ni": 0.340, "Cu": 0.526, "Nb": 0.429, "Mo": 0.205,
    "Rh": 0.146, "Pd": 0.425, "Ag": 0.702, "Ta": 0.308, "W": 0.153, "Ir": 0.102, "Pt": 0.356, "Au": 0.593,
    "Pb": 2.034,
}  # fmt: skip


def _family(*indices: int) -> list[Direction]:
    """All directions with these indices in cyclic order and with any signs."""
    signed = product(*({index, -index} for index in indices))
    turned = {tuple(np.roll(normal, shift).tolist()) for normal in signed for shift in range(3)}
    return sorted(turned)


@dataclass(frozen=True)
class Crystal:
    """An fcc or bcc lattice with integer coordinates in units of a/6, in which twins have integer coordinates too.

    Attributes:
        structure: ``fcc`` or ``bcc``.
        facets: ``(F, 3)`` normals of the closest packed planes and of {100}.
        atoms_per_cell: number of atoms in the cubic cell.
        bond: largest distance of bonded neighbours, a/6; in bcc the second shell, 15 % farther away, counts as well.
        coordination: number of neighbours of an atom in the bulk.
        held: number of neighbours of an atom on top of a closest packed facet; an atom with fewer is removed.
        epitaxy: zone axis parallel to [110] and facet parallel to (111) of a fluorite support: cube on cube for fcc,
            the Nishiyama-Wassermann orientation for bcc.
    """

    structure: str
    facets: np.ndarray
    atoms_per_cell: int
    bond: float
    coordination: int
    held: int
    epitaxy: tuple[Direction, Direction]

    def sites(self, reach: float) -> np.ndarray:
        """All sites ``(N, 3)`` within ``reach`` (a/6) of the origin."""
        number = int(np.ceil(reach / 3))
        cells = np.mgrid[[slice(-number, number + 1)] * 3].reshape(3, -1).T
        if self.structure == "fcc":
            cells = cells[cells.sum(axis=1) % 2 == 0]
        else:
            cells = cells[np.all(cells % 2 == cells[:, :1] % 2, axis=1)]
        return 3 * cells[np.sum(cells**2, axis=1) <= (reach / 3) ** 2]

    def spacing(self, axis: Direction) -> float:
        """Distance between neighbouring atoms of a column along ``axis``, a/6."""
        joined = sum(axis) % 2 == 0 if self.structure == "fcc" else len({index % 2 for index in axis}) == 1
        return float(3 * np.linalg.norm(axis)) * (1 if joined else 2)


FCC = Crystal("fcc", np.array(_family(1, 1, 1) + _family(1, 0, 0)), 4, 4.5, 12, 3, ((1, 1, 0), (1, -1, 1)))
BCC = Crystal("bcc", np.array(_family(1, 1, 0) + _family(1, 0, 0)), 2, 6.1, 14, 4, ((1, 0, 0), (0, 1, 1)))


def crystal_of(element: str) -> tuple[Crystal, float]:
    """Look up the crystal of an ``element`` and its lattice constant in Å in ASE's table.

    Raises:
        InputError: ``element`` is not the symbol of an element, or the element is neither fcc nor bcc.
    """
    known = {"fcc": FCC, "bcc": BCC}
    state: Any = reference_states[atomic_numbers.get(element, 0)] or {}
    structure = state.get("symmetry")
    if structure not in known:
        found = f"{element!r}, which is {structure}" if structure else f"{element!r}"
        raise InputError(f"sample.element must be the symbol of an fcc or bcc metal such as Au, Pt or Fe, got {found}.")
    return known[structure], float(state["a"])


def room_temperature_displacement(element: str) -> float | None:
    """One-dimensional root mean square displacement of a metal's atoms at 293 K, Å; None if it is not tabulated.

    The tabulated value is scaled from 280 K with the square root of the temperature, the high-temperature limit.
    """
    factor = DEBYE_WALLER.get(element)
    return None if factor is None else float(np.sqrt(factor * (293.0 / 280.0) / (8.0 * np.pi**2)))


def restack(
    sites: np.ndarray, normal: Direction, partial: Direction, planes: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reverse the stacking of the {111} layers of fcc at each of the given twin planes.

    Two adjacent twin planes form an intrinsic stacking fault.

    Args:
        sites: ``(N, 3)`` int, a/6.
        normal, partial: normal of the layers and Shockley partial, as in :data:`TWIN_PLANES`.
        planes: indices of the layers that are mirror planes; layer 0 contains the origin.

    Returns:
        The sites ``(N, 3)`` int, a/6, and whether each site belongs to a mirrored layer, bool ``(N,)``.
    """
    layer = sites @ np.array(normal) // 6
    layers = np.arange(layer.min(), layer.max() + 1)
    mirrored = np.searchsorted(np.sort(planes), layers) % 2 == 1
    # Each reversed step shifts all layers above by one partial; three partials add up to a lattice vector.
    shift = (np.cumsum(mirrored) + 1) % 3 - 1
    own = layer - layers[0]
    return sites + shift[own][:, None] * np.array(partial), mirrored[own]


def mirror_images(normals: np.ndarray, plane: Direction) -> np.ndarray:
    """Mirror ``normals`` ``(F, 3)`` in the plane whose normal is ``plane``."""
    across = np.array(plane) / np.linalg.norm(plane)
    return normals - 2.0 * (normals @ across)[:, None] * across


def frame(axis: Direction, down: Direction) -> np.ndarray:
    """Rotation ``(3, 3)``: ``positions @ frame`` has ``axis`` along z and ``down``, perpendicular to it, along y."""
    z, y = (np.array(vector) / np.linalg.norm(vector) for vector in (axis, down))
    return np.stack([np.cross(y, z), y, z], axis=1)
