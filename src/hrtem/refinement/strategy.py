"""Refinement of a network's answer: structure, tilt, microscope and camera that explain the recorded counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.optics import Optics
from hrtem.refinement.derivatives import OF_COLUMN
from hrtem.refinement.fit import OF_ALL, Estimate, Fit, Prior
from hrtem.refinement.forward import ForwardModel
from hrtem.refinement.instrument import FOLD, UNITS, find_unknowns, parse_known, start_instrument
from hrtem.refinement.observation import Noise, Observation
from hrtem.refinement.search import search_starts
from hrtem.refinement.specimen import Specimen
from hrtem.refinement.stacking import Stacking
from hrtem.refinement.whole import Whole, round_together
from hrtem.waves.differentiable import Slices

#: Space above and below the crystal, Å, for its tilt and for atoms to be added.
SPACE = 6.0
#: Thickness of slices, Å, oversampling of the potential, and coherent modes of the images that are compared, of their
#: derivatives, and of the search.
FINE, QUICK, COARSE = (2.0, 2, 6), (4.0, 2, 6), (4.0, 1.5, 3)
#: Pixels near the border of the image that do not count if the crystal reaches them, Å.
BORDER = 3.0
#: Distance from the crystal within which an image shows it, Å.
REACH = 8.0
#: Starting points that are fitted without the columns.
STARTS = 2
#: Number of atoms that is added to all columns, or removed, for further starting points; and most starting points that
#: are fitted with the columns.
GROWN, RIVALS = 1.5, 3
#: Tilts that are closer than this, radians, and mean numbers of atoms that are closer than this, are one.
SAME = math.radians(0.3), 0.5
#: Largest size of the derivatives, GiB.
MEMORY = 6.0
#: Share of the pixels that the test of the fit is made with, and that no fit before the test sees.
HELD = 0.125
#: Largest number of turns of fits of the columns and of the noise; difference of the cost at which a rival is given up.
TURNS, BEHIND = 4, 200.0
#: Changes of all numbers of atoms below which the fit has converged.
SMALL = 0.1
#: Standard deviation of the difference of the defocus of successive images from the step of the series, Å.
STEP = 8.0
#: Half width of a 90 % interval in standard deviations.
NINETY = 1.645


@dataclass(frozen=True)
class Setting:
    """A number that was fitted, with a 90 % interval; all in ``unit``."""

    name: str
    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True, eq=False)
class Refinement:
    """Result of a fit.

    Attributes:
        columns: the network's columns with fitted positions, numbers of atoms and their uncertainties; those of the
            network alone if the fit failed its test.
        better: whether the fit explains pixels that it has not seen better than the network's answer does.
        held: mean squared residual of these pixels, with the network's structure and with the fitted structure; both
            with the microscope that fits best.
        settings: tilt, microscope and camera.
        corner: row and column of the first pixel of the images below.
        recorded, expected: images in units of their means, ``(F, Y, X)``.
        residual: their difference in standard deviations of the noise, ``(F, Y, X)``.
        used: pixels that take part, bool ``(Y, X)``.
        misfit: mean squared residual, near 1 if image and model agree.
        sampling: Å/px of the images.
    """

    columns: Columns
    better: bool
    held: tuple[float, float]
    settings: tuple[Setting, ...]
    corner: tuple[int, int]
    recorded: np.ndarray
    expected: np.ndarray
    residual: np.ndarray
    used: np.ndarray
    misfit: float
    sampling: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence if the network's answer stays."""
        if self.better:
            return ()
        network, fit = self.held
        return (
            f"The fit was not better than the network in pixels that it had not seen (χ² {fit:.4f}, network "
            f"{network:.4f}), and the network's answer stays.",
        )


