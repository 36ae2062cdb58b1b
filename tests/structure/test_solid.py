"""Models in three dimensions from projections of particles that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Gold
from hrtem.structure import build_solid


@pytest.mark.parametrize("axis", [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
@pytest.mark.parametrize("element", ["Au", "Fe"])
def test_a_particle_is_rebuilt_from_its_projection(element, axis):
    """As many atoms, the same columns, and all neighbours at the distance of the crystal."""
    view = Gold("gold", [element], 40.0, {element: 0.08}, element=element, zone_axes=[axis], tilt=0.0, diameter=18.0)
    atoms, columns = view(np.random.default_rng(1))
    built = build_solid(columns, element)
    assert (built.axis, len(built.atoms)) == (axis, len(atoms))
    np.testing.assert_array_equal(np.bincount(built.atoms.get_array("column")), columns.counts)
    nearest, true = (cKDTree(one.positions).query(one.positions, 2)[0][:, 1] for one in (built.atoms, atoms))
    assert nearest.min() == pytest.approx(true.min(), abs=0.02)
    assert nearest.max() == pytest.approx(true.max(), abs=0.02)
    # Each is centred as near as its lattice lets it.
    member, z = built.atoms.get_array("column"), built.atoms.positions[:, 2]
    period = np.diff(z)[np.diff(member) == 0].min()
    middles = np.bincount(member, z) / np.bincount(member)
    assert np.abs(middles).max() <= 0.5 * period + 1e-6


def test_twins_and_noise_leave_no_atom_too_near_another():
    """Positions wrong by 14 pm, and a twin plane along the beam: stacking goes on from neighbour to neighbour."""
    _, columns = Gold("gold", ["Au"], 50.0, {"Au": 0.08}, zone_axes=[(1, 1, 0)], diameter=25.0, twin=0.9)(
        np.random.default_rng(1)
    )
    moved = columns.moved(columns.positions + np.random.default_rng(0).normal(scale=0.1, size=columns.positions.shape))
    built = build_solid(moved, "Au")
    assert built.placed.all()
    assert cKDTree(built.atoms.positions).query(built.atoms.positions, 2)[0][:, 1].min() > 2.3


def test_what_cannot_be_rebuilt_is_refused():
    _, columns = Gold("gold", ["Au"], 40.0, {"Au": 0.08}, tilt=0.0, diameter=18.0)(np.random.default_rng(1))
    with pytest.raises(InputError, match="C is neither"):
        build_solid(columns, "C")
    with pytest.raises(InputError, match=r"\[111\], and their cell is"):
        build_solid(columns.moved(1.3 * columns.positions), "Au")
    with pytest.raises(InputError, match="0 columns lie on none"):
        build_solid(Columns(columns.positions, columns.labels, columns.classes), "Au")
