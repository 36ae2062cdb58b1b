"""What a microscope recorded: one image or one focal series, with what its file says about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.units import SAMPLING_RANGE

#: Shortest side of an image, px.
SMALLEST_SIDE = 16
#: Pixels of the largest image, 32768². A header that says more is damaged.
LARGEST_IMAGE = 2**30


@dataclass(frozen=True)
class Acquisition:
    """How an image was taken, as far as its file says.

    Attributes:
        defocus: of each image of a series, Å, positive is underfocus; None where it is unknown.
        dose: electrons per Å² in each image, or None.
        energy: of the beam, eV, or None.
    """

    defocus: tuple[float, ...] | None = None
    dose: float | None = None
    energy: float | None = None


#: Of files that say nothing.
UNKNOWN = Acquisition()


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One focal series of real images, most often of a single image.

    Attributes:
        images: ``(F, Y, X)`` float32, in the units of the camera; ``(Y, X)`` is taken as a series of one.
        sampling: pixel size in Å/px, or None where it is unknown.
        name: what tables and figures call it; the stem of its file.
        source: the file it was read from.
        frame: its number in the movie that it is part of, from 0, or None.
        acquisition: defocus, dose and energy, as far as the file says.
        shifts: ``(F, 2)``, along x and y in Å, by which each image of a series was moved to lie on the middle one,
            or None where nothing was registered.
        remarks: what its user should know about it, a sentence each.

    Raises:
        InputError: the images are no real numbers, are not (F, Y, X), are smaller than 16 px, hold
            values that are not finite, or are constant; or the pixel size is not 0.01 to 5 Å/px.
    """

    images: np.ndarray
    sampling: float | None
    name: str
    source: Path
    frame: int | None = None
    acquisition: Acquisition = UNKNOWN
    shifts: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        what = str(self.source) if self.frame is None else f"{self.source}, frame {self.frame},"
        images = np.asarray(self.images)
        number, *sides = check_shape(what, images.shape, images.dtype)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is counted below
            images = np.ascontiguousarray(images, dtype=np.float32).reshape(number, *sides)
        bad = images.size - np.count_nonzero(np.isfinite(images))
        if bad:
            raise InputError(f"{what} has {bad} pixels that are NaN, infinite or beyond single precision.")
        for place, image in enumerate(images, start=1):
            if image.min() == image.max():
                raise InputError(f"{what} is constant, {image[0, 0]:g} in image {place} of {number}.")
        if self.sampling is not None and not SAMPLING_RANGE[0] <= self.sampling <= SAMPLING_RANGE[1]:
            raise InputError(
                f"{what} has a pixel size of {self.sampling:g} Å, which must be between "
                f"{SAMPLING_RANGE[0]:g} and {SAMPLING_RANGE[1]:g} Å; give sampling= if its calibration is wrong."
            )
        object.__setattr__(self, "images", images)


def check_shape(what: str, shape: Sequence[int], dtype: np.dtype) -> tuple[int, int, int]:
    """The shape (F, Y, X) of images of some shape and type, before any pixel is looked at.

    Raises:
        InputError: they are no real numbers, or no images (Y, X) or (F, Y, X) of a reasonable size.
    """
    if dtype.kind not in "buif":
        kind = "complex numbers" if dtype.kind == "c" else f"values of type {dtype}"
        raise InputError(f"{what} holds {kind}, and an image must hold real ones.")
    shape = tuple(int(length) for length in shape)
    series = [length for length in shape[:-2] if length != 1]
    if len(shape) < 2 or len(series) > 1:
        raise InputError(f"{what} has the shape {shape}, and must be an image (Y, X) or (F, Y, X).")
    if min(shape) < 1 or min(shape[-2:]) < SMALLEST_SIDE or math.prod(shape[-2:]) > LARGEST_IMAGE:
        raise InputError(
            f"{what} has the shape {shape}, and an image (Y, X) or a focal series (F, Y, X) "
            f"must have at least {SMALLEST_SIDE} px a side and at most {LARGEST_IMAGE:,} px."
        )
    return math.prod(series), shape[-2], shape[-1]


def require_calibration(micrograph: Micrograph) -> Micrograph:
    """The same micrograph, sure to have a pixel size.

    Raises:
        InputError: neither its file nor the user gave one.
    """
    if micrograph.sampling is None:
        raise InputError(f"{micrograph.source} does not say its pixel size; give it as sampling= in Å/px.")
    return micrograph
