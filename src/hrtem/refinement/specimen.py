"""Columns with continuous numbers of atoms, the structure that a refinement moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from hrtem.waves.differentiable import Species


class AtomSites(NamedTuple):
    """Atoms of a :class:`Specimen`.

    Attributes:
        positions: x, y and height, Å, ``(A, 3)``.
        occupancy: 1 for whole atoms, less for the partial atoms at the ends of columns, ``(A,)``.
        column: index of the column, ``(A,)``.
        top, bottom: derivative of the occupancy with respect to the number of atoms at either end, ``(A,)``.
        inner: derivative of the occupancy with respect to the density, ``(A,)``.
    """

    positions: Tensor
    occupancy: Tensor
    column: Tensor
    top: Tensor
    bottom: Tensor
    inner: Tensor


@dataclass(frozen=True)
class Specimen:
    """Columns of equally spaced atoms along a direction that is inclined to the beam.

    Site ``k`` of a column lies at the height ``(k + phase) period`` on the axis of the crystal. Its occupancy is 1 from
    the site ``bottom`` to the site ``top``; fractions belong to the next atom at this end. Heights are zero in the
    plane in which ``places`` are given, and the tilt turns the crystal about the mean of its places.

    Attributes:
        places: x and y at height 0, Å, ``(N, 2)``.
        top, bottom: last and first site of each column, ``(N,)``, not necessarily whole numbers.
        density: occupancy of the sites between both ends, 1 for a column without a gap, ``(N,)``.
        phase: height of site 0 in periods, ``(N,)``.
        period: distance of the atoms in a column, Å, ``(N,)``.
        tilt: rotation vector of the crystal along x and y, radians, ``(2,)``.
        species: all species.
        kind: index of the species of each column, ``(N,)``.
    """

    places: Tensor
    top: Tensor
    bottom: Tensor
    density: Tensor
    phase: Tensor
    period: Tensor
    tilt: Tensor
    species: tuple[Species, ...]
    kind: Tensor

    def __len__(self) -> int:
        return len(self.places)

    @property
    def counts(self) -> Tensor:
        """Number of atoms of each column, not necessarily whole, ``(N,)``."""
        return self.density * (self.top - self.bottom + 1.0)

    def per_count(self) -> Tensor:
        """Derivatives of the numbers of atoms with respect to top, bottom and density, ``(N, 3)``."""
        return torch.stack([self.density, self.density, self.top - self.bottom + 1.0], dim=1)

    @property
    def middle(self) -> Tensor:
        """Height of the middle of each column along the axis of the crystal, Å, ``(N,)``."""
        return (0.5 * (self.top + self.bottom) + self.phase) * self.period

    @property
    def centre(self) -> Tensor:
        """Point about which the tilt turns the crystal, x and y, Å."""
        return self.places.mean(dim=0)

    @property
    def rotation(self) -> Tensor:
        """Rotation matrix of the tilt, ``(3, 3)``."""
        along_x, along_y = self.tilt
        zero = torch.zeros_like(along_x)
        rows = [[zero, zero, along_y], [zero, zero, -along_x], [-along_y, along_x, zero]]
        return torch.matrix_exp(torch.stack([torch.stack(row) for row in rows]))

    @property
    def positions(self) -> Tensor:
        """Mean x and y of the atoms of each column, Å, ``(N, 2)``: what an image shows."""
        return self.turned(torch.cat([self.places - self.centre, self.middle[:, None]], dim=1))[:, :2]

    @property
    def exit_surface(self) -> float:
        """Largest height along the beam, Å, of an atom of which there is at least half."""
        sites = self.sites()
        return float(sites.positions[sites.occupancy >= 0.5, 2].max())

    def turned(self, points: Tensor) -> Tensor:
        """``points`` ``(..., 3)`` of the crystal, relative to its centre, in the coordinates of the image."""
        answer = points @ self.rotation.mT
        return torch.cat([answer[..., :2] + self.centre, answer[..., 2:]], dim=-1)

    def sites(self) -> AtomSites:
        """Atoms and partial atoms, and for derivatives the next atom at each end."""
        first = self.bottom.floor().long() - 1
        most = int((self.top.ceil().long() + 1 - first).max()) + 1
        index = (first[:, None] + torch.arange(most)).double()
        up, down = self.top[:, None] - index + 1.0, index - self.bottom[:, None] + 1.0
        occupancy = torch.minimum(up.clamp(0.0, 1.0), down.clamp(0.0, 1.0))
        # A whole end is between removing its atom and adding the next; the derivative is the mean of both.
        at_top = (1.0 - (index - self.top[:, None] - 0.5).abs()).clamp_min(0.0)
        at_bottom = (1.0 - (index - self.bottom[:, None] + 0.5).abs()).clamp_min(0.0)
        used = (occupancy > 0.0) | (at_top > 0.0) | (at_bottom > 0.0)
        column = torch.arange(len(self))[:, None].expand_as(index)[used]
        height = ((index + self.phase[:, None]) * self.period[:, None])[used]
        flat = self.places[column] - self.centre
        points = self.turned(torch.cat([flat, height[:, None]], dim=1))
        density = self.density[column]
        full = occupancy[used]
        return AtomSites(points, density * full, column, density * at_top[used], density * at_bottom[used], full)

    def moved(self, step: Tensor, farthest: float = 0.4, most: float = 1.0) -> Specimen:
        """The crystal after a step in x, y, in the sites at top and bottom, and in the density, ``(N, 5)``.

        Args:
            step: Å and atoms.
            farthest: largest step of a place along x or y, Å.
            most: largest step of an end, atoms. A column keeps at least a third of an atom.
        """
        ends = step[:, 2:4].clamp(-most, most)
        density = (self.density + step[:, 4].clamp(-0.3, 0.3)).clamp(0.2, 1.05)
        top, bottom = self.top + ends[:, 0], self.bottom - ends[:, 1]
        top = torch.maximum(top, bottom - 0.7)
        places = self.places + step[:, :2].clamp(-farthest, farthest)
        return replace(self, places=places, top=top, bottom=bottom, density=density)

    def grown(self, more: float) -> Specimen:
        """All columns with ``more`` atoms, half of them at either end."""
        return self.moved(
            torch.tensor([0.0, 0.0, 0.5 * more, 0.5 * more, 0.0], dtype=torch.float64).expand(len(self), 5)
        )

    def tilted(self, tilt: Tensor) -> Specimen:
        """The same columns with another tilt, with their middles, in the image, at the same positions."""
        moved = replace(self, tilt=tilt)
        return replace(moved, places=self.places + self.positions - moved.positions)
