"""Derivatives of the images with respect to every column, by first-order perturbation of the wave.

A change δV of the potential of a slice adds ``iσ δV ψ`` to the wave ψ there, and the rest of the specimen carries the
addition to the exit surface. It stays close to the column, so that it is propagated in a small window, through the
waves and transmission functions of the whole specimen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hrtem.optics import filter_image
from hrtem.refinement.forward import ForwardModel
from hrtem.refinement.instrument import Instrument
from hrtem.refinement.specimen import AtomSites, Specimen
from hrtem.waves.differentiable import Passage
from hrtem.waves.multislice import BAND

#: Sides of the windows in which a change is propagated and imaged, Å. Electrons that passed a column of gold are hardly
#: affected by atoms 6 Å away.
INSIDE, IMAGED = 12.8, 24.0
#: Number of columns that are propagated together.
BATCH = 8

#: Unknowns of each column, in this order: x, y, the sites at its top and bottom, and the density.
OF_COLUMN = ("x", "y", "top", "bottom", "density")


def differentiate_columns(
    field: ForwardModel,
    crystal: Specimen,
    instrument: Instrument,
    passage: Passage,
    amplitudes: Tensor,
    response: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield for each column the derivatives of the image, per Å and per atom, in a window around it.

    Args:
        field: what is simulated.
        crystal, instrument: point at which derivatives are taken.
        passage: wave inside the specimen.
        amplitudes: waves in the image plane, see :meth:`ForwardModel.amplitudes`.
        response: additional filter of the images on the half plane of a window, such as that of whitening noise.

    Yields:
        Derivatives ``(5, F, w, w)`` in the order of :data:`OF_COLUMN`, and rows ``(w,)`` and columns ``(w,)`` of the
        window in the cell.
    """
    slices, sites = field.slices, crystal.sites()
    size = imaged_size(field)
    shape = (size, size)
    transfer = field.optics.mode_transfer(shape, instrument.settings(), slices.sampling, field.modes)[0]
    filters = field.blur(shape, instrument)
    filters = filters if response is None else filters * response
    for first in range(0, len(crystal), BATCH):
        batch = range(first, min(first + BATCH, len(crystal)))
        corners, changes = _waves(field, crystal, sites, passage, batch)
        small = changes.shape[-1]
        padded = torch.zeros(len(batch), len(OF_COLUMN), size, size, dtype=changes.dtype)
        start = (size - small) // 2
        padded[..., start : start + small, start : start + small] = changes
        spectra = torch.fft.fft2(padded)
        for corner, spectrum in zip(corners, spectra, strict=True):
            rows, columns = ((corner[axis] - start + torch.arange(size)) % field.shape[axis] for axis in (0, 1))
            around = amplitudes[:, :, rows[:, None], columns]
            beside = torch.fft.ifft2(spectrum[:, None, None] * transfer)
            yield filter_image(2.0 * (around.conj() * beside).real.sum(dim=2), filters), rows, columns


def imaged_size(field: ForwardModel) -> int:
    """Side of the windows of :func:`differentiate_columns`, px."""
    return min(round(IMAGED / field.slices.sampling / 2) * 2, *field.shape)


def _waves(
    field: ForwardModel, crystal: Specimen, sites: AtomSites, passage: Passage, batch: range
) -> tuple[list[tuple[int, int]], Tensor]:
    """Derivatives of the exit wave ``(B, 5, w, w)`` and the first row and column of their windows in the cell."""
    slices = field.slices
    over = slices.oversampling
    size = min(round(INSIDE / slices.sampling / 4) * 4, *field.shape)
    side = round(size * over)
    shift = field.margin * slices.sampling
    here = (sites.column >= batch.start) & (sites.column < batch.stop)
    column = sites.column[here] - batch.start
    where = crystal.positions[batch.start : batch.stop].flip(-1) + shift  # y, x
    # Even rows and columns of images are rows and columns of the potential, too.
    first = 2 * torch.round(0.5 * where / slices.sampling).long() - size // 2
    index = torch.arange(side)
    rows, columns = (((first[:, axis, None] * over).round().long() + index) % slices.grid[axis] for axis in (0, 1))
    local = sites.positions[here][:, [1, 0]] + shift - (first * slices.sampling)[column]
    k = torch.fft.fftfreq(side, slices.pixel)
    ky, kx = k[:, None], k[None, :]
    k2 = kx**2 + ky**2
    factors = torch.stack([slices.form_factor(one, k2) for one in crystal.species]) * (
        k2 <= (0.5 * BAND / slices.pixel) ** 2
    )
    factors = factors / slices.pixel**2
    along = [torch.polar(torch.ones(1), (-2.0 * math.pi * local[:, axis].float())[:, None] * k) for axis in (0, 1)]
    place = slices.place(sites.positions[here][:, 2])
    weights = torch.stack([sites.occupancy[here], sites.top[here], sites.bottom[here], sites.inner[here]]).float()
    kind = crystal.kind[batch.start : batch.stop]
    aperture = slices.aperture((side, side))
    step = slices.propagator((side, side), slices.thickness, slices.pixel) * aperture
    changes = torch.zeros(len(batch), len(OF_COLUMN), side, side, dtype=torch.complex64)
    for layer in range(slices.number):
        shares = (1.0 - (place - layer).abs()).clamp_min(0.0).float()
        on = torch.nonzero(shares > 0.0).flatten()
        if not len(on) and not bool(changes.any()):
            continue
        window = (layer, rows[:, :, None], columns[:, None, :])
        transmission = passage.transmission[window][:, None]
        if len(on):
            waves = along[0][on][:, :, None] * along[1][on][:, None, :]
            sums = torch.zeros(len(batch), len(weights), side, side, dtype=torch.complex64)
            for number in range(len(weights)):
                weight = (weights[number, on] * shares[on])[:, None, None]
                sums[:, number].index_add_(0, column[on], waves * weight)
            sums = sums * factors[kind][:, None]
            slopes = [-2j * math.pi * k * sums[:, 0] for k in (kx, ky)]
            potential = torch.fft.ifft2(torch.stack([*slopes, *sums[:, 1:].unbind(1)], dim=1)).real
            # The band limit follows the exponential of the potential, and removes little of the transmission here.
            changed = 1j * slices.interaction * potential * transmission
            changed = torch.fft.ifft2(torch.fft.fft2(changed) * aperture) * passage.before[window][:, None]
        changes = transmission * changes
        changes = changes + changed if len(on) else changes
        changes = torch.fft.ifft2(torch.fft.fft2(changes) * step)
    return [(int(row), int(col)) for row, col in first], slices.leave(changes, 0.0)
