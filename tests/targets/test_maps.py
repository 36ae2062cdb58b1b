"""Target maps, and the round trip columns → maps → peaks → columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hrtem.errors import InputError
from hrtem.matching import match
from hrtem.peaks import MassPeaks
from hrtem.targets import CountedOffsetMaps, GaussianMaps, OffsetMaps, SoftmaxMaps
from hrtem.targets.atom_counts import Classes
from hrtem.targets.losses import OffsetLoss

SAMPLING, SIGMA = 0.2, 0.25


def test_a_column_on_a_pixel_centre():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[0]]), (12, 24), SAMPLING)
    assert maps.shape == (1, 1, 12, 24)
    assert float(maps[0, 0, 5, 15]) == pytest.approx(1.0)  # x = 3 Å is the pixel column 15, y = 1 Å the row 5
    assert float(maps[0, 0, 5, 16]) == pytest.approx(np.exp(-0.5 * (SAMPLING / SIGMA) ** 2), rel=1e-5)


def test_the_mass_is_that_of_a_gaussian():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[3.07, 2.93]]]), torch.tensor([[0]]), (32, 32), SAMPLING)
    assert float(maps.sum()) * SAMPLING**2 == pytest.approx(2 * np.pi * SIGMA**2, rel=1e-3)


def test_classes_have_their_own_maps_and_fillers_none():
    positions = torch.tensor([[[1.0, 1.0], [4.0, 4.0]], [[2.0, 2.0], [0.0, 0.0]]])
    labels = torch.tensor([[0, 2], [1, -1]])
    maps = GaussianMaps(3, SIGMA)(positions, labels, (32, 32), SAMPLING)
    occupied = maps.amax(dim=(2, 3)) > 0.5
    assert occupied.tolist() == [[True, False, True], [False, True, False]]


def test_columns_beyond_the_border_reach_in():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[-0.2, 1.0], [9.0, 9.0]]]), torch.tensor([[0, 0]]), (16, 16), SAMPLING)
    assert float(maps[0, 0, 5, 0]) == pytest.approx(np.exp(-0.5 * (0.2 / SIGMA) ** 2), rel=1e-5)
    assert float(maps[0, 0, 12:, 12:].max()) == 0.0


def test_neighbours_do_not_add_up():
    maps = GaussianMaps(1, SIGMA)(torch.tensor([[[2.0, 2.0], [2.2, 2.0]]]), torch.tensor([[0, 0]]), (32, 32), SAMPLING)
    assert float(maps.max()) == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [("C",), ("Mo", "S2", "S")])
def test_round_trip(classes, rng):
    """Random columns at least 1.3 Å apart come back within 0.01 Å with their class and a probability near 1."""
    points = np.empty((0, 2))
    while len(points) < 150:
        point = rng.uniform(1.0, 24.4, size=2)
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > 1.3:
            points = np.vstack([points, point])
    labels = rng.integers(len(classes), size=len(points))
    maps = GaussianMaps(len(classes), SIGMA)(
        torch.from_numpy(points)[None].float(), torch.from_numpy(labels)[None], (128, 128), SAMPLING
    )
    peaks = MassPeaks(sigma=SIGMA, radius=0.6, min_distance=0.6, threshold=0.5)
    (found,) = peaks(maps, SAMPLING, classes)
    i, j = match(found.positions, points)
    assert len(found) == len(i) == len(points)
    assert np.abs(found.positions[i] - points[j]).max() < 0.03
    assert np.sqrt(np.square(found.positions[i] - points[j]).mean()) < 0.01
    np.testing.assert_array_equal(found.labels[i], labels[j])
    assert found.probabilities.min() > 0.9


@pytest.mark.parametrize(("channels", "sigma"), [(0, 0.25), (1, -1.0), (1, [0.3, 0.2])])
def test_bad_settings_are_refused(channels, sigma):
    with pytest.raises(InputError, match=r"target\."):
        GaussianMaps(channels, sigma)


def columns(points, *more):
    """Positions and further numbers of one image's columns, as the targets take them."""
    return torch.tensor(np.array([points]), dtype=torch.float32), *(torch.tensor([numbers]) for numbers in more)


