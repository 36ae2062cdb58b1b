"""Readers of microscope and camera files: MRC, and SER and EMI of TIA."""

from __future__ import annotations

import glob
import math
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import mrcfile
import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.image import Acquisition
from hrtem.micrograph.stack import Stack, grey, read_block, size, stack_array, stack_file, within
from hrtem.micrograph.units import Axis

#: Pixel types of SER files by their type number.
SER_TYPES = {1: "<u1", 2: "<u2", 3: "<u4", 4: "<i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8", 9: "<c8", 10: "<c16"}
#: Stamp that IMOD writes at word 40 of an MRC file, and the flag bit for signed bytes.
IMOD_STAMP, IMOD_SIGNED = 1146047817, 1
#: Pixel types of MRC files of real numbers by their mode; 16 is RGB, and 101 has two pixels in a byte.
MRC_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 7: "i4", 12: "f2", 16: "u1", 101: "u1"}


def read_mrc(path: Path) -> Stack:
    """Find an image or a stack in an MRC file of either byte order, also in one from before the stamp ``MAP``.

    Rows stay in the order of the file. Programs without a calibration write a cell with pixels of exactly 1 Å, so
    this pixel size counts as uncalibrated.

    Raises:
        InputError: the pixels are complex numbers, or of a mode that is not known.
    """
    with path.open("rb") as file:
        head = file.read(1024)
        if len(head) < 1024:
            raise ValueError("it is shorter than the header of an MRC file")
        header, order = _mrc_header(path, head)
        mode, extra = int(header["mode"]), int(header["nsymbt"])
        if not 0 <= extra <= size(path):
            raise ValueError("its extended header is larger than the file")
        kind = bytes(header["exttyp"])
        extended = np.empty(0)
        if kind in (b"FEI1", b"FEI2"):
            layout = mrcfile.dtypes.get_ext_header_dtype(kind, order)
            extended = np.frombuffer(file.read(extra - extra % layout.itemsize), layout)
    if mode in (3, 4):
        raise InputError(f"{path} holds complex numbers, and an image must hold real ones.")
    if mode not in MRC_MODES:
        raise InputError(f"{path} has pixels of the MRC mode {mode}; known are {', '.join(map(str, MRC_MODES))}.")
    number, rows, columns = shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    within(path, shape, _mrc_bits(mode))
    axes = [Axis(float(header["cella"][side]) / max(1, int(header["m" + side])), "Å") for side in ("y", "x")]
    axes = [] if all(axis.scale == 1.0 for axis in axes) else axes
    acquisition = Acquisition()
    if len(extended) and int(extended[0]["Metadata size"]) == extended.itemsize:
        first = extended[0]
        if first["Pixel size X"] > 0 and first["Pixel size Y"] > 0:
            axes = [Axis(float(first[f"Pixel size {side}"]), "m") for side in "YX"]
        acquisition = _fei(extended[:number], number)
    offset = 1024 + extra
    if mode == 16:
        pixels = grey(path, read_block(path, np.dtype("u1"), offset, (*shape, 3)))
        return stack_array(pixels, axes, acquisition)
    if mode == 101:
        length = -(-columns // 2)  # a row of an odd number of pixels ends in half a byte of nothing

        def frame(place: int) -> np.ndarray:
            packed = read_block(path, np.dtype("u1"), offset + place * rows * length, (rows, length))
            return np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, -1)[:, :columns]

        return Stack(shape, np.dtype("u1"), frame, axes, acquisition)
    dtype = "u1" if mode == 0 and _is_unsigned(header, head, order) else MRC_MODES[mode]
    return stack_file(path, np.dtype(order + dtype), offset, shape, axes, acquisition)


