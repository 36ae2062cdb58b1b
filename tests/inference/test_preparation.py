"""Micrographs as a network is to see them: without hot pixels, and at its pixel size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hrtem.inference.preparation import _noise, without_hot_pixels
from hrtem.inference.resampling import ResampledAxis, is_unchanged, resample_window


def remove_hot_pixels(image):
    """A whole image without hot pixels."""
    image = np.asarray(image, np.float32)
    rows, columns = image.shape
    return without_hot_pixels(image, _noise(image), 0, rows, 0, columns).numpy()


def resample(image, sampling, target):
    """A whole image at another pixel size."""
    same = is_unchanged(image.shape, sampling, target)
    rows, columns = (ResampledAxis(size, sampling, target, same) for size in image.shape)
    across = resample_window(torch.as_tensor(image, dtype=torch.float32).T, columns, 0, columns.size).T
    return resample_window(across, rows, 0, rows.size).numpy()


# Hot pixels -----------------------------------------------------------------------------------------------------


def atoms(width, shape=(64, 72)):
    """Gaussian atoms of some full width at half maximum (px) on sites 8 px apart, off the pixel centres."""
    rng = np.random.default_rng([0, 2])
    y, x = np.mgrid[: shape[0], : shape[1]]
    sigma = width / 2.3548
    image = np.zeros(shape)
    for row in range(4, shape[0], 8):
        for column in range(4, shape[1], 8):
            dy, dx = rng.uniform(-0.5, 0.5, 2)
            image += np.exp(-((y - row - dy) ** 2 + (x - column - dx) ** 2) / (2 * sigma**2))
    return image


@pytest.mark.parametrize("width", [2.0, 3.0, 6.0])
@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03, 0.3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_atoms_are_not_hot_pixels(width, noise, sign):
    image = sign * atoms(width) + np.random.default_rng([0, 3]).normal(0.0, 1.0, (64, 72)) * noise
    np.testing.assert_array_equal(remove_hot_pixels(image), image.astype(np.float32))


def test_single_electrons_are_not_hot_pixels():
    counts = np.random.default_rng([0, 4]).poisson(0.1, (128, 128)).astype(np.float32)
    assert np.mean(remove_hot_pixels(counts) != counts) < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_hot_and_dead_pixels_are_removed(noise):
    clean = 10.0 + atoms(5.0) + np.random.default_rng([0, 5]).normal(0.0, 1.0, (64, 72)) * noise
    image = clean.astype(np.float32)
    hot = [(20, 21), (0, 0), (0, 30), (63, 71), (40, 40), (40, 41)]  # inside, corners, an edge, and a pair
    for pixel in hot:
        image[pixel] += 100.0
    image[50, 13] = -50.0
    cleaned = remove_hot_pixels(image)
    assert cleaned.dtype == np.float32
    assert np.abs(cleaned - clean).max() < 0.4 + 4 * noise
    assert set(zip(*np.nonzero(cleaned != image), strict=True)) == {*hot, (50, 13)}


def test_hot_pixels_do_not_depend_on_gain_and_offset():
    image = atoms(4.0) + np.random.default_rng([0, 6]).normal(0.0, 0.05, (64, 72))
    image[30, 30] += 3.0
    cleaned = remove_hot_pixels(image)
    assert abs(cleaned[30, 30] - image[30, 30]) > 2.0
    for gain, offset in [(1e-3, 0.0), (500.0, 1e4), (-2.0, 7.0)]:
        np.testing.assert_allclose(remove_hot_pixels(gain * image + offset), gain * cleaned + offset, rtol=1e-4)


# Pixel size -----------------------------------------------------------------------------------------------------

TARGET = 0.2
STEPS = [0.05, 0.1, 0.1185, 0.1382, 0.19, 0.2188, 0.3]


@pytest.mark.parametrize("sampling", STEPS)
def test_a_period_of_two_angstrom_is_kept(sampling):
    rows, columns = int(12 / sampling), int(40 / sampling)
    angle = 2 * np.pi * np.arange(columns) * sampling / 2.0
    image = np.tile(5.0 + np.cos(angle + 0.7), (rows, 1))
    output = resample(image, sampling, TARGET)
    assert output.dtype == np.float32
    assert output.shape == tuple(int((n - 1) * sampling / TARGET + 1e-6) + 1 for n in image.shape)
    angle = 2 * np.pi * np.arange(output.shape[1]) * TARGET / 2.0
    basis = np.stack([np.cos(angle), -np.sin(angle), np.ones_like(angle)], axis=1)
    inner = slice(10, -10)  # mirrored edges bend a wave
    a, b, mean = np.linalg.lstsq(basis[inner], output[len(output) // 2][inner], rcond=None)[0]
    assert np.hypot(a, b) == pytest.approx(1.0, abs=0.017)
    assert mean == pytest.approx(5.0, abs=1e-4)
    assert np.arctan2(b, a) == pytest.approx(0.7, abs=2 * np.pi * 0.02 * TARGET / 2.0)  # 0.02 px


@pytest.mark.parametrize("sampling", STEPS)
def test_atoms_stay_where_they_are(sampling):
    """The centroid of one atom, on either axis, at the same place in Å; its volume in Å² too."""
    x0, y0, sigma = 7.31, 5.87, 0.5
    x, y = np.arange(int(15 / sampling)) * sampling, np.arange(int(12 / sampling)) * sampling
    image = np.exp(-((x[None] - x0) ** 2 + (y[:, None] - y0) ** 2) / (2 * sigma**2))
    output = resample(image, sampling, TARGET)
    volume = output.sum(dtype=np.float64)
    found_x = (output.sum(axis=0) * np.arange(output.shape[1])).sum() * TARGET / volume
    found_y = (output.sum(axis=1) * np.arange(output.shape[0])).sum() * TARGET / volume
    assert found_x == pytest.approx(x0, abs=0.02 * TARGET)
    assert found_y == pytest.approx(y0, abs=0.02 * TARGET)
    assert volume * TARGET**2 == pytest.approx(2 * np.pi * sigma**2, rel=1e-3)


@pytest.mark.parametrize("sampling", [0.05, 0.1, 0.1185, 0.1382])
def test_coarsening_averages_noise_as_larger_pixels_do(sampling):
    """White noise ends near white, with the deviation that a mean over a square pixel leaves."""
    noise = np.random.default_rng([0, 7]).normal(size=(300, 300))
    output = resample(noise, sampling, TARGET)
    assert output.std() == pytest.approx(sampling / TARGET, rel=0.15)
    neighbours = np.corrcoef(output[:, 1:].ravel(), output[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.1


def test_the_extent_is_covered():
    image = np.random.default_rng([0, 8]).normal(size=(31, 41))
    assert resample(image, 0.1, 0.3).shape == (11, 14)  # 3.0 Å / 0.3 Å is a whole number, but not in floating point
    assert resample(image, 0.3, 0.1).shape == (91, 121)
    np.testing.assert_allclose(resample(image, 0.3, 0.1)[::3, ::3], image, atol=1e-6)
    np.testing.assert_allclose(resample(np.full((31, 41), 3.0), 0.12, 0.2), 3.0, rtol=1e-6)


def test_equal_pixel_sizes_change_nothing():
    image = np.random.default_rng([0, 9]).normal(size=(20, 20)).astype(np.float32)
    np.testing.assert_array_equal(resample(image, 0.2001, 0.2), image)  # within 0.02 px over 20 px
    wide = np.tile(image, (1, 200))
    assert resample(wide, 0.2001, 0.2).shape == (20, 4001)  # but 2 px over 4000
