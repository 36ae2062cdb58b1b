"""Supports of a particle: none, a film of amorphous carbon perpendicular to the beam, or ceria seen edge-on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.ranges import Range, parse_number
from hrtem.samples.amorphous import amorphous_carbon
from hrtem.samples.base import smooth_noise
from hrtem.samples.crystal import frame

#: Kinds of support and their elements.
KINDS: dict[str, tuple[str, ...]] = {"vacuum": (), "carbon": ("C",), "ceria": ("Ce", "O")}

#: Cubic lattice constant of CeO2, Å.
CERIA = 5.411

#: Spacing of the O-Ce-O trilayers along [111], Å.
TRILAYER = CERIA / np.sqrt(3.0)

#: Distance between a carbon film and the particle, Å.
CARBON_GAP = 2.2

#: Range of the distance between the planes of metal and of oxygen at the interface with ceria, Å.
CERIA_GAP = (2.2, 2.6)

#: Smallest distance of the atoms of ceria from the particle, Å.
CLEARANCE = 2.1


class Support:
    """Draws supports.

    Args:
        support: list of kinds, of ``vacuum``, ``carbon`` and ``ceria``, from which each draw takes one with equal
            probability; a kind listed twice is twice as frequent.
        carbon_thickness: thickness of the film, Å, a number or a range.
        carbon_edge: probability that the film ends within the field.
        ceria_thickness: thickness of the slab along the beam, Å, a number or a range.
        ceria_step: probability of a step of one trilayer, up or down, on each side of the particle.
        ceria_vacancy: fraction of missing atoms in the surface trilayer, a number or a range.
    """

    def __init__(
        self,
        support: str | Sequence[str] = ("vacuum",),
        carbon_thickness: Any = 20.0,
        carbon_edge: float = 0.0,
        ceria_thickness: Any = 25.0,
        ceria_step: float = 0.0,
        ceria_vacancy: Any = 0.0,
    ) -> None:
        kinds = [support] if isinstance(support, str) else support
        if not isinstance(kinds, Sequence) or not kinds or any(kind not in KINDS for kind in kinds):
            raise InputError(f"sample.support must be one or several of {list(KINDS)}, got {support!r}.")
        self.kinds = tuple(kinds)
        self.carbon_thickness = Range.parse(
            "sample.carbon_thickness", carbon_thickness, unit="Å", minimum=2.0, maximum=200.0
        )
        self.carbon_edge = parse_number("sample.carbon_edge", carbon_edge, minimum=0.0, maximum=1.0)
        self.ceria_thickness = Range.parse(
            "sample.ceria_thickness", ceria_thickness, unit="Å", minimum=5.0, maximum=200.0
        )
        self.ceria_step = parse_number("sample.ceria_step", ceria_step, minimum=0.0, maximum=1.0)
        self.ceria_vacancy = Range.parse("sample.ceria_vacancy", ceria_vacancy, minimum=0.0, maximum=0.5)

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements of all kinds of support that may be drawn."""
        return tuple(dict.fromkeys(element for kind in self.kinds for element in KINDS[kind]))

    def draw(self, rng: np.random.Generator) -> str:
        """Draw a kind of support."""
        return self.kinds[rng.integers(len(self.kinds))]

    def carbon(self, particle: np.ndarray, extent: float, rng: np.random.Generator) -> Atoms:
        """Draw a film across the field, upstream or downstream of the ``particle`` ``(N, 3)`` Å along the beam."""
        thickness = self.carbon_thickness.draw(rng)
        # With fewer repulsion steps than the default, bonds are 0.2 % too short, in a third of the time.
        positions = amorphous_carbon((extent, extent, thickness), rng, steps=20)
        if rng.random() < self.carbon_edge:
            angle = rng.uniform(0.0, 2.0 * np.pi)
            across = (positions[:, :2] - extent / 2) @ np.array([np.cos(angle), np.sin(angle)])
            ragged = 2.0 * smooth_noise(positions[:, :2], 6.0, rng)
            positions = positions[across + ragged < rng.uniform(-0.3, 0.4) * extent]
        if rng.random() < 0.5:
            positions[:, 2] += particle[:, 2].max() + CARBON_GAP
        else:
            positions[:, 2] += particle[:, 2].min() - CARBON_GAP - thickness
        return Atoms(["C"] * len(positions), positions)

    def ceria(self, particle: np.ndarray, reach: float, rng: np.random.Generator) -> Atoms:
        """Draw a slab below the ``particle``, with its (111) surface edge-on and its [110] along the beam.

        Args:
            particle: ``(N, 3)`` Å; the atoms with the largest y stand on the slab.
            reach: extent of the slab from the origin, to both sides in x and in y, Å.
            rng: random generator.
        """
        thickness = self.ceria_thickness.draw(rng)
        foot = particle[particle[:, 1] > particle[:, 1].max() - 1.0]
        surface = foot[:, 1].max() + rng.uniform(*CERIA_GAP)
        numbers, positions = _fluorite(reach, max(reach - surface, TRILAYER), thickness / 2 + 5.0)
        positions += rng.uniform(0.0, 1.0, size=3) * [CERIA * np.sqrt(1.5), 0.0, CERIA / np.sqrt(2.0)]
        trilayer = np.round(positions[:, 1] / TRILAYER)
        x, z = positions[:, 0], positions[:, 2]
        # Index of the uppermost trilayer: 0 under the particle, ±1 beyond a step.
        level = np.zeros(len(positions))
        for beyond in (x > foot[:, 0].max() + rng.uniform(2.0, 25.0), x < foot[:, 0].min() - rng.uniform(2.0, 25.0)):
            if rng.random() < self.ceria_step:
                level[beyond] = rng.choice([-1.0, 1.0])
        keep = trilayer >= level
        keep &= (trilayer > level) | (rng.random(len(positions)) >= self.ceria_vacancy.draw(rng))
        for side in (z, -z):
            keep &= side < thickness / 2 + 1.5 * smooth_noise(positions[:, :2], 10.0, rng)
        numbers, positions = numbers[keep], positions[keep]
        # The origin of y was the Ce plane of the top trilayer, a quarter of a trilayer spacing below its O plane.
        shift = (particle[:, 2].max() + particle[:, 2].min()) / 2 + rng.uniform(-0.2, 0.2) * thickness
        positions += [0.0, surface + TRILAYER / 4, shift]
        away, _ = cKDTree(particle).query(positions, distance_upper_bound=CLEARANCE)
        return _bound(Atoms(numbers[away > CLEARANCE], positions[away > CLEARANCE]))


