"""Readers of the picture formats TIFF and PNG; TIFF files may contain a calibration."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imageio.v3 as imageio
import numpy as np
import tifffile
from PIL import Image
from rsciio import tiff as rsciio_tiff

from hrtem.errors import InputError
from hrtem.micrograph.stack import Item, Stack, choose_item, grey, stack_array, stack_file, within
from hrtem.micrograph.units import Axis

#: Messages that tifffile logs for a truncated or damaged file.
DAMAGE = ("invalid page offset", "offset to first page", "corrupted", "invalid offset", "failed to read", "zeroed")
#: Arguments with which tifffile reads no other file, whatever names the metadata of a file hold.
ALONE: dict[str, Any] = {"_multifile": False, "is_mmstack": False, "is_ndtiff": False}


def read_tiff(path: Path, item: Item = None) -> Stack:
    """Read pixels with tifffile and the calibration with RosettaSciIO, which knows the private tags of many cameras."""
    file = tifffile.TiffFile(path, **ALONE)
    try:
        with _complaints("tifffile") as complaints:
            pages = [(number, s) for number, s in enumerate(file.series) if not s.keyframe.is_reduced]  # no thumbnails
            # tifffile reads the complete images of a truncated series, and logs that images are missing.
            _refuse(complaints)
            shapes, names = [tuple(series.shape) for _, series in pages], [series.name for _, series in pages]
            number, series = pages[choose_item(path, shapes, names, item)]
            _refuse_codec(path, series.keyframe)
            packed = series.keyframe.compression != tifffile.COMPRESSION.NONE
            bits = series.dtype.itemsize * 8 if packed else max(1, int(series.keyframe.bitspersample))
            within(path, series.shape, bits, packed)
            channels = series.shape[series.axes.index("C")] if "C" in series.axes else 1
            if channels > 1 and _coloured(file):
                raise InputError(f"{path} holds {channels} channels, and an image or a series of images is needed.")
            stack = _stack(path, file, series, number)
            page = series.keyframe
            if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and stack.dtype.kind == "u" and not file.is_imagej:
                white = 2 ** int(page.bitspersample) - 1
                return replace(stack, frame=lambda n: (image := stack.frame(n)) ^ image.dtype.type(white))
            return stack
    except BaseException:
        file.close()
        raise


def _refuse_codec(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse a compression that this installation cannot undo, which is no fault of the file."""
    if page.compression != tifffile.COMPRESSION.NONE and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", page.compression)
        raise InputError(f"{path} is compressed with {name}, which cannot be read here; store it uncompressed.")


def _stack(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, number: int) -> Stack:
    if series.axes[0] == "S":
        # Colour in separate planes, which RosettaSciIO cannot read: tifffile stores three or four images this way
        # by default. The planes of a grey picture are equal, those of a series never are.
        pixels = _checked(series.asarray)
        file.close()
        return stack_array(pixels[0] if (pixels == pixels[0]).all() else pixels)
    axes = _calibration(path, number)
    if not any(axis.unit for axis in axes) and file.ome_metadata:
        axes = _ome(file.ome_metadata)
    table = series.keyframe.colormap
    if series.keyframe.photometric != tifffile.PHOTOMETRIC.PALETTE or file.is_imagej:
        table = None  # ImageJ writes the colours of the display
    if table is not None:
        pixels = grey(path, np.moveaxis(table[:, _checked(series.asarray)], 0, -1))
        file.close()
        return stack_array(pixels, axes)
    if series.axes[-1] == "S":
        pixels = grey(path, _checked(series.asarray))
        file.close()
        return stack_array(pixels, axes)
    if series.dataoffset is not None and all(series.shape):
        dtype = series.dtype.newbyteorder(file.byteorder)
        file.close()
        return stack_file(path, dtype, series.dataoffset, series.shape, axes)
    images = math.prod(series.shape[:-2])
    if len(series.pages) == images:

        def frame(place: int) -> np.ndarray:
            page = series.pages[place]
            if page is None:
                raise ValueError(f"its image {place + 1} is missing")
            return _checked(page.asarray)

        return Stack(series.shape, series.dtype, frame, axes, close=file.close)
    pixels = _checked(series.asarray)
    file.close()
    return stack_array(pixels, axes)


