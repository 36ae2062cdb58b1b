"""Detectors against their statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hrtem.errors import InputError
from hrtem.noise import Madsen2018, Noiseless, Physical, Poisson

SAMPLING, DOSE, SIDE = 0.2, 2000.0, 256
MEAN = DOSE * SAMPLING**2

PHYSICAL = dict(half=0.4, power=2.0, correlation=0.0, readout=0.0, camera_sampling=0.2)
MADSEN = dict(c0=1.0, c1=0.0, c2=0.35, c3=2.5, camera_sampling=0.2)
MODELS = {
    "none": Noiseless(),
    "poisson": Poisson(),
    "madsen2018": Madsen2018(**MADSEN),
    "physical": Physical(**PHYSICAL),
}


def parameters(model, *seeds, dose=DOSE):
    drawn = [model.draw(np.random.default_rng(seed)) | {"dose": np.float32(dose)} for seed in seeds or (0,)]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in drawn]) for name in drawn[0]}


def flat(number=1):
    return torch.ones(number, 1, SIDE, SIDE)


def power(image):
    """Noise power per pixel over radial frequency in cycles per pixel, 0 to 0.5."""
    image = image - image.mean()
    spectrum = np.abs(np.fft.fft2(image.numpy())) ** 2 / image.numel()
    k = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
    bins = np.digitize(k, np.linspace(0.02, 0.5, 13))
    centres = np.array([k[bins == b].mean() for b in range(1, 13)])
    return centres, np.array([spectrum[bins == b].mean() for b in range(1, 13)])


@pytest.mark.parametrize("name", MODELS)
def test_mean_is_the_dose(name):
    counts = MODELS[name](flat(), parameters(MODELS[name]), SAMPLING)
    assert float(counts.mean()) == pytest.approx(MEAN, rel=0.005)


def test_no_noise_is_the_expected_image():
    expected = torch.rand(1, 1, 16, 16)
    counts = Noiseless()(expected, parameters(Noiseless()), SAMPLING)
    torch.testing.assert_close(counts, expected * MEAN)


def test_poisson_variance_is_the_mean_and_white():
    counts = Poisson()(flat(), parameters(Poisson()), SAMPLING)[0, 0]
    assert torch.equal(counts, counts.round())
    assert float(counts.var()) == pytest.approx(MEAN, rel=0.03)
    np.testing.assert_allclose(power(counts)[1], MEAN, rtol=0.15)


def test_poisson_skewness_at_low_dose():
    counts = Poisson()(flat(), parameters(Poisson(), dose=25.0), SAMPLING).flatten()
    third = float(((counts - counts.mean()) ** 3).mean() / counts.var() ** 1.5)
    assert third == pytest.approx(1.0, abs=0.05)  # 1/√mean, with one electron a pixel


def test_madsen2018_filters_signal_and_noise_alike():
    model = Madsen2018(**MADSEN)
    k, noise = power(model(flat(), parameters(model), SAMPLING)[0, 0])
    mtf = 1.0 / (1.0 + (k / 0.7) ** 2.5)
    np.testing.assert_allclose(noise, MEAN * mtf**2, rtol=0.15)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_physical_noise_power_spectrum(correlation):
    model = Physical(**{**PHYSICAL, "correlation": correlation})
    k, noise = power(model(flat(), parameters(model), SAMPLING)[0, 0])
    mtf = 1.0 / (1.0 + (k / 0.4) ** 2)
    np.testing.assert_allclose(noise, MEAN * mtf ** (2 * correlation), rtol=0.15)


def test_physical_mtf_is_a_function_of_cycles_per_camera_pixel():
    """A period of four camera pixels has q = 1/4, whatever our own sampling is."""
    camera = 0.32
    x = torch.arange(SIDE) * SAMPLING
    expected = 1.0 + 0.5 * torch.cos(2 * np.pi * x / (4 * camera)).expand(1, 1, SIDE, SIDE)
    model = Physical(**{**PHYSICAL, "camera_sampling": camera})
    counts = model(expected, parameters(model, dose=1e8), SAMPLING)[0, 0] / (1e8 * SAMPLING**2)
    amplitude = 2.0 * float((counts.mean(dim=0) * torch.cos(2 * np.pi * x / (4 * camera))).mean())
    assert amplitude == pytest.approx(0.5 / (1 + (0.25 / 0.4) ** 2), rel=0.01)


def test_readout_noise_adds_its_variance_per_camera_pixel():
    quiet, loud = (Physical(**{**PHYSICAL, "readout": readout}) for readout in (0.0, 30.0))
    variances = [float(m(flat(), parameters(m), SAMPLING).var()) for m in (quiet, loud)]
    assert variances[1] - variances[0] == pytest.approx(30.0**2, rel=0.03)


@pytest.mark.parametrize("name", MODELS)
def test_an_example_does_not_depend_on_its_batch(name):
    model = MODELS[name]
    together = model(flat(3), parameters(model, 0, 1, 2), SAMPLING)
    alone = model(flat(1), parameters(model, 1), SAMPLING)
    torch.testing.assert_close(together[1:2], alone)


def test_seeds_decide():
    model = Poisson()
    one, same, other = (model(flat(), parameters(model, seed), SAMPLING) for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_signal_is_never_negative_before_the_dose():
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 16, 16] = 5.0
    model = Physical(**PHYSICAL)
    assert bool(torch.isfinite(model(expected, parameters(model), SAMPLING)).all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"half": -0.1}, ["noise.half", "-0.1"]),
        ({"correlation": 1.5}, ["noise.correlation", "between 0 and 1"]),
        ({"readout": [2, 1]}, ["noise.readout", "swapped"]),
    ],
)
def test_bad_settings_are_refused(change, words):
    with pytest.raises(InputError) as refusal:
        Physical(**{**PHYSICAL, **change})
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize("mean", [1.5, 29.9, 30.0, 41.3, 100.5, 900.0])
def test_counts_follow_the_poisson_distribution(mean):
    """A chi-square test of a million numbers, below and above where the fast approximation begins."""
    from scipy import stats

    expected = torch.full((1, 1, 1000, 1000), mean / MEAN)
    counts = Poisson()(expected, parameters(Poisson()), SAMPLING).flatten().numpy().astype(int)
    # Bins of at least 50 expected counts, so that the statistic is a chi-square.
    edges = np.unique(stats.poisson.ppf(np.linspace(1e-4, 1 - 1e-4, 60), mean))
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    probability = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    assert stats.chisquare(observed, probability * counts.size).pvalue > 1e-3
