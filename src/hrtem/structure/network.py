"""Bonds between neighbouring columns, and the rings of these bonds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import Delaunay, QhullError, cKDTree

#: Longest bond, in typical bond lengths. The diagonals of a pentagon are 1.62, of a square 1.41.
LONGEST = 1.35
#: Bonds longer than this many typical bond lengths are diagonals if an atom has more than three bonds.
DIAGONAL = 1.1
#: Opening angle of the two bonds of a rim atom, radians, above which the third bond is missing on that side. The angle
#: is 240° beside a missing atom and 150° in a distorted octagon.
OPEN_ANGLE = np.radians(180.0)


@dataclass(frozen=True)
class Bonds:
    """Neighbour graph of N columns, which is planar because its bonds are edges of the Delaunay triangulation.

    Attributes:
        pairs: ``(B, 2)`` int, indices of bonded columns.
        number: N.
        length: median bond length, Å; NaN without bonds.
    """

    pairs: np.ndarray
    number: int
    length: float

    @cached_property
    def coordination(self) -> np.ndarray:
        """Number of bonds of each column, int ``(N,)``."""
        return np.bincount(self.pairs.ravel(), minlength=self.number)


@dataclass(frozen=True)
class Rings:
    """Closed rings: the inner faces of the graph. Rings cut by the border of the image are not closed.

    Attributes:
        members: columns of each of the R rings in order, int ``(K,)``.
        corners: positions of these columns, ``(K, 2)`` Å.
        missing: ``(R,)`` int, number of atoms of a three-bonded sheet that would fill the ring; 0 without open bonds.
    """

    members: list[np.ndarray]
    corners: list[np.ndarray]
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of sides of each ring, int ``(R,)``."""
        return np.array([len(ring) for ring in self.members], int)

    @cached_property
    def centres(self) -> np.ndarray:
        """Mean of the corners of each ring, ``(R, 2)`` Å."""
        return np.array([corners.mean(axis=0) for corners in self.corners]).reshape(-1, 2)

    @cached_property
    def whole(self) -> np.ndarray:
        """Mask of the rings without missing atoms, bool ``(R,)``."""
        return self.missing == 0

    def counts(self) -> dict[int, int]:
        """Number of complete rings of each size."""
        return dict(sorted(Counter(self.sizes[self.whole].tolist()).items()))


def find_bonds(positions: np.ndarray) -> Bonds:
    """Find the bonds between neighbours; the typical bond length follows from the positions.

    Args:
        positions: ``(N, 2)`` Å.
    """
    none = Bonds(np.empty((0, 2), int), len(positions), float("nan"))
    if len(positions) < 3:
        return none
    try:
        triangles = Delaunay(positions).simplices
    except QhullError:  # all on one line
        return none
    edges = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    lengths = np.linalg.norm(positions[edges[:, 0]] - positions[edges[:, 1]], axis=1)
    distances = cKDTree(positions).query(positions, 2)[0][:, 1]
    nearest = float(np.median(distances[distances > 0.0])) if distances.any() else float(lengths.min())
    # The nearest neighbour is closer than the average neighbour, so the typical length is found again from the median.
    typical = float(np.median(lengths[lengths <= LONGEST * nearest]))
    short = lengths <= LONGEST * typical
    return Bonds(edges[short], len(positions), float(np.median(lengths[short])))


def three_bonded(positions: np.ndarray, graph: Bonds) -> Bonds:
    """Remove diagonals from the bonds of a three-bonded sheet: the long bonds of atoms with more than three bonds.

    A fourth bond of normal length stays, so that the user sees the surplus atom.

    Args:
        positions: ``(N, 2)`` Å.
        graph: neighbour graph of these positions.
    """
    pairs = graph.pairs
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    coordination = graph.coordination.copy()
    keep = np.ones(len(pairs), bool)
    for bond in np.argsort(-lengths):
        if lengths[bond] < DIAGONAL * graph.length:
            break
        if coordination[pairs[bond]].max() > 3:
            keep[bond] = False
            coordination[pairs[bond]] -= 1
    return Bonds(pairs[keep], graph.number, graph.length)


