"""Pixel sizes: their units, and what a file or a user says they are."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hrtem.errors import InputError

#: Pixel sizes, Å/px, at which an image can show atoms; anything else is a wrong calibration or a wrong unit.
SAMPLING_RANGE = (0.01, 5.0)
#: Pixels whose sides differ by no more than this factor count as square.
SQUARE = 1.01

#: Å in each unit of length, by its case-folded NFKC spelling.
ANGSTROMS = dict.fromkeys(("å", "a", "ang", "angstrom", "angstroms", "ångström", "ångströms"), 1.0)
ANGSTROMS |= dict.fromkeys(("nm", "n_m", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0)
ANGSTROMS |= dict.fromkeys(("μm", "um", "u_m", "μ_m", "micron", "microns", "micrometer", "micrometers"), 1e4)
ANGSTROMS |= dict.fromkeys(("micrometre", "micrometres"), 1e4)
ANGSTROMS |= dict.fromkeys(("pm", "p_m", "picometer", "picometers", "picometre", "picometres"), 1e-2)
ANGSTROMS |= dict.fromkeys(("mm", "m_m", "millimeter", "millimeters", "millimetre", "millimetres"), 1e7)
ANGSTROMS |= dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e10)
#: A pixel size below this, Å/px, that a user gives is one in nm, down to a tenth of it.
NANOMETRES = 0.02
#: Units that leave the pixel size unknown. Inch and cm are print resolutions, which ImageJ copies from TIFF tags.
UNCALIBRATED = {"", "none", "<undefined>", "px", "pixel", "pixels", "inch", "inches", "in", "cm"}


class Axis(NamedTuple):
    """The calibration of one axis of an image: the size of a pixel along it, in some unit."""

    scale: float
    unit: str | None


def pixel_size(source: Path, axes: Sequence[Axis]) -> float | None:
    """Pixel size in Å/px from the calibration of the (Y, X) axes; None where they have none.

    Raises:
        InputError: they are calibrated in something that is no length, or the pixels are not square within 1 %.
    """
    sizes = []
    for axis in axes:
        unit = unicodedata.normalize("NFKC", str(axis.unit or "")).strip().strip("\0").casefold()
        unit = re.sub(r"^\[(.*)\]$", r"\1", unit)  # as Berkeley EMD files write them
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


def parse_sampling(sampling: Any, name: str = "sampling") -> float:
    """A pixel size that the user gave, Å/px.

    Raises:
        InputError: it is not one number between 0.01 and 5.
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