@torch.no_grad()
def refine(
    images: np.ndarray,
    sampling: float,
    found: Columns,
    stack: Stacking,
    optics: Optics,
    noise: Any,
    known: Mapping[str, Any] | None = None,
    log: Callable[[str], None] = lambda text: None,
    valid: np.ndarray | None = None,
) -> Refinement:
    """Fit columns, tilt, microscope and camera to a focal series, starting from a network's answer.

    Args:
        images: counts, or values proportional to counts, ``(F, Y, X)``.
        sampling: Å/px.
        found: the network's answer.
        stack: how columns of this sample continue along the beam.
        optics, noise: ranges of microscope and camera; priors of the fit.
        known: settings of the microscope that are known, see :func:`hrtem.refinement.instrument.parse_known`.
        log: is told what the fit does.
        valid: bool ``(Y, X)``, pixels that hold an image; None for all.

    Raises:
        InputError: no column is there to be fitted, or a known setting does not exist.
    """
    known = parse_known(known, optics.num_images)
    used = np.flatnonzero(stack.fits(found))
    if not len(used):
        raise InputError("fit needs at least one column with atoms, and none was found.")
    stacked = stack.build(found[used])
    valid = np.ones(images.shape[-2:], bool) if valid is None else valid
    region, corner = _crop(stacked, valid, sampling)
    counts = torch.from_numpy(np.asarray(images[(..., *region)], dtype=np.float64))
    counts = counts / counts.mean(dim=(-2, -1), keepdim=True)
    size = (counts.shape[-2], counts.shape[-1])
    needed = 4.0 * len(OF_COLUMN) * len(used) * counts.numel() / 2**30
    if needed > MEMORY:
        raise InputError(
            f"fit needs {needed:.0f} GiB for {len(used)} columns in {counts.shape[-1]} x {counts.shape[-2]} px, and "
            f"{MEMORY:g} GiB is the most; crop=[x0,y0,x1,y1] chooses a part of the image."
        )
    crystal = replace(stacked, places=stacked.places - corner)
    field, quick, coarse = _fields(crystal, size, sampling, optics)
    surface = crystal.exit_surface
    instrument = start_instrument(optics, noise, known).refocused(-surface)
    unknowns = [
        replace(one, mean=one.mean - surface) if one.name == "defocus" else one
        for one in find_unknowns(optics, noise, known)
    ]
    prior = Prior(
        crystal.places,
        crystal.counts,
        crystal.middle / crystal.period,
        stack.deviations(found[used]),
        stack.growth,
        unknowns,
        (0.5 * (optics.defocus_step.low + optics.defocus_step.high), STEP),
    )
    transfer = instrument.camera_transfer(size, sampling)
    weights = _weights(crystal, size, sampling)
    # The surroundings of pixels that hold no image are influenced by what is there.
    near = ndimage.binary_dilation(~valid[region], iterations=max(1, round(BORDER / sampling)))
    weights = weights * torch.from_numpy(~near)
    everything = Observation(counts, weights, sampling, Noise(1.0), transfer, torch.ones(len(counts)))
    everything = everything.with_noise(torch.ones_like(counts), transfer)
    seen, held = everything.parted(HELD)
    reach = 0.0 if "defocus" in known else 0.5 * (optics.defocus.high - optics.defocus.low)
    starts = search_starts(coarse, seen, crystal, instrument, stack.steepest, (-reach, reach), STARTS)
    log(f"tilt and focus searched, {len(starts)} starting points")
    fit = Fit(quick, quick, seen, prior)
    first = min((fit.run(one.crystal, one.instrument, 3, columns=False) for one in starts), key=lambda one: one.cost)
    # Images of opposite tilts differ little, and so do those of crystals with an atom more or less in all columns.
    others = [first.crystal.tilted(-first.crystal.tilt)] if stack.steepest else []
    others += [first.crystal.grown(more) for more in (-GROWN, GROWN) if stack.growth >= GROWN]
    rivals = [first]
    for one in sorted(
        (fit.run(crystal, first.instrument, 4, columns=False) for crystal in others), key=lambda one: one.cost
    ):
        if all(_differ(one.crystal, other.crystal) for other in rivals) and len(rivals) < RIVALS:
            rivals.append(one)
    first = rivals[0] = Fit(field, quick, seen, prior).run(first.crystal, first.instrument, 3, columns=False)
    log(f"microscope fitted, χ² {first.misfit / first.pixels:.4f}, {len(rivals)} starting points")

    def fit_noise(here: Estimate) -> tuple[Observation, Observation, Observation]:
        expected = field.expected(here.crystal, here.instrument)
        again = everything.with_noise(expected, here.instrument.camera_transfer(size, sampling))
        return again, *again.parted(HELD)

    best = first
    for turn in range(TURNS):
        before = best.crystal.counts
        everything, seen, held = fit_noise(best)
        fit = Fit(field, quick, seen, prior)
        rivals = sorted((fit.run(one.crystal, one.instrument, 3) for one in rivals), key=lambda one: one.cost)
        best = rivals[0]
        near = [one for one in rivals[1:] if one.cost < best.cost + BEHIND]
        rivals = [best, *(one for one in near if _differ(one.crystal, best.crystal))]
        change = float((best.crystal.counts - before).abs().max())
        found_so_far = " or ".join(
            f"tilt {math.degrees(float(one.crystal.tilt.norm())):.2f}° and {float(one.crystal.counts.mean()):.2f} atoms"
            for one in rivals
        )
        log(f"columns fitted, χ² {best.misfit / best.pixels:.4f}, {found_so_far} a column")
        if turn and change < SMALL and len(rivals) == 1:
            break
    tests = tuple(
        float(held.residual(field.expected(one.crystal, one.instrument)).square().sum())
        / (float(held.weights.sum()) * len(counts))
        for one in (first, best)
    )
    best = Fit(field, quick, everything, prior).run(best.crystal, best.instrument, 2)
    expected = field.expected(best.crystal, best.instrument)
    better = tests[1] < tests[0]
    numbers = round_together(best.crystal.counts.numpy(), best.count_covariance)
    return Refinement(
        _columns(found, used, best, numbers, corner) if better else found,
        better,
        (tests[0], tests[1]),
        tuple(_settings(best, float(best.crystal.period.mean()) if stack.steepest else 0.0)),
        (region[0].start, region[1].start),
        counts.numpy(),
        expected.numpy(),
        everything.residual(expected).numpy(),
        everything.weights.numpy() > 0.0,
        best.misfit / best.pixels,
        sampling,
    )


