"""The imaging stage against abTEM, and against answers that are known without a computer."""

from __future__ import annotations

import math

import abtem
import numpy as np
import pytest
import torch

from hrtem.errors import InputError
from hrtem.optics import Optics, filtered, frequencies, wavelength

SAMPLING = 0.2
SETTINGS = dict(
    num_images=1,
    energy=80e3,
    defocus=70.0,
    defocus_step=0.0,
    Cs=-1.5e5,
    astigmatism=30.0,
    focal_spread=30.0,
    angular_spread=0.0,
    vibration=0.0,
    dose=1e4,
)


def optics(**changes):
    return Optics(**{**SETTINGS, **changes})


def settings(microscope, *seeds):
    drawn = [microscope.draw(np.random.default_rng(seed)) for seed in seeds or (0,)]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in drawn]) for name in drawn[0]}


@pytest.mark.parametrize("energy", [60e3, 80e3, 300e3])
def test_wavelength_is_abtems(energy):
    assert wavelength(energy) == pytest.approx(abtem.core.energy.energy2wavelength(energy), rel=1e-6)


def test_wavelength_at_80_kilovolts():
    assert wavelength(80e3) == pytest.approx(0.041757, rel=1e-4)


@pytest.mark.parametrize("energy", [80e3, 300e3])
@pytest.mark.parametrize(("Cs", "defocus", "astigmatism"), [(0.0, 50.0, 0.0), (2e5, -90.0, 0.0), (-1.5e5, 70.0, 30.0)])
@pytest.mark.parametrize("angular_spread", [0.0, 1.0])
def test_transfer_function_is_abtems(energy, Cs, defocus, astigmatism, angular_spread):
    microscope = optics(energy=energy, Cs=Cs, defocus=defocus, astigmatism=astigmatism, angular_spread=angular_spread)
    drawn = settings(microscope)
    shape = (96, 128)
    ours = microscope.transfer(shape, drawn, SAMPLING)[0, 0].numpy()
    angle = float(drawn["astigmatism_angle"])
    theirs = abtem.CTF(
        energy=energy,
        C10=-defocus,
        C12=astigmatism,
        phi12=angle,
        C30=Cs,
        focal_spread=30.0,
        angular_spread=angular_spread,
        gpts=shape[::-1],
        sampling=SAMPLING,
    )
    kernel = np.asarray(theirs._evaluate_kernel()).T
    assert np.abs(ours - kernel).max() < 2e-4  # float32 phases of hundreds of rad at the band limit
    kx, ky = frequencies(shape, SAMPLING, torch.device("cpu"))
    passed = (torch.sqrt(kx**2 + ky**2) < 1.0).numpy()
    assert np.abs(ours - kernel)[passed].max() < 1e-5


def test_vacuum_images_to_one():
    microscope = optics(num_images=3, defocus_step=40.0)
    image = microscope(torch.ones(2, 32, 32, dtype=torch.complex64), settings(microscope, 0, 1), SAMPLING)
    assert image.shape == (2, 3, 32, 32)
    torch.testing.assert_close(image, torch.ones_like(image))


def weak_phase(period, shape=(64, 64), strength=0.01):
    x = torch.arange(shape[1]) * SAMPLING
    return torch.polar(torch.ones(shape), strength * torch.cos(2 * math.pi * x / period).expand(shape))[None]


@pytest.mark.parametrize("defocus", [-60.0, 20.0, 60.0])
def test_weak_phase_object_follows_sin_chi(defocus):
    """I = 1 + 2 σφ sin χ with χ = -π λ Δf k² (Reimer & Kohl, section 6.2): in underfocus atoms are dark."""
    period, strength = 3.2, 1e-3
    microscope = optics(defocus=defocus, Cs=0.0, astigmatism=0.0, focal_spread=0.0)
    image = microscope(weak_phase(period, strength=strength), settings(microscope), SAMPLING)[0, 0]
    chi = -math.pi * wavelength(80e3) * defocus / period**2
    expected = 1.0 + 2.0 * strength * math.sin(chi) * torch.cos(2 * math.pi * torch.arange(64) * SAMPLING / period)
    torch.testing.assert_close(image[0], expected, atol=3e-6, rtol=0)


def test_focal_series_is_centred_and_ordered():
    drawn = optics(num_images=3, defocus=10.0, defocus_step=40.0).draw(np.random.default_rng(0))
    np.testing.assert_allclose(drawn["defocus"], [-30.0, 10.0, 50.0])


