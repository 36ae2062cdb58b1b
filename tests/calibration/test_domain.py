"""Images that a network has learnt from, and others."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import recipe
from hydra.utils import instantiate
from plain_preparation import remove_hot_pixels, resample

from hrtem.calibration.domain import EDGES, FEATURES, LEAST, Domain, features
from hrtem.micrograph import read
from hrtem.training.data import collate

SAMPLING = 0.2


def drawn(number, seed):
    """Features of a wide, skewed cloud."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.randn(number, FEATURES, generator=generator, dtype=torch.float64) @ mixed + 3.0


def test_a_fringe_is_in_its_band():
    x = torch.arange(128) * SAMPLING
    fringe = torch.cos(2 * torch.pi * 0.65 * x).expand(1, 1, 128, 128)
    bands = features(fringe, SAMPLING)[0, : len(EDGES) - 1]
    assert EDGES[int(bands.argmax())] == 0.6
    assert float(bands.max().exp()) > 0.95


def test_features_know_no_gain_and_the_moments_of_noise():
    noise = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    values = features(noise, SAMPLING)
    torch.testing.assert_close(features(7.0 * noise, SAMPLING), values)
    torch.testing.assert_close(values[:, -2:], torch.tensor([[0.0, np.log(3.0)]] * 2).double(), atol=0.03, rtol=0)
    # White noise has power in proportion to the area of a ring.
    area = torch.tensor([np.pi * (b**2 - a**2) * SAMPLING**2 for a, b in pairwise(EDGES)])
    torch.testing.assert_close(values[:, 6:-2].exp().mean(0), area[6:].double(), rtol=0.2, atol=0)


def test_most_of_the_same_kind_is_inside_and_another_kind_is_not():
    domain = Domain()
    domain.fit(drawn(400, seed=1), side=128)
    tail = domain.tail(drawn(2000, seed=2))
    assert 0.93 < float((tail >= LEAST).double().mean()) < 1.0
    assert 0.4 < float(tail.median()) < 0.6
    assert float(domain.tail(drawn(50, seed=2) + 100.0).max()) == 0.0


def test_too_few_images_teach_nothing():
    domain = Domain()
    domain.fit(drawn(10, seed=1), side=128)
    assert not domain.known
    assert domain.likeness(torch.zeros(1, 1, 64, 64), SAMPLING) is None


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, cache_folder):
    """A task that has seen 160 images of graphene, images of the test, and a domain they made."""
    words = [
        "sample.extent=38.4",
        "data.margin=24",
        "data.numbers={train: 12, val: 1, test: 6}",
        "wave.scheduler=inline",
    ]
    config = recipe(*words)
    data, task = instantiate(config.data), instantiate(config.task)
    data.prepare_data()

    def images(split, number):
        drawn = data.images(split, number)
        return task.simulate(collate([drawn[n] for n in range(number)]))

    domain = Domain()
    domain.fit(features(images("train", 160)["images"], SAMPLING), side=128)
    return task, domain, images("test", 80)


def inside(domain, images):
    return float((domain.tail(features(images, SAMPLING)) >= LEAST).double().mean())


@pytest.mark.slow
def test_simulated_test_images_are_in_the_domain(learnt):
    _, domain, test = learnt
    assert inside(domain, test["images"]) >= 0.95


@pytest.mark.slow
def test_a_picture_of_bright_spots_is_not(learnt):
    """As a scanning transmission microscope makes of an aligned lattice."""
    task, domain, _ = learnt
    x = torch.arange(128) * SAMPLING
    near = [((x - place) ** 2)[:, None] for place in torch.arange(1.0, 26.0, 2.4)]
    along = sum(torch.exp(-0.5 * distance2[:, 0] / 0.35**2) for distance2 in near)
    picture = torch.outer(along, along) + 0.02 * torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    assert inside(domain, task.normalise(picture[None, None], SAMPLING)) == 0.0


@pytest.mark.slow
def test_most_wrong_pixel_sizes_show(learnt):
    """Twice the true pixel size makes all fringes twice as wide; at low dose there is little of them to see."""
    task, domain, test = learnt
    bright = test["settings"]["dose"].flatten() > 5e3
    wide = [resample(one[0].numpy(), 2 * SAMPLING, SAMPLING)[64:192, 64:192] for one in test["counts"][bright]]
    assert inside(domain, task.normalise(torch.from_numpy(np.stack(wide))[:, None].float(), SAMPLING)) < 0.5


@pytest.mark.slow
def test_soot_is_not_in_the_domain(learnt):
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        pytest.skip("HRTEM_REAL_DATA is unset: no soot on this machine")
    task, domain, _ = learnt
    soot = read(Path(where) / "real" / "negative" / "soot.tif", sampling=0.1)
    clean = resample(remove_hot_pixels(soot.images[0]), 0.1, SAMPLING)
    likeness = domain.likeness(task.normalise(torch.from_numpy(clean).float()[None, None], SAMPLING), SAMPLING)
    assert likeness < LEAST
