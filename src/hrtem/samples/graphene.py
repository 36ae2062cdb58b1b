"""Single-layer graphene with grain boundaries, loops, rotated bonds, vacancies, adatoms, holes and edges."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.ranges import Range, parse_number
from hrtem.samples.base import rotation
from hrtem.samples.relaxation import relax
from hrtem.samples.rings import RingNetwork, spread
from hrtem.samples.sheet import RIM, Sheet

#: Height of a carbon atom on a bridge site, Å (Lehtinen et al., Phys. Rev. Lett. 91, 017202, 2003).
ADATOM_HEIGHT = 1.87

#: Probabilities that 0, 1 or 2 bonds of a divacancy are rotated: 5-8-5, 555-777, 5555-6-7777 rings.
RECONSTRUCTIONS = (0.4, 0.4, 0.2)

#: Shortest allowed bond in a loop, in units of the bond length of graphene.
SHORTEST = 0.89


class CarbonSheet(Sheet):
    """A sheet of three-coordinated carbon, drawn as a network of rings, see :class:`RingNetwork`.

    Args:
        name: name of the sample.
        classes: ``("C",)``.
        extent: side of the field of view, Å.
        rms_displacement: thermal displacement of C, Å.
        lattice_constant: 2.46 Å for graphene.
        bond_rotation: fraction of the bonds that are rotated (Stone-Wales), a number or a range.
        divacancy: fraction of the atoms that are missing in pairs, a number or a range; each pair is reconstructed to
            5-8-5, 555-777 or 5555-6-7777 rings.
        vacancy: fraction of the atoms that are missing one by one and leave open bonds, a number or a range.
        adatom: number of carbon atoms on bridge sites above or below the sheet, as a fraction of its atoms, a number or
            a range. Adatoms are too close to two atoms of the sheet to be resolved, and belong to no column.
        sheet: holes, edges, strain, corrugation, tilt and contamination, see :class:`Sheet`.
    """

    known_classes = ("C",)

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        lattice_constant: float = 2.46,
        bond_rotation: Any = 0.0,
        divacancy: Any = 0.0,
        vacancy: Any = 0.0,
        adatom: Any = 0.0,
        **sheet: Any,
    ) -> None:
        super().__init__(name, classes, extent, rms_displacement, **sheet)
        self.lattice_constant = Range.parse(
            "sample.lattice_constant", lattice_constant, unit="Å", minimum=2.0, maximum=3.0
        )
        self.bond_rotation = Range.parse("sample.bond_rotation", bond_rotation, minimum=0.0, maximum=0.1)
        self.divacancy = Range.parse("sample.divacancy", divacancy, minimum=0.0, maximum=0.1)
        self.vacancy = Range.parse("sample.vacancy", vacancy, minimum=0.0, maximum=0.5)
        self.adatom = Range.parse("sample.adatom", adatom, minimum=0.0, maximum=0.1)

    @abstractmethod
    def _rings(self, a: float, rng: np.random.Generator) -> tuple[RingNetwork, float | None]:
        """Draw the ring network over the field of view and its rim, and the angle of a zigzag direction, if any."""

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one sheet; see :class:`Sample`."""
        a = self.lattice_constant.draw(rng)
        rings, orientation = self._rings(a, rng)
        self._rotate_bonds(rings, rng)
        self._remove_pairs(rings, rng)
        positions, bonds = rings.atoms()
        keep = rng.random(len(positions)) >= self.vacancy.draw(rng)
        keep &= ~self.torn(positions, rng, orientation)
        keep = _held(keep, bonds)
        bonds = np.cumsum(keep)[bonds[keep[bonds].all(axis=1)]] - 1
        flat = relax(positions[keep], bonds, a / np.sqrt(3.0)) @ self.deformation(rng)
        bridges = bonds[rng.random(len(bonds)) < self.adatom.draw(rng) * len(flat) / max(len(bonds), 1)]
        heights = ADATOM_HEIGHT * rng.choice([-1.0, 1.0], size=len(bridges))
        positions = np.concatenate(
            [np.pad(flat, ((0, 0), (0, 1))), np.column_stack([flat[bridges].mean(axis=1), heights])]
        )
        column = np.concatenate([np.arange(len(flat)), np.full(len(bridges), -1)])
        labels = np.zeros(len(flat), int)
        return self.laid_out(["C"] * len(positions), positions, column, flat, labels, rng)

    def _rotate_bonds(self, rings: RingNetwork, rng: np.random.Generator) -> None:
        pairs = rings.neighbours
        for first, second in pairs[rng.random(len(pairs)) < self.bond_rotation.draw(rng)]:
            if rings.among_hexagons(first, second):
                rings.rotate(first, second)

    def _remove_pairs(self, rings: RingNetwork, rng: np.random.Generator) -> None:
        """Make divacancies at random places among hexagons."""
        number = rng.poisson(0.5 * self.divacancy.draw(rng) * len(rings.triangles))
        if not number:
            return
        for first, second in rng.permutation(rings.neighbours)[: 4 * number]:
            if number and rings.among_hexagons(first, second):
                rings.remove(first, second)
                for _ in range(rng.choice(3, p=RECONSTRUCTIONS)):
                    _reconstruct(rings, first, rng)
                number -= 1


