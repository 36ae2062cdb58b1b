"""Peaks in maps."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from hrtem.errors import InputError
from hrtem.matching import match
from hrtem.peaks import CountedOffsetPeaks, HeightPeaks, MassPeaks, OffsetPeaks
from hrtem.targets import CountedOffsetMaps, GaussianMaps, OffsetMaps
from hrtem.targets.atom_counts import Classes

SAMPLING, SIGMA = 0.2, 0.25


def predictor(**changes):
    return MassPeaks(**{"sigma": SIGMA, "radius": 0.6, "min_distance": 0.6, "threshold": 0.5, **changes})


def blob(x, y, sigma=SIGMA, mass=1.0, side=48):
    """A Gaussian of the mass of ``mass`` columns at (x, y) Å."""
    axis = torch.arange(side) * SAMPLING
    distance2 = (axis[None] - x) ** 2 + (axis[:, None] - y) ** 2
    return (mass * SIGMA**2 / sigma**2 * torch.exp(-0.5 * distance2 / sigma**2))[None, None]


@pytest.mark.parametrize("offset", [0.0, 0.03, 0.07, 0.1])
def test_a_gaussian_is_located(offset):
    (found,) = predictor()(blob(4.0 + offset, 5.0 - offset), SAMPLING, ("C",))
    assert len(found) == 1
    np.testing.assert_allclose(found.positions[0], [4.0 + offset, 5.0 - offset], atol=0.01)
    assert found.probabilities[0] == pytest.approx(1.0, abs=0.03)


def test_a_blurred_peak_keeps_most_of_its_probability():
    (found,) = predictor(threshold=0.1)(blob(4.0, 4.0, sigma=0.35, mass=0.8), SAMPLING, ("C",))
    assert len(found) == 1
    height = 0.8 * (SIGMA / 0.35) ** 2
    assert height < 0.42 < 0.6 < found.probabilities[0] <= 0.8


@pytest.mark.parametrize("uncertain", [0.0, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("offset", [0.0, 0.05, 0.1])
def test_a_wider_peak_is_a_less_certain_position(uncertain, offset):
    maps = blob(4.0 + offset, 5.0, sigma=np.hypot(SIGMA, uncertain)) + blob(4.0 + offset, 3.4)
    (found,) = predictor(threshold=0.3)(maps, SAMPLING, ("C",))
    neighbour, peak = found.sigmas
    assert neighbour < 0.04
    assert peak**2 == pytest.approx(uncertain**2, abs=0.001 + 0.05 * uncertain**2)


def test_variance_and_threshold_can_be_given():
    find, seen = predictor(), []
    maps = blob(3.0, 3.0) + blob(6.0, 6.0, mass=0.3)
    (found,) = find(maps, SAMPLING, ("C",), threshold=0.1, variance=lambda excess: seen.append(excess) or excess + 1.0)
    assert len(found) == 2
    np.testing.assert_allclose(found.sigmas**2, seen[0] + 1.0)


def test_threshold():
    maps = blob(3.0, 3.0, mass=0.9) + blob(6.0, 6.0, mass=0.3)
    assert [len(predictor(threshold=t)(maps, SAMPLING, ("C",))[0]) for t in (0.1, 0.5, 0.95)] == [2, 1, 0]


def test_the_class_with_most_mass_wins():
    maps = torch.cat([blob(3.0, 3.0, mass=0.4), blob(3.0, 3.0, mass=0.6)], dim=1)
    (found,) = predictor()(maps, SAMPLING, ("S", "S2"))
    assert len(found) == 1
    assert found.classes[found.labels[0]] == "S2"
    np.testing.assert_allclose(found.class_probabilities, [[0.4, 0.6]], atol=0.03)
    np.testing.assert_allclose(found.class_probabilities.sum(axis=1), found.probabilities)


def test_batch_and_empty_maps():
    maps = torch.cat([torch.zeros(1, 1, 48, 48), blob(3.0, 6.0)])
    nothing, one = predictor()(maps, SAMPLING, ("C",))
    assert len(nothing) == 0
    assert len(one) == 1
    np.testing.assert_allclose(one.positions[0], [3.0, 6.0], atol=0.01)


def test_a_column_at_the_border_is_kept():
    (found,) = predictor()(blob(0.1, 4.0), SAMPLING, ("C",))
    assert len(found) == 1
    np.testing.assert_allclose(found.positions[0], [0.1, 4.0], atol=0.1)


def test_a_plateau_gives_few_peaks():
    flat = torch.full((1, 1, 48, 48), 0.05)
    assert len(predictor()(flat, SAMPLING, ("C",))[0]) == 0


@pytest.mark.parametrize("change", [{"threshold": 1.5}, {"radius": -1}, {"sigma": 0}])
def test_bad_settings_are_refused(change):
    with pytest.raises(InputError, match=r"peaks\."):
        predictor(**change)


def test_heights_are_probabilities_where_one_asks_for_them():
    """As in 2018: a blurred peak counts for its height alone, where its mass tells of a sure column."""
    blurred = blob(4.0, 4.0, sigma=0.4)
    heights = HeightPeaks(SIGMA, min_distance=0.6, threshold=0.3)
    (found,) = heights(blurred, SAMPLING, ("C",))
    assert found.probabilities[0] == pytest.approx((SIGMA / 0.4) ** 2, rel=0.02)
    np.testing.assert_allclose(found.positions[0], [4.0, 4.0], atol=0.01)
    assert len(HeightPeaks(SIGMA, 0.6, threshold=0.5)(blurred, SAMPLING, ("C",))[0]) == 0
    assert len(predictor()(blurred, SAMPLING, ("C",))[0]) == 1


#: Columns far enough apart, with their atoms.
POINTS = np.array([[2.03, 2.07], [4.91, 2.98], [3.02, 6.11], [6.97, 6.53], [7.5, 1.1]])
ATOMS = np.array([1, 2, 5, 7, 8])


def given():
    return torch.from_numpy(POINTS)[None].float(), torch.zeros(1, len(POINTS), dtype=torch.long), (48, 48), SAMPLING


def test_counts_come_back_with_their_probabilities():
    target, peaks = CountedOffsetMaps(11, 0.5, Classes(8)), CountedOffsetPeaks(0.5, 0.6, 0.45)
    assert peaks.reads == target.answers
    drawn = target(*given(), torch.from_numpy(ATOMS)[None])
    # Four tenths for one atom more; the last column cannot have more.
    number = drawn[0, 1].long()
    odds = torch.zeros(9, *number.shape)
    for share, more in ((0.6, 0), (0.4, 1)):
        odds.scatter_add_(0, (number + more).clamp_max(8)[None], torch.full_like(drawn[0, :1], share))
    maps = torch.cat([drawn[:, :1], odds[None, 1:], 0.5 * drawn[:, -2:]], dim=1)
    (found,) = peaks(maps, SAMPLING, ("Au",))
    i, j = match(found.positions, POINTS)
    assert len(found) == len(i) == len(POINTS)
    np.testing.assert_allclose(found.positions[i], POINTS[j], atol=0.02)
    np.testing.assert_array_equal(found.counts[i], ATOMS[j])
    np.testing.assert_allclose(found.count_probabilities[i].max(axis=1), np.where(ATOMS[j] == 8, 1.0, 0.6), atol=0.02)
    np.testing.assert_allclose(found.count_probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize("classes", [("C",), ("Mo", "S2")])
def test_offsets_come_back(classes):
    labels = torch.arange(len(POINTS))[None] % len(classes)
    target = OffsetMaps(len(classes) + 2, 0.5)
    drawn = target(given()[0], labels, *given()[2:])
    maps = torch.cat([drawn[:, :-2], 0.5 * drawn[:, -2:]], dim=1)
    (found,) = OffsetPeaks(0.5, 0.6, 0.45)(maps, SAMPLING, classes)
    np.testing.assert_allclose(found.class_probabilities.sum(axis=1), found.probabilities)
    assert (found.class_probabilities.argmax(axis=1) == found.labels).all()
    i, j = match(found.positions, POINTS)
    assert len(found) == len(i) == len(POINTS)
    np.testing.assert_allclose(found.positions[i], POINTS[j], atol=1e-3)
    np.testing.assert_array_equal(found.labels[i], labels[0].numpy()[j])
    assert found.probabilities.min() > 0.95


def test_wrong_offsets_outweigh_where_the_disc_is():
    """The place is the offsets' matter: discs drawn at one place whose pixels all point 0.1 Å to the right of it."""
    drawn = OffsetMaps(3, 0.5)(torch.tensor([[[4.0, 4.0]]]), torch.tensor([[0]]), (48, 48), SAMPLING)
    maps = torch.cat([drawn[:, :1], 0.5 * drawn[:, 1:2] + 0.1 * (drawn[:, :1] > 0), 0.5 * drawn[:, 2:]], dim=1)
    (found,) = OffsetPeaks(0.5, 0.6, 0.3)(maps, SAMPLING, ("C",))
    np.testing.assert_allclose(found.positions, [[4.1, 4.0]], atol=0.01)


