"""Detectors against their statistics."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf

from hrtem.errors import InputError
from hrtem.noise import Madsen2018, Noiseless, Physical, Poisson
from hrtem.noise.shot import poisson
from hrtem.normalisation import LocalContrast

SAMPLING, DOSE, SIDE = 0.2, 2000.0, 128
MEAN = DOSE * SAMPLING**2

PHYSICAL = dict(half=0.4, power=2.0, correlation=0.0, readout=0.0, camera_sampling=0.2)
MADSEN = dict(c0=1.0, c1=0.0, c2=0.35, c3=2.5, camera_sampling=0.2)
CAMERA = {**PHYSICAL, "half": 0.3, "correlation": 0.6, "readout": 3.0, "camera_sampling": 0.15, "dqe0": 0.5}
FLAWS = dict(gain=20.0, offset=100.0, hot_pixels=0.01, hot_height=4.0, background=0.1, background_length=10.0)
PLAIN = {
    "none": Noiseless(),
    "poisson": Poisson(),
    "madsen2018": Madsen2018(**MADSEN),
    "physical": Physical(**PHYSICAL),
    "camera": Physical(**CAMERA),
}
FLAWED = {
    "none, flawed": Noiseless(**FLAWS),
    "poisson, flawed": Poisson(**FLAWS),
    "madsen2018, flawed": Madsen2018(**MADSEN, **FLAWS),
    "camera, flawed": Physical(**CAMERA, **FLAWS),
}
MODELS = PLAIN | FLAWED


def parameters(model, *seeds, dose=DOSE):
    drawn = [model.draw(np.random.default_rng(seed)) | {"dose": np.float32(dose)} for seed in seeds or (0,)]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in drawn]) for name in drawn[0]}


def flat(number=1, side=SIDE):
    return torch.ones(number, 1, side, side)


def grating(period, side=SIDE):
    """Half the contrast, along x, with a ``period`` in Å."""
    x = torch.arange(side) * SAMPLING
    return 1.0 + 0.5 * torch.cos(2 * np.pi * x / period).expand(1, 1, side, side)


def noise_power(counts, bins=24):
    """Mean noise power per pixel in rings of equal frequency up to the corner, each ring's mask, and its modes."""
    counts = counts[:, 0].double() - counts[:, 0].double().mean(dim=(1, 2), keepdim=True)
    side = counts.shape[-1]
    spectrum = (torch.fft.fft2(counts).abs() ** 2).mean(dim=0).numpy() / side**2
    k = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    ring = np.digitize(k, np.linspace(1e-9, 0.7072, bins + 1))
    masks = [ring == one for one in range(1, bins + 1)]
    return np.array([spectrum[mask].mean() for mask in masks]), masks, k


# Mean, variance and noise power ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
def test_mean_is_the_dose(name):
    counts = PLAIN[name](flat(4), parameters(PLAIN[name], 0, 1, 2, 3), SAMPLING)
    assert float(counts.mean()) == pytest.approx(MEAN, rel=0.004)


def test_no_noise_is_the_expected_image():
    expected = torch.rand(1, 1, 16, 16)
    counts = Noiseless()(expected, parameters(Noiseless()), SAMPLING)
    torch.testing.assert_close(counts, expected * MEAN)


def test_poisson_variance_is_the_mean():
    counts = Poisson()(flat(4), parameters(Poisson(), 0, 1, 2, 3), SAMPLING)
    assert torch.equal(counts, counts.round())
    assert float(counts.var()) == pytest.approx(MEAN, rel=0.02)  # 65,536 pixels: one deviation is 0.6 %


def test_poisson_skewness_at_low_dose():
    counts = Poisson()(flat(side=256), parameters(Poisson(), dose=25.0), SAMPLING).flatten()
    third = float(((counts - counts.mean()) ** 3).mean() / counts.var() ** 1.5)
    assert third == pytest.approx(1.0, abs=0.05)  # 1/√mean, with one electron a pixel


@pytest.mark.parametrize("mean", [1.5, 29.9, 30.0, 41.3, 100.5, 900.0])
def test_counts_follow_the_poisson_distribution(mean):
    """A chi-square test of a million numbers, below and above where the fast approximation begins."""
    from scipy import stats

    counts = poisson(torch.full((1, 1000, 1000), mean), torch.tensor([0])).flatten().numpy().astype(int)
    # Bins of at least 50 expected counts, so that the statistic is a chi-square.
    edges = np.unique(stats.poisson.ppf(np.linspace(1e-4, 1 - 1e-4, 60), mean))
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    probability = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    assert stats.chisquare(observed, probability * counts.size).pvalue > 1e-3


