"""Detection of settings in customary units such as nm, mm and keV instead of the Å and eV of this package."""

from __future__ import annotations

import logging

from hrtem.errors import InputError
from hrtem.ranges import Range

log = logging.getLogger(__name__)

#: Smallest beam energy of a transmission electron microscope, eV.
SMALLEST_ENERGY = 1e4
#: Smallest spherical aberration of real lenses and correctors, Å; smaller numbers are in mm or µm.
SMALLEST_CS = 1e3
#: Largest defocus, Å, that is suspiciously small: possible but rare in Å, common in nm.
SMALL_DEFOCUS = 20.0


def question_units(energy: float, Cs: Range, defocus: Range) -> None:
    """Reject numbers that only make sense in another unit, and warn about numbers that are probably in another unit.

    Args:
        energy: eV.
        Cs, defocus: Å.

    Raises:
        InputError: Cs is in mm or µm, or the energy in keV.
    """
    if energy < SMALLEST_ENERGY:
        raise InputError(
            f"optics.energy is in eV and must be at least {SMALLEST_ENERGY:g}, got {energy:g}; {energy:g} keV are "
            f"{energy:g}e+3."
        )
    aberration = max(abs(Cs.low), abs(Cs.high))
    if 0.0 < aberration < SMALLEST_CS:
        raise InputError(
            f"optics.Cs is in Å, and {aberration:g} Å is smaller than any that a lens has; {aberration:g} mm are "
            f"{1e7 * aberration:g}, {aberration:g} µm are {1e4 * aberration:g}."
        )
    largest = max(abs(defocus.low), abs(defocus.high))
    if 0.0 < largest <= SMALL_DEFOCUS and defocus.low != defocus.high:
        log.warning(
            "optics.defocus = [%g, %g] is in Å; in nm it would be [%g, %g].",
            defocus.low, defocus.high, 10.0 * defocus.low, 10.0 * defocus.high,
        )  # fmt: skip
