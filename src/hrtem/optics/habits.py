"""Settings in a unit that the field uses by habit, where this package counts in Å and eV."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from hrtem.errors import InputError
from hrtem.ranges import Range

log = logging.getLogger(__name__)

#: Below this, eV, no transmission microscope works.
SMALLEST_ENERGY = 1e4
#: Below this a spherical aberration, Å, is none that a lens has or a corrector sets; it is one in mm or µm.
SMALLEST_CS = 1e3
#: A defocus within this, Å, is possible but rare; in nm it is frequent.
SMALL_DEFOCUS = 20.0


def question_units(ranges: Mapping[str, Range], energy: float) -> None:
    """Refuse numbers that only make sense in another unit, and warn of those that probably are in another one.

    Args:
        ranges: of the settings ``Cs`` and ``defocus``, Å.
        energy: eV.

    Raises:
        InputError: Cs is that of a lens in mm or µm, or the energy one in keV.
    """
    if energy < SMALLEST_ENERGY:
        raise InputError(
            f"optics.energy is in eV and must be at least {SMALLEST_ENERGY:g}, got {energy:g}; {energy:g} keV are "
            f"{energy:g}e+3."
        )
    Cs = max(abs(ranges["Cs"].low), abs(ranges["Cs"].high))
    if 0.0 < Cs < SMALLEST_CS:
        raise InputError(
            f"optics.Cs is in Å, and {Cs:g} Å is smaller than any that a lens has; {Cs:g} mm are {1e7 * Cs:g}, "
            f"{Cs:g} µm are {1e4 * Cs:g}."
        )
    defocus = ranges["defocus"]
    largest = max(abs(defocus.low), abs(defocus.high))
    if 0.0 < largest <= SMALL_DEFOCUS and defocus.low != defocus.high:
        log.warning(
            "optics.defocus = [%g, %g] is in Å; in nm it would be [%g, %g].",
            defocus.low, defocus.high, 10.0 * defocus.low, 10.0 * defocus.high,
        )  # fmt: skip
