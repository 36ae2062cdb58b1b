"""A cluster of atoms on a lattice: its facets, and atoms removed from or added to its surface."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hrtem.samples.crystal import Crystal

#: Number of bonds between an atom of the lowest layer and the support below it.
BRACED = 3

#: Vacant sites up to this distance beyond the facets are kept as places for additional atoms, a/6; about two layers.
SHELL = 9.0


def wulff_size(sites: np.ndarray, normals: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Size ``(N,)`` of the smallest Wulff shape that contains each site.

    The distance of each facet from the centre (the origin) is its surface energy times the size.

    Args:
        sites: ``(N, 3)``.
        normals: facet normals, ``(F, 3)``.
        energies: relative surface energies of the facets, ``(F,)``.
    """
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return (sites @ (normals / energies[:, None]).T).max(axis=1)


def smallest(sizes: np.ndarray, number: int) -> float:
    """Size of the Wulff shape that contains ``number`` sites.

    All sites of a facet have the same size up to rounding, so a facet is filled completely.
    """
    return float(np.partition(sizes, number - 1)[number - 1] + 1e-6)


class Cluster:
    """Filled and vacant sites of a crystal.

    Args:
        crystal: the lattice.
        sites: sites of the particle and around it, ``(N, 3)`` int, a/6.
        filled: whether each site is filled, bool ``(N,)``.
        braced: whether each site stands on a support, bool ``(N,)``.
    """

    def __init__(self, crystal: Crystal, sites: np.ndarray, filled: np.ndarray, braced: np.ndarray) -> None:
        self.crystal = crystal
        self.sites = sites
        self.filled = filled.copy()
        self.braced = braced
        self.pairs = cKDTree(sites).query_pairs(crystal.bond, output_type="ndarray")

    def bonds(self) -> np.ndarray:
        """Number ``(N,)`` of filled neighbours of each site, whether the site itself is filled or vacant."""
        one, other = self.pairs.T
        number = len(self.sites)
        return np.bincount(one[self.filled[other]], minlength=number) + np.bincount(
            other[self.filled[one]], minlength=number
        )

    def erode(self, roughness: float, rng: np.random.Generator, rounds: int = 3) -> None:
        """Remove surface atoms: an atom with n of N bonds is lost with the probability ``roughness (1 - n/N)``."""
        before = self.filled.copy()
        brace = BRACED * self.braced
        for _ in range(rounds):
            missing = 1.0 - (self.bonds() + brace) / self.crystal.coordination
            self.filled &= rng.random(len(self.sites)) >= roughness * missing
        while np.any(loose := self.filled & (self.bonds() + brace < self.crystal.held)):
            self.filled &= ~loose
        if not self.filled.any():
            self.filled = before

    def add_terrace(self, radius: float, rng: np.random.Generator) -> None:
        """Add an island one layer high: fill the vacant surface sites within ``radius`` (a/6) of a random site."""
        hollows = np.flatnonzero(~self.filled & (self.bonds() >= self.crystal.held))
        if len(hollows):
            from_centre = self.sites[hollows] - self.sites[rng.choice(hollows)]
            self.filled[hollows[np.linalg.norm(from_centre, axis=1) < radius]] = True

    def add_adatoms(self, axis: tuple[int, int, int], length: int, rng: np.random.Generator) -> None:
        """Add a new column beside the particle: fill up to ``length`` sites of a row along ``axis`` on a facet."""
        lines = columns(self.sites, axis)
        free = ~self.filled & (self.bonds() >= self.crystal.held) & ~np.isin(lines, lines[self.filled])
        if not free.any():
            return
        row = np.flatnonzero(free & (lines == rng.choice(np.unique(lines[free]))))
        row = row[np.argsort(self.sites[row] @ np.array(axis))]
        first = rng.integers(max(1, len(row) - length + 1))
        self.filled[row[first : first + length]] = True


def columns(sites: np.ndarray, axis: tuple[int, int, int]) -> np.ndarray:
    """Index ``(N,)`` of the line along ``axis`` on which each site lies.

    Sites on the same line have the same cross product with the axis. The comparison is exact for integers and does
    not depend on the tilt, which later smears the columns.
    """
    # Encode each cross product in one integer; its entries stay far below a thousand.
    return np.unique(np.cross(sites, axis) @ np.array([1, 10_000, 100_000_000]), return_inverse=True)[1].reshape(-1)