@pytest.mark.parametrize(
    ("model", "power"),
    [
        (Poisson(), lambda k: MEAN + 0 * k),
        (Madsen2018(**MADSEN), lambda k: MEAN / (1 + (k / 0.7) ** 2.5) ** 2),
        (Madsen2018(**{**MADSEN, "c1": 0.2}), lambda k: MEAN * (0.8 / (1 + (k / 0.7) ** 2.5) + 0.2) ** 2),
        (Physical(**PHYSICAL), lambda k: MEAN + 0 * k),
        (Physical(**{**PHYSICAL, "correlation": 0.5}), lambda k: MEAN / (1 + (k / 0.4) ** 2)),
        (Physical(**{**PHYSICAL, "correlation": 1.0}), lambda k: MEAN / (1 + (k / 0.4) ** 2) ** 2),
        (Physical(**PHYSICAL, dqe0=0.5), lambda k: 2 * MEAN + 0 * k),
        # All at once: camera pixels of 0.15 Å under image pixels of 0.2 Å, readout per camera pixel.
        (
            Physical(**CAMERA),
            lambda k: 2 * MEAN / (1 + (k * 0.15 / 0.2 / 0.3) ** 2) ** 1.2 + (3.0 * 0.2 / 0.15) ** 2,
        ),
        (Physical(**CAMERA, gain=7.0, offset=50.0), lambda k: 49 * (2 * MEAN / (1 + (k / 0.4) ** 2) ** 1.2 + 16.0)),
    ],
)
def test_noise_power_spectrum(model, power):
    """Each ring of the spectrum agrees within the error of its number of independent modes, and all do on average."""
    number = 16
    counts = model(flat(number), parameters(model, *range(number)), SAMPLING)
    measured, masks, k = noise_power(counts)
    analytic = np.array([power(k[mask]).mean() for mask in masks])
    # |F|² is exponentially distributed, and F(-k) is the conjugate of F(k).
    deviation = np.sqrt([(power(k[mask]) ** 2).mean() * 2.0 / (number * mask.sum()) for mask in masks])
    pull = (measured - analytic) / deviation
    assert np.abs(pull).max() < 4.0
    assert np.sqrt((pull**2).mean()) < 1.6


@pytest.mark.parametrize("name", PLAIN)
def test_mean_and_variance_of_an_uneven_image(name):
    """T x and the diagonal of H diag(s) Hᵀ + r² I, over many exposures of a grating."""
    model, number, side = PLAIN[name], 1500, 16
    settings = parameters(model, *range(number))
    expected = grating(side * SAMPLING / 2, side)
    counts = model(expected.expand(number, 1, side, side).contiguous(), settings, SAMPLING)[:, 0].mean(dim=1)

    one = {key: value[:1] for key, value in settings.items()}
    mean = model.mean(expected, one, SAMPLING)[0, 0, 0]
    kernel = torch.fft.irfft2(model.noise_transfer((side, side), one, SAMPLING), s=(side, side))
    # A column of the image is averaged, which leaves the line profile of the kernel; s varies along x only.
    profile = kernel.sum(dim=-2)[0, 0]
    shot = model.shot_variance(expected, one, SAMPLING)[0, 0, 0]
    shifted = torch.stack([profile.roll(shift) for shift in range(side)])  # H[i, j] as [j, i]
    variance = (shifted.square() * shot[:, None]).sum(dim=0) + model.readout_variance(one, SAMPLING)

    error = (variance / side / number).sqrt()
    assert bool(((counts.mean(dim=0) - mean).abs() <= 4.5 * error + 1e-3).all())
    measured = counts.var(dim=0) * side
    torch.testing.assert_close(measured, variance, rtol=4.5 * (2 / number) ** 0.5, atol=1e-3)


@pytest.mark.parametrize("name", PLAIN)
def test_transfers_are_given_on_the_half_plane_and_are_1_at_zero_frequency(name):
    model, settings = PLAIN[name], parameters(PLAIN[name], 0, 1)
    for transfer in (model.signal_transfer, model.noise_transfer):
        assert transfer((12, 17), settings, SAMPLING).shape == (2, 1, 12, 9)
    signal, noise = (t((8, 8), settings, SAMPLING)[:, 0, 0, 0] for t in (model.signal_transfer, model.noise_transfer))
    torch.testing.assert_close(signal, torch.ones(2))
    dqe0 = settings.get("dqe0", torch.ones(2))
    torch.testing.assert_close(noise, dqe0.rsqrt())
    assert model.readout_variance(settings, SAMPLING).shape == (2,)


