"""Kinetic Monte Carlo simulation of atomic rows that hop over the surface of a particle, with known rates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range, parse_number, parse_whole
from hrtem.samples.cluster import SHELL
from hrtem.samples.gold import BORDER, Gold, ParticleScene

#: Minimum number of neighbouring rows that support a row: the hollow of a closest packed facet.
HELD = 2
#: Largest number of hops in a movie; with more hops, single hops are no longer distinguishable.
MOST_HOPS = 20_000


@dataclass(frozen=True)
class Trajectory:
    """Trajectory of a particle: its initial rows and all hops.

    Attributes:
        scene: the initial particle with its surroundings.
        lines: ``(L, 2)`` Å, image position of each line of sites along the beam, occupied or not.
        neighbours: bool ``(L, L)``, neighbouring lines.
        standing: bool ``(L,)``, lines that touch the support; rows on these lines never move.
        times: ``(H,)`` s, times of the hops.
        paths: ``(H, 2)`` int, initial and final line of each hop.
        states: ``(H + 1, L)`` int, the number of atoms on each line before the first hop and after each hop.
        rates: ``(H + 1, L)`` 1/s, the rate at which each row left its line in each of these states: the hop rate
            along one path times the number of open paths.
        duration: duration of the movie, s.
        sites: lattice sites of each line.
    """

    scene: ParticleScene
    lines: np.ndarray
    neighbours: np.ndarray
    standing: np.ndarray
    times: np.ndarray
    paths: np.ndarray
    states: np.ndarray
    rates: np.ndarray
    duration: float
    sites: tuple[np.ndarray, ...]

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct states ``(S, L)`` in order of first appearance, and their index ``(H + 1,)`` for each state."""
        _, first, which = np.unique(self.states, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return self.states[first[order]], rank[which.reshape(-1)]

    def structure(self, state: np.ndarray) -> tuple[Atoms, Columns]:
        """Atoms and columns of a state ``(L,)``; the atoms of a row are around the middle of the particle's depth."""
        filled = []
        for line in np.flatnonzero(state):
            depth = self.scene.positions(self.sites[line])[:, 2] - self.scene.place[2]
            filled.append(self.sites[line][np.argsort(np.abs(depth), kind="stable")[: state[line]]])
        return self.scene.structure(np.concatenate(filled))

    def shares(self, start: float, end: float) -> dict[int, float]:
        """Share of the time from ``start`` to ``end`` (s) spent in each distinct state."""
        _, which = self.distinct
        edges = np.concatenate([[-np.inf], self.times, [np.inf]])
        spent = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0.0, None) / (end - start)
        answer: dict[int, float] = {}
        for place in np.flatnonzero(spent):
            answer[int(which[place])] = answer.get(int(which[place]), 0.0) + float(spent[place])
        return answer

    def occupancy(self, edges: np.ndarray) -> np.ndarray:
        """Share ``(T, L)`` of the time between consecutive ``edges`` ``(T + 1,)`` s with each line occupied."""
        states, _ = self.distinct
        answer = np.zeros((len(edges) - 1, len(self.lines)))
        for number, (start, end) in enumerate(pairwise(edges)):
            for state, share in self.shares(float(start), float(end)).items():
                answer[number] += share * (states[state] > 0)
        return answer

    def coordination(self) -> np.ndarray:
        """Number of occupied neighbours of each line in each state, ``(H + 1, L)``."""
        return _beside(self.neighbours, self.states)

    def dwells(self) -> np.ndarray:
        """Time spent in each state, ``(H + 1,)`` s."""
        return np.diff(np.concatenate([[0.0], self.times, [self.duration]]))


