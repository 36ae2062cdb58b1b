"""Multislice in torch: differentiable, on any device, in the same steps as abTEM.

Positions and occupancies of atoms are tensors, and the exit wave can be differentiated with respect to them. As in
:mod:`hrtem.waves.multislice`, whole atoms are projected and each is divided between the two slices between whose
middles it lies, so that the wave is a continuous function of its height. A slice multiplies the wave by the
band-limited ``exp(iσV)``, and the Fresnel propagator carries it to the next slice (Kirkland 2010, section 6.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hrtem.optics import frequencies, wavelength
from hrtem.waves.multislice import BAND, project_form_factor

if TYPE_CHECKING:
    from ase import Atoms

    from hrtem.waves.multislice import Multislice

#: Radius of abTEM's aperture as a fraction of the Nyquist frequency, and width of its cosine edge times the sampling.
APERTURE, TAPER = 0.6666666, 0.01


class Species(NamedTuple):
    """Atoms with equal potentials: chemical symbol and root mean square displacement along one axis, Å."""

    symbol: str
    displacement: float


class Passage(NamedTuple):
    """A wave on its way through a specimen.

    Attributes:
        before: wave in front of each slice, complex ``(S, Y, X)``.
        transmission: band-limited transmission function of each slice, complex ``(S, Y, X)``.
        behind: wave one slice thickness behind the middle of the last slice, complex ``(Y, X)``.
    """

    before: Tensor
    transmission: Tensor
    behind: Tensor


@dataclass(frozen=True)
class Slices:
    """A periodic cell in slices of equal thickness.

    Args:
        shape: pixels ``(Y, X)`` of exit waves.
        sampling: Å/px of exit waves.
        energy: eV.
        low, high: heights between which the slices lie, Å along the beam.
        number: number of slices.
        oversampling: ratio of the sampling of exit waves to that of the potential, such that the potential has a whole
            number of pixels.
        parametrization: abTEM's name of the atomic potentials.
        device: device of all tensors.
    """

    shape: tuple[int, int]
    sampling: float
    energy: float
    low: float
    high: float
    number: int
    oversampling: float = 2
    parametrization: str = "lobato"
    device: str | torch.device = "cpu"

    @property
    def thickness(self) -> float:
        """Thickness of a slice, Å."""
        return (self.high - self.low) / self.number

    @property
    def pixel(self) -> float:
        """Sampling of the potential, Å/px."""
        return self.sampling / self.oversampling

    @property
    def grid(self) -> tuple[int, int]:
        """Pixels ``(Y, X)`` of the potential."""
        return round(self.shape[0] * self.oversampling), round(self.shape[1] * self.oversampling)

    @property
    def interaction(self) -> float:
        """Interaction parameter σ, rad/(V Å) (Kirkland 2010, equation 5.6)."""
        rest = 510998.95  # m c², eV
        return (
            2.0 * math.pi / (wavelength(self.energy) * self.energy) * (rest + self.energy) / (2.0 * rest + self.energy)
        )

    def project(self, positions: Tensor, occupancy: Tensor, species: Sequence[Species], kind: Tensor) -> Tensor:
        """Projected potential of each slice, real ``(S, Y, X)``, V Å, on the grid of the potential.

        Args:
            positions: x, y and height of each atom, Å, ``(A, 3)``.
            occupancy: factor of the potential of each atom, ``(A,)``.
            species: all species.
            kind: index of the species of each atom, ``(A,)``.
        """
        rows, columns = self.grid
        harmonics = int(BAND * rows / 2), int(BAND * columns / 2)
        ky = torch.cat([torch.arange(harmonics[0] + 1), torch.arange(-harmonics[0], 0)]) / (rows * self.pixel)
        kx = torch.arange(harmonics[1] + 1) / (columns * self.pixel)
        ky, kx = ky.to(self.device), kx.to(self.device)
        k2 = ky[:, None] ** 2 + kx**2
        # Circular band limit, so that atoms are round independent of the grid axes.
        inside = (k2 <= min(float(ky.max()), float(kx.max())) ** 2) / self.pixel**2
        along_y, along_x = _phases(positions[:, 1], ky), _phases(positions[:, 0], kx)
        place = self.place(positions[:, 2])
        factors = [inside * self.form_factor(one, k2) for one in species]
        slices = []
        for layer in range(self.number):
            shares = (1.0 - (place - layer).abs()).clamp_min(0.0) * occupancy
            total = torch.zeros(k2.shape, dtype=torch.complex64, device=self.device)
            for number, factor in enumerate(factors):
                here = torch.nonzero((kind == number) & ((place - layer).abs() < 1.0)).flatten()
                if len(here):
                    weighted = along_y[here] * shares[here, None]
                    total = total + factor * (weighted.mT.to(torch.complex64) @ along_x[here])
            slices.append(torch.fft.irfft2(self._padded(total, harmonics), s=self.grid))
        return torch.stack(slices)

    def place(self, heights: Tensor) -> Tensor:
        """Heights in thicknesses of slices above the middle of the first; atoms beyond the middles count as there."""
        return ((heights - self.low) / self.thickness - 0.5).clamp(0.0, self.number - 1.0)

    def form_factor(self, species: Species, k2: Tensor) -> Tensor:
        """Thermally smeared projected form factor, V Å³, at the squared frequencies ``k2``, 1/Å²."""
        projected = project_form_factor(self.parametrization, species.symbol, k2.cpu().numpy())
        smeared = projected * np.exp(-2.0 * np.pi**2 * species.displacement**2 * k2.cpu().numpy())
        return torch.from_numpy(smeared.astype(np.float32)).to(self.device)

    def _padded(self, spectrum: Tensor, harmonics: tuple[int, int]) -> Tensor:
        """Half spectrum of the grid from its harmonics, those of y in the order of a Fourier transform."""
        rows, columns = self.grid
        gap = spectrum.new_zeros(rows - 2 * harmonics[0] - 1, spectrum.shape[1])
        whole = torch.cat([spectrum[: harmonics[0] + 1], gap, spectrum[harmonics[0] + 1 :]])
        return torch.nn.functional.pad(whole, (0, columns // 2 - harmonics[1]))

    def transmission(self, potential: Tensor) -> Tensor:
        """Band-limited transmission function, complex, of the ``potential`` ``(..., Y, X)`` of slices."""
        phase = self.interaction * potential
        return torch.fft.ifft2(
            torch.fft.fft2(torch.polar(torch.ones_like(phase), phase)) * self.aperture(potential.shape)
        )

    def aperture(self, shape: Sequence[int]) -> Tensor:
        """abTEM's aperture against aliasing, real ``(Y, X)``, for a field of ``shape`` in pixels of the potential."""
        kx, ky = frequencies((shape[-2], shape[-1]), self.pixel, torch.device(self.device))
        distance = APERTURE / self.pixel / 2.0 - torch.sqrt(kx**2 + ky**2)
        width = TAPER / self.pixel
        edge = 0.5 * (1.0 - torch.cos(math.pi * distance / width))
        return torch.where(distance < 0.0, 0.0, torch.where(distance < width, edge, 1.0))

    def propagator(self, shape: Sequence[int], distance: float, pixel: float) -> Tensor:
        """Fresnel propagator ``exp(-iπλ z k²)``, complex ``(Y, X)``, over ``distance`` Å; ``pixel`` is in Å."""
        kx, ky = frequencies((shape[-2], shape[-1]), pixel, torch.device(self.device), dtype=torch.float64)
        turns = 0.5 * wavelength(self.energy) * distance * (kx**2 + ky**2)
        angle = (-2.0 * math.pi * (turns - turns.round())).float()
        return torch.polar(torch.ones_like(angle), angle)

    @cached_property
    def _step(self) -> Tensor:
        return self.propagator(self.grid, self.thickness, self.pixel) * self.aperture(self.grid)

    def cross(self, potential: Tensor, sparing: bool = False) -> Tensor:
        """Wave one slice thickness behind the middle of the last slice, complex ``(Y, X)``, for a plane wave.

        Args:
            potential: of each slice, ``(S, Y, X)``.
            sparing: recompute the waves inside the specimen for gradients instead of keeping them.
        """
        wave = torch.ones(self.grid, dtype=torch.complex64, device=self.device)
        for one in potential:
            if sparing and potential.requires_grad:
                wave = checkpoint(self._advance, wave, one, use_reentrant=False)
            else:
                wave = self._advance(wave, one)
        return wave

    def _advance(self, wave: Tensor, potential: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(self.transmission(potential) * wave) * self._step)

    def trace(self, potential: Tensor) -> Passage:
        """The wave in front of each slice, for derivatives by perturbation; see :meth:`cross`."""
        wave = torch.ones(self.grid, dtype=torch.complex64, device=self.device)
        transmission = self.transmission(potential)
        before = []
        for one in transmission:
            before.append(wave)
            wave = torch.fft.ifft2(torch.fft.fft2(one * wave) * self._step)
        return Passage(torch.stack(before), transmission, wave)

    def leave(self, wave: Tensor, plane: float) -> Tensor:
        """Exit wave, complex ``(..., Y, X)`` at the sampling of exit waves, at the height ``plane`` Å.

        Args:
            wave: wave from :meth:`cross`, also of a part of the cell.
            plane: height along the beam, Å.
        """
        shape = round(wave.shape[-2] / self.oversampling), round(wave.shape[-1] / self.oversampling)
        spectrum = torch.fft.fftshift(torch.fft.fft2(wave), dim=(-2, -1))
        window = [
            slice(full // 2 - part // 2, full // 2 - part // 2 + part)
            for full, part in zip(wave.shape[-2:], shape, strict=True)
        ]
        spectrum = torch.fft.ifftshift(spectrum[..., window[0], window[1]], dim=(-2, -1)) / self.oversampling**2
        # A plane wave is half a slice before the first middle, and the wave a whole slice behind the last.
        distance = plane - (self.high + 0.5 * self.thickness)
        return torch.fft.ifft2(spectrum * self.propagator(shape, distance, self.sampling))


@torch.no_grad()
def propagate(wave: Multislice, atoms: Atoms, plane: float) -> np.ndarray:
    """Exit wave of one structure, complex64 ``(Y, X)``, with the settings of ``wave``, on a GPU if there is one.

    Args:
        wave: settings of the simulation.
        atoms: see :meth:`hrtem.waves.Multislice.__call__`.
        plane: height along the beam at which the wave is given, Å.
    """
    width, height, thickness = atoms.cell.lengths()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = round(height / wave.sampling), round(width / wave.sampling)
    slices = Slices(
        shape, wave.sampling, wave.energy, 0.0, thickness, wave.count_slices(atoms), wave.oversampling,
        wave.parametrization, device,
    )  # fmt: skip
    displacements = atoms.get_array("rms_displacement").tolist()
    species = list(map(Species, atoms.get_chemical_symbols(), displacements))
    kinds = sorted(set(species))
    kind = torch.tensor([kinds.index(one) for one in species], device=device)
    occupancy = atoms.arrays.get("occupancy", np.ones(len(atoms)))
    positions = torch.from_numpy(atoms.positions).to(device)
    potential = slices.project(positions, torch.from_numpy(occupancy).float().to(device), kinds, kind)
    return slices.leave(slices.cross(potential), plane).cpu().numpy()


def _phases(places: Tensor, k: Tensor) -> Tensor:
    """``exp(-2πi k x)``, complex64 ``(A, K)``; whole turns are subtracted in double precision."""
    turns = places.double()[:, None] * k.double()
    angle = (-2.0 * math.pi * (turns - turns.detach().round())).float()
    return torch.polar(torch.ones_like(angle), angle)