@pytest.mark.parametrize("camera", [0.16, 0.2, 0.32])
@pytest.mark.parametrize(
    ("model", "mtf"),
    [(Physical, 1 / (1 + (0.25 / 0.4) ** 2)), (Madsen2018, 1 / (1 + (0.25 / 0.7) ** 2.5))],
)
def test_mtf_is_a_function_of_cycles_per_camera_pixel(model, mtf, camera):
    """A period of four camera pixels has q = 1/4, whatever our own sampling is."""
    detector = model(**{**(PHYSICAL if model is Physical else MADSEN), "camera_sampling": camera})
    counts = detector(grating(4 * camera), parameters(detector, dose=1e8), SAMPLING)[0, 0] / (1e8 * SAMPLING**2)
    wave = torch.cos(2 * np.pi * torch.arange(SIDE) * SAMPLING / (4 * camera))
    amplitude = float(((counts.mean(dim=0) - 1.0) * wave).sum() / (wave * wave).sum())
    assert amplitude == pytest.approx(0.5 * mtf, rel=0.01)


def test_readout_noise_adds_its_variance_per_camera_pixel():
    quiet, loud = (Physical(**{**PHYSICAL, "camera_sampling": 0.1, "readout": readout}) for readout in (0.0, 15.0))
    variances = [float(m(flat(4), parameters(m, 0, 1, 2, 3), SAMPLING).var()) for m in (quiet, loud)]
    assert variances[1] - variances[0] == pytest.approx(4 * 15.0**2, rel=0.03)


def test_signal_is_never_negative_before_the_dose():
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 16, 16] = 5.0
    model = Physical(**PHYSICAL)
    assert bool(torch.isfinite(model(expected, parameters(model), SAMPLING)).all())


# Flaws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
def test_gain_and_offset_are_those_of_a_file(name):
    plain = PLAIN[name]
    settings = parameters(plain, 3, 4)
    electrons = plain(flat(2), settings, SAMPLING)
    scaled = type(plain)(**(dict(none={}, poisson={}, madsen2018=MADSEN, physical=PHYSICAL, camera=CAMERA)[name]),
                         gain=[10.0, 30.0], offset=-5.0)  # fmt: skip
    drawn = parameters(scaled, 3, 4)
    assert float(drawn["gain"][0]) != float(drawn["gain"][1])
    torch.testing.assert_close(scaled(flat(2), drawn, SAMPLING), electrons * drawn["gain"][:, None, None, None] - 5.0)


def test_normalisation_removes_gain_and_offset():
    plain, scaled = Poisson(), Poisson(gain=25.0, offset=400.0)
    normalise = LocalContrast(12.0)
    seen = [
        normalise(model(grating(2.0), parameters(model, dose=1e4), SAMPLING), SAMPLING) for model in (plain, scaled)
    ]
    torch.testing.assert_close(seen[0], seen[1], atol=2e-3, rtol=0)


def test_normalisation_removes_most_of_a_slow_background():
    """An illumination uneven by 30 % over 100 Å changes less than a tenth of what the network sees."""
    normalise, fringes = LocalContrast(12.0), grating(2.0, 256)
    even = normalise(fringes, SAMPLING)
    model = Noiseless(background=0.3, background_length=100.0)
    counts = model(fringes.expand(8, -1, -1, -1), parameters(model, *range(8)), SAMPLING)
    assert float((counts.mean(dim=-2).std(dim=-1) / counts.mean(dim=(-2, -1))).mean()) > 0.1
    assert float((normalise(counts, SAMPLING) - even).std()) < 0.1 * float(even.std())


