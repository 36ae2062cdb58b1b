"""Transfer function of the objective lens: aberrations and envelopes.

The phase error in abTEM's notation (Kirkland 2010, section 2.6; α = λ k is the scattering angle, φ its azimuth)::

    χ = 2π/λ [ α²/2 (C10 + C12 cos 2(φ-φ12)) + α³/3 (C21 cos(φ-φ21) + C23 cos 3(φ-φ23)) + α⁴/4 C30 + α⁶/6 C50 ]

It is a sum of monomials in kx and ky, so that the phase errors of a batch of microscopes are one small matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from hrtem.optics.fourier import frequencies

Parameters = Mapping[str, Tensor]

#: Amplitude below which the temporal envelope counts as zero.
PASSED = 1e-6


def wavelength(energy: float) -> float:
    """Relativistic electron wavelength in Å at ``energy`` in eV (Kirkland 2010, equation 2.5)."""
    planck_light, rest = 12398.41984, 510998.95  # h c in eV Å, m c² in eV
    return planck_light / math.sqrt(energy * (2.0 * rest + energy))


class Lens(NamedTuple):
    """Coefficients of the transfer functions of a batch of microscopes, over batch ``B`` and focal series ``F``.

    Attributes:
        weights: ``(B, F, 9)``, coefficients of the :func:`_monomials` in χ.
        decay: ``(B,)``, coefficient of k⁴ in the quasi-coherent temporal envelope, Å⁴.
        cone: ``(B,)``, coefficient of ``|∇χ|²`` (gradient with respect to k) in the spatial envelope, 1/Å².
        highest: ``(B,)``, largest k² that the lens passes, 1/Å².
    """

    weights: Tensor
    decay: Tensor
    cone: Tensor
    highest: Tensor

    def of(self, part: slice) -> Lens:
        """Select the lenses of some examples of the batch."""
        return Lens(*(values[part] for values in self))


def lens(parameters: Parameters, energy: float) -> Lens:
    """Convert settings from :meth:`hrtem.optics.Optics.draw`, with a leading batch axis, to a :class:`Lens`."""
    length = wavelength(energy)
    defocus = parameters["defocus"]
    shared = [
        *_polar(parameters, "astigmatism", 2),
        *(2.0 / 3.0 * length * part for part in _polar(parameters, "coma", 1)),
        *(2.0 / 3.0 * length * part for part in _polar(parameters, "threefold", 3)),
        0.5 * length**2 * parameters["Cs"],
        length**4 / 3.0 * parameters["C5"],
    ]
    rest = torch.stack(shared, dim=-1)[:, None].expand(-1, defocus.shape[1], -1)
    weights = math.pi * length * torch.cat([-defocus[..., None], rest], dim=-1)
    decay = (0.5 * math.pi * length * parameters["focal_spread"]) ** 2
    # The half-width β is an angle; ∂χ/∂α = ∂χ/∂k / λ.
    cone = (0.5e-3 * parameters["angular_spread"] / length) ** 2
    return Lens(weights, decay, cone, torch.full_like(decay, math.inf))


def _polar(parameters: Parameters, name: str, fold: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine components of an aberration with ``fold``-fold symmetry in azimuth."""
    angle = fold * parameters[f"{name}_angle"]
    return parameters[name] * torch.cos(angle), parameters[name] * torch.sin(angle)


def highest_harmonic(shape: tuple[int, int], sampling: float, lens: Lens) -> int | None:
    """Highest harmonic that any of the lenses passes in a square field, or None if all harmonics may pass."""
    k2 = lens.highest.minimum((-math.log(PASSED) / lens.decay.clamp_min(1e-30)).sqrt())
    highest = math.sqrt(float(k2.max()))
    if shape[0] != shape[1] or not highest * sampling < 0.5:
        return None
    harmonic = math.ceil(highest * shape[0] * sampling)
    return harmonic if 2 * harmonic + 1 < shape[0] else None


def transfer_function(lens: Lens, shape: tuple[int, int], band: int | None, sampling: float) -> Tensor:
    """Coherent transfer function with its envelopes, complex ``(B, F, Y, X)`` over the harmonics of a band."""
    weights = lens.weights
    # Aberrations that are zero for the whole batch are skipped.
    used = tuple(torch.nonzero((weights != 0).flatten(0, -2).any(dim=0)).flatten().tolist())
    grid = (shape, band, sampling, weights.device, weights.dtype)
    chi = torch.tensordot(weights[..., used], _monomials(*grid)[list(used)], dims=1)
    k2 = _monomials(*grid)[0]
    envelope = quasi_coherent_envelope(lens, shape, band, sampling)
    if bool((lens.cone > 0).any()):
        slope = torch.tensordot(weights, _gradients(*grid), dims=1).square().sum(dim=2)
        envelope = envelope * torch.exp(-lens.cone[:, None, None, None] * slope)
    if bool(torch.isfinite(lens.highest).any()):
        envelope = envelope * (k2 <= lens.highest[:, None, None, None])
    return torch.complex(torch.cos(chi).mul_(envelope), torch.sin(chi).mul_(-envelope))


def quasi_coherent_envelope(lens: Lens, shape: tuple[int, int], band: int | None, sampling: float) -> Tensor:
    """``exp(-(πλΔ/2)² k⁴)``, real ``(B, 1, Y, X)`` over the harmonics of a band."""
    k2 = _monomials(shape, band, sampling, lens.weights.device, lens.weights.dtype)[0]
    return torch.exp(-lens.decay[:, None, None, None] * k2**2)


@lru_cache(maxsize=32)
def _monomials(
    shape: tuple[int, int], band: int | None, sampling: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """k² {1, cos 2φ, sin 2φ}, k³ {cos φ, sin φ, cos 3φ, sin 3φ}, k⁴ and k⁶, ``(9, Y, X)``."""
    kx, ky = frequencies(shape, sampling, device, band=band, dtype=dtype)
    k2 = kx**2 + ky**2
    third = (k2 * kx, k2 * ky, kx**3 - 3.0 * kx * ky**2, 3.0 * kx**2 * ky - ky**3)
    return torch.stack([k2, kx**2 - ky**2, 2.0 * kx * ky, *third, k2**2, k2**3])


@lru_cache(maxsize=32)
def _gradients(
    shape: tuple[int, int], band: int | None, sampling: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Derivatives of the monomials with respect to kx and ky, ``(9, 2, Y, X)``."""
    kx, ky = torch.broadcast_tensors(*frequencies(shape, sampling, device, band=band, dtype=dtype))
    k2 = kx**2 + ky**2
    across, difference = 2.0 * kx * ky, kx**2 - ky**2
    pairs = [
        (2.0 * kx, 2.0 * ky),
        (2.0 * kx, -2.0 * ky),
        (2.0 * ky, 2.0 * kx),
        (k2 + 2.0 * kx**2, across),
        (across, k2 + 2.0 * ky**2),
        (3.0 * difference, -3.0 * across),
        (3.0 * across, 3.0 * difference),
        (4.0 * k2 * kx, 4.0 * k2 * ky),
        (6.0 * k2**2 * kx, 6.0 * k2**2 * ky),
    ]
    return torch.stack([torch.stack(pair) for pair in pairs])
