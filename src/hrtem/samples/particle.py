"""Metal particles of random shape: facets, twins, erosion, islands and adatoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrtem.errors import InputError
from hrtem.ranges import Range, parse_number
from hrtem.samples.base import Sample
from hrtem.samples.cluster import SHELL, Cluster, smallest, wulff_size
from hrtem.samples.crystal import (
    TWIN_PLANES,
    Direction,
    crystal_of,
    mirror_images,
    restack,
    room_temperature_displacement,
)


class Particle(Sample):
    """An fcc or bcc particle.

    The shape follows Wulff's construction: the distance of each facet from the centre is proportional to its surface
    energy, here times a random factor for each facet, since particles on a support are seldom in equilibrium. The
    facets of a twin are the mirror images of the others. Afterwards, the surface loses atoms, preferably atoms with
    few bonds, and gains islands and short columns of adatoms.

    Args:
        name, classes, extent: see :class:`Sample`; the only class is the element.
        rms_displacement: thermal displacement of each element, Å; the tabulated value is used for a metal that is not
            listed.
        support_elements: further elements that must have a displacement.
        element: symbol of an fcc or bcc metal.
        lattice_constant: cubic lattice constant, Å, a number or a range; None takes the value of ASE's table.
        strain: relative change of the lattice constant, a number or a range.
        diameter: diameter of the sphere of equal volume before erosion, Å, a number or a range.
        longest: number of atoms in a column through the centre of the particle, a number or a range; the Wulff shape
            is stretched or flattened along the beam to this length, which makes its inclined facets stepped. None
            keeps the shape.
        stretched: fraction of the particles to which ``longest`` applies; the others keep their shape.
        thickest: largest thickness of a stretched shape along the beam, Å; it limits ``longest``.
        surface_energy_ratio: energy of a {100} facet over that of the closest packed facet, a number or a range.
        facet_spread: largest random change of each facet's distance to either side, as a fraction, a number or a range.
        contact: distance of the support's surface from the centre over that of a free facet (Winterbottom's
            construction), a number or a range.
        twin: probability of a twin plane or of a stacking fault (two adjacent twin planes); several may follow. Twins
            occur only in fcc along [1, 1, 0] (planes parallel to the beam) and [1, 1, 1] (planes perpendicular to it),
            where columns stay straight.
        roughness: in each of three rounds of erosion, an atom with n of 12 bonds (bcc: of 14) is lost with the
            probability ``roughness (1 - n/12)``; a number or a range.
        terraces: number of islands one layer high, a number or a range.
        adatoms: number of short adatom columns on facets seen edge-on, a number or a range.
        adatom_length: number of atoms in each adatom column, a number or a range.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        support_elements: Sequence[str] = (),
        element: str = "Au",
        lattice_constant: Any = None,
        strain: Any = 0.0,
        diameter: Any = 25.0,
        surface_energy_ratio: Any = 1.15,
        facet_spread: Any = 0.0,
        contact: Any = 0.5,
        twin: float = 0.0,
        roughness: Any = 0.0,
        terraces: Any = 0,
        adatoms: Any = 0,
        adatom_length: Any = (1, 4),
        longest: Any = None,
        stretched: float = 1.0,
        thickest: float = 60.0,
    ) -> None:
        self.crystal, tabulated = crystal_of(element)
        self.known_classes = (element,)
        displacements = _with_displacement(rms_displacement, element)
        for needed in (element, *support_elements):
            if needed not in displacements:
                raise InputError(
                    f"sample.rms_displacement of {name} has no value for {needed}; say it as "
                    f"+sample.rms_displacement.{needed}=0.08, in Å."
                )
        super().__init__(name, classes, extent, displacements)
        self.element = element
        self.lattice_constant = Range.parse(
            "sample.lattice_constant",
            tabulated if lattice_constant is None else lattice_constant,
            unit="Å",
            minimum=2.5,
            maximum=7.0,
        )
        self.strain = Range.parse("sample.strain", strain, minimum=-0.1, maximum=0.1)
        self.diameter = Range.parse("sample.diameter", diameter, unit="Å", minimum=8.0, maximum=100.0)
        self.surface_energy_ratio = Range.parse(
            "sample.surface_energy_ratio", surface_energy_ratio, minimum=0.5, maximum=2.0
        )
        self.facet_spread = Range.parse("sample.facet_spread", facet_spread, minimum=0.0, maximum=0.4)
        self.contact = Range.parse("sample.contact", contact, minimum=0.1, maximum=1.0)
        self.twin = parse_number("sample.twin", twin, minimum=0.0, maximum=0.9)
        self.roughness = Range.parse("sample.roughness", roughness, minimum=0.0, maximum=1.0)
        self.terraces = _whole_numbers("sample.terraces", terraces, minimum=0)
        self.adatoms = _whole_numbers("sample.adatoms", adatoms, minimum=0)
        self.adatom_length = _whole_numbers("sample.adatom_length", adatom_length, minimum=1)
        self.longest: Range | None = None
        if longest is not None:
            self.longest = Range.parse("sample.longest", longest, unit="atoms", minimum=2.0, maximum=100.0)
        self.stretched = parse_number("sample.stretched", stretched, minimum=0.0, maximum=1.0)
        self.thickest = parse_number("sample.thickest", thickest, unit="Å", minimum=5.0, maximum=500.0)

    def cell(self, rng: np.random.Generator) -> float:
        """Draw the lattice constant of one particle, Å."""
        return self.lattice_constant.draw(rng) * (1.0 + self.strain.draw(rng))

    def sites(
        self, a: float, diameter: float, axis: Direction, supported: bool, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the atoms of a particle.

        Args:
            a: lattice constant, Å.
            diameter: diameter of the sphere of equal volume, Å.
            axis: zone axis along the beam.
            supported: whether the particle is cut at the surface of a support, on its epitaxial facet.
            rng: random generator.

        Returns:
            ``(N, 3)`` int, a/6, with the centre of the Wulff shape near the origin.
        """
        unit = a / 6.0
        normals, energies = self.crystal.facets, self._energies(rng)
        centre = rng.uniform(-3.0, 3.0, size=3)
        stretch = self._stretch(a, diameter, axis, rng)
        sites = self.crystal.sites(max(1.0, stretch) * diameter / unit + SHELL)
        if stretch > 1.0:
            # A rod fills only a small part of the sphere around it.
            across = np.linalg.norm(np.cross(sites, axis), axis=1) / np.linalg.norm(axis)
            sites = sites[across <= diameter / unit + SHELL]

        def size_of(sites: np.ndarray, facets: np.ndarray) -> np.ndarray:
            return wulff_size(_compressed(sites - centre, axis, stretch), facets, energies)

        twins = TWIN_PLANES[axis] if self.crystal.structure == "fcc" else []
        if twins:
            plane, partial = twins[rng.integers(len(twins))]
            sites, turned = restack(sites, plane, partial, self._planes(diameter / a, rng))
            size = np.where(turned, size_of(sites, mirror_images(normals, plane)), size_of(sites, normals))
        else:
            size = size_of(sites, normals)
        number = round(np.pi / 6.0 * stretch * (diameter / a) ** 3 * self.crystal.atoms_per_cell)
        below = np.full(len(sites), -np.inf)
        if supported:
            down = np.array(self.crystal.epitaxy[1])
            below = wulff_size(sites - centre, down[None], np.array([self.contact.draw(rng)]))
            size = np.maximum(size, below)
        limit = smallest(size, number)
        near = (size <= limit + SHELL) & (below <= limit)
        sites, filled, below = sites[near], size[near] <= limit, below[near]
        # Sites within half a layer of the lowest atoms stand on the support.
        braced = below > below[filled].max() - 2.0 if supported else np.zeros(len(sites), bool)
        cluster = Cluster(self.crystal, sites, filled, braced)
        cluster.erode(self.roughness.draw(rng), rng)
        for _ in range(_drawn(self.terraces, rng)):
            cluster.add_terrace(rng.uniform(3.0, 8.0) / unit, rng)
        for _ in range(_drawn(self.adatoms, rng)):
            cluster.add_adatoms(axis, _drawn(self.adatom_length, rng), rng)
        return sites[cluster.filled]

    def _stretch(self, a: float, diameter: float, axis: Direction, rng: np.random.Generator) -> float:
        """Draw the factor by which a particle is stretched along the beam relative to its Wulff shape."""
        if self.longest is None or rng.random() >= self.stretched:
            return 1.0
        length = self.longest.draw(rng) * self.crystal.spacing(axis) * (a / 6.0)
        return min(length, self.thickest) / diameter

    def _energies(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the surface energies of the facets, ``(F,)``, relative to the closest packed facet."""
        spread = self.facet_spread.draw(rng)
        cube = np.abs(self.crystal.facets).sum(axis=1) == 1
        energies = np.where(cube, self.surface_energy_ratio.draw(rng), 1.0)
        return energies * rng.uniform(1.0 - spread, 1.0 + spread, size=len(energies))

    def _planes(self, diameter: float, rng: np.random.Generator) -> list[int]:
        """Draw the indices of the layers that are twin planes, for a ``diameter`` in lattice constants."""
        # The number of layers from the centre to a {111} facet is √3/2 times the diameter in lattice constants.
        layers = max(1, int(0.6 * np.sqrt(0.75) * diameter))
        planes: list[int] = []
        while rng.random() < self.twin:
            planes.append(int(rng.integers(-layers, layers + 1)))
            if rng.random() < 0.25:
                planes.append(planes[-1] + 1)
        return planes


def _compressed(sites: np.ndarray, axis: Direction, stretch: float) -> np.ndarray:
    """Compress ``sites`` ``(N, 3)`` along ``axis`` by the factor ``stretch``, back to the unstretched shape."""
    if stretch == 1.0:
        return sites
    along = np.array(axis) / np.linalg.norm(axis)
    return sites - (1.0 - 1.0 / stretch) * np.outer(sites @ along, along)


def _whole_numbers(name: str, value: Any, minimum: int) -> Range:
    """Parse a range of whole numbers up to 20."""
    numbers = Range.parse(name, value, minimum=minimum, maximum=20)
    if numbers.low % 1 or numbers.high % 1:
        raise InputError(f"{name} must be a whole number or a range of whole numbers, got {value!r}.")
    return numbers


def _drawn(numbers: Range, rng: np.random.Generator) -> int:
    """Draw a whole number of a range with equal probability."""
    return int(rng.integers(int(numbers.low), int(numbers.high) + 1))


def _with_displacement(displacements: Mapping[str, float], element: str) -> dict[str, float]:
    """Add the tabulated displacement of ``element`` to ``displacements`` unless they contain the element."""
    tabulated = room_temperature_displacement(element)
    return ({} if tabulated is None else {element: tabulated}) | dict(displacements)