def _coloured(file: tifffile.TiffFile) -> bool:
    """Whether the channels are colours: by ImageJ's rules, stacks of grey images are often written as channels."""
    mode = (file.imagej_metadata or {}).get("mode", "grayscale") if file.is_imagej else "grayscale"
    return bool(file.is_ome) or mode in ("composite", "color")


def _calibration(path: Path, number: int) -> list[Axis]:
    """Calibration of the (Y, X) axes of one series of a TIFF file."""
    with _complaints("rsciio"):
        dataset = rsciio_tiff.file_reader(str(path), lazy=True, **ALONE)[number]
    axes = [Axis(float(axis["scale"]), axis["units"]) for axis in dataset["axes"]]
    # RosettaSciIO reads the scale of ImageJ files, but of all length units it recognises only the micron.
    description = str(dataset["original_metadata"].get("ImageDescription", ""))
    if description.startswith("ImageJ=") and not any(axis.unit for axis in axes):
        unit = dict(line.partition("=")[::2] for line in description.splitlines()).get("unit", "")
        unit = unit.encode("ascii", "backslashreplace").decode("unicode_escape")  # ImageJ writes µ as \u00B5
        axes = [Axis(axis.scale, unit) for axis in axes]
    return axes


def _ome(text: str) -> list[Axis]:
    """Calibration of the (Y, X) axes in the OME-XML of a TIFF file; none if its images differ in it."""
    sizes = set()
    try:
        for pixels in ElementTree.fromstring(text).iterfind(".//{*}Pixels"):
            across, down = (
                (pixels.get(f"PhysicalSize{side}"), pixels.get(f"PhysicalSize{side}Unit", "µm")) for side in "XY"
            )
            sizes.add((down if down[0] else across, across))
        found = sizes.pop() if len(sizes) == 1 else ()
        return [Axis(float(size), unit) for size, unit in found if size]
    except (ElementTree.ParseError, ValueError):
        return []


def _checked(asarray: Any) -> np.ndarray:
    with _complaints("tifffile") as complaints:
        pixels = asarray()
    _refuse(complaints)
    return np.asarray(pixels)


def _refuse(complaints: list[str]) -> None:
    for complaint in complaints:
        if any(word in complaint for word in DAMAGE):
            raise ValueError(complaint)


@contextmanager
def _complaints(logger: str) -> Iterator[list[str]]:
    """Collect the messages that a library logs instead of raising, and keep them off the screen."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logging.getLogger(logger).addFilter(collect)
    try:
        yield messages
    finally:
        logging.getLogger(logger).removeFilter(collect)


def read_png(path: Path) -> Stack:
    """Read pixels with Pillow; a PNG has no calibration.

    Raises:
        InputError: the picture is coloured, moves, or is larger than Pillow reads.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise ValueError("it does not begin as PNG files do")
    sides = [int.from_bytes(head[at : at + 4], "big") for at in (20, 16)]
    within(path, sides, head[24], packed=True)
    most = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)
    if math.prod(sides) > most:
        raise InputError(f"{path} has {math.prod(sides):,} px, and a PNG may have {most:,}; store it as TIFF.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of half as many pixels
        with Image.open(path) as picture:
            number = getattr(picture, "n_frames", 1)
        if number > 1:
            raise InputError(f"{path} is a moving picture of {number} frames, and a PNG must hold one.")
        # RosettaSciIO is not used: it treats a picture as grey if only green and blue are equal.
        pixels = imageio.imread(path, plugin="pillow")
    return stack_array(grey(path, pixels) if pixels.ndim == 3 else pixels)
