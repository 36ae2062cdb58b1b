"""Gold nanoparticles."""

from __future__ import annotations

from typing import Any

import hydra.utils
import numpy as np
import pytest
from ase import Atoms
from conftest import recipe
from omegaconf import OmegaConf
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.samples import Gold


def gold(**settings: Any) -> Gold:
    return Gold("gold", ["Au"], 51.2, {"C": 0.08, "Ce": 0.065, "O": 0.085}, **settings)


def bonds(atoms: Atoms, cutoff: float) -> np.ndarray:
    """Number of neighbours of each atom within ``cutoff`` Å."""
    pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
    return np.bincount(pairs.ravel(), minlength=len(atoms))


def test_gold_is_fcc() -> None:
    atoms, _ = gold(diameter=25.0)(np.random.default_rng(0))
    distance, _ = cKDTree(atoms.positions).query(atoms.positions, k=2)
    np.testing.assert_allclose(distance[:, 1], 4.08 / np.sqrt(2.0))
    assert bonds(atoms, 3.2).max() == 12


def test_gold_has_the_volume_of_its_sphere() -> None:
    atoms, _ = gold(diameter=30.0)(np.random.default_rng(1))
    assert len(atoms) == pytest.approx(4.0 * np.pi / 6.0 * (30.0 / 4.08) ** 3, rel=0.15)


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
    np.testing.assert_allclose(spacing[:, 1], between_columns * 4.08, rtol=1e-6)
    away, column = tree.query(atoms.positions[:, :2])
    assert away.max() < 1e-6
    np.testing.assert_array_equal(np.bincount(column, minlength=len(columns)), columns.counts)
    heights = np.sort(atoms.positions[column == np.argmax(columns.counts), 2])
    np.testing.assert_allclose(np.diff(heights), within_column * 4.08)


def test_gold_columns_do_not_depend_on_tilt() -> None:
    upright, tilted = (gold(diameter=35.0, roughness=0.3, tilt=tilt)(np.random.default_rng(3)) for tilt in (0.0, 2.5))
    np.testing.assert_array_equal(upright[1].counts, tilted[1].counts)
    np.testing.assert_array_equal(np.bincount(upright[0].numbers), np.bincount(tilted[0].numbers))
    moved = np.linalg.norm(upright[1].positions - tilted[1].positions, axis=1)
    half = np.ptp(upright[0].positions[:, 2]) / 2
    assert 0.1 < moved.max() < 1.2 * half * np.sin(np.radians(2.5))
    # A column of n atoms leans by the sine of the tilt, and its position is its middle.
    away, _ = cKDTree(tilted[1].positions).query(tilted[0].positions[:, :2])
    longest = (upright[1].counts.max() - 1) * 4.08 / np.sqrt(2.0)
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


def test_gold_always_lies_in_the_field() -> None:
    sample = Gold("gold", ["Au"], 30.0, {}, diameter=28.0, offset=[0.0, 1.0], facet_spread=0.4, tilt=2.5, adatoms=4)
    for seed in range(10):
        atoms, columns = sample(np.random.default_rng(seed))
        assert np.all((atoms.positions[:, :2] >= 1.0 - 1e-9) & (atoms.positions[:, :2] <= 29.0 + 1e-9))
        assert columns.counts.sum() == len(atoms)
        assert bonds(atoms, 3.2).min() >= 3


def test_gold_is_put_where_the_offset_says() -> None:
    for seed in range(4):
        atoms, _ = gold(diameter=20.0, offset=5.0)(np.random.default_rng(seed))
        assert np.linalg.norm(atoms.positions[:, :2].mean(axis=0) - 25.6) == pytest.approx(5.0)


