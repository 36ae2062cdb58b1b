"""Stacks, which the readers return: images that stay in their file until they are accessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.image import LARGEST_IMAGE, SMALLEST_SIDE, UNKNOWN, Acquisition
from hrtem.micrograph.units import Axis

#: Advice to a user who gives a stack where one image is needed.
STACK = "frame=NUMBER takes one image of a stack, and hrtem movie follows the columns of a movie"
#: Name or number of an image in a file with several; None if the file must contain one.
Item = str | int | None
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


def choose_item(path: Path, shapes: Sequence[tuple[int, ...]], names: Sequence[str] = (), item: Item = None) -> int:
    """Choose an image or series of a file that may contain several.

    Profiles and other arrays that cannot be images do not count if the file contains an image.

    Args:
        path: the file.
        shapes: shape of each array in the file.
        names: name of each, possibly empty or equal.
        item: name or number, from 0, of the chosen one; ignored if there is only one.

    Returns:
        The number of the chosen one.

    Raises:
        InputError: the file contains none, or several, and ``item`` is not one of them; the message lists them.
    """
    if not shapes:
        raise InputError(f"{path} must hold an image or a series, and holds none.")
    names = list(names) or [""] * len(shapes)
    images = [number for number, shape in enumerate(shapes) if is_image(shape)] or list(range(len(shapes)))
    if len(shapes) == 1 or (item is None and len(images) == 1):
        return images[0]
    chosen = [number for number, name in enumerate(names) if str(item) == name]
    chosen = chosen or [number for number in range(len(shapes)) if str(item) == str(number)]
    if len(chosen) == 1:
        return chosen[0]
    listed = [f"{number} {printable(names[number])} {shapes[number]}".replace("  ", " ") for number in images]
    shown = ", ".join(listed[:12] + ["…"] * (len(listed) > 12))
    wrong = "" if item is None else f", and item={item} is {'none' if not chosen else 'several'} of them"
    raise InputError(f"{path} holds {len(images)} images{wrong}; choose one with item=, its number or name: {shown}.")


def is_image(shape: Sequence[int]) -> bool:
    """Whether the shape ``(..., Y, X)`` of an array fits an image or a series."""
    return len(shape) >= 2 and min(shape[-2:]) >= SMALLEST_SIDE


def is_frame_number(value: Any, images: float = math.inf) -> bool:
    """Whether ``value`` is the number, from 0, of one of ``images`` images; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < images


def pick_frame(path: Path, stack: Stack, frame: int) -> Stack:
    """Reduce a stack to one of its images.

    Args:
        path: the file.
        stack: the images.
        frame: number of the image, from 0.

    Raises:
        InputError: the stack does not contain this image.
    """
    images = math.prod(stack.shape[:-2])
    if not is_frame_number(frame, images):
        raise InputError(f"frame must be a number from 0 to {images - 1} for {path}, got {frame}.")
    defocus = stack.acquisition.defocus
    known = None if defocus is None or len(defocus) != images else (defocus[frame],)
    return replace(
        stack,
        shape=tuple(stack.shape[-2:]),
        frame=lambda _: stack.frame(frame),
        acquisition=replace(stack.acquisition, defocus=known),
    )


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