class Hopping:
    """Generator of trajectories: draws a particle and the hops of the rows on its surface.

    In images, surface diffusion appears as columns that appear and vanish. In this model, each row of atoms along the
    beam moves as a whole. This move represents the many steps of single atoms, too fast and too faint to be visible,
    by which a column transfers its atoms to a neighbouring column. The rows form a lattice gas on the lines of the
    crystal; each line has six neighbours in the projection along [110]. A row with n occupied neighbours hops to any
    vacant neighbouring line with at least two other occupied neighbours, at the rate

        rate × exp(-binding (n - 2))

    along each of these paths. Detailed balance holds for an energy of ``binding`` kT per pair of neighbours. Hops are
    drawn by the direct method (D. T. Gillespie, J. Phys. Chem. 81 (1977) 2340). Rows on the support, inside the
    particle and with five neighbours do not move.

    Args:
        sample: the particle on any support, see :class:`hrtem.samples.Gold`. Twins are not supported.
        rate: hop rate of a row with two neighbours along one open path, 1/s.
        binding: energy per pair of neighbouring rows, kT.
        rows: number of rows added on the facets at the beginning, a number or a range.
        row_length: number of atoms in each added row, a number or a range.
        shortest: rows with fewer atoms are removed at the beginning, because they would hardly be visible.

    Raises:
        InputError: a setting is out of range, or the particle has twins.
    """

    def __init__(
        self,
        sample: Gold,
        rate: float,
        binding: float = 1.5,
        rows: Any = (4, 7),
        row_length: Any = (4, 6),
        shortest: int = 3,
    ) -> None:
        if not isinstance(sample, Gold) or sample.twin > 0.0:
            raise InputError("sample of a movie must be gold with sample.twin=0: rows hop on the lines of one crystal.")
        self.sample = sample
        self.rate = parse_number("dynamics.rate", rate, unit="1/s", minimum=0.0, maximum=1e6)
        self.binding = parse_number("dynamics.binding", binding, unit="kT", minimum=0.0, maximum=20.0)
        self.rows = Range.parse("dynamics.rows", rows, minimum=0, maximum=100)
        self.row_length = Range.parse("dynamics.row_length", row_length, unit="atoms", minimum=1, maximum=100)
        self.shortest = parse_whole("dynamics.shortest", shortest, unit="atoms", minimum=1, maximum=20)

    def __call__(self, duration: float, rng: np.random.Generator) -> Trajectory:
        """Draw a particle and its trajectory over ``duration`` seconds."""
        scene = self.sample.scene(rng)
        lines, sites, state = self._lines(scene)
        tree = cKDTree(lines)
        # 1.35 times the distance of the closest pair includes the six neighbours, but no second neighbours.
        reach = 1.35 * tree.query(lines, 2)[0][:, 1].min()
        neighbours = np.zeros((len(lines), len(lines)), bool)
        one, other = tree.query_pairs(reach, output_type="ndarray").T
        neighbours[one, other] = neighbours[other, one] = True
        standing, open_lines = self._support(scene, lines, state > 0)
        state = self._dressed(state, neighbours, standing, open_lines, rng)
        most = np.array([len(line) for line in sites])
        states, rates = [state.copy()], []
        times: list[float] = []
        paths: list[tuple[int, int]] = []
        now = 0.0
        while True:
            leaves, paths_open = self._rates(state, neighbours, standing, open_lines, most)
            rates.append(leaves)
            total = leaves.sum()
            now += rng.exponential(1.0 / total) if total > 0.0 else np.inf
            if now >= duration:
                break
            if len(times) == MOST_HOPS:
                said = f"{self.rate:g} 1/s for {duration:g} s"
                raise InputError(f"dynamics.rate must leave a movie below {MOST_HOPS:,} hops, got {said}.")
            start = int(rng.choice(len(lines), p=leaves / total))
            end = int(rng.choice(np.flatnonzero(paths_open[start])))
            state = state.copy()
            state[end], state[start] = state[start], 0
            times.append(now)
            paths.append((start, end))
            states.append(state)
        return Trajectory(
            scene,
            lines,
            neighbours,
            standing,
            np.array(times),
            np.array(paths, int).reshape(-1, 2),
            np.array(states),
            np.array(rates),
            duration,
            tuple(sites),
        )

    def _rates(
        self, state: np.ndarray, neighbours: np.ndarray, standing: np.ndarray, open_lines: np.ndarray, most: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rate ``(L,)`` at which each row leaves, 1/s, and its open paths, bool ``(L, L)``."""
        occupied = state > 0
        number = _beside(neighbours, state)
        # The hopping row does not support itself on its new line, which therefore has one supporting neighbour less.
        held = number[None, :] - 1 >= HELD
        mobile = occupied & ~standing & (number <= 4)
        paths = mobile[:, None] & neighbours & ~occupied & open_lines & held & (most >= state[:, None])
        along = self.rate * np.exp(-self.binding * np.maximum(number - HELD, 0))
        return along * paths.sum(axis=1), paths

    def _lines(self, scene: ParticleScene) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Lines of sites in and around the particle: positions ``(L, 2)`` Å, sites, and numbers of atoms."""
        size = np.linalg.norm(scene.sites - scene.sites.mean(axis=0), axis=1).max()
        centre = np.round(scene.sites.mean(axis=0) / 6.0).astype(int) * 6
        around = self.sample.crystal.sites(size + SHELL) + centre
        across = np.cross(around, scene.axis)
        keys, which = np.unique(across, axis=0, return_inverse=True)
        which = which.reshape(-1)
        drawn = {tuple(key): number for key, number in zip(*_counted(np.cross(scene.sites, scene.axis)), strict=True)}
        sites = [around[which == line] for line in range(len(keys))]
        state = np.array([drawn.get(tuple(key), 0) for key in keys.tolist()])
        state[state < self.shortest] = 0
        # The position of a tilted line is its intersection with the middle of the particle's depth.
        lines = np.array([_middle(scene, line) for line in sites])
        inside = np.all((lines > BORDER) & (lines < self.sample.extent - BORDER), axis=1)
        near = cKDTree(lines[state > 0]).query(lines)[0] < 3.0 * np.sqrt(2.0) * np.linalg.norm(scene.basis[0])
        keep = (inside & near) | (state > 0)
        return lines[keep], [line for line, kept in zip(sites, keep, strict=True) if kept], state[keep]

    def _support(self, scene: ParticleScene, lines: np.ndarray, occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Occupied lines that touch the support, and lines that the support leaves open, each bool ``(L,)``."""
        if not len(scene.rest):
            return np.zeros(len(lines), bool), np.ones(len(lines), bool)
        if "ceria" not in self.sample.support.kinds:
            # A film perpendicular to the beam is behind all lines.
            return np.zeros(len(lines), bool), np.ones(len(lines), bool)
        away = cKDTree(scene.rest.positions[:, :2]).query(lines)[0]
        return occupied & (away < 3.2), away > 3.2

    def _dressed(
        self,
        state: np.ndarray,
        neighbours: np.ndarray,
        standing: np.ndarray,
        open_lines: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """State after loose rows are removed and some rows are added on the facets."""
        state = state.copy()
        while np.any(loose := (state > 0) & ~standing & (_beside(neighbours, state) < HELD)):
            state[loose] = 0
        for _ in range(round(self.rows.draw(rng))):
            free = np.flatnonzero((state == 0) & open_lines & (_beside(neighbours, state) >= HELD))
            if not len(free):
                break
            state[rng.choice(free)] = round(self.row_length.draw(rng))
        return state


def _counted(keys: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """Distinct rows of ``keys`` and their numbers of occurrences."""
    distinct, numbers = np.unique(keys, axis=0, return_counts=True)
    return distinct.tolist(), numbers.tolist()


def _middle(scene: ParticleScene, line: np.ndarray) -> np.ndarray:
    """Image position of a line of sites ``(N, 3)`` at the middle of the particle's depth, ``(2,)`` Å."""
    positions = scene.positions(line)
    along = positions[-1] - positions[0] if len(line) > 1 else np.array([0.0, 0.0, 1.0])
    return (positions[0] + along * (scene.place[2] - positions[0, 2]) / along[2])[:2]


def _beside(neighbours: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Number ``(..., L)`` of occupied neighbours of each line, in ``states`` ``(..., L)``."""
    return (states > 0).astype(int) @ neighbours.astype(int)
