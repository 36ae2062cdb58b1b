"""Sites, the possible positions of columns, occupied or vacant, and the assignment of detections to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.movies.tracking.detections import Detections
from hrtem.movies.tracking.registration import SAME, Pose
from hrtem.structure import fit_lattice

#: Largest distance of neighbours, in shortest distances; includes all six neighbours of fcc columns along [110].
BESIDE = 1.35
#: Largest distance of a column from its site, as a share of the shortest distance of sites.
REACH = 0.4
#: Minimum distance of an off-lattice site from lattice sites, as a share of the shortest distance.
ROOM = 0.75
#: Minimum share of the frames with a column found at a site; columns must also be found in at least three frames.
OFTEN = 0.05
#: Minimum number of neighbours that support a column: the hollow of a closest packed facet.
HELD = 2
#: Kinds of sites.
BULK, SURFACE, SUPPORT = 0, 1, 2
KINDS = ("bulk", "surface", "support")


@dataclass(frozen=True)
class Sites:
    """S sites of a particle, with drift removed.

    Attributes:
        positions: ``(S, 2)`` Å.
        beside: int ``(S, K)``, neighbours of each site, filled up with −1.
        cell: ``(2, 2)`` Å, rows are lattice vectors; NaN if no lattice was found.
        indices: ``(S, 2)`` int, multiples of the lattice vectors; 0 off the lattice.
        on_lattice: bool ``(S,)``.
        spacing: shortest distance of two sites, Å.
        full: number of neighbours of a site inside the particle.
        supported: bool ``(S,)``, sites next to a support, or in it.
    """

    positions: np.ndarray
    beside: np.ndarray
    cell: np.ndarray
    indices: np.ndarray
    on_lattice: np.ndarray
    spacing: float
    full: int
    supported: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def coordination(self, occupied: np.ndarray) -> np.ndarray:
        """Number of occupied neighbours ``(..., S)``, for occupancies or states ``(..., S)``."""
        padded = np.concatenate([occupied, np.zeros((*occupied.shape[:-1], 1), occupied.dtype)], axis=-1)
        return padded[..., self.beside].sum(axis=-1)

    def kinds(self, occupied: np.ndarray) -> np.ndarray:
        """Kind of each site, ``(S,)`` indices of :data:`KINDS`, from the mean occupancy ``(S,)``.

        Sites at the support are ``support``; other sites are ``bulk`` if all neighbours stay, else ``surface``.
        """
        inside = self.coordination(np.minimum(occupied, 1.0)) > self.full - 0.5
        return np.where(self.supported, SUPPORT, np.where(inside, BULK, SURFACE))


def find_sites(frames: Sequence[Detections], poses: Sequence[Pose]) -> Sites | None:
    """Fit the sites of a movie.

    Positions at which columns were found repeatedly are sites. The lattice of the largest grain is fitted to them, see
    :func:`hrtem.structure.fit_lattice`, and vacant lattice sites are added around them. In a particle with several
    grains, the other grains contribute only the off-lattice positions at which columns were found.

    Returns:
        The sites, or None if there are too few columns.
    """
    places, weights = _places(frames, poses)
    known = sum(pose.known for pose in poses)
    keep = weights >= max(min(3.0, 0.5 * known), OFTEN * known)
    strong = weights >= 0.5 * known
    if strong.sum() < 3:
        return None
    spacing = float(np.median(cKDTree(places[strong]).query(places[strong], 2)[0][:, 1]))
    fit = fit_lattice(Columns(places[strong], np.zeros(strong.sum(), int), ("column",)))
    if fit is None:
        positions, indices = places[keep], np.zeros((int(keep.sum()), 2), int)
        cell, on_lattice = np.full((2, 2), np.nan), np.zeros(len(positions), bool)
    else:
        positions, indices, on_lattice = _continued(places, keep, strong, fit.cell, fit.origins[0], spacing)
        cell = fit.cell
        spacing = _shortest(cell)
    beside = _beside(positions, BESIDE * spacing)
    usual = int(np.quantile((beside >= 0).sum(axis=1), 0.9, method="nearest"))
    full = usual if fit is None else len(_steps(cell))
    return Sites(positions, beside, cell, indices, on_lattice, spacing, full, np.zeros(len(positions), bool))


def observe_sites(
    sites: Sites, found: Detections, pose: Pose, extent: tuple[float, float], border: float = 1.0
) -> np.ndarray:
    """Probability ``(S,)`` of a column at each site from this frame alone: 0 without a detection, NaN if not visible.

    Columns and sites are matched one to one, with the least sum of squared distances.

    Args:
        sites: sites of the movie.
        found: detections in the frame.
        pose: pose of the frame.
        extent: largest x and y of the frame, Å.
        border: minimum distance of a visible site from the edges of the frame, Å.
    """
    answer = np.zeros(len(sites))
    if not pose.known:
        return np.full(len(sites), np.nan)
    there = pose.away(sites.positions)
    seen = np.all((there >= border) & (there <= np.array(extent) - border), axis=1)
    mine, theirs = link_nearest(pose.home(found.positions.astype(float)), sites)
    answer[theirs] = found.probabilities[mine]
    answer[~seen] = np.nan
    return answer


def link_nearest(positions: np.ndarray, sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Match drift-free ``positions`` ``(N, 2)`` Å with sites: indices of the positions and the sites, each ``(P,)``."""
    reach = REACH * sites.spacing
    away = np.sum((sites.positions[:, None] - positions[None]) ** 2, axis=2)
    cost = np.minimum(away - reach**2, 0.0)
    site, place = linear_sum_assignment(cost)
    kept = cost[site, place] < 0.0
    return place[kept], site[kept]


