"""Sheets of graphene: crystals, defects, random networks, contamination."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Graphene, GrapheneVoronoi
from hrtem.samples.contamination import GAP, Contamination
from hrtem.samples.graphene import ADATOM_HEIGHT, _reconstruct
from hrtem.samples.relaxation import relax
from hrtem.samples.rings import RingNetwork, even_out

A = 2.46
SEEDS = range(6)


def graphene(**settings: Any) -> Graphene:
    return Graphene("graphene", ["C"], 51.2, {"C": 0.06}, **settings)


def voronoi(**settings: Any) -> GrapheneVoronoi:
    return GrapheneVoronoi("graphene_voronoi", ["C"], 51.2, {"C": 0.06}, **settings)


def lattice(radius: float = 25.0) -> np.ndarray:
    """Ring centres of graphene about the origin, the one nearest to it first."""
    i, j = np.mgrid[-20:21, -20:21].reshape(2, -1)
    points = A * np.column_stack([i + 0.5 * j, np.sqrt(0.75) * j])
    away = np.linalg.norm(points, axis=1)
    return points[np.argsort(away, kind="stable")][: int((away < radius).sum())]


def counted(rings: RingNetwork, radius: float = 18.0) -> dict[int, int]:
    """How many rings of each size but six lie within ``radius`` of the origin."""
    sizes = rings.sizes[np.linalg.norm(rings.centres, axis=1) < radius]
    return {int(size): int((sizes == size).sum()) for size in np.unique(sizes) if size not in (0, 6)}


def shared_length(rings: RingNetwork, first: int, second: int) -> float:
    """Length of the bond that two rings share, after relaxation."""
    positions, bonds = rings.atoms()
    one, other = rings.bond(first, second)[0]
    return float(np.linalg.norm(np.subtract(*relax(positions, bonds, A / np.sqrt(3.0))[[one, other]])))


def bond_lengths(columns: Columns, border: float = 2.0) -> np.ndarray:
    """Distances of neighbours whose both ends lie well inside."""
    inner = columns.positions[columns.inside(51.2, 51.2, border=border)]
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


@pytest.mark.parametrize(
    "settings",
    [
        {"grain_boundary": 1.0},
        {"loop": 1.0, "loop_radius": [2.5, 10.0], "loop_aspect": [1.0, 2.0]},
        {"bond_rotation": 0.01},
        {"divacancy": 0.01},
        {"vacancy": 0.01, "hole": 0.5, "edge": 0.5},
    ],
    ids=str,
)
def test_bonds_of_every_defect_are_physical(settings: dict[str, Any]) -> None:
    sample = graphene(**settings)
    lengths = np.concatenate([bond_lengths(sample(np.random.default_rng(seed))[1]) for seed in range(4)])
    assert lengths.mean() == pytest.approx(1.42, abs=0.005)
    assert lengths.min() > 1.24
    assert lengths.max() < 1.66
    assert np.mean(np.abs(lengths - 1.42) < 0.12) > 0.98


def test_a_rotated_bond_makes_two_pentagons_and_two_heptagons() -> None:
    """The bond itself shrinks to 1.32 Å in density functional calculations (Ma et al., Phys. Rev. B 80, 033407)."""
    rings = RingNetwork(lattice(), A)
    first = 1
    second = int(np.flatnonzero(np.isclose(np.linalg.norm(rings.centres - rings.centres[first], axis=1), A))[0])
    _, (one, other) = rings.bond(first, second)
    rings.rotate(first, second)
    assert counted(rings) == {5: 2, 7: 2}
    assert shared_length(rings, one, other) == pytest.approx(1.32, abs=0.03)
    _, columns = graphene(bond_rotation=0.01)(np.random.default_rng(3))
    found = ring_sizes(columns)
    assert min(found[5], found[7]) > 8
    # A defect that the border cuts may lack one of its rings.
    assert abs(found[5] - found[7]) <= 4
    assert found[[3, 4, 8, 9]].sum() == 0


def test_divacancies_close_to_the_three_known_reconstructions() -> None:
    rings = RingNetwork(lattice(), A)
    atoms = len(rings.triangles)
    rings.remove(0, 1)
    assert len(rings.triangles) == atoms - 2
    expected = [{5: 2, 8: 1}, {5: 3, 7: 3}, {5: 4, 7: 4}]
    for number, sizes in enumerate(expected):
        assert counted(rings) == sizes
        positions, bonds = rings.atoms()
        ends = relax(positions, bonds, A / np.sqrt(3.0))[bonds]
        lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        assert 1.3 < lengths.min() < lengths.max() < 1.6
        if number < 2:
            _reconstruct(rings, 0, np.random.default_rng(number))
    found = sum(ring_sizes(graphene(divacancy=0.01)(np.random.default_rng(seed))[1]) for seed in SEEDS)
    assert found[8] > 5
    assert found[7] > 20
    assert found[5] == pytest.approx(found[7] + 2 * found[8], rel=0.2)


def test_loops_are_as_many_pentagons_as_heptagons() -> None:
    """Those of Cockayne et al., the flower of six each, and the loop of twelve each that a real image shows."""
    found = set()
    centres = lattice(40.0)
    for radius, aspect in [(2.6, 1.0), (6.5, 1.75)]:
        sample = Graphene("graphene", ["C"], 10.0, {"C": 0.06}, loop_radius=radius, loop_aspect=aspect)
        for seed in range(15):
            rings = RingNetwork(sample._looped(centres, A, np.random.default_rng(seed)), A)
            sizes = counted(rings, radius=32.0)
            assert len(rings.triangles) == len(RingNetwork(centres, A).triangles)
            assert set(sizes) <= {5, 7}
            assert sizes.get(5) == sizes.get(7)
            found.add((radius, sizes.get(5)))
    assert {(2.6, 6), (6.5, 12)} <= found


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


def test_adatoms_sit_on_bridges_and_are_not_labelled() -> None:
    atoms, columns = graphene(adatom=0.02)(np.random.default_rng(0))
    free = atoms.get_array("column") < 0
    assert free.sum() == pytest.approx(0.02 * len(columns), abs=15)
    distance, _ = cKDTree(columns.positions).query(atoms.positions[free, :2], k=2)
    assert np.mean(np.isclose(distance, A / np.sqrt(12.0), atol=1e-3)) > 0.9
    heights = np.abs(atoms.positions[free, 2] - np.median(atoms.positions[~free, 2]))
    np.testing.assert_allclose(heights, ADATOM_HEIGHT, atol=1e-6)


def test_tilt_shortens_one_direction() -> None:
    flat, _ = graphene()(np.random.default_rng(0))
    atoms, columns = graphene(tilt=10.0)(np.random.default_rng(0))
    away = atoms.positions - atoms.positions.mean(axis=0)
    normal = np.linalg.svd(away, full_matrices=False)[2][2]
    assert np.degrees(np.arccos(abs(normal[2]))) == pytest.approx(10.0, abs=0.05)
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(51.2 * np.tan(np.radians(10.0)), rel=0.4)
    assert len(columns) / len(flat) == pytest.approx(1.0 / np.cos(np.radians(10.0)), abs=0.01)


def test_straight_edges_prefer_lattice_directions() -> None:
    sample = graphene(edge=1.0, edge_roughness=0.0)
    points = np.random.default_rng(0).uniform(0.0, 51.2, size=(4000, 2))
    aligned = 0
    for seed in range(100):
        gone = sample.torn(points, np.random.default_rng(seed), orientation=0.0)
        direction = points[gone].mean(axis=0) - points[~gone].mean(axis=0)
        turn = np.degrees(np.arctan2(*direction[::-1])) % 30.0
        aligned += min(turn, 30.0 - turn) < 4.0
    # Every other by intent, and some of the rest by chance; the mean of a cut square is not quite normal to the cut.
    assert 45 < aligned < 85


def test_strain_and_corrugation() -> None:
    _, stretched = graphene(strain=0.05)(np.random.default_rng(0))
    np.testing.assert_allclose(bond_lengths(stretched).mean(), 1.05 * 2.46 / np.sqrt(3), rtol=0.002)
    atoms, _ = graphene(corrugation=0.5)(np.random.default_rng(0))
    assert 0.1 < atoms.positions[:, 2].std() < 1.0


SOILED: dict[str, Any] = {"probability": 1.0, "share": 0.3, "thickness": 8.0, "taper": 2.0, "density": 1.5}


class TestContamination:
    def test_belongs_to_no_column_and_leaves_the_sheet_as_it_is(self) -> None:
        clean = graphene(vacancy=0.01)(np.random.default_rng(0))
        atoms, columns = graphene(vacancy=0.01, contamination=SOILED)(np.random.default_rng(0))
        np.testing.assert_array_equal(columns.positions, clean[1].positions)
        film = atoms.get_array("column") < 0
        assert film.sum() > 100
        away = atoms.positions[film, 2] - np.median(atoms.positions[~film, 2])
        assert np.abs(away).min() >= GAP - 1e-6
        assert len(set(np.sign(away))) == 1

    def test_covers_the_share_that_was_asked_for_and_tapers(self) -> None:
        for seed in SEEDS:
            soil = Contamination(**SOILED | {"taper": 6.0})
            thickness = soil._thickness(51.2, np.random.default_rng(seed))
            assert np.mean(thickness > 0.0) == pytest.approx(0.3, abs=0.01)
            film, _ = soil(np.zeros((0, 2)), 51.2, np.random.default_rng(seed))
            assert len(film)
        covered = np.pad(thickness > 0.0, 1, constant_values=True)
        within = covered[:-2, 1:-1] & covered[2:, 1:-1] & covered[1:-1, :-2] & covered[1:-1, 2:]
        rim = (thickness > 0.0) & ~within
        assert thickness[rim].mean() < 0.25 * thickness[(thickness > 0.0) & within].mean()

    def test_has_its_density(self) -> None:
        whole = Contamination(**SOILED | {"share": 1.0, "taper": 0.1})
        numbers = [len(whole(np.zeros((0, 2)), 51.2, np.random.default_rng(seed))[0]) for seed in SEEDS]
        # 1.5 g/cm³ are 0.0752 atoms/Å³; its surface is uneven.
        assert np.mean(numbers) == pytest.approx(0.0752 * 51.2**2 * 8.0, rel=0.08)

    def test_a_hollow_patch_is_a_wall(self) -> None:
        solid, hollow = (
            Contamination(**SOILED | {"hollow": hollow, "size": 15.0})._thickness(51.2, np.random.default_rng(1))
            for hollow in (0.0, 1.0)
        )
        assert 0.0 < np.mean(hollow > 0.0) < 0.5 * np.mean(solid > 0.0)

    def test_may_hide_what_lies_below(self) -> None:
        shown = graphene(contamination=SOILED)(np.random.default_rng(0))
        hidden = graphene(contamination=SOILED | {"labelled_under": 4.0})(np.random.default_rng(0))
        assert len(hidden[0]) == len(shown[0])
        assert 0.7 < len(hidden[1]) / len(shown[1]) < 0.9

    def test_comes_as_often_as_asked_for(self) -> None:
        soil = Contamination(**SOILED | {"probability": 0.4})
        soiled = [len(soil(np.zeros((0, 2)), 12.0, np.random.default_rng(seed))[0]) > 0 for seed in range(200)]
        assert np.mean(soiled) == pytest.approx(0.4, abs=0.1)


class TestVoronoi:
    def test_is_a_network_of_graphene_s_bonds_and_density(self) -> None:
        sample = voronoi(lloyd=[1, 8])
        lengths, numbers = [], []
        for seed in SEEDS:
            _, columns = sample(np.random.default_rng(seed))
            lengths.append(bond_lengths(columns))
            numbers.append(len(columns))
            assert np.mean(coordination(columns) == 3) > 0.97
        assert np.concatenate(lengths).mean() == pytest.approx(1.41, abs=0.015)
        assert np.concatenate(lengths).std() < 0.1
        assert np.mean(numbers) == pytest.approx(2 * 51.2**2 / (A**2 * np.sqrt(0.75)), rel=0.03)

    def test_lloyd_s_algorithm_makes_more_hexagons(self) -> None:
        share = []
        for steps in (0, 20):
            rings = sum(ring_sizes(voronoi(lloyd=steps)(np.random.default_rng(seed))[1]) for seed in range(3))
            share.append(rings[6] / np.sum(rings))
        assert 0.35 < share[0] < 0.55
        assert share[1] > share[0] + 0.1

    def test_lloyd_s_algorithm_moves_points_to_the_centroids_of_their_cells(self, rng: np.random.Generator) -> None:
        points = lattice(15.0)
        np.testing.assert_allclose(even_out(points)[:7], points[:7], atol=1e-9)
        # A point off the centre of its cell of six fixed neighbours: the centroid by brute force.
        points[0] = [0.5, 0.3]
        grid = np.stack(np.meshgrid(*[np.linspace(-2.5, 2.5, 801)] * 2), axis=-1).reshape(-1, 2)
        own = cKDTree(points).query(grid)[1] == 0
        np.testing.assert_allclose(even_out(points)[0], grid[own].mean(axis=0), atol=0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vacancy": [0.2, 0.1]}, "sample.vacancy.*swapped"),
        ({"lattice_constant": -1}, "sample.lattice_constant.*-1"),
        ({"edge": 2.0}, "sample.edge.*between 0 and 1"),
        ({"edge_roughness": -1.0}, "sample.edge_roughness.*-1"),
        ({"divacancy": [0.02, 0.01]}, "sample.divacancy.*swapped"),
        ({"adatom": -0.1}, "sample.adatom.*between 0 and 0.1"),
        ({"loop": 1.5}, "sample.loop.*between 0 and 1"),
        ({"loop_radius": 1.0}, "sample.loop_radius.*between 2 and 50 Å"),
        ({"loop_aspect": 0.5}, "sample.loop_aspect.*between 1 and 5"),
        ({"tilt": [0.0, 40.0]}, "sample.tilt.*between 0 and 10 degrees"),
        ({"contamination": {"thickness": [5.0, 2.0]}}, "sample.contamination.thickness.*swapped"),
        ({"contamination": {"share": 1.2}}, "sample.contamination.share.*between 0 and 1"),
        ({"contamination": {"probability": -1}}, "sample.contamination.probability.*between 0 and 1"),
        ({"contamination": {"density": 0.0}}, "sample.contamination.density.*g/cm³"),
        ({"contamination": {"colour": "grey"}}, "sample.contamination has the settings probability, share.*colour"),
    ],
)
def test_bad_graphene_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        graphene(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lloyd": 1.5}, "sample.lloyd must be a whole number.*1.5"),
        ({"lloyd": -1}, "sample.lloyd.*between 0 and 100"),
        ({"least_distance": 0.9}, "sample.least_distance.*between 0 and 0.8"),
    ],
)
def test_bad_voronoi_networks_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        voronoi(**settings)
