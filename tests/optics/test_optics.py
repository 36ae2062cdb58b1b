"""The imaging stage against abTEM, and against answers that are known without a computer."""

from __future__ import annotations

import math

import abtem
import numpy as np
import pytest
import torch
from ase import Atoms
from hydra.utils import instantiate
from skimage.registration import phase_cross_correlation

from benchmarks.coherence import summed
from hrtem.errors import InputError
from hrtem.optics import Optics, filter_image, frequencies, wavelength
from hrtem.optics.microscope import COHERENCE
from hrtem.waves.multislice import Multislice

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


def abtems_transfer(energy, shape, sampling, precision="float32", **coefficients):
    with abtem.config.set({"precision": precision}):
        transfer = abtem.CTF(energy=energy, gpts=shape[::-1], sampling=sampling, **coefficients)
        return np.asarray(transfer._evaluate_kernel()).T


@pytest.mark.parametrize("energy", [80e3, 300e3])
@pytest.mark.parametrize(("Cs", "defocus", "astigmatism"), [(0.0, 50.0, 0.0), (2e5, -90.0, 0.0), (-1.5e5, 70.0, 30.0)])
@pytest.mark.parametrize("angular_spread", [0.0, 1.0])
def test_transfer_function_is_abtems(energy, Cs, defocus, astigmatism, angular_spread):
    microscope = optics(energy=energy, Cs=Cs, defocus=defocus, astigmatism=astigmatism, angular_spread=angular_spread)
    drawn = settings(microscope)
    shape = (96, 128)
    ours = microscope.transfer(shape, drawn, SAMPLING)[0, 0].numpy()
    theirs = abtems_transfer(
        energy,
        shape,
        SAMPLING,
        C10=-defocus,
        C12=astigmatism,
        phi12=float(drawn["astigmatism_angle"]),
        C30=Cs,
        focal_spread=30.0,
        angular_spread=angular_spread,
    )
    assert np.abs(ours - theirs).max() < 2e-4  # float32 phases of hundreds of rad at the band limit
    kx, ky = frequencies(shape, SAMPLING, torch.device("cpu"))
    passed = (torch.sqrt(kx**2 + ky**2) < 1.0).numpy()
    assert np.abs(ours - theirs)[passed].max() < 1e-5


@pytest.mark.parametrize("energy", [80e3, 300e3])
@pytest.mark.parametrize("angular_spread", [0.0, 0.5])
def test_every_aberration_is_abtems(energy, angular_spread):
    """In double precision, up to the band limit."""
    microscope = optics(
        energy=energy, C5=4e7, threefold=800.0, coma=500.0, angular_spread=angular_spread, focal_spread=10.0
    )
    drawn = {name: value.double() for name, value in settings(microscope, 3).items()}
    shape = (96, 128)
    ours = microscope.transfer(shape, drawn, SAMPLING)[0, 0].numpy()
    theirs = abtems_transfer(
        energy,
        shape,
        SAMPLING,
        precision="float64",
        C10=-float(drawn["defocus"]),
        C12=float(drawn["astigmatism"]),
        phi12=float(drawn["astigmatism_angle"]),
        C21=float(drawn["coma"]),
        phi21=float(drawn["coma_angle"]),
        C23=float(drawn["threefold"]),
        phi23=float(drawn["threefold_angle"]),
        C30=float(drawn["Cs"]),
        C50=float(drawn["C5"]),
        focal_spread=10.0,
        angular_spread=angular_spread,
    )
    difference = np.abs(ours - theirs)
    assert difference.max() < 1e-5
    assert np.abs(theirs).min() < 0.1 < np.abs(theirs).max()


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
    blurred = filter_image(image, torch.exp(-(kx**2 + ky**2)))
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


def test_images_are_missing_as_often_as_said_and_never_all():
    microscope = optics(num_images=3, missing=0.5)
    present = np.stack([microscope.draw(np.random.default_rng(n))["present"] for n in range(400)])
    assert present.any(axis=1).all()
    # One of the eighth of the series that would lose all is kept.
    assert present.mean() == pytest.approx(0.5 + 0.125 / 3, abs=0.04)
    whole = optics(num_images=3)
    assert "present" not in whole.draw(np.random.default_rng(0))
    np.testing.assert_array_equal(
        whole.draw(np.random.default_rng(5))["defocus"], microscope.draw(np.random.default_rng(5))["defocus"]
    )


