"""Flaws of any camera beside noise: uneven illumination, hot pixels, a gain and an offset."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.optics import Parameters
from hrtem.ranges import Range

#: Number of plane waves in the field of an uneven illumination.
WAVES = 24


class Flaws:
    """Flaws available for all detectors; the defaults do not change the image.

    Args:
        gain: counts per electron.
        offset: counts of a pixel without electrons.
        hot_pixels: fraction of the camera pixels that are hot. A camera pixel may cover several image pixels or part of
            one, depending on ``camera_sampling``.
        hot_height: additional counts of a hot pixel, in multiples of its counts in vacuum.
        background: relative standard deviation of the illumination, a smooth random field that multiplies the dose.
        background_length: correlation length of that field, Å; its correlation is ``exp(-r²/2 length²)``.

    Raises:
        InputError: a setting is neither a number nor a range, or is outside the allowed interval.
    """

    def __init__(
        self,
        gain: Any = 1.0,
        offset: Any = 0.0,
        hot_pixels: Any = 0.0,
        hot_height: Any = 10.0,
        background: Any = 0.0,
        background_length: Any = 100.0,
    ) -> None:
        self.ranges = {
            "gain": Range.parse("noise.gain", gain, unit="counts/e", minimum=1e-6),
            "offset": Range.parse("noise.offset", offset, unit="counts"),
            "hot_pixels": Range.parse("noise.hot_pixels", hot_pixels, minimum=0.0, maximum=0.1),
            "hot_height": Range.parse("noise.hot_height", hot_height, minimum=0.0),
            "background": Range.parse("noise.background", background, minimum=0.0, maximum=0.3),
            "background_length": Range.parse("noise.background_length", background_length, unit="Å", minimum=1.0),
        }
        self.uneven = self.ranges["background"].high > 0.0
        self.hot = self.ranges["hot_pixels"].high > 0.0
        self.scaled = any(self.ranges[name] != Range(none, none) for name, none in (("gain", 1.0), ("offset", 0.0)))

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the settings of one example, with the plane waves of an uneven illumination."""
        settings: dict[str, Any] = {name: value.draw(rng) for name, value in self.ranges.items()}
        if self.uneven:
            # Random Fourier features: unlike filtered noise, they do not depend on the size or borders of the image.
            wavevectors = rng.normal(scale=1.0 / settings["background_length"], size=(2, WAVES))
            phases = rng.uniform(0.0, 2.0 * math.pi, size=(1, WAVES))
            settings["background_waves"] = np.concatenate([wavevectors, phases])
        return {name: np.asarray(value, dtype=np.float32) for name, value in settings.items()}

    def illuminated(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Multiply ``expected`` ``(B, F, Y, X)`` by the illumination, which all images of a series share."""
        if not self.uneven:
            return expected
        kx, ky, phase = parameters["background_waves"][:, :, None, :].unbind(1)
        x, y = (torch.arange(size, device=expected.device)[:, None] * sampling for size in expected.shape[:-3:-1])
        # cos(a + b) as a sum of products, so that the field is one product of matrices.
        rows = torch.cat([torch.cos(ky * y), -torch.sin(ky * y)], dim=-1)
        columns = torch.cat([torch.cos(kx * x + phase), torch.sin(kx * x + phase)], dim=-1)
        strength = parameters["background"][:, None, None] * math.sqrt(2.0 / WAVES)
        field = 1.0 + strength * (rows @ columns.mT)
        return expected * field.clamp_min(0.0)[:, None]

    def recorded(self, electrons: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Convert electrons per pixel ``(B, F, Y, X)`` to the counts in an image file."""
        if self.hot:
            electrons = electrons + self._hot_pixels(electrons, parameters, sampling)
        if not self.scaled:
            return electrons
        return torch.addcmul(_column(parameters["offset"]), _column(parameters["gain"]), electrons)

    @staticmethod
    def _hot_pixels(electrons: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Additional electrons in hot pixels, ``(B, 1, Y, X)``, equal for all images of a series from one camera."""
        fractions, device = parameters["hot_pixels"], electrons.device
        # Without a camera sampling, camera pixels are image pixels.
        pixels = parameters.get("camera_sampling", torch.full_like(fractions, sampling)) / sampling
        generator = torch.Generator(device=device)
        covered = []
        for seed, pixel, fraction in zip(parameters["seed"].tolist(), pixels.tolist(), fractions.tolist(), strict=True):
            rows, columns = (_overlaps(size, pixel, device) for size in electrons.shape[-2:])
            generator.manual_seed(seed + 2)
            numbers = torch.rand(rows.shape[1], columns.shape[1], generator=generator, device=device)
            covered.append(rows @ (numbers < fraction).to(rows.dtype) @ columns.T)
        height = parameters["hot_height"] * parameters["dose"] * sampling**2
        return torch.stack(covered)[:, None] * _column(height)


def _overlaps(size: int, pixel: float, device: torch.device) -> Tensor:
    """Fraction of each of ``size`` unit pixels covered by each of N camera pixels of width ``pixel``, ``(size, N)``."""
    mine = torch.arange(size, device=device)[:, None]
    theirs = torch.arange(math.ceil(size / pixel), device=device)[None, :] * pixel
    return (torch.minimum(mine + 1.0, theirs + pixel) - torch.maximum(mine, theirs)).clamp_min(0.0)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
