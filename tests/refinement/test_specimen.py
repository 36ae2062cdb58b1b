"""Columns with continuous numbers of atoms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hrtem.refinement.specimen import Specimen
from hrtem.waves.differentiable import Species


def crystal(top, bottom=(0.0, 0.0), density=(1.0, 1.0), tilt=(0.0, 0.0)):
    def array(values):
        return torch.tensor(values, dtype=torch.float64)

    return Specimen(
        array([[8.0, 8.0], [12.0, 8.0]]), array(top), array(bottom), array(density), array([0.0, 0.5]),
        array([2.88, 2.88]), array(tilt), (Species("Au", 0.085),), torch.zeros(2, dtype=torch.long),
    )  # fmt: skip


def test_a_column_has_the_atoms_between_its_ends():
    sites = crystal([3.0, 4.5]).sites()
    whole = sites.occupancy > 0.0
    assert torch.bincount(sites.column[whole]).tolist() == [4, 6]
    numbers = torch.zeros(2).index_add_(0, sites.column, sites.occupancy.float())
    torch.testing.assert_close(numbers.double(), crystal([3.0, 4.5]).counts)
    heights = sites.positions[whole, 2]
    torch.testing.assert_close(heights[:4], 2.88 * torch.arange(4.0, dtype=torch.float64))
    assert float(heights[4]) == pytest.approx(0.5 * 2.88)
    assert crystal([3.0, 4.5]).exit_surface == pytest.approx(2.88 * 5.5)


@pytest.mark.parametrize("end", ["top", "bottom", "inner"])
def test_derivatives_of_occupancies_are_differences(end):
    """Half an atom to either side, so that the derivative is continuous where an end is whole."""
    for top in (3.0, 3.3):
        place = torch.zeros(2, 5, dtype=torch.float64)
        place[0, {"top": 2, "bottom": 3, "inner": 4}[end]] = step = 0.2 if end == "inner" else 0.5
        one = crystal([top, 4.5], density=(0.8, 1.0))

        def occupancy(sign, one=one, place=place):
            sites = one.moved(sign * place).sites()
            return torch.zeros(20, dtype=torch.float64).index_add_(
                0, (sites.positions[:, 2] / 1.44).round().long() + 2, sites.occupancy
            )

        sites = one.sites()
        change = torch.zeros(20, dtype=torch.float64).index_add_(
            0, (sites.positions[:, 2] / 1.44).round().long() + 2, getattr(sites, end) * (sites.column == 0)
        )
        torch.testing.assert_close(change, (occupancy(1.0) - occupancy(-1.0)) / (2.0 * step), atol=1e-6, rtol=1e-6)


def test_a_tilt_keeps_the_middles_of_columns_where_they_are():
    one = crystal([5.0, 3.0])
    tilted = one.tilted(torch.tensor([0.02, -0.03], dtype=torch.float64))
    torch.testing.assert_close(tilted.positions, one.positions, atol=1e-4, rtol=0.0)
    sites = tilted.sites()
    first = sites.positions[(sites.column == 0) & (sites.occupancy > 0.0)]
    slope = (first[-1] - first[0])[:2] / (first[-1] - first[0])[2]
    # A rotation about x moves the upper end towards -y, one about y towards +x.
    torch.testing.assert_close(slope, torch.tensor([-0.03, -0.02], dtype=torch.float64), atol=1e-3, rtol=0.0)


def test_columns_grow_at_both_ends_and_keep_some_of_an_atom():
    one = crystal([5.0, 0.0])
    grown = one.grown(1.0)
    torch.testing.assert_close(grown.counts, one.counts + 1.0)
    torch.testing.assert_close(grown.middle, one.middle)
    assert float(one.grown(-1.0).grown(-1.0).grown(-1.0).counts[1]) == pytest.approx(0.3)
    assert float(replace(one, density=torch.tensor([0.5, 1.0])).counts[0]) == 3.0
