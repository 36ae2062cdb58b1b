"""A single layer of 1H-MoS2 or a related dichalcogenide, with vacancies and antisites on both sublattices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range, parse_number
from hrtem.samples.base import rotation
from hrtem.samples.sheet import RIM, Sheet

#: Lattice constant and distance of the chalcogen planes, Å. The lattice constants were measured on bulk 2H crystals at
#: room temperature (Wilson and Yoffe, Adv. Phys. 18, 193, 1969); the plane distances are calculated for single layers
#: (PBE, Ding et al., Physica B 406, 2254, 2011, and the Computational 2D Materials Database). For the 1H tellurides of
#: W, Nb and Ta, which prefer distorted structures in nature, both values are calculated. All are accurate to about 1 %.
LATTICES = {
    ("Mo", "S"): (3.16, 3.13),
    ("Mo", "Se"): (3.29, 3.34),
    ("Mo", "Te"): (3.52, 3.61),
    ("W", "S"): (3.15, 3.14),
    ("W", "Se"): (3.28, 3.35),
    ("W", "Te"): (3.55, 3.63),
    ("Nb", "S"): (3.32, 3.13),
    ("Nb", "Se"): (3.44, 3.37),
    ("Nb", "Te"): (3.70, 3.68),
    ("Ta", "S"): (3.31, 3.13),
    ("Ta", "Se"): (3.43, 3.35),
    ("Ta", "Te"): (3.70, 3.68),
}

#: Sublattices, the first axis of all arrays of sites.
METAL, CHALCOGEN = 0, 1

#: Occupation of a site, and the number of atoms of each occupation.
EMPTY, ONE_METAL, ONE_CHALCOGEN, TWO_CHALCOGENS = range(4)
COUNTS = np.array([0, 1, 1, 2])


class MoS2(Sheet):
    """A 1H sheet perpendicular to the beam: Mo columns of one atom, S2 columns of two, or another metal and chalcogen.

    The class of a column describes its atoms, independent of the sublattice: a Mo atom on an S2 site has the class Mo.
    A chalcogen site that lost its upper or lower atom is an S column. A site that lost all of its atoms is a column of
    count 0 and is labelled as a vacancy if at least two of its three nearest sites are occupied and the third is
    occupied or a vacancy too. Holes, the region beyond an edge, and large clusters of vacancies carry no labels. Atoms
    do not relax around a defect.

    Sites are stored in arrays ``(2, n, n)`` over sublattice and lattice vectors, so neighbours need no search.

    Args:
        name: name of the sample.
        classes: ``("Mo", "S2", "S", "Mo vacancy", "S2 vacancy")`` in any order, with ``metal`` for Mo and
            ``chalcogen`` for S.
        extent: side of the field of view, Å.
        rms_displacement: thermal displacement of each element, Å.
        metal: element.
        chalcogen: element.
        lattice_constant: a, Å, a number or a range; null takes the value of :data:`LATTICES`.
        thickness: distance of the two chalcogen planes, Å; null takes the value of :data:`LATTICES`.
        metal_vacancy: fraction of the metal atoms that are missing, a number or a range.
        single_chalcogen_vacancy: fraction of the chalcogen columns that lack one atom, a number or a range.
        double_chalcogen_vacancy: fraction of the chalcogen columns that lack both atoms, a number or a range.
        metal_antisite: fraction of the chalcogen sites occupied by a metal atom, a number or a range.
        chalcogen_antisite: fraction of the metal sites occupied by one or two chalcogen atoms, a number or a range.
        disorder: fraction of the sites occupied by metal or chalcogen at random, a number or a range. At 1, the
            neighbours of a column carry no information about its species; a vacancy is still named after its
            sublattice.
        disorder_probability: fraction of the sheets to which ``disorder`` applies.
        sheet: holes, edges, strain, corrugation, tilt and contamination, see :class:`Sheet`.
    """

    #: Part of the cache key, so that records drawn under other labelling rules are not read.
    fingerprint = "vacancies beside one vacancy are labelled"

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        metal: str = "Mo",
        chalcogen: str = "S",
        lattice_constant: Any = None,
        thickness: float | None = None,
        metal_vacancy: Any = 0.0,
        single_chalcogen_vacancy: Any = 0.0,
        double_chalcogen_vacancy: Any = 0.0,
        metal_antisite: Any = 0.0,
        chalcogen_antisite: Any = 0.0,
        disorder: Any = 0.0,
        disorder_probability: float = 1.0,
        **sheet: Any,
    ) -> None:
        for key, element in (("metal", metal), ("chalcogen", chalcogen)):
            if element not in chemical_symbols[1:]:
                raise InputError(f"sample.{key} must be the symbol of an element, got {element!r}.")
        if metal == chalcogen:
            raise InputError(f"sample.metal and sample.chalcogen must differ, got {metal} twice.")
        if (lattice_constant is None or thickness is None) and (metal, chalcogen) not in LATTICES:
            known = ", ".join(f"{one}{other}2" for one, other in LATTICES)
            raise InputError(
                f"sample.lattice_constant and sample.thickness of {metal}{chalcogen}2 must be given in Å; known are "
                f"only those of {known}."
            )
        usual = LATTICES.get((metal, chalcogen), (None, None))
        self.metal, self.chalcogen = metal, chalcogen
        self.known_classes = (metal, f"{chalcogen}2", chalcogen, f"{metal} vacancy", f"{chalcogen}2 vacancy")
        super().__init__(name, classes, extent, rms_displacement, **sheet)
        self.lattice_constant = Range.parse(
            "sample.lattice_constant",
            usual[0] if lattice_constant is None else lattice_constant,
            unit="Å",
            minimum=2.5,
            maximum=4.5,
        )
        self.thickness = parse_number(
            "sample.thickness", usual[1] if thickness is None else thickness, unit="Å", minimum=2.0, maximum=5.0
        )
        self.metal_vacancy = Range.parse("sample.metal_vacancy", metal_vacancy, minimum=0.0, maximum=0.5)
        self.single = Range.parse("sample.single_chalcogen_vacancy", single_chalcogen_vacancy, minimum=0.0, maximum=1.0)
        self.double = Range.parse("sample.double_chalcogen_vacancy", double_chalcogen_vacancy, minimum=0.0, maximum=0.5)
        if self.single.high + self.double.high > 1.0:
            raise InputError(
                "sample.single_chalcogen_vacancy and sample.double_chalcogen_vacancy are fractions of the same sites "
                f"and must not exceed 1 together, got up to {self.single.high:g} and {self.double.high:g}."
            )
        self.antisite = (
            Range.parse("sample.chalcogen_antisite", chalcogen_antisite, minimum=0.0, maximum=0.5),
            Range.parse("sample.metal_antisite", metal_antisite, minimum=0.0, maximum=0.5),
        )
        self.disorder = Range.parse("sample.disorder", disorder, minimum=0.0, maximum=1.0)
        self.disorder_probability = parse_number(
            "sample.disorder_probability", disorder_probability, minimum=0.0, maximum=1.0
        )

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one sheet; see :class:`Sample`."""
        sites, orientation = self._sites(rng)
        occupant = self._occupants(sites.shape[:3], rng)
        removed = self.torn(sites.reshape(-1, 2), rng, orientation).reshape(occupant.shape)
        # Remove atoms with a single bond at a rim, and isolated atoms within a cluster of vacancies.
        present = _bound(_bound(~removed, bonds=2) & (occupant != EMPTY), bonds=1)
        empty = (occupant == EMPTY) & ~removed
        vacant = empty & (_neighbours(present) >= 2) & (_neighbours(present | empty) == 3)
        occupant = np.where(present, occupant, EMPTY)
        shown = present | vacant
        # A single chalcogen sits above or below with equal probability.
        above = rng.random(occupant.shape) < 0.5
        two, one = occupant == TWO_CHALCOGENS, occupant == ONE_CHALCOGEN
        planes = [
            (self.metal, occupant == ONE_METAL, 0.0),
            (self.chalcogen, two | (one & above), self.thickness / 2),
            (self.chalcogen, two | (one & ~above), -self.thickness / 2),
        ]
        symbols = [symbol for symbol, where, _ in planes for _ in range(int(where.sum()))]
        positions = np.concatenate(
            [np.pad(sites[where], ((0, 0), (0, 1)), constant_values=z) for _, where, z in planes]
        )
        order = np.cumsum(shown.ravel()).reshape(shown.shape) - 1
        column = np.concatenate([order[where] for _, where, _ in planes])
        metal, pair, single, no_metal, no_pair = (self.label(each) for each in self.known_classes)
        # Class by sublattice (rows) and occupation (columns).
        names = np.array([[no_metal, metal, single, pair], [no_pair, metal, single, pair]])
        labels = names[np.nonzero(shown)[0], occupant[shown]]
        return self.laid_out(symbols, positions, column, sites[shown], labels, rng)

    def _sites(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Positions ``(2, n, n, 2)`` of all sites in Å, over the field of view and its rim, and the zigzag angle."""
        a = self.lattice_constant.draw(rng)
        deformation = self.deformation(rng)
        angle = rng.uniform(0.0, 2.0 * np.pi)
        vectors = a * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]]) @ deformation @ rotation(angle)
        # Lattice rows are √3/2 a apart, or slightly less under compressive strain.
        spacing = np.sqrt(0.75) * a * np.linalg.eigvalsh(deformation)[0]
        reach = int(np.ceil((self.extent / np.sqrt(2.0) + RIM) / spacing)) + 1
        steps = np.arange(-reach, reach + 1) + rng.random((2, 1))
        metal = self.extent / 2 + steps[0][:, None, None] * vectors[0] + steps[1][None, :, None] * vectors[1]
        return np.stack([metal, metal + vectors.sum(axis=0) / 3.0]), angle

    def _occupants(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Draw the occupation of each site of an infinite sheet, int ``(2, n, n)``."""
        metal = np.zeros(shape, bool)
        metal[METAL] = True
        chance = rng.random(shape)
        swapped = np.stack(
            [chance[METAL] < self.antisite[METAL].draw(rng), chance[CHALCOGEN] < self.antisite[CHALCOGEN].draw(rng)]
        )
        metal ^= swapped
        share = self.disorder.draw(rng)
        if self.disorder_probability < 1.0 and rng.random() >= self.disorder_probability:
            share = 0.0
        disordered = rng.random(shape) < share
        metal = np.where(disordered, rng.random(shape) < 0.5, metal)
        chance = rng.random(shape)
        no_metal, single, double = self.metal_vacancy.draw(rng), self.single.draw(rng), self.double.draw(rng)
        missing = (chance < double + single).astype(int) + (chance < double)
        # One or two chalcogens replace a metal atom with equal probability.
        missing = np.where(swapped & ~disordered & ~metal, np.maximum(missing, rng.integers(2, size=shape)), missing)
        return np.where(
            metal, np.where(chance < no_metal, EMPTY, ONE_METAL), (TWO_CHALCOGENS - missing) * (missing < 2)
        )


def _neighbours(present: np.ndarray) -> np.ndarray:
    """Number of ``present`` sites among the three nearest neighbours of each site, ``(2, n, n)``."""
    metal, chalcogen = present.astype(int)
    return np.stack(
        [
            chalcogen + np.roll(chalcogen, 1, axis=0) + np.roll(chalcogen, 1, axis=1),
            metal + np.roll(metal, -1, axis=0) + np.roll(metal, -1, axis=1),
        ]
    )


def _bound(present: np.ndarray, bonds: int) -> np.ndarray:
    """Remove sites with fewer than ``bonds`` present neighbours until none is left; returns bool ``(2, n, n)``."""
    while np.any(loose := present & (_neighbours(present) < bonds)):
        present = present & ~loose
    return present
