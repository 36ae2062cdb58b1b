"""A cluster of atoms on a lattice: its facets, and the atoms that it loses and gains at its surface."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hrtem.samples.crystal import Crystal

#: Bonds that an atom of the lowest layer has to the support below it.
BRACED = 3

#: Vacant sites up to this size beyond the facets are kept for atoms to settle on, a/6; some two layers.
SHELL = 9.0


def wulff_size(sites: np.ndarray, normals: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Size ``(N,)`` of the smallest Wulff shape that holds a site.

    Each facet lies at a distance from the centre, the origin, that is its surface energy times the size.

    Args:
        sites: ``(N, 3)``.
        normals: of the facets, ``(F, 3)``.
        energies: of the facets, ``(F,)``, relative.
    """
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return (sites @ (normals / energies[:, None]).T).max(axis=1)


def smallest(sizes: np.ndarray, number: int) -> float:
    """The size that holds ``number`` sites.

    All sites of the outermost layer have one size, but for rounding: a facet is whole.
    """
    return float(np.partition(sizes, number - 1)[number - 1] + 1e-6)


class Cluster:
    """Sites of a crystal, of which some are filled.

    Args:
        crystal: the lattice.
        sites: ``(N, 3)`` int, a/6, those of the particle and those around it.
        filled: bool ``(N,)``.
        braced: the sites that stand on a support, bool ``(N,)``.
    """

    def __init__(self, crystal: Crystal, sites: np.ndarray, filled: np.ndarray, braced: np.ndarray) -> None:
        self.crystal = crystal
        self.sites = sites
        self.filled = filled.copy()
        self.braced = braced
        self.pairs = cKDTree(sites).query_pairs(crystal.bond, output_type="ndarray")

    def bonds(self) -> np.ndarray:
        """Number ``(N,)`` of filled sites beside each site, be it filled or vacant."""
        one, other = self.pairs.T
        number = len(self.sites)
        return np.bincount(one[self.filled[other]], minlength=number) + np.bincount(
            other[self.filled[one]], minlength=number
        )

    def erode(self, roughness: float, rng: np.random.Generator, rounds: int = 3) -> None:
        """Take atoms off the surface: one with n of all bonds goes with the probability ``roughness (1 - n/all)``."""
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
        """Fill the vacant sites on the surface within ``radius`` (a/6) of a random one: an island one layer high."""
        hollows = np.flatnonzero(~self.filled & (self.bonds() >= self.crystal.held))
        if len(hollows):
            from_centre = self.sites[hollows] - self.sites[rng.choice(hollows)]
            self.filled[hollows[np.linalg.norm(from_centre, axis=1) < radius]] = True

    def add_adatoms(self, axis: tuple[int, int, int], length: int, rng: np.random.Generator) -> None:
        """Fill up to ``length`` sites in a row along ``axis`` on a facet, seen beside the particle as a new column."""
        lines = columns(self.sites, axis)
        free = ~self.filled & (self.bonds() >= self.crystal.held) & ~np.isin(lines, lines[self.filled])
        if not free.any():
            return
        row = np.flatnonzero(free & (lines == rng.choice(np.unique(lines[free]))))
        row = row[np.argsort(self.sites[row] @ np.array(axis))]
        first = rng.integers(max(1, len(row) - length + 1))
        self.filled[row[first : first + length]] = True


def columns(sites: np.ndarray, axis: tuple[int, int, int]) -> np.ndarray:
    """Number ``(N,)`` of the line along ``axis`` that each site stands on.

    Sites on one line share their cross product with it, which is exact for integers, however much a tilt then
    smears the columns.
    """
    # One integer for each cross product, whose entries stay far below a thousand.
    return np.unique(np.cross(sites, axis) @ np.array([1, 10_000, 100_000_000]), return_inverse=True)[1].reshape(-1)
