"""Detector models."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.errors import InputError
from hrtem.noise.flaws import Flaws
from hrtem.noise.shot import normal, poisson
from hrtem.optics import Parameters, filter_image, frequencies
from hrtem.ranges import Range

Shape = tuple[int, int] | torch.Size


class Noiseless:
    """A detector without noise: the reported electrons are the expected image.

    Args:
        flaws: settings of :class:`hrtem.noise.flaws.Flaws`, available for every detector.

    Raises:
        InputError: a setting is unknown, is neither a number nor a range, or is outside the allowed interval.
    """

    #: Whether the counts of each pixel depend on that pixel alone, so that images may be cropped before detection.
    pointwise = True

    def __init__(self, **flaws: Any) -> None:
        known = inspect.signature(Flaws).parameters
        for name in flaws.keys() - known.keys():
            raise InputError(
                f"noise.{name} is no setting of {type(self).__name__}; "
                f"settings of all detectors are {', '.join(known)}."
            )
        self.flaws = Flaws(**flaws)
        self.ranges: dict[str, Range] = {}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the settings of one example, with the seed of its random numbers."""
        settings = {"seed": np.asarray(rng.integers(2**31))}
        settings |= {name: np.asarray(value.draw(rng), dtype=np.float32) for name, value in self.ranges.items()}
        return settings | self.flaws.draw(rng)

    def __call__(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Simulate the counts of a batch.

        Args:
            expected: intensity of each focal image, 1 in vacuum, real ``(B, F, Y, X)``.
            parameters: ``dose`` in e/Å² and the settings from :meth:`draw`, with a leading batch axis.
            sampling: Å/px of ``expected``.

        Returns:
            Counts, ``gain · electrons + offset`` per pixel, real ``(B, F, Y, X)``.
        """
        lit = self.flaws.illuminated(expected, parameters, sampling)
        return self.flaws.recorded(self._detected(lit, parameters, sampling), parameters, sampling)

    def signal_transfer(self, shape: Shape, parameters: Parameters, sampling: float) -> Tensor:
        """MTF on the half plane of :func:`hrtem.optics.frequencies`, ``(B, 1, Y, X//2 + 1)``.

        Args:
            shape: shape of the image, ``(Y, X)``.
            parameters: as in :meth:`__call__`; the result is on their device.
            sampling: Å/px of the image.
        """
        dose = parameters["dose"]
        return torch.ones(len(dose), 1, shape[0], shape[1] // 2 + 1, device=dose.device)

    def noise_transfer(self, shape: Shape, parameters: Parameters, sampling: float) -> Tensor:
        """Amplitude filter of the shot noise; arguments and shape as for :meth:`signal_transfer`."""
        return self.signal_transfer(shape, parameters, sampling)

    def mean(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Mean number of reported electrons per pixel, ``(B, F, Y, X)``; arguments as for :meth:`__call__`."""
        mtf = self.signal_transfer(expected.shape[-2:], parameters, sampling)
        return filter_image(expected, mtf) * _electrons(parameters, sampling)

    def shot_variance(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Variance of the shot noise of each pixel before the noise transfer, e², ``(B, F, Y, X)``."""
        return torch.zeros_like(expected)

    def readout_variance(self, parameters: Parameters, sampling: float) -> Tensor:
        """Variance of the white readout noise, e² per pixel of the image, ``(B,)``."""
        return torch.zeros_like(parameters["dose"])

    def _detected(self, lit: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Electrons per pixel, from the expected image under the actual illumination."""
        return lit * _electrons(parameters, sampling)


class Poisson(Noiseless):
    """An ideal electron counter: shot noise alone."""

    def shot_variance(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """The mean number of electrons, see :class:`Noiseless`."""
        return expected * _electrons(parameters, sampling)

    def _detected(self, lit: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        return poisson(self.shot_variance(lit, parameters, sampling), parameters["seed"])


class Madsen2018(Poisson):
    """The detector of arXiv 1802.03008: shot noise first, then one MTF for signal and noise.

    It implies a perfect detective quantum efficiency and is therefore optimistic. The transfer function is
    ``F(q) = (c0 - c1) / (1 + (q / 2 c2)^c3) + c1``. (The authors' code, PyQSTEM, filters by the root of F.)

    Args:
        c0, c1, c2, c3: constants of F(q), numbers or ranges.
        camera_sampling: size of a camera pixel at the specimen, Å; q is in cycles per camera pixel.
        flaws: see :class:`Noiseless`.
    """

    pointwise = False

    def __init__(self, c0: Any, c1: Any, c2: Any, c3: Any, camera_sampling: Any, **flaws: Any) -> None:
        super().__init__(**flaws)
        self.ranges = {
            "c0": Range.parse("noise.c0", c0, minimum=0.0, maximum=1.0),
            "c1": Range.parse("noise.c1", c1, minimum=0.0, maximum=1.0),
            "c2": Range.parse("noise.c2", c2, minimum=1e-3),
            "c3": Range.parse("noise.c3", c3, minimum=0.1),
            "camera_sampling": Range.parse("noise.camera_sampling", camera_sampling, unit="Å", minimum=1e-3),
        }

    def signal_transfer(self, shape: Shape, parameters: Parameters, sampling: float) -> Tensor:
        """The MTF F(q), which also filters the noise, see :class:`Noiseless`."""
        q = _cycles_per_pixel(shape, parameters, sampling)
        c0, c1, c2, c3 = (parameters[name][:, None, None, None] for name in ("c0", "c1", "c2", "c3"))
        return (c0 - c1) / (1.0 + (q / (2.0 * c2)) ** c3) + c1

    def _detected(self, lit: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        counts = super()._detected(lit, parameters, sampling)
        return filter_image(counts, self.signal_transfer(lit.shape[-2:], parameters, sampling))


class Physical(Poisson):
    """An integrating or counting camera: MTF of the signal, shot noise of the dose, noise transfer, readout noise.

    The MTF of the signal is ``1 / (1 + (q / half)^power)``. Shot noise is filtered by ``MTF^correlation / √dqe0``, so
    that the detective quantum efficiency is ``dqe0 MTF^(2 - 2 correlation)`` for small readout noise. The coincidence
    loss of a counting camera is modelled only through ``dqe0``.

    Args:
        half: spatial frequency at which the MTF is one half, cycles per camera pixel.
        power: steepness of the MTF.
        correlation: 0 is a counting camera with white noise, 1 a scintillator that blurs signal and noise equally.
        readout: standard deviation of the readout noise, electrons per camera pixel.
        camera_sampling: size of a camera pixel at the specimen, Å.
        dqe0: detective quantum efficiency at zero frequency; below 1, electrons are missed or weighted unequally.
        flaws: see :class:`Noiseless`.
    """

    pointwise = False

    def __init__(
        self,
        half: Any,
        power: Any,
        correlation: Any,
        readout: Any,
        camera_sampling: Any,
        dqe0: Any = 1.0,
        **flaws: Any,
    ) -> None:
        super().__init__(**flaws)
        self.ranges = {
            "half": Range.parse("noise.half", half, unit="cycles/px", minimum=1e-2, maximum=10.0),
            "power": Range.parse("noise.power", power, minimum=0.1, maximum=10.0),
            "correlation": Range.parse("noise.correlation", correlation, minimum=0.0, maximum=1.0),
            "readout": Range.parse("noise.readout", readout, unit="e/px", minimum=0.0),
            "camera_sampling": Range.parse("noise.camera_sampling", camera_sampling, unit="Å", minimum=1e-3),
            "dqe0": Range.parse("noise.dqe0", dqe0, minimum=0.01, maximum=1.0),
        }

    def signal_transfer(self, shape: Shape, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`."""
        q = _cycles_per_pixel(shape, parameters, sampling)
        half, power = (parameters[name][:, None, None, None] for name in ("half", "power"))
        return 1.0 / (1.0 + (q / half) ** power)

    def noise_transfer(self, shape: Shape, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`."""
        return self._noise_transfer(self.signal_transfer(shape, parameters, sampling), parameters)

    def mean(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`; never below 0."""
        mtf = self.signal_transfer(expected.shape[-2:], parameters, sampling)
        return self._mean(expected, mtf, parameters, sampling)

    def shot_variance(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """The mean number of electrons after the MTF, see :class:`Noiseless`."""
        return self.mean(expected, parameters, sampling)

    def readout_variance(self, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`."""
        # Readout noise is white and given per camera pixel, so its variance in an image pixel scales with the area.
        return (parameters["readout"] * sampling / parameters["camera_sampling"]) ** 2

    def _detected(self, lit: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        mtf = self.signal_transfer(lit.shape[-2:], parameters, sampling)
        signal = self._mean(lit, mtf, parameters, sampling)
        noise = poisson(signal, parameters["seed"]) - signal
        readout = self.readout_variance(parameters, sampling).sqrt()
        white = normal(noise, parameters["seed"] + 1) * readout[:, None, None, None]
        return signal + filter_image(noise, self._noise_transfer(mtf, parameters)) + white

    @staticmethod
    def _mean(expected: Tensor, mtf: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        return filter_image(expected, mtf).clamp_min(0.0) * _electrons(parameters, sampling)

    @staticmethod
    def _noise_transfer(mtf: Tensor, parameters: Parameters) -> Tensor:
        correlation, dqe0 = (parameters[name][:, None, None, None] for name in ("correlation", "dqe0"))
        return mtf**correlation / dqe0.sqrt()


def record_counts(noise: Noiseless, expected: Tensor, parameters: Parameters, sampling: float, margin: int) -> Tensor:
    """Simulate counts ``(B, F, Y, X)`` of ``expected`` images and crop ``margin`` px, before detection if possible."""
    inner = slice(margin, expected.shape[-1] - margin)
    if noise.pointwise:
        return noise(expected[..., inner, inner].contiguous(), parameters, sampling)
    return noise(expected, parameters, sampling)[..., inner, inner]


def _electrons(parameters: Parameters, sampling: float) -> Tensor:
    """Electrons per pixel at unit intensity, ``(B, 1, 1, 1)``."""
    return (parameters["dose"] * sampling**2)[:, None, None, None]


def _cycles_per_pixel(shape: Shape, parameters: Parameters, sampling: float) -> Tensor:
    """Magnitude of the spatial frequency in cycles per camera pixel, ``(B, 1, Y, X//2 + 1)``."""
    camera = parameters["camera_sampling"]
    kx, ky = frequencies(shape, sampling, camera.device, half=True)
    return torch.sqrt(kx**2 + ky**2) * camera[:, None, None, None]