class Graphene(CarbonSheet):
    """A sheet of graphene: one crystal or several grains, with closed loops of five- and seven-membered rings.

    Args:
        grain_boundary: probability that the field contains two or three grains.
        loop: probability of a grain boundary loop (Cockayne et al., Phys. Rev. B 83, 195425, 2011): an elliptic piece
            of the lattice, rotated by 30° about the centre of a ring, a bond or an atom. The smallest loop, a rotated
            piece of seven rings, is the flower defect of six pentagons and six heptagons.
        loop_radius: geometric mean of the semi-axes of the rotated piece, Å, a number or a range.
        loop_aspect: ratio of the semi-axes, a number or a range.
        sheet: see :class:`CarbonSheet`.
    """

    def __init__(
        self,
        *arguments: Any,
        grain_boundary: float = 0.0,
        loop: float = 0.0,
        loop_radius: Any = 3.0,
        loop_aspect: Any = 1.0,
        **sheet: Any,
    ) -> None:
        super().__init__(*arguments, **sheet)
        self.grain_boundary = parse_number("sample.grain_boundary", grain_boundary, minimum=0.0, maximum=1.0)
        self.loop = parse_number("sample.loop", loop, minimum=0.0, maximum=1.0)
        self.loop_radius = Range.parse("sample.loop_radius", loop_radius, unit="Å", minimum=2.0, maximum=50.0)
        self.loop_aspect = Range.parse("sample.loop_aspect", loop_aspect, minimum=1.0, maximum=5.0)

    def _rings(self, a: float, rng: np.random.Generator) -> tuple[RingNetwork, float | None]:
        low, high = -RIM, self.extent + RIM
        grains = 1 + (int(rng.integers(1, 3)) if rng.random() < self.grain_boundary else 0)
        seeds = rng.uniform(0.0, self.extent, size=(grains, 2))
        reach = int(np.ceil(1.5 * (high - low) / a))
        i, j = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
        lattice = a * np.column_stack([i + 0.5 * j, np.sqrt(0.75) * j])
        pieces: list[np.ndarray] = []
        angle = 0.0
        for grain in range(grains):
            angle = rng.uniform(0.0, 2.0 * np.pi)
            points = lattice @ rotation(angle) + rng.uniform(0.0, a, size=2) + self.extent / 2
            points = points[np.all((points > low) & (points < high), axis=1)]
            points = points[cKDTree(seeds).query(points)[1] == grain]
            if pieces and len(points):
                distance, _ = cKDTree(np.concatenate(pieces)).query(points)
                points = points[distance > 0.7 * a]
            pieces.append(points)
        centres = np.concatenate(pieces)
        if grains > 1:
            centres = spread(centres, a)
        if rng.random() < self.loop:
            centres = self._looped(centres, a, rng)
        rings = RingNetwork(centres, a)
        rings.mend(np.all((centres > low + 2.0 * a) & (centres < high - 2.0 * a), axis=1))
        return rings, angle if grains == 1 else None

    def _looped(self, centres: np.ndarray, a: float, rng: np.random.Generator) -> np.ndarray:
        """Rotate a piece of the lattice by 30 degrees and return the ring centres.

        The piece is drawn again if its outline produces rings with fewer than five or more than seven sides, or bonds
        that are far too short.
        """
        for _ in range(20):
            away = np.linalg.norm(centres - rng.uniform(0.0, self.extent, size=2), axis=1)
            # One ring, two that share a bond, or three that share an atom.
            middle = centres[np.argsort(away)[: rng.integers(1, 4)]].mean(axis=0)
            radius, stretch = self.loop_radius.draw(rng), np.sqrt(self.loop_aspect.draw(rng))
            away = np.linalg.norm(centres - middle, axis=1)
            near = np.flatnonzero(away < radius * stretch + 5.0 * a)
            local = centres[near] - middle
            along = local @ rotation(rng.uniform(0.0, np.pi))
            piece = np.linalg.norm(along * [1.0 / stretch, stretch], axis=1) < radius
            local[piece] = local[piece] @ rotation(np.pi / 6.0)
            local = spread(local, a)
            rings = RingNetwork(local, a)
            if _physical(rings, a, radius * stretch + 2.5 * a):
                looped = centres.copy()
                looped[near] = local + middle
                return looped
        return centres


def _physical(rings: RingNetwork, a: float, radius: float) -> bool:
    """Whether all rings within ``radius`` of the origin have five to seven sides and relax without short bonds."""
    inside = np.linalg.norm(rings.centres, axis=1) < radius
    if np.any(np.abs(rings.sizes[inside] - 6) > 1):
        return False
    positions, bonds = rings.atoms()
    ends = relax(positions, bonds, a / np.sqrt(3.0), steps=50)[bonds]
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    return bool(lengths[np.linalg.norm(ends[:, 0], axis=1) < radius].min() > SHORTEST * a / np.sqrt(3.0))


def _reconstruct(rings: RingNetwork, large: int, rng: np.random.Generator) -> None:
    """Rotate a bond between a large ring and a hexagon that has hexagons at both ends, if such a bond exists."""
    sizes = rings.sizes
    pairs = rings.neighbours
    hexagons = pairs[(pairs == large).any(axis=1)].sum(axis=1) - large
    for hexagon in rng.permutation(hexagons[sizes[hexagons] == 6]):
        _, ends = rings.bond(large, hexagon)
        if len(ends) == 2 and np.all(sizes[ends] == 6):
            rings.rotate(large, hexagon)
            return


def _held(keep: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """``keep``, bool ``(N,)``, without atoms that have fewer than two bonds and would not survive the beam."""
    while True:
        alive = keep[bonds].all(axis=1)
        coordination = np.bincount(bonds[alive].ravel(), minlength=len(keep))
        if np.all(coordination[keep] >= 2):
            return keep
        keep = keep & (coordination >= 2)
