"""Nanoparticles of gold or any other fcc or bcc metal, seen close to a zone axis, in vacuum or on a support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range
from hrtem.samples.base import VACUUM
from hrtem.samples.cluster import columns
from hrtem.samples.crystal import ZONE_AXES, Direction, frame
from hrtem.samples.particle import Particle
from hrtem.samples.support import Support

#: Smallest distance of the particle's atoms from the border of the field, Å.
BORDER = 1.0


class Gold(Particle):
    """A particle close to a zone axis, in vacuum, on a carbon film or on ceria.

    On ceria, the particle stands on a closest packed facet parallel to the (111) surface. The zone axis of its epitaxy
    is parallel to the [110] of ceria and to the beam. Only the columns of the particle are labelled.

    Args:
        name, classes, extent, rms_displacement: see :class:`Particle`. The particle always lies entirely in the field:
            a particle that is too long is drawn again with a 5 % smaller diameter.
        zone_axes: directions along the beam, of the families [1, 0, 0], [1, 1, 0] and [1, 1, 1]; each particle
            takes one of them with equal probability.
        tilt: angle between zone axis and beam, degrees, a number or a range; its azimuth is random. Ceria tilts with
            its particle.
        rotation: rotation of particle and support about the beam, degrees, a number or a range; at 0, ceria fills the
            side of large y.
        offset: distance of the particle's centre from the centre of the field, Å, a number or a range; it is reduced
            if the particle would leave the field.
        support, carbon_thickness, carbon_edge, ceria_thickness, ceria_step, ceria_vacancy: see :class:`Support`.
        particle: element, lattice, size, shape and surface, see :class:`Particle`.

    Raises:
        InputError: a setting is out of its range, the particle is larger than the field, the element has no known
            structure or displacement, or ``zone_axes`` lacks the zone axis that ceria needs.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        zone_axes: Sequence[Sequence[int]] = ((1, 1, 0),),
        tilt: Any = 0.0,
        rotation: Any = (0.0, 360.0),
        offset: Any = 0.0,
        support: str | Sequence[str] = ("vacuum",),
        carbon_thickness: Any = 20.0,
        carbon_edge: float = 0.0,
        ceria_thickness: Any = 25.0,
        ceria_step: float = 0.0,
        ceria_vacancy: Any = 0.0,
        **particle: Any,
    ) -> None:
        self.support = Support(support, carbon_thickness, carbon_edge, ceria_thickness, ceria_step, ceria_vacancy)
        super().__init__(name, classes, extent, rms_displacement, self.support.elements, **particle)
        self.zone_axes = [_zone_axis(axis) for axis in _listed(zone_axes)]
        needed = list(self.crystal.epitaxy[0])
        if "ceria" in self.support.kinds and tuple(needed) not in self.zone_axes:
            raise InputError(
                f"sample.support ceria shows {self.element} along {needed}, which sample.zone_axes {zone_axes!r} "
                "lacks; add it, or say sample.support=[vacuum,carbon]."
            )
        self.tilt = Range.parse("sample.tilt", tilt, unit="degrees", minimum=0.0, maximum=10.0)
        self.rotation = Range.parse("sample.rotation", rotation, unit="degrees", minimum=-360.0, maximum=360.0)
        self.offset = Range.parse("sample.offset", offset, unit="Å", minimum=0.0, maximum=self.extent / 2)
        if self.diameter.high + 2.0 * self.offset.high > self.extent:
            raise InputError(
                f"sample.diameter, up to {self.diameter.high:g} Å, and sample.offset, up to {self.offset.high:g} Å to "
                f"either side, must fit into sample.extent, which is {self.extent:g} Å."
            )

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one structure; see :class:`Sample`."""
        scene = self.scene(rng)
        return scene.structure(scene.sites)

    def scene(self, rng: np.random.Generator) -> ParticleScene:
        """Draw a particle, its support and its orientation relative to the beam."""
        kind = self.support.draw(rng)
        axis = self.crystal.epitaxy[0] if kind == "ceria" else self.zone_axes[rng.integers(len(self.zone_axes))]
        view = self._view(rng)
        sites, upright, basis, middle = self._in_the_field(axis, kind == "ceria", view, rng)
        particle = view.apply(upright)
        place = self._place(particle, rng)
        rest = Atoms()
        if kind == "carbon":
            rest = self.support.carbon(particle + place, self.extent, rng)
        elif kind == "ceria":
            # Up to the farthest corner of the field, so that the slab fills the field at every rotation.
            reach = np.hypot(*(self.extent / 2 + np.abs(place[:2] - self.extent / 2)))
            rest = self.support.ceria(upright, float(reach), rng)
            rest.positions = view.apply(rest.positions) + place
        return ParticleScene(self, axis, sites, basis, middle, view, place, rest)

    def _view(self, rng: np.random.Generator) -> Rotation:
        """Draw the rotation of the structure: first about the beam, then the tilt."""
        tilt, azimuth = np.radians(self.tilt.draw(rng)), rng.uniform(0.0, 2.0 * np.pi)
        lean = Rotation.from_rotvec(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0.0]))
        return lean * Rotation.from_rotvec([0.0, 0.0, np.radians(self.rotation.draw(rng))])

    def _in_the_field(
        self, axis: Direction, supported: bool, view: Rotation, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draw a particle that fits into the field in this view.

        Returns:
            Sites ``(N, 3)`` a/6; their upright positions ``(N, 3)`` Å, with the mean at the origin, the zone axis along
            z and a support on the side of large y; and the basis ``(3, 3)`` and mean ``(3,)``, both Å, for which
            ``positions = sites @ basis - mean``.
        """
        a, diameter = self.cell(rng), self.diameter.draw(rng)
        down = self.crystal.epitaxy[1] if supported else ZONE_AXES[axis]
        while True:
            sites = self.sites(a, diameter, axis, supported, rng)
            basis = frame(axis, down) * (a / 6.0)
            positions = sites @ basis
            middle = positions.mean(axis=0)
            positions -= middle
            if np.ptp(view.apply(positions)[:, :2], axis=0).max() <= self.extent - 2.0 * BORDER:
                return sites, positions, basis, middle
            diameter *= 0.95

    def _place(self, particle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the position in the field, ``(3,)`` Å, of the origin of the ``particle`` ``(N, 3)`` Å."""
        direction = rng.uniform(0.0, 2.0 * np.pi)
        wanted = self.extent / 2 + self.offset.draw(rng) * np.array([np.cos(direction), np.sin(direction)])
        low = BORDER - particle[:, :2].min(axis=0)
        high = self.extent - BORDER - particle[:, :2].max(axis=0)
        return np.append(np.clip(wanted, low, high), 0.0)


@dataclass(frozen=True)
class ParticleScene:
    """A particle and its support, for which structures with other filled sites can be built.

    Attributes:
        sample: the sample that drew the scene.
        axis: zone axis.
        sites: sites of the atoms that were drawn, ``(N, 3)`` int, a/6.
        basis, middle: ``(3, 3)`` and ``(3,)`` Å; ``sites @ basis - middle`` are the positions in the upright
            orientation, with a support at large y.
        view: rotation of the upright structure relative to the beam.
        place: position of the particle's origin in the field, ``(3,)`` Å.
        rest: the support in the field, without the particle.
    """

    sample: Gold
    axis: Direction
    sites: np.ndarray
    basis: np.ndarray
    middle: np.ndarray
    view: Rotation
    place: np.ndarray
    rest: Atoms

    def positions(self, sites: np.ndarray) -> np.ndarray:
        """Positions ``(N, 3)`` Å of ``sites`` ``(N, 3)`` a/6 in the field; z is defined up to a constant."""
        return self.view.apply(sites @ self.basis - self.middle) + self.place

    def structure(self, sites: np.ndarray) -> tuple[Atoms, Columns]:
        """Build the atoms and columns with the given ``sites`` ``(N, 3)`` a/6 filled; see :class:`Sample`."""
        sample = self.sample
        particle = self.positions(sites)
        atoms = Atoms([sample.element] * len(particle), particle) + self.rest
        column = columns(sites, self.axis)
        atoms.set_array("column", np.append(column, np.full(len(atoms) - len(column), -1)))
        x, y, z = atoms.positions.T
        seen = z[(x >= 0) & (x < sample.extent) & (y >= 0) & (y < sample.extent)]
        atoms = sample.in_cell(atoms, thickness=np.ptp(seen) + 2.0 * VACUUM)
        counts = np.bincount(column)
        middles = [np.bincount(column, particle[:, i]) / counts for i in (0, 1)]
        labels = np.full(len(counts), sample.label(sample.element))
        return atoms, Columns(np.column_stack(middles), labels, sample.classes, counts=counts)


def _listed(zone_axes: Any) -> list[Any]:
    axes = list(zone_axes) if isinstance(zone_axes, Sequence) and not isinstance(zone_axes, str) else []
    if not axes:
        raise InputError(f"sample.zone_axes must be a list of directions such as [[1, 1, 0]], got {zone_axes!r}.")
    return axes


def _zone_axis(axis: Any) -> Direction:
    """The representative in :data:`ZONE_AXES` of the family of a direction."""
    try:
        u, v, w = sorted((abs(index) for index in axis), reverse=True)
    except (TypeError, ValueError):
        u, v, w = 0, 0, 0
    if (u, v, w) not in ZONE_AXES:
        raise InputError(
            f"sample.zone_axes holds {axis!r}, and a zone axis must be one of {[list(known) for known in ZONE_AXES]}."
        )
    return int(u), int(v), int(w)
