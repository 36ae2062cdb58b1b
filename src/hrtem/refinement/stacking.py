"""How the columns of a sample continue along the beam, with the prior knowledge about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.refinement.specimen import Specimen
from hrtem.structure.solid import build_solid
from hrtem.waves.differentiable import Species

#: Prior standard deviation of x and of y around the network's position, Å.
PLACE = 0.3
#: Standard deviation of the common error of a network's numbers of atoms; and of the height of the middle of a column
#: above that of the crystal, in periods.
GROWTH, MIDDLE = 1.5, 1.5
#: Width of the Cauchy distribution of the density of a column: most columns have no gap, and few have large ones.
GAPS = 0.05
#: Largest tilt of the search, degrees.
STEEPEST = 2.5
#: Standard deviation of a number that is known.
FIXED = 1e-3
#: Height of the sulphur above the molybdenum in MoS2, Å.
SULPHUR = 1.56


@dataclass(frozen=True)
class Stacking(ABC):
    """How the columns of a sample continue along the beam.

    Attributes:
        growth: standard deviation of the common error of all numbers of atoms.
        steepest: largest tilt, degrees; 0 for sheets, whose images hardly show it.
    """

    growth: float
    steepest: float

    @abstractmethod
    def fits(self, found: Columns) -> np.ndarray:
        """Whether each column has atoms, bool ``(N,)``."""

    @abstractmethod
    def build(self, found: Columns) -> Specimen:
        """Stack the columns of a network."""

    @abstractmethod
    def deviations(self, found: Columns) -> Tensor:
        """Prior standard deviations, see :class:`hrtem.refinement.fit.Prior`, ``(N, 4)``."""


@dataclass(frozen=True)
class Metal(Stacking):
    """Columns of a cubic metal on a zone axis, with the heights of :func:`hrtem.structure.solid.build_solid`.

    Attributes:
        element: chemical symbol.
        displacement: root mean square displacement along one axis, Å.
        lattice_constant: Å; None uses that of ASE.
    """

    element: str
    displacement: float
    lattice_constant: float | None = None

    def fits(self, found: Columns) -> np.ndarray:
        """Whether the network counted an atom, bool ``(N,)``."""
        return found.counts > 0

    def build(self, found: Columns) -> Specimen:
        """Stack whole columns, with relative heights as far as the lattice determines them."""
        solid = build_solid(found, self.element, self.lattice_constant)
        column, height = solid.atoms.get_array("column"), solid.atoms.positions[:, 2]
        lowest = np.array([height[column == one].min() for one in range(len(found))]) / solid.period
        phase = (lowest + 1e-6) % 1.0 - 1e-6
        bottom = np.rint(lowest - phase)
        number = len(found)
        return Specimen(
            torch.from_numpy(found.positions.astype(float)),
            torch.from_numpy(bottom + found.counts - 1.0),
            torch.from_numpy(bottom),
            torch.ones(number, dtype=torch.float64),
            torch.from_numpy(phase),
            torch.full((number,), solid.period, dtype=torch.float64),
            torch.zeros(2, dtype=torch.float64),
            (Species(self.element, self.displacement),),
            torch.zeros(number, dtype=torch.long),
        )

    def deviations(self, found: Columns) -> Tensor:
        """Widths of the network's probabilities for numbers, and constants for all else, ``(N, 4)``."""
        shares = found.count_probabilities
        numbers = np.arange(1, shares.shape[1] + 1)
        mean = shares @ numbers
        counts = np.sqrt(np.clip(shares @ numbers**2 - mean**2, 0.0, None) + 0.5**2)
        fixed = torch.tensor([PLACE, 0.0, MIDDLE, GAPS], dtype=torch.float64).repeat(len(found), 1)
        fixed[:, 1] = torch.from_numpy(counts)
        return fixed


@dataclass(frozen=True)
class Layer(Stacking):
    """A sheet whose classes are atoms, or pairs of atoms above each other.

    Attributes:
        kinds: species, number of atoms, their distance along the beam and the height of the lowest, Å, by class; other
            classes have no atoms.
    """

    kinds: Mapping[str, tuple[Species, int, float, float]]

    def fits(self, found: Columns) -> np.ndarray:
        """Whether the class has atoms, bool ``(N,)``."""
        return np.isin(np.array(found.classes)[found.labels], list(self.kinds))

    def build(self, found: Columns) -> Specimen:
        """Place the atoms of each class."""
        chosen = [self.kinds[found.classes[label]] for label in found.labels]
        species = tuple(dict.fromkeys(one[0] for one in self.kinds.values()))
        period = torch.tensor([one[2] for one in chosen], dtype=torch.float64)
        numbers = torch.tensor([one[1] for one in chosen], dtype=torch.float64)
        lowest = torch.tensor([one[3] for one in chosen], dtype=torch.float64)
        zeros = torch.zeros(len(found), dtype=torch.float64)
        return Specimen(
            torch.from_numpy(found.positions.astype(float)), numbers - 1.0, zeros, torch.ones_like(zeros),
            lowest / period, period, torch.zeros(2, dtype=torch.float64), species,
            torch.tensor([species.index(one[0]) for one in chosen]),
        )  # fmt: skip

    def deviations(self, found: Columns) -> Tensor:
        """Only positions are free, ``(N, 4)``."""
        return torch.tensor([PLACE, FIXED, FIXED, FIXED], dtype=torch.float64).repeat(len(found), 1)


def choose_stack(sample: Any) -> Stacking:
    """Choose how columns of a sample are stacked.

    Args:
        sample: sample of a model.

    Raises:
        InputError: no fit knows the structure of this sample.
    """
    displacement = sample.rms_displacement
    if sample.classes == ("C",):
        return Layer(FIXED, 0.0, {"C": (Species("C", displacement["C"]), 1, 1.0, 0.0)})
    if set(sample.classes) >= {"Mo", "S2", "S"}:
        sulphur = Species("S", displacement["S"])
        return Layer(
            FIXED,
            0.0,
            {
                "Mo": (Species("Mo", displacement["Mo"]), 1, 1.0, 0.0),
                "S2": (sulphur, 2, 2.0 * SULPHUR, -SULPHUR),
                "S": (sulphur, 1, 1.0, SULPHUR),
            },
        )
    if sample.name == "gold":
        (element,) = sample.classes
        lattice = sample.lattice_constant
        return Metal(GROWTH, STEEPEST, element, displacement[element], 0.5 * (lattice.low + lattice.high))
    raise InputError(f"fit=true knows graphene, MoS2 and cubic metals, and the model has learnt {sample.name}.")
