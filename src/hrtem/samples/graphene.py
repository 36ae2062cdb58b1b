"""Single-layer graphene with grain boundaries, rotated bonds, vacancies, holes and edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import Delaunay, cKDTree

from hrtem.columns import Columns
from hrtem.ranges import Range
from hrtem.samples.base import rotation
from hrtem.samples.sheet import RIM, Sheet


class Graphene(Sheet):
    """A sheet drawn as the dual of a triangulation of its ring centres.

    Grains are pieces of a triangular lattice of ring centres. The Delaunay triangles between the centres
    are the atoms and triangles that share an edge are bonded, so that every atom has three neighbours and a
    grain boundary closes by itself with five- and seven-membered rings. Flipping an edge of the triangulation
    rotates a bond (the Stone-Wales transformation). Harmonic bonds and angles then relax the atoms.

    Args:
        name: the sample's name.
        classes: ``("C",)`` in any sample of one class.
        extent: side of the field of view, Å.
        rms_displacement: thermal displacement of C, Å.
        lattice_constant: 2.46 Å for graphene.
        grain_boundary: probability that the field holds two or three grains.
        bond_rotation: fraction of the bonds that are rotated, a number or a range.
        vacancy: fraction of the atoms that are missing, a number or a range.
        sheet: holes, edges, strain and corrugation, see :class:`Sheet`.
    """

    known_classes = ("C",)

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        lattice_constant: float = 2.46,
        grain_boundary: float = 0.0,
        bond_rotation: Any = 0.0,
        vacancy: Any = 0.0,
        **sheet: Any,
    ) -> None:
        super().__init__(name, classes, extent, rms_displacement, **sheet)
        self.lattice_constant = Range.parse(
            "sample.lattice_constant", lattice_constant, unit="Å", minimum=2.0, maximum=3.0
        )
        self.grain_boundary = Range.parse("sample.grain_boundary", grain_boundary, minimum=0.0, maximum=1.0).low
        self.bond_rotation = Range.parse("sample.bond_rotation", bond_rotation, minimum=0.0, maximum=0.1)
        self.vacancy = Range.parse("sample.vacancy", vacancy, minimum=0.0, maximum=0.5)

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one sheet; see :class:`Sample`."""
        a = self.lattice_constant.draw(rng)
        triangles, centres = self._triangulate(a, rng)
        positions, bonds = _relaxed_dual(triangles, centres, a / np.sqrt(3.0))
        keep = self._present(positions, bonds, rng)
        positions = positions[keep] @ self.deformation(rng)
        heights = self.ripples(positions, rng)
        atoms = Atoms("C" * len(positions), np.column_stack([positions, heights]))
        atoms = self.in_cell(atoms, thickness=4.0 + (np.ptp(heights) if len(heights) else 0.0))
        number = len(atoms)
        atoms.set_array("column", np.arange(number))
        return atoms, Columns(atoms.positions[:, :2], np.zeros(number, int), self.classes, counts=np.ones(number, int))

    def _triangulate(self, a: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Triangles ``(T, 3)`` of ring centres ``(R, 2)`` in Å over the field of view and its rim."""
        low, high = -RIM, self.extent + RIM
        grains = 1 + (int(rng.integers(1, 3)) if rng.random() < self.grain_boundary else 0)
        seeds = rng.uniform(0.0, self.extent, size=(grains, 2))
        reach = int(np.ceil(1.5 * (high - low) / a))
        i, j = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
        lattice = a * np.column_stack([i + 0.5 * j, np.sqrt(0.75) * j])
        middle = np.full(2, self.extent / 2)
        pieces: list[np.ndarray] = []
        for grain in range(grains):
            points = lattice @ rotation(rng.uniform(0.0, 2.0 * np.pi)) + rng.uniform(0.0, a, size=2) + middle
            points = points[np.all((points > low) & (points < high), axis=1)]
            points = points[cKDTree(seeds).query(points)[1] == grain]
            if pieces and len(points):
                distance, _ = cKDTree(np.concatenate(pieces)).query(points)
                points = points[distance > 0.7 * a]
            pieces.append(points)
        centres = np.concatenate(pieces)
        if grains > 1:
            centres = _spread(centres, a)
        triangles = Delaunay(centres).simplices
        # Slivers on the hull of the rim have no counterpart in the sheet.
        corners = centres[triangles]
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        triangles = triangles[longest < 2.2 * a]
        return _rotate_bonds(triangles, self.bond_rotation.draw(rng), rng), centres

    def _present(self, positions: np.ndarray, bonds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which atoms remain after vacancies, holes and an edge, as bool ``(N,)``."""
        keep = rng.random(len(positions)) >= self.vacancy.draw(rng)
        keep &= ~self.torn(positions, rng)
        # An atom that hangs on a single bond would not survive the beam.
        for _ in range(3):
            alive = keep[bonds].all(axis=1)
            coordination = np.bincount(bonds[alive].ravel(), minlength=len(positions))
            keep &= coordination >= 2
        return keep


def _spread(centres: np.ndarray, a: float, steps: int = 30) -> np.ndarray:
    """Push ring centres that are closer than ``a`` apart, so that grains meet without voids or overlaps."""
    for _ in range(steps):
        pairs = cKDTree(centres).query_pairs(a, output_type="ndarray")
        between = centres[pairs[:, 1]] - centres[pairs[:, 0]]
        distance = np.linalg.norm(between, axis=1, keepdims=True)
        push = 0.25 * (a - distance) * between / np.maximum(distance, 1e-9)
        centres = centres.copy()
        np.add.at(centres, pairs[:, 0], -push)
        np.add.at(centres, pairs[:, 1], push)
    return centres


def _shared_edges(triangles: np.ndarray) -> np.ndarray:
    """Pairs ``(E, 2)`` of triangles that share an edge."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    owners = np.repeat(np.arange(len(triangles)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, owners = edges[order], owners[order]
    same = np.all(edges[1:] == edges[:-1], axis=1)
    return np.column_stack([owners[:-1][same], owners[1:][same]])


def _rotate_bonds(triangles: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Flip a random ``fraction`` of the edges of a triangulation, each triangle at most once."""
    pairs = _shared_edges(triangles)
    chosen = pairs[rng.random(len(pairs)) < fraction]
    triangles = triangles.copy()
    touched: set[int] = set()
    for first, second in chosen:
        if touched & {first, second}:
            continue
        touched |= {first, second}
        common = np.intersect1d(triangles[first], triangles[second])
        apexes = [np.setdiff1d(triangles[t], common)[0] for t in (first, second)]
        triangles[first] = [apexes[0], apexes[1], common[0]]
        triangles[second] = [apexes[0], apexes[1], common[1]]
    return triangles


def _relaxed_dual(
    triangles: np.ndarray, centres: np.ndarray, bond: float, steps: int = 120
) -> tuple[np.ndarray, np.ndarray]:
    """Atoms at the triangles, relaxed with harmonic bonds and angles.

    Angles of 120 degrees are kept by weaker springs between second neighbours.

    Args:
        triangles: ``(T, 3)`` ring centres around each atom.
        centres: ``(R, 2)`` Å.
        bond: bond length, Å.
        steps: steps of damped gradient descent.

    Returns:
        Positions ``(T, 2)`` in Å and bonds ``(E, 2)``.
    """
    positions = centres[triangles].mean(axis=1)
    bonds = _shared_edges(triangles)
    both = np.concatenate([bonds, bonds[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    degree = np.bincount(both[:, 0], minlength=len(triangles))
    start = np.concatenate([[0], np.cumsum(degree)[:-1]])
    full = np.flatnonzero(degree == 3)
    neighbours = both[:, 1][start[full][:, None] + np.arange(3)]
    seconds = np.concatenate([neighbours[:, [0, 1]], neighbours[:, [1, 2]], neighbours[:, [2, 0]]])
    springs = np.concatenate([bonds, seconds])
    lengths = np.concatenate([np.full(len(bonds), bond), np.full(len(seconds), bond * np.sqrt(3.0))])[:, None]
    stiffness = np.concatenate([np.full(len(bonds), 0.15), np.full(len(seconds), 0.04)])[:, None]
    velocity = np.zeros_like(positions)
    for _ in range(steps):
        between = positions[springs[:, 1]] - positions[springs[:, 0]]
        distance = np.linalg.norm(between, axis=1, keepdims=True)
        force = stiffness * (distance - lengths) * between / np.maximum(distance, 1e-9)
        total = np.zeros_like(positions)
        for axis in range(2):
            total[:, axis] = np.bincount(springs[:, 0], force[:, axis], len(positions)) - np.bincount(
                springs[:, 1], force[:, axis], len(positions)
            )
        velocity = 0.8 * velocity + total
        positions = positions + velocity
    return positions, bonds
