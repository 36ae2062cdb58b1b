"""Readers of microscope and camera files: MRC, and SER and EMI of TIA."""

from __future__ import annotations

import glob
import mmap
import re
import struct
import warnings
from pathlib import Path
from xml.etree import ElementTree

import mrcfile
import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.image import Acquisition
from hrtem.micrograph.stack import Stack, stack_array, within
from hrtem.micrograph.units import Axis

#: Pixel types of SER files by their type number.
SER_TYPES = {1: "<u1", 2: "<u2", 3: "<u4", 4: "<i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8", 9: "<c8", 10: "<c16"}
#: Stamp that IMOD writes at word 40 of an MRC file, and the flag bit for signed bytes.
IMOD_STAMP, IMOD_SIGNED = 1146047817, 1


def read_mrc(path: Path) -> Stack:
    """Map an image or a stack in an MRC file of either byte order into memory.

    Rows stay in the order of the file. Programs without a calibration write a cell with pixels of exactly 1 Å, so
    this pixel size counts as uncalibrated.
    """
    held = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
    if len(head) == 1024 and not any(0 <= struct.unpack(order + "i", head[92:96])[0] <= held for order in "<>"):
        raise ValueError("its extended header is larger than the file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # warnings about bytes behind the images
        with mrcfile.open(path, header_only=True) as file:
            header, order = file.header, file.header.mode.dtype.byteorder
            dtype = mrcfile.utils.data_dtype_from_header(header)
            stamp, flags = struct.unpack(order + "ii", head[152:160]) if order in "<>" else (0, 0)
            if dtype == np.int8 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED:
                dtype = np.dtype(np.uint8)
            extended = file.indexed_extended_header if header.exttyp in (b"FEI1", b"FEI2") else None
    shape = tuple(int(length) for length in (header.nz, header.ny, header.nx))
    offset = 1024 + int(header.nsymbt)
    within(path, shape, dtype.itemsize * 8)
    axes = [
        Axis(float(length) / max(1, int(number)), "Å")
        for length, number in ((header.cella.y, header.my), (header.cella.x, header.mx))
    ]
    axes = [] if all(axis.scale == 1.0 for axis in axes) else axes
    acquisition = Acquisition()
    if extended is not None and len(extended):
        first = extended[0]
        if first["Pixel size X"] > 0 and first["Pixel size Y"] > 0:
            axes = [Axis(float(first[f"Pixel size {side}"]), "m") for side in "YX"]
        acquisition = _fei(extended[: shape[0]], shape[0])
    return stack_array(np.memmap(path, dtype, "r", offset=offset, shape=shape), axes, acquisition)


def _fei(extended: np.ndarray, number: int) -> Acquisition:
    """Read the extended header of Thermo Fisher: defocus in m, underfocus negative, dose in e/m², high tension in V."""
    defocus = tuple(float(value) * -1e10 for value in extended["Defocus"])
    known = len(defocus) == number and any(defocus) and all(np.isfinite(defocus))
    dose, energy = float(extended[0]["Dose"]) * 1e-20, float(extended[0]["HT"])
    energy *= 1e3 if 10.0 < energy < 2000.0 else 1.0  # some versions write kV
    return Acquisition(
        defocus if known else None,
        dose if np.isfinite(dose) and dose > 0 else None,
        energy if np.isfinite(energy) and energy > 0 else None,
    )


def read_ser(path: Path) -> Stack:
    """Map the images of a TIA SER file into memory one by one; the high tension comes from the EMI file beside it.

    Chris Boothroyd describes the format (https://www.ntu.edu.sg/home/cbb/info/TIAformat/). Rows are stored
    from the bottom up.
    """
    held = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        order, series, version, data_type, _, _, number = struct.unpack_from("<HHHIIII", content)
        if order != 0x4949 or series != 0x0197:
            raise ValueError("it does not begin as SER files do")
        if data_type != 0x4122:
            raise InputError(f"{path} holds spectra, and images are needed.")
        width = "Q" if version > 0x0210 else "I"
        (table,) = struct.unpack_from(f"<{width}", content, 22)
        if not number or number * struct.calcsize(width) + table > held:
            raise ValueError(f"it declares {number:,} images")
        offsets = struct.unpack_from(f"<{number}{width}", content, table)
        first = struct.unpack_from("<ddIddIHII", content, offsets[0])
        scale_x, scale_y, kind, columns, rows = first[1], first[4], *first[6:]
        for offset in offsets:
            if struct.unpack_from("<HII", content, offset + 40) != (kind, columns, rows):
                raise InputError(f"{path} must hold images of one size and type, and holds several.")
    if kind not in SER_TYPES:
        raise ValueError(f"its pixels are of the unknown type {kind}")
    dtype, shape = np.dtype(SER_TYPES[kind]), (number, rows, columns)
    within(path, shape, dtype.itemsize * 8)
    if max(offsets) + 50 + dtype.itemsize * rows * columns > held:
        raise ValueError("its last image is incomplete")

    def frame(place: int) -> np.ndarray:
        return np.memmap(path, dtype, "r", offset=offsets[place] + 50, shape=(rows, columns))[::-1]

    return Stack(shape, dtype, frame, [Axis(scale_y, "m"), Axis(scale_x, "m")], _tia(path))


def _tia(path: Path) -> Acquisition:
    """Read the acquisition parameters from the EMI file beside ``name_1.ser``."""
    companion = path.with_name(re.sub(r"_\d+$", "", path.stem) + ".emi")
    if not companion.is_file():
        return Acquisition()
    with companion.open("rb") as file:
        found = re.search(rb"<ExperimentalDescription>.*?</ExperimentalDescription>", file.read(2**26), re.DOTALL)
    notes: dict[str, float] = {}
    for entry in ElementTree.fromstring(found.group()).iter("Data") if found else ():
        label, value, unit = (entry.findtext(word) or "" for word in ("Label", "Value", "Unit"))
        try:
            notes[f"{label}_{unit}"] = float(value)
        except ValueError:
            continue
    energy, defocus = notes.get("High tension_kV"), notes.get("Defocus_um")
    # Valid for one image only: TIA writes one defocus for a whole series, although each image has its own.
    return Acquisition(None if not defocus else (-defocus * 1e4,), energy=energy * 1e3 if energy else None)


def read_emi(path: Path) -> Stack:
    """Read the series of an EMI file, which is in the single file ``name_1.ser`` beside it."""
    parts = sorted(path.parent.glob(f"{glob.escape(path.stem)}_[0-9].ser"))
    if len(parts) != 1:
        raise InputError(f"{path} must have one file {path.stem}_1.ser beside it, and has {len(parts)}; give its name.")
    return read_ser(parts[0])
