"""Detectors: from the expected image to counts, in torch, for a whole batch.

Every model draws its own settings for each example (:meth:`draw`) and then makes counts from an expected
image (:meth:`__call__`). Random numbers come from one generator an example, so that an image does not depend
on the batch or the device rank it is made in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.optics import Parameters, filtered, frequencies
from hrtem.ranges import Range

#: Electrons per pixel from which the fast approximation serves, see :func:`_poisson`.
MANY = 30.0


class Noiseless:
    """A detector without any noise: counts are the expected image."""

    #: Whether each pixel's counts depend on that pixel alone, so that images may be cut before they are detected.
    pointwise = True

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Settings of one example, with the seed of its random numbers."""
        return {"seed": np.asarray(rng.integers(2**31))}

    def __call__(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Counts of a batch.

        Args:
            expected: intensity per focal image, 1 in vacuum, real ``(B, F, Y, X)``.
            parameters: ``dose`` in e/Å² and what :meth:`draw` gives, with a leading batch axis.
            sampling: Å/px of ``expected``.

        Returns:
            Counts in electrons per pixel, real ``(B, F, Y, X)``.
        """
        return expected * _electrons(parameters, sampling)


class Poisson(Noiseless):
    """An ideal electron counter: shot noise alone."""

    def __call__(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`."""
        return _poisson(super().__call__(expected, parameters, sampling), parameters["seed"])


class Madsen2018(Noiseless):
    """The chain of arXiv 1802.03008: shot noise first, then signal and noise through one MTF.

    It implies a perfect detective quantum efficiency and is therefore optimistic. The transfer function is
    ``F(q) = (c0 - c1) / (1 + (q / 2 c2)^c3) + c1``.

    Args:
        c0, c1, c2, c3: numbers or ranges.
        camera_sampling: size of a camera pixel at the specimen, Å; q is in cycles per camera pixel.
    """

    pointwise = False

    def __init__(self, c0: Any, c1: Any, c2: Any, c3: Any, camera_sampling: Any) -> None:
        self.ranges = {
            "c0": Range.parse("noise.c0", c0, minimum=0.0),
            "c1": Range.parse("noise.c1", c1, minimum=0.0),
            "c2": Range.parse("noise.c2", c2, minimum=1e-3),
            "c3": Range.parse("noise.c3", c3, minimum=0.1),
            "camera_sampling": Range.parse("noise.camera_sampling", camera_sampling, unit="Å", minimum=1e-3),
        }

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See :class:`Noiseless`."""
        return super().draw(rng) | _draw(self.ranges, rng)

    def __call__(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`."""
        counts = _poisson(super().__call__(expected, parameters, sampling), parameters["seed"])
        q = _cycles_per_pixel(expected, parameters, sampling)
        c0, c1, c2, c3 = (parameters[name][:, None, None, None] for name in ("c0", "c1", "c2", "c3"))
        return filtered(counts, (c0 - c1) / (1.0 + (q / (2.0 * c2)) ** c3) + c1)


class Physical(Noiseless):
    """An integrating camera: signal MTF, shot noise at the dose, noise transfer, readout.

    The signal's MTF is ``1 / (1 + (q / half)^power)``. Shot noise is filtered by ``MTF^correlation``:
    0 is a counting camera whose noise stays white, 1 a scintillator that blurs signal and noise alike.

    Args:
        half: spatial frequency at which the MTF is one half, cycles per camera pixel.
        power: steepness of the MTF.
        correlation: see above, from 0 to 1.
        readout: standard deviation of the readout noise, electrons per camera pixel.
        camera_sampling: size of a camera pixel at the specimen, Å.
    """

    pointwise = False

    def __init__(self, half: Any, power: Any, correlation: Any, readout: Any, camera_sampling: Any) -> None:
        self.ranges = {
            "half": Range.parse("noise.half", half, unit="cycles/px", minimum=1e-2, maximum=10.0),
            "power": Range.parse("noise.power", power, minimum=0.1, maximum=10.0),
            "correlation": Range.parse("noise.correlation", correlation, minimum=0.0, maximum=1.0),
            "readout": Range.parse("noise.readout", readout, unit="e/px", minimum=0.0),
            "camera_sampling": Range.parse("noise.camera_sampling", camera_sampling, unit="Å", minimum=1e-3),
        }

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See :class:`Noiseless`."""
        return super().draw(rng) | _draw(self.ranges, rng)

    def __call__(self, expected: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """See :class:`Noiseless`."""
        q = _cycles_per_pixel(expected, parameters, sampling)
        half, power, correlation = (parameters[name][:, None, None, None] for name in ("half", "power", "correlation"))
        mtf = 1.0 / (1.0 + (q / half) ** power)
        signal = filtered(expected, mtf).clamp_min(0.0) * _electrons(parameters, sampling)
        noise = _poisson(signal, parameters["seed"]) - signal
        # Readout noise is white per camera pixel, so its power in one of our pixels scales with area.
        readout = parameters["readout"] * sampling / parameters["camera_sampling"]
        white = _normal(noise, parameters["seed"] + 1) * readout[:, None, None, None]
        return signal + filtered(noise, mtf**correlation) + white


def _draw(ranges: dict[str, Range], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: np.asarray(value.draw(rng), dtype=np.float32) for name, value in ranges.items()}


def _electrons(parameters: Parameters, sampling: float) -> Tensor:
    """Electrons per pixel at unit intensity, ``(B, 1, 1, 1)``."""
    return (parameters["dose"] * sampling**2)[:, None, None, None]


def _cycles_per_pixel(images: Tensor, parameters: Parameters, sampling: float) -> Tensor:
    """Magnitude of the spatial frequency in cycles per camera pixel, ``(B, 1, Y, X//2 + 1)``."""
    kx, ky = frequencies(images.shape[-2:], sampling, images.device, half=True)
    return torch.sqrt(kx**2 + ky**2) * parameters["camera_sampling"][:, None, None, None]


def _each(images: Tensor, seeds: Tensor, make: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
    """Apply ``make`` to each example with a generator of its own seed."""
    generator = torch.Generator(device=images.device)
    seeded = zip(images, seeds.tolist(), strict=True)
    return torch.stack([make(image, generator.manual_seed(seed)) for image, seed in seeded])


def _poisson(mean: Tensor, seeds: Tensor) -> Tensor:
    """Poisson random numbers of any ``mean``, whole numbers of the same shape.

    Rejection sampling takes longer than all of the optics. From a mean of :data:`MANY` up a rounded normal
    number with the Cornish-Fisher corrections of the Poisson distribution (Abramowitz & Stegun, 26.2.49) takes its
    place; the variance that rounding adds is taken off first. Tests can't tell the two apart in 10⁶ numbers.
    """
    mean = mean.clamp(max=1e9)
    z = _normal(mean, seeds)
    width = (mean - 1.0 / 12.0).clamp_min(1.0).sqrt()
    excess = (z * z).sub_(1.0)
    counts = torch.addcmul(mean, width, z).add_(excess, alpha=1.0 / 6.0)
    counts = counts.addcdiv_(excess.mul_(z), width, value=-1.0 / 72.0).round_()
    few = mean < MANY
    if not bool(few.any()):
        return counts
    exact = _each(mean.where(few, 0.0), seeds, lambda image, generator: torch.poisson(image, generator=generator))
    return torch.where(few, exact, counts)


def _normal(like: Tensor, seeds: Tensor) -> Tensor:
    """Standard normal numbers of the shape of ``like``, each example from a generator of its own seed."""
    numbers = torch.empty_like(like)
    generator = torch.Generator(device=like.device)
    for image, seed in zip(numbers, seeds.tolist(), strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    return numbers