def test_a_series_shares_its_dose_among_its_images():
    """Lengths of a series are compared at what they cost the specimen."""
    for number in (1, 2, 3, 5):
        whole, each = (optics(num_images=number, dose=[1e3, 1e5], dose_per=per) for per in ("series", "image"))
        one, other = (float(microscope.draw(np.random.default_rng(4))["dose"]) for microscope in (whole, each))
        assert number * one == pytest.approx(other, rel=1e-6)
        assert whole.image_dose(1e3) == 1e3 / number
        assert each.image_dose(1e3) == 1e3


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
        ({"coma": -1}, ["optics.coma", "-1"]),
        ({"C5": math.inf}, ["optics.C5", "finite"]),
        ({"misalignment": 50}, ["optics.misalignment", "50", "20 Å"]),
        ({"missing": 1.0}, ["optics.missing", "1.0"]),
        ({"dose_per": "pixel"}, ["optics.dose_per", "image, series", "pixel"]),
        ({"coherence": "partial"}, ["optics.coherence", "exact, envelope", "partial"]),
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


def strong_object(side=96, atoms=((9.0, 9.2), (10.5, 9.2))):
    """A wave behind two phase gratings' worth of heavy columns: far from weak."""
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) * SAMPLING] * 2, indexing="ij")
    phase = sum(1.5 * torch.exp(-((x - ax) ** 2 + (y - ay) ** 2) / (2 * 0.3**2)) for ax, ay in atoms)
    return torch.polar(torch.ones_like(phase), phase)[None]


def in_double(drawn):
    return {name: value.double() for name, value in drawn.items()}


def gold_columns(*numbers):
    """Exit wave of gold columns along [110] with so many atoms, far apart, complex64 `(Y, X)`."""
    step, pitch = 2.884, 9.6
    places = [(pitch * (n + 0.5), 4.8, 1.0 + step * z) for n, number in enumerate(numbers) for z in range(number)]
    atoms = Atoms("Au" * len(places), places, cell=[pitch * len(numbers), 9.6, 2.0 + step * max(numbers)])
    atoms.set_array("rms_displacement", np.full(len(places), 0.085))
    return torch.from_numpy(Multislice(300e3, SAMPLING)(atoms))


def summed_image(wave, drawn, energy, points=121):
    """The mean intensity over the focal spread by a plain sum over defocus, without modes and in double precision."""
    return summed(wave.numpy().astype(complex), drawn, energy, points=points)


@pytest.mark.parametrize("recipe", ["gold", "mos2", "graphene"])
def test_modes_are_the_sum_over_the_focal_spread(recipe, configuration):
    """Over the whole range of each recipe, on columns of 1 to 12 gold atoms and on sheets."""
    config = configuration(f"sample={recipe}", "sample.extent=25.6", *(["sample.diameter=15"] * (recipe == "gold")))
    still = dict.fromkeys(("vibration", "drift", "misalignment", "series_drift"), 0.0)
    microscope = instantiate({**config.optics, **still})
    if recipe == "gold":
        wave = gold_columns(1, 2, 3, 4, 6, 9, 12)
    else:
        sheet, _ = instantiate(config.sample, _convert_="all")(np.random.default_rng(0))
        wave = torch.from_numpy(Multislice(microscope.energy, SAMPLING)(sheet))
    errors = []
    for seed in range(6):
        drawn = microscope.draw(np.random.default_rng(seed))
        exact = summed_image(wave, drawn, microscope.energy)
        batch = {name: torch.from_numpy(value)[None] for name, value in drawn.items()}
        image = microscope(wave[None], batch, SAMPLING)[0, 0].numpy()
        errors.append((image - exact).std() / exact.std())
        assert image.mean() == pytest.approx(exact.mean(), abs=1e-3)
    assert max(errors) < 0.01


