"""Partial temporal coherence: the sum of intensities over the energy spread, by a few coherent modes.

A beam of a Gaussian energy spread records the mean of the images over a distribution ``exp(-(δ/Δ)²)`` of the defocus.
In that mean two diffracted beams k and k' interfere with the weight (Reimer and Kohl 2008, section 6.4.2)::

    K(k², k'²) = exp(-(πλΔ/2)² (k² - k'²)²)

The quasi-coherent envelope ``exp(-(πλΔ/2)² k⁴)`` on the wave replaces this by ``K(k², 0) K(0, k'²)``. That is right
for the interference with the undiffracted beam and too small for that of diffracted beams with each other, which heavy
atoms make strong. The weight is a positive kernel of k² alone, so that it is a sum of modes, real functions of |k|,
each of which images coherently (Mercer's theorem)::

    K(u, v) = Σ φ_m(u) φ_m(v),    image = Σ |F⁻¹[φ_m(k²) exp(-iχ) ψ(k)]|²

The first mode is the envelope, which makes the linear part of the image exact. The others are the leading
eigenfunctions of what the envelope leaves out, weighted by how strongly an atom scatters.
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

#: Largest error of an image by the sum of modes, root mean square over the contrast, as :func:`count_needed` estimates
#: it. Measured errors lie between a third of the estimate and one and a half times of it.
TOLERANCE = 0.002

#: Beams beyond this spatial frequency are left out, 1/Å. Of a particle's electrons 0.03 % go there.
HIGHEST_BEAM = 2.5

#: Least number of points in |k| at which eigenfunctions are sought, and number of those to which they are continued.
POINTS, FINE = 64, 512

#: Most modes of an image.
MOST = 64

#: Strengths whose logarithms differ by less than half of this share their modes.
STEP = 0.01

#: Where and how steeply the intensity that atoms scatter falls with k², 1/Å² and a power.
FALL, POWER = 0.25, 2.5


def choose_points(strength: float) -> int:
    """Number of points in |k| that :func:`compute_modes` needs for the largest ``strength`` that may occur, Å²."""
    # Enough to follow the kernel out to where even heavy atoms scatter little.
    return int(min(FINE, max(POINTS, 32.0 * strength)))


def compute_modes(strength: Tensor, points: int = POINTS) -> Tensor:
    """The modes at equally spaced |k| from 0 to :data:`HIGHEST_BEAM`, the envelope first, then the strongest ones.

    Args:
        strength: ``πλΔ/2`` ``(B,)``, Å²; Δ is the 1/e half-width of the distribution of the defocus.
        points: at which eigenfunctions are sought, see :func:`choose_points`.

    Returns:
        ``(B, N, FINE)``, double precision.
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
    # Nyström's continuation of the eigenvectors; those below the rounding errors are none.
    scale = torch.where(value > 1e-9, value, math.inf).rsqrt()
    continued = _beyond_envelope(strength, fine, coarse) @ (root[:, None] * vector) * scale[:, None]
    envelope = torch.exp(-((strength[:, None] * fine) ** 2))
    return torch.cat([envelope[:, None], continued.mT], dim=1)


def look_up_modes(strength: Tensor, points: int = POINTS) -> Tensor:
    """As :func:`compute_modes`, of strengths rounded to :data:`STEP`, and kept: microscopes of one recipe share them.

    The envelope itself, the first mode, is better computed from the strength as it is; what lies beyond it changes by
    less than a thousandth of the contrast.
    """
    levels = torch.log(strength.detach().double().clamp_min(1e-6)).div(STEP).round().tolist()
    return torch.stack([_at_level(level, points, strength.device) for level in levels])


@lru_cache(maxsize=256)
def _at_level(level: float, points: int, device: torch.device) -> Tensor:
    """Modes ``(N, FINE)`` of the strength ``exp(level STEP)``."""
    strength = torch.tensor([level * STEP], dtype=torch.float64, device=device).exp()
    return compute_modes(strength, points)[0]


def _beyond_envelope(strength: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """What the envelope leaves of the kernel, ``(B, len(u), len(v))``."""
    square = strength[:, None, None] ** 2
    return torch.exp(-square * (u[:, None] - v) ** 2) - torch.exp(-square * (u[:, None] ** 2 + v**2))


class Beams(NamedTuple):
    """Where the beams of a transform lie among the :data:`FINE` steps in |k| of :func:`compute_modes`.

    Attributes:
        below: index of the step below each beam, ``(Y, X)``; :data:`FINE` beyond the highest beam.
        share: how far it lies from there to the next step, ``(Y, X)``.
    """

    below: Tensor
    share: Tensor


@lru_cache(maxsize=32)
def beams(shape: tuple[int, int], band: int | None, sampling: float, device: torch.device) -> Beams:
    """The beams of a transform of ``shape`` or, of a square one, the harmonics up to ``band``."""
    kx, ky = frequencies(shape, sampling, device, band=band, dtype=torch.float64)
    step = torch.sqrt(kx**2 + ky**2) * ((FINE - 1) / HIGHEST_BEAM)
    below = step.clamp(max=FINE - 2).floor()
    outside = step > FINE - 1
    share = (step - below).masked_fill(outside, 0.0)
    return Beams(below.masked_fill(outside, FINE).long(), share.float())


def count_needed(power: Tensor, places: Beams, modes: Tensor) -> list[int]:
    """How many modes bring each image within :data:`TOLERANCE` of the exact sum.

    The share of all electrons that the modes leave out, over the square root of the share that is diffracted, is about
    the error of the image over its contrast.

    Args:
        power: ``|ψ(k)|²`` of each wave, ``(B, Y, X)``, the undiffracted beam first.
        places: of the beams.
        modes: what :func:`compute_modes` returned, ``(B, N, FINE)``.
    """
    spectrum = torch.zeros(len(power), FINE + 1, dtype=torch.float64, device=power.device)
    spectrum.index_add_(1, places.below.flatten(), power.flatten(1).double())
    spectrum = spectrum[:, :FINE]
    total = spectrum.sum(dim=1)
    diffracted = 1.0 - power[:, 0, 0].double() / total
    # Of all beams together less the modes so far.
    passed = (modes.square() @ spectrum[..., None]).squeeze(-1).cumsum(dim=1) / total[:, None]
    enough = 1.0 - passed <= TOLERANCE * diffracted.clamp_min(1e-12).sqrt()[:, None]
    enough[:, -1] = True
    return (enough.int().argmax(dim=1) + 1).tolist()


def cut(modes: Tensor, numbers: Sequence[int]) -> Tensor:
    """As many modes as any image needs, ``(B, max(numbers), FINE)``; those that an image does not need are 0 for it."""
    most = torch.arange(max(numbers), device=modes.device)
    needed = most < torch.tensor(numbers, device=modes.device)[:, None]
    return modes[:, : len(most)] * needed[..., None]


def on_grid(mode: Tensor, places: Beams) -> Tensor:
    """Modes ``(B, FINE)`` at the beams, ``(B, Y, X)``, 0 beyond the highest beam."""
    padded = F.pad(mode, (0, 2))
    first, second = padded[:, places.below], padded[:, places.below + 1]
    return first + places.share.to(mode.dtype) * (second - first)