def test_background_has_its_deviation_and_correlation_length():
    strength, length, number = 0.1, 8.0, 4000
    model = Noiseless(background=strength, background_length=length)
    field = model(flat(number, 48), parameters(model, *range(number)), SAMPLING)[:, 0] / MEAN - 1.0
    assert float(field.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(field.square().mean().sqrt()) == pytest.approx(strength, rel=0.05)
    for shift in (20, 40):  # 4 and 8 Å
        along_x = float((field[:, :, shift:] * field[:, :, :-shift]).mean())
        along_y = float((field[:, shift:] * field[:, :-shift]).mean())
        expected = strength**2 * np.exp(-0.5 * (shift * SAMPLING / length) ** 2)
        assert along_x == pytest.approx(expected, rel=0.12)
        assert along_y == pytest.approx(expected, rel=0.12)


def test_background_is_not_periodic_and_shared_by_a_series():
    model = Noiseless(background=0.1, background_length=30.0)
    field = model(torch.ones(1, 3, 40, 60), parameters(model, 1), SAMPLING)
    torch.testing.assert_close(field[:, 0], field[:, 2])
    # A part of the field is the field of the part: images may be cut before they are detected.
    torch.testing.assert_close(model(torch.ones(1, 3, 20, 30), parameters(model, 1), SAMPLING), field[..., :20, :30])


def test_illumination_decides_the_shot_noise():
    model = Poisson(background=0.3, background_length=10.0)
    settings = parameters(model, *[5] * 400)
    settings["seed"] = torch.arange(400)
    counts = model(flat(400, 24), settings, SAMPLING)
    mean, variance = counts.mean(dim=0), counts.var(dim=0)
    assert float(mean.std() / mean.mean()) > 0.02
    bright = mean > mean.median()
    for part in (bright, ~bright):
        assert float(variance[part].mean() / mean[part].mean()) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("camera", [0.1, 0.2, 0.35, 0.4])
def test_hot_pixels_are_pixels_of_the_camera(camera):
    share, height, number = 0.005, 7.0, 40
    setup = {**PHYSICAL, "camera_sampling": camera}
    plain, hot = Physical(**setup), Physical(**setup, hot_pixels=share, hot_height=height)
    seeds = range(number)
    added = hot(flat(number), parameters(hot, *seeds), SAMPLING) - plain(
        flat(number), parameters(plain, *seeds), SAMPLING
    )
    # The electrons of one hot pixel, and how many there are.
    charge = height * DOSE * camera**2
    found = float(added.double().sum() / charge)
    expected = share * number * (SIDE * SAMPLING / camera) ** 2
    assert found == pytest.approx(expected, abs=5 * np.sqrt(expected) + 0.01 * expected)
    # Where camera pixels are no smaller than ours, one covers ours wholly or in part.
    top = height * MEAN * min(1.0, (camera / SAMPLING) ** 2)
    assert float(added.max()) == pytest.approx(top, rel=0.02 if camera != 0.1 else 3.1)
    if camera == 0.4:  # blocks of 2 x 2 pixels
        blocks = added.reshape(number, SIDE // 2, 2, SIDE // 2, 2)
        assert float((blocks.amax(dim=(2, 4)) - blocks.amin(dim=(2, 4))).max()) < 1.0


def test_hot_pixels_stay_where_they_are_in_a_series():
    model = Noiseless(hot_pixels=0.02)
    counts = model(torch.ones(1, 3, 32, 32), parameters(model), SAMPLING)
    assert float(counts.max()) == pytest.approx(11 * MEAN)
    torch.testing.assert_close(counts[:, 0], counts[:, 2])


def test_no_flaw_draws_no_random_number():
    """The images of a recipe without flaws are those of one that does not know them."""
    names = ("half", "power", "correlation", "readout")
    ranged = Physical(
        half=[0.1, 0.6], power=[1.5, 3.0], correlation=[0, 1], readout=[0, 0.5], camera_sampling=[0.1, 0.2]
    )
    rng, bare = np.random.default_rng(8), np.random.default_rng(8)
    drawn = ranged.draw(rng)
    assert int(drawn["seed"]) == int(bare.integers(2**31))
    low, high = np.array([0.1, 1.5, 0, 0, 0.1]), np.array([0.6, 3.0, 1, 0.5, 0.2])
    said = np.array([bare.uniform(*ends) for ends in zip(low, high, strict=True)], dtype=np.float32)
    np.testing.assert_allclose([float(drawn[name]) for name in (*names, "camera_sampling")], said)
    assert rng.integers(2**31) == bare.integers(2**31)


# Batches, recipes and mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_an_example_does_not_depend_on_its_batch(name):
    model = MODELS[name]
    together = model(flat(3), parameters(model, 0, 1, 2), SAMPLING)
    alone = model(flat(1), parameters(model, 1), SAMPLING)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-3)


def test_hot_pixels_do_not_depend_on_the_cameras_of_a_batch():
    model = Physical(**{**CAMERA, "camera_sampling": [0.1, 0.4]}, hot_pixels=0.01, hot_height=50.0)
    together = model(flat(3), parameters(model, 0, 1, 2), SAMPLING)
    for number in range(3):
        alone = model(flat(1), parameters(model, number), SAMPLING)
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_pointwise_says_whether_a_pixel_depends_on_others(name):
    model = MODELS[name]
    lone = flat()
    lone[..., 10, 10] = 3.0
    settings = parameters(model, dose=1e9)
    change = (model(lone, settings, SAMPLING) - model(flat(), settings, SAMPLING))[0, 0].abs()
    change[10, 10] = 0.0
    # Far above the noise, of which less than 1e-4 of the signal is left at this dose.
    spread = float(change.max()) / (1e9 * SAMPLING**2 * float(settings["gain"])) > 1e-2
    assert spread is not model.pointwise


def test_seeds_decide():
    model = Poisson()
    one, same, other = (model(flat(), parameters(model, seed), SAMPLING) for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_counting_camera_spans_published_efficiencies():
    """DQE at zero, half and full Nyquist frequency, of the cameras that the recipe names."""
    recipe = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "noise" / "counting.yaml"))
    names = ("half", "power", "correlation", "dqe0")
    q = np.array([0.0, 0.25, 0.5])
    corners = np.array([
        dqe0 / (1 + (q / half) ** power) ** (2 - 2 * correlation)
        for half, power, correlation, dqe0 in product(*(recipe[name] for name in names))
    ])  # fmt: skip
    cameras = {"K2": [0.80, 0.56, 0.23], "Falcon 3EC": [0.89, 0.69, 0.29], "Falcon 4i": [0.91, 0.62, 0.33], "K3": [0.95, 0.71, 0.40]}  # fmt: skip # noqa: E501
    for efficiency in cameras.values():
        assert (corners.min(axis=0) <= efficiency).all()
        assert (corners.max(axis=0) >= efficiency).all()


