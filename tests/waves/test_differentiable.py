"""Multislice in torch: against abTEM, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from hrtem.errors import InputError
from hrtem.waves.differentiable import Slices, Species
from hrtem.waves.multislice import Multislice, find_exit_surface

GOLD = [Species("Au", 0.085)]
#: What the digits of single precision leave uncertain in the finite differences below; the derivatives are near 1.
NOISE = 0.05


@pytest.fixture(scope="module")
def columns():
    """Columns of 1, 4, 9 and 12 atoms, between grid points and slightly inclined, in a cell that is not square."""
    places = [
        (3 + 5 * n + 0.03 * z, 4.83 + 0.1 * n, 1.5 + 2.88 * z)
        for n, top in enumerate((1, 4, 9, 12))
        for z in range(top)
    ]
    atoms = Atoms("Au" * len(places), places, cell=[24.0, 12.0, 40.0], pbc=[True, True, False])
    atoms.set_array("rms_displacement", np.full(len(atoms), 0.085))
    return atoms


def wave_of(positions, occupancy, plane, sparing=False):
    slices = Slices((60, 120), 0.2, 300e3, 0.0, 40.0, 20)
    kind = torch.zeros(len(positions), dtype=torch.long)
    return slices.leave(slices.cross(slices.project(positions, occupancy, GOLD, kind), sparing), plane)


def test_waves_are_those_of_abtem(columns):
    plane = find_exit_surface(columns)
    mine = wave_of(torch.from_numpy(columns.positions), torch.ones(len(columns)), plane).numpy()
    theirs = Multislice(300e3, 0.2)(columns)
    contrast = (np.abs(theirs) ** 2).std()
    assert contrast > 0.1
    assert np.abs(mine - theirs).max() < 1e-4 * contrast


def test_a_choice_of_the_recipe_gives_the_same_waves(columns):
    """Two species in a cell that is not square, as the stages of a training use it."""
    columns = columns.copy()
    columns.set_chemical_symbols(["C" if number % 3 else "Au" for number in range(len(columns))])
    theirs, mine = (Multislice(300e3, 0.2, engine=engine)(columns) for engine in ("abtem", "torch"))
    assert mine.shape == theirs.shape == (60, 120)
    assert mine.dtype == np.complex64
    assert np.abs(mine - theirs).max() < 1e-4 * (np.abs(theirs) ** 2).std()
    snapshots = Multislice(300e3, 0.2, engine="torch", frozen_phonons=2)(columns, np.random.default_rng(0))
    expected = Multislice(300e3, 0.2, frozen_phonons=2)(columns, np.random.default_rng(0))
    assert np.abs(snapshots - expected).max() < 1e-4 * (np.abs(expected) ** 2).std()
    assert Multislice(300e3, 0.2, engine="torch")(columns[:0]).shape == (60, 120)


@pytest.mark.parametrize("settings", [{"engine": "numpy"}, {"engine": "torch", "projection": "finite"}])
def test_engines_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError, match=r"wave\.(engine|projection) must be"):
        Multislice(300e3, 0.2, **settings)


def test_occupancies_are_those_of_abtem(columns):
    columns = columns.copy()
    occupancy = np.random.default_rng(0).uniform(0.0, 1.0, len(columns))
    columns.set_array("occupancy", occupancy)
    mine = wave_of(torch.from_numpy(columns.positions), torch.from_numpy(occupancy).float(), 36.0).numpy()
    assert np.abs(mine - Multislice(300e3, 0.2)(columns, plane=36.0)).max() < 3e-5


@pytest.mark.parametrize("sparing", [False, True])
def test_gradients_are_finite_differences(columns, sparing):
    """Of the intensity at one pixel beside each column, with respect to the position and occupancy of some atoms."""
    positions = torch.from_numpy(columns.positions).requires_grad_()
    occupancy = torch.ones(len(columns)).requires_grad_()
    weights = torch.rand(60, 120, generator=torch.Generator().manual_seed(0))

    def value(positions, occupancy):
        return (wave_of(positions, occupancy, 36.0, sparing).abs().square() * weights).double().sum()

    value(positions, occupancy).backward()
    for atom, axis, step in ((0, 0, 0.02), (3, 1, 0.02), (20, 0, 0.02), (20, 2, 0.05)):
        moved = torch.zeros_like(positions.detach())
        moved[atom, axis] = step
        change = value(positions.detach() + moved, occupancy.detach()) - value(
            positions.detach() - moved, occupancy.detach()
        )
        assert float(positions.grad[atom, axis]) == pytest.approx(float(change) / (2.0 * step), rel=0.04, abs=NOISE)
    for atom in (0, 4, 25):
        moved = torch.zeros_like(occupancy.detach())
        moved[atom] = 0.05
        change = value(positions.detach(), occupancy.detach() + moved) - value(
            positions.detach(), occupancy.detach() - moved
        )
        assert float(occupancy.grad[atom]) == pytest.approx(float(change) / 0.1, rel=0.04, abs=NOISE)


def test_the_trace_ends_with_the_wave(columns):
    slices = Slices((60, 120), 0.2, 300e3, 0.0, 40.0, 20)
    kind = torch.zeros(len(columns), dtype=torch.long)
    potential = slices.project(torch.from_numpy(columns.positions), torch.ones(len(columns)), GOLD, kind)
    passage = slices.trace(potential)
    assert passage.before.shape == passage.transmission.shape == (20, 120, 240)
    torch.testing.assert_close(passage.behind, slices.cross(potential))
    assert float((passage.before[0] - 1.0).abs().max()) == 0.0
