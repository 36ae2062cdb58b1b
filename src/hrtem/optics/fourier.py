"""Spatial frequencies, frequency bands, and filters of real images."""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(
    shape: tuple[int, int] | torch.Size,
    sampling: float,
    device: torch.device,
    half: bool = False,
    band: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Spatial frequencies kx ``(1, X)`` and ky ``(Y, 1)`` in 1/Å.

    ``half`` keeps only the kx of a real transform; ``band`` keeps only the harmonics up to this number.
    """
    rows, columns = shape
    along = torch.fft.rfftfreq if half else torch.fft.fftfreq
    kx = along(columns, sampling, device=device, dtype=dtype)
    ky = torch.fft.fftfreq(rows, sampling, device=device, dtype=dtype)
    if band is not None:
        kx, ky = (torch.cat([k[: band + 1], k[-band:]]) for k in (kx, ky))
    return kx[None, :], ky[:, None]


def inner(spectrum: Tensor, band: int | None) -> Tensor:
    """Select the harmonics up to ``band`` of the last two axes, in the order of the transform."""
    if band is None:
        return spectrum
    rows = torch.cat([spectrum[..., : band + 1, :], spectrum[..., -band:, :]], dim=-2)
    return torch.cat([rows[..., : band + 1], rows[..., -band:]], dim=-1)


def spread(spectrum: Tensor, band: int | None, size: int) -> Tensor:
    """Pad the harmonics up to ``band`` of the last axis with zeros to a transform of ``size``."""
    if band is None:
        return spectrum
    whole = spectrum.new_zeros(*spectrum.shape[:-1], size)
    whole[..., : band + 1] = spectrum[..., : band + 1]
    whole[..., -band:] = spectrum[..., -band:]
    return whole


def filter_image(images: Tensor, response: Tensor) -> Tensor:
    """Filter real ``images`` ``(..., Y, X)`` with a ``response`` on the half plane of :func:`frequencies`."""
    return torch.fft.irfft2(torch.fft.rfft2(images) * response, s=images.shape[-2:])