def test_no_disc_and_one_at_the_border():
    peaks = OffsetPeaks(0.5, 0.6, 0.45)
    drawn = OffsetMaps(3, 0.5)(torch.tensor([[[0.05, 4.0]]]), torch.tensor([[0]]), (48, 48), SAMPLING)
    nothing, one = peaks(
        torch.cat([torch.zeros(1, 3, 48, 48), drawn * torch.tensor([1, 0.5, 0.5])[:, None, None]]), SAMPLING, ("C",)
    )
    assert (len(nothing), len(one)) == (0, 1)
    np.testing.assert_allclose(one.positions, [[0.05, 4.0]], atol=1e-3)


def test_bad_settings_of_other_peaks_are_refused():
    with pytest.raises(InputError, match=r"peaks\.radius"):
        OffsetPeaks(0.0, 0.6, 0.45)


@pytest.mark.parametrize("distance", [0.6, 0.7, 0.85])
@pytest.mark.parametrize("angle", [0.0, 0.3, 0.785, 1.2])
def test_two_close_columns_are_two(distance, angle):
    """As the target draws them, wherever they lie between pixels; each counts its own pixels."""
    way = 0.5 * distance * np.array([np.cos(angle), np.sin(angle)])
    for x in (0.0, 0.07, 0.13):
        points = np.array([4.0 + x, 5.0 - x]) + np.array([way, -way])
        maps = GaussianMaps(1, SIGMA)(
            torch.from_numpy(points)[None].float(), torch.zeros(1, 2, dtype=torch.long), (48, 48), SAMPLING
        )
        (found,) = predictor()(maps, SAMPLING, ("C",))
        i, j = match(found.positions, points)
        assert len(found) == len(i) == 2
        np.testing.assert_allclose(found.positions[i], points[j], atol=0.05)
        assert found.probabilities.min() > 0.8


