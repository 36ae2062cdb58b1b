"""Focal series: their order, and images that come to lie on one another although their contrast is reversed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from hrtem.errors import InputError
from hrtem.micrograph import Acquisition, Micrograph, equalise_dose, order_series, register_series
from hrtem.micrograph.series import CONVINCING, measure_displacement
from hrtem.optics import Optics

SAMPLING = 0.2


def sheet(rng: np.random.Generator, side: int = 192, vacancies: float = 0.04) -> np.ndarray:
    """Exit wave of graphene with vacancies and a patch of something amorphous: Gaussian phases on its sites."""
    a = 2.46
    n = np.arange(-40, 41)
    i, j = (grid.ravel() for grid in np.meshgrid(n, n))
    corners = np.stack([a * (i + 0.5 * j), a * np.sqrt(0.75) * j], axis=1)
    sites = np.concatenate([corners, corners + np.array([0.0, a / np.sqrt(3.0)])])
    sites += (side - 1) * SAMPLING / 2
    sites = sites[((sites > 1.0) & (sites < (side - 2) * SAMPLING)).all(axis=1)]
    sites = sites[rng.random(len(sites)) > vacancies]
    phase = np.zeros((side, side))
    np.add.at(phase, tuple(np.rint(sites[:, ::-1] / SAMPLING).astype(int).T), 1.0)
    patch = ndimage.gaussian_filter(rng.normal(size=phase.shape), 2.0)
    patch[:, side // 3 :] = 0.0
    phase = ndimage.gaussian_filter(phase, 0.3 / SAMPLING)
    phase += phase.std() * 3.0 * patch
    return np.exp(0.1j * phase / phase.std())


def series(defocus: list[float], shifts: np.ndarray, dose: float, seed: int = 0, vacancies: float = 0.04) -> np.ndarray:
    """Counts ``(F, Y, X)`` of a sheet at some defoci, each image shifted by ``(x, y)`` Å."""
    rng = np.random.default_rng([0, seed])
    optics = Optics(
        num_images=len(defocus), energy=80e3, defocus=0.0, defocus_step=0.0, Cs=0.0, astigmatism=0.0,
        focal_spread=30.0, angular_spread=0.0, vibration=0.2, dose=dose,
    )  # fmt: skip
    settings = optics.draw(rng)
    settings["defocus"] = np.asarray(defocus, dtype=np.float32)
    settings["shift"] = np.asarray(shifts, dtype=np.float32)
    wave = torch.from_numpy(sheet(rng, vacancies=vacancies)).to(torch.complex64)[None]
    batch = {name: torch.as_tensor(value)[None] for name, value in settings.items()}
    intensity = optics(wave, batch, SAMPLING)[0].numpy()
    return rng.poisson(intensity.clip(0) * dose * SAMPLING**2).astype(np.float32)


def micrograph(images: np.ndarray, defocus: tuple[float, ...] | None = None) -> Micrograph:
    return Micrograph(images, SAMPLING, "s", Path("s.tif"), acquisition=Acquisition(defocus))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("defocus", [[40.0, 80.0, 120.0], [-60.0, 40.0, 90.0]])
def test_known_shifts_are_found(defocus: list[float], seed: int) -> None:
    """Up to 2 Å along either axis, within 0.1 Å, with the contrast of the lattice reversed in the second case."""
    shifts = np.random.default_rng([1, seed]).uniform(-2.0, 2.0, (3, 2))
    shifts[1] = 0.0
    aligned = register_series(micrograph(series(defocus, shifts, 1e5, seed)))
    assert aligned.remarks == ()
    np.testing.assert_allclose(aligned.shifts, -shifts, atol=0.1)
    wanted = series(defocus, np.zeros((3, 2)), 1e5, seed)
    inner = slice(16, -16)
    for moved, still in zip(aligned.images, wanted, strict=True):
        noise = np.sqrt(still.mean() * 2)  # of the difference of two exposures
        assert (moved - still)[inner, inner].std() < 1.1 * noise


def test_reversed_contrast_defeats_a_plain_correlation() -> None:
    """What the rings are for: the same two images by scikit-image alone."""
    shift = np.array([[1.3, -0.9], [0.0, 0.0]])
    image, reference = series([60.0, 220.0], shift, 1e4)
    found, score = measure_displacement(reference, image, SAMPLING)
    np.testing.assert_allclose(found, -shift[0], atol=0.1)
    assert score > CONVINCING
    for weighting in ("phase", None):
        plain = phase_cross_correlation(reference, image, upsample_factor=100, normalization=weighting)[0]
        assert np.hypot(*(plain[::-1] * SAMPLING + shift[0])) > 0.5


def test_gain_offset_and_sign_do_not_matter() -> None:
    shifts = np.array([[1.1, 0.7], [0.0, 0.0]])
    image, reference = series([60.0, 80.0], shifts, 1e5)
    found, score = measure_displacement(reference, image, SAMPLING)
    other, same = measure_displacement(-3.0 * reference + 7.0, 0.01 * image - 100.0, SAMPLING)
    np.testing.assert_allclose(other, found, atol=1e-3)
    assert same == pytest.approx(score, rel=1e-3)


def test_five_images_are_registered_from_neighbour_to_neighbour() -> None:
    shifts = np.cumsum(np.full((5, 2), [0.8, -0.6]), axis=0)
    shifts -= shifts[2]
    aligned = register_series(micrograph(series([20.0, 50.0, 80.0, 110.0, 140.0], shifts, 1e5)))
    np.testing.assert_allclose(aligned.shifts, -shifts, atol=0.15)


def test_what_cannot_be_registered_is_said_and_left() -> None:
    noise = np.random.default_rng([0, 9]).normal(size=(3, 128, 128)).astype(np.float32)
    left = register_series(micrograph(noise))
    np.testing.assert_array_equal(left.images, noise)
    np.testing.assert_array_equal(left.shifts, 0.0)
    (remark,) = left.remarks
    assert remark == "s.tif could not be registered with certainty: image 1, 3 of 3 was left where its neighbour is."


def test_noise_never_convinces() -> None:
    rng = np.random.default_rng([0, 10])
    scores = [measure_displacement(*rng.normal(size=(2, 96, 96)), SAMPLING)[1] for _ in range(60)]
    assert max(scores) < CONVINCING


def test_a_pixel_size_is_needed() -> None:
    with pytest.raises(InputError, match="does not say its pixel size"):
        register_series(Micrograph(np.random.default_rng(0).normal(size=(3, 32, 32)), None, "s", Path("s.tif")))


def test_the_order_is_that_of_the_defocus() -> None:
    images = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    ordered = order_series(micrograph(images, (80.0, -40.0, 20.0)))
    np.testing.assert_array_equal(ordered.images, images[[1, 2, 0]])
    assert ordered.acquisition.defocus == (-40.0, 20.0, 80.0)
    given = order_series(micrograph(images, (80.0, -40.0, 20.0)), defocus=[1, 3, 2])
    np.testing.assert_array_equal(given.images, images[[0, 2, 1]])
    np.testing.assert_array_equal(order_series(micrograph(images)).images, images)  # unknown: as it came


def test_series_of_unequal_doses_are_brought_to_one_brightness() -> None:
    rng = np.random.default_rng(0)
    images = rng.poisson(100.0, (3, 64, 64)).astype(np.float32) * np.array([2.0, 1.0, 0.4], np.float32)[:, None, None]
    even = equalise_dose(images)
    np.testing.assert_array_equal(even[1], images[1])
    np.testing.assert_allclose(even.mean(axis=(1, 2)), images[1].mean(), rtol=1e-5)
    assert even.dtype == np.float32
    # Equal doses, single images, and those whose zero is not that of the electrons stay as they are.
    for same in (images[1:2].repeat(3, axis=0), images[:1], images - images.mean()):
        assert equalise_dose(same) is same
