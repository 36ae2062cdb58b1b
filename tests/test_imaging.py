"""From waves to counts, as training, tests, benchmark and gallery make them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate

from hrtem.imaging import form_image, simulate_counts
from hrtem.training.data import collate


@pytest.fixture
def batch(configuration):
    module = instantiate(configuration(*TINY, "noise=none").data)
    module.prepare_data()
    return module, collate([module.images("train", 2)[n] for n in range(2)])


def test_without_a_detector_counts_are_the_expected_image_times_the_dose(batch):
    module, examples = batch
    settings = examples["settings"]
    counts = simulate_counts(module.optics, module.noise, examples["wave"], settings, 0.2, 16)
    image = form_image(module.optics, examples["wave"], settings, 0.2)[..., 16:-16, 16:-16]
    np.testing.assert_allclose(counts, image * settings["dose"][:, None, None, None] * 0.04, rtol=1e-5)


def test_missing_images_are_zero(batch):
    module, examples = batch
    settings = examples["settings"] | {"present": torch.tensor([[1.0], [0.0]])}
    counts = simulate_counts(module.optics, module.noise, examples["wave"], settings, 0.2, 16)
    assert counts[0].min() > 0.0
    assert counts[1].max() == 0.0


def test_snapshots_are_served_together_and_averaged_before_the_noise(configuration):
    module = instantiate(configuration(*TINY, "wave.frozen_phonons=3", "noise=none").data)
    module.prepare_data()
    batch = collate([module.images("train", 2)[n] for n in range(2)])
    assert batch["wave"].shape == (2, 3, 96, 96)
    arguments = batch["settings"], 0.2, 16
    together = simulate_counts(module.optics, module.noise, batch["wave"], *arguments)
    one_by_one = [simulate_counts(module.optics, module.noise, batch["wave"][:, n], *arguments) for n in range(3)]
    assert together.shape == (2, 1, 64, 64)
    torch.testing.assert_close(together, torch.stack(one_by_one).mean(dim=0))
    assert not torch.allclose(together, one_by_one[0], rtol=1e-3)
