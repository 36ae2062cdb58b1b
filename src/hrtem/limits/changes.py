"""Derivatives of the images of a focal series with respect to everything that an experimenter does not know.

The unknowns are the columns of the particle, its pose, the microscope and the camera. Derivatives are central
differences of the forward model. Atoms without a column, such as the atoms of a support, are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hrtem.errors import InputError
from hrtem.limits.exposure import Exposure
from hrtem.limits.particle import OF_COLUMN, vary_columns, vary_pose
from hrtem.optics import filter_image
from hrtem.waves.multislice import Multislice, find_exit_surface

#: Side of the field in which the change by a column is imaged, Å; aberrations spread it over some ångströms.
FIELD = 24.0
#: Distance beyond the border of the visible area up to which columns are unknown, Å; columns farther away are known.
RIM = 3.0
#: Additional modes of the focal spread for single columns, beyond the modes that the image of the whole sample needs.
MORE_MODES = 2

#: Steps to either side of settings that all images share, in the units of the settings.
SHARED_STEPS = {"Cs": 1e3, "C5": 2e5, "focal_spread": 0.5, "vibration": 0.01}
#: Steps of settings with a magnitude and an angle, along both components, and the order of their symmetry.
POLAR_STEPS = {"astigmatism": (0.5, 2), "coma": (5.0, 1), "threefold": (5.0, 3), "drift": (0.01, 1)}
#: Steps of settings that each image has for itself, Å.
IMAGE_STEPS = {"defocus": 0.5, "shift": 0.01}
#: Steps of the settings of the camera's MTF, for detectors with these settings.
CAMERA_STEPS = {"half": 2e-3, "power": 0.01}


@dataclass(frozen=True)
class Window:
    """A square window of a wave that is imaged; the image without a margin is the visible area.

    Attributes:
        row, column: position of its first pixel in the wave.
        side: side of the window, px.
        margin: pixels on each side that are imaged and then cropped, included in ``side``.
        sampling: Å/px.
    """

    row: int
    column: int
    side: int
    margin: int
    sampling: float

    def cut(self, wave: np.ndarray) -> np.ndarray:
        """Cut the window out of waves or images ``(..., Y, X)``."""
        return wave[..., self.row : self.row + self.side, self.column : self.column + self.side]

    def seen(self, images: Tensor) -> Tensor:
        """Crop images ``(..., side, side)`` to the visible area."""
        inner = slice(self.margin, self.side - self.margin)
        return images[..., inner, inner]

    def depth(self, places: np.ndarray) -> np.ndarray:
        """Distance ``(N,)`` Å of ``places`` ``(N, 2)`` Å from the border of the visible area, negative outside."""
        low = (np.array([self.column, self.row]) + self.margin) * self.sampling
        high = low + (self.side - 2 * self.margin - 1) * self.sampling
        return np.minimum(places - low, high - places).min(axis=1)


@dataclass(frozen=True)
class Changes:
    """Derivatives of the expected images with respect to all unknown parameters.

    Attributes:
        exposure: exposure of the images; its dose does not matter.
        names: names of the ``P`` parameters; the first ``4 N`` are :data:`OF_COLUMN` for each column in turn.
        images: ``(P, F, Y, X)``, intensity per unit of the parameter: Å, atoms, degrees, or the unit of the setting.
        expected: expected intensity ``(F, Y, X)``, 1 in vacuum.
        columns: ``(N,)``, values of the atoms' array ``column``.
        depth: ``(N,)``, distance of each column from the border of the visible area, Å.
    """

    exposure: Exposure
    names: tuple[str, ...]
    images: Tensor
    expected: Tensor
    columns: np.ndarray
    depth: np.ndarray


def differentiate_series(exposure: Exposure, wave: Multislice, atoms: Atoms, frame: Window) -> Changes:
    """Compute the derivatives of a focal series of one view.

    Args:
        exposure: microscope and detector.
        wave: multislice simulation, without snapshots.
        atoms: atoms with the array ``column``, which is -1 for known atoms.
        frame: window of the wave.

    Raises:
        InputError: no column lies in the frame, or the wave has snapshots.
    """
    if wave.frozen_phonons:
        raise InputError(f"wave.frozen_phonons must be 0 for limits, got {wave.frozen_phonons}.")
    column = atoms.get_array("column")
    known = np.unique(column[column >= 0])
    places = np.array([atoms.positions[column == one, :2].mean(axis=0) for one in known]).reshape(-1, 2)
    depth = frame.depth(places)
    near = depth > -RIM
    if not near.any():
        raise InputError("limits need a view that shows at least one column.")
    plane = find_exit_surface(atoms)
    whole = wave(atoms, plane=plane)
    middle = frame.cut(whole)
    modes = exposure.modes_needed(middle[None]) + MORE_MODES
    light = exposure.illumination((frame.side, frame.side))[0]
    expected = exposure.imaged(middle[None], modes)[0] * light
    names: list[str] = list(OF_COLUMN) * int(near.sum())
    images = [_columns(exposure, wave, atoms, frame, known[near], whole, modes) * frame.seen(light)]
    for name, change in vary_pose(wave, atoms, plane):
        names.append(name)
        images.append(frame.seen(_imaged_change(exposure, middle, frame.cut(change)[None], modes) * light))
    for name, image in _optics(exposure, middle, modes):
        names.append(name)
        images.append(frame.seen(image * light)[None])
    for name, image in _camera(exposure, expected):
        names.append(name)
        images.append(frame.seen(image)[None])
    # Missing images contain no information.
    present = torch.as_tensor(exposure.settings.get("present", np.ones(1))).double().reshape(-1, 1, 1)
    seen = frame.seen(expected).contiguous()
    return Changes(exposure, tuple(names), torch.cat(images) * present, seen, known[near], depth[near])


def _columns(
    exposure: Exposure,
    wave: Multislice,
    atoms: Atoms,
    frame: Window,
    columns: np.ndarray,
    whole: np.ndarray,
    modes: int,
) -> Tensor:
    """Derivatives of the visible images with respect to each column, ``(4 N, F, Y, X)``, under even illumination."""
    plane = find_exit_surface(atoms)
    rows, width = whole.shape
    size = min(round(FIELD / wave.sampling), rows, width)
    number = len(np.atleast_1d(exposure.settings["defocus"]))
    side = frame.side - 2 * frame.margin
    images = torch.zeros(len(OF_COLUMN) * len(columns), number, side, side, dtype=torch.float64)
    for count, column in enumerate(columns):
        waves, first = vary_columns(wave, atoms, int(column), plane)
        around = (size - waves.shape[-1]) // 2
        where = [(first[axis] - around + np.arange(size)) % (rows, width)[axis] for axis in (0, 1)]
        changes = np.zeros((len(waves), size, size), np.complex128)
        changes[:, around : around + waves.shape[1], around : around + waves.shape[2]] = waves
        local = _imaged_change(exposure, whole[np.ix_(*where)], changes, modes)
        # Only the visible part of the field.
        start = (frame.row + frame.margin, frame.column + frame.margin)
        inside = [where[axis] - start[axis] for axis in (0, 1)]
        kept = [(one >= 0) & (one < side) for one in inside]
        target = torch.from_numpy(inside[0][kept[0]])[:, None], torch.from_numpy(inside[1][kept[1]])
        chosen = local[:, :, torch.from_numpy(kept[0])][..., torch.from_numpy(kept[1])]
        images[4 * count : 4 * count + 4, :, target[0], target[1]] = chosen
    return images


def _imaged_change(exposure: Exposure, wave: np.ndarray, changes: np.ndarray, modes: int) -> Tensor:
    """Derivatives ``(N, F, Y, X)`` of the image from the derivatives ``changes`` ``(N, Y, X)`` of ``wave`` ``(Y, X)``.

    The image is quadratic in the wave, so that the central difference is exact for any step.
    """
    up, down = exposure.imaged(np.concatenate([wave + changes, wave - changes]), modes).chunk(2)
    return 0.5 * (up - down)


def _optics(exposure: Exposure, middle: np.ndarray, modes: int) -> Iterator[tuple[str, Tensor]]:
    """Derivatives ``(F, Y, X)`` with respect to microscope settings, from the wave ``(Y, X)`` of the window."""
    settings = {name: np.asarray(value, dtype=np.float64) for name, value in exposure.settings.items()}

    def difference(up: dict[str, np.ndarray], down: dict[str, np.ndarray], step: float) -> Tensor:
        images = [replace(exposure, settings=settings | one).imaged(middle[None], modes)[0] for one in (up, down)]
        return (images[0] - images[1]) / (2.0 * step)

    number = len(settings["defocus"])
    step = IMAGE_STEPS["defocus"]
    change = difference({"defocus": settings["defocus"] + step}, {"defocus": settings["defocus"] - step}, step)
    for image in range(number):
        yield "defocus", _only(change, image)
    step = IMAGE_STEPS["shift"]
    for along in step * np.eye(2):
        change = difference({"shift": settings["shift"] + along}, {"shift": settings["shift"] - along}, step)
        for image in range(number):
            if image != number // 2:
                yield "shift", _only(change, image)
    for name, step in SHARED_STEPS.items():
        yield name, difference({name: settings[name] + step}, {name: settings[name] - step}, step)
    for name, (step, fold) in POLAR_STEPS.items():
        angle = fold * settings[f"{name}_angle"]
        parts = settings[name] * np.array([np.cos(angle), np.sin(angle)])
        for along in step * np.eye(2):
            yield name, difference(_polar(name, parts + along, fold), _polar(name, parts - along, fold), step)


def _camera(exposure: Exposure, expected: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Derivatives ``(F, Y, X)`` with respect to the MTF, the scale of all counts and their offset.

    The derivative with respect to the MTF is given as an equivalent change of the expected image before the MTF.
    """
    yield "scale", expected
    yield "offset", torch.ones_like(expected)
    if not CAMERA_STEPS.keys() <= exposure.settings.keys():
        return
    shape = (expected.shape[-2], expected.shape[-1])
    for name, step in CAMERA_STEPS.items():
        value = float(exposure.settings[name])
        up, down = (
            replace(exposure, settings={**exposure.settings, name: np.asarray(one)}).response(shape).log()
            for one in (value + step, value - step)
        )
        yield name, filter_image(expected, (up - down) / (2.0 * step))


def _polar(name: str, parts: np.ndarray, fold: int) -> dict[str, np.ndarray]:
    """Convert two components ``parts`` to settings of magnitude and angle."""
    angle = math.atan2(parts[1], parts[0]) / fold
    return {name: np.asarray(np.hypot(*parts)), f"{name}_angle": np.asarray(angle)}


def _only(change: Tensor, image: int) -> Tensor:
    """Keep the change ``(F, Y, X)`` of a single image and set the others to 0."""
    alone = torch.zeros_like(change)
    alone[image] = change[image]
    return alone
