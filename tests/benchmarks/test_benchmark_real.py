"""Classical methods find what is there, and real micrographs are scored by the common rules."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scipy.spatial import cKDTree

from benchmarks import classical, real
from benchmarks.__main__ import main
from hrtem import models
from hrtem.errors import InputError
from hrtem.matching import score
from hrtem.micrograph import Micrograph

SAMPLING = 0.2


def atoms():
    """A square net, 2 Å wide, off the pixels."""
    return np.stack(np.meshgrid(np.arange(2.03, 22.0, 2.07), np.arange(2.41, 22.0, 2.11)), axis=-1).reshape(-1, 2)


def picture(positions, sampling=SAMPLING, noise=0.1):
    y, x = np.mgrid[: round(24 / sampling), : round(24 / sampling)] * sampling
    image = noise * np.random.default_rng(0).normal(size=x.shape)
    for column, row in positions:
        image += np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2) / 0.5**2)
    return image


@pytest.mark.parametrize("sign", [1, -1])
def test_a_tuned_laplacian_finds_blurred_dots(sign):
    true = atoms()
    image = sign * picture(true)
    method, settings = classical.tuned_laplacian(image, SAMPLING, sign, lambda found: score(found, true).f1)
    result = score(method(image, SAMPLING), true)
    assert result.f1 > 0.99
    assert result.error_pm < 8.0
    assert "σ" in settings
    # Told the wrong sign, it finds the gaps.
    wrong, _ = classical.tuned_laplacian(image, SAMPLING, -sign, lambda found: score(found, true).f1)
    assert score(wrong(image, SAMPLING), true).f1 < 0.5
    # With coarser pixels its settings mean the same lengths.
    coarse = score(method(sign * picture(true, 0.4, noise=0.05), 0.4), true)
    assert coarse.f1 > 0.95


def test_a_finer_image_is_the_same_image():
    image = picture(atoms(), 0.4, noise=0.0)
    fine, sampling = classical.finer(image, 0.4, 0.2)
    assert sampling == pytest.approx(0.2)
    np.testing.assert_allclose(fine[::2, ::2], image, atol=1e-6)
    same, kept = classical.finer(image, 0.4, 0.5)
    assert same is image
    assert kept == 0.4


@pytest.mark.parametrize("python", [sys.executable, "no-such-interpreter"])
def test_an_interpreter_without_atomap_is_told(python):
    with pytest.raises(InputError, match="atomap must be a Python interpreter"), classical.atomap(python):
        pass


def test_without_real_micrographs_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("HRTEM_REAL_DATA", raising=False)
    with pytest.raises(SystemExit):
        main(["real"])
    assert "HRTEM_REAL_DATA must name the folder" in capsys.readouterr().err
    monkeypatch.setenv("HRTEM_REAL_DATA", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["real"])
    assert "real/graphene_dtu" in capsys.readouterr().err


@pytest.fixture
def flower():
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        pytest.skip("HRTEM_REAL_DATA is unset: no real micrographs on this machine")
    return real.read_case(Path(where), "graphene_flower")


def test_the_truth_has_all_rings(flower):
    assert real.rings_found(flower, flower.true).startswith("12 of 12 / 12 of 12")
    assert flower.score(flower.true).recall > 0.9
    # Without one atom of the loop, up to three of its rings are gone.
    loop = flower.structure(flower.true)
    atom = loop.rings.members[loop.defects[0].rings[0]][0]
    rest = real.rings_found(flower, np.delete(flower.true, atom, axis=0))
    assert not rest.startswith("12 of 12 / 12 of 12")
    assert real.rings_found(flower, np.empty((0, 2))) == "none"


@pytest.mark.parametrize(
    ("change", "back"),
    [
        (lambda image: 3.7 * image + 1000.0, lambda places, end: places),
        (lambda image: image.max() - image, lambda places, end: places),
        (lambda image: image[::-1, ::-1], lambda places, end: end - places),
        (lambda image: image.T, lambda places, end: places[:, ::-1]),
    ],
    ids=["gain and offset", "contrast inverted", "turned", "transposed"],
)
def test_the_same_atoms_of_a_changed_micrograph(flower, change, back):
    """The network is not symmetric by design, but has learnt to be, to a fraction of its error of 13 pm."""

    def found(image):
        image = np.ascontiguousarray(image, np.float32)[None]
        return predictor.find(Micrograph(image, flower.sampling, "flower", Path("flower"))).columns.positions

    predictor = models.load("graphene")
    end = (np.array(flower.image.shape[::-1]) - 1) * flower.sampling
    same, changed = found(flower.image), back(found(change(flower.image)), end)
    distance, _ = cKDTree(changed).query(same)
    near = distance < 0.3
    assert near.mean() > 0.98
    assert np.sqrt(np.square(distance[near]).mean()) < 0.06
    assert flower.score(changed).f1 > 0.94


def test_the_worker_needs_nothing_of_the_package():
    text = (ROOT / "benchmarks" / "atomap_worker.py").read_text()
    assert "import hrtem" not in text
    assert "from hrtem" not in text
