"""Amorphous carbon, for support films under particles and for contamination on sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

#: Carbon atoms per Å³ at 1 g/cm³.
ATOMS_PER_DENSITY = 0.050141

#: Smallest distance between two atoms, Å; between the bond lengths of graphite (1.42) and of diamond (1.54).
BOND = 1.48


def amorphous_carbon(
    box: Sequence[float], rng: np.random.Generator, density: float = 2.0, steps: int = 60
) -> np.ndarray:
    """Fill a box with randomly placed carbon atoms, no two closer than a bond length.

    Random points repel each other until they are a bond length apart. This reproduces the density and the first
    coordination shell, which determine the granular contrast of a thin film; bond angles are not modelled.

    Args:
        box: width, height and thickness, Å; the film is periodic along its width and height.
        rng: random generator.
        density: g/cm³; evaporated films have 1.8 to 2.1.
        steps: largest number of repulsion steps.

    Returns:
        Positions ``(N, 3)`` Å.
    """
    size = np.asarray(box, dtype=float)
    positions = rng.random((round(float(np.prod(size)) * density * ATOMS_PER_DENSITY), 3)) * size
    period = np.array([size[0], size[1], 0.0])  # 0: not periodic
    for _ in range(steps):
        pairs = cKDTree(positions, boxsize=period).query_pairs(BOND, output_type="ndarray")
        if not len(pairs):
            break
        between = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        between[:, :2] -= size[:2] * np.round(between[:, :2] / size[:2])
        distance = np.linalg.norm(between, axis=1, keepdims=True)
        # A little more than half the overlap, because neighbours in a dense region push back.
        push = 0.55 * (BOND - distance) * between / np.maximum(distance, 1e-9)
        for end, sign in ((0, -1.0), (1, 1.0)):
            for axis in range(3):
                positions[:, axis] += sign * np.bincount(pairs[:, end], push[:, axis], len(positions))
        positions[:, :2] %= size[:2]
        # A point below zero by a rounding error wraps exactly onto the far border.
        positions[:, :2] = np.where(positions[:, :2] >= size[:2], 0.0, positions[:, :2])
        positions[:, 2] = np.clip(positions[:, 2], 0.0, size[2])
    return positions
