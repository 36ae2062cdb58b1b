"""Expected images of a crystal in an instrument, and their derivatives with respect to the instrument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hrtem.optics import Optics, filter_image
from hrtem.refinement.instrument import STEPS, Instrument, Unknown
from hrtem.refinement.specimen import Specimen
from hrtem.waves.differentiable import Slices


@dataclass(frozen=True)
class ForwardModel:
    """The part of a specimen that is simulated: an image with a margin.

    Args:
        optics: energy and coherence of the microscope.
        slices: cell of the multislice, with the margin.
        size: pixels ``(Y, X)`` of the image.
        margin: pixels of the cell before the first row and column of the image.
        modes: number of coherent modes of the focal spread.
    """

    optics: Optics
    slices: Slices
    size: tuple[int, int]
    margin: int
    modes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels ``(Y, X)`` of the cell."""
        return self.slices.shape

    def seen(self, images: Tensor) -> Tensor:
        """The image without the margin, from images ``(..., Y, X)`` of the cell."""
        rows, columns = (slice(self.margin, self.margin + size) for size in self.size)
        return images[..., rows, columns]

    def potential(self, crystal: Specimen) -> Tensor:
        """Projected potential of each slice; positions count from the first pixel of the image, not of the cell."""
        sites = crystal.sites()
        shift = torch.tensor([self.margin * self.slices.sampling] * 2 + [0.0], dtype=torch.float64)
        return self.slices.project(
            sites.positions + shift, sites.occupancy.float(), crystal.species, crystal.kind[sites.column]
        )

    def wave(self, crystal: Specimen) -> Tensor:
        """Exit wave in the plane of height 0, complex ``(Y, X)``."""
        return self.slices.leave(self.slices.cross(self.potential(crystal)), 0.0)

    def amplitudes(self, wave: Tensor, instrument: Instrument) -> Tensor:
        """Waves of all modes in the image plane, complex ``(F, M, Y, X)``, of an exit wave ``(Y, X)``."""
        transfer = self.optics.mode_transfer(wave.shape, instrument.settings(), self.slices.sampling, self.modes)[0]
        return torch.fft.ifft2(transfer * torch.fft.fft2(wave))

    def blur(self, shape: Sequence[int], instrument: Instrument) -> Tensor:
        """Transfer function of motion and camera, ``(F, Y, X//2 + 1)``, with the scale of each image."""
        size = shape[-2], shape[-1]
        motion = self.optics.motion(size, instrument.settings(), self.slices.sampling)[0]
        camera = instrument.camera_transfer(size, self.slices.sampling)
        return motion * camera * instrument.values["scale"].float()[:, None, None]

    def image(self, amplitudes: Tensor, instrument: Instrument) -> Tensor:
        """Expected counts, in units of the mean of an image, real ``(F, Y, X)``, of the cell."""
        intensity = amplitudes.abs().square().sum(dim=1)
        blurred = filter_image(intensity, self.blur(intensity.shape, instrument))
        return blurred + instrument.values["offset"].float()[:, None, None]

    def expected(self, crystal: Specimen, instrument: Instrument) -> Tensor:
        """Expected counts of the image without the margin, ``(F, Y, X)``."""
        return self.seen(self.image(self.amplitudes(self.wave(crystal), instrument), instrument))

    def differentiate_instrument(
        self, wave: Tensor, amplitudes: Tensor, instrument: Instrument, unknowns: Sequence[Unknown]
    ) -> Tensor:
        """Derivatives of the image of the cell with respect to ``unknowns``, ``(P, F, Y, X)``.

        Args:
            wave: exit wave.
            amplitudes: its waves in the image plane, see :meth:`amplitudes`.
            instrument: point at which derivatives are taken.
            unknowns: settings of the instrument.
        """
        image = self.image(amplitudes, instrument)
        answer, shared = [], {}
        for one in unknowns:
            if one.name == "scale":
                offset, scale = (instrument.values[name].float()[one.part[0]] for name in ("offset", "scale"))
                change = (image - offset) / scale
            elif one.name == "offset":
                change = torch.ones_like(image)
            else:
                # Settings of the single images are changed in all images at once.
                key = (one.name, one.part[1:]) if one.name in ("defocus", "shift") else (one.name, one.part)
                if key not in shared:
                    shared[key] = self._difference(wave, amplitudes, instrument, one)
                change = shared[key]
            if one.name in ("defocus", "shift", "scale", "offset"):
                alone = torch.zeros_like(change)
                alone[one.part[0]] = change[one.part[0]]
                change = alone
            answer.append(change)
        return torch.stack(answer)

    def _difference(self, wave: Tensor, amplitudes: Tensor, instrument: Instrument, one: Unknown) -> Tensor:
        parts = [one.part]
        if one.name in ("defocus", "shift"):
            parts = [(image, *one.part[1:]) for image in range(len(instrument.values["defocus"]))]
        # A setting at its smallest value moves to one side only.
        up, down = instrument, instrument
        for part in parts:
            up = up.moved(Unknown(one.name, part, 0.0, 1.0), STEPS[one.name])
            down = down.moved(Unknown(one.name, part, 0.0, 1.0), -STEPS[one.name])
        width = up.value(one) - down.value(one)
        if one.name in ("shift", "vibration", "drift", "half", "power"):
            intensity = amplitudes.abs().square().sum(dim=1)
            change = (self.blur(intensity.shape, up) - self.blur(intensity.shape, down)) / width
            return filter_image(intensity, change)
        settings = [one.settings() for one in (up, down)]
        more, less = (
            self.optics.mode_transfer(wave.shape, one, self.slices.sampling, self.modes)[0] for one in settings
        )
        changed = torch.fft.ifft2((more - less) / width * torch.fft.fft2(wave))
        return filter_image(2.0 * (amplitudes.conj() * changed).real.sum(dim=1), self.blur(wave.shape, instrument))
