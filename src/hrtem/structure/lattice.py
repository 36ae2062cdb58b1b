"""Lattice fit to columns, with the displacement and strain of each column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError

#: Largest distance of a column from the end of a lattice vector, as a share of the shortest column distance.
TOLERANCE = 0.3
#: Number of nearest neighbours for difference vectors: enough to reach beyond a cell of eight columns.
NEIGHBOURS = 24
#: Largest number of columns used to find the lattice vectors.
ENOUGH = 3000
#: Fewest columns of a connected piece of the lattice; smaller pieces are left out.
SMALLEST_PIECE = 4
#: Minimum population of a site of the motif, as a share of the most populated site.
RARE = 0.1
#: Radius of the neighbourhood for the strain, in lengths of the longer lattice vector.
REACH = 1.6


@dataclass(frozen=True)
class Lattice:
    """A lattice fitted to N columns, with displacements and strains.

    Attributes:
        cell: ``(2, 2)`` Å; its rows are the reduced lattice vectors, ``positions = indices @ cell + origin``.
        origins: ``(M, 2)`` Å, origins of the M sites of the motif, which share the cell; the most populated site first.
        motif: ``(N,)`` int, site of the motif of each column; −1 for a column off the lattice.
        indices: ``(N, 2)`` int, multiples of the lattice vectors; 0 for a column off the lattice.
        displacements: ``(N, 2)`` Å from the fitted lattice; NaN for a column off the lattice.
        strains: ``(N, 3)``, xx, yy and xy components of the infinitesimal strain against the fitted lattice; NaN if
            the neighbours do not determine the strain.
        rotations: ``(N,)`` radians, from x towards y; NaN like the strains.
    """

    cell: np.ndarray
    origins: np.ndarray
    motif: np.ndarray
    indices: np.ndarray
    displacements: np.ndarray
    strains: np.ndarray
    rotations: np.ndarray

    def lengths(self) -> tuple[float, float, float]:
        """Lengths of both lattice vectors in Å and the angle between them in degrees."""
        a, b = np.linalg.norm(self.cell, axis=1)
        return float(a), float(b), float(np.degrees(np.arccos(self.cell[0] @ self.cell[1] / (a * b))))


def fit_lattice(columns: Columns, reference: np.ndarray | None = None) -> Lattice | None:
    """Fit the lattice of the largest crystal.

    A lattice vector must lead from most columns to another column of the same class, in both directions. Columns are
    indexed from neighbour to neighbour, which also follows bent lattices. An affine fit to all indexed columns gives
    the lattice. An affine fit to the neighbours of each column gives its strain (Hÿtch's peak pairs, by least squares).

    Args:
        columns: N columns.
        reference: ``(2, 2)`` Å, known lattice vectors as rows in the image's axes; strain and rotation then refer to
            these vectors instead of the fitted vectors.

    Returns:
        The lattice, or None if no lattice vectors are found.

    Raises:
        InputError: the reference differs from the fitted lattice by more than some per cent.
    """
    positions = columns.positions
    if len(positions) < 3 * SMALLEST_PIECE:
        return None
    nearest = float(np.median(cKDTree(positions).query(positions, 2)[0][:, 1]))
    vectors = _vectors(columns, nearest) if nearest > 0.0 else None
    if vectors is None:
        return None
    piece, indices = _counted(columns, vectors, TOLERANCE * nearest)
    used = np.flatnonzero(piece >= 0)
    if len(used) < 2 * SMALLEST_PIECE:
        return None
    cell, shifts = _fitted(positions[used], indices[used], piece[used])
    motif, steps, origins = _merged(cell, shifts, piece[used], TOLERANCE * nearest)
    sites, numbers = np.full(len(positions), -1), np.zeros_like(indices)
    sites[used] = motif[piece[used]]
    numbers[used] = indices[used] - steps[piece[used]]
    # Sites with few columns, from another grain or a defect, do not belong to the motif.
    population = np.bincount(sites[used])
    sites[np.isin(sites, np.flatnonzero(population < RARE * population.max()))] = -1
    used = np.flatnonzero(sites >= 0)
    _, sites[used] = np.unique(sites[used], return_inverse=True)  # renumber the remaining sites
    numbers[sites < 0] = 0
    cell, origins = _fitted(positions[used], numbers[used], sites[used])
    displacements = np.full_like(positions, np.nan)
    displacements[used] = positions[used] - numbers[used] @ cell - origins[sites[used]]
    against = cell if reference is None else _like(np.asarray(reference, float), cell)
    strains, rotations = _strains(positions, numbers, sites, against)
    return Lattice(cell, origins, sites, numbers, displacements, strains, rotations)


def _vectors(columns: Columns, nearest: float) -> np.ndarray | None:
    """Find two reduced lattice vectors, ``(2, 2)`` Å."""
    positions = columns.positions
    tree = cKDTree(positions)
    middle = np.argsort(np.linalg.norm(positions - np.median(positions, axis=0), axis=1))[:ENOUGH]
    _, near = tree.query(positions[middle], min(NEIGHBOURS + 1, len(positions)))
    across = (positions[near[:, 1:]] - positions[middle, None]).reshape(-1, 2)
    # Peaks of the histogram of difference vectors; the bin width is a tenth of the shortest column distance.
    reach, step = np.abs(across).max() + nearest, 0.1 * nearest
    edges = np.arange(-reach, reach + step, step)
    histogram = gaussian_filter(np.histogram2d(across[:, 0], across[:, 1], bins=edges)[0], 1.5)
    peaks = (histogram == maximum_filter(histogram, 5)) & (histogram > 0.2 * histogram.max())
    places = 0.5 * (edges[1:] + edges[:-1])[np.argwhere(peaks)]
    near_peak = cKDTree(across).query_ball_point(places, TOLERANCE * nearest)
    candidates = np.array([across[members].mean(axis=0) for members in near_peak if members])
    candidates = candidates[(candidates[:, 0] > 1e-6) | ((abs(candidates[:, 0]) <= 1e-6) & (candidates[:, 1] > 0))]
    there = []
    for vector in candidates:
        both = np.ones(len(middle), bool)
        for sign in (1.0, -1.0):
            distance, partner = tree.query(positions[middle] + sign * vector)
            both &= (distance < TOLERANCE * nearest) & (columns.labels[partner] == columns.labels[middle])
        there.append(both)
    return _smallest_cell(candidates, np.array(there, float), nearest)


def _smallest_cell(candidates: np.ndarray, there: np.ndarray, nearest: float) -> np.ndarray | None:
    """Reduced cell of least area among the cells whose vectors connect the most columns.

    Args:
        candidates: ``(V, 2)`` Å, possible lattice vectors.
        there: ``(V, N)``, 1 if the vector leads from the column to other columns in both directions.
        nearest: shortest distance of columns, Å.
    """
    if len(candidates) < 2:
        return None
    share = there @ there.T / there.shape[1]
    area = np.abs(candidates[:, None, 0] * candidates[None, :, 1] - candidates[:, None, 1] * candidates[None, :, 0])
    length = np.linalg.norm(candidates, axis=1)
    possible = area > 0.3 * np.outer(length, length)
    if not possible.any() or share[possible].max() < 0.03:
        return None
    possible &= share >= 0.8 * share[possible].max()
    cost = np.where(possible, area + 1e-3 * nearest * (length[:, None] + length[None]), np.inf)
    first, second = np.unravel_index(np.argmin(cost), cost.shape)
    a, b = candidates[first], candidates[second]
    while True:  # Lagrange-Gauss reduction
        if a @ a > b @ b:
            a, b = b, a
        turns = np.round(a @ b / (a @ a))
        if turns == 0:
            break
        b = b - turns * a
    # First vector along +x, second within half a turn of it.
    a = a if (a[0], a[1]) > (0.0, 0.0) else -a
    return np.array([a, b if a[0] * b[1] - a[1] * b[0] > 0 else -b])


def _counted(columns: Columns, vectors: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Index the columns from neighbour to neighbour: connected piece ``(N,)``, −1 for none, and indices ``(N, 2)``."""
    positions, number = columns.positions, len(columns)
    tree = cKDTree(positions)
    ones, others, steps = [], [], []
    for axis, vector in enumerate(vectors):
        distance, partner = tree.query(positions + vector)
        back, origin = tree.query(positions - vector)
        # The two columns must be each other's neighbours.
        mutual = (distance < tolerance) & (back[partner] < tolerance) & (origin[partner] == np.arange(number))
        ones.append(np.flatnonzero(mutual))
        others.append(partner[mutual])
        steps.append(np.full(mutual.sum(), axis))
    start, end, along_axis = np.concatenate(ones), np.concatenate(others), np.concatenate(steps)
    graph = coo_matrix((np.ones(len(start)), (start, end)), shape=(number, number))
    _, label = connected_components(graph, directed=False)
    large = np.bincount(label) >= SMALLEST_PIECE
    piece = np.where(large, np.cumsum(large) - 1, -1)[label]
    step = {(int(one), int(other)): int(along) for one, other, along in zip(start, end, along_axis, strict=True)}
    indices = np.zeros((number, 2), int)
    # An additional node, linked to the first column of each piece, makes one walk of all pieces.
    first = np.unique(label, return_index=True)[1][large]
    one, other = np.r_[start, end, np.full(len(first), number)], np.r_[end, start, first]
    linked = coo_matrix((np.ones(len(one)), (one, other)), shape=(number + 1, number + 1)).tocsr()
    order, before = breadth_first_order(linked, number)
    for column, origin_of in zip(order.tolist(), before[order].tolist(), strict=True):
        if column == number or origin_of == number:
            continue
        along = step.get((origin_of, column))
        indices[column] = indices[origin_of]
        if along is not None:
            indices[column, along] += 1
        else:
            indices[column, step[column, origin_of]] -= 1
    return piece, indices


def _fitted(positions: np.ndarray, indices: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit one cell ``(2, 2)`` and the origins ``(G, 2)`` of all groups by least squares, and refit without outliers."""
    keep = np.ones(len(positions), bool)
    number = group.max() + 1

    def means(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
        count = np.bincount(group[keep], minlength=number).clip(min=1)
        return (
            np.column_stack([np.bincount(group[keep], values[keep, axis], number) for axis in (0, 1)]) / count[:, None]
        )

    for attempt in range(2):
        place, index = means(positions, keep), means(indices.astype(float), keep)
        cell = np.linalg.lstsq((indices - index[group])[keep], (positions - place[group])[keep], rcond=None)[0]
        origins = place - index @ cell
        off = np.linalg.norm(positions - indices @ cell - origins[group], axis=1)
        if attempt == 0:
            good = off <= 4.0 * np.median(off) + 1e-9
            # Groups of outliers only are kept, so that each group has an origin.
            lost = ~np.isin(group, np.unique(group[good]))
            keep = good | lost
    return cell, origins


def _merged(
    cell: np.ndarray, origins: np.ndarray, piece: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge pieces of one lattice that are separated by a gap: their origins differ by a lattice vector.

    Returns:
        Site of the motif of each of the P pieces, ``(P,)``; index offset of each piece, in lattice vectors, ``(P, 2)``;
        origins of the sites, ``(M, 2)``.
    """
    inverse = np.linalg.inv(cell)
    motif, steps = np.empty(len(origins), int), np.zeros((len(origins), 2), int)
    kept = np.empty((0, 2))
    for one in np.argsort(-np.bincount(piece, minlength=len(origins)), kind="stable"):
        across = origins[one] - kept
        whole = np.round(across @ inverse)
        same = np.flatnonzero(np.linalg.norm(across - whole @ cell, axis=1) < tolerance)
        if len(same):
            motif[one], steps[one] = same[0], -whole[same[0]].astype(int)
        else:
            motif[one] = len(kept)
            kept = np.vstack([kept, origins[one]])
    return motif, steps, kept


def _like(reference: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Vectors of the reference lattice that correspond to the fitted cell without strain, ``(2, 2)`` Å."""
    if reference.shape != (2, 2) or abs(np.linalg.det(reference)) < 1e-6:
        raise InputError(f"reference must be two lattice vectors in Å that span a cell, got {reference.tolist()}.")
    whole = np.round(cell @ np.linalg.inv(reference))
    if abs(round(np.linalg.det(whole))) != 1:
        raise InputError(
            f"reference must be vectors of the lattice that was found, {np.round(cell, 3).tolist()} Å, but for a small "
            f"strain and turn, got {reference.tolist()}."
        )
    return whole @ reference


def _strains(
    positions: np.ndarray, indices: np.ndarray, motif: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Strain ``(N, 3)`` and rotation ``(N,)`` around each column, by least squares over its neighbours."""
    reach = REACH * np.linalg.norm(cell, axis=1).max()
    ideal = indices @ cell
    sums, moments = np.zeros((2, len(positions), 2, 2))
    for site in range(motif.max() + 1):
        mine = np.flatnonzero(motif == site)
        one, other = mine[cKDTree(ideal[mine]).query_pairs(reach, output_type="ndarray").reshape(-1, 2)].T
        before, after = ideal[other] - ideal[one], positions[other] - positions[one]
        for column in (one, other):  # squares: the sign of a difference does not matter
            np.add.at(moments, column, before[:, :, None] * before[:, None])
            np.add.at(sums, column, before[:, :, None] * after[:, None])
    strains, rotations = np.full((len(positions), 3), np.nan), np.full(len(positions), np.nan)
    # Neighbours on one line do not determine the strain perpendicular to it.
    spread = np.linalg.eigvalsh(moments)
    known = spread[:, 0] > 0.1 * np.maximum(spread[:, 1], 1e-9)
    gradient = np.linalg.solve(moments[known], sums[known]) - np.eye(2)  # [from axis, displaced axis]
    strains[known] = np.column_stack(
        [gradient[:, 0, 0], gradient[:, 1, 1], 0.5 * (gradient[:, 0, 1] + gradient[:, 1, 0])]
    )
    rotations[known] = 0.5 * (gradient[:, 0, 1] - gradient[:, 1, 0])
    return strains, rotations
