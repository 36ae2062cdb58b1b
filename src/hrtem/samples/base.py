"""Base class of all samples: a name, classes, a square field of view, and a method that draws structures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range, parse_list

#: Vacuum above and below a structure, Å.
VACUUM = 2.0


class Sample(ABC):
    """A family of random structures.

    Args:
        name: name of the sample in run folders and tables.
        classes: class names, in the order of the output channels.
        extent: side of the square field of view in Å.
        rms_displacement: one-dimensional root mean square thermal displacement of each element, Å.
    """

    #: Class names that this sample can label; ``classes`` must contain exactly these names, in any order.
    known_classes: tuple[str, ...] = ()

    #: Text that identifies inputs besides the settings, such as the checksum of a file; part of the cache key.
    fingerprint: str = ""

    def __init__(self, name: str, classes: Sequence[str], extent: float, rms_displacement: Mapping[str, float]) -> None:
        if sorted(map(str, parse_list("sample.classes", classes))) != sorted(self.known_classes):
            raise InputError(f"sample.classes of {name} must be {list(self.known_classes)}, got {list(classes)}.")
        Range.parse("sample.extent", extent, unit="Å", minimum=10.0, maximum=1000.0)
        for element, displacement in rms_displacement.items():
            Range.parse(f"sample.rms_displacement.{element}", displacement, unit="Å", minimum=0.0, maximum=1.0)
        self.name = name
        self.classes = tuple(classes)
        self.extent = float(extent)
        self.rms_displacement = dict(rms_displacement)

    @abstractmethod
    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one structure.

        Returns:
            The atoms in a cell ``(extent, extent, thickness)`` Å, which the beam crosses along +z, and the
            columns visible in an image. Each atom carries ``rms_displacement`` (Å) and ``column``, the index of
            its column or -1 for an atom without a column, for example in a support.
        """

    def in_cell(self, atoms: Atoms, thickness: float) -> Atoms:
        """Select the atoms in the field of view and centre them along z in a cell of ``thickness`` Å."""
        x, y = atoms.positions[:, 0], atoms.positions[:, 1]
        atoms = atoms[(x >= 0) & (x < self.extent) & (y >= 0) & (y < self.extent)]
        atoms.set_cell([self.extent, self.extent, thickness])
        atoms.set_pbc([True, True, False])
        if len(atoms):
            z = atoms.positions[:, 2]
            atoms.positions[:, 2] += thickness / 2 - (z.min() + z.max()) / 2
        try:
            displacements = [self.rms_displacement[symbol] for symbol in atoms.symbols]
        except KeyError as error:
            raise InputError(f"sample.rms_displacement of {self.name} has no value for {error.args[0]}.") from None
        atoms.set_array("rms_displacement", np.array(displacements, dtype=float))
        return atoms

    def label(self, name: str) -> int:
        """Index of the class ``name``."""
        return self.classes.index(name)


def rotation(angle: float) -> np.ndarray:
    """Rotation matrix ``(2, 2)`` for row vectors: ``positions @ rotation(angle)`` turns anticlockwise in (x, y)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])


def smooth_noise(points: np.ndarray, length: float, rng: np.random.Generator, waves: int = 24) -> np.ndarray:
    """Evaluate a Gaussian random field of unit variance at ``points``.

    Args:
        points: ``(N, 2)`` Å.
        length: correlation length, Å; the field's correlation is ``exp(-r²/2 length²)``.
        rng: random generator.
        waves: number of plane waves in the sum (random Fourier features).

    Returns:
        ``(N,)`` values.
    """
    wavevectors = rng.normal(scale=1.0 / length, size=(2, waves))
    phases = rng.uniform(0.0, 2.0 * np.pi, size=waves)
    return np.cos(points @ wavevectors + phases).sum(axis=1) * np.sqrt(2.0 / waves)
