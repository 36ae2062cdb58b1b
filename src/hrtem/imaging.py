"""Forward model after the exit wave: from waves to detector counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hrtem.noise import record_counts

#: Settings of one focal series or, with a leading batch axis, of several: those of the optics and those of the noise.
Settings = Mapping[str, Tensor]


@dataclass(frozen=True)
class Imaging:
    """A microscope with its detector.

    Args:
        optics: the microscope, see :class:`hrtem.optics.Optics`.
        noise: the detector, see :class:`hrtem.noise.Noiseless`.
        sampling: Å/px.
        margin: pixels on each side that are imaged and then cut off.
    """

    optics: Any
    noise: Any
    sampling: float
    margin: int

    def draw(self, rng: np.random.Generator, dose: float | None = None) -> dict[str, np.ndarray]:
        """Draw the settings of one focal series; ``dose`` (e/Å² per image or series) replaces that of the optics."""
        settings = self.optics.draw(rng)
        if dose is not None:
            settings["dose"] = np.float32(self.optics.image_dose(dose))
        return settings | self.noise.draw(rng)

    def form_image(self, wave: Tensor, settings: Settings) -> Tensor:
        """Compute the expected intensity ``(B, F, Y, X)``, 1 in vacuum, margin included.

        Args:
            wave: exit waves, complex ``(B, Y, X)``, or N snapshots of each vibrating structure ``(B, N, Y, X)``, whose
                intensities are averaged.
            settings: settings from :meth:`draw`, with a leading batch axis.
        """
        if wave.ndim == 3:
            return self.optics(wave, settings, self.sampling)
        number = wave.shape[1]
        repeated = {name: value.repeat_interleave(number, dim=0) for name, value in settings.items()}
        return self.optics(wave.flatten(0, 1), repeated, self.sampling).unflatten(0, (-1, number)).mean(dim=1)

    def simulate_counts(self, wave: Tensor, settings: Settings) -> Tensor:
        """Simulate counts ``(B, F, Y, X)`` without the margin; arguments as for :meth:`form_image`.

        Missing images are 0.
        """
        expected = self.form_image(wave, settings)
        counts = record_counts(self.noise, expected, settings, self.sampling, self.margin)
        return counts * settings["present"][..., None, None] if "present" in settings else counts