def test_the_envelope_is_wrong_for_gold_and_right_for_a_weak_object():
    exact, envelope = (optics(energy=300e3, focal_spread=30.0, defocus=-60.0, coherence=one) for one in COHERENCE)
    drawn = settings(exact)

    def difference(wave):
        one, other = (microscope(wave[None], drawn, SAMPLING) for microscope in (exact, envelope))
        return float((other - one).std() / one.std())

    assert 0.2 < difference(gold_columns(1, 4, 6, 9)) < 0.6
    weak = torch.polar(torch.ones(96, 96), 1e-3 * strong_object()[0].angle().float())
    assert difference(weak) < 5e-3


def test_peaks_of_gold_columns_are_those_of_the_sum():
    """Heights of columns of 1, 4, 6 and 9 atoms at 60 Å overfocus and a spread of 30 Å: what a network counts by."""
    microscope = optics(energy=300e3, focal_spread=30.0, defocus=-60.0, Cs=-15e4)
    drawn = settings(microscope)
    wave = gold_columns(1, 4, 6, 9)
    image = microscope(wave[None], drawn, SAMPLING)[0, 0]
    exact = summed_image(wave, {name: value.numpy() for name, value in drawn.items()}, 300e3)
    peaks = [slice(48 * n, 48 * (n + 1)) for n in range(4)]
    seen, true = ([float(one[:, part].max()) for part in peaks] for one in (image, exact))
    np.testing.assert_allclose(seen, true, rtol=0.01)


def test_no_electron_is_lost_to_the_focal_spread():
    microscope = optics(energy=300e3, focal_spread=40.0)
    image = microscope(gold_columns(4, 8)[None], settings(microscope), SAMPLING)
    assert float(image.mean()) == pytest.approx(1.0, abs=2e-3)


def test_an_exact_image_does_not_depend_on_its_batch():
    microscope = optics(energy=80e3, focal_spread=[10.0, 60.0])
    drawn = settings(microscope, 0, 1, 2)
    waves = torch.stack([gold_columns(1, 9), gold_columns(3, 4), gold_columns(1, 1)])
    together = microscope(waves, drawn, SAMPLING)
    alone = microscope(waves[1:2], {name: value[1:2] for name, value in drawn.items()}, SAMPLING)
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)


def test_exact_images_are_differentiable():
    microscope = optics(energy=300e3, focal_spread=30.0)
    wave = gold_columns(2, 5).to(torch.complex128)[None].requires_grad_()
    drawn = in_double(settings(microscope))
    drawn["defocus"] = drawn["defocus"].clone().requires_grad_()
    microscope(wave, drawn, SAMPLING).square().sum().backward()
    for gradient in (wave.grad, drawn["defocus"].grad):
        assert torch.isfinite(gradient.abs()).all()
        assert float(gradient.abs().max()) > 0.0


def test_a_large_focal_spread_keeps_enough_modes():
    """Of a thermionic gun, 110 Å: far outside the recipes."""
    microscope = optics(energy=300e3, focal_spread=110.0, defocus=-100.0)
    drawn = settings(microscope)
    wave = gold_columns(2, 7)
    exact = summed_image(wave, {name: value.numpy() for name, value in drawn.items()}, 300e3, points=601)
    image = microscope(wave[None], drawn, SAMPLING)[0, 0].numpy()
    assert (image - exact).std() / exact.std() < 0.015


def border_error(microscope, wave, drawn, patch, margin):
    """Error of the border of a patch in the middle of a periodic ``wave``, over the contrast."""
    middle = (wave.shape[-1] - patch) // 2
    whole = microscope(wave[None], drawn, SAMPLING)[0, 0]
    window = slice(middle - margin, middle + patch + margin)
    image = microscope(wave[None, window, window].contiguous(), drawn, SAMPLING)[0, 0]
    inner = (slice(margin, margin + patch),) * 2
    error = image[inner] - whole[middle : middle + patch, middle : middle + patch]
    rim = torch.ones(patch, patch, dtype=torch.bool)
    rim[8:-8, 8:-8] = False
    return float(error[rim].square().mean().sqrt() / whole.std())