def _fields(crystal: Specimen, size: tuple[int, int], sampling: float, optics: Optics) -> list[ForwardModel]:
    """What is simulated for comparisons, for their derivatives, and for the search."""
    last = (torch.tensor(size).flip(0) - 1) * sampling
    near = float(torch.minimum(crystal.places, last - crystal.places).min()) < REACH - sampling
    margin = 8 * math.ceil(float(optics.margin(sampling)) / 8) if near else 0
    # The potential has whole pixels with all oversamplings.
    rows, columns = (4 * math.ceil((one + 2 * margin) / 4) for one in size)
    height = crystal.exit_surface + SPACE
    return [
        ForwardModel(
            optics,
            Slices(
                (rows, columns), sampling, optics.energy, -height, height, math.ceil(2.0 * height / thickness), over
            ),
            size,
            margin,
            modes,
        )
        for thickness, over, modes in (FINE, QUICK, COARSE)
    ]


def _differ(one: Specimen, other: Specimen) -> bool:
    """Whether two starting points differ in tilt or thickness."""
    tilt, counts = float((one.tilt - other.tilt).norm()), float((one.counts - other.counts).mean().abs())
    return tilt > SAME[0] or counts > SAME[1]


def _columns(found: Columns, used: np.ndarray, best: Estimate, whole: Whole, corner: Tensor) -> Columns:
    """The network's columns with what the fit says."""
    positions, sigmas = found.positions.copy(), found.sigmas.copy()
    positions[used] = (best.crystal.positions + corner).numpy()
    variances = best.covariance.diagonal()[: len(OF_COLUMN) * len(used)].reshape(len(used), -1)[:, :2]
    sigmas[used] = np.sqrt(variances.mean(axis=1))
    if not (found.counts > 0).any():
        return replace(found, positions=positions, sigmas=sigmas)
    counts, shares = found.counts.copy(), found.count_probabilities.copy()
    numbers = np.maximum(whole.numbers, 1)
    if numbers.max() > shares.shape[1]:
        shares = np.pad(shares, ((0, 0), (0, int(numbers.max()) - shares.shape[1])))
    counts[used], shares[used] = numbers, whole.probabilities(shares.shape[1])
    return replace(found, positions=positions, sigmas=sigmas, counts=counts, count_probabilities=shares)


def _settings(best: Estimate, roughness: float) -> list[Setting]:
    """Tilt and settings of the instrument with their 90 % intervals.

    Args:
        best: the fit.
        roughness: standard deviation of the exit surface, Å, from which defocus is measured: single atoms on top of a
            particle are not seen as such.
    """
    first = len(OF_COLUMN) * len(best.crystal)
    deviations = np.sqrt(np.clip(best.covariance.diagonal()[first:], 0.0, None))
    answer = []
    for axis, name in enumerate(("tilt_x", "tilt_y")):
        value, width = (math.degrees(float(one)) for one in (best.crystal.tilt[axis], NINETY * deviations[axis]))
        answer.append(Setting(name, value, value - width, value + width, "degrees"))
    surface = best.crystal.exit_surface
    for one, deviation in zip(best.unknowns, deviations[len(OF_ALL) :], strict=True):
        value = best.instrument.value(one) + (surface if one.name == "defocus" else 0.0)
        parts = [("x", "y")[part] if one.name in FOLD else str(part + 1) for part in one.part[:1]]
        parts += [("x", "y")[part] for part in one.part[1:]]
        width = NINETY * math.hypot(deviation, roughness if one.name == "defocus" else 0.0)
        answer.append(Setting("_".join([one.name, *parts]), value, value - width, value + width, UNITS[one.name]))
    return answer


def _crop(crystal: Specimen, valid: np.ndarray, sampling: float) -> tuple[tuple[slice, slice], Tensor]:
    """Rows and columns around the crystal that hold an image, and x and y of their first pixel, Å."""
    ends = []
    for axis in (1, 0):
        places, held = crystal.places[:, axis], np.flatnonzero(valid.any(axis=axis))
        first = max(int(held[0]), math.floor((float(places.min()) - REACH) / sampling) - 1)
        last = min(int(held[-1]) + 1, math.ceil((float(places.max()) + REACH) / sampling) + 2)
        ends.append((first, last))
    corner = torch.tensor([ends[1][0], ends[0][0]], dtype=torch.float64) * sampling
    return (slice(*ends[0]), slice(*ends[1])), corner


def _weights(crystal: Specimen, shape: tuple[int, int], sampling: float) -> Tensor:
    """1 for pixels that count, 0 at borders that the crystal reaches."""
    weights = torch.ones(shape)
    width = round(BORDER / sampling)
    for axis, rows in ((1, weights), (0, weights.T)):
        places = crystal.places[:, axis]
        if float(places.min()) < BORDER:
            rows[:width] = 0.0
        if float(places.max()) > (len(rows) - 1) * sampling - BORDER:
            rows[-width:] = 0.0
    return weights
