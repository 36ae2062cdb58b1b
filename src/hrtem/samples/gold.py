"""Gold nanoparticles seen close to a zone axis, and those of any other fcc metal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range
from hrtem.samples.base import Sample, rotation

#: A crystal direction that lies across each zone axis and becomes x before the in-plane rotation.
ACROSS = {(1, 0, 0): (0, 1, 0), (1, 1, 0): (0, 0, 1), (1, 1, 1): (1, -1, 0)}

#: Normals ``(14, 3)`` of the eight {111} and the six {100} facets.
FACETS = np.array([*product((-1, 1), repeat=3), *np.eye(3, dtype=int), *-np.eye(3, dtype=int)])

#: Vacuum above and below the particle, Å.
VACUUM = 2.0


class Gold(Sample):
    """A single-crystalline fcc particle with {111} and {100} facets and a rough surface.

    The shape follows Wulff's construction: each facet lies at a distance from the centre that is proportional
    to its surface energy, here with a random factor for each facet, since particles on a support are seldom
    in equilibrium. Erosion then takes surface atoms, the ones with the fewest bonds first of all.

    Args:
        name: the sample's name.
        classes: the element, ``("Au",)``.
        extent: side of the field of view, Å; what a particle has outside of it is cut off.
        rms_displacement: thermal displacement of the element, Å.
        element: symbol of an fcc metal; the name of its class.
        lattice_constant: cubic, Å, a number or a range.
        zone_axes: directions along the beam, of the families [1, 0, 0], [1, 1, 0] and [1, 1, 1]; each particle
            takes one of them.
        diameter: of the sphere of equal volume before erosion, Å, a number or a range.
        tilt: angle between zone axis and beam, degrees, a number or a range; its azimuth is random.
        surface_energy_ratio: energy of a {100} over that of a {111} facet, a number or a range.
        facet_spread: each facet's distance varies by at most this fraction to either side.
        roughness: in each of three rounds of erosion an atom with n of 12 bonds is lost with the probability
            ``roughness (1 - n/12)``; a number or a range.
        offset: distance of the particle's centre from the centre of the field, Å, a number or a range.
    """

    known_classes = ("Au",)

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        element: str = "Au",
        lattice_constant: Any = 4.078,
        zone_axes: Sequence[Sequence[int]] = ((1, 1, 0),),
        diameter: Any = 25.0,
        tilt: Any = 0.0,
        surface_energy_ratio: Any = 1.15,
        facet_spread: Any = 0.0,
        roughness: Any = 0.0,
        offset: Any = 0.0,
    ) -> None:
        if element not in atomic_numbers or element == "X":
            raise InputError(f"sample.element must be the symbol of an fcc metal, got {element!r}.")
        self.known_classes = (element,)
        super().__init__(name, classes, extent, rms_displacement)
        self.element = element
        self.lattice_constant = Range.parse(
            "sample.lattice_constant", lattice_constant, unit="Å", minimum=3.0, maximum=6.0
        )
        self.zone_axes = [_zone_axis(axis) for axis in _listed(zone_axes)]
        self.diameter = Range.parse("sample.diameter", diameter, unit="Å", minimum=8.0, maximum=100.0)
        self.tilt = Range.parse("sample.tilt", tilt, unit="degrees", minimum=0.0, maximum=10.0)
        self.surface_energy_ratio = Range.parse(
            "sample.surface_energy_ratio", surface_energy_ratio, minimum=0.5, maximum=2.0
        )
        self.facet_spread = Range.parse("sample.facet_spread", facet_spread, minimum=0.0, maximum=0.4)
        self.roughness = Range.parse("sample.roughness", roughness, minimum=0.0, maximum=1.0)
        self.offset = Range.parse("sample.offset", offset, unit="Å", minimum=0.0, maximum=self.extent / 2)

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one particle; see :class:`Sample`."""
        a = self.lattice_constant.draw(rng)
        axis = self.zone_axes[rng.integers(len(self.zone_axes))]
        sites = _eroded(self._facetted(a, rng), self.roughness.draw(rng), rng)
        # Sites are integers, in a/2. Those on one line along the zone axis share their cross product with it,
        # which tells the columns apart exactly, however much the tilt then smears them.
        _, column = np.unique(np.cross(sites, axis), axis=0, return_inverse=True)
        positions = _placed(sites * a / 2, axis, rng.uniform(0.0, 2.0 * np.pi))
        tilt, azimuth = np.radians(self.tilt.draw(rng)), rng.uniform(0.0, 2.0 * np.pi)
        positions = Rotation.from_rotvec(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])).apply(positions)
        direction = rng.uniform(0.0, 2.0 * np.pi)
        offset = self.offset.draw(rng) * np.array([np.cos(direction), np.sin(direction)])
        positions[:, :2] += self.extent / 2 + offset - positions[:, :2].mean(axis=0)
        atoms = Atoms([self.element] * len(positions), positions)
        atoms.set_array("column", column.reshape(-1))
        atoms = self.in_cell(atoms, thickness=np.ptp(positions[:, 2]) + 2.0 * VACUUM)
        _, column, counts = np.unique(atoms.arrays["column"], return_inverse=True, return_counts=True)
        atoms.set_array("column", column)
        xy = [np.bincount(column, atoms.positions[:, i], len(counts)) / counts for i in (0, 1)]
        labels = np.full(len(counts), self.label(self.element))
        return atoms, Columns(np.column_stack(xy), labels, self.classes, counts=counts)

    def _facetted(self, a: float, rng: np.random.Generator) -> np.ndarray:
        """Sites ``(N, 3)`` of a particle with whole facets, int in a/2."""
        diameter = self.diameter.draw(rng)
        reach = int(np.ceil(2.0 * diameter / a)) + 1
        sites = np.mgrid[[slice(-reach, reach + 1)] * 3].reshape(3, -1).T
        sites = sites[sites.sum(axis=1) % 2 == 0]
        spread = self.facet_spread.draw(rng)
        energies = np.where(np.abs(FACETS).sum(axis=1) == 1, self.surface_energy_ratio.draw(rng), 1.0)
        energies = energies * rng.uniform(1.0 - spread, 1.0 + spread, size=len(FACETS))
        normals = FACETS / np.linalg.norm(FACETS, axis=1, keepdims=True)
        # The size of the smallest Wulff shape that holds a site, and then the size that holds the right number.
        centre = rng.uniform(-1.0, 1.0, size=3)
        size = ((sites - centre) @ (normals / energies[:, None]).T).max(axis=1)
        number = round(4.0 * np.pi / 6.0 * (diameter / a) ** 3)
        # All sites of the outermost layer have one size, but for rounding: a facet is whole.
        return sites[size <= np.partition(size, number - 1)[number - 1] + 1e-9]


