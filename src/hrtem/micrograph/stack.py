"""Stacks, which the readers return: images that stay in their file until they are accessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.image import LARGEST_IMAGE, UNKNOWN, Acquisition
from hrtem.micrograph.units import Axis

#: Largest fraction of coloured pixels in a grey RGB image; allows the burnt-in label of a scale bar.
LABEL_FRACTION = 0.01
#: Upper limit for the ratio of lossless image compression; deflate reaches 1032.
TIGHTEST = 1100
#: Ratio of compression that no image of more than :data:`MODEST` bytes exceeds: counts of electrons are noisy.
TIGHT, MODEST = 100, 2**28


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Stack:
    """Unread images in one file.

    Attributes:
        shape: ``(..., Y, X)``, without a colour axis.
        dtype: data type of a pixel.
        frame: function that reads the n-th image ``(Y, X)``, counted through the leading axes in C order.
        axes: calibration of the axes, of which the last two are (Y, X); empty for a file without calibration.
        acquisition: acquisition parameters from the file.
        close: function that closes the file.
        state: size (bytes) and modification time (ns) of the file when it was opened; None for a folder.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    frame: Callable[[int], np.ndarray]
    axes: Sequence[Axis] = ()
    acquisition: Acquisition = UNKNOWN
    close: Callable[[], None] = _nothing
    state: tuple[int, int] | None = None


def stack_array(
    pixels: Any,
    axes: Sequence[Axis] = (),
    acquisition: Acquisition = UNKNOWN,
    close: Callable[[], None] = _nothing,
) -> Stack:
    """Make a stack from an array-like ``(..., Y, X)``, in memory, mapped or chunked, which is sliced on access."""
    shape = tuple(int(length) for length in pixels.shape)

    def frame(number: int) -> np.ndarray:
        return np.asarray(pixels[tuple(int(place) for place in np.unravel_index(number, shape[:-2]))])

    return Stack(shape, np.dtype(pixels.dtype), frame if len(shape) > 2 else lambda _: np.asarray(pixels[...]), axes,
                 acquisition, close)  # fmt: skip


def stack_file(
    path: Path,
    dtype: np.dtype,
    offset: int,
    shape: tuple[int, ...],
    axes: Sequence[Axis] = (),
    acquisition: Acquisition = UNKNOWN,
) -> Stack:
    """Make a stack from pixels that lie in a file uncompressed, in C order, from a byte onwards.

    Frames are read and not mapped into memory, because a process dies where a mapped file becomes shorter.
    """
    length = math.prod(shape[-2:]) * dtype.itemsize

    def frame(number: int) -> np.ndarray:
        return read_block(path, dtype, offset + number * length, shape[-2:])

    return Stack(shape, dtype, frame, axes, acquisition)


def read_block(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array from a byte of a file onwards.

    Raises:
        ValueError: the file ends before the array does.
    """
    number = math.prod(shape)
    if offset + number * dtype.itemsize > size(path):
        raise ValueError(f"it ends after {size(path):,} bytes, before the last of its pixels")
    return np.fromfile(path, dtype, number, offset=offset).reshape(shape)


def within(path: Path, shape: Sequence[int], bits: float, packed: bool = False) -> None:
    """Refuse a header that declares more pixels than the file can contain, before memory is allocated.

    Args:
        path: the file, or the folder of a chunked array.
        shape: shape of the whole array.
        bits: stored bits per pixel.
        packed: whether the pixels are compressed.

    Raises:
        ValueError: the file is too small; :func:`hrtem.micrograph.files.open_file` reports it as damaged.
    """
    shape = [int(length) for length in shape]
    if any(length < 0 for length in shape):
        raise ValueError(f"its header says that it has the shape {tuple(shape)}")
    declared = math.prod(shape) * bits / 8
    fits(path, declared, packed)
    if math.prod(shape[-2:]) > LARGEST_IMAGE:
        raise ValueError(f"its header declares an image of {math.prod(shape[-2:]):,} px, above {LARGEST_IMAGE:,} px")


def fits(path: Path, declared: float, packed: bool) -> None:
    """Refuse a file that declares more bytes than it can contain, at any plausible ratio if it is compressed.

    Raises:
        ValueError: the file is too small.
    """
    held = size(path)
    if declared > held * (TIGHTEST if packed else 1) or (packed and declared > max(MODEST, TIGHT * held)):
        raise ValueError(f"its header declares {declared:,.0f} bytes of pixels, and it holds {held:,} bytes")


def size(path: Path) -> int:
    """Size of a file, or of all files in a folder, bytes."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size


def only(path: Path, shapes: Sequence[tuple[int, ...]], names: Sequence[str] = ()) -> None:
    """Refuse a file unless it contains exactly one image or series.

    Raises:
        InputError: the file contains none or several; the message lists their shapes.
    """
    if len(shapes) != 1:
        labels = [printable(name) for name in names] or [""] * len(shapes)
        found = [f"{name} {shape}".strip() for name, shape in zip(labels, shapes, strict=True)]
        listed = ", ".join(found[:5] + ["…"] * (len(found) > 5)) or "none"
        raise InputError(f"{path} must hold one image or one series, and holds {len(shapes)} ({listed}).")


def printable(name: str) -> str:
    """A name from a file as it can stand in a sentence: line breaks and control characters are escaped."""
    return name if name.isprintable() else repr(name)


def grey(path: Path, channels: np.ndarray) -> np.ndarray:
    """Convert colour channels ``(..., Y, X, C)`` to a grey image ``(..., Y, X)``; an alpha channel is ignored.

    Raises:
        InputError: more than 1 % of the pixels are coloured.
    """
    channels = channels[..., : 1 if channels.shape[-1] < 3 else 3]
    coloured = np.mean(channels.min(axis=-1) != channels.max(axis=-1))
    if coloured > LABEL_FRACTION:
        raise InputError(f"{path} is a colour picture ({coloured:.0%} of its pixels), and a grey image is needed.")
    return channels.mean(axis=-1, dtype=np.float64)
