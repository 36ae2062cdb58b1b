"""Sheets of graphene."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Graphene

SEEDS = range(6)


def graphene(**settings: Any) -> Graphene:
    return Graphene("graphene", ["C"], 51.2, {"C": 0.06}, **settings)


def bond_lengths(columns: Columns) -> np.ndarray:
    """Distances of neighbours whose both ends lie well inside."""
    inner = columns.positions[columns.inside(51.2, 51.2, border=2.0)]
    pairs = cKDTree(inner).query_pairs(1.8, output_type="ndarray")
    return np.linalg.norm(inner[pairs[:, 0]] - inner[pairs[:, 1]], axis=1)


def coordination(columns: Columns) -> np.ndarray:
    """Neighbours of the atoms that lie well inside."""
    pairs = cKDTree(columns.positions).query_pairs(1.8, output_type="ndarray")
    number = np.bincount(pairs.ravel(), minlength=len(columns))
    return number[columns.inside(51.2, 51.2, border=2.0)]


def ring_sizes(columns: Columns) -> np.ndarray:
    """Sides of the rings, from the faces of the planar graph of bonds, by walking round them."""
    positions = columns.positions
    neighbours: list[list[int]] = [[] for _ in positions]
    for i, j in cKDTree(positions).query_pairs(1.8):
        neighbours[i].append(j)
        neighbours[j].append(i)
    ordered = []
    for i, near in enumerate(neighbours):
        angle = np.arctan2(*(positions[near] - positions[i]).T[::-1]) if near else np.empty(0)
        ordered.append([near[k] for k in np.argsort(angle)])
    sizes, seen = [], set()
    for i, near in enumerate(ordered):
        for j in near:
            walk, edge = [], (i, j)
            while edge not in seen:
                seen.add(edge)
                walk.append(edge[0])
                back = ordered[edge[1]].index(edge[0])
                edge = (edge[1], ordered[edge[1]][back - 1])
            inside = columns[np.array(walk, int)].inside(51.2, 51.2, border=3.0) if walk else np.zeros(1, bool)
            if inside.all() and len(walk) < 15:
                sizes.append(len(walk))
    return np.bincount(sizes, minlength=10)


def test_perfect_graphene() -> None:
    """All bonds a/√3, all atoms bonded to three others, all rings hexagons, two atoms a cell."""
    _, columns = graphene()(np.random.default_rng(0))
    np.testing.assert_allclose(bond_lengths(columns), 2.46 / np.sqrt(3), atol=0.01)
    assert set(coordination(columns)) == {3}
    assert len(columns) == pytest.approx(2 * 51.2**2 / (2.46**2 * np.sqrt(0.75)), rel=0.02)
    rings = ring_sizes(columns)
    assert rings[6] > 300
    assert rings.sum() == rings[6]


@pytest.mark.parametrize("seed", SEEDS)
def test_grain_boundaries_are_rings_of_five_and_seven_with_physical_bonds(seed: int) -> None:
    _, columns = graphene(grain_boundary=1.0)(np.random.default_rng(seed))
    lengths = bond_lengths(columns)
    assert lengths.min() > 1.2
    assert np.mean(np.abs(lengths - 1.42) < 0.1) > 0.97
    rings = ring_sizes(columns)
    assert rings[6] > 0.7 * rings.sum()
    if rings[6] < rings.sum():
        assert rings[5] + rings[7] > 0.8 * (rings.sum() - rings[6])
    assert np.mean(coordination(columns) == 3) > 0.97


def test_a_rotated_bond_makes_two_pentagons_and_two_heptagons() -> None:
    _, columns = graphene(bond_rotation=0.004)(np.random.default_rng(3))
    rings = ring_sizes(columns)
    assert min(rings[5], rings[7]) > 5
    # A defect that the border cuts may lack one of its rings.
    assert abs(rings[5] - rings[7]) <= 2
    assert rings[[3, 4, 8, 9]].sum() <= 2
    assert len(columns) == pytest.approx(len(graphene()(np.random.default_rng(3))[1]), abs=15)


def test_vacancies_holes_and_edges_take_atoms_away() -> None:
    def mean(**settings: Any) -> float:
        return float(np.mean([len(graphene(**settings)(np.random.default_rng(n))[1]) for n in SEEDS]))

    whole = mean()
    assert mean(vacancy=0.1) == pytest.approx(0.88 * whole, rel=0.05)
    assert mean(hole=0.8, hole_radius=8.0) < 0.95 * whole
    assert mean(edge=1.0) < 0.85 * whole


def test_no_atom_dangles() -> None:
    _, columns = graphene(vacancy=0.1)(np.random.default_rng(0))
    assert coordination(columns).min() >= 2


def test_strain_and_corrugation() -> None:
    _, stretched = graphene(strain=0.05)(np.random.default_rng(0))
    np.testing.assert_allclose(bond_lengths(stretched).mean(), 1.05 * 2.46 / np.sqrt(3), rtol=0.002)
    atoms, _ = graphene(corrugation=0.5)(np.random.default_rng(0))
    assert 0.1 < atoms.positions[:, 2].std() < 1.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vacancy": [0.2, 0.1]}, "sample.vacancy.*swapped"),
        ({"lattice_constant": -1}, "sample.lattice_constant.*-1"),
        ({"edge": 2.0}, "sample.edge.*between 0 and 1"),
    ],
)
def test_bad_graphene_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        graphene(**settings)
