"""Projection of a structure along a direction: atoms in the frame of the beam, and their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.formula import Formula
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hrtem.errors import InputError


@dataclass(frozen=True)
class Projection:
    """Atoms in a frame whose z axis is the direction of view, along which the beam travels.

    A column is identified by its first atom and the unit cell of this atom. The assignment of atoms to columns thus
    follows from the periodicity of the lattice and does not depend on later tilt or strain.

    Attributes:
        positions: ``(N, 3)`` Å, positions in one cell of a crystal, or in a complete model relative to its centre.
        numbers: ``(N,)`` atomic numbers.
        across: ``(2, 3)`` Å, two lattice vectors whose projections span the lattice of the columns.
        period: period of the crystal along the beam, Å.
        first: ``(N,)``, index of the first atom in the column of each atom.
        cell: ``(N, 2)``, steps along ``across`` from the cell of each atom to the cell of the column's first atom.
        names: ``(N,)``, composition of the column of each atom.
    """

    positions: np.ndarray
    numbers: np.ndarray
    across: np.ndarray
    period: float
    first: np.ndarray
    cell: np.ndarray
    names: np.ndarray

    @classmethod
    def of_crystal(cls, atoms: Atoms, axis: Sequence[int], merge: float) -> Projection:
        """Project a periodic structure along [u v w] of its own lattice vectors.

        The x axis is the projection of the first lattice vector, or of the second if the first is parallel to the
        beam. The name of a column is its composition along one period, divided by the greatest common divisor of all
        columns: Sr, TiO and O for SrTiO₃ along [001], whether the file contains one cell or eight.

        Args:
            atoms: structure with a three-dimensional cell.
            axis: three integers, not all 0.
            merge: atoms whose projections are closer than this share a column, Å.

        Raises:
            InputError: columns merge into infinite rows.
        """
        vectors = _unimodular(axis) @ atoms.cell.array
        frame = _frame(vectors[2], atoms.cell.array)
        vectors = vectors @ frame.T
        vectors[:2] = _reduced(vectors[:2])
        fractions = atoms.positions @ frame.T @ np.linalg.inv(vectors)
        positions = (fractions - np.floor(fractions)) @ vectors
        first, cell = _columns(positions[:, :2], vectors[:2, :2], merge)
        if np.any(first < 0):
            raise InputError(
                f"sample.zone_axes holds {list(axis)}, along which columns come closer than sample.merge = {merge:g} Å "
                "in rows without end; directions of lower indices keep them apart."
            )
        names = _compositions(atoms.numbers, first, counted=True)
        return cls(positions, atoms.numbers, vectors[:2], vectors[2, 2], first, cell, names)

    @classmethod
    def of_model(cls, atoms: Atoms, axis: Sequence[int], merge: float) -> Projection:
        """Project a finished model along a cartesian direction.

        The x axis is the projection of the cartesian x axis, or of y if x is parallel to the beam. The name of a
        column lists its elements without numbers, since the columns of a particle differ in length.
        """
        positions = atoms.positions @ _frame(np.array(axis, dtype=float), np.eye(3)).T
        positions -= (positions.min(axis=0) + positions.max(axis=0)) / 2
        first, cell = _columns(positions[:, :2], np.zeros((0, 2)), merge)
        names = _compositions(atoms.numbers, first, counted=False)
        return cls(positions, atoms.numbers, np.zeros((0, 3)), 0.0, first, cell, names)

    def sites(self, radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Build one period of an infinite crystal, in a disc around a random point.

        The period begins and ends at the widest gap along the beam, which is the vacuum in the cell of a sheet or slab.

        Args:
            radius: radius of the disc, Å.
            rng: random generator for the point.

        Returns:
            Positions ``(M, 3)`` Å relative to the point, with z from 0 to the period; the index ``(M,)`` of each atom
            in the cell; and the index ``(M,)`` of its column, from 0.
        """
        plane = self.across[:, :2]
        reach = np.ceil(radius * np.linalg.norm(np.linalg.inv(plane), axis=0)).astype(int) + 2
        cells = np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1].reshape(2, -1).T
        positions = (cells @ self.across)[:, None] + self.positions
        positions[..., :2] -= rng.random(2) @ plane
        cell, atom = np.nonzero(np.linalg.norm(positions[..., :2], axis=-1) <= radius)
        positions = positions[cell, atom]
        heights = np.sort(self.positions[:, 2] % self.period)
        gaps = np.diff(heights, append=heights[0] + self.period)
        middle = heights[gaps.argmax()] + gaps.max() / 2
        positions[:, 2] = (positions[:, 2] - middle) % self.period
        keys = np.column_stack([self.first[atom], cells[cell] + self.cell[atom]])
        column = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
        return positions, atom, column


