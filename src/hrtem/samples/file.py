"""Structures from files that ASE reads, as a thin crystal along a zone axis or as a finished model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range, parse_flag, parse_number
from hrtem.samples.base import VACUUM, rotation
from hrtem.samples.projection import Projection
from hrtem.samples.sheet import Sheet

#: Class name for columns of any composition.
COLUMN = "column"

#: Heaviest element whose scattering is tabulated.
LAWRENCIUM = 103

#: Atomic number of the contamination.
CARBON = 6

#: Two atoms closer than this are alternative sites of a disordered structure, Å; the bond of H₂ is 0.74 long.
CLOSEST = 0.5


class StructureFile(Sheet):
    """A crystal that fills the field, or a finished model, read from a file.

    The beam travels along +z, which is parallel to the zone axis [u v w]: in an image with x to the right and y
    down, [u v w] points away from the viewer. Structures are never mirrored, so a crystal keeps its handedness.

    Columns follow from the projection, see :class:`Projection`. With the class ``column``, all columns are
    labelled; otherwise the classes are compositions of columns, such as ``Sr`` and ``TiO``, and other columns are
    background. A column keeps its class if a surface cuts it or atoms are missing.

    From a file with several structures, each draw takes one structure at random. For sites with mixed occupancy,
    ASE reads the most frequent element.

    Args:
        name: name of the sample.
        classes: ``("column",)`` or compositions that occur.
        extent: side of the field of view, Å.
        rms_displacement: thermal displacement of elements, Å; ``default`` applies to elements that are not listed.
        structure: path of the file; a relative path refers to the working directory of the command.
        repeat: repeat the unit cell as an infinite crystal; False keeps a finished model as it is, complete and
            centred in the field.
        zone_axes: directions [u v w] along the beam; each draw takes one. They refer to the lattice vectors, or
            with ``repeat=False`` to the cartesian axes of the file.
        thickness: thickness of the crystal along the beam, Å, a number or a range; None keeps one period along the
            beam, for a sheet or slab with vacuum in its cell.
        merge: atoms whose projections are closer than this share a column, Å.
        rotation: angle from x towards y of the projected first lattice vector (or of the second, if the first is
            parallel to the beam), degrees, a number or a range.
        tilt: angle between zone axis and beam, degrees, a number or a range; its azimuth is random.
        vacancy: fraction of the atoms that are missing, a number or a range.
        rattle: standard deviation of random static displacements along each axis, Å, a number or a range.
        sheet: strain, shear and contamination, and for crystals holes, edges and corrugation, see :class:`Sheet`.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        extent: float,
        rms_displacement: Mapping[str, float],
        structure: str,
        repeat: bool = True,
        zone_axes: Sequence[Sequence[int]] = ((0, 0, 1),),
        thickness: Any = 30.0,
        merge: float = 0.8,
        rotation: Any = (0.0, 360.0),
        tilt: Any = 0.0,
        vacancy: Any = 0.0,
        rattle: Any = 0.0,
        **sheet: Any,
    ) -> None:
        self.repeat = parse_flag("sample.repeat", repeat)
        self.thickness = None
        if thickness is not None:
            self.thickness = Range.parse("sample.thickness", thickness, unit="Å", minimum=1.0, maximum=1000.0)
        merge = parse_number("sample.merge", merge, unit="Å", minimum=0.1, maximum=2.0)
        self.rotation = Range.parse("sample.rotation", rotation, unit="degrees", minimum=-360.0, maximum=360.0)
        self.vacancy = Range.parse("sample.vacancy", vacancy, minimum=0.0, maximum=0.9)
        self.rattle = Range.parse("sample.rattle", rattle, unit="Å", minimum=0.0, maximum=1.0)
        axes = _zone_axes(zone_axes)
        path = Path(str(structure)).expanduser()
        structures, self.fingerprint = _read(path, periodic=repeat)
        project = Projection.of_crystal if repeat else Projection.of_model
        self.projections = [project(atoms, axis, merge) for atoms in structures for axis in axes]
        self.known_classes = _known(classes, self.projections, f"{path.name} along {axes}", name)
        # Contamination is carbon.
        elements = sorted({symbol for atoms in structures for symbol in atoms.symbols} | {"C"})
        super().__init__(name, classes, extent, _displacements(rms_displacement, elements), tilt=tilt, **sheet)
        for projection in self.projections if not repeat else ():
            width = 2.0 * np.linalg.norm(projection.positions[:, :2], axis=1).max()
            if width > self.extent:
                raise InputError(
                    f"sample.extent must hold the whole model of {path} where sample.repeat is false, "
                    f"which is {width:.1f} Å wide, got {self.extent:g} Å."
                )

    def __call__(self, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw one structure; see :class:`Sample`."""
        view = self.projections[rng.integers(len(self.projections))]
        tilt, azimuth = np.radians(self.tilt.draw(rng)), rng.uniform(0.0, 2.0 * np.pi)
        if self.repeat:
            positions, atom, column, thickness = self._crystal(view, tilt, rng)
        else:
            positions, atom, column, thickness = view.positions.copy(), np.arange(len(view.numbers)), view.first, np.inf
            positions[:, :2] = positions[:, :2] @ self.deformation(rng)
        positions[:, :2] = positions[:, :2] @ rotation(np.radians(self.rotation.draw(rng)))
        positions += self.rattle.draw(rng) * rng.normal(size=positions.shape)
        positions = Rotation.from_rotvec(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])).apply(positions)
        keep = (rng.random(len(positions)) >= self.vacancy.draw(rng)) & (np.abs(positions[:, 2]) <= thickness / 2)
        positions, atom, column = positions[keep], atom[keep], column[keep]
        positions[:, :2] += self.extent / 2
        label = self._labels(view)[atom]
        film, labelled = self.contamination(positions[:, :2], self.extent, rng)
        label = np.where(labelled, label, -1)
        if len(film) and len(positions):
            film[:, 2] += np.where(film[:, 2] > 0.0, positions[:, 2].max(), positions[:, 2].min())
        atoms = Atoms(
            np.append(view.numbers[atom], [CARBON] * len(film)).astype(int), np.concatenate([positions, film])
        )
        label, column = (np.append(values, np.full(len(film), -1)) for values in (label, column))
        atoms.set_array("label", label)
        atoms.set_array("column", np.where(label >= 0, column, -1))
        atoms = self.in_cell(atoms, thickness=(np.ptp(atoms.positions[:, 2]) if len(atoms) else 0.0) + 2.0 * VACUUM)
        return _with_columns(atoms, self.classes)

    def _crystal(
        self, view: Projection, tilt: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Build a crystal larger than the field; it also extends beyond the surfaces at which it is cut later.

        Returns:
            Positions ``(M, 3)`` Å about the centre, the index in the cell and the column of each atom, and the
            thickness, Å.
        """
        thickness = np.inf if self.thickness is None else self.thickness.draw(rng)
        height = view.period if self.thickness is None else thickness
        deformation = self.deformation(rng)
        radius = (self.extent / np.sqrt(2.0) + height * np.sin(tilt)) / np.linalg.eigvalsh(deformation)[0]
        positions, atom, column = view.sites(radius, rng)
        if self.thickness is None:
            positions[:, 2] -= view.period / 2
        else:
            height += 2.0 * radius * np.sin(tilt)
            layers = int(np.ceil(height / view.period)) + 1
            layer = np.repeat(np.arange(layers), len(positions))
            positions, atom, column = np.tile(positions, (layers, 1)), np.tile(atom, layers), np.tile(column, layers)
            positions[:, 2] += (layer - rng.random()) * view.period - height / 2
        positions[:, :2] = positions[:, :2] @ deformation
        keep = ~self.torn(positions[:, :2] + self.extent / 2, rng)
        positions[:, 2] += self.ripples(positions[:, :2], rng)
        return positions[keep], atom[keep], column[keep], thickness

    def _labels(self, view: Projection) -> np.ndarray:
        """Class of the column to which each atom of the cell belongs; -1 is background."""
        if self.classes == (COLUMN,):
            return np.zeros(len(view.names), int)
        index = {name: label for label, name in enumerate(self.classes)}
        return np.array([index.get(name, -1) for name in view.names])


def _with_columns(atoms: Atoms, classes: tuple[str, ...]) -> tuple[Atoms, Columns]:
    """Renumber ``column`` from 0 and return the atoms and columns; a column's class is the ``label`` of its atoms."""
    label, column = atoms.arrays.pop("label"), atoms.arrays["column"]
    inside = column >= 0
    _, example, column[inside], counts = np.unique(
        column[inside], return_index=True, return_inverse=True, return_counts=True
    )
    xy = [np.bincount(column[inside], atoms.positions[inside, i], len(counts)) / counts for i in (0, 1)]
    return atoms, Columns(np.column_stack(xy), label[inside][example], classes, counts=counts)


def _read(path: Path, periodic: bool) -> tuple[list[Atoms], str]:
    """Read the structures in a file, and its checksum."""
    if not path.is_file():
        raise InputError(f"sample.structure must be a file, and {path} does not exist.")
    try:
        structures: Any = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise InputError(f"sample.structure must be a file that ASE reads, and {path} is not ({reason}).") from error
    if not structures:
        raise InputError(f"sample.structure must hold atoms, and {path} holds none.")
    for atoms in structures:
        if not periodic:
            atoms.set_cell(None)
            atoms.set_pbc(False)
        _check(atoms, path, periodic)
    return structures, hashlib.sha256(path.read_bytes()).hexdigest()


def _check(atoms: Atoms, path: Path, periodic: bool) -> None:
    """Raise an error if a structure cannot be simulated."""
    if not len(atoms) or not np.isfinite(atoms.positions).all():
        raise InputError(f"sample.structure must hold atoms at finite positions, and {path} does not.")
    unknown = {
        symbol for symbol, number in zip(atoms.symbols, atoms.numbers, strict=True) if not 1 <= number <= LAWRENCIUM
    }
    if unknown:
        raise InputError(f"sample.structure must hold the elements H to Lr, and {path} holds {', '.join(unknown)}.")
    volume = abs(np.linalg.det(atoms.cell.array))
    if periodic and (volume < 1.0 or not atoms.pbc.any()):
        raise InputError(
            f"sample.structure must have a periodic cell, and that of {path} is not periodic or has no volume; "
            "sample.repeat=false takes it as a finished model."
        )
    distances = neighbor_list("d", atoms, CLOSEST)
    if len(distances):
        raise InputError(
            f"sample.structure must hold atoms at least {CLOSEST:g} Å apart, and two in {path} are "
            f"{distances.min():.2f} Å apart, as in a disordered structure."
        )


def _zone_axes(value: Any) -> list[list[int]]:
    """Parse a list of directions of three integers each."""
    try:
        axes = [[float(index) for index in axis] for axis in value]
    except (TypeError, ValueError):
        axes = []
    if not axes or any(len(axis) != 3 or not any(axis) or any(i != round(i) for i in axis) for axis in axes):
        raise InputError(
            "sample.zone_axes must be a list of directions of three integers that are not all 0, such as [[1, 1, 0]], "
            f"got {value!r}."
        )
    return [[int(index) for index in axis] for axis in axes]


def _known(classes: Sequence[str], projections: Sequence[Projection], where: str, name: str) -> tuple[str, ...]:
    """Return ``classes`` if they are ``column`` alone or compositions that occur in the projections."""
    found: dict[str, None] = {}
    for projection in projections:
        weight = np.bincount(projection.first, projection.numbers, len(projection.numbers))[projection.first]
        found |= dict.fromkeys(projection.names[np.argsort(-weight, kind="stable")].tolist())
    if list(classes) != [COLUMN] and (not classes or set(classes) - set(found) or len(set(classes)) < len(classes)):
        raise InputError(
            f"sample.classes of {name} must be [{COLUMN}] or some of [{', '.join(found)}], "
            f"the columns of {where}, got {list(classes)}."
        )
    return tuple(classes)


def _displacements(given: Mapping[str, float], elements: Sequence[str]) -> dict[str, float]:
    """Displacement of each element, as ``given`` or from its default."""
    for symbol, value in given.items():
        if symbol != "default" and symbol not in atomic_numbers:
            raise InputError(f"sample.rms_displacement must name elements or default, got {symbol!r}.")
        Range.parse(f"sample.rms_displacement.{symbol}", value, unit="Å", minimum=0.0, maximum=1.0)
    default = dict.fromkeys(elements, given["default"]) if "default" in given else {}
    return default | {symbol: value for symbol, value in given.items() if symbol != "default"}
