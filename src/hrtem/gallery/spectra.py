"""Statistics of an image that do not need visible atoms: power spectrum, histogram and moments.

All statistics are those of normalised images as the network sees them, without gain and offset; only the contrast
is calculated from the counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Bands of spatial frequency, 1/Å. The fringes of graphene, gold and MoS2 lie in the second and third band.
BANDS = ((0.0, 0.35), (0.35, 0.6), (0.6, 1.0), (1.0, 1.6), (1.6, 2.5))
#: Edges of the histogram, in standard deviations of the normalised image.
EDGES = np.linspace(-6.0, 6.0, 97)


def radial_spectrum(images: np.ndarray, sampling: float) -> tuple[np.ndarray, np.ndarray]:
    """Calculate the radially averaged power spectral density, averaged over the images of a series.

    A Hann window reduces spectral leakage from the image borders. White noise of variance v gives ``v sampling²``
    at all frequencies, and the integral over the frequency plane is the variance.

    Args:
        images: real images ``(B, F, Y, X)``; their mean is subtracted.
        sampling: pixel size, Å/px.

    Returns:
        Frequencies ``(K,)`` in 1/Å, from one period per image to the Nyquist frequency, and densities
        ``(B, K)`` in Å² times the square of the images' unit.
    """
    rows, columns = images.shape[-2:]
    window = np.outer(np.hanning(rows + 1)[:-1], np.hanning(columns + 1)[:-1])
    images = images - images.mean(axis=(-2, -1), keepdims=True)
    power = np.abs(np.fft.rfft2(images * window)) ** 2 * (sampling**2 / np.square(window).sum())
    power = power.mean(axis=1).reshape(len(images), -1)
    ky, kx = np.fft.fftfreq(rows, sampling), np.fft.rfftfreq(columns, sampling)
    # The half plane represents the full plane: all columns count twice except the first (and the last if X is even).
    weight = np.full((rows, len(kx)), 2.0)
    weight[:, 0] = 1.0
    if columns % 2 == 0:
        weight[:, -1] = 1.0
    step = 1.0 / (min(rows, columns) * sampling)
    ring = np.rint(np.hypot(ky[:, None], kx[None]) / step).astype(int).ravel()
    number = min(rows, columns) // 2 + 1
    inside = ring < number
    weights = np.bincount(ring[inside], weight.ravel()[inside], number)
    sums = [np.bincount(ring[inside], (one * weight.ravel())[inside], number) for one in power]
    return np.arange(1, number) * step, (np.array(sums) / weights)[:, 1:]


def band_shares(frequencies: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Calculate the fraction of the power between 0 and the Nyquist frequency in each of :data:`BANDS`.

    Args:
        frequencies: ``(K,)`` in 1/Å, equally spaced.
        spectra: radially averaged densities ``(B, K)``.

    Returns:
        Fractions ``(B, len(BANDS))``; each frequency is weighted by the circumference of its ring.
    """
    ring = spectra * frequencies
    inside = [(frequencies > low) & (frequencies <= high) for low, high in BANDS]
    return np.stack([ring[:, band].sum(axis=1) for band in inside], axis=1) / ring.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Statistics:
    """Statistics of images ``(B, F, Y, X)`` of equal size.

    Attributes:
        frequencies: spatial frequencies ``(K,)`` in 1/Å.
        spectra: power spectral densities of the normalised images, Å², ``(B, K)``.
        histograms: densities of the normalised intensity between :data:`EDGES`, ``(B, len(EDGES) - 1)``.
        skewness: skewness of the normalised intensity, ``(B,)``; 0 for a Gaussian.
        kurtosis: excess kurtosis of the normalised intensity, ``(B,)``; 0 for a Gaussian.
        contrast: standard deviation of the counts, including noise, over their mean, ``(B,)``.
    """

    frequencies: np.ndarray
    spectra: np.ndarray
    histograms: np.ndarray
    skewness: np.ndarray
    kurtosis: np.ndarray
    contrast: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, counts: np.ndarray, sampling: float) -> Statistics:
        """Calculate the statistics of normalised ``images`` and their ``counts``, ``(B, F, Y, X)``, at Å/px."""
        images, counts = np.asarray(images, dtype=np.float64), np.asarray(counts, dtype=np.float64)
        frequencies, spectra = radial_spectrum(images, sampling)
        flat = images.reshape(len(images), -1)
        contrast = (counts.std(axis=(-2, -1)) / np.abs(counts.mean(axis=(-2, -1)))).mean(axis=1)
        return cls(
            frequencies=frequencies,
            spectra=spectra,
            histograms=np.stack([np.histogram(one, EDGES, density=True)[0] for one in flat]),
            skewness=stats.skew(flat, axis=1),
            kurtosis=stats.kurtosis(flat, axis=1),
            contrast=contrast,
        )

    def figures(self) -> dict[str, np.ndarray]:
        """Return the scalar statistics ``(B,)``, one number per image, by name and unit."""
        shares = 100.0 * band_shares(self.frequencies, self.spectra).T
        power = {f"power in {low:g}-{high:g} 1/Å (%)": share for (low, high), share in zip(BANDS, shares, strict=True)}
        moments = {"skewness": self.skewness, "excess kurtosis": self.kurtosis}
        return {**power, **moments, "contrast of the counts (%)": 100.0 * self.contrast}

    def distances(self, spectrum: np.ndarray) -> np.ndarray:
        """Calculate the root mean square difference ``(B,)`` in dB between the spectra and another spectrum ``(K,)``.

        The two lowest frequencies are ignored because illumination and window dominate them.
        """
        decibels = 10.0 * np.log10(np.maximum(self.spectra, 1e-12) / np.maximum(spectrum, 1e-12))
        return np.sqrt(np.square(decibels[:, 2:]).mean(axis=1))
