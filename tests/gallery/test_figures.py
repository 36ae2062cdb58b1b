"""Figures of what a model answers to a view that it has never seen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import read
from conftest import TINY, told
from hydra.utils import instantiate
from skimage.io import imread

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.gallery import atom_counts, probabilities, scene
from hrtem.gallery.scene import AnsweredView, Words
from hrtem.inference import Predictor
from hrtem.samples import Gold


def seen(true, found, images=3, side=64, maps=None):
    classes = len(true.classes)
    noise = np.random.default_rng(0).normal(size=(images, side, side))
    maps = np.full((classes, side, side), 0.1) if maps is None else maps
    return AnsweredView(noise, maps, found, true, np.array([-50.0, 0.0, 50.0])[:images], 1e3, 0.2)


def particle(counts=True):
    _, true = Gold("gold", ["Au"], 20.0, {"Au": 0.08}, diameter=12.0)(np.random.default_rng(0))
    return true if counts else Columns(true.positions, true.labels, true.classes)


@pytest.mark.parametrize("images", [1, 3])
def test_the_probability_of_each_class_and_of_none(images):
    classes = ("Mo", "S2", "S", "Mo vacancy", "S2 vacancy")
    columns = Columns(np.array([[3.0, 3.0], [6.0, 6.0]]), np.array([0, 3]), classes)
    figure = probabilities.figure(seen(columns, columns, images), "mos2")
    shown = [axes for part in figure.subfigs for axes in part.axes if axes.images]
    titles = [axes.get_title() for axes in shown]
    assert titles[images:] == [*classes, "background"]
    assert titles[0] == "defocus -50 Å, 1,000 e/Å²"
    np.testing.assert_allclose(shown[-1].images[0].get_array(), 0.5)
    model = figure.subfigs[0].axes[images]
    assert len(model.collections) == 4  # dots and rings of two classes


def test_counts_and_the_model_that_they_make(monkeypatch, tmp_path):
    """A particle whose found counts are the true ones, but for one that is wrong by two."""
    true = particle()
    counts = true.counts.copy()
    counts[0] += 2
    found = Columns(true.positions, true.labels, true.classes, counts)
    words = Words(instantiated(true), "gold", tmp_path / "a.png", 1e3, 0, {})
    monkeypatch.setattr(atom_counts.Words, "parse", lambda *given: words)
    monkeypatch.setattr(atom_counts.Words, "scene", lambda self, patch: seen(true, found, side=100))
    picture, xyz, cif = atom_counts.draw([])
    assert imread(picture).std() > 10
    for path in (xyz, cif):
        atoms = read(path)
        assert set(atoms.symbols) == {"Au"}
        assert len(atoms) == counts.sum()
        far = np.abs(atoms.positions[:, None, :2] - true.positions).max(axis=2).min(axis=1)
        assert far.max() < 0.01
    column = read(xyz).get_array("column")
    np.testing.assert_array_equal(np.bincount(column), counts)
    figure = atom_counts.figure(
        seen(true, found, side=100), *(atom_counts.build_solid(one, "Au") for one in (found, true)), "gold"
    )
    text = " ".join(axes.get_title() for axes in figure.axes)
    assert f"found: {counts.sum()} atoms, {(len(true) - 1) / len(true):.0%} exact" in text
    assert f"true: {true.counts.sum()} atoms" in text


def instantiated(true):
    """As much of a model as the figure asks for."""
    task = SimpleNamespace(settings={"sample": {"lattice_constant": None}}, classes=true.classes)
    return SimpleNamespace(network=task)


def test_a_model_that_counts_nothing_is_refused(monkeypatch, tmp_path):
    true = particle()
    words = Words(instantiated(true), "gold", tmp_path / "a.png", 1e3, 0, {})
    monkeypatch.setattr(atom_counts.Words, "parse", lambda *given: words)
    monkeypatch.setattr(atom_counts.Words, "scene", lambda self, patch: seen(true, particle(counts=False)))
    with pytest.raises(InputError, match="gold must be a model that counts"):
        atom_counts.draw([])
    assert not list(tmp_path.iterdir())


def test_a_scene_is_a_view_of_the_test_set(configuration):
    task = instantiate(configuration(*TINY, "focal=3").task).eval()
    one = AnsweredView.of(
        Predictor(task), 1, 500.0, 64, {"optics": {"defocus": -30.0, "defocus_step": 40.0, "defocus_error": 0.0}}
    )
    assert one.images.shape == (3, 64, 64)
    assert one.maps.shape == (1, 64, 64)
    assert (one.dose, one.sampling) == (500.0, 0.2)
    np.testing.assert_allclose(one.defocus, [-70.0, -30.0, 10.0])
    assert len(one.true) > 10
    assert one.extent == pytest.approx((12.6, 12.6))


def test_words_of_a_figure(tmp_path):
    said = ["model=mos2", "dose=2e3", "view=3", f"output={tmp_path / 'a.png'}", "sample.tilt=0", "optics.Cs=[-1e4,1e4]"]
    words = Words.parse(said, "b.png")
    assert (words.name, words.dose, words.view, words.output) == ("mos2", 2e3, 3, tmp_path / "a.png")
    assert words.changes == {"sample": {"tilt": 0}, "optics": {"Cs": [-1e4, 1e4]}}
    assert scene._number("[vacuum,carbon]") == ["vacuum", "carbon"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["probabilities"], ["model=NAME", "neither"]),
        (["probabilities", "model=diamond"], ["mos2", "diamond"]),
        (["counts", "model=mos2", "views=3"], ["view=", "views=3"]),
        (["counts", "model=mos2", "view=-1"], ["view", "-1"]),
        (["counts", "model=mos2", "dose=0"], ["dose", "e/Å²"]),
        (["counts", "model=mos2", "output=a.jpg"], ["output", "PNG", "a.jpg"]),
    ],
)
def test_a_mistake_is_told_in_one_sentence(start, words, named):
    status, _, stderr = start("hrtem", "gallery", *words)
    assert status != 0
    assert all(word in told(stderr) for word in named), stderr
