"""Intensity in the image plane: waves behind the specimen, the lens, and the focal spread.

The exact intensity is a sum over coherent modes, see :mod:`hrtem.optics.coherence`; the quasi-coherent one damps the
wave by an envelope instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hrtem.optics import coherence
from hrtem.optics.fourier import inner, spread
from hrtem.optics.transfer import Lens, highest_harmonic, quasi_coherent_envelope, transfer_function

#: Number of complex pixels that are imaged together on a CPU, about a megabyte.
CACHED_PIXELS = 2**17


def summed(wave: Tensor, one: Lens, sampling: float, points: int, modes: int | None) -> Tensor:
    """Intensity ``(B, F, Y, X)`` of the waves ``(B, Y, X)`` after the lens, summed over the focal spread."""
    shape = (wave.shape[-2], wave.shape[-1])
    still = coherent(one)
    band = highest_harmonic(shape, sampling, still)
    spectrum = inner(torch.fft.fft2(wave), band)
    places = coherence.beams(shape, band, sampling, wave.device)
    table = coherence.look_up_modes(one.decay.sqrt(), points)
    if modes is None:
        numbers = coherence.count_needed(spectrum.detach().abs().square(), places, table)
    else:
        numbers = [min(modes, table.shape[1])] * len(wave)
    table = coherence.cut(table, numbers).to(wave.real.dtype)
    # On a CPU, a single example fits into the cache and has only the modes that it needs; a GPU takes all examples at
    # once.
    together = 1 if wave.device.type == "cpu" else len(wave)
    images = []
    for first in range(0, len(wave), together):
        part = slice(first, first + together)
        beams = transfer_function(still.of(part), shape, band, sampling) * spectrum[part, None]
        envelope = quasi_coherent_envelope(one.of(part), shape, band, sampling)
        intensity = _squared(beams * envelope, shape, band)
        for number in range(1, max(numbers[part])):
            mode = coherence.on_grid(table[part, number], places)
            intensity = intensity + _squared(beams * mode[:, None], shape, band)
        images.append(intensity)
    return torch.cat(images)


def coherent(one: Lens) -> Lens:
    """The lens without its focal spread; it passes all beams up to the highest beam of the modes."""
    highest = torch.full_like(one.highest, coherence.HIGHEST_BEAM**2)
    return one._replace(decay=torch.zeros_like(one.decay), highest=highest)


def _squared(beams: Tensor, shape: tuple[int, int], band: int | None) -> Tensor:
    """Squared magnitude ``(B, F, Y, X)`` of the wave of ``beams``, the harmonics up to ``band``."""
    # The spectrum is zero outside the band, so only the rows in the band need the first transform.
    if band is None:
        wave = torch.fft.ifft2(beams)
    else:
        rows = torch.fft.ifft(spread(beams, band, shape[1]))
        wave = torch.fft.ifft(spread(rows.mT, band, shape[0])).mT
    # Several times faster than the square of abs(), which includes protection against overflow.
    return torch.addcmul(wave.real.square(), wave.imag, wave.imag)


def quasi_coherent(wave: Tensor, one: Lens, sampling: float) -> Tensor:
    """Squared magnitude ``(B, F, Y, X)`` of the waves ``(B, Y, X)`` after the lens and its envelope."""
    shape = (wave.shape[-2], wave.shape[-1])
    band = highest_harmonic(shape, sampling, one)
    spectrum = inner(torch.fft.fft2(wave), band)[:, None]
    # On a CPU, a few examples at a time fit into the cache, which is twice as fast; a GPU takes all examples at once.
    step = max(1, CACHED_PIXELS // spectrum[0].numel()) if wave.device.type == "cpu" else len(wave)
    images = []
    for first in range(0, len(wave), step):
        part = slice(first, first + step)
        transfer = transfer_function(one.of(part), shape, band, sampling)
        images.append(_squared(transfer * spectrum[part], shape, band))
    return torch.cat(images)


def mode_transfer(one: Lens, shape: tuple[int, int], sampling: float, points: int, modes: int) -> Tensor:
    """Transfer functions of the first ``modes`` coherent modes, complex ``(B, F, M, Y, X)``, zero frequency first.

    Args:
        one: the lens.
        shape: (Y, X) px.
        sampling: Å/px.
        points: see :func:`hrtem.optics.coherence.look_up_modes`.
        modes: number of modes.
    """
    table = coherence.look_up_modes(one.decay.sqrt(), points)[:, :modes].to(one.decay.dtype)
    places = coherence.beams(shape, None, sampling, one.decay.device)
    first = quasi_coherent_envelope(one, shape, None, sampling)
    rest = [coherence.on_grid(table[:, number], places)[:, None] for number in range(1, table.shape[1])]
    return transfer_function(coherent(one), shape, None, sampling)[:, :, None] * torch.stack([first, *rest], dim=2)
