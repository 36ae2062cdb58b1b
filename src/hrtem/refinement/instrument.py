"""Settings of microscope and camera: values, prior knowledge, and steps of derivatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.errors import InputError
from hrtem.optics import Optics, frequencies
from hrtem.ranges import parse_list, parse_number

#: Aberrations and motions with a direction, and the order of their symmetry.
FOLD = {"astigmatism": 2, "coma": 1, "threefold": 3, "drift": 1}
#: Settings without a direction that all images of a series share.
SHARED = ("Cs", "C5", "focal_spread", "vibration")
#: Settings that a user may know.
KNOWN = ("defocus", *SHARED)
#: Settings of the camera: scale and offset of each image, and the MTF ``1 / (1 + (k / half)^power)``.
CAMERA = ("scale", "offset", "half", "power")
#: Prior standard deviations of scale and offset, in units of the mean of an image.
SCALE, OFFSET = 0.1, 0.1
#: Smallest values of settings, in their units; a shorter focal spread has the same modes.
LEAST = {"focal_spread": 5.0, "vibration": 0.0, "half": 0.2, "power": 0.5, "scale": 0.1}
#: Units of the settings.
UNITS = {
    "defocus": "Å", "shift": "Å", "Cs": "Å", "C5": "Å", "focal_spread": "Å", "vibration": "Å", "astigmatism": "Å",
    "coma": "Å", "threefold": "Å", "drift": "Å", "scale": "", "offset": "", "half": "1/Å", "power": "",
}  # fmt: skip
#: Steps of central differences, in the units of the settings.
STEPS = {
    "defocus": 0.5, "shift": 0.01, "Cs": 1e3, "C5": 2e5, "focal_spread": 0.5, "vibration": 0.02,
    "astigmatism": 0.5, "coma": 5.0, "threefold": 5.0, "drift": 0.02, "half": 1e-2, "power": 1e-2,
}  # fmt: skip


@dataclass(frozen=True)
class Unknown:
    """One unknown number.

    Attributes:
        name: name of the setting.
        part: image of a series, component along x (0) or y (1), or both: ``(image, axis)``.
        mean, deviation: Gaussian prior.
    """

    name: str
    part: tuple[int, ...]
    mean: float
    deviation: float


@dataclass(frozen=True)
class Instrument:
    """Microscope and camera of one focal series, with components instead of magnitudes and angles.

    Attributes:
        values: by name: ``defocus``, ``scale`` and ``offset`` ``(F,)``, ``shift`` ``(F, 2)``, two components of each of
            :data:`FOLD`, other settings as scalars. Scale and offset are in units of the mean of an image, ``half`` is
            in 1/Å; the others have the units of :class:`hrtem.optics.Optics`.
    """

    values: Mapping[str, Tensor]

    def settings(self) -> dict[str, Tensor]:
        """Settings for :class:`hrtem.optics.Optics` with a leading batch axis."""
        answer = {name: value for name, value in self.values.items() if name not in (*FOLD, *CAMERA)}
        for name, fold in FOLD.items():
            first, second = self.values[name]
            answer[name] = torch.hypot(first, second)
            answer[f"{name}_angle"] = torch.atan2(second, first) / fold
        answer["angular_spread"] = torch.zeros(())
        return {name: value.float()[None] for name, value in answer.items()}

    def camera_transfer(self, shape: tuple[int, int], sampling: float) -> Tensor:
        """MTF of the camera on the half plane of :func:`hrtem.optics.frequencies`, real ``(Y, X//2 + 1)``."""
        kx, ky = frequencies(shape, sampling, torch.device("cpu"), half=True)
        return 1.0 / (1.0 + (torch.sqrt(kx**2 + ky**2) / float(self.values["half"])) ** float(self.values["power"]))

    def refocused(self, change: float) -> Instrument:
        """The instrument after the same change of all defoci, Å."""
        return replace(self, values={**self.values, "defocus": self.values["defocus"] + change})

    def value(self, one: Unknown) -> float:
        """Value of an unknown."""
        return float(self.values[one.name][one.part])

    def moved(self, one: Unknown, step: float) -> Instrument:
        """The instrument after a step of one unknown."""
        changed = self.values[one.name].clone()
        changed[one.part] += step
        if one.name in LEAST:
            changed = changed.clamp_min(LEAST[one.name])
        return replace(self, values={**self.values, one.name: changed})


def parse_known(known: Mapping[str, Any] | None, images: int) -> dict[str, list[float]]:
    """Check settings that are known; None counts as unknown.

    Args:
        known: values in the units of :data:`UNITS`; ``defocus`` has one value for each image.
        images: number of images in the series.

    Raises:
        InputError: a setting cannot be known, or has another number of values.
    """
    if known is not None and not isinstance(known, Mapping):
        raise InputError(f"known has words of its own, such as known.{KNOWN[0]}; got known={known}.")
    answer = {}
    for name, value in (known or {}).items():
        if value is None:
            continue
        if name not in KNOWN:
            raise InputError(f"known.{name} is no setting that can be known; these are {', '.join(KNOWN)}.")
        values = parse_list(f"known.{name}", [value] if isinstance(value, int | float) else value)
        needed = images if name == "defocus" else 1
        if len(values) != needed:
            raise InputError(f"known.{name} must have {needed} values in {UNITS[name]}, got {value}.")
        answer[name] = [parse_number(f"known.{name}", one, unit=UNITS[name]) for one in values]
    return answer


def find_unknowns(optics: Optics, noise: Any, known: Mapping[str, list[float]]) -> list[Unknown]:
    """List the unknown settings of microscope and camera with their priors.

    A uniform range becomes a Gaussian of equal mean and standard deviation; a magnitude with a random direction becomes
    two components with mean 0.

    Args:
        optics: ranges of the microscope.
        noise: ranges of the camera; a camera without an MTF has none that is unknown.
        known: result of :func:`parse_known`.
    """
    answer = []
    order = np.arange(optics.num_images) - (optics.num_images - 1) / 2
    if "defocus" not in known:
        middle, step = optics.defocus, optics.defocus_step
        for image, place in enumerate(order):
            mean = 0.5 * (middle.low + middle.high) + place * 0.5 * (step.low + step.high)
            answer.append(Unknown("defocus", (image,), mean, _deviation(middle.low, middle.high)))
    for image in range(optics.num_images):
        if image != optics.num_images // 2:
            spread = math.hypot(optics.misalignment.high, abs(order[image]) * optics.series_drift.high)
            answer += [Unknown("shift", (image, axis), 0.0, max(spread, 0.05)) for axis in (0, 1)]
    for name in SHARED:
        low, high = optics.ranges[name].low, optics.ranges[name].high
        if name not in known and high > low:
            answer.append(Unknown(name, (), 0.5 * (low + high), _deviation(low, high)))
    for name in FOLD:
        low, high = optics.ranges[name].low, optics.ranges[name].high
        if name not in known and high > 0.0:
            component = math.sqrt((low**2 + low * high + high**2) / 6.0)
            answer += [Unknown(name, (axis,), 0.0, component) for axis in (0, 1)]
    for image in range(optics.num_images):
        answer += [Unknown("scale", (image,), 1.0, SCALE), Unknown("offset", (image,), 0.0, OFFSET)]
    return answer + list(_camera(noise).values())


def start_instrument(optics: Optics, noise: Any, known: Mapping[str, list[float]]) -> Instrument:
    """The instrument at the means of its priors, and at the known values."""
    images = optics.num_images
    values = {name: torch.tensor(0.5 * (optics.ranges[name].low + optics.ranges[name].high)) for name in SHARED}
    values |= {name: torch.zeros(2) for name in FOLD}
    values |= {"defocus": torch.zeros(images), "shift": torch.zeros(images, 2)}
    # Without an MTF, half is so large that all frequencies pass.
    values |= {
        "scale": torch.ones(images),
        "offset": torch.zeros(images),
        "half": torch.tensor(1e6),
        "power": torch.tensor(2.0),
    }
    values = {name: value.double() for name, value in values.items()}
    for one in find_unknowns(optics, noise, known):
        # Drift in opposite directions blurs alike, so that no drift at all would never begin to change.
        values[one.name][one.part] = 0.5 * one.deviation if one.name == "drift" else one.mean
    for name, given in known.items():
        values[name] = torch.tensor(given, dtype=torch.float64).reshape(values[name].shape)
    return Instrument(values)


def _camera(noise: Any) -> dict[str, Unknown]:
    """Priors of the MTF, by name, from the ranges of a detector."""
    ranges = noise.ranges
    if not {"half", "power", "camera_sampling"} <= ranges.keys():
        return {}
    half, power, pixel = (ranges[name] for name in ("half", "power", "camera_sampling"))
    low, high = half.low / pixel.high, half.high / pixel.low
    return {
        "half": Unknown("half", (), math.sqrt(low * high), 0.3 * (high - low)),
        "power": Unknown("power", (), 0.5 * (power.low + power.high), max(_deviation(power.low, power.high), 1e-3)),
    }


def _deviation(low: float, high: float) -> float:
    """Standard deviation of a uniform distribution."""
    return (high - low) / math.sqrt(12.0)
