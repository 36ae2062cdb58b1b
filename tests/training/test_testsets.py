"""Test sets of trained models: what they are of, and that they are the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY, tiny
from hydra.utils import instantiate

from hrtem.errors import InputError
from hrtem.training.testsets import SEED, simulate_test_set


@pytest.fixture
def task(configuration):
    return instantiate(configuration(*TINY, "focal=2", "optics.dose_per=series").task)


def test_views_at_each_dose_of_the_models_own_tests(task):
    found = simulate_test_set(task, views=2, patch=64)
    assert (found.name, found.doses, found.totals) == ("own", (1e3, 1e5), (1e3, 1e5))
    assert len(list(found)) == 4
    assert found.extent == pytest.approx(63 * task.sampling)
    assert found.images.seed == SEED
    assert [float(one["settings"]["dose"]) for one in found] == [500.0, 5e4] * 2
    assert simulate_test_set(task, views=1, doses=(2e3,), patch=64).doses == (2e3,)


def test_the_checksum_is_of_the_truth(task):
    """The same again, another one for another structure, microscope or seed."""
    one = simulate_test_set(task, views=1, patch=64)
    assert one.checksum == simulate_test_set(task, views=1, patch=64).checksum
    sample, optics = {"sample": {"strain": 0.0}}, {"optics": {"defocus": 50.0}}
    others = [simulate_test_set(task, views=1, patch=64, changes=changes).checksum for changes in (sample, optics)]
    others.append(simulate_test_set(task, views=1, patch=64, seed=SEED + 1).checksum)
    assert len({one.checksum, *others}) == 4


def test_structures_grow_with_the_images(configuration):
    task = instantiate(configuration("sample=gold", *tiny("sample=gold")).task)
    found = simulate_test_set(task, views=1, patch=128, doses=(1e3,), changes={"sample": {"tilt": 0.0}})
    assert found.images.cache.sample.extent == pytest.approx((128 + 2 * found.images.imaging.margin) * task.sampling)
    assert found.images.cache.sample.tilt.high == 0.0
    assert found.images.cache.sample.rms_displacement["Ce"] == 0.065
    assert len(found.images[0]["columns"])


def test_nested_settings_are_changed_by_name(configuration):
    task = instantiate(configuration("sample=mos2", *TINY).task)
    changes = {"sample": {"contamination": {"probability": 1.0}}}
    sample = simulate_test_set(task, views=1, patch=64, changes=changes).images.cache.recipe["sample"]
    assert sample["contamination"]["probability"] == 1.0
    assert sample["contamination"]["thickness"] == [3.0, 12.0]


def test_unknown_parts_and_settings_are_refused(task):
    with pytest.raises(InputError, match="sample, optics and noise, got model"):
        simulate_test_set(task, views=1, patch=64, changes={"model": {}})
    with pytest.raises(Exception, match="defocussing"):
        simulate_test_set(task, views=1, patch=64, changes={"optics": {"defocussing": 1}})


def test_no_training_draws_from_the_seed_of_the_tests(configuration):
    """The default seed is another, and a test's structures are those of another split of it."""
    assert configuration().seed != SEED
    first = [np.random.default_rng([seed, split, 0]).random() for seed in (0, SEED) for split in range(3)]
    assert len(set(first)) == 6


def test_images_are_exact_whatever_the_model_was_trained_with(configuration):
    task = instantiate(configuration("sample=mos2", *TINY, "optics.coherence=envelope").task)
    assert simulate_test_set(task, views=1, patch=64).images.imaging.optics.coherence == "exact"
    damped = simulate_test_set(task, views=1, patch=64, changes={"optics": {"coherence": "envelope"}})
    assert damped.images.imaging.optics.coherence == "envelope"
    # The truth is the same, and the images are not.
    assert damped.checksum != simulate_test_set(task, views=1, patch=64).checksum


def test_a_changed_energy_changes_the_wave_too(task):
    found = simulate_test_set(task, views=1, patch=64, changes={"optics": {"energy": 300e3}})
    assert found.images.imaging.optics.energy == found.images.cache.wave.energy == 300e3


def test_contrasts_are_those_of_the_expected_images(task):
    found = simulate_test_set(task, views=2, patch=64)
    assert len(found.contrasts) == 2
    assert found.contrasts == simulate_test_set(task, views=2, patch=64, doses=(5.0,)).contrasts
    assert min(found.contrasts) > 0.0


def test_margins_are_those_that_the_optics_needs(task):
    found = simulate_test_set(task, views=1, patch=64)
    assert found.images.imaging.margin == task.optics.margin(task.sampling) > task.margin
