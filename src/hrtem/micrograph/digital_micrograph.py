"""Reader of the Gatan formats DM3 and DM4.

This module is imported only to read such a file: RosettaSciIO's reader imports Dask, which takes half a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rsciio.digitalmicrograph._api import DigitalMicrographReader, ImageObject

from hrtem.errors import InputError
from hrtem.micrograph.image import Acquisition
from hrtem.micrograph.stack import Item, Stack, choose_item, grey, read_block, stack_array, stack_file, within
from hrtem.micrograph.units import Axis

#: Longest text and largest structure in a DM file; a larger length field is damaged.
LONGEST_TEXT, LARGEST_STRUCTURE = 2**16, 1000


class _Bounded(DigitalMicrographReader):
    """RosettaSciIO's reader of DM tags, which here refuses lengths beyond the file size before it builds lists."""

    def __init__(self, file: Any, held: int) -> None:
        super().__init__(file)
        self.held = held

    def parse_struct_definition(self) -> tuple[int, ...]:
        place = self.f.tell()
        self.read_l_or_q(self.f, "big")
        self._fits(self.read_l_or_q(self.f, "big"), LARGEST_STRUCTURE)
        self.f.seek(place)
        definition: tuple[int, ...] = super().parse_struct_definition()
        return definition

    def read_string(self, length: int, skip: bool = False) -> Any:
        self._fits(length, LONGEST_TEXT)
        return super().read_string(length, skip=skip)

    def read_array(self, size: int, enc_eltype: int, extra: Any = None, skip: bool = False) -> Any:
        self._fits(size, self.held - self.f.tell())
        if extra is not None and size > 1 and not self._fits(min(extra.get("size", 1), extra.get("length", 1)), 2**31):
            raise ValueError("it has arrays of nothing")
        return super().read_array(size, enc_eltype, extra, skip)

    def _fits(self, length: int, most: int) -> int:
        if not 0 <= length <= most:
            raise ValueError(f"it declares {length:,} entries where {max(most, 0):,} fit")
        return length


def read_digital_micrograph(path: Path, item: Item = None) -> Stack:
    """Find an image or series in a DM3 or DM4 file; thumbnails are ignored."""
    with path.open("rb") as file:
        reader = _Bounded(file, path.stat().st_size)
        reader.parse_file()
        images = [ImageObject(tags, file) for tags in reader.get_image_dictionaries() or ()]
        names = [str(image.imdict.get("Name") or "") for image in images]
        image = images[choose_item(path, [tuple(image.shape) for image in images], names, item)]
        kind, dtype, shape = image.imdict.ImageData.DataType, np.dtype(image.dtype), tuple(image.shape)
        if kind in (5, 27, 28):  # packed complex numbers, whose array shape differs
            raise InputError(f"{path} holds complex numbers, and an image must hold real ones.")
        within(path, shape, dtype.itemsize * 8)
        if str(image.imdict.get("ImageTags.Meta Data.Format", "")).startswith("Spectrum"):
            raise InputError(f"{path} holds spectra, and an image is needed.")
        axes = [Axis(float(s), str(u or "")) for s, u in zip(image.scales, image.units, strict=True)]
        data = image.imdict.ImageData.Data
        if reader.endian == "big" and dtype.names is None:
            dtype = dtype.newbyteorder(">")
        voltage = image.imdict.get("ImageTags.Microscope Info.Voltage")
    acquisition = Acquisition(energy=float(voltage) if isinstance(voltage, int | float) and voltage > 0 else None)
    if dtype.names:
        colours = read_block(path, dtype, int(data.offset), shape)
        pixels = grey(path, np.stack([colours[channel] for channel in "RGB"], axis=-1))
        return stack_array(pixels, axes, acquisition)
    return stack_file(path, dtype, int(data.offset), shape, axes, acquisition)