def test_gold_takes_each_zone_axis_equally_often() -> None:
    """Told by the shortest distance of two columns in units of the lattice constant."""
    sample = gold(diameter=15.0, zone_axes=[[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    shortest = []
    for seed in range(150):
        positions = sample(np.random.default_rng(seed))[1].positions
        shortest.append(round(cKDTree(positions).query(positions, k=2)[0][:, 1].min() / 4.08, 3))
    kinds, numbers = np.unique(shortest, return_counts=True)
    np.testing.assert_allclose(kinds, np.sqrt([1 / 6, 1 / 4, 3 / 8]), atol=1e-3)
    assert numbers.min() > 30


@pytest.mark.parametrize("axis", [[1, 1, 0], [1, 1, 1]])
def test_gold_twins_keep_their_columns_and_distances(axis: list[int]) -> None:
    """Every column stands upright, and yet some atoms have neighbours as in hcp."""
    found = 0
    for seed in range(6):
        atoms, columns = gold(diameter=30.0, zone_axes=[axis], twin=0.9)(np.random.default_rng(seed))
        distance, _ = cKDTree(atoms.positions).query(atoms.positions, k=2)
        np.testing.assert_allclose(distance[:, 1], 4.08 / np.sqrt(2.0))
        column = atoms.get_array("column")
        np.testing.assert_allclose(atoms.positions[:, :2], columns.positions[column], atol=1e-9)
        tree = cKDTree(atoms.positions)
        # Atoms of hcp stacking have neighbours at √(8/3) nearest distances, which fcc lacks.
        between = tree.count_neighbors(tree, 2.885 * 1.64) - tree.count_neighbors(tree, 2.885 * 1.62)
        found += between > 0
    assert found >= 4


def test_gold_has_short_columns_of_adatoms() -> None:
    plain, decorated = (
        gold(diameter=25.0, adatoms=adatoms, adatom_length=2)(np.random.default_rng(11))[1] for adatoms in (0, 5)
    )
    assert len(decorated) == len(plain) + 5
    assert decorated.counts.min() >= 1
    offset = decorated.positions.mean(axis=0) - plain.positions.mean(axis=0)
    assert np.linalg.norm(offset) < 2.0
    added = decorated.counts.sum() - plain.counts.sum()
    assert 5 <= added <= 10


def test_gold_grows_terraces() -> None:
    plain, grown = (gold(diameter=30.0, terraces=terraces)(np.random.default_rng(12))[0] for terraces in (0, 3))
    assert len(plain) + 6 < len(grown) < 1.3 * len(plain)
    assert bonds(grown, 3.2).min() >= 3


@pytest.mark.parametrize(("element", "nearest"), [("Pt", 3.92 / np.sqrt(2.0)), ("Fe", 2.87 * np.sqrt(3.0) / 2.0)])
def test_gold_may_be_another_metal(element: str, nearest: float) -> None:
    """One word is enough."""
    config = recipe("sample=gold", f"sample.element={element}")
    settings: Any = OmegaConf.to_container(config.sample, resolve=True)
    settings |= {"strain": 0.0}
    sample = hydra.utils.instantiate(settings, _convert_="all")
    assert sample.name == "gold"
    kinds = set()
    for seed in range(9):
        atoms, columns = sample(np.random.default_rng(seed))
        assert columns.classes == (element,)
        own = atoms[atoms.get_array("column") >= 0]
        assert set(own.symbols) == {element}
        kinds |= set(atoms.symbols) - {element}
        distance, _ = cKDTree(own.positions).query(own.positions, k=2)
        assert distance[:, 1].min() == pytest.approx(nearest)
    assert kinds == {"C", "Ce", "O"}


@pytest.mark.parametrize(
    ("axis", "between_columns", "within_column"),
    [([1, 0, 0], np.sqrt(1 / 2), 1.0), ([1, 1, 0], 1 / 2, np.sqrt(2.0)), ([1, 1, 1], np.sqrt(2 / 3), np.sqrt(3 / 4))],
)
def test_iron_columns_along_an_axis(axis: list[int], between_columns: float, within_column: float) -> None:
    sample = Gold("iron", ["Fe"], 51.2, {}, element="Fe", zone_axes=[axis], surface_energy_ratio=1.0)
    atoms, columns = sample(np.random.default_rng(2))
    spacing, _ = cKDTree(columns.positions).query(columns.positions, k=2)
    np.testing.assert_allclose(spacing[:, 1].min(), between_columns * 2.87, rtol=1e-6)
    heights = np.sort(atoms.positions[atoms.get_array("column") == np.argmax(columns.counts), 2])
    np.testing.assert_allclose(np.diff(heights), within_column * 2.87)


def test_iron_has_110_facets() -> None:
    """An atom of a {110} facet has 6 nearest neighbours of 8 and 4 of 6 in the second shell."""
    atoms, _ = Gold("iron", ["Fe"], 51.2, {}, element="Fe", diameter=40.0, surface_energy_ratio=1.4)(
        np.random.default_rng(5)
    )
    coordination = bonds(atoms, 3.0)
    assert coordination.max() == 14
    surface = coordination[coordination < 14]
    assert np.argmax(np.bincount(surface)) == 10


def test_a_given_displacement_counts_more_than_the_table() -> None:
    atoms, _ = Gold("gold", ["Au"], 51.2, {"Au": 0.1})(np.random.default_rng(0))
    assert set(atoms.get_array("rms_displacement")) == {0.1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": [40.0, 15.0]}, r"sample\.diameter .* swapped"),
        ({"diameter": -20.0}, r"sample\.diameter must be between 8 and 100 Å, got -20"),
        ({"tilt": [0.0, 90.0]}, r"sample\.tilt must be between 0 and 10 degrees"),
        ({"offset": -1.0}, r"sample\.offset must be between 0 and 25\.6 Å"),
        (
            {"diameter": [15.0, 48.0], "offset": 2.0},
            r"sample\.diameter, up to 48 .*sample\.offset.*sample\.extent.*51\.2 Å",
        ),
        ({"zone_axes": [[0, 0, 0]]}, r"sample\.zone_axes holds \[0, 0, 0\]"),
        ({"zone_axes": [[1, 0, 0]], "support": ["ceria"]}, r"sample\.support ceria .* sample\.zone_axes .* lacks"),
        ({"support": ["silica"]}, r"sample\.support must be .*silica"),
        ({"twin": -0.1}, r"sample\.twin must be between 0 and 0\.9"),
        ({"adatoms": -1}, r"sample\.adatoms must be between 0 and 20"),
        ({"adatoms": [0.2, 0.8]}, r"sample\.adatoms must be a whole number .* got \[0\.2, 0\.8\]"),
        ({"zone_axes": [[1.5, 0, 0]]}, r"sample\.zone_axes holds \[1\.5, 0, 0\]"),
        ({"terraces": [0, 99]}, r"sample\.terraces must be between 0 and 20"),
        ({"strain": 0.5}, r"sample\.strain must be between -0\.1 and 0\.1"),
        ({"element": "Ti"}, r"sample\.element .* 'Ti', which is hcp"),
        ({"element": "Cs"}, r"sample\.rms_displacement of gold has no value for Cs"),
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


@pytest.mark.parametrize(("axis", "spacing"), [([1, 1, 0], 4.08 / np.sqrt(2.0)), ([1, 0, 0], 4.08), ([1, 1, 1], 7.067)])
def test_gold_is_stretched_to_the_columns_that_were_asked_for(axis: list[int], spacing: float) -> None:
    """The longest columns have about so many atoms, and the particle is as wide as without."""
    settings = {"diameter": 24.0, "zone_axes": [axis], "thickest": 200.0}
    plain, _ = gold(**settings)(np.random.default_rng(3))
    for atoms_wanted in (4, 9, 15):
        atoms, columns = gold(**settings, longest=atoms_wanted)(np.random.default_rng(3))
        assert columns.counts.max() == pytest.approx(atoms_wanted, abs=0.2 * atoms_wanted + 1.0)
        assert np.ptp(atoms.positions[:, 0]) == pytest.approx(np.ptp(plain.positions[:, 0]), abs=5.0)
        assert np.ptp(atoms.positions[:, 2]) == pytest.approx((columns.counts.max() - 1) * spacing, abs=1.1 * spacing)


def test_a_stretched_particle_is_no_thicker_than_allowed() -> None:
    atoms, _ = gold(diameter=20.0, longest=40, thickest=30.0)(np.random.default_rng(0))
    assert np.ptp(atoms.positions[:, 2]) < 36.0


@pytest.mark.slow
def test_long_columns_are_not_rare_in_the_recipe() -> None:
    """160 particles have 19 % columns of 9 to 16 atoms and 44 % of 1 to 4."""
    sample = hydra.utils.instantiate(recipe("sample=gold", "sample.support=[vacuum,carbon]").sample, _convert_="all")
    counts = np.concatenate([sample(np.random.default_rng([5, n]))[1].counts for n in range(160)])
    short, long = np.mean(counts <= 4), np.mean((counts >= 9) & (counts <= 16))
    assert short == pytest.approx(0.44, abs=0.03)
    assert long == pytest.approx(0.19, abs=0.03)
    assert counts.max() <= 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"longest": 1}, r"sample\.longest.*between 2 and 100 atoms"),
        ({"thickest": 1.0}, r"sample\.thickest.*5 and 500"),
    ],
)
def test_gold_refuses_impossible_lengths(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gold(**settings)
