"""Elastic relaxation of a flat carbon network."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

#: Stiffness of bonds (α) and of angles (β), eV/Å².
STRETCH, BEND = 26.060, 5.511


def relax(positions: np.ndarray, bonds: np.ndarray, length: float, steps: int = 100) -> np.ndarray:
    """Minimise the elastic energy of a network with fixed bonds.

    ``E = 3/16 α/d² Σ (r² - d²)² + 3/8 β d² Σ (θ - 2π/3)²`` sums over all bonds r and all angles θ between two bonds of
    an atom. This is Keating's form with the constants that Jain et al. (J. Phys. Chem. C 119, 9646, 2015, arXiv
    1510.08317) fitted to density functional calculations of defects; here the sheet stays flat.

    Args:
        positions: starting positions, ``(N, 2)`` Å, close enough that no atom lies on the wrong side of a bond.
        bonds: ``(B, 2)`` indices of bonded atoms.
        length: length d of an unstrained bond, Å.
        steps: largest number of L-BFGS iterations.

    Returns:
        Relaxed positions ``(N, 2)`` Å.
    """
    if not len(bonds):
        return positions
    number = len(positions)
    first, second = bonds.T
    centre, left, right = _angles(bonds, number).T
    stretch, bend = 3.0 / 16.0 * STRETCH / length**2, 3.0 / 8.0 * BEND * length**2

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x, y = flat.reshape(2, number)
        bx, by = x[second] - x[first], y[second] - y[first]
        excess = bx**2 + by**2 - length**2
        pull = 4.0 * stretch * excess
        ux, uy, vx, vy = x[left] - x[centre], y[left] - y[centre], x[right] - x[centre], y[right] - y[centre]
        cross, dot = ux * vy - uy * vx, ux * vx + uy * vy
        bent = np.arctan2(np.abs(cross), dot) - 2.0 * np.pi / 3.0
        turn = 2.0 * bend * bent * np.sign(cross)
        per_u, per_v = turn / (ux**2 + uy**2), turn / (vx**2 + vy**2)
        # Rotating u towards v closes the angle.
        forces = []
        for b, u, v in ((bx, per_u * uy, -per_v * vy), (by, -per_u * ux, per_v * vx)):
            total = np.bincount(second, pull * b, number) - np.bincount(first, pull * b, number)
            total += np.bincount(left, u, number) + np.bincount(right, v, number) - np.bincount(centre, u + v, number)
            forces.append(total)
        return float(stretch * np.sum(excess**2) + bend * np.sum(bent**2)), np.concatenate(forces)

    # At forces of 0.01 eV/Å, the atoms are within 3 pm of their equilibrium positions.
    result = minimize(
        energy, positions.T.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps, "gtol": 1e-2, "maxcor": 20}
    )
    return np.asarray(result.x).reshape(2, number).T


def _angles(bonds: np.ndarray, number: int) -> np.ndarray:
    """All angles between bonds, ``(A, 3)`` indices: the central atom and its two neighbours."""
    both = np.concatenate([bonds, bonds[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    degree = np.bincount(both[:, 0], minlength=number)
    start = np.cumsum(degree) - degree
    found = []
    for one in range(1, int(degree.max())):
        for other in range(one):
            atoms = np.flatnonzero(degree > one)
            found.append(np.column_stack([atoms, both[start[atoms] + other, 1], both[start[atoms] + one, 1]]))
    return np.concatenate(found) if found else np.zeros((0, 3), int)
