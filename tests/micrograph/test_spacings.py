"""The pixel size against the lattice: silent where it is right or nothing is seen, else with the factor."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from hrtem.micrograph import Micrograph, check_lattice, lattice_spacings, measure_lattice_factor, read

GRAPHENE = (2.13, 2.13 / np.sqrt(3.0))
REAL = [("graphene_dtu/image.tif", 0.1185), ("graphene_flower/image.tif", 0.2188)]
REAL += [("readers/graphene_disordered_calibrated.dm3", 0.1382)]


def fringes(spacing: float, sampling: float, noise: float = 1.0, shape: tuple[int, int] = (200, 260)) -> np.ndarray:
    """A hexagonal lattice of three sets of fringes, Å, under noise."""
    y, x = np.mgrid[: shape[0], : shape[1]] * sampling
    image = np.random.default_rng([0, 1]).normal(scale=noise, size=shape)
    for angle in np.radians([10.0, 70.0, 130.0]):
        image += 0.3 * np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / spacing)
    return image.astype(np.float32)


@pytest.mark.parametrize("wrong", [0.1, 0.5, 0.9, 1.0, 1.08, 2.0, 10.0])
@pytest.mark.parametrize("sampling", [0.1, 0.25])
def test_the_factor_of_a_lattice(sampling: float, wrong: float) -> None:
    image = fringes(2.13, sampling)
    assert measure_lattice_factor(image, sampling * wrong, GRAPHENE) == pytest.approx(1 / wrong, rel=0.015)


def test_a_second_ring_alone_is_no_contradiction() -> None:
    assert measure_lattice_factor(fringes(GRAPHENE[1], 0.2), 0.2, GRAPHENE) == pytest.approx(1.0, rel=0.015)


def test_nothing_is_said_of_noise_or_one_set_of_fringes() -> None:
    rng = np.random.default_rng([0, 2])
    for _ in range(20):
        assert measure_lattice_factor(rng.normal(size=(256, 256)), 0.1, GRAPHENE) is None
        assert measure_lattice_factor(rng.poisson(0.5, size=(200, 150)), 0.1, GRAPHENE) is None
    x = np.arange(256) * 0.2
    assert measure_lattice_factor(np.cos(2 * np.pi * x / 3.4) + rng.normal(size=(256, 256)), 0.2, GRAPHENE) is None


def test_the_sentence() -> None:
    micrograph = Micrograph(fringes(2.13, 0.1), 1.0, "a", Path("a.dm3"))
    assert re.fullmatch(
        r"The pixel size of a\.dm3, 1 Å, looks wrong by a factor of 0\.(1|099\d|100\d|101): its lattice shows 21\.\d Å "
        r"where the sample has 2\.13 Å; unless it is another sample, give sampling=0\.(1|099|100)\d*\.",
        check_lattice(micrograph, GRAPHENE) or "",
    )
    assert check_lattice(micrograph, ()) is None
    assert check_lattice(Micrograph(fringes(2.13, 0.1), None, "a", Path("a.dm3")), GRAPHENE) is None


def test_spacings_of_the_samples(configuration) -> None:
    def spacings(*words: str) -> tuple[float, ...]:
        config = configuration(*TINY, *words)
        return lattice_spacings(config.sample, config.optics)

    assert spacings() == pytest.approx(GRAPHENE)
    assert spacings("sample=mos2") == pytest.approx((2.74, 1.58), abs=0.01)
    assert spacings("sample=gold") == pytest.approx((2.356, 2.04, 1.442), abs=1e-3)
    assert spacings("sample=gold", "sample.element=Fe") == pytest.approx((2.03, 1.435, 1.172), abs=1e-3)
    assert lattice_spacings({"name": "file"}, {}) == ()


def test_what_fills_pixels_without_an_image_is_no_lattice() -> None:
    """A part of an image is cut out; beyond it, pixels repeat their neighbours as long stripes."""
    image = fringes(2.13, 0.1)
    for rows, columns, sampling, expected in (
        (slice(100, 200), slice(90, 190), 0.1, "None"),
        (slice(30, 180), slice(40, 220), 0.05, "wrong by a factor of 2"),
    ):
        valid = np.zeros(image.shape, bool)
        valid[rows, columns] = True
        assert expected in str(check_lattice(Micrograph(image, sampling, "a", Path("a.npy"), valid=valid), GRAPHENE))


@pytest.mark.parametrize(("file", "sampling"), REAL)
def test_real_graphene(file: str, sampling: float) -> None:
    folder = os.environ.get("HRTEM_REAL_DATA")
    if not folder:
        pytest.skip("HRTEM_REAL_DATA does not name the folder of real micrographs")
    path = Path(folder) / "real" / file
    assert check_lattice(read(path, sampling=sampling), GRAPHENE) is None
    for wrong in (0.5, 1.1, 2.0, 10.0):
        micrograph = read(path, sampling=sampling * wrong)
        assert "looks wrong by a factor of" in str(check_lattice(micrograph, GRAPHENE))
        assert measure_lattice_factor(micrograph.images[0], sampling * wrong, GRAPHENE) == pytest.approx(
            1 / wrong, rel=0.02
        )
    image = read(path).images[0]
    rng = np.random.default_rng(0)
    assert measure_lattice_factor(rng.permutation(image.ravel()).reshape(image.shape), sampling, GRAPHENE) is None


def test_real_soot_has_no_lattice() -> None:
    folder = os.environ.get("HRTEM_REAL_DATA")
    if not folder:
        pytest.skip("HRTEM_REAL_DATA does not name the folder of real micrographs")
    assert check_lattice(read(Path(folder) / "real" / "negative" / "soot.tif", sampling=0.555), GRAPHENE) is None
