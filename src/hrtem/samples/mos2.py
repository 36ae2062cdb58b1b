"""A single layer of 1H-MoS2 with vacancies on either sublattice, holes and edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range
from hrtem.samples.base import rotation
from hrtem.samples.sheet import RIM, Sheet

#: Vacuum above and below the sheet, Å.
VACUUM = 2.0

#: Sublattices, the first axis of all arrays of sites.
METAL, CHALCOGEN = 0, 1


class MoS2(Sheet):
    """A 1H sheet across the beam: Mo columns of one atom, S2 columns of two.

    A chalcogen site that lost one of its atoms, above or below, is an S column. A site that lost all of its
    atoms is a column of count 0, labelled as a vacancy, as long as its three nearest sites are there to tell
    where it is. Within a hole, beyond an edge or in a cluster of vacancies there is nothing to label.

    Sites are arrays ``(2, n, n)`` of sublattice and lattice vectors, so neighbours need no search.

    Args:
        name: the sample's name.
        classes: ``("Mo", "S2", "S", "Mo vacancy", "S2 vacancy")`` in any order.
        extent: side of the field of view, Å.
        rms_displacement: thermal displacement of Mo and S, Å.
        lattice_constant: a, Å, a number or a range.
        thickness: distance of the two S planes, Å.
        metal_vacancy: fraction of the Mo sites that are empty, a number or a range.
        single_chalcogen_vacancy: fraction of the chalcogen sites with one S, a number or a range.
        double_chalcogen_vacancy: fraction of the chalcogen sites without any, a number or a range.
        sheet: holes, edges, strain and corrugation, see :class:`Sheet`.
    """

    known_classes = ("Mo", "S2", "S", "Mo vacancy", "S2 vacancy")

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        lattice_constant: Any = 3.16,
        thickness: float = 3.13,
        metal_vacancy: Any = 0.0,
        single_chalcogen_vacancy: Any = 0.0,
        double_chalcogen_vacancy: Any = 0.0,
        **sheet: Any,
    ) -> None:
        super().__init__(name, classes, extent, rms_displacement, **sheet)
        self.lattice_constant = Range.parse(
            "sample.lattice_constant", lattice_constant, unit="Å", minimum=2.5, maximum=4.5
        )
        self.thickness = Range.parse("sample.thickness", thickness, unit="Å", minimum=2.0, maximum=5.0).low
        self.metal_vacancy = Range.parse("sample.metal_vacancy", metal_vacancy, minimum=0.0, maximum=0.5)
        self.single = Range.parse("sample.single_chalcogen_vacancy", single_chalcogen_vacancy, minimum=0.0, maximum=1.0)
        self.double = Range.parse("sample.double_chalcogen_vacancy", double_chalcogen_vacancy, minimum=0.0, maximum=0.5)
        if self.single.high + self.double.high > 1.0:
            raise InputError(
                "sample.single_chalcogen_vacancy and sample.double_chalcogen_vacancy are fractions of the same sites "
                f"and must not exceed 1 together, got up to {self.single.high:g} and {self.double.high:g}."
            )

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one sheet; see :class:`Sample`."""
        sites = self._sites(rng)
        filling = self._filling(sites.shape[:3], rng)
        removed = self.torn(sites.reshape(-1, 2), rng).reshape(filling.shape)
        # No atom hangs on a single bond at a rim, and none floats within a cluster of vacancies.
        present = _bound(_bound(~removed, bonds=2) & (filling > 0), bonds=1)
        vacant = (filling == 0) & ~removed & (_neighbours(present) == 3)
        inside = np.all((sites >= 0.0) & (sites < self.extent), axis=-1)
        shown = inside & (present | vacant)
        heights = self.ripples(sites.reshape(-1, 2), rng).reshape(filling.shape)
        # A lone S sits above or below with equal chance.
        above = rng.random(filling.shape) < 0.5
        sublattice = np.arange(2)[:, None, None] * np.ones_like(filling)
        metal, chalcogen = (inside & present & (sublattice == kind) for kind in (METAL, CHALCOGEN))
        upper, lower = chalcogen & ((filling == 2) | above), chalcogen & ((filling == 2) | ~above)
        planes = [("Mo", metal, 0.0), ("S", upper, self.thickness / 2), ("S", lower, -self.thickness / 2)]
        symbols = [symbol for symbol, where, _ in planes for _ in range(int(where.sum()))]
        positions = np.concatenate([np.column_stack([sites[where], heights[where] + z]) for _, where, z in planes])
        height = np.ptp(positions[:, 2]) if len(positions) else self.thickness
        atoms = Atoms(symbols, positions)
        column = np.cumsum(shown.ravel()).reshape(shown.shape) - 1
        atoms.set_array("column", np.concatenate([column[where] for _, where, _ in planes]))
        atoms = self.in_cell(atoms, thickness=height + 2.0 * VACUUM)
        # Rows are sublattices, entries are atoms in the column; a metal site never holds two.
        names = (("Mo vacancy", "Mo", "Mo"), ("S2 vacancy", "S", "S2"))
        labels = np.array([[self.label(name) for name in row] for row in names])
        return atoms, Columns(
            sites[shown], labels[sublattice[shown], filling[shown]], self.classes, counts=filling[shown]
        )

    def _sites(self, rng: np.random.Generator) -> np.ndarray:
        """Positions ``(2, n, n, 2)`` of all sites in Å, over the field of view and its rim."""
        a = self.lattice_constant.draw(rng)
        deformation = self.deformation(rng)
        vectors = a * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]]) @ deformation
        vectors = vectors @ rotation(rng.uniform(0.0, 2.0 * np.pi))
        # Rows of the lattice are √3/2 a apart, or somewhat less where strain pushes them together.
        spacing = np.sqrt(0.75) * a * np.linalg.eigvalsh(deformation)[0]
        reach = int(np.ceil((self.extent / np.sqrt(2.0) + RIM) / spacing)) + 1
        steps = np.arange(-reach, reach + 1) + rng.random((2, 1))
        metal = self.extent / 2 + steps[0][:, None, None] * vectors[0] + steps[1][None, :, None] * vectors[1]
        return np.stack([metal, metal + vectors.sum(axis=0) / 3.0])

    def _filling(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Atoms at each site of an endless sheet, int ``(2, n, n)``: 0 or 1 Mo, 0 to 2 S."""
        chance = rng.random(shape)
        metal, single, double = self.metal_vacancy.draw(rng), self.single.draw(rng), self.double.draw(rng)
        chalcogen = 2 - (chance[CHALCOGEN] < double + single).astype(int) - (chance[CHALCOGEN] < double)
        return np.stack([(chance[METAL] >= metal).astype(int), chalcogen])


def _neighbours(present: np.ndarray) -> np.ndarray:
    """How many of its three nearest sites are ``present``, for each site ``(2, n, n)``."""
    metal, chalcogen = present.astype(int)
    return np.stack(
        [
            chalcogen + np.roll(chalcogen, 1, axis=0) + np.roll(chalcogen, 1, axis=1),
            metal + np.roll(metal, -1, axis=0) + np.roll(metal, -1, axis=1),
        ]
    )


def _bound(present: np.ndarray, bonds: int) -> np.ndarray:
    """The sites ``present`` that keep at least so many ``bonds`` when all others are lost, as bool ``(2, n, n)``."""
    while np.any(loose := present & (_neighbours(present) < bonds)):
        present = present & ~loose
    return present
