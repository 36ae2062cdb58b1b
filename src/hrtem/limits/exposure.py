"""Bounds for a known microscope, on positions of columns and on decisions between two structures.

Counts are Gaussian with the covariance ``C = H diag(s) Hᵀ + r² I`` of the detector (see :mod:`hrtem.noise`). The
microscope and all other atoms are assumed to be known. The bounds therefore hold for an oracle; a network, which knows
neither, need not reach them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from scipy.special import erfc, erfcinv
from torch import Tensor

from hrtem.imaging import Imaging
from hrtem.optics import filter_image
from hrtem.waves.multislice import Multislice

#: Number of waves that are imaged together.
BATCH = 64

#: Displacement of columns to either side for derivatives, Å: far below the resolution, far above rounding errors.
STEP = 0.05

#: Relative residual at which the conjugate gradients stop.
RESIDUAL = 1e-5


@dataclass(frozen=True)
class PositionLimits:
    """Smallest root mean square distances, in pm, of unbiased estimates from the true positions.

    Attributes:
        single: ``(N,)``, if all other columns are known.
        joint: ``(N,)``, if the positions of all ``N`` columns are estimated together.
    """

    single: np.ndarray
    joint: np.ndarray


@dataclass(frozen=True)
class Exposure:
    """One focal series with a known microscope and detector.

    Args:
        imaging: microscope and detector; the margin is not cut off.
        settings: one draw of their settings, see :meth:`hrtem.imaging.Imaging.draw`.
    """

    imaging: Imaging
    settings: Mapping[str, np.ndarray]

    def at(self, **settings: float) -> Exposure:
        """Return the same exposure with other values of some settings, such as ``dose``."""
        changed = {name: np.full_like(self.settings[name], value) for name, value in settings.items()}
        return Exposure(self.imaging, {**self.settings, **changed})

    def with_dose(self, dose: float) -> Exposure:
        """Return the same exposure with another dose, e/Å² per image or series as ``dose_per`` of the optics says."""
        return self.at(dose=self.imaging.optics.image_dose(dose))

    def expected(self, waves: np.ndarray, modes: int | None = None) -> Tensor:
        """Expected intensities ``(N, F, Y, X)``, in double precision, of the exit waves ``(N, Y, X)``.

        All images have the same number of coherent ``modes``, because their differences matter; None takes the largest
        number that any of them needs, see :meth:`hrtem.optics.Optics.modes_needed`.
        """
        images = self.imaged(waves, self.modes_needed(waves) if modes is None else modes)
        return self.imaging.noise.flaws.illuminated(images, self._batch(len(images)), self.imaging.sampling)

    def imaged(self, waves: np.ndarray, modes: int) -> Tensor:
        """Expected intensities as from :meth:`expected`, but under even illumination."""
        return torch.cat(
            [
                self.imaging.optics(part, self._batch(len(part)), self.imaging.sampling, modes)
                for part in _doubles(waves).split(BATCH)
            ]
        )

    def modes_needed(self, waves: np.ndarray) -> int:
        """Largest number of coherent modes that any image of the exit waves ``(N, Y, X)`` needs."""
        return max(
            self.imaging.optics.modes_needed(part, self._batch(len(part)), self.imaging.sampling)
            for part in _doubles(waves).split(BATCH)
        )

    def illumination(self, shape: tuple[int, int]) -> Tensor:
        """Relative illumination of each pixel of an image of ``shape``, ``(1, 1, Y, X)``."""
        return self.imaging.noise.flaws.illuminated(
            torch.ones(1, 1, *shape, dtype=torch.float64), self._batch(1), self.imaging.sampling
        )

    def response(self, shape: tuple[int, int]) -> Tensor:
        """MTF of the detector on the half plane of :func:`hrtem.optics.frequencies`, ``(1, Y, X//2 + 1)``."""
        return self.imaging.noise.signal_transfer(shape, self._batch(1), self.imaging.sampling)[0].double()

    @property
    def readout(self) -> float:
        """Variance of the detector's white noise, e² per pixel of the image."""
        return float(self.imaging.noise.readout_variance(self._batch(1), self.imaging.sampling)[0])

    def information(self, changes: Tensor, expected: Tensor, residual: float = RESIDUAL) -> np.ndarray:
        """Compute the Fisher information ``(P, P)`` of parameters that change the expected image.

        Args:
            changes: derivatives of the expected intensity, ``(P, F, Y, X)``.
            expected: the expected intensity, ``(F, Y, X)``.
            residual: relative residual at which the conjugate gradients stop; only detectors with readout noise need
                them.
        """
        one = self._batch(1)
        shot = self.imaging.noise.shot_variance(expected[None], one, self.imaging.sampling).clamp_min(1e-12)
        transfer = self.imaging.noise.noise_transfer(expected.shape[-2:], one, self.imaging.sampling).double()
        readout = self.readout
        response = self.response((expected.shape[-2], expected.shape[-1]))
        electrons = float(self.settings["dose"]) * self.imaging.sampling**2
        signal = filter_image(changes, response) * electrons
        if readout == 0.0:
            white = filter_image(signal, 1.0 / transfer.clamp_min(1e-9)) / shot.sqrt()
            return (white.flatten(1) @ white.flatten(1).T).numpy()
        mean = float(shot.mean())

        def covariance(images: Tensor) -> Tensor:
            return filter_image(shot * filter_image(images, transfer), transfer) + readout * images

        def preconditioner(images: Tensor) -> Tensor:
            return filter_image(images, 1.0 / (mean * transfer**2 + readout))

        # In batches, because the solver keeps half a dozen copies of the images.
        solved = torch.cat([_solved(covariance, preconditioner, part, residual) for part in signal.split(BATCH)])
        return (signal.flatten(1) @ solved.flatten(1).T).numpy()

    def changes(self, moved: np.ndarray) -> Tensor:
        """Derivatives ``(2 N, F, Y, X)``, per Å, of the expected intensity with respect to column positions.

        Args:
            moved: exit waves from :func:`move_columns`, complex ``(N, 2, 2, Y, X)``.
        """
        images = self.expected(moved.reshape(-1, *moved.shape[-2:])).unflatten(0, (-1, 2))
        return (images[:, 1] - images[:, 0]) / (2.0 * STEP)

    def position_limits(self, expected: Tensor, changes: Tensor) -> PositionLimits:
        """Compute the Cramér-Rao bounds of column positions (Kay 1993, section 3.7).

        Both arguments may be cropped to a window, which is then the whole visible image. Neither depends on the dose.

        Args:
            expected: the expected intensity, ``(F, Y, X)``.
            changes: derivatives from :meth:`changes`, ``(2 N, F, Y, X)``.
        """
        information = self.information(changes, expected)
        pairs = np.arange(len(changes)).reshape(-1, 2)
        alone = np.linalg.inv(information[pairs[:, :, None], pairs[:, None, :]])
        together = np.linalg.inv(information)
        single = np.sqrt(np.trace(alone, axis1=1, axis2=2))
        joint = np.sqrt(together.diagonal().reshape(-1, 2).sum(axis=1))
        return PositionLimits(100.0 * single, 100.0 * joint)

    def separation(self, first: np.ndarray, second: np.ndarray) -> float:
        """Detectability index d' of the difference between two exit waves ``(Y, X)``, in standard deviations of noise.

        The noise is calculated for the mean of both images.
        """
        images = self.expected(np.stack([first, second]))
        return math.sqrt(self.information((images[1] - images[0])[None], images.mean(dim=0))[0, 0])

    def _batch(self, number: int) -> dict[str, Tensor]:
        tensors = {name: torch.as_tensor(value) for name, value in self.settings.items()}
        doubles = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
        return {name: value[None].expand(number, *value.shape) for name, value in doubles.items()}


def compute_confusion(separation: float) -> float:
    """Probability of confusing two equally likely structures: ``Q(d'/2)``.

    The best test compares likelihoods (Neyman and Pearson); for Gaussian noise, its error probability is the tail
    beyond half the separation.
    """
    return 0.5 * float(erfc(separation / (2.0 * math.sqrt(2.0))))


def find_dose(error: float, separation: float, dose: float) -> float:
    """Dose at which two structures are confused with probability ``error``, given their ``separation`` at ``dose``.

    The separation d' is assumed to grow with the square root of the dose, as for shot noise.
    """
    needed = 2.0 * math.sqrt(2.0) * float(erfcinv(2.0 * error))
    return dose * (needed / separation) ** 2


def move_columns(wave: Multislice, atoms: Atoms, columns: Sequence[int]) -> np.ndarray:
    """Simulate exit waves with each of the ``columns`` moved by ∓:data:`STEP` along x and y, ``(N, 2, 2, Y, X)``.

    ``columns`` are values of the atoms' array ``column``.
    """
    result = []
    for column in columns:
        members = atoms.get_array("column") == column
        for axis in range(2):
            for sign in (-1.0, 1.0):
                moved = atoms.copy()
                moved.positions[members, axis] += sign * STEP
                result.append(wave(moved))
    return np.stack(result).reshape(len(columns), 2, 2, *result[0].shape)


def _doubles(waves: np.ndarray) -> Tensor:
    return torch.from_numpy(waves).to(torch.complex128)


def _solved(matrix: Any, preconditioner: Any, right: Tensor, relative: float) -> Tensor:
    """Solve for ``matrix⁻¹ right`` for each of the images ``(P, F, Y, X)`` by preconditioned conjugate gradients."""

    def dot(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).flatten(1).sum(dim=1)[:, None, None, None]

    solution = torch.zeros_like(right)
    residual = right.clone()
    step = preconditioner(residual)
    power = dot(residual, step)
    goal = relative**2 * dot(right, right)
    for _ in range(200):
        forward = matrix(step)
        length = power / dot(step, forward).clamp_min(1e-300)
        solution = solution + length * step
        residual = residual - length * forward
        if bool((dot(residual, residual) <= goal).all()):
            break
        better = preconditioner(residual)
        again = dot(residual, better)
        step = better + again / power.clamp_min(1e-300) * step
        power = again
    return solution
