"""Local contrast normalisation."""

from __future__ import annotations

import pytest
import torch

from hrtem.errors import InputError
from hrtem.normalisation import LocalContrast

SAMPLING = 0.2


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    x = torch.arange(256) * SAMPLING
    pattern = torch.sin(2 * torch.pi * x / 2.13)[None] + torch.sin(2 * torch.pi * x / 2.5)[:, None]
    return (pattern + 0.5 * torch.randn(256, 256, generator=generator))[None, None]


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1.0, 2000.0), (0.01, -5.0), (50.0, 1e4)])
def test_gain_and_offset_drop_out(image, gain, offset):
    normalise = LocalContrast(12.0)
    torch.testing.assert_close(
        normalise(gain * image + offset, SAMPLING), normalise(image, SAMPLING), atol=5e-3, rtol=1e-3
    )


def test_result_is_centred_with_unit_spread(image):
    result = LocalContrast(12.0)(image, SAMPLING)
    assert float(result.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(result.std()) == pytest.approx(1.0, abs=0.05)


def test_a_contrast_that_varies_over_the_image_is_evened_out(image):
    ramp = torch.linspace(1.0, 5.0, 256)
    result = LocalContrast(6.0)(image * ramp, SAMPLING)[0, 0]
    weak, strong = result[:, 40:80].std(), result[:, 176:216].std()
    assert float(strong / weak) == pytest.approx(1.0, abs=0.1)


def test_the_middle_does_not_depend_on_the_size(image):
    """Cutting the image more than 4 sigma away changes nothing."""
    normalise = LocalContrast(3.0)
    whole = normalise(image, SAMPLING)[..., 100:156, 100:156]
    cut = normalise(image[..., 30:226, 20:236], SAMPLING)[..., 70:126, 80:136]
    torch.testing.assert_close(whole, cut, atol=2e-3, rtol=2e-3)


def test_ratios_within_a_focal_series_are_kept(image):
    series = torch.cat([image, 2.0 * image], dim=1)
    result = LocalContrast(12.0)(series, SAMPLING)
    assert float(result[:, 1].std() / result[:, 0].std()) == pytest.approx(2.0, rel=0.02)


def test_a_blank_image_of_a_series_is_missing_and_the_others_are_as_without_it(image):
    series = torch.cat([image, torch.full_like(image, 7.0), 2.0 * image], dim=1)
    result = LocalContrast(12.0)(torch.cat([series, series.roll(1, 1)]), SAMPLING)
    torch.testing.assert_close(result[:1, ::2], LocalContrast(12.0)(series[:, ::2], SAMPLING))
    torch.testing.assert_close(result[1:], result[:1].roll(1, 1))
    assert float(result[0, 1].abs().max()) == 0.0
    assert float(LocalContrast(12.0)(torch.ones(1, 2, 64, 64), SAMPLING).abs().max()) == 0.0


def test_an_empty_part_is_not_blown_up(image):
    image = image.clone()
    image[..., :, :128] = 0.0
    result = LocalContrast(2.0)(image, SAMPLING)
    assert bool(torch.isfinite(result).all())
    assert float(result[..., :60].abs().max()) < 1.0


@pytest.mark.parametrize("sigma", [1.0, 3.0, 12.0])
def test_averages_are_those_of_a_gaussian(image, sigma):
    """Beside the sum over all pixels, written out."""
    image = image[..., :200, :].double()
    image = (image - image.mean()) / image.std()

    def average(values):
        for axis in (-1, -2):
            pixel = torch.arange(values.shape[axis]).double() * SAMPLING
            weights = torch.exp(-0.5 * ((pixel[:, None] - pixel) / sigma) ** 2)
            values = (values.transpose(axis, -1) @ (weights / weights.sum(1, keepdim=True)).T).transpose(axis, -1)
        return values

    mean = average(image)
    expected = (image - mean) / (average(image.square()) - mean.square()).clamp_min(1e-4).sqrt()
    torch.testing.assert_close(LocalContrast(sigma)(image, SAMPLING), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [1.0, 12.0])
@pytest.mark.parametrize("piece", [37, 100, 300])
def test_an_image_seen_in_pieces_is_normalised_as_a_whole(image, sigma, piece):
    series = torch.cat([image, 2.0 * image.roll(7, -1)], dim=1)[..., :230, :]
    series[..., :20, :20] = 0.0
    normalise = LocalContrast(sigma)
    surroundings = normalise.surroundings((230, 256), SAMPLING)
    corners = [(top, left) for top in range(0, 230, piece) for left in range(0, 256, piece)]
    for top, left in corners:
        surroundings.add(series[0, :, top : top + piece, left : left + piece], top, left)
    whole = normalise(series, SAMPLING)[0]
    for top, left in corners:
        cut = (slice(None), slice(top, top + piece), slice(left, left + piece))
        torch.testing.assert_close(surroundings.normalise(series[0][cut], top, left), whole[cut], atol=3e-5, rtol=1e-5)


def test_sigma_must_be_a_length():
    with pytest.raises(InputError, match=r"normalisation\.sigma"):
        LocalContrast(-1.0)


def test_pixels_that_are_not_valid_have_no_influence(image):
    """Beside the sums over valid pixels, written out."""
    image = image[0, :, :200, :180]
    valid = torch.ones(200, 180, dtype=torch.bool)
    valid[:50] = valid[:, 90:95] = valid[100:140, 100:140] = False
    normalise = LocalContrast(3.0)
    results = []
    for outside in (0.0, 1e3):
        series = torch.where(valid, image, outside)
        moments = normalise.surroundings((200, 180), SAMPLING, masked=True)
        for top in (0, 77):
            rows = slice(top, 77 if top == 0 else 200)
            moments.add(series[:, rows], top, 0, valid[rows])
        results.append(moments.normalise(series, 0, 0)[0])
    torch.testing.assert_close(results[0][valid], results[1][valid])

    def total(values):
        for axis in (-1, -2):
            pixel = torch.arange(values.shape[axis]).double() * SAMPLING
            weights = torch.exp(-0.5 * ((pixel[:, None] - pixel) / 3.0) ** 2)
            values = (values.transpose(axis, -1) @ weights).transpose(axis, -1)
        return values

    values, weights = image[0].double() * valid, valid.double()
    mean = total(values) / total(weights)
    expected = (image[0].double() - mean) / (total(values.square()) / total(weights) - mean.square()).sqrt()
    torch.testing.assert_close(results[0][valid].double(), expected[valid], atol=1e-4, rtol=1e-4)
    assert bool(torch.isfinite(results[1]).all())


def test_a_mask_of_valid_pixels_changes_nothing(image):
    plain, masked = (LocalContrast(3.0).surroundings((256, 256), SAMPLING, masked=masked) for masked in (False, True))
    plain.add(image[0], 0, 0)
    masked.add(image[0], 0, 0, torch.ones(256, 256, dtype=torch.bool))
    torch.testing.assert_close(masked.normalise(image[0], 0, 0), plain.normalise(image[0], 0, 0))