def test_focal_spread_is_the_one_over_e_width():
    """The quasi-coherent envelope of a Gaussian of defocus is its average over the linear transfer."""
    spread, k = 40.0, 0.6
    deviation = spread / math.sqrt(2.0)
    defoci = np.random.default_rng(0).normal(scale=deviation, size=200_000)
    average = np.cos(math.pi * wavelength(80e3) * defoci * k**2).mean()
    envelope = math.exp(-((0.5 * math.pi * wavelength(80e3) * spread * k**2) ** 2))
    assert envelope == pytest.approx(average, abs=3e-3)


def test_vibration_blurs_a_period_by_the_gaussians_transform():
    period, sigma = 3.2, 0.4
    sharp, blurred = (optics(astigmatism=0.0, vibration=width) for width in (0.0, sigma))
    wave = weak_phase(period)
    contrast = [float((m(wave, settings(m), SAMPLING) - 1).abs().max()) for m in (sharp, blurred)]
    # The object is weak, so that almost all contrast is in the first harmonic.
    assert contrast[1] / contrast[0] == pytest.approx(math.exp(-2 * (math.pi * sigma / period) ** 2), rel=0.01)


def test_filter_keeps_the_mean_and_an_odd_width():
    image = torch.rand(1, 1, 8, 9)
    kx, ky = frequencies((8, 9), SAMPLING, image.device, half=True)
    blurred = filtered(image, torch.exp(-(kx**2 + ky**2)))
    assert blurred.shape == image.shape
    assert float(blurred.mean()) == pytest.approx(float(image.mean()), rel=1e-5)


def test_draw_stays_within_the_ranges():
    microscope = optics(defocus=[-20.0, 20.0], dose=[1e2, 1e4])
    drawn = [microscope.draw(np.random.default_rng(n)) for n in range(300)]
    defocus, dose = (np.array([float(np.squeeze(d[name])) for d in drawn]) for name in ("defocus", "dose"))
    assert -20 <= defocus.min() < -15
    assert 15 < defocus.max() <= 20
    assert dose.min() >= 100
    assert dose.max() <= 1e4
    assert np.median(dose) == pytest.approx(1e3, rel=0.4)  # uniform in the logarithm


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_images": 0}, ["focal", "0", "1 to 64"]),
        ({"num_images": 1.5}, ["focal", "1.5"]),
        ({"defocus": [50, -50]}, ["optics.defocus", "swapped", "[-50, 50]"]),
        ({"dose": -5}, ["optics.dose", "-5"]),
        ({"dose": [0, 10]}, ["optics.dose", "[0, 10]"]),
        ({"focal_spread": "wide"}, ["optics.focal_spread", "wide"]),
        ({"Cs": [1, 2, 3]}, ["optics.Cs", "[1, 2, 3]"]),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(change, words):
    with pytest.raises(InputError) as refusal:
        optics(**change)
    assert all(word in str(refusal.value) for word in words)


def test_visibility_is_the_weakest_transfer_over_all_directions():
    microscope = optics(astigmatism=20.0, vibration=0.2, lattice_spacing=2.13)
    drawn = microscope.draw(np.random.default_rng(3))
    batch = {name: torch.as_tensor(value)[None] for name, value in drawn.items()}
    shape = (1001, 1001)
    transfer = microscope.transfer(shape, batch, SAMPLING)[0, 0]
    kx, ky = frequencies(shape, SAMPLING, torch.device("cpu"))
    k = torch.sqrt(kx**2 + ky**2)
    ring = (k - 1 / 2.13).abs() < 0.002
    blur = math.exp(-2 * (math.pi * 0.2 / 2.13) ** 2)
    assert float(transfer.imag[ring].abs().min()) * blur == pytest.approx(microscope.visibility(drawn), abs=0.02)


def test_a_change_of_sign_between_directions_is_invisible():
    near_zero = optics(defocus=0.0, Cs=0.0, astigmatism=30.0)
    assert near_zero.visibility(near_zero.draw(np.random.default_rng(0))) == 0.0


def test_only_visible_lattices_are_drawn():
    microscope = optics(defocus=[-150, 150], astigmatism=[0, 30], lattice_spacing=2.13, lattice_contrast=0.3)
    drawn = [microscope.draw(np.random.default_rng(n)) for n in range(100)]
    assert min(microscope.visibility(one) for one in drawn) >= 0.3
    assert {bool(one["defocus"] > 0) for one in drawn} == {True, False}


def test_ranges_that_never_show_the_lattice_are_refused():
    microscope = optics(defocus=0.0, Cs=0.0, astigmatism=0.0, lattice_contrast=0.3)
    with pytest.raises(InputError, match="lattice_contrast"):
        microscope.draw(np.random.default_rng(0))
