"""Samples: what every one of them promises, and what is known of each."""

from __future__ import annotations

import functools
from typing import Any

import conftest
import hydra.utils
import numpy as np
import pytest
from ase import Atoms
from conftest import ROOT, SAID
from omegaconf import OmegaConf
from scipy.spatial import cKDTree

import hrtem.samples
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Sample
from hrtem.samples.amorphous import BOND, amorphous_carbon

RECIPES = sorted(path.stem for path in (ROOT / "conf" / "sample").glob("*.yaml"))
SEEDS = range(4)


def settings_of(recipe: str) -> dict[str, Any]:
    config = conftest.recipe(f"sample={recipe}", *SAID.get(f"sample/{recipe}", []))
    settings: Any = OmegaConf.to_container(config.sample, resolve=True)
    return settings


def sample_of(recipe: str) -> Sample:
    return hydra.utils.instantiate(settings_of(recipe), _convert_="all")


@functools.cache
def drawn(recipe: str, seed: int) -> tuple[Atoms, Columns]:
    return sample_of(recipe)(np.random.default_rng(seed))


def test_every_sample_has_a_recipe() -> None:
    recipes = {settings_of(recipe)["_target_"].rpartition(".")[2] for recipe in RECIPES}
    assert recipes >= set(hrtem.samples.__all__) - {"Sample"}


@pytest.mark.parametrize("recipe", RECIPES)
class TestEverySample:
    def test_is_called_like_its_recipe(self, recipe: str) -> None:
        assert sample_of(recipe).name == recipe

    def test_draws_what_a_sample_promises(self, recipe: str) -> None:
        sample = sample_of(recipe)
        for seed in SEEDS:
            atoms, columns = drawn(recipe, seed)
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

    def test_says_which_atom_stands_in_which_column(self, recipe: str) -> None:
        for seed in SEEDS:
            atoms, columns = drawn(recipe, seed)
            column = atoms.get_array("column")
            assert column.min() >= -1
            inside = column >= 0
            np.testing.assert_array_equal(np.bincount(column[inside], minlength=len(columns)), columns.counts)
            for axis in (0, 1):
                sums = np.bincount(column[inside], atoms.positions[inside, axis], minlength=len(columns))
                filled = columns.counts > 0
                means = sums[filled] / columns.counts[filled]
                np.testing.assert_allclose(means, columns.positions[filled, axis], atol=1e-6)

    def test_keeps_columns_apart(self, recipe: str) -> None:
        _, columns = drawn(recipe, 0)
        distance, _ = cKDTree(columns.positions).query(columns.positions, k=2)
        assert distance[:, 1].min() > 0.8

    def test_repeats_a_seed_and_no_other(self, recipe: str) -> None:
        sample = sample_of(recipe)
        first, again, other = (sample(np.random.default_rng([0, seed])) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first[0].positions, again[0].positions)
        np.testing.assert_array_equal(first[0].numbers, again[0].numbers)
        np.testing.assert_array_equal(first[1].positions, again[1].positions)
        np.testing.assert_array_equal(first[1].labels, again[1].labels)
        assert first[1].positions.shape != other[1].positions.shape or not np.allclose(
            first[1].positions, other[1].positions
        )

    def test_refuses_unknown_classes(self, recipe: str) -> None:
        settings = settings_of(recipe) | {"classes": ["unobtainium"]}
        kind = getattr(hrtem.samples, settings.pop("_target_").rpartition(".")[2])
        with pytest.raises(InputError, match=r"sample\.classes of .* must be .*unobtainium"):
            kind(**settings)

    def test_refuses_an_element_without_displacement(self, recipe: str) -> None:
        settings = settings_of(recipe) | {"rms_displacement": {}}
        kind = getattr(hrtem.samples, settings.pop("_target_").rpartition(".")[2])
        with pytest.raises(InputError, match=r"sample\.rms_displacement"):
            kind(**settings)(np.random.default_rng(0))


def test_amorphous_carbon_has_its_density_and_no_close_pairs(rng: np.random.Generator) -> None:
    box = np.array([30.0, 20.0, 12.0])
    positions = amorphous_carbon(box, rng, density=1.9)
    grams_per_cubic_centimetre = len(positions) * 12.011 / 6.02214076e23 / (box.prod() * 1e-24)
    assert grams_per_cubic_centimetre == pytest.approx(1.9, rel=1e-3)
    assert np.all((positions >= 0.0) & (positions <= box))
    # Across the seams too.
    distance, _ = cKDTree(positions, boxsize=[30.0, 20.0, 0.0]).query(positions, k=2)
    assert np.quantile(distance[:, 1], 0.01) > 0.93 * BOND
    assert distance[:, 1].min() > 0.8 * BOND
    # As many in each quarter of its depth.
    layers, _ = np.histogram(positions[:, 2], bins=4, range=(0.0, 12.0))
    np.testing.assert_allclose(layers / len(positions), 0.25, atol=0.06)
