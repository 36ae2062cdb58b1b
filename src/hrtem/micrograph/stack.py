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


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Stack:
    """Unread images in one file.

    Attributes:
        shape: ``(..., Y, X)``, without a colour axis.
        dtype: data type of a pixel.
        frame: function that reads the n-th image ``(Y, X)``, counted through the leading axes in C order.
        axes: calibration of the (Y, X) axes; empty for a file without calibration.
        acquisition: acquisition parameters from the file.
        close: function that closes the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    frame: Callable[[int], np.ndarray]
    axes: Sequence[Axis] = ()
    acquisition: Acquisition = UNKNOWN
    close: Callable[[], None] = _nothing


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
    held = size(path)
    if declared > held * (TIGHTEST if packed else 1) or math.prod(shape[-2:]) > LARGEST_IMAGE:
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
        found = [f"{name} {shape}".strip() for name, shape in zip(names or [""] * len(shapes), shapes, strict=True)]
        listed = ", ".join(found[:5] + ["…"] * (len(found) > 5)) or "none"
        raise InputError(f"{path} must hold one image or one series, and holds {len(shapes)} ({listed}).")


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