def _unimodular(axis: Sequence[int]) -> np.ndarray:
    """Integer matrix ``(3, 3)`` of determinant 1 whose last row is the primitive [u v w] along ``axis``."""
    u, v, w = (int(index) // gcd(*axis) for index in axis)
    g, p, q = _bezout(u, v)
    if g == 0:
        return np.array([[1, 0, 0], [0, w, 0], [0, 0, w]])
    _, s, t = _bezout(g, w)
    # In the basis (u/g, v/g, 0), (-q, p, 0), (0, 0, 1) the last row is (g, 0, w); the other rows complete the matrix.
    return np.array([[-t * u // g, -t * v // g, s], [q, -p, 0], [u, v, w]])


def _bezout(a: int, b: int) -> tuple[int, int, int]:
    """``(g, p, q)`` with ``p a + q b = g``, the greatest common divisor of a and b."""
    if b == 0:
        return abs(a), (a > 0) - (a < 0), 0
    g, p, q = _bezout(b, a % b)
    return g, q, p - (a // b) * q


def _frame(direction: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Right-handed frame with rows x, y, z: z along ``direction``, x along the first candidate not parallel to it."""
    z = direction / np.linalg.norm(direction)
    across = candidates - (candidates @ z)[:, None] * z
    lies_across = np.linalg.norm(across, axis=1) > 1e-3 * np.linalg.norm(candidates, axis=1)
    x = across[lies_across.argmax()]
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _reduced(vectors: np.ndarray) -> np.ndarray:
    """Reduce a lattice ``(2, 3)`` to vectors with the shortest projections on the plane (Lagrange's reduction)."""
    one, two = vectors
    while True:
        if two[:2] @ two[:2] < one[:2] @ one[:2]:
            one, two = two, one
        steps = np.round((one[:2] @ two[:2]) / (one[:2] @ one[:2]))
        if steps == 0:
            return np.stack([one, two])
        two = two - steps * one


def _columns(points: np.ndarray, lattice: np.ndarray, merge: float) -> tuple[np.ndarray, np.ndarray]:
    """Group projected atoms into columns: atoms closer than ``merge``, directly or through a chain of others.

    Args:
        points: ``(N, 2)`` Å, within one cell.
        lattice: ``(2, 2)`` Å, a reduced lattice of columns, or ``(0, 2)`` for a model that is not periodic.
        merge: largest distance of joined atoms, Å.

    Returns:
        ``first`` and ``cell`` of :class:`Projection`; ``first`` is -1 if a column contains two periodic images of an
        atom.
    """
    # The home cell comes first. Two cells to each side contain every neighbour of a reduced cell.
    cells = np.array(sorted(product(range(-2, 3), repeat=len(lattice)), key=lambda cell: np.abs(cell).sum()), dtype=int)
    images = ((cells @ lattice)[:, None] + points).reshape(-1, 2)
    pairs = cKDTree(images).query_pairs(merge, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(images), len(images)))
    group = connected_components(links, directed=False)[1]
    atom = np.arange(len(images)) % len(points)
    order = np.lexsort([atom, group])
    twice = order[1:][(np.diff(group[order]) == 0) & (np.diff(atom[order]) == 0)]
    _, begin = np.unique(group[order], return_index=True)
    home = group[: len(points)]
    leader = order[begin[home]]
    first = np.where(np.isin(home, group[twice]), -1, atom[leader])
    return first, cells[leader // len(points)]


def _compositions(numbers: np.ndarray, first: np.ndarray, counted: bool) -> np.ndarray:
    """Names ``(N,)`` of the columns, such as TiO and S2, in the order of the periodic table."""
    columns, column = np.unique(first, return_inverse=True)
    elements, element = np.unique(numbers, return_inverse=True)
    table = np.zeros((len(columns), len(elements)), int)
    np.add.at(table, (column, element), 1)
    table = table // np.gcd.reduce(table.ravel()) if counted else np.minimum(table, 1)
    symbols = [chemical_symbols[number] for number in elements]
    names = [
        Formula.from_dict({symbol: int(n) for symbol, n in zip(symbols, row, strict=True) if n}).format("periodic")
        for row in table
    ]
    return np.array(names)[column]
