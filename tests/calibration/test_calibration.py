"""Does what a network says about its own certainty hold?"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from hrtem.calibration import AROUND, AS_DRAWN, MASS, Peaks, probabilities, variances
from hrtem.calibration.measurement import Presence, Reliability, Uncertainty
from hrtem.calibration.presence import features
from hrtem.calibration.uncertainty import LEAST, logarithms
from hrtem.columns import Columns
from hrtem.peaks import MassPeaks, OffsetPeaks

SIZE = 42.0
SIGMA = 0.25


def lattice():
    """400 places 2 Å apart, (x, y) in Å."""
    x, y = np.meshgrid(np.arange(20) * 2.0 + 2.0, np.arange(20) * 2.0 + 2.0)
    return np.column_stack([x.ravel(), y.ravel()])


def answers(rng, images, honest=lambda p: p, spread=1.0):
    """Candidates that say p and sigma, of truths that are there with ``honest(p)`` and off by ``spread`` sigma."""
    found, true = [], []
    for _ in range(images):
        places = lattice()
        said = rng.uniform(0.05, 1.0, len(places))
        sigmas = rng.uniform(0.03, 0.08, len(places))
        there = rng.uniform(size=len(places)) < honest(said)
        errors = spread * np.clip(rng.normal(size=places.shape), -3.0, 3.0) * sigmas[:, None]
        label = np.zeros(len(places), int)
        found.append(Columns(places + errors, label, ("C",), probabilities=said, sigmas=sigmas))
        true.append(Columns(places[there], label[there], ("C",)))
    return found, true


def diagram(found, true, reported=0.45):
    metric = Reliability(reported)
    metric.update(found, true, SIZE, SIZE, [0] * len(found))
    return metric.diagrams()[0]


def test_who_says_what_is_true_is_calibrated(rng):
    result = diagram(*answers(rng, 30))
    assert result.ece < 0.02
    # A probability drawn from 0.05 to 1 and kept has the Brier score E[p (1 - p)].
    p = np.linspace(0.05, 1.0, 10001)
    assert result.brier == pytest.approx((p * (1 - p)).mean(), rel=0.03)
    assert result.candidates == 30 * 400
    assert result.missed == 0
    assert result.ratio == pytest.approx([1.0] * len(result.ratio), abs=0.08)
    assert result.error_pm == sorted(result.error_pm)


def test_boasting_shows(rng):
    result = diagram(*answers(rng, 20, honest=lambda p: 0.6 * p, spread=2.0))
    assert result.ece == pytest.approx(0.4 * np.mean([0.05, 1.0]), abs=0.02)
    assert np.mean(result.ratio) == pytest.approx(2.0, abs=0.2)
    assert result.sigma_ratio == pytest.approx(2.0, abs=0.05)


def test_numbers_of_atoms_by_hand():
    """Of four columns one is not reported, and the number of another is unknown."""
    places = [[2.0, 2.0], [4.0, 2.0], [6.0, 2.0], [8.0, 2.0]]
    chances = [[0.9, 0.1], [0.42, 0.58], [0.7, 0.3], [1.0, 0.0]]
    said = Columns(
        places, [0] * 4, ("Au",), [1, 2, 1, 1], probabilities=[0.9, 0.9, 0.2, 0.9], count_probabilities=chances
    )
    result = diagram([said], [Columns(places, [0] * 4, ("Au",), [1, 1, 1, 0])])
    assert result.count_probability == pytest.approx([0.58, 0.9])
    assert (result.count_observed, result.counted) == ([0.0, 1.0], [1, 1])
    assert result.count_ece == pytest.approx((0.58 + 0.1) / 2)


def test_by_hand():
    """Of three candidates one is right by 0.2 Å, one invented, one at the border; one true column has none."""
    found = Columns(
        [[5, 5], [10, 10], [0.5, 5]], [0] * 3, ("C",), probabilities=[0.8, 0.3, 0.9], sigmas=[0.1, 0.2, 0.1]
    )
    true = Columns([[5.2, 5], [20, 20]], [0, 0], ("C",))
    result = diagram([found], [true])
    assert (result.candidates, result.missed, result.pairs) == (2, 1, [1])
    assert result.brier == pytest.approx((0.2**2 + 0.3**2) / 2)
    assert result.ece == pytest.approx((0.2 + 0.3) / 2)
    assert result.observed == [0.0, 1.0]
    assert result.sigma_pm == pytest.approx([10.0])
    assert result.error_pm == pytest.approx([20.0 / np.sqrt(2.0)])
    assert result.ratio == pytest.approx([np.sqrt(2.0)])
    # Of the errors -2 and 0 along x and y, in units of what is said.
    assert result.sigma_ratio == pytest.approx(1.0)


def test_a_position_counts_only_where_it_is_reported():
    found = Columns([[5, 5], [10, 10]], [0, 0], ("C",), probabilities=[0.2, 0.9], sigmas=[0.1, 0.1])
    result = diagram([found], [Columns(found.positions, [0, 0], ("C",))])
    assert (result.candidates, result.pairs) == (2, [1])


def test_nothing_found_is_no_number_and_still_json():
    nothing = Columns(np.empty((0, 2)), [], ("C",))
    result = diagram([nothing], [nothing])
    assert (result.ece, result.brier, result.sigma_ratio) == (None, None, None)
    assert (result.candidates, result.probability) == (0, [])
    assert "NaN" not in json.dumps(asdict(result))


def test_groups_are_kept_apart_and_add_up(rng):
    found, true = answers(rng, 4)
    metric = Reliability(0.45, groups=2)
    metric.update(found, true, SIZE, SIZE, [0, 0, 0, 1])
    together, most, one = metric.diagrams()
    assert (together.candidates, most.candidates, one.candidates) == (1600, 1200, 400)
    assert one == diagram(found[3:], true[3:])


def test_processes_share_the_work(rng):
    """Each state is a sum, so that of two processes is that of one."""
    found, true = answers(rng, 4)

    def fed(which):
        metric = Reliability(0.45)
        metric.update(found[which], true[which], SIZE, SIZE, [0] * len(found[which]))
        return metric

    whole, parts = fed(slice(0, 4)), [fed(slice(0, 1)), fed(slice(1, 4))]
    for name, reduction in whole._reductions.items():
        both = reduction(torch.stack([getattr(part, name) for part in parts]))
        torch.testing.assert_close(both, getattr(whole, name))


def test_processes_measure_one_law(rng):
    drawn, true = spread_out(rng, 4, lambda spreads, blur: spreads, [1.0, 3.0])

    def fed(which):
        metric = Uncertainty(SIGMA)
        metric.update(drawn[which], all_of(drawn[which]), true[which], SIZE, SIZE)
        return metric

    whole, parts = fed(slice(0, 4)), [fed(slice(0, 1)), fed(slice(1, 4))]
    both = Uncertainty(SIGMA)
    # As torchmetrics gathers lists, and in another order.
    both.rows = whole._reductions["rows"]([torch.cat(part.rows) for part in reversed(parts)])
    both._update_count = 1
    torch.testing.assert_close(both.compute(), whole.compute(), rtol=1e-6, atol=1e-9)


def spread_out(rng, images, law, blur):
    """Images of peaks with random spreads, sharp in one and blurred in another, and of the truth.

    Args:
        images: how many.
        law: gives the variance of positions, Å², from spreads and ``blur`` of the image.
        blur: of each image, what its spreads are larger by.
    """
    drawn, true = [], []
    for image in range(images):
        spreads = 0.001 * blur[image % len(blur)] * rng.lognormal(0.0, 0.4, 400)
        errors = np.clip(rng.normal(size=(400, 2)), -3.0, 3.0) * np.sqrt(law(spreads, blur[image % len(blur)]))[:, None]
        label = np.zeros(400, int)
        columns = Columns(lattice() + errors, label, ("C",), probabilities=rng.uniform(0.5, 0.9, 400))
        drawn.append(Peaks(columns, spreads))
        true.append(Columns(lattice(), label, ("C",)))
    return drawn, true


def all_of(peaks):
    return [np.ones(len(one), bool) for one in peaks]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_data_a_spread_is_a_variance(rng):
    law = Uncertainty(SIGMA).compute().numpy()
    assert law.tolist() == list(AS_DRAWN)
    (drawn,), _ = spread_out(rng, 1, lambda spreads, blur: spreads, [1.0])
    np.testing.assert_allclose(variances(drawn, SIGMA, law), drawn.spreads + LEAST * SIGMA**2, rtol=1e-9)


def test_errors_are_what_is_said_at_every_dose(rng):
    """Spreads say too little of noise, too much where there is none, and mean another thing among blurred peaks."""

    def law(spreads, blur):
        return 0.0008 + 0.5 * blur**0.7 * spreads

    doses = [1.0, 2.5, 6.0]
    metric = Uncertainty(SIGMA)
    drawn, true = spread_out(rng, 60, law, doses)
    metric.update(drawn, all_of(drawn), true, SIZE, SIZE)
    measured = metric.compute().numpy()
    unseen, true = spread_out(rng, 30, law, doses)
    groups = [image % len(doses) for image in range(len(unseen))]
    for values, right in ((measured, True), (np.array(AS_DRAWN), False)):
        said = [replace(one.columns, sigmas=np.sqrt(variances(one, SIGMA, values))) for one in unseen]
        reliability = Reliability(0.45, groups=len(doses))
        reliability.update(said, true, SIZE, SIZE, groups)
        ratios = [diagram.sigma_ratio for diagram in reliability.diagrams()]
        # Of a normal distribution that is cut off at 3.
        assert (ratios == pytest.approx([0.99] * len(ratios), abs=0.04)) is right, ratios


def test_a_law_holds_no_further_than_it_was_measured(rng):
    drawn, true = spread_out(rng, 20, lambda spreads, blur: 0.001 + spreads**2 / 0.001, [1.0, 3.0])
    metric = Uncertainty(SIGMA)
    metric.update(drawn, all_of(drawn), true, SIZE, SIZE)
    law = metric.compute().numpy()
    known = np.concatenate([variances(one, SIGMA, law) for one in drawn])
    far = [replace(drawn[0], spreads=spreads) for spreads in (np.zeros(400), np.full(400, 1.0))]
    for one in far:
        said = variances(one, SIGMA, law)
        assert known.min() / 2.0 < said.min() <= said.max() < 2.0 * known.max()


def test_only_what_is_reported_counts_but_all_peaks_are_around(rng):
    drawn, true = spread_out(rng, 4, lambda spreads, blur: spreads, [1.0])
    some = [rng.uniform(size=len(one)) < 0.5 for one in drawn]
    metric = Uncertainty(SIGMA)
    metric.update(drawn, some, true, SIZE, SIZE)
    rows = torch.cat(metric.rows).numpy()
    assert len(rows) == sum(map(np.sum, some))
    expected = np.concatenate([logarithms(one, SIGMA)[keep] for one, keep in zip(drawn, some, strict=True)])
    np.testing.assert_allclose(np.sort(rows[:, 1]), np.sort(expected[:, 1]))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_hardly_any_peaks_change_hardly_anything(rng, number):
    (drawn,), (true,) = spread_out(rng, 1, lambda spreads, blur: spreads, [1.0])
    few = Peaks(drawn.columns[:number], drawn.spreads[:number])
    metric = Uncertainty(SIGMA)
    metric.update([few], all_of([few]), [true], SIZE, SIZE)
    law = metric.compute().numpy()
    assert np.isfinite(law[:6]).all()
    said = variances(few, SIGMA, law)
    assert said.shape == (number,)
    np.testing.assert_allclose(said, few.spreads + LEAST * SIGMA**2, rtol=0.3)


def test_a_network_without_errors_says_so(rng):
    drawn, true = spread_out(rng, 10, lambda spreads, blur: 0.0 * spreads, [1.0])
    metric = Uncertainty(SIGMA)
    metric.update(drawn, all_of(drawn), true, SIZE, SIZE)
    said = np.sqrt(variances(drawn[0], SIGMA, metric.compute().numpy()))
    assert 0.0 < said.min() <= said.max() < 0.005


def test_uncertainties_do_not_depend_on_what_else_is_there(rng):
    """Whatever is cut off further away than a peak's surroundings reach."""
    drawn, true = spread_out(rng, 6, lambda spreads, blur: spreads, [1.0, 4.0])
    metric = Uncertainty(SIGMA)
    metric.update(drawn, all_of(drawn), true, SIZE, SIZE)
    law, whole = metric.compute().numpy(), drawn[1]
    piece = whole.columns.positions[:, 0] < 20.0 + AROUND
    inner = whole.columns.positions[piece][:, 0] < 20.0
    cut = Peaks(whole.columns[piece], whole.spreads[piece])
    ours, theirs = variances(whole, SIGMA, law)[piece][inner], variances(cut, SIGMA, law)[inner]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("kind", [OffsetPeaks(0.5, 0.6, 0.45), MassPeaks(SIGMA, 0.6, 0.6, 0.45)])