def test_detective_quantum_efficiency_is_the_squared_ratio_of_the_transfers():
    model = Physical(**{**CAMERA, "readout": 0.0})
    settings = parameters(model)
    signal, noise = (t((32, 32), settings, SAMPLING)[0, 0] for t in (model.signal_transfer, model.noise_transfer))
    torch.testing.assert_close((signal / noise).square(), 0.5 * signal ** (2 - 2 * 0.6))


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        (Physical, {"half": -0.1}, ["noise.half", "-0.1"]),
        (Physical, {"power": 20}, ["noise.power", "20"]),
        (Physical, {"correlation": 1.5}, ["noise.correlation", "between 0 and 1"]),
        (Physical, {"readout": [2, 1]}, ["noise.readout", "swapped"]),
        (Physical, {"camera_sampling": 0}, ["noise.camera_sampling", "Å"]),
        (Physical, {"dqe0": 0}, ["noise.dqe0", "between 0.01 and 1"]),
        (Physical, {"dqe0": 1.1}, ["noise.dqe0", "1.1"]),
        (Physical, {"gain": 0}, ["noise.gain", "counts/e"]),
        (Physical, {"offset": "dark"}, ["noise.offset", "dark"]),
        (Physical, {"hot_pixels": 0.5}, ["noise.hot_pixels", "between 0 and 0.1"]),
        (Physical, {"hot_height": -1}, ["noise.hot_height", "at least 0"]),
        (Physical, {"background": 0.5}, ["noise.background", "between 0 and 0.3"]),
        (Physical, {"background_length": 0}, ["noise.background_length", "Å"]),
        (Madsen2018, {"c0": 1.2}, ["noise.c0", "between 0 and 1"]),
        (Madsen2018, {"c1": -0.1}, ["noise.c1", "-0.1"]),
        (Madsen2018, {"c2": 0}, ["noise.c2", "at least"]),
        (Madsen2018, {"c3": 0}, ["noise.c3", "at least"]),
        (Madsen2018, {"camera_sampling": -1}, ["noise.camera_sampling", "-1"]),
        (Physical, {"colour": 1}, ["noise.colour", "Physical", "hot_pixels"]),
        (Poisson, {"half": 0.4}, ["noise.half", "Poisson"]),
        (Poisson, {"gain": [3, 1]}, ["noise.gain", "swapped"]),
        (Noiseless, {"background": -0.1}, ["noise.background", "-0.1"]),
    ],
)
def test_bad_settings_are_refused(model, change, words):
    good = {Physical: PHYSICAL, Madsen2018: MADSEN}.get(model, {})
    with pytest.raises(InputError) as refusal:
        model(**{**good, **change})
    assert all(word in str(refusal.value) for word in words)
