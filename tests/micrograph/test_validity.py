"""Pixels that hold no image are found, and an ordinary image keeps all of its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from hrtem.errors import InputError
from hrtem.micrograph import Micrograph, Region, register_series
from hrtem.micrograph.validity import fill, find_validity

SIDE = 200
Y, X = np.mgrid[:SIDE, :SIDE]
RADIUS = np.hypot(Y - 99.5, X - 99.5)


def sheet(dose=1e4, sampling=0.2, where=True):
    """Counts of a bright-field image of a hexagonal lattice, or of vacuum outside of ``where``."""
    angles = np.radians([10.0, 70.0, 130.0])
    waves = sum(np.cos(2 * np.pi / 2.13 * sampling * (X * np.cos(a) + Y * np.sin(a))) for a in angles)
    expected = (1.0 + 0.05 * waves * where) * dose * sampling**2
    return np.random.default_rng(0).poisson(expected).astype(np.float32)


def disc_of_the_beam():
    return RADIUS <= 0.45 * SIDE


def turned():
    """The part of the field of view that stays after a rotation by 7°."""
    return ndimage.rotate(np.ones((SIDE, SIDE)), 7.0, reshape=False, order=1) > 0.999


def two_sides():
    return (Y >= 30) & (X < SIDE - 5)


@pytest.mark.parametrize("dose", [1e2, 1e4])
@pytest.mark.parametrize(
    ("field", "outside"),
    [
        *((field(), value) for field in (disc_of_the_beam, turned, two_sides) for value in (0.0, 7.25, np.nan)),
        (disc_of_the_beam(), "dark"),  # a rotation and a drift correction fill with a constant
    ],
)
def test_borders_are_found(field, dose, outside):
    image = sheet(dose)
    level = np.random.default_rng(1).normal(-30.0, 0.01, image.shape) if outside == "dark" else outside
    found = find_validity(np.where(field, image, level).astype(np.float32)).valid
    assert not (found & ~field).any()
    assert (field & ~found).mean() < 0.06  # a rim of one or two pixels


@pytest.mark.parametrize("columns", [[60], [60, 100, 140], [60, 61, 62]])
@pytest.mark.parametrize("value", ["hot", "dead", "highest"])
@pytest.mark.parametrize("turn", [False, True])
def test_hot_and_dead_lines_are_interpolated(columns, value, turn):
    image = sheet()
    damaged = image.copy()
    damaged[:, columns] = {"hot": damaged[:, columns] * 5.0, "dead": 0.0, "highest": damaged.max()}[value]
    image, damaged = (one.T if turn else one for one in (image, damaged))
    micrograph = Micrograph(damaged, 0.2, "a", "a.npy")
    assert micrograph.valid.all()
    (remark,) = micrograph.remarks
    assert ", ".join(map(str, columns)) in remark
    assert ("row" if turn else "column") in remark
    assert np.abs(micrograph.images[0] - image).max() < 6.0 * image.std()
    np.testing.assert_array_equal(
        np.delete(micrograph.images[0], columns, not turn), np.delete(image, columns, not turn)
    )


@pytest.mark.parametrize(("value", "noise"), [(0.0, 0.0), (5000.0, 0.0), (5.0, 2.0)], ids=["dead", "hot", "dark"])
@pytest.mark.parametrize("width", [4, 8, 19])
def test_gaps_between_tiles_hold_no_image(width, value, noise):
    damaged = sheet()
    gaps = np.zeros(damaged.shape, bool)
    gaps[90 : 90 + width] = gaps[:, 70 : 70 + width] = True
    damaged[gaps] = value + noise * np.random.default_rng(1).normal(size=gaps.sum())
    np.testing.assert_array_equal(find_validity(damaged).valid, ~gaps)


def clipped(image):
    low, high = np.percentile(image, (10, 90))
    return np.rint(255.0 * np.clip((image - low) / max(high - low, 1.0), 0.0, 1.0))


@pytest.mark.parametrize("where", [True, X < 90, RADIUS < 60, RADIUS > 60], ids=["sheet", "edge", "particle", "hole"])
@pytest.mark.parametrize("dose", [10.0, 1e2, 1e4])
@pytest.mark.parametrize("change", [lambda image: image, clipped, lambda image: ndimage.gaussian_filter(image, 1.5)])
@pytest.mark.parametrize("sampling", [0.05, 0.2])
def test_ordinary_images_keep_all_pixels(where, dose, change, sampling):
    image = np.asarray(change(sheet(dose, sampling, where)), np.float32)
    found = find_validity(image)
    assert found.valid.all()
    assert not found.repaired.any()


def test_isolated_pixels_are_interpolated_and_areas_repeat_the_nearest_pixel():
    image = (100.0 + X).astype(np.float32)
    damaged = image.copy()
    damaged[50, 50] = damaged[70:72, 80] = np.nan
    damaged[:, :20] = np.inf
    micrograph = Micrograph(damaged, 0.2, "a", "a.npy")
    np.testing.assert_allclose(micrograph.images[0, :, 20:], image[:, 20:], atol=0.1)
    assert (micrograph.images[0, :, :20] == 120.0).all()
    assert micrograph.share_left_out == pytest.approx(0.1)
    assert "10.0% of a.npy" in micrograph.warning
    assert "NaN" in micrograph.warning
    assert fill(image, np.ones(image.shape, bool)) is image


def test_a_mask_replaces_the_detection_and_a_crop_keeps_the_origin():
    image = np.where(two_sides(), sheet(), 0.0)
    mask = np.ones(image.shape)
    mask[100:, :100] = 0.0
    region = Region.parse(mask, [10, 20, 150, 160])
    micrograph = region.cropped(Micrograph(image, 0.2, "a", "a.npy", **region.marks()))
    expected = (mask > 0) & (X >= 10) & (X < 150) & (Y >= 20) & (Y < 160)
    np.testing.assert_array_equal(micrograph.valid, expected)
    assert micrograph.images.shape == (1, SIDE, SIDE)
    places = np.array([[10.0, 20.0], [9.4, 20.0], [50.0, 120.0], [149.4, 50.0], [149.6, 50.0]])
    assert micrograph.holds(places * 0.2).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"mask": np.zeros((9, 9))}, "is 0 everywhere"),
        ({"mask": np.ones((2, 9, 9))}, r"one image .* \(2, 9, 9\)"),
        ({"mask": "nowhere.png"}, "does not exist"),
        ({"crop": [0, 0, 10, 100]}, "at least 16 px"),
        ({"crop": [0, 0, 50.5, 100]}, "whole numbers"),
        ({"crop": [-1, 0, 50, 100]}, "from 0"),
        ({"crop": "abcd"}, "crop must be"),
        ({"crop": [0, 0, SIDE + 1, 100]}, f"within the {SIDE} x {SIDE} px"),
        ({"mask": np.ones((9, 9))}, f"{SIDE} x {SIDE} px .* 9 x 9"),
    ],
)
def test_mistakes_of_mask_and_crop_are_told(words, problem):
    def use():
        region = Region.parse(**words)
        return region.cropped(Micrograph(sheet(), 0.2, "a", "a.npy", **region.marks()))

    with pytest.raises(InputError, match=problem):
        use()


def test_a_series_is_valid_where_all_registered_images_are():
    whole = sheet() + 300.0 * ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(SIDE, SIDE)), 2.0)
    images = np.stack([np.roll(whole, shift, axis=1) for shift in (0, 0, 8)])
    images[0, :30] = 0.0
    micrograph = register_series(Micrograph(images, 0.2, "a", "a.npy"))
    np.testing.assert_allclose(micrograph.shifts[:, 0], [0.0, 0.0, -1.6], atol=0.05)
    assert not micrograph.valid[:30].any()
    assert micrograph.valid[33:].all()
