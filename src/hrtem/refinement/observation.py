"""Recorded counts and their noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from hrtem.optics import filter_image, frequencies

#: Number of rings of equal width in |k| for the spectrum of the noise.
RINGS = 24
#: Smallest local variance relative to the mean, and smallest power of the noise relative to its largest.
DARKEST, WEAKEST = 0.05, 1e-4


@dataclass(frozen=True)
class Noise:
    """Noise of a camera: shot noise that the camera filters, and white noise.

    The power is ``level · mtf^(2 exponent) + floor``, in units of the squared mean of an image, for a pixel of mean
    intensity; the variance of a pixel is proportional to its expected counts.
    """

    level: float
    exponent: float = 0.0
    floor: float = 0.0

    def whitening(self, transfer: Tensor) -> Tensor:
        """Filter after which the noise of a pixel of mean intensity is white with a standard deviation of 1."""
        power = self.level * transfer ** (2.0 * self.exponent) + self.floor
        return (power.clamp_min(WEAKEST * float(power.max()))).rsqrt()


@dataclass(frozen=True)
class Observation:
    """A focal series and what is known of its noise.

    Attributes:
        counts: in units of their mean in each image, real ``(F, Y, X)``.
        weights: 1 for pixels that count, 0 for others, ``(Y, X)``.
        sampling: Å/px.
        noise: noise of the camera.
        transfer: MTF for which the noise was estimated, on the half plane of the image.
        deviations: standard deviation of the noise of each image relative to that of the series, ``(F,)``.
    """

    counts: Tensor
    weights: Tensor
    sampling: float
    noise: Noise
    transfer: Tensor
    deviations: Tensor

    def parted(self, share: float) -> tuple[Observation, Observation]:
        """The observation without a random ``share`` of its pixels, and with these pixels alone."""
        taken = torch.rand(self.weights.shape, generator=torch.Generator().manual_seed(0)) < share
        return replace(self, weights=self.weights * ~taken), replace(self, weights=self.weights * taken)

    def whiten(self, images: Tensor, expected: Tensor) -> Tensor:
        """``images`` ``(..., F, Y, X)`` in standard deviations of the noise of the ``expected`` counts."""
        return filter_image(images.float(), self.noise.whitening(self.transfer)) * self.scale(expected)

    def scale(self, expected: Tensor) -> Tensor:
        """Factor of whitened images for the variance of the ``expected`` counts, 0 in pixels that do not count."""
        return self.weights / (expected.clamp_min(DARKEST).sqrt() * self.deviations[:, None, None])

    def residual(self, expected: Tensor) -> Tensor:
        """Difference of the counts from the ``expected`` counts in standard deviations, ``(F, Y, X)``."""
        return self.whiten(self.counts - expected, expected)

    def with_noise(self, expected: Tensor, transfer: Tensor) -> Observation:
        """Estimate the noise from the difference of the counts from the ``expected`` counts.

        The median power in each ring of |k| hardly notices the few frequencies of a crystal at which a structure that
        is still wrong adds to the noise.
        """
        difference = (self.counts - expected) / expected.clamp_min(DARKEST).sqrt() * self.weights
        power = torch.fft.rfft2(difference).abs().square().mean(dim=0) / float(self.weights.sum())
        kx, ky = frequencies(self.counts.shape[-2:], self.sampling, torch.device("cpu"), half=True)
        distance = torch.sqrt(kx**2 + ky**2)
        highest = 0.5 / self.sampling
        ring = (distance / highest * RINGS).long()
        inside = [(ring == one) & (distance > 0.0) for one in range(RINGS)]
        # The median of the mean of F exponential variables is below their mean.
        images = len(self.counts)
        share = 1.0 - 1.0 / (3.0 * images) if images > 1 else math.log(2.0)
        measured = np.array([float(power[one].median()) / share for one in inside])
        passed = np.array([float(transfer[one].mean()) for one in inside])
        weight = np.array([int(one.sum()) for one in inside], dtype=float)

        def cost(values: np.ndarray) -> float:
            level, exponent, floor = np.exp(values[0]), 1.0 / (1.0 + np.exp(-values[1])), np.exp(values[2])
            model = level * passed ** (2.0 * exponent) + floor
            return float((weight * (np.log(model) + measured / model)).sum() / weight.sum())

        best = min(
            (
                minimize(cost, [np.log(measured.mean()), start, np.log(1e-2 * measured.mean())], method="Nelder-Mead")
                for start in (-2.0, 2.0)
            ),
            key=lambda found: found.fun,
        )
        level, exponent, floor = np.exp(best.x[0]), 1.0 / (1.0 + np.exp(-best.x[1])), np.exp(best.x[2])
        noise = Noise(float(level), float(exponent), float(floor))
        found = replace(self, noise=noise, transfer=transfer, deviations=torch.ones(images))
        # Half of all pixels deviate by less than 0.6745 standard deviations.
        within = found.residual(expected)[:, self.weights > 0.0].abs().median(dim=1).values / 0.6745
        return replace(found, deviations=within.float())
