"""Derivatives of the exit wave of a particle with respect to its columns and its pose, by central differences.

The change of the wave by a column is local and is propagated in a small cell around the column; a change of the pose
needs the whole wave. Atoms without a column, such as the atoms of a support, do not move.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from hrtem.limits.exposure import STEP
from hrtem.waves.multislice import Multislice

#: Side of the cell in which the wave of a changed column is propagated, Å. Electrons that passed the column are hardly
#: affected by atoms 6 Å away: after 40 Å of gold, the change of the image is accurate to 2 % of its root mean square.
CELL = 12.0

#: Steps to either side of an end atom's occupancy.
OCCUPANCY_STEP = 0.1
#: Steps of the particle's pose to either side: tilt and rotation in degrees, relative strain.
POSE_STEPS = {"tilt": 0.05, "rotation": 0.05, "strain": 5e-4}

#: Unknown parameters of each column, in this order: its position, and the occupancies of the atoms at its two ends.
OF_COLUMN = ("x", "y", "top", "bottom")


def vary_columns(wave: Multislice, atoms: Atoms, column: int, plane: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Differentiate the wave with respect to a column, in a small cell around it.

    The number of atoms changes by the occupancies of the two end atoms. If the column is a single atom, both
    occupancies belong to this atom, and images determine only their sum.

    Args:
        wave: multislice simulation.
        atoms: all atoms.
        column: value of their array ``column``.
        plane: height at which waves are given, Å, see :meth:`Multislice.__call__`.

    Returns:
        Derivatives ``(4, Y, X)`` per Å and per atom in the order of :data:`OF_COLUMN`, and the row and column, possibly
        negative, of their first pixel in the wave of the whole periodic cell.
    """
    size = min(round(CELL / wave.sampling), *_shape(atoms, wave.sampling))
    members = atoms.get_array("column") == column
    centre = atoms.positions[members, :2].mean(axis=0)
    first = np.rint(centre / wave.sampling).astype(int) - size // 2
    side = size * wave.sampling
    lengths = atoms.cell.lengths()
    local = atoms.copy()
    # Wrap all atoms into the periodic cell that begins at the corner of the small cell.
    local.positions[:, :2] -= first * wave.sampling
    local.positions[:, :2] -= np.floor(local.positions[:, :2] / lengths[:2]) * lengths[:2]
    local = local[(local.positions[:, :2] < side - 1e-9).all(axis=1)]
    local.set_cell([side, side, lengths[2]])
    mine = np.flatnonzero(local.get_array("column") == column)
    heights = local.positions[mine, 2]
    changes = [_difference(wave, local, plane, mine, axis, STEP) for axis in (0, 1)]
    ends = (mine[heights.argmax()], mine[heights.argmin()])
    changes += [_difference(wave, local, plane, np.array([end]), None, OCCUPANCY_STEP) for end in ends]
    return np.stack(changes), (int(first[1]), int(first[0]))


def _difference(
    wave: Multislice, atoms: Atoms, plane: float, members: np.ndarray, axis: int | None, step: float
) -> np.ndarray:
    """Central difference of the wave, ``(Y, X)``, for atoms moved along an axis, or for a change of their occupancy."""
    waves = []
    for sign in (1.0, -1.0):
        changed = atoms.copy()
        if axis is None:
            occupancy = np.ones(len(atoms))
            occupancy[members] += sign * step
            changed.set_array("occupancy", occupancy)
        else:
            changed.positions[members, axis] += sign * step
        waves.append(wave(changed, plane=plane).astype(np.complex128))
    return (waves[0] - waves[1]) / (2.0 * step)


def pose_particle(
    atoms: Atoms, tilt: tuple[float, float] = (0.0, 0.0), rotation: float = 0.0, strain: float = 0.0
) -> Atoms:
    """Rotate and strain the atoms of all columns about their centre; other atoms do not move.

    Args:
        atoms: atoms with the array ``column``.
        tilt: rotation vector along x and y, degrees.
        rotation: rotation about the beam, degrees.
        strain: relative strain along all axes.
    """
    members = atoms.get_array("column") >= 0
    moved = atoms.copy()
    middle = atoms.positions[members].mean(axis=0)
    turn = Rotation.from_rotvec(np.radians([*tilt, rotation]))
    moved.positions[members] = (1.0 + strain) * turn.apply(atoms.positions[members] - middle) + middle
    return moved


def vary_pose(wave: Multislice, atoms: Atoms, plane: float) -> Iterator[tuple[str, np.ndarray]]:
    """Differentiate the whole wave with respect to the pose.

    Arguments are as for :func:`vary_columns`. Yields names of :data:`POSE_STEPS` and derivatives ``(Y, X)`` per unit;
    the tilt comes twice, about x and about y.
    """
    tilt, rotation, strain = POSE_STEPS["tilt"], POSE_STEPS["rotation"], POSE_STEPS["strain"]
    poses: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("tilt", {"tilt": (tilt, 0.0)}, {"tilt": (-tilt, 0.0)}),
        ("tilt", {"tilt": (0.0, tilt)}, {"tilt": (0.0, -tilt)}),
        ("rotation", {"rotation": rotation}, {"rotation": -rotation}),
        ("strain", {"strain": strain}, {"strain": -strain}),
    ]
    for name, forward, back in poses:
        up, down = (wave(pose_particle(atoms, **pose), plane=plane).astype(np.complex128) for pose in (forward, back))
        yield name, (up - down) / (2.0 * POSE_STEPS[name])


def _shape(atoms: Atoms, sampling: float) -> tuple[int, int]:
    width, height, _ = atoms.cell.lengths()
    return round(height / sampling), round(width / sampling)
