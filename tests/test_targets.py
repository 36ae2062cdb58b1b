"""Target maps, and the round trip columns → maps → peaks → columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hrtem.errors import InputError
from hrtem.metrics import match
from hrtem.peaks import MassPeaks
from hrtem.targets import GaussianMaps

SAMPLING, SIGMA = 0.2, 0.25


def test_a_column_on_a_pixel_centre():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[0]]), (12, 24), SAMPLING)
    assert maps.shape == (1, 1, 12, 24)
    assert float(maps[0, 0, 5, 15]) == pytest.approx(1.0)  # x = 3 Å is the pixel column 15, y = 1 Å the row 5
    assert float(maps[0, 0, 5, 16]) == pytest.approx(np.exp(-0.5 * (SAMPLING / SIGMA) ** 2), rel=1e-5)


def test_the_mass_is_that_of_a_gaussian():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[3.07, 2.93]]]), torch.tensor([[0]]), (32, 32), SAMPLING)
    assert float(maps.sum()) * SAMPLING**2 == pytest.approx(2 * np.pi * SIGMA**2, rel=1e-3)


def test_classes_have_their_own_maps_and_fillers_none():
    positions = torch.tensor([[[1.0, 1.0], [4.0, 4.0]], [[2.0, 2.0], [0.0, 0.0]]])
    labels = torch.tensor([[0, 2], [1, -1]])
    maps = GaussianMaps(3, SIGMA)(positions, labels, (32, 32), SAMPLING)
    occupied = maps.amax(dim=(2, 3)) > 0.5
    assert occupied.tolist() == [[True, False, True], [False, True, False]]


def test_columns_beyond_the_border_reach_in():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[-0.2, 1.0], [9.0, 9.0]]]), torch.tensor([[0, 0]]), (16, 16), SAMPLING)
    assert float(maps[0, 0, 5, 0]) == pytest.approx(np.exp(-0.5 * (0.2 / SIGMA) ** 2), rel=1e-5)
    assert float(maps[0, 0, 12:, 12:].max()) == 0.0


def test_neighbours_do_not_add_up():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[2.0, 2.0], [2.2, 2.0]]]), torch.tensor([[0, 0]]), (32, 32), SAMPLING)
    assert float(maps.max()) == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [("C",), ("Mo", "S2", "S")])
def test_round_trip(classes, rng):
    """Random columns at least 1.3 Å apart come back within 0.01 Å with their class and a probability near 1."""
    points = np.empty((0, 2))
    while len(points) < 150:
        point = rng.uniform(1.0, 24.4, size=2)
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > 1.3:
            points = np.vstack([points, point])
    labels = rng.integers(len(classes), size=len(points))
    maps = GaussianMaps(len(classes), SIGMA)(
        torch.from_numpy(points)[None].float(), torch.from_numpy(labels)[None], (128, 128), SAMPLING
    )
    peaks = MassPeaks(sigma=SIGMA, radius=0.6, min_distance=0.6, threshold=0.5)
    (found,) = peaks(maps, SAMPLING, classes)
    i, j = match(found.positions, points)
    assert len(found) == len(i) == len(points)
    assert np.abs(found.positions[i] - points[j]).max() < 0.03
    assert np.sqrt(np.square(found.positions[i] - points[j]).mean()) < 0.01
    np.testing.assert_array_equal(found.labels[i], labels[j])
    assert found.probabilities.min() > 0.9


@pytest.mark.parametrize(("channels", "sigma"), [(0, 0.25), (1, -1.0), (1, [0.3, 0.2])])
def test_bad_settings_are_refused(channels, sigma):
    with pytest.raises(InputError, match=r"target\."):
        GaussianMaps(channels, sigma)