def test_spreads_do_not_depend_on_the_batch(rng, kind):
    maps = torch.rand(3, 1 + 2 * isinstance(kind, OffsetPeaks), 48, 48, generator=torch.Generator().manual_seed(0))
    maps[:, 1:] = 0.6 * maps[:, 1:] - 0.3
    together = kind(maps, 0.2, ("C",), 0.1)
    for number, columns in enumerate(together):
        (alone,) = kind(maps[number : number + 1], 0.2, ("C",), 0.1)
        assert len(alone) == len(columns) > 10
        ours, theirs = (kind.spreads(one, maps[number], 0.2) for one in (alone, columns))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_spread_of_votes_by_hand():
    """Pixels point to two places 0.2 Å apart along x with equal weight: along one axis of two, a variance of 0.1²."""
    find, maps = OffsetPeaks(0.5, 0.6, 0.45), torch.zeros(1, 3, 32, 32)
    y, x = torch.meshgrid(torch.arange(32) * 0.2, torch.arange(32) * 0.2, indexing="ij")
    maps[0, 0] = (torch.hypot(x - 3.0, y - 3.0) < 0.45).float()
    side = 0.1 * (1.0 - 2.0 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2))
    maps[0, 1], maps[0, 2] = 3.0 + side - x, 3.0 - y
    (columns,) = find(maps, 0.2, ("C",))
    (spread,) = find.spreads(columns, maps[0], 0.2)
    assert spread == pytest.approx(0.5 * 0.1**2, rel=0.05)
    nothing = find.spreads(columns[:0], maps[0], 0.2)
    assert nothing.shape == (0,)


