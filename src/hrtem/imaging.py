"""Forward model after the exit wave: from waves to detector counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hrtem.noise import record_counts


def form_image(optics: Any, wave: Tensor, settings: Mapping[str, Tensor], sampling: float) -> Tensor:
    """Compute the expected intensity ``(B, F, Y, X)`` of collated waves; arguments as for :func:`simulate_counts`."""
    if wave.ndim == 3:
        return optics(wave, settings, sampling)
    number = wave.shape[1]
    repeated = {name: value.repeat_interleave(number, dim=0) for name, value in settings.items()}
    return optics(wave.flatten(0, 1), repeated, sampling).unflatten(0, (-1, number)).mean(dim=1)


def simulate_counts(
    optics: Any, noise: Any, wave: Tensor, settings: Mapping[str, Tensor], sampling: float, margin: int
) -> Tensor:
    """Simulate counts ``(B, F, Y, X)`` of collated waves, imaged with their margin and then cropped by ``margin`` px.

    Waves ``(B, N, Y, X)`` are N snapshots of each vibrating structure, whose intensities are averaged. Missing images
    are 0.
    """
    counts = record_counts(noise, form_image(optics, wave, settings, sampling), settings, sampling, margin)
    return counts * settings["present"][..., None, None] if "present" in settings else counts