def test_the_margin_holds_what_the_optics_carries():
    """Each microscope gets a margin that leaves about 1 % at the border of a patch of random atoms."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.fft2(rng.normal(size=(320, 320)))
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(320, SAMPLING)] * 2))
    phase = np.fft.ifft2(spectrum * (1 + k**2 / 0.25) ** -1.25 * np.exp(-2 * (np.pi * 0.07 * k) ** 2)).real
    wave = torch.from_numpy(np.exp(0.02j * phase / phase.std())).to(torch.complex64)
    near = optics(defocus=50.0, Cs=0.0, focal_spread=40.0)
    far = optics(defocus=-150.0, Cs=20e4, focal_spread=25.0)
    margins = [microscope.margin(SAMPLING) for microscope in (near, far)]
    assert margins[0] < margins[1]
    for microscope, margin in zip((near, far), margins, strict=True):
        assert border_error(microscope, wave, settings(microscope), 128, margin) < 0.02
    assert border_error(far, wave, settings(far), 128, margins[0]) > 0.02


def test_optics_that_no_margin_holds_are_refused():
    with pytest.raises(InputError, match=r"optics carries parts of the image farther than 58 Å"):
        optics(energy=300e3, Cs=1.2e7, defocus=580.0, focal_spread=20.0).margin(SAMPLING)
    for said in (-8, 2.5, "wide", True):
        with pytest.raises(InputError, match=r"data\.margin must be auto or a whole number"):
            optics().margin(SAMPLING, said)
    assert optics().margin(SAMPLING, 16) == 16


def test_drift_smears_along_its_direction():
    """The image of a drifting specimen is the mean of its images along the way."""
    length = 1.2
    still, drifting = optics(), optics(drift=length)
    drawn = in_double(settings(drifting))
    wave = strong_object()
    sharp = still(wave, {**drawn, "drift": torch.zeros(1, dtype=torch.float64)}, SAMPLING)
    kx, ky = frequencies((96, 96), SAMPLING, wave.device, half=True, dtype=torch.float64)
    angle = float(drawn["drift_angle"])
    moved = [
        filter_image(sharp, torch.exp(-2j * math.pi * t * (math.cos(angle) * kx + math.sin(angle) * ky)))
        for t in (np.arange(1000) + 0.5 - 500) * length / 1000
    ]
    torch.testing.assert_close(drifting(wave, drawn, SAMPLING), torch.stack(moved).mean(0), atol=1e-5, rtol=0)


def test_shifts_move_each_image_but_the_middle_one():
    microscope = optics(num_images=3, misalignment=0.5, series_drift=1.0)
    drawn = settings(microscope)
    np.testing.assert_array_equal(drawn["shift"][0, 1], 0.0)
    wave = strong_object(atoms=((9.6, 9.6),)).to(torch.complex64)
    drawn["defocus"][:] = 70.0  # the same image, but for the shift
    images = microscope(wave, drawn, SAMPLING)[0]
    for image, shift in zip(images, drawn["shift"][0], strict=True):
        measured, _, _ = phase_cross_correlation(image.numpy(), images[1].numpy(), upsample_factor=100)
        np.testing.assert_allclose(measured[::-1] * SAMPLING, shift, atol=0.01)


def test_jitter_of_a_series_has_the_stated_size():
    microscope = optics(num_images=5, defocus_step=40.0, defocus_error=3.0, misalignment=0.4)
    drawn = [microscope.draw(np.random.default_rng(n)) for n in range(400)]
    nominal = 70.0 + 40.0 * np.arange(-2, 3)
    errors = np.array([one["defocus"] - nominal for one in drawn])
    assert errors.std() == pytest.approx(3.0, rel=0.05)
    assert abs(errors.mean()) < 0.3
    shifts = np.array([one["shift"] for one in drawn])
    np.testing.assert_array_equal(shifts[:, 2], 0.0)
    assert shifts[:, [0, 1, 3, 4]].std() == pytest.approx(0.4, rel=0.05)


def test_absolute_intensity_is_kept():
    """Quasi-coherent, the mean is what the envelope passes of the diffracted beams; a phase object keeps it all."""
    microscope = optics(focal_spread=0.0, vibration=0.3, drift=0.5, threefold=300.0, coma=200.0, C5=4e7)
    image = microscope(strong_object(), in_double(settings(microscope)), SAMPLING)
    assert float(image.mean()) == pytest.approx(1.0, abs=1e-6)