def _fluorite(width: float, depth: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Build CeO2 in at least ``|x| < width``, ``-TRILAYER < y < depth``, ``|z| < half``, Å.

    x is along [1 -1 -2], y normal to (111) with Ce planes at multiples of :data:`TRILAYER`, z along [1 1 0].

    Returns:
        Atomic numbers and positions, Å.
    """
    quarters = np.mgrid[[slice(-8, 9)] * 3].reshape(3, -1).T
    cerium = np.all(quarters % 2 == 0, axis=1) & (quarters.sum(axis=1) % 4 == 0)
    oxygen = np.all(quarters % 2 == 1, axis=1)
    numbers = np.where(cerium, 58, 8)[cerium | oxygen]
    positions = quarters[cerium | oxygen] @ frame((1, 1, 0), (1, -1, 1)) * CERIA / 4
    cell = CERIA * np.array([np.sqrt(1.5), np.sqrt(3.0), np.sqrt(0.5)])
    inside = np.all((positions >= -1e-6) & (positions < cell - 1e-6), axis=1)
    numbers, positions = numbers[inside], positions[inside]
    low = np.floor(np.array([-width, -2.0 * TRILAYER, -half]) / cell).astype(int) - 1
    high = np.ceil(np.array([width, depth, half]) / cell).astype(int) + 1
    shifts = np.mgrid[[slice(a, b) for a, b in zip(low, high, strict=True)]].reshape(3, -1).T * cell
    positions = (positions[None] + shifts[:, None]).reshape(-1, 3)
    return np.tile(numbers, len(shifts)), positions


def _bound(atoms: Atoms) -> Atoms:
    """Remove from CeO2 the O atoms with fewer than 2 of 4 Ce neighbours and the Ce atoms with fewer than 4 of 8 O."""
    for _ in range(2):
        pairs = cKDTree(atoms.positions).query_pairs(2.6, output_type="ndarray")  # Ce-O 2.34, O-O 2.71
        bonds = np.bincount(pairs.ravel(), minlength=len(atoms))
        atoms = atoms[bonds >= np.where(atoms.numbers == 8, 2, 4)]
    return atoms
