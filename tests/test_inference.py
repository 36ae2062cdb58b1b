"""Networks on images of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate

from hrtem.errors import InputError
from hrtem.inference import Finder
from hrtem.micrograph import Micrograph


@pytest.fixture
def task(configuration):
    torch.manual_seed(0)
    return instantiate(configuration(*TINY, "peaks.threshold=0.0").task).eval()


def micrograph(images, sampling=0.2):
    return Micrograph(np.asarray(images, np.float32), sampling, "test", "test.npy")


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (33, 70), (129, 97)])
def test_any_size(task, shape):
    prediction = Finder(task).find(micrograph(noise(1, *shape)))
    assert prediction.maps.shape == (1, *shape)
    assert prediction.images.shape == (1, *shape)
    x, y = prediction.columns.positions.T / 0.2
    assert x.max() <= shape[1] - 0.5
    assert y.max() <= shape[0] - 0.5


def test_tiles_leave_no_seam(task):
    images = torch.from_numpy(noise(1, 1, 420, 500))
    whole = Finder(task, tile=1024).maps(images)
    tiled = Finder(task, tile=384, halo=128).maps(images)
    torch.testing.assert_close(whole, tiled, atol=2e-5, rtol=1e-4)


def test_positions_are_those_of_the_input(task):
    """A network that lights up where the image does finds a bright spot at its place, whatever the pixel size."""

    class Spots(torch.nn.Module):
        def forward(self, images):
            # The normalised image is far above 1 only at the spot.
            return 4.0 * (images - 3.0)

    task.net = Spots()
    task.find_peaks.threshold = 0.5
    for sampling in (0.1, 0.2, 0.31):
        y, x = np.mgrid[:120, :150] * sampling
        spot = np.exp(-0.5 * ((x - 7.3) ** 2 + (y - 4.4) ** 2) / 0.3**2)
        prediction = Finder(task).find(micrograph(spot[None] + 0.01 * noise(1, 120, 150), sampling))
        best = prediction.columns.probabilities.argmax()
        np.testing.assert_allclose(prediction.columns.positions[best], [7.3, 4.4], atol=0.03)


def test_gain_offset_and_hot_pixel_do_not_matter(task):
    image = noise(1, 96, 96)
    hot = image.copy()
    hot[0, 50, 40] += 1e4
    finder = Finder(task)
    plain = finder.find(micrograph(image)).maps
    np.testing.assert_allclose(finder.find(micrograph(300 * image + 5000)).maps, plain, atol=2e-3)
    far = np.hypot(*(np.mgrid[:96, :96] - np.array([50, 40])[:, None, None])) > 45
    np.testing.assert_allclose(finder.find(micrograph(hot)).maps[0][far], plain[0][far], atol=0.02)


def test_a_symmetric_finder_turns_with_the_image(task, monkeypatch):
    """Its maps of a mirrored image are the mirrored maps, which those of the plain network are not."""
    monkeypatch.setattr("hrtem.task.ColumnFinder.load", lambda path: task)
    images = torch.from_numpy(noise(1, 1, 64, 96))
    plain = Finder.load("any").maps(images)
    symmetric = Finder.load("any", symmetric=True)
    torch.testing.assert_close(symmetric.maps(images.flip(-1)), symmetric.maps(images).flip(-1), atol=1e-5, rtol=1e-5)
    assert (symmetric.maps(images) - plain).abs().max() > 1e-3


def test_what_the_model_cannot_take_is_refused(task):
    finder = Finder(task)
    with pytest.raises(InputError, match=r"single images.*test\.npy holds 2"):
        finder.find(micrograph(noise(2, 64, 64)))
    with pytest.raises(InputError, match="sampling"):
        finder.find(micrograph(noise(1, 64, 64), sampling=None))
    with pytest.raises(InputError, match="tile"):
        Finder(task, tile=100)
    with pytest.raises(InputError, match=r"device.*quantum"):
        Finder(task, device="quantum")
