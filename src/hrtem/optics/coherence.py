"""Partial temporal coherence: the sum of intensities over the defocus spread, by a few coherent modes.

With a beam of Gaussian energy spread, the image is a mean over a distribution ``exp(-(δ/Δ)²)`` of the defocus. In this
mean, two diffracted beams k and k' interfere with the weight (Reimer and Kohl 2008, section 6.4.2)::

    K(k², k'²) = exp(-(πλΔ/2)² (k² - k'²)²)

The quasi-coherent envelope ``exp(-(πλΔ/2)² k⁴)`` on the wave replaces this weight by ``K(k², 0) K(0, k'²)``. The
envelope is correct for the interference of diffracted beams with the undiffracted beam, but too small for the
interference of diffracted beams with each other, which is strong for heavy atoms. The weight is a positive kernel of k²
alone. By Mercer's theorem it is a sum of modes, real functions of |k|, each of which forms a coherent image::

    K(u, v) = Σ φ_m(u) φ_m(v),    image = Σ |F⁻¹[φ_m(k²) exp(-iχ) ψ(k)]|²

The first mode is the envelope, which makes the linear part of the image exact. The other modes are the leading
eigenfunctions of the remaining kernel, weighted by the scattering strength of an atom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.optics.fourier import frequencies

#: Largest error of an image by the finite sum of modes, root mean square over the contrast, as estimated by
#: :func:`count_needed`. Measured errors are between a third of the estimate and one and a half times the estimate.
TOLERANCE = 0.002

#: Highest spatial frequency of a beam, 1/Å. A particle scatters 0.03 % of its electrons to higher frequencies.
HIGHEST_BEAM = 2.5

#: Smallest number of points in |k| at which eigenfunctions are computed, and number of points of their continuation.
POINTS, FINE = 64, 512

#: Largest number of modes of an image.
MOST = 64

#: Step of the logarithm to which strengths are rounded; all strengths within a step share their modes.
STEP = 0.01

#: Decay of the intensity scattered by atoms with k², ``(1 + k²/FALL)^-POWER``: a scale, 1/Å², and an exponent.
FALL, POWER = 0.25, 2.5


def choose_points(strength: float) -> int:
    """Number of points in |k| that :func:`compute_modes` needs for the largest ``strength`` that may occur, Å²."""
    # Enough to resolve the kernel up to frequencies at which even heavy atoms scatter little.
    return int(min(FINE, max(POINTS, 32.0 * strength)))


def compute_modes(strength: Tensor, points: int = POINTS) -> Tensor:
    """Compute the modes at equally spaced |k| from 0 to :data:`HIGHEST_BEAM`: the envelope, then the strongest modes.

    Args:
        strength: ``πλΔ/2`` ``(B,)``, Å²; Δ is the 1/e half-width of the defocus distribution.
        points: number of points at which eigenfunctions are computed, see :func:`choose_points`.

    Returns:
        Modes ``(B, N, FINE)``, double precision.
    """
    strength = strength.detach().double()
    coarse, fine = (
        torch.linspace(0.0, HIGHEST_BEAM, number, dtype=torch.float64, device=strength.device) ** 2
        for number in (points, FINE)
    )
    weight = torch.gradient(coarse)[0] / (1.0 + coarse / FALL) ** POWER
    root = (weight / weight.sum()).sqrt()
    value, vector = torch.linalg.eigh(root[:, None] * _beyond_envelope(strength, coarse, coarse) * root)
    number = min(MOST, points) - 1
    value, vector = value.flip(-1)[:, :number], vector.flip(-1)[..., :number]
    # Nyström's continuation of the eigenvectors; modes with eigenvalues below the rounding errors become 0.
    scale = torch.where(value > 1e-9, value, math.inf).rsqrt()
    continued = _beyond_envelope(strength, fine, coarse) @ (root[:, None] * vector) * scale[:, None]
    envelope = torch.exp(-((strength[:, None] * fine) ** 2))
    return torch.cat([envelope[:, None], continued.mT], dim=1)


def look_up_modes(strength: Tensor, points: int = POINTS) -> Tensor:
    """Look up the result of :func:`compute_modes`, cached for strengths rounded to steps of :data:`STEP`.

    The microscopes of one recipe share the cached modes. The envelope, the first mode, should be computed from the
    exact strength; rounding changes the contribution of the other modes by less than a thousandth of the contrast.
    """
    levels = torch.log(strength.detach().double().clamp_min(1e-6)).div(STEP).round().tolist()
    return torch.stack([_at_level(level, points, strength.device) for level in levels])


@lru_cache(maxsize=256)
def _at_level(level: float, points: int, device: torch.device) -> Tensor:
    """Modes ``(N, FINE)`` for the strength ``exp(level STEP)``."""
    strength = torch.tensor([level * STEP], dtype=torch.float64, device=device).exp()
    return compute_modes(strength, points)[0]


def _beyond_envelope(strength: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The kernel minus the contribution of the envelope, ``(B, len(u), len(v))``."""
    square = strength[:, None, None] ** 2
    return torch.exp(-square * (u[:, None] - v) ** 2) - torch.exp(-square * (u[:, None] ** 2 + v**2))


