"""Carbon sheets as networks of rings, and the elementary changes that create defects.

A flat sheet in which every atom has three bonds is the dual of a triangulation: the vertices of the triangulation are
ring centres, the triangles are atoms, and triangles that share an edge are bonded. Changes of the triangulation
therefore never leave an open bond. Graphene is the dual of a triangular lattice.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, Voronoi, cKDTree


class RingNetwork:
    """A triangulation of ring centres.

    Args:
        centres: ring centres, ``(R, 2)`` Å.
        spacing: distance between the centres of adjacent hexagons, Å: the lattice constant of graphene.
    """

    def __init__(self, centres: np.ndarray, spacing: float) -> None:
        self.centres = centres.copy()
        self.triangles = Delaunay(centres).simplices
        # Slivers on the hull have no counterpart in a sheet. Long edges in the interior bridge gaps between grains.
        while True:
            edges, owners, shared = self._edges()
            free = np.ones(len(edges), bool)
            free[:-1][shared] = free[1:][shared] = False
            long = np.linalg.norm(centres[edges[:, 0]] - centres[edges[:, 1]], axis=1) > 1.3 * spacing
            if not np.any(free & long):
                break
            self.triangles = np.delete(self.triangles, owners[free & long], axis=0)

    @property
    def sizes(self) -> np.ndarray:
        """Number of sides of each ring, int ``(R,)``; rings on the hull have fewer sides."""
        return np.bincount(self.triangles.ravel(), minlength=len(self.centres))

    @property
    def neighbours(self) -> np.ndarray:
        """Pairs ``(B, 2)`` of rings that share a bond."""
        edges, _, shared = self._edges()
        return edges[:-1][shared]

    def bond(self, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the two atoms of the bond that two rings share, and the two rings at its ends.

        Returns:
            Indices of triangles (atoms) and of rings; two each, or fewer on the hull or if the rings share no bond.
        """
        of_first, of_second = self.triangles == first, self.triangles == second
        atoms = np.flatnonzero(of_first.any(axis=1) & of_second.any(axis=1))
        return atoms, self.triangles[atoms][~(of_first | of_second)[atoms]]

    def rotate(self, first: int, second: int) -> None:
        """Rotate the bond that two rings share by 90° (Stone and Wales).

        Both rings lose a side; the two rings at the ends of the bond gain a side each.
        """
        (one, other), (near, far) = self.bond(first, second)
        self.triangles[one] = [near, far, first]
        self.triangles[other] = [near, far, second]

    def remove(self, first: int, second: int) -> None:
        """Remove both atoms of the bond that two rings share, and close the four open bonds in pairs.

        The two rings merge; among hexagons, this gives the 5-8-5 divacancy. The ring ``second`` becomes empty.
        """
        atoms, _ = self.bond(first, second)
        self.triangles = np.delete(self.triangles, atoms, axis=0)
        self.triangles[self.triangles == second] = first
        self.centres[first] = self.centres[[first, second]].mean(axis=0)

    def among_hexagons(self, first: int, second: int) -> bool:
        """Whether a defect at the bond that two rings share would be isolated.

        It is isolated if the four rings at the sides and ends of the bond, and all their neighbours, are hexagons.
        """
        _, ends = self.bond(first, second)
        touching = np.isin(self.triangles, [first, second, *ends]).any(axis=1)
        return len(ends) == 2 and bool(np.all(self.sizes[self.triangles[touching]] == 6))

    def mend(self, inside: np.ndarray) -> None:
        """Rotate bonds until the rings ``inside`` have five to seven sides.

        Each step makes the rotation that lowers the sum of (size - 6)² most, until no rotation lowers it.

        Args:
            inside: rings away from the hull, bool ``(R,)``.
        """
        for _ in range(100):
            sizes = self.sizes
            odd = inside & (np.abs(sizes - 6) > 1) & (sizes > 0)
            pairs = self.neighbours
            around = odd[pairs].any(axis=1)
            apexes = [(pair, self.bond(*pair)[1]) for pair in pairs[around]]
            # The two rings change from (s - 6)² to (s - 7)², the rings at the ends of the bond to (s - 5)².
            gains = [
                (int(2 * (sizes[pair] - 6).sum() - 2 * (sizes[ends] - 6).sum() - 4), pair)
                for pair, ends in apexes
                if len(ends) == 2 and inside[ends].all() and inside[pair].all()
            ]
            gain, best = max(gains, key=lambda each: each[0], default=(0, None))
            if best is None or gain <= 0:
                return
            self.rotate(*best)

    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """Unrelaxed positions of the atoms, ``(T, 2)`` Å, and their bonds ``(B, 2)``."""
        _, owners, shared = self._edges()
        return self.centres[self.triangles].mean(axis=1), np.column_stack([owners[:-1][shared], owners[1:][shared]])

    def _edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sorted edges of all triangles, ``(E, 2)``, their triangles, and whether each edge equals the next one."""
        edges = np.sort(self.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        order = np.argsort(edges[:, 0] * len(self.centres) + edges[:, 1], kind="stable")
        edges = edges[order]
        return edges, order // 3, np.all(edges[1:] == edges[:-1], axis=1)


def spread(centres: np.ndarray, spacing: float, steps: int = 30) -> np.ndarray:
    """Push apart ring centres ``(R, 2)`` closer than ``spacing``, so that adjacent pieces do not overlap."""
    for _ in range(steps):
        pairs = cKDTree(centres).query_pairs(0.999 * spacing, output_type="ndarray")
        between = centres[pairs[:, 1]] - centres[pairs[:, 0]]
        distance = np.linalg.norm(between, axis=1, keepdims=True)
        push = 0.25 * (spacing - distance) * between / np.maximum(distance, 1e-9)
        centres = centres.copy()
        np.add.at(centres, pairs[:, 0], -push)
        np.add.at(centres, pairs[:, 1], push)
    return centres


def even_out(points: np.ndarray) -> np.ndarray:
    """Make one step of Lloyd's algorithm: each point moves to the centroid of its Voronoi cell; outermost points stay.

    Args:
        points: ``(R, 2)`` Å.

    Returns:
        Moved points ``(R, 2)`` Å.
    """
    cells = Voronoi(points)
    ends = np.array(cells.ridge_vertices)
    closed = (ends >= 0).all(axis=1)
    moment, area = np.zeros_like(points), np.zeros(len(points))
    for side in range(2):
        owner = cells.ridge_points[:, side]
        # A cell consists of the triangles between its point and its sides.
        one, two = (cells.vertices[ends[closed, end]] - points[owner[closed]] for end in range(2))
        share = 0.5 * np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
        area += np.bincount(owner[closed], share, len(points))
        for axis in range(2):
            moment[:, axis] += np.bincount(owner[closed], share * (one + two)[:, axis] / 3.0, len(points))
    open_cells = np.unique(cells.ridge_points[~closed])
    shift = moment / np.maximum(area, 1e-9)[:, None]
    shift[open_cells] = 0.0
    return np.where(np.linalg.norm(shift, axis=1, keepdims=True) < np.ptp(points), points + shift, points)