def test_maps_of_a_proper_posterior_need_no_correction(rng):
    """Blends of displaced Gaussians, of which the truth is one: the error is what the width says."""
    sampling, find = 0.2, MassPeaks(SIGMA, radius=0.6, min_distance=0.6, threshold=0.45)
    axis = np.arange(64) * sampling
    metric = Reliability(0.45)
    for sigma in (0.05, 0.08, 0.13):
        for _ in range(16):
            x, y = np.meshgrid(np.arange(2.0, 11.0, 2.1), np.arange(2.0, 11.0, 2.1))
            centres = np.column_stack([x.ravel(), y.ravel()]) + rng.uniform(-0.1, 0.1, (x.size, 2))
            blends = centres[:, None] + sigma * rng.normal(size=(x.size, 300, 2))
            along = np.exp(-0.5 * (axis - blends[..., None]) ** 2 / SIGMA**2)
            maps = torch.from_numpy(np.einsum("nky,nkx->yx", along[:, :, 1], along[:, :, 0]) / 300).float()
            true = Columns(centres + sigma * rng.normal(size=centres.shape), np.zeros(x.size, int), ("C",))
            metric.update(find(maps[None, None], sampling, ("C",)), [true], axis[-1], axis[-1], [0])
    result = metric.diagrams()[0]
    crowded = [ratio for ratio, pairs in zip(result.ratio, result.pairs, strict=True) if pairs > 150]
    assert len(crowded) >= 3
    assert crowded == pytest.approx([1.0] * len(crowded), abs=0.12)


