"""Samples: what every one of them promises, and what is known of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra.utils
import numpy as np
import pytest
import yaml
from ase import Atoms
from scipy.spatial import cKDTree

import hrtem.samples
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Gold, Graphene, MoS2, Sample

RECIPES = sorted((Path(__file__).parents[1] / "conf" / "sample").glob("*.yaml"))
SEEDS = range(6)


def sample_of(recipe: Path) -> Sample:
    return hydra.utils.instantiate(yaml.safe_load(recipe.read_text()), _convert_="all")


def gold(**settings: Any) -> Gold:
    return Gold("gold", ["Au"], 51.2, {"Au": 0.085}, **settings)


def mos2(extent: float = 51.2, **settings: Any) -> MoS2:
    return MoS2("mos2", ["S", "Mo", "S2", "S2 vacancy", "Mo vacancy"], extent, {"Mo": 0.06, "S": 0.07}, **settings)


def labelled(columns: Columns, name: str) -> Columns:
    return columns[columns.labels == columns.classes.index(name)]


def bonds(atoms: Atoms, cutoff: float) -> np.ndarray:
    """Number of neighbours of each atom within ``cutoff`` Å."""
    pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
    return np.bincount(pairs.ravel(), minlength=len(atoms))


# --- every sample ------------------------------------------------------------------------------------------------


def test_every_sample_has_a_recipe() -> None:
    recipes = {yaml.safe_load(recipe.read_text())["_target_"].rpartition(".")[2] for recipe in RECIPES}
    assert recipes >= set(hrtem.samples.__all__) - {"Sample"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
class TestEverySample:
    def test_is_called_like_its_recipe(self, recipe: Path) -> None:
        assert sample_of(recipe).name == recipe.stem

    def test_draws_what_a_sample_promises(self, recipe: Path) -> None:
        sample = sample_of(recipe)
        for seed in SEEDS:
            atoms, columns = sample(np.random.default_rng(seed))
            thickness = atoms.cell[2, 2]
            assert len(atoms) > 20
            np.testing.assert_allclose(atoms.cell, np.diag([sample.extent, sample.extent, thickness]))
            assert list(atoms.pbc) == [True, True, False]
            assert np.all((atoms.positions[:, :2] >= 0.0) & (atoms.positions[:, :2] < sample.extent))
            assert np.all((atoms.positions[:, 2] >= 1.5) & (atoms.positions[:, 2] <= thickness - 1.5))
            expected = [sample.rms_displacement[symbol] for symbol in atoms.symbols]
            np.testing.assert_array_equal(atoms.get_array("rms_displacement"), expected)
            assert columns.classes == sample.classes
            assert np.all((columns.positions >= 0.0) & (columns.positions < sample.extent))
            assert np.all(columns.probabilities == 1.0)
            assert columns.counts.min() >= 0
            assert columns.counts.sum() == len(atoms)

    def test_keeps_columns_apart(self, recipe: Path) -> None:
        _, columns = sample_of(recipe)(np.random.default_rng(0))
        distance, _ = cKDTree(columns.positions).query(columns.positions, k=2)
        assert distance[:, 1].min() > 0.8

    def test_repeats_a_seed_and_no_other(self, recipe: Path) -> None:
        sample = sample_of(recipe)
        first, again, other = (sample(np.random.default_rng([0, seed])) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first[0].positions, again[0].positions)
        np.testing.assert_array_equal(first[0].numbers, again[0].numbers)
        np.testing.assert_array_equal(first[1].positions, again[1].positions)
        np.testing.assert_array_equal(first[1].labels, again[1].labels)
        assert first[1].positions.shape != other[1].positions.shape or not np.allclose(
            first[1].positions, other[1].positions
        )

    def test_refuses_unknown_classes(self, recipe: Path) -> None:
        settings = yaml.safe_load(recipe.read_text()) | {"classes": ["unobtainium"]}
        kind = getattr(hrtem.samples, settings.pop("_target_").rpartition(".")[2])
        with pytest.raises(InputError, match=r"sample\.classes of .* must be .*unobtainium"):
            kind(**settings)

    def test_refuses_an_element_without_displacement(self, recipe: Path) -> None:
        settings = yaml.safe_load(recipe.read_text()) | {"rms_displacement": {}}
        kind = getattr(hrtem.samples, settings.pop("_target_").rpartition(".")[2])
        with pytest.raises(InputError, match=r"sample\.rms_displacement"):
            kind(**settings)(np.random.default_rng(0))


# --- gold --------------------------------------------------------------------------------------------------------


def test_gold_is_fcc() -> None:
    atoms, _ = gold(diameter=25.0)(np.random.default_rng(0))
    distance, _ = cKDTree(atoms.positions).query(atoms.positions, k=2)
    np.testing.assert_allclose(distance[:, 1], 4.078 / np.sqrt(2.0))
    assert bonds(atoms, 3.2).max() == 12


def test_gold_has_the_volume_of_its_sphere() -> None:
    atoms, _ = gold(diameter=30.0)(np.random.default_rng(1))
    assert len(atoms) == pytest.approx(4.0 * np.pi / 6.0 * (30.0 / 4.078) ** 3, rel=0.15)


@pytest.mark.parametrize(
    ("axis", "between_columns", "within_column"),
    [
        ([1, 0, 0], 1 / 2, 1.0),
        ([0, 1, -1], np.sqrt(3 / 8), np.sqrt(1 / 2)),
        ([1, 1, 1], np.sqrt(1 / 6), np.sqrt(3.0)),
    ],
)
def test_gold_columns_along_an_axis(axis: list[int], between_columns: float, within_column: float) -> None:
    atoms, columns = gold(diameter=25.0, zone_axes=[axis])(np.random.default_rng(2))
    tree = cKDTree(columns.positions)
    spacing, _ = tree.query(columns.positions, k=2)
    np.testing.assert_allclose(spacing[:, 1], between_columns * 4.078, rtol=1e-6)
    away, column = tree.query(atoms.positions[:, :2])
    assert away.max() < 1e-6
    np.testing.assert_array_equal(np.bincount(column, minlength=len(columns)), columns.counts)
    heights = np.sort(atoms.positions[column == np.argmax(columns.counts), 2])
    np.testing.assert_allclose(np.diff(heights), within_column * 4.078)


def test_gold_columns_do_not_depend_on_tilt() -> None:
    upright, tilted = (gold(diameter=35.0, roughness=0.3, tilt=tilt)(np.random.default_rng(3)) for tilt in (0.0, 2.5))
    np.testing.assert_array_equal(upright[1].counts, tilted[1].counts)
    np.testing.assert_array_equal(np.bincount(upright[0].numbers), np.bincount(tilted[0].numbers))
    moved = np.linalg.norm(upright[1].positions - tilted[1].positions, axis=1)
    half = np.ptp(upright[0].positions[:, 2]) / 2
    assert 0.1 < moved.max() < 1.2 * half * np.sin(np.radians(2.5))
    # A column of n atoms leans by the sine of the tilt, and its position is its middle.
    away, _ = cKDTree(tilted[1].positions).query(tilted[0].positions[:, :2])
    longest = (upright[1].counts.max() - 1) * 4.078 / np.sqrt(2.0)
    assert away.max() == pytest.approx(longest / 2 * np.sin(np.radians(2.5)), rel=0.05)


def test_gold_erosion_takes_loose_atoms() -> None:
    smooth, rough = (gold(diameter=30.0, roughness=roughness)(np.random.default_rng(4))[0] for roughness in (0.0, 0.5))
    assert 0.5 * len(smooth) < len(rough) < 0.9 * len(smooth)
    assert bonds(rough, 3.2).min() >= 3


def test_gold_shape_follows_the_surface_energies() -> None:
    # Where {100} is dear the particle is an octahedron, whose faces have 9 bonds; where cheap, a cube with 8.
    octahedron, cube = (
        bonds(gold(diameter=40.0, surface_energy_ratio=ratio)(np.random.default_rng(5))[0], 3.2)
        for ratio in (2.0, 0.55)
    )
    assert np.sum(octahedron == 9) > 3 * np.sum(octahedron == 8)
    assert np.sum(cube == 8) > 3 * np.sum(cube == 9)


def test_gold_is_cut_at_the_field() -> None:
    sample = Gold("gold", ["Au"], 20.0, {"Au": 0.085}, diameter=40.0, tilt=2.5)
    atoms, columns = sample(np.random.default_rng(6))
    assert np.ptp(columns.positions, axis=0).min() > 15.0
    assert columns.counts.sum() == len(atoms)


def test_gold_may_be_another_metal() -> None:
    atoms, columns = Gold("platinum", ["Pt"], 51.2, {"Pt": 0.07}, element="Pt", lattice_constant=3.92)(
        np.random.default_rng(7)
    )
    assert set(atoms.symbols) == {"Pt"}
    assert columns.classes == ("Pt",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": [40.0, 15.0]}, r"sample\.diameter .* swapped"),
        ({"diameter": -20.0}, r"sample\.diameter must be between 8 and 100 Å, got -20"),
        ({"tilt": [0.0, 90.0]}, r"sample\.tilt must be between 0 and 10 degrees"),
        ({"offset": 40.0}, r"sample\.offset must be between 0 and 25\.6 Å"),
        ({"roughness": "much"}, r"sample\.roughness must be one number or a range"),
        ({"zone_axes": [[2, 1, 1]]}, r"sample\.zone_axes holds \[2, 1, 1\]"),
        ({"zone_axes": [1, 1, 0]}, r"sample\.zone_axes holds 1,"),
        ({"zone_axes": []}, r"sample\.zone_axes must be a list of directions"),
        ({"element": "Gold"}, r"sample\.element .* 'Gold'"),
    ],
)
def test_gold_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gold(**settings)


# --- MoS2 --------------------------------------------------------------------------------------------------------


def test_mos2_is_a_honeycomb_of_mo_and_s2() -> None:
    atoms, columns = mos2()(np.random.default_rng(0))
    metal, chalcogen = labelled(columns, "Mo"), labelled(columns, "S2")
    assert len(metal) + len(chalcogen) == len(columns)
    assert np.all(metal.counts == 1)
    assert np.all(chalcogen.counts == 2)
    assert len(metal) == pytest.approx(51.2**2 / (3.16**2 * np.sqrt(0.75)), rel=0.03)
    inner = metal[metal.inside(51.2, 51.2, border=4.0)]
    distance, _ = cKDTree(chalcogen.positions).query(inner.positions, k=3)
    np.testing.assert_allclose(distance, 3.16 / np.sqrt(3.0))
    distance, _ = cKDTree(metal.positions).query(inner.positions, k=7)
    np.testing.assert_allclose(distance[:, 1:], 3.16)
    z = atoms.positions[:, 2]
    np.testing.assert_allclose(
        np.unique(z[atoms.symbols == "S"].round(6)), atoms.cell[2, 2] / 2 + np.array([-1, 1]) * 3.13 / 2
    )
    np.testing.assert_allclose(z[atoms.symbols == "Mo"], atoms.cell[2, 2] / 2)


@pytest.mark.parametrize("fractions", [(0.1, 0.0, 0.0), (0.0, 0.2, 0.1), (0.0, 1.0, 0.0)])
def test_mos2_has_the_vacancies_that_were_asked_for(fractions: tuple[float, float, float]) -> None:
    names = ("metal_vacancy", "single_chalcogen_vacancy", "double_chalcogen_vacancy")
    sample = mos2(extent=150.0, **dict(zip(names, fractions, strict=True)))
    atoms, columns = sample(np.random.default_rng(1))
    number = {name: len(labelled(columns, name)) for name in columns.classes}
    metal, chalcogen = number["Mo"] + number["Mo vacancy"], number["S2"] + number["S"] + number["S2 vacancy"]
    found = number["Mo vacancy"] / metal, number["S"] / chalcogen, number["S2 vacancy"] / chalcogen
    # Three standard deviations of a fraction of some 2,600 sites.
    np.testing.assert_allclose(found, fractions, atol=0.025)
    assert np.sum(atoms.symbols == "Mo") == number["Mo"]
    assert np.sum(atoms.symbols == "S") == number["S"] + 2 * number["S2"]
    if number["S"]:
        z = atoms.positions[atoms.symbols == "S", 2]
        assert np.mean(z > atoms.cell[2, 2] / 2) == pytest.approx(0.5, abs=0.05)


def test_mos2_labels_isolated_vacancies_only() -> None:
    sample = mos2(metal_vacancy=0.1, double_chalcogen_vacancy=0.1, hole=0.8, hole_radius=8.0, edge=1.0)
    for seed in SEEDS:
        atoms, columns = sample(np.random.default_rng(seed))
        vacant = columns[(columns.counts == 0) & columns.inside(51.2, 51.2, border=3.0)]
        assert {columns.classes[label] for label in vacant.labels} <= {"Mo vacancy", "S2 vacancy"}
        occupied = columns[columns.counts > 0]
        distance, _ = cKDTree(occupied.positions).query(vacant.positions, k=3)
        np.testing.assert_allclose(distance, 3.16 / np.sqrt(3.0))
        away, _ = cKDTree(atoms.positions[:, :2]).query(vacant.positions)
        assert np.all(away > 0.5)


def test_mos2_atoms_stand_in_their_columns() -> None:
    sample = mos2(single_chalcogen_vacancy=0.2, double_chalcogen_vacancy=0.05, corrugation=0.3, strain=0.02, shear=0.02)
    atoms, columns = sample(np.random.default_rng(2))
    away, column = cKDTree(columns.positions).query(atoms.positions[:, :2])
    assert away.max() < 1e-9
    np.testing.assert_array_equal(np.bincount(column, minlength=len(columns)), columns.counts)
    for name, symbol, count in [("Mo", "Mo", 1), ("S", "S", 1), ("S2", "S", 2)]:
        members = columns.labels[column] == columns.classes.index(name)
        assert set(atoms.symbols[members]) == {symbol}
        assert np.all(columns.counts[column[members]] == count)


def test_mos2_holes_edges_and_strain_change_the_number_of_atoms() -> None:
    settings: list[dict[str, Any]] = [{}, {"strain": 0.1}, {"hole": 0.9, "hole_radius": 10.0}, {"edge": 1.0}]
    numbers = [np.mean([len(mos2(**each)(np.random.default_rng(n))[0]) for n in SEEDS]) for each in settings]
    assert numbers[1] == pytest.approx(numbers[0] / 1.1**2, rel=0.02)
    assert numbers[2] < 0.95 * numbers[0]
    assert numbers[3] < 0.95 * numbers[0]


def test_mos2_shear_keeps_the_area() -> None:
    plain, sheared = (len(mos2(extent=150.0, shear=shear)(np.random.default_rng(3))[0]) for shear in (0.0, 0.05))
    assert plain == pytest.approx(sheared, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lattice_constant": -3.16}, r"sample\.lattice_constant must be between 2\.5 and 4\.5 Å"),
        ({"metal_vacancy": [0.2, 0.1]}, r"sample\.metal_vacancy .* swapped"),
        ({"hole_radius": [-1.0, 2.0]}, r"sample\.hole_radius must be at least 0 Å"),
        ({"hole": 1.0}, r"sample\.hole must be between 0 and 0\.9"),
        (
            {"single_chalcogen_vacancy": 0.8, "double_chalcogen_vacancy": 0.3},
            r"sample\.single_chalcogen_vacancy and sample\.double_chalcogen_vacancy .* got up to 0\.8 and 0\.3",
        ),
    ],
)
def test_mos2_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mos2(**settings)


# --- graphene ----------------------------------------------------------------------------------------------------


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
