"""Results for a micrograph: the columns, and pictures of the input and output of the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from hrtem.calibration.domain import LEAST
from hrtem.columns import Columns
from hrtem.folders import hidden_file, reserve_array
from hrtem.inference.tiles import GRID, Tile
from hrtem.micrograph import Micrograph

#: Pictures with more pixels than this are reduced, unless they are written to a folder.
LARGE = 2**22


@dataclass(frozen=True)
class Prediction:
    """Results for one micrograph.

    Attributes:
        micrograph: the input.
        columns: the columns found, positions in Å from the centre of the input's pixel ``[0, 0]``.
        images: input of the network, ``(F, Y, X)``.
        maps: output of the network, ``(C, Y, X)``; the mean over several networks.
        sampling: Å/px of ``images`` and ``maps``.
        likeness: share of the training images that are at least as far from their mean as this image, or None if the
            checkpoint has no known domain.
        reduction: binning factor of ``images`` and ``maps``: their pixels are means over squares with this side in px;
            1 without binning. ``sampling`` is that of the binned pixels.
        shown: number of first ``maps`` that show where columns are, see the target's ``classes``; None means one map
            per class.
    """

    micrograph: Micrograph
    columns: Columns
    images: np.ndarray
    maps: np.ndarray
    sampling: float
    likeness: float | None = None
    reduction: int = 1
    shown: int | None = None

    @property
    def origin(self) -> float:
        """Position along x and along y, Å, of the first pixel of ``images`` and ``maps`` relative to the input's."""
        return 0.5 * self.sampling * (1.0 - 1.0 / self.reduction)

    @property
    def extent(self) -> tuple[float, float]:
        """Largest x and y of a pixel centre of the input, Å."""
        rows, width = self.micrograph.valid.shape
        assert self.micrograph.sampling is not None
        return (width - 1) * self.micrograph.sampling, (rows - 1) * self.micrograph.sampling

    @property
    def in_domain(self) -> bool | None:
        """Whether the image is similar to the training images; None if the checkpoint has no known domain."""
        return None if self.likeness is None else self.likeness >= LEAST

    @property
    def middle_image(self) -> np.ndarray:
        """The middle image of the input, ``(Y, X)``, with stripes where it holds no image."""
        return self.micrograph.picture

    @property
    def warning(self) -> str | None:
        """A warning if the image is unlike the training images, else None."""
        if self.in_domain is not False:
            return None
        return f"Do not trust this: fewer than {LEAST:.0%} of the training images are as unusual as this one."

    def summary(self) -> str:
        """Number of columns of each class, and the share of the image that is left out, as text."""
        names = self.columns.classes
        numbers = np.bincount(self.columns.labels, minlength=len(names))
        found = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
        share = self.micrograph.share_left_out
        left_out = [f"{share:.1%} of the image left out"] if share else []
        return ", ".join((found if len(self.columns) else ["no columns found"]) + left_out)


class Canvas:
    """A picture ``(C, Y, X)`` of any size that is painted tile by tile.

    Without ``path`` the picture is in memory, and a large picture is binned. With ``path`` it is written to a file, at
    full size in half precision, and is not kept in memory. ``numpy.load(path, mmap_mode="r")`` opens the file; it gets
    its final name only when it is complete.

    Args:
        shape: (Y, X) px.
        path: path of the file, or None.
    """

    def __init__(self, shape: tuple[int, int], path: Path | None = None) -> None:
        self.shape = shape
        self.path = path
        self.reduction = 1
        while path is None and self.reduction < GRID and shape[0] * shape[1] > LARGE * self.reduction**2:
            self.reduction *= 2
        self._pixels: np.ndarray | None = None
        self._part = None if path is None else hidden_file(path)

    def paint(self, tile: Tile, values: Tensor) -> None:
        """Paint the tile's own pixels, given ``values`` ``(C, h, w)`` for all pixels that the tile sees."""
        top, bottom, left, right = tile.own
        bottom, right = min(bottom, self.shape[0]), min(right, self.shape[1])
        rows, columns = tile.inside
        values = values[:, rows, columns][:, : bottom - top, : right - left]
        if self.reduction > 1:
            # Incomplete squares at the last rows and columns are means of fewer pixels.
            values = F.avg_pool2d(values, self.reduction, ceil_mode=True, count_include_pad=False)
        if self._pixels is None:
            size = len(values), *(-(-length // self.reduction) for length in self.shape)
            self._pixels = (
                np.empty(size, np.float32) if self._part is None else reserve_array(self._part, np.float16, size)
            )
        top, left = top // self.reduction, left // self.reduction
        self._pixels[:, top : top + values.shape[1], left : left + values.shape[2]] = values.cpu().numpy()
        if isinstance(self._pixels, np.memmap):
            self._pixels.flush()

    def finished(self) -> np.ndarray:
        """Complete the file, if any, and return the picture."""
        assert self._pixels is not None
        if self.path is None or self._part is None:
            return self._pixels
        self._pixels = None  # closes the file
        os.replace(self._part, self.path)
        return np.load(self.path, mmap_mode="r")

    def discard(self) -> None:
        """Delete an unfinished file."""
        self._pixels = None
        if self._part is not None:
            self._part.unlink(missing_ok=True)