def _places(frames: Sequence[Detections], poses: Sequence[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``(R, 2)`` Å at which columns were found, and the sums ``(R,)`` of their probabilities.

    The sums are accumulated frame by frame, without keeping all columns or all pairs of columns in memory.
    """
    places, weights = np.zeros((0, 2)), np.zeros(0)
    sums = np.zeros((0, 2))
    for number, (found, pose) in enumerate(zip(frames, poses, strict=True)):
        if not pose.known or not len(found):
            continue
        home = pose.home(found.positions.astype(float))
        chances = found.probabilities.astype(float)
        which = np.full(len(home), -1)
        if len(places):
            distance, nearest = cKDTree(places).query(home, distance_upper_bound=SAME)
            which = np.where(np.isfinite(distance), nearest, -1)
        old = which >= 0
        np.add.at(weights, which[old], chances[old])
        np.add.at(sums, which[old], chances[old, None] * home[old])
        sums = np.concatenate([sums, chances[~old, None] * home[~old]])
        weights = np.concatenate([weights, chances[~old]])
        places = sums / np.maximum(weights, 1e-9)[:, None]
        if number % 50 == 49:
            places, weights, sums = _joined(places, weights, sums)
    places, weights, _ = _joined(places, weights, sums)
    return places, weights


def _joined(places: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge positions that are closer than :data:`SAME`; a weak position joins the strongest position nearby."""
    if not len(places):
        return places, weights, sums
    order = np.argsort(-weights, kind="stable")
    leader = np.full(len(places), -1)
    tree = cKDTree(places)
    for place in order:
        if leader[place] < 0:
            near = np.array(tree.query_ball_point(places[place], SAME))
            leader[near[leader[near] < 0]] = place
    _, group = np.unique(leader, return_inverse=True)
    total = np.bincount(group, weights)
    together = np.column_stack([np.bincount(group, sums[:, axis]) for axis in (0, 1)])
    return together / np.maximum(total, 1e-9)[:, None], total, together


def _continued(
    places: np.ndarray, keep: np.ndarray, strong: np.ndarray, cell: np.ndarray, origin: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the sites on and off the lattice, their indices, and a mask of the lattice sites.

    The position of a vacant site is extrapolated from the nearest occupied sites, which follows a strained lattice.
    Vacant lattice sites with at least :data:`HELD` neighbours are added in two rounds: around the sites with columns,
    and around the result of the first round.
    """
    inverse = np.linalg.inv(cell)
    whole = np.round((places - origin) @ inverse)
    off = np.linalg.norm(places - origin - whole @ cell, axis=1)
    # Columns of the largest grain: the columns of a twin are off this lattice, except near the common plane.
    mine = off < REACH * spacing
    table: dict[tuple[int, int], tuple[float, int]] = {}
    for number in np.flatnonzero(mine & keep):
        key = (int(whole[number, 0]), int(whole[number, 1]))
        if key not in table or off[number] < table[key][0]:
            table[key] = (float(off[number]), int(number))
    held = {key: places[number] for key, (_, number) in table.items()}
    sure = {key: place for key, place in held.items() if strong[table[key][1]]}
    steps = _steps(cell)
    around = dict(held)
    for _ in range(2):
        counts: dict[tuple[int, int], int] = {}
        for key in around:
            for i, j in steps:
                beside = (key[0] + i, key[1] + j)
                if beside not in around:
                    counts[beside] = counts.get(beside, 0) + 1
        for key, times in counts.items():
            if times >= HELD:
                around[key] = _predicted(key, sure or held, cell, origin)
    keys = list(around)
    on = np.array([around[key] for key in keys]).reshape(-1, 2)
    others = places[keep & ~mine]
    if len(on) and len(others):
        # There is no room for a further site between lattice sites.
        others = others[cKDTree(on).query(others)[0] > ROOM * spacing]
    positions = np.concatenate([on, others])
    indices = np.concatenate([np.array(keys, int).reshape(-1, 2), np.zeros((len(others), 2), int)])
    return positions, indices, np.arange(len(positions)) < len(on)


def _steps(cell: np.ndarray) -> list[tuple[int, int]]:
    """Lattice vectors to the neighbours of a site, as index pairs."""
    near = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if i or j]
    return [step for step in near if np.linalg.norm(np.array(step) @ cell) < BESIDE * _shortest(cell)]


def _shortest(cell: np.ndarray) -> float:
    return float(min(np.linalg.norm(vector) for vector in (*cell, cell[0] - cell[1], cell[0] + cell[1])))


def _predicted(
    key: tuple[int, int], held: dict[tuple[int, int], np.ndarray], cell: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Position of a vacant site, extrapolated from the six nearest occupied sites."""
    keys = np.array(list(held), float)
    away = np.linalg.norm((keys - np.array(key)) @ cell, axis=1)
    near = np.argsort(away, kind="stable")[:6]
    places = np.array(list(held.values()))[near]
    off = places - origin - keys[near] @ cell
    return origin + np.array(key, float) @ cell + off.mean(axis=0)


def _beside(positions: np.ndarray, reach: float) -> np.ndarray:
    """Neighbours ``(S, K)`` of each site within ``reach``, filled up with −1."""
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray")
    one = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort([other, one])
    one, other = one[order], other[order]
    numbers = np.bincount(one, minlength=len(positions))
    answer = np.full((len(positions), max(int(numbers.max(initial=0)), 1)), -1)
    answer[one, np.arange(len(one)) - np.repeat(np.cumsum(numbers) - numbers, numbers)] = other
    return answer


def average_seen(seen: np.ndarray) -> np.ndarray:
    """Mean ``(S,)`` of ``seen`` ``(T, S)`` over the frames in which each site was visible; 0 if it never was."""
    return np.nan_to_num(seen).sum(axis=0) / np.maximum(np.isfinite(seen).sum(axis=0), 1)


def on_support(sites: Sites, occupied: np.ndarray, texture: np.ndarray) -> Sites:
    """Mark the sites next to a support or in it.

    Beside the particle, an image shows vacuum or a support. The drift-corrected mean of the frames is smooth in vacuum
    and shows fringes on a support. Vacant sites with a texture like a crystal, in connected groups of at least three,
    belong to the support. Columns next to a site of the support are also marked.

    Args:
        sites: sites of the movie.
        occupied: mean occupancy ``(S,)``.
        texture: standard deviation of the mean image around each site ``(S,)``, NaN if the site was not visible.
    """
    there = occupied > 0.5
    # A site that is occupied from time to time has the texture of a column and does not count as vacant.
    vacant = (occupied < 0.2) & np.isfinite(texture)
    crystal = np.nanmedian(texture[there]) if np.any(there & np.isfinite(texture)) else np.nan
    if not vacant.any() or not np.isfinite(crystal):
        return sites
    # The least textured vacant sites contain only noise. The texture of a support must exceed this level by 40 % of the
    # difference to the crystal.
    quiet = float(np.quantile(texture[vacant], 0.1))
    textured = vacant & (texture > quiet + 0.4 * max(crystal - quiet, 0.0)) & (texture > 1.5 * quiet)
    one = np.repeat(np.arange(len(sites)), sites.beside.shape[1])
    other = sites.beside.ravel()
    linked_both = (other >= 0) & textured[one] & textured[other]
    graph = coo_array((np.ones(linked_both.sum()), (one[linked_both], other[linked_both])), shape=(len(sites),) * 2)
    _, piece = connected_components(graph, directed=False)
    sizes = np.bincount(piece[textured], minlength=piece.max() + 1)
    support = textured & (sizes[piece] >= 3)
    touching = there & (sites.coordination(support.astype(int)) >= 1)
    return replace(sites, supported=support | touching)