def find_rings(positions: np.ndarray, graph: Bonds) -> Rings:
    """Find the closed rings of a graph.

    Args:
        positions: ``(N, 2)`` Å.
        graph: bonds between these positions.
    """
    faces = _faces(positions, _cyclic(graph))
    # The walk around the outer face has the opposite orientation. A walk that visits a column twice is not a ring.
    areas = np.array([_area(positions[face]) for face in faces])
    kept = [n for n, face in enumerate(faces) if areas[n] > 0.0 and len(set(face.tolist())) == len(face)]
    members = [faces[n] for n in kept]
    corners = [positions[face] for face in members]
    missing = np.zeros(len(members), int)
    two_bonds = graph.coordination < 3
    for n, face in enumerate(members):
        if two_bonds[face].any():
            missing[n] = _missing(corners[n], two_bonds[face], areas[kept[n]], graph.length)
    return Rings(members, corners, missing)


def _cyclic(graph: Bonds) -> np.ndarray:
    """Bonds ``(B, 2)`` without dangling chains."""
    pairs = graph.pairs
    while True:
        ends = np.bincount(pairs.ravel(), minlength=graph.number) == 1
        loose = ends[pairs].any(axis=1)
        if not loose.any():
            return pairs
        pairs = pairs[~loose]


def _faces(positions: np.ndarray, pairs: np.ndarray) -> list[np.ndarray]:
    """Columns around each face of a planar graph, including the outer faces."""
    start, end = np.concatenate([pairs, pairs[:, ::-1]]).T
    twin = np.roll(np.arange(len(start)), len(pairs))
    direction = positions[end] - positions[start]
    order = np.lexsort((np.arctan2(direction[:, 1], direction[:, 0]), start))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    # Arriving at a column, leave by the next bond clockwise: the face stays on the left.
    degree = np.bincount(start, minlength=len(positions))
    first = np.cumsum(degree) - degree
    before = first[start] + (place - first[start] - 1) % degree[start]
    following = order[before][twin]
    faces, seen = [], np.zeros(len(start), bool)
    for edge in range(len(start)):
        walk = []
        while not seen[edge]:
            seen[edge] = True
            walk.append(start[edge])
            edge = following[edge]
        if walk:
            faces.append(np.array(walk))
    return faces


def _area(polygon: np.ndarray) -> float:
    """Signed area of a polygon ``(K, 2)``, Å²."""
    x, y = (polygon - polygon[0]).T
    return 0.5 * float(x[:-1] @ y[1:] - y[:-1] @ x[1:])  # the side back to the first corner, the origin, adds 0


def _missing(polygon: np.ndarray, two_bonds: np.ndarray, area: float, length: float) -> int:
    """Number of honeycomb atoms that would fill a ring.

    This is the number of atoms of a honeycomb in the area of the ring, minus the share of the K corner atoms that lies
    inside the ring: (K − 2)/2, from their angles. A single vacancy is a ring of twelve or, reconstructed, of nine.

    Args:
        polygon: ``(K, 2)`` Å.
        two_bonds: bool ``(K,)``, corners with fewer than three bonds.
        area: area of the polygon, Å².
        length: bond length, Å.
    """
    before, after = np.roll(polygon, 1, axis=0) - polygon, np.roll(polygon, -1, axis=0) - polygon
    turn = np.arctan2(after[:, 0] * before[:, 1] - after[:, 1] * before[:, 0], np.sum(after * before, axis=1))
    if not np.any(two_bonds & (turn % (2.0 * np.pi) > OPEN_ANGLE)):
        return 0
    atom = 0.75 * np.sqrt(3.0) * length**2
    return max(1, round(area / atom - 0.5 * (len(polygon) - 2)))
