"""The part of an image in which columns are found, as the user gives it by ``mask=`` and ``crop=``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.files import open_file, read_floats
from hrtem.micrograph.image import SMALLEST_SIDE, Micrograph


@dataclass(frozen=True, eq=False)
class Region:
    """A mask and a rectangle; both are optional.

    Attributes:
        mask: bool ``(Y, X)``, True in the pixels that hold an image; it replaces the detection of borders and
            apertures. None: these are detected.
        crop: (x0, y0, x1, y1) px of the image, without column x1 and row y1; None: the whole image.
        source: file of the mask.
    """

    mask: np.ndarray | None = None
    crop: tuple[int, int, int, int] | None = None
    source: Path | None = None

    @classmethod
    def parse(cls, mask: str | Path | np.ndarray | None = None, crop: Sequence[int] | None = None) -> Region:
        """Read the mask and check the rectangle.

        Args:
            mask: an image file or an array of the shape of the images, not zero in the pixels that hold an image.
            crop: [x0, y0, x1, y1] px, see :class:`Region`.

        Raises:
            InputError: the mask cannot be read, is no single image or is zero everywhere; or the rectangle is not four
                whole numbers with x0 < x1 and y0 < y1.
        """
        source, pixels = None, None
        if isinstance(mask, str | os.PathLike):
            source = Path(mask)
            stack = open_file(source)
            try:
                pixels = read_floats(source, stack)
            finally:
                stack.close()
        elif mask is not None:
            pixels = np.asarray(mask)
        if pixels is None:
            return cls(None, None if crop is None else _rectangle(crop))
        what = source or "mask"
        pixels = pixels[0] if pixels.ndim == 3 and len(pixels) == 1 else pixels
        if pixels.ndim != 2 or pixels.dtype.kind not in "buif":
            raise InputError(f"mask must be one image (Y, X) of numbers, and {what} has the shape {pixels.shape}.")
        held = (pixels != 0) & np.isfinite(pixels)
        if not held.any():
            raise InputError(f"mask must not be 0 in the pixels that hold an image, and {what} is 0 everywhere.")
        return cls(held, None if crop is None else _rectangle(crop), source)

    def marks(self) -> Mapping[str, Any]:
        """Arguments of :class:`Micrograph` that state the mask."""
        if self.mask is None:
            return {}
        return {"valid": self.mask, "left_out": (f"mask ({1.0 - self.mask.mean():.1%})",)}

    def check(self, source: Path, shape: tuple[int, ...]) -> None:
        """Compare mask and rectangle with the shape ``(Y, X)`` of the images of a file.

        Raises:
            InputError: the mask has another shape, or the rectangle reaches beyond the image.
        """
        size = f"{shape[1]} x {shape[0]} px of {source}"
        if self.mask is not None and self.mask.shape != shape:
            rows, columns = self.mask.shape
            raise InputError(f"mask must have the {size} and has {columns} x {rows} px.")
        if self.crop is not None and (self.crop[2] > shape[1] or self.crop[3] > shape[0]):
            raise InputError(f"crop must lie within the {size}, got {list(self.crop)}.")

    def cropped(self, micrograph: Micrograph) -> Micrograph:
        """Mark the pixels outside the rectangle as not valid; the image keeps its size, and positions their origin.

        Raises:
            InputError: see :meth:`check`.
        """
        if self.crop is None:
            return micrograph
        self.check(micrograph.source, micrograph.valid.shape)
        x0, y0, x1, y1 = self.crop
        rows, columns = micrograph.valid.shape
        inside = np.zeros((rows, columns), bool)
        inside[y0:y1, x0:x1] = True
        reason = f"crop ({1.0 - inside.mean():.1%})"
        return replace(micrograph, valid=micrograph.valid & inside, left_out=(*micrograph.left_out, reason))


def _rectangle(crop: Sequence[int]) -> tuple[int, int, int, int]:
    values = [] if isinstance(crop, str) or not isinstance(crop, Sequence | np.ndarray) else list(crop)
    whole = all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values)
    if len(values) == 4 and whole:
        x0, y0, x1, y1 = map(int, values)
        if min(x0, y0) >= 0 and x1 - x0 >= SMALLEST_SIDE and y1 - y0 >= SMALLEST_SIDE:
            return x0, y0, x1, y1
    raise InputError(
        "crop must be [x0,y0,x1,y1], whole numbers of pixels of the image from 0, with at least "
        f"{SMALLEST_SIDE} px from x0 to x1 and from y0 to y1, got {crop}."
    )
