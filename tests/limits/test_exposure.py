"""Limits: against dense algebra, against noise that was really drawn, and against answers known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from hrtem.imaging import Imaging
from hrtem.limits import Exposure, compute_confusion, find_dose, move_columns
from hrtem.noise import Physical, Poisson
from hrtem.optics import Optics, filter_image
from hrtem.waves.multislice import Multislice

SAMPLING = 0.2
WAVE = Multislice(80e3, SAMPLING)
CAMERA = dict(half=0.4, power=2.0, correlation=0.6, readout=0.8, camera_sampling=0.2)


def exposure(noise=None, dose=1e3, **changes):
    optics = Optics(1, 80e3, 60.0, 0.0, -1e5, 0.0, 30.0, 0.0, 0.0, dose, **changes)
    return exposed(optics, noise or Poisson())


def exposed(optics, noise):
    imaging = Imaging(optics, noise, SAMPLING, margin=0)
    return Exposure(imaging, imaging.draw(np.random.default_rng(0)))


def carbon(*places, side=9.6):
    positions = [(*place, 1.0) for place in places]
    atoms = Atoms("C" * len(places), positions, cell=[side, side, 2.0], pbc=[True, True, False])
    atoms.set_array("rms_displacement", np.full(len(atoms), 0.06))
    atoms.set_array("column", np.arange(len(atoms)))
    return atoms


def position_limits(one, atoms):
    """Of all columns of the atoms."""
    moved = move_columns(WAVE, atoms, range(len(atoms)))
    return one.position_limits(one.expected(WAVE(atoms)[None])[0], one.changes(moved))


def expected_and_changes(shape=(12, 12), number=3):
    generator = torch.Generator().manual_seed(0)
    expected = 1.0 + 0.3 * torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    return expected, torch.randn(number, 1, *shape, generator=generator, dtype=torch.float64)


def test_information_on_the_brightness_is_the_number_of_electrons():
    expected, _ = expected_and_changes()
    information = exposure(dose=500.0).information(expected[None], expected)
    assert information.item() == pytest.approx(500.0 * SAMPLING**2 * float(expected.sum()), rel=1e-9)


@pytest.mark.parametrize("readout", [0.0, 0.8])
def test_information_is_that_of_the_dense_covariance(readout):
    noise = Physical(**{**CAMERA, "readout": readout})
    one = exposure(noise, dose=300.0)
    expected, changes = expected_and_changes()
    settings = {name: torch.as_tensor(value)[None] for name, value in one.settings.items()}
    unit = torch.eye(144, dtype=torch.float64).reshape(144, 1, 12, 12)
    spread = filter_image(unit, noise.noise_transfer((12, 12), settings, SAMPLING).double()).reshape(144, 144).T
    shot = noise.shot_variance(expected[None], settings, SAMPLING).flatten()
    covariance = spread @ torch.diag(shot) @ spread.T + torch.eye(144) * readout**2
    response = noise.signal_transfer((12, 12), settings, SAMPLING).double()
    signal = (filter_image(changes, response) * 300.0 * SAMPLING**2).reshape(3, 144)
    dense = signal @ torch.linalg.solve(covariance, signal.T)
    np.testing.assert_allclose(one.information(changes, expected), dense.numpy(), rtol=1e-4, atol=1e-6)


def test_drawn_noise_scatters_the_best_estimate_by_the_bound():
    """The weighted least squares estimate of a brightness change, from 400 images of the detector itself."""
    noise = Physical(**CAMERA)
    one = exposure(noise, dose=2e3)
    expected, changes = expected_and_changes((16, 16), number=1)
    settings = {name: torch.as_tensor(value).expand(400, *np.shape(value)) for name, value in one.settings.items()}
    settings["seed"] = 10 * torch.arange(400)
    drawn = noise(expected.float().expand(400, 1, 16, 16), settings, SAMPLING).double()
    response = noise.signal_transfer((16, 16), settings, SAMPLING)[:1].double()
    mean = filter_image(expected, response[0]) * 2e3 * SAMPLING**2
    # As a change of the expected image, which the information then filters again.
    deviations = filter_image(drawn - mean, 1.0 / response) / (2e3 * SAMPLING**2)
    information = one.information(torch.cat([changes, deviations]), expected)
    estimates = information[0, 1:] / information[0, 0]
    assert estimates.std() == pytest.approx(information[0, 0] ** -0.5, rel=0.12)
    assert abs(estimates.mean()) < 4.0 * information[0, 0] ** -0.5 / np.sqrt(400)


@pytest.mark.slow
def test_two_structures_are_confused_as_often_as_the_likelihoods_say():
    """Real Poisson counts and the exact likelihood ratio, for atom or void at a low dose."""
    one = exposure(dose=250.0)
    waves = np.stack([WAVE(carbon((4.8, 4.8))), WAVE(carbon())])
    error = compute_confusion(one.separation(*waves))
    assert 0.05 < error < 0.4
    means = one.expected(waves)[:, 0].numpy() * 250.0 * SAMPLING**2
    counts = np.random.default_rng(0).poisson(means[:, None], size=(2, 4000, *means.shape[1:]))
    ratio = (counts * np.log(means[0] / means[1])).sum(axis=(2, 3)) - (means[0] - means[1]).sum()
    mistaken = 0.5 * (np.mean(ratio[0] < 0) + np.mean(ratio[1] > 0))
    assert mistaken == pytest.approx(error, abs=0.02)


def test_position_limits_fall_with_the_root_of_the_dose_and_rise_with_a_close_neighbour():
    atoms = carbon((4.0, 4.8), (5.42, 4.8))
    low, high = (position_limits(exposure(dose=dose), atoms) for dose in (1e3, 4e3))
    np.testing.assert_allclose(low.joint / high.joint, 2.0, rtol=1e-6)
    assert np.all(low.joint > 1.005 * low.single)
    # Tens of pm at 10³ e/Å², and mirror images of each other.
    assert np.all((low.single > 10.0) & (low.single < 50.0))
    assert low.joint[0] == pytest.approx(low.joint[1], rel=0.02)


def test_a_focal_series_at_the_same_total_dose_is_no_better_than_its_best_image_and_adds_up():
    atoms = carbon((4.8, 4.8))
    twice = Optics(2, 80e3, 60.0, 0.0, -1e5, 0.0, 30.0, 0.0, 0.0, 1e3)
    series = exposed(twice, Poisson())
    pair, double = position_limits(series, atoms), position_limits(exposure(dose=2e3), atoms)
    np.testing.assert_allclose(pair.joint, double.joint, rtol=1e-6)


def test_a_worse_camera_knows_less():
    atoms = carbon((4.8, 4.8))
    cameras = [
        Poisson(),
        *(Physical(**{**CAMERA, "correlation": c, "readout": r}) for c, r in [(1, 0), (0, 0), (0, 2)]),
    ]
    limits = [float(position_limits(exposure(camera), atoms).joint[0]) for camera in cameras]
    assert limits == sorted(limits)
    assert limits[1] < limits[2] < limits[3]


def test_confusion_and_its_dose():
    assert compute_confusion(0.0) == pytest.approx(0.5)
    assert compute_confusion(2 * 3.0902) == pytest.approx(1e-3, rel=1e-3)
    assert find_dose(1e-3, separation=2 * 3.0902, dose=700.0) == pytest.approx(700.0, rel=1e-3)
    assert find_dose(1e-3, separation=3.0902, dose=700.0) == pytest.approx(2800.0, rel=1e-3)