def test_one_column_at_one_of_two_places_is_one():
    """What a network answers that knows of one column and not which of two places, 0.6 Å apart, is its own."""
    points = torch.tensor([[[4.0, 5.0], [4.6, 5.0]]])
    maps = 0.5 * GaussianMaps(1, SIGMA)(points, torch.zeros(1, 2, dtype=torch.long), (48, 48), SAMPLING)
    (found,) = predictor()(maps, SAMPLING, ("C",))
    assert len(found) == 1
    assert found.probabilities[0] > 0.6


def test_ten_thousand_peaks_a_second():
    """On one core, in time that the process itself takes."""
    place = torch.arange(1.0, 99.0, 1.42)
    grid = torch.stack(torch.meshgrid(place, place, indexing="ij"), dim=-1).reshape(1, -1, 2)
    labels = torch.zeros(grid.shape[:2], dtype=torch.long)
    maps = GaussianMaps(1, SIGMA)(grid, labels, (500, 500), SAMPLING)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        predictor()(maps, SAMPLING, ("C",))
        start = time.process_time()
        (found,) = predictor()(maps, SAMPLING, ("C",))
        seconds = time.process_time() - start
    finally:
        torch.set_num_threads(threads)
    assert len(found) == grid.shape[1]
    assert len(found) / seconds > 1e4
