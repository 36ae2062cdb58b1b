"""Starting points of a fit: tilt, focus and thickness on a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from hrtem.refinement.forward import ForwardModel
from hrtem.refinement.instrument import Instrument
from hrtem.refinement.observation import Observation
from hrtem.refinement.specimen import Specimen

#: Distance of the grid points of the tilt, degrees, and of the defocus, Å.
TILT_GRID, FOCUS_GRID = 0.8, 20.0
#: Starting points that are closer than this in tilt, radians, and defocus, Å, count as one.
SAME_TILT, SAME_FOCUS = math.radians(0.5), 25.0


@dataclass(frozen=True)
class Start:
    """A starting point and its misfit."""

    misfit: float
    crystal: Specimen
    instrument: Instrument


def search_starts(
    field: ForwardModel,
    observation: Observation,
    crystal: Specimen,
    instrument: Instrument,
    steepest: float,
    foci: tuple[float, float],
    number: int,
) -> list[Start]:
    """Find the best starting points, those of least misfit that differ.

    Args:
        field: a coarse one is enough.
        observation: the series.
        crystal: from the network, without a tilt.
        instrument: at the means of the priors.
        steepest: largest tilt, degrees.
        foci: range of the shift of all defoci, Å.
        number: number of starting points.
    """
    found = []
    for tilt in _tilts(steepest):
        tilted = crystal.tilted(torch.tensor(tilt, dtype=torch.float64))
        wave = field.wave(tilted)
        for shift in np.arange(foci[0], foci[1] + 1e-6, FOCUS_GRID):
            focused = instrument.refocused(float(shift))
            expected = field.seen(field.image(field.amplitudes(wave, focused), focused))
            misfit = float(observation.residual(expected).double().square().sum())
            found.append(Start(misfit, tilted, focused))
    answer: list[Start] = []
    for one in sorted(found, key=lambda one: one.misfit):
        if all(_differ(one, other) for other in answer):
            answer.append(one)
        if len(answer) == number:
            break
    return answer


def _tilts(steepest: float) -> Iterator[tuple[float, float]]:
    """Rotation vectors, radians, on rings of equal distance."""
    yield 0.0, 0.0
    for ring in range(1, math.floor(steepest / TILT_GRID) + 1):
        size, points = math.radians(ring * TILT_GRID), round(2.0 * math.pi * ring)
        for angle in np.arange(points) * 2.0 * math.pi / points:
            yield size * math.cos(angle), size * math.sin(angle)


def _differ(one: Start, other: Start) -> bool:
    focus = float((one.instrument.values["defocus"] - other.instrument.values["defocus"]).abs().max())
    tilt = float((one.crystal.tilt - other.crystal.tilt).norm())
    return tilt > SAME_TILT or focus > SAME_FOCUS