def _mrc_header(path: Path, head: bytes) -> tuple[np.ndarray, str]:
    """Header of an MRC file in the byte order in which the file holds what it declares, and this byte order.

    The stamp of the byte order decides where neither or both fit: old files have none, and some have a wrong one.
    """
    first = ">" if head[212:213] == b"\x11" else "<"
    headers = {o: np.frombuffer(head, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(o))[0] for o in (first, *"<>")}
    for order, header in headers.items():
        declared = math.prod(max(int(header[side]), 0) for side in ("nz", "ny", "nx")) * _mrc_bits(header["mode"]) / 8
        if int(header["mode"]) in MRC_MODES and 0 < declared <= size(path) - 1024 - int(header["nsymbt"]):
            return header, order
    if head[208:211] != b"MAP":
        raise ValueError("it has no stamp of an MRC file, and not the length that its first words say")
    return headers[first], first


def _mrc_bits(mode: int) -> int:
    """Stored bits per pixel."""
    return {16: 24, 101: 4}.get(int(mode)) or 8 * np.dtype(MRC_MODES.get(int(mode), "u1")).itemsize


def _is_unsigned(header: np.ndarray, head: bytes, order: str) -> bool:
    """Whether bytes are unsigned, as in files of IMOD without its flag, and in files from before the stamp ``MAP``."""
    stamp, flags = struct.unpack(order + "ii", head[152:160])
    if stamp == IMOD_STAMP:
        return not flags & IMOD_SIGNED
    return bool(header["dmax"] > 127 or (head[208:211] != b"MAP" and header["dmin"] >= 0))


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
    """Find the images of a TIA SER file; the high tension comes from the EMI file beside it.

    Chris Boothroyd describes the format (https://www.ntu.edu.sg/home/cbb/info/TIAformat/). Rows are stored
    from the bottom up.
    """
    held = size(path)
    with path.open("rb") as file:

        def parse(layout: str, place: int) -> tuple:
            file.seek(place)
            return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))

        order, series, version, data_type, _, _, number = parse("HHHIIII", 0)
        if order != 0x4949 or series != 0x0197:
            raise ValueError("it does not begin as SER files do")
        if data_type == 0x4120:
            raise InputError(f"{path} holds spectra, and images are needed.")
        if data_type != 0x4122:
            raise ValueError(f"its data are of the unknown type {data_type:#x}")
        width = "Q" if version > 0x0210 else "I"
        (table,) = parse(width, 22)
        if not number or number * struct.calcsize(width) + table > held:
            raise ValueError(f"it declares {number:,} images")
        offsets = parse(f"{number}{width}", table)
        first = parse("ddIddIHII", offsets[0])
        scale_x, scale_y, kind, columns, rows = first[1], first[4], *first[6:]
        for offset in offsets:
            if parse("HII", offset + 40) != (kind, columns, rows):
                raise InputError(f"{path} must hold images of one size and type, and holds several.")
    if kind not in SER_TYPES:
        raise ValueError(f"its pixels are of the unknown type {kind}")
    dtype, shape = np.dtype(SER_TYPES[kind]), (number, rows, columns)
    within(path, shape, dtype.itemsize * 8)
    if max(offsets) + 50 + dtype.itemsize * rows * columns > held:
        raise ValueError("its last image is incomplete")

    def frame(place: int) -> np.ndarray:
        return read_block(path, dtype, offsets[place] + 50, (rows, columns))[::-1]

    return Stack(shape, dtype, frame, [Axis(scale_y, "m"), Axis(scale_x, "m")], _tia(path))


def _tia(path: Path) -> Acquisition:
    """Read the acquisition parameters from the EMI file beside ``name_1.ser``."""
    companion = path.with_name(re.sub(r"_\d+$", "", path.stem) + ".emi")
    if not companion.is_file():
        return Acquisition()
    with companion.open("rb") as file:
        found = re.search(rb"<ExperimentalDescription>.*?</ExperimentalDescription>", file.read(2**26), re.DOTALL)
    notes: dict[str, float] = {}
    try:
        entries = list(ElementTree.fromstring(found.group()).iter("Data")) if found else []
    except ElementTree.ParseError:  # the images are in the other file, which may be whole
        entries = []
    for entry in entries:
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