class Beams(NamedTuple):
    """Positions of the beams of a Fourier transform on the grid of :data:`FINE` points in |k| of :func:`compute_modes`.

    Attributes:
        below: index of the point below each beam, ``(Y, X)``; :data:`FINE` beyond the highest beam.
        share: distance of each beam from this point as a fraction of the step to the next point, ``(Y, X)``.
    """

    below: Tensor
    share: Tensor


@lru_cache(maxsize=32)
def beams(shape: tuple[int, int], band: int | None, sampling: float, device: torch.device) -> Beams:
    """Locate the beams of a transform of ``shape``, or only its harmonics up to ``band`` if the shape is square."""
    kx, ky = frequencies(shape, sampling, device, band=band, dtype=torch.float64)
    step = torch.sqrt(kx**2 + ky**2) * ((FINE - 1) / HIGHEST_BEAM)
    below = step.clamp(max=FINE - 2).floor()
    outside = step > FINE - 1
    share = (step - below).masked_fill(outside, 0.0)
    return Beams(below.masked_fill(outside, FINE).long(), share.float())


def count_needed(power: Tensor, places: Beams, modes: Tensor) -> list[int]:
    """Number of modes for which each image agrees with the exact sum within :data:`TOLERANCE`.

    The error of the image over its contrast is about the fraction of electrons outside the modes, divided by the square
    root of the fraction of diffracted electrons.

    Args:
        power: ``|ψ(k)|²`` of each wave, ``(B, Y, X)``, the undiffracted beam first.
        places: positions of the beams.
        modes: modes of :func:`compute_modes`, ``(B, N, FINE)``.
    """
    spectrum = torch.zeros(len(power), FINE + 1, dtype=torch.float64, device=power.device)
    spectrum.index_add_(1, places.below.flatten(), power.flatten(1).double())
    spectrum = spectrum[:, :FINE]
    total = spectrum.sum(dim=1)
    diffracted = 1.0 - power[:, 0, 0].double() / total
    # Fraction of all electrons that pass through the first modes.
    passed = (modes.square() @ spectrum[..., None]).squeeze(-1).cumsum(dim=1) / total[:, None]
    enough = 1.0 - passed <= TOLERANCE * diffracted.clamp_min(1e-12).sqrt()[:, None]
    enough[:, -1] = True
    return (enough.int().argmax(dim=1) + 1).tolist()


def cut(modes: Tensor, numbers: Sequence[int]) -> Tensor:
    """Keep the modes that the images need, ``(B, max(numbers), FINE)``; modes that an image does not need are 0."""
    most = torch.arange(max(numbers), device=modes.device)
    needed = most < torch.tensor(numbers, device=modes.device)[:, None]
    return modes[:, : len(most)] * needed[..., None]


def on_grid(mode: Tensor, places: Beams) -> Tensor:
    """Interpolate one mode of each image, ``(B, FINE)``, at the beams, ``(B, Y, X)``; 0 beyond the highest beam."""
    padded = F.pad(mode, (0, 2))
    first, second = padded[:, places.below], padded[:, places.below + 1]
    return first + places.share.to(mode.dtype) * (second - first)
