"""Pixel sizes from files and users, and their units."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hrtem.errors import InputError

#: Range of pixel sizes, Å/px, at which an image can show atoms; other values are a wrong calibration or unit.
SAMPLING_RANGE = (0.01, 5.0)
#: Largest ratio of the sides of a pixel that counts as square.
SQUARE = 1.01

#: Length of each unit in Å, by its case-folded NFKC spelling.
ANGSTROMS = dict.fromkeys(("å", "a", "ang", "angstrom", "angstroms", "ångström", "ångströms", "angstroem"), 1.0)
ANGSTROMS |= dict.fromkeys(("nm", "n_m", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0)
ANGSTROMS |= dict.fromkeys(("μm", "um", "u_m", "μ_m", "micron", "microns", "micrometer", "micrometers"), 1e4)
ANGSTROMS |= dict.fromkeys(("micrometre", "micrometres"), 1e4)
ANGSTROMS |= dict.fromkeys(("pm", "p_m", "picometer", "picometers", "picometre", "picometres"), 1e-2)
ANGSTROMS |= dict.fromkeys(("mm", "m_m", "millimeter", "millimeters", "millimetre", "millimetres"), 1e7)
ANGSTROMS |= dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e10)
#: A user's pixel size between a tenth of this value and this value, Å/px, is probably in nm/px.
NANOMETRES = 0.02
#: Units that leave the pixel size unknown. Inch and cm are print resolutions, which ImageJ copies from TIFF tags.
UNCALIBRATED = {"", "none", "<undefined>", "px", "pixel", "pixels", "inch", "inches", "in", "cm", "reference frame"}
#: Encodings in which units were read and written: µm of a Japanese DigitalMicrograph became ƒÊm, of others Âµm.
WRONG_ENCODINGS = (("cp1252", "shift_jis"), ("cp1252", "utf-8"), ("latin-1", "utf-8"), ("utf-8", "latin-1"))
#: Units of the axes of diffraction patterns: reciprocal lengths such as 1/nm, nm^-1 and Å⁻¹, and angles.
RECIPROCAL = re.compile(r"\(?1? ?/|.*-\(?1\)?$|reciprocal |inverse |([mμu]_?)?rad$|(milli|micro)?radians?$")
#: Units of the energy axis of spectra.
ENERGIES = {"ev", "kev"}


class Axis(NamedTuple):
    """Calibration of one image axis: the pixel size along the axis and its unit."""

    scale: float
    unit: str | None


def refuse_spectra_and_diffraction(source: Path, axes: Sequence[Axis]) -> None:
    """Refuse data of which an axis is an energy, a spatial frequency or an angle, whatever pixel size the user gives.

    Raises:
        InputError: an axis is no length of a specimen.
    """
    for place, axis in enumerate(axes, start=-len(axes)):
        unit = _plain(axis.unit)
        if unit in ENERGIES:
            raise InputError(f"{source} holds spectra (an axis is in {axis.unit!r}), and an image is needed.")
        if place >= -2 and RECIPROCAL.match(unit):
            raise InputError(
                f"{source} holds a diffraction pattern (an axis is in {axis.unit!r}), and an image is needed."
            )
        if place >= -2 and unit == "m" and axis.scale > 1.0:  # TIA writes 1/m without saying so
            raise InputError(
                f"{source} holds a diffraction pattern (of {axis.scale:.3g} 1/m a pixel), and an image is needed."
            )


def pixel_size(source: Path, axes: Sequence[Axis]) -> float | None:
    """Pixel size in Å/px from the calibration of the axes, of which the last two are (Y, X); None without one.

    Raises:
        InputError: the unit of the calibration is not a length, or the pixels are not square within 1 %.
    """
    sizes = []
    for axis in axes[-2:]:
        unit = _plain(axis.unit)
        if unit in UNCALIBRATED or not (math.isfinite(axis.scale) and axis.scale > 0.0):
            return None
        if unit not in ANGSTROMS:
            raise InputError(f"{source} is calibrated in {axis.unit!r}, which is no length; give sampling= in Å/px.")
        sizes.append(axis.scale * ANGSTROMS[unit])
    if not sizes:
        return None
    if max(sizes) > SQUARE * min(sizes):
        raise InputError(
            f"{source} has pixels of {sizes[1]:.4g} x {sizes[0]:.4g} Å, and they must be square within 1 %."
        )
    return sum(sizes) / len(sizes)


def _plain(unit: str | None) -> str:
    """One spelling of a unit: case-folded NFKC, without brackets, nm/px as nm, and µ as it was meant."""
    known = ANGSTROMS.keys() | UNCALIBRATED
    readings = [_folded(str(unit or ""))]
    for written, meant in WRONG_ENCODINGS:
        try:
            readings.append(_folded(str(unit).encode(written, "surrogateescape").decode(meant)))
        except UnicodeError:
            continue
    return next((reading for reading in readings if reading in known), readings[0])


def _folded(unit: str) -> str:
    unit = unicodedata.normalize("NFKC", unit).strip().strip("\0").casefold().replace("\u2212", "-")
    unit = re.sub(r"^\[(.*)\]$", r"\1", unit)  # Berkeley EMD files write units in brackets
    return re.sub(r"\s*(/|per )\s*(px|pixel)$", "", unit)


def parse_sampling(sampling: Any, name: str = "sampling") -> float:
    """Parse the pixel size from the user, Å/px.

    Raises:
        InputError: the value is not one number between 0.01 and 5.
    """
    low, high = SAMPLING_RANGE
    try:
        value = float(sampling)
    except (TypeError, ValueError):
        value = math.nan
    if NANOMETRES / 10 <= value < NANOMETRES:
        raise InputError(
            f"{name} is in Å/px, and {value:g} Å/px is below that of any image; {value:g} nm/px are "
            f"{10 * value:.4g} Å/px."
        )
    if not low <= value <= high:
        raise InputError(f"{name} must be one number between {low:g} and {high:g} Å/px, got {sampling!r}.")
    return value
