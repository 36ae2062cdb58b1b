"""From waves to counts, as training, tests, benchmark and gallery make them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate

from hrtem.training.data import collate


@pytest.fixture
def batch(configuration):
    module = instantiate(configuration(*TINY, "noise=none").data)
    module.prepare_data()
    return module, collate([module.images("train", 2)[n] for n in range(2)])


def test_without_a_detector_counts_are_the_expected_image_times_the_dose(batch):
    module, examples = batch
    settings = examples["settings"]
    counts = module.imaging.simulate_counts(examples["wave"], settings)
    image = module.imaging.form_image(examples["wave"], settings)[..., 16:-16, 16:-16]
    np.testing.assert_allclose(counts, image * settings["dose"][:, None, None, None] * 0.04, rtol=1e-5)


def test_missing_images_are_zero(batch):
    module, examples = batch
    settings = examples["settings"] | {"present": torch.tensor([[1.0], [0.0]])}
    counts = module.imaging.simulate_counts(examples["wave"], settings)
    assert counts[0].min() > 0.0
    assert counts[1].max() == 0.0


def test_snapshots_are_served_together_and_averaged_before_the_noise(configuration):
    module = instantiate(configuration(*TINY, "wave.frozen_phonons=3", "noise=none").data)
    module.prepare_data()
    batch = collate([module.images("train", 2)[n] for n in range(2)])
    assert batch["wave"].shape == (2, 3, 96, 96)
    simulate, settings = module.imaging.simulate_counts, batch["settings"]
    together = simulate(batch["wave"], settings)
    one_by_one = [simulate(batch["wave"][:, n], settings) for n in range(3)]
    assert together.shape == (2, 1, 64, 64)
    torch.testing.assert_close(together, torch.stack(one_by_one).mean(dim=0))
    assert not torch.allclose(together, one_by_one[0], rtol=1e-3)