def _listed(zone_axes: Any) -> list[Any]:
    axes = list(zone_axes) if isinstance(zone_axes, Sequence) and not isinstance(zone_axes, str) else []
    if not axes:
        raise InputError(f"sample.zone_axes must be a list of directions such as [[1, 1, 0]], got {zone_axes!r}.")
    return axes


def _zone_axis(axis: Any) -> tuple[int, int, int]:
    """The member of the direction's family that :data:`ACROSS` names."""
    try:
        u, v, w = sorted((abs(int(index)) for index in axis), reverse=True)
    except (TypeError, ValueError):
        u, v, w = 0, 0, 0
    if (u, v, w) not in ACROSS:
        raise InputError(
            f"sample.zone_axes holds {axis!r}, and a zone axis must be one of {[list(known) for known in ACROSS]}."
        )
    return u, v, w


def _placed(positions: np.ndarray, axis: tuple[int, int, int], angle: float) -> np.ndarray:
    """Crystal ``positions`` ``(N, 3)`` turned so that ``axis`` lies along z, and then by ``angle`` about it."""
    z, x = (np.array(vector) / np.linalg.norm(vector) for vector in (axis, ACROSS[axis]))
    positions = positions @ np.stack([x, np.cross(z, x), z], axis=1)
    positions[:, :2] = positions[:, :2] @ rotation(angle)
    return positions


def _eroded(sites: np.ndarray, roughness: float, rng: np.random.Generator, rounds: int = 3) -> np.ndarray:
    """The ``sites`` ``(N, 3)`` that are left after random losses from the surface."""
    pairs = cKDTree(sites).query_pairs(1.5, output_type="ndarray")  # √2 a/2 between nearest neighbours

    def bonds(keep: np.ndarray) -> np.ndarray:
        return np.bincount(pairs[keep[pairs].all(axis=1)].ravel(), minlength=len(sites))

    keep = np.ones(len(sites), bool)
    for _ in range(rounds):
        keep &= rng.random(len(sites)) >= roughness * (1.0 - bonds(keep) / 12.0)
    # Atoms that are held by fewer bonds than an atom on top of a {111} facet fall off or move on.
    while np.any(loose := keep & (bonds(keep) < 3)):
        keep &= ~loose
    return sites[keep] if keep.any() else sites
