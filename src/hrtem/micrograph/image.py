"""A recorded image or focal series, with the acquisition parameters from its file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.units import SAMPLING_RANGE
from hrtem.micrograph.validity import fill, find_validity

#: Shortest side of an image, px.
SMALLEST_SIDE = 16
#: Largest number of pixels in an image, 32768². A header with a larger image is damaged.
LARGEST_IMAGE = 2**30


@dataclass(frozen=True)
class Acquisition:
    """Acquisition parameters of an image, as far as its file contains them.

    Attributes:
        defocus: defocus of each image of a series, Å, positive is underfocus; None if unknown.
        dose: electrons per Å² in each image, or None.
        energy: beam energy, eV, or None.
    """

    defocus: tuple[float, ...] | None = None
    dose: float | None = None
    energy: float | None = None


#: Acquisition of a file without metadata.
UNKNOWN = Acquisition()


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One focal series of real images, most often a single image.

    Attributes:
        images: ``(F, Y, X)`` float32, in the units of the camera; ``(Y, X)`` becomes a series of one image. Pixels that
            hold no image, such as NaN, are replaced by averages of the pixels around them.
        sampling: pixel size in Å/px, or None if unknown.
        name: name in tables and figures; the stem of the file name.
        source: file from which the images were read.
        frame: frame number in the movie, from 0, or None if the micrograph is not part of a movie.
        acquisition: defocus, dose and energy, as far as the file contains them.
        shifts: ``(F, 2)``, shifts along x and y in Å that register each image of a series to the middle image,
            or None if the series was not registered.
        remarks: warnings for the user, one sentence each.
        valid: bool ``(Y, X)``, False where an image of the series holds nothing; None detects these pixels, see
            :func:`hrtem.micrograph.validity.find_validity`.
        left_out: reasons for pixels that are not valid, with their share of the image.

    Raises:
        InputError: the images are not real numbers, do not have the shape (F, Y, X), are smaller than 16 px, have no
            finite values, or are constant; the pixel size is not 0.01 to 5 Å/px; or no pixel is valid.
    """

    images: np.ndarray
    sampling: float | None
    name: str
    source: Path
    frame: int | None = None
    acquisition: Acquisition = UNKNOWN
    shifts: np.ndarray | None = None
    remarks: tuple[str, ...] = ()
    valid: np.ndarray = None  # type: ignore[assignment]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        what = str(self.source) if self.frame is None else f"{self.source}, frame {self.frame},"
        images = np.asarray(self.images)
        number, *sides = check_shape(what, images.shape, images.dtype)
        with np.errstate(over="ignore"):  # values beyond float32 become infinite and are counted below
            images = np.ascontiguousarray(images, dtype=np.float32).reshape(number, *sides)
        for image in images:
            if not np.isfinite(image).any():
                raise InputError(f"{what} has {image.size} pixels that are NaN, infinite or beyond single precision.")
        for place, image in enumerate(images, start=1):
            if np.nanmin(image) == np.nanmax(image):
                raise InputError(f"{what} is constant, {np.nanmax(image):g} in image {place} of {number}.")
        if self.sampling is not None and not SAMPLING_RANGE[0] <= self.sampling <= SAMPLING_RANGE[1]:
            raise InputError(
                f"{what} has a pixel size of {self.sampling:g} Å, which must be between "
                f"{SAMPLING_RANGE[0]:g} and {SAMPLING_RANGE[1]:g} Å; give sampling= if its calibration is wrong."
            )
        object.__setattr__(self, "images", images)
        self._leave_out(what)

    def _leave_out(self, what: str) -> None:
        """Detect the pixels that hold no image and replace them."""
        images = self.images
        if self.valid is not None and self.valid.shape != images.shape[1:]:
            rows, columns = self.valid.shape
            raise InputError(
                f"mask must have the {images.shape[2]} x {images.shape[1]} px of {what} and has {columns} x {rows} px."
            )
        found = [find_validity(image, self.valid) for image in images]
        valid = np.logical_and.reduce([one.valid for one in found])
        if not valid.any():
            raise InputError(f"{what} has no pixel that holds an image.")
        filled = [
            fill(image, valid & np.isfinite(image) & ~one.repaired) for image, one in zip(images, found, strict=True)
        ]
        if any(new is not old for new, old in zip(filled, images, strict=True)):
            object.__setattr__(self, "images", np.stack(filled))
        reasons = (*self.left_out, *(why for one in found for why in one.left_out))
        remarks = (*self.remarks, *(f"{what} has {remark}." for one in found for remark in one.remarks))
        object.__setattr__(self, "valid", valid)
        object.__setattr__(self, "left_out", tuple(dict.fromkeys(reasons)))
        object.__setattr__(self, "remarks", tuple(dict.fromkeys(remarks)))

    @property
    def picture(self) -> np.ndarray:
        """The middle image ``(Y, X)`` to draw, with stripes where it is not valid."""
        image = self.images[len(self.images) // 2]
        if self.valid.all():
            return image
        low, high = np.percentile(image[self.valid], (0.5, 99.5))
        width = max(2, min(image.shape) // 100)
        row, column = np.ogrid[: image.shape[0], : image.shape[1]]
        stripes = np.where((row + column) // width % 2, low, low + 0.25 * (high - low))
        return np.where(self.valid, image, stripes).astype(np.float32)

    def holds(self, positions: np.ndarray) -> np.ndarray:
        """Whether positions (x, y), ``(N, 2)`` Å, lie in a valid pixel, bool ``(N,)``; the pixel size must be known."""
        assert self.sampling is not None
        last = np.array(self.valid.shape[::-1]) - 1
        column, row = np.clip(np.rint(positions / self.sampling).astype(int), 0, last).T
        return self.valid[row, column]

    @property
    def share_left_out(self) -> float:
        """Share of the pixels that hold no image, 0 to 1."""
        return 1.0 - float(np.count_nonzero(self.valid)) / self.valid.size

    @property
    def warning(self) -> str | None:
        """Sentence about the pixels that are left out; None if all pixels are valid."""
        if not self.share_left_out:
            return None
        reasons = ", ".join(self.left_out) or "mask"
        return f"{self.share_left_out:.1%} of {self.source} hold no image, and nothing is found there: {reasons}."


def check_shape(what: str, shape: Sequence[int], dtype: np.dtype) -> tuple[int, int, int]:
    """Check the shape and data type of images before any pixel is read, and return the shape as (F, Y, X).

    Raises:
        InputError: the values are not real numbers, or not images (Y, X) or (F, Y, X) of a reasonable size.
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


class Calibrated(Protocol):
    """An image, a series or a movie with a pixel size."""

    @property
    def sampling(self) -> float | None:
        """Pixel size, Å/px, or None if unknown."""

    @property
    def source(self) -> Path:
        """File from which the images are read."""


Image = TypeVar("Image", bound=Calibrated)


def require_calibration(micrograph: Image) -> Image:
    """Return the micrograph or movie if its pixel size is known.

    Raises:
        InputError: neither the file nor the user gave a pixel size.
    """
    if micrograph.sampling is None:
        raise InputError(f"{micrograph.source} does not say its pixel size; give it as sampling= in Å/px.")
    return micrograph
