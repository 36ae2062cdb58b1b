"""Spectra, histograms and moments of images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hrtem.gallery.nearest import Comparison
from hrtem.gallery.spectra import BANDS, EDGES, Statistics, band_shares, radial_spectrum

SAMPLING = 0.2


def noise(rng, shape=(64, 1, 96, 96)):
    return rng.normal(size=shape)


def test_white_noise_has_a_flat_spectrum(rng):
    """Variance times the area of a pixel, at every frequency from the lowest to Nyquist's."""
    frequencies, spectra = radial_spectrum(3.0 * noise(rng), SAMPLING)
    assert frequencies[0] == pytest.approx(1.0 / (96 * SAMPLING))
    assert frequencies[-1] == pytest.approx(0.5 / SAMPLING)
    relative = spectra.mean(axis=0) / (9.0 * SAMPLING**2)
    np.testing.assert_allclose(relative[:8], 1.0, atol=0.2)  # rings of a few frequencies only
    np.testing.assert_allclose(relative[8:], 1.0, atol=0.05)
    assert spectra.mean() == pytest.approx(9.0 * SAMPLING**2, rel=0.01)


@pytest.mark.parametrize("period", [0.8, 1.23, 2.13, 5.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.5])
def test_a_cosine_peaks_at_its_frequency(period, angle):
    y, x = SAMPLING * np.mgrid[:128, :128]
    wave = np.cos(2.0 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    frequencies, (spectrum,) = radial_spectrum(wave[None, None], SAMPLING)
    assert frequencies[np.argmax(spectrum)] == pytest.approx(1.0 / period, abs=1.0 / (128 * SAMPLING))
    # All power but a thousandth lies within two steps of the peak: nothing leaks from the border.
    far = np.abs(frequencies - 1.0 / period) > 3.0 / (128 * SAMPLING)
    assert (spectrum * frequencies)[far].sum() < 1e-3 * (spectrum * frequencies).sum()


def test_the_spectrum_holds_the_variance():
    """Half the square of the amplitude, whatever the mean, also where the image is not square."""
    y, x = SAMPLING * np.mgrid[:100, :160]
    image = 7.0 + 2.0 * np.cos(2.0 * np.pi * (0.3 * x + 0.4 * y) / 1.0)
    frequencies, (spectrum,) = radial_spectrum(image[None, None], SAMPLING)
    step = frequencies[1] - frequencies[0]
    assert (2.0 * np.pi * frequencies * spectrum).sum() * step == pytest.approx(2.0, rel=0.05)


def test_a_series_is_averaged(rng):
    one, two = noise(rng, (1, 1, 64, 64)), 2.0 * noise(rng, (1, 1, 64, 64))
    both = radial_spectrum(np.concatenate([one, two], axis=1), SAMPLING)[1]
    apart = [radial_spectrum(image, SAMPLING)[1] for image in (one, two)]
    np.testing.assert_allclose(both, np.mean(apart, axis=0))


def test_shares_of_white_noise_are_areas_of_rings(rng):
    """The bands reach from 0 to the Nyquist frequency of 0.2 Å/px."""
    shares = band_shares(*radial_spectrum(noise(rng), SAMPLING)).mean(axis=0)
    assert shares.sum() == pytest.approx(1.0)
    areas = [(high**2 - low**2) / 2.5**2 for low, high in BANDS]
    np.testing.assert_allclose(shares, areas, atol=0.025)


def test_histogram_and_moments(rng):
    """Of a Gaussian, and of an exponential distribution whose skewness is 2 and excess kurtosis 6."""
    gaussian, skewed = noise(rng, (4, 1, 128, 128)), rng.exponential(size=(4, 1, 128, 128)) - 1.0
    one, two = (Statistics.of(images, 100.0 + 5.0 * images, SAMPLING) for images in (gaussian, skewed))
    middles = 0.5 * (EDGES[1:] + EDGES[:-1])
    np.testing.assert_allclose(one.histograms.mean(axis=0), stats.norm.pdf(middles), atol=0.015)
    np.testing.assert_allclose(one.histograms.sum(axis=1) * (EDGES[1] - EDGES[0]), 1.0)
    np.testing.assert_allclose(one.skewness, 0.0, atol=0.07)
    np.testing.assert_allclose(one.kurtosis, 0.0, atol=0.15)
    np.testing.assert_allclose(two.skewness, 2.0, atol=0.3)
    assert two.kurtosis.mean() == pytest.approx(6.0, abs=1.0)
    np.testing.assert_allclose(one.contrast, 0.05, atol=1e-3)


def blurred(rng, widths):
    """White noise behind Gaussian filters, each image of unit variance."""
    k2 = sum(k**2 for k in np.meshgrid(*2 * [np.fft.fftfreq(64, SAMPLING)]))
    images = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(64, 64))) * np.exp(-(width**2) * k2)).real for width in widths]
    return np.stack([image / image.std() for image in images])[:, None]


def statistics(images):
    return Statistics.of(images, images + 10.0, SAMPLING)


def test_the_distance_of_a_known_ratio(rng):
    one = statistics(noise(rng, (1, 1, 64, 64)))
    np.testing.assert_allclose(one.distances(10.0 * one.spectra[0]), 10.0)
    np.testing.assert_allclose(one.distances(one.spectra[0]), 0.0)


def test_the_nearest_examples_are_those_of_the_same_blur(rng, capsys):
    """The comparison finds the setting that made the micrograph, and says so."""
    widths = np.linspace(0.0, 0.6, 100)
    comparison = Comparison(
        name="a/image.tif",
        real=statistics(blurred(rng, np.full(4, 0.3))),
        simulated=statistics(blurred(rng, widths)),
        settings={"vibration": widths, "drift_angle": widths, "dose": np.ones(100), "defocus": widths[:, None]},
    )
    assert len(comparison.nearest) == 5
    np.testing.assert_allclose(widths[comparison.nearest], 0.3, atol=0.12)
    assert comparison.distances[comparison.nearest].tolist() == sorted(comparison.distances)[:5]
    comparison.show()
    printed = capsys.readouterr().out
    for word in ("a/image.tif beside 100 training examples", "excess kurtosis", "vibration", "defocus", "nearest 5"):
        assert word in printed
    # A direction, and what is the same in all examples, would say nothing.
    assert "angle" not in printed
    assert "dose" not in printed
