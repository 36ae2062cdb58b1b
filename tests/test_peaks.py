"""Peaks in maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hrtem.errors import InputError
from hrtem.peaks import HeightPeaks, MassPeaks

SAMPLING, SIGMA = 0.2, 0.25


def finder(**changes):
    return MassPeaks(**{"sigma": SIGMA, "radius": 0.6, "min_distance": 0.6, "threshold": 0.5, **changes})


def blob(x, y, sigma=SIGMA, mass=1.0, side=48):
    """A Gaussian of the mass of ``mass`` columns at (x, y) Å."""
    axis = torch.arange(side) * SAMPLING
    distance2 = (axis[None] - x) ** 2 + (axis[:, None] - y) ** 2
    return (mass * SIGMA**2 / sigma**2 * torch.exp(-0.5 * distance2 / sigma**2))[None, None]


@pytest.mark.parametrize("offset", [0.0, 0.03, 0.07, 0.1])
def test_a_gaussian_is_located(offset):
    (found,) = finder()(blob(4.0 + offset, 5.0 - offset), SAMPLING, ("C",))
    assert len(found) == 1
    np.testing.assert_allclose(found.positions[0], [4.0 + offset, 5.0 - offset], atol=0.01)
    assert found.probabilities[0] == pytest.approx(1.0, abs=0.03)


def test_a_blurred_peak_keeps_most_of_its_probability():
    (found,) = finder(threshold=0.1)(blob(4.0, 4.0, sigma=0.35, mass=0.8), SAMPLING, ("C",))
    assert len(found) == 1
    height = 0.8 * (SIGMA / 0.35) ** 2
    assert height < 0.42 < 0.6 < found.probabilities[0] <= 0.8


@pytest.mark.parametrize("uncertain", [0.0, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("offset", [0.0, 0.05, 0.1])
def test_a_wider_peak_is_a_less_certain_position(uncertain, offset):
    maps = blob(4.0 + offset, 5.0, sigma=np.hypot(SIGMA, uncertain)) + blob(4.0 + offset, 3.4)
    (found,) = finder(threshold=0.3)(maps, SAMPLING, ("C",))
    neighbour, peak = found.sigmas
    assert neighbour < 0.04
    assert peak**2 == pytest.approx(uncertain**2, abs=0.001 + 0.05 * uncertain**2)


def test_variance_and_threshold_can_be_given():
    find, seen = finder(), []
    maps = blob(3.0, 3.0) + blob(6.0, 6.0, mass=0.3)
    (found,) = find(maps, SAMPLING, ("C",), threshold=0.1, variance=lambda excess: seen.append(excess) or excess + 1.0)
    assert len(found) == 2
    np.testing.assert_allclose(found.sigmas**2, seen[0] + 1.0)


def test_threshold():
    maps = blob(3.0, 3.0, mass=0.9) + blob(6.0, 6.0, mass=0.3)
    assert [len(finder(threshold=t)(maps, SAMPLING, ("C",))[0]) for t in (0.1, 0.5, 0.95)] == [2, 1, 0]


def test_the_class_with_most_mass_wins():
    maps = torch.cat([blob(3.0, 3.0, mass=0.4), blob(3.0, 3.0, mass=0.6)], dim=1)
    (found,) = finder()(maps, SAMPLING, ("S", "S2"))
    assert len(found) == 1
    assert found.classes[found.labels[0]] == "S2"


def test_batch_and_empty_maps():
    maps = torch.cat([torch.zeros(1, 1, 48, 48), blob(3.0, 6.0)])
    nothing, one = finder()(maps, SAMPLING, ("C",))
    assert len(nothing) == 0
    assert len(one) == 1
    np.testing.assert_allclose(one.positions[0], [3.0, 6.0], atol=0.01)


def test_a_column_at_the_border_is_kept():
    (found,) = finder()(blob(0.1, 4.0), SAMPLING, ("C",))
    assert len(found) == 1
    np.testing.assert_allclose(found.positions[0], [0.1, 4.0], atol=0.1)


def test_a_plateau_gives_few_peaks():
    flat = torch.full((1, 1, 48, 48), 0.05)
    assert len(finder()(flat, SAMPLING, ("C",))[0]) == 0


@pytest.mark.parametrize("change", [{"threshold": 1.5}, {"radius": -1}, {"sigma": 0}])
def test_bad_settings_are_refused(change):
    with pytest.raises(InputError, match=r"peaks\."):
        finder(**change)


def test_heights_are_probabilities_where_one_asks_for_them():
    """As in 2018: a blurred peak counts for its height alone, where its mass tells of a sure column."""
    blurred = blob(4.0, 4.0, sigma=0.4)
    heights = HeightPeaks(SIGMA, min_distance=0.6, threshold=0.3)
    (found,) = heights(blurred, SAMPLING, ("C",))
    assert found.probabilities[0] == pytest.approx((SIGMA / 0.4) ** 2, rel=0.02)
    np.testing.assert_allclose(found.positions[0], [4.0, 4.0], atol=0.01)
    assert len(HeightPeaks(SIGMA, 0.6, threshold=0.5)(blurred, SAMPLING, ("C",))[0]) == 0
    assert len(finder()(blurred, SAMPLING, ("C",))[0]) == 1