def peaks(rng, images, there):
    """Peaks of random masses and widths in images that are sharp or not; ``there(u, w, v)`` is their log odds."""
    answers, true = [], []
    for _ in range(images):
        places = lattice()
        blur = rng.uniform(1.0, 2.0)
        mass = rng.uniform(0.06, 0.95, len(places))
        found = Columns(
            places,
            np.zeros(len(places), int),
            ("C",),
            probabilities=mass,
            sigmas=SIGMA * blur * rng.uniform(0.9, 1.1, len(places)),
        )
        _, u, w, _, v, _ = features(found, SIGMA).T
        real = rng.uniform(size=len(places)) < 1.0 / (1.0 + np.exp(-there(u, w, v)))
        answers.append(found)
        true.append(Columns(places[real], found.labels[real], ("C",)))
    return answers, true


def test_masses_become_probabilities_whatever_the_blur(rng):
    def there(u, w, v):
        return 0.4 + 1.3 * u - 0.8 * w + 1.5 * v

    metric = Presence(SIGMA)
    metric.update(*peaks(rng, 40, there), SIZE, SIZE)
    coefficients = metric.compute().numpy()
    unseen, true = peaks(rng, 40, there)
    judged = [replace(one, probabilities=probabilities(one, SIGMA, coefficients)) for one in unseen]
    assert diagram(unseen, true).ece > 0.1
    assert diagram(judged, true).ece < 0.02


def test_without_data_a_mass_is_a_probability(rng):
    (found,), _ = peaks(rng, 1, lambda u, w, v: u)
    metric = Presence(SIGMA)
    assert metric.compute().tolist() == list(MASS)
    np.testing.assert_allclose(probabilities(found, SIGMA, np.array(MASS)), found.probabilities)
    nothing = found[:0]
    metric.update([nothing], [nothing], SIZE, SIZE)
    np.testing.assert_allclose(metric.compute().numpy(), MASS)
    assert probabilities(nothing, SIGMA, np.array(MASS)).shape == (0,)


def test_the_blur_around_a_peak_is_that_of_its_neighbours(rng):
    """Weighted with their masses, within reach, the peak itself among them."""
    places = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, AROUND + 1.0]])
    found = Columns(
        places, np.zeros(3, int), ("C",), probabilities=np.array([0.2, 0.6, 0.9]), sigmas=SIGMA * np.array([1, 2, 3])
    )
    w = np.log([1.0, 4.0, 9.0])
    around = features(found, SIGMA)[:, 4]
    np.testing.assert_allclose(around[0], (0.2 * w[0] + 0.6 * w[1]) / 0.8, rtol=1e-6)
    np.testing.assert_allclose(around[2], w[2], rtol=1e-6)
