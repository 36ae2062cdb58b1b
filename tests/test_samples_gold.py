"""Gold nanoparticles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.samples import Gold


def gold(**settings: Any) -> Gold:
    return Gold("gold", ["Au"], 51.2, {"Au": 0.085}, **settings)


def bonds(atoms: Atoms, cutoff: float) -> np.ndarray:
    """Number of neighbours of each atom within ``cutoff`` Å."""
    pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
    return np.bincount(pairs.ravel(), minlength=len(atoms))


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