def test_softmax_maps_add_up_to_one_and_hold_the_same_gaussians():
    positions, labels = columns([[2.0, 2.0], [4.1, 3.9]], [0, 1])
    maps = SoftmaxMaps(3, SIGMA)(positions, labels, (32, 32), SAMPLING)
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(1, 32, 32))
    torch.testing.assert_close(maps[:, :2], GaussianMaps(2, SIGMA)(positions, labels, (32, 32), SAMPLING))
    assert float(maps.min()) >= 0.0


def test_two_classes_at_one_place_share_the_softmax():
    maps = SoftmaxMaps(3, SIGMA)(*columns([[2.0, 2.0], [2.0, 2.0]], [0, 1]), (32, 32), SAMPLING)
    assert maps[0, :, 10, 10].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)


def test_logits_of_a_softmax_target_mean_its_classes():
    target = SoftmaxMaps(3, SIGMA)
    maps = target(*columns([[2.0, 2.0], [4.1, 3.9]], [0, 1]), (32, 32), SAMPLING)
    torch.testing.assert_close(target.maps(maps.clamp_min(1e-12).log()), maps[:, :2], atol=1e-6, rtol=0)


def test_discs_know_the_atoms_of_the_nearest_column():
    points, heads = [[1.0, 1.0], [1.7, 1.0], [5.0, 5.0]], Classes(9)
    positions, labels, atoms = columns(points, [0, 0, 0], [2, 12, 0])
    maps = CountedOffsetMaps(12, 0.5, heads)(positions, labels, (32, 32), SAMPLING, atoms)
    plain = OffsetMaps(3, 0.5)(positions, labels, (32, 32), SAMPLING)
    torch.testing.assert_close(maps[:, [0, 2, 3]], plain)
    assert maps[0, 1, 5, 3:13].tolist() == [2, 2, 2, 2, 12, 12, 12, 12, 12, 0]
    assert maps[0, 1, 20:].max() == 0  # the number of the last column is unknown


def test_unknown_counts_are_refused():
    positions, labels, atoms = columns([[1.0, 1.0]], [0], [0])
    for given in (atoms, None):
        with pytest.raises(InputError, match="does not say how many"):
            CountedOffsetMaps(12, 0.5, Classes(9))(positions, labels, (32, 32), SAMPLING, given)


def test_offsets_lead_to_the_nearest_column():
    points = np.array([[2.03, 2.51], [2.71, 2.95], [5.0, 0.1]])
    maps = OffsetMaps(4, 0.5)(*columns(points, [0, 1, 1]), (32, 48), SAMPLING)[0].numpy()
    there = maps[:2].max(axis=0) > 0
    y, x = np.nonzero(there)
    pixels = np.column_stack([x, y]) * SAMPLING
    led = pixels + 0.5 * maps[2:, y, x].T
    distance = np.linalg.norm(pixels[:, None] - points[None], axis=2)
    np.testing.assert_allclose(led, points[distance.argmin(axis=1)], atol=1e-5)
    assert not maps[2:, ~there].any()
    assert maps[0].sum() * SAMPLING**2 == pytest.approx(np.pi * 0.5**2, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CountedOffsetMaps(12, 0.5, Classes(9), classes=2), "one class"),
        (lambda: CountedOffsetMaps(4, 0.5, Classes(9)), r"target\.channels must be 12"),
        (lambda: Classes(1), r"target\.count\.largest"),
        (lambda: OffsetMaps(2, 0.5), r"target\.channels must be at least 3"),
        (lambda: OffsetMaps(3, 0.0), r"target\.radius"),
    ],
)
def test_bad_settings_of_other_targets_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_losses_that_do_not_fit_are_refused():
    bce, softmax, offsets = torch.nn.BCEWithLogitsLoss(), torch.nn.CrossEntropyLoss(), OffsetLoss()
    targets = {GaussianMaps(1, SIGMA): bce, SoftmaxMaps(2, SIGMA): softmax, OffsetMaps(3, 0.5): offsets}
    for target, right in targets.items():
        for loss in (bce, softmax, offsets):
            if loss is right:
                target.check(loss)
            else:
                with pytest.raises(InputError, match=r"task\.loss"):
                    target.check(loss)
