"""Focal series that are spoilt in known ways."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY
from hydra.utils import instantiate

from benchmarks import robustness
from benchmarks.__main__ import BENCHMARKS
from benchmarks.evaluation import exposed
from benchmarks.robustness import Disturbance, disturbances
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.normalisation import is_blank as without_contrast
from hrtem.training.testsets import simulate_test_set


@pytest.fixture
def predictor(configuration):
    return Predictor(instantiate(configuration(*TINY, "focal=3").task).eval())


@pytest.fixture
def views(predictor):
    optics = {"defocus": 60.0, "defocus_step": 10.0, "misalignment": 0.0, "series_drift": 0.0, "vibration": 0.0}
    return simulate_test_set(predictor.network, views=1, doses=(1e7,), patch=64, changes={"optics": optics})


def named(name, **more):
    return [one for one in disturbances() if one.name == name and all(getattr(one, k) == v for k, v in more.items())]


def test_nothing_changes_nothing(views):
    example = views.images[0]
    np.testing.assert_array_equal(Disturbance("none", "")(views, example), exposed(views, example))


def test_all_disturbances_change_what_is_seen_and_keep_the_total_dose(views):
    example = views.images[0]
    plain = exposed(views, example)
    for one in disturbances():
        spoilt = one(views, example)
        assert spoilt.shape == plain.shape
        assert spoilt.dtype == plain.dtype
        # Evened out, all images have the brightness of the middle one.
        if not (one.prepared and one.decay != 1.0):
            assert float(spoilt.mean()) == pytest.approx(float(plain.mean()), rel=0.02), one.name
        if one.name != "none":
            assert not np.array_equal(spoilt, plain), one.name
        if one.name in ("unequal steps", "shifts") and not one.prepared:
            np.testing.assert_array_equal(spoilt[:, 1], plain[:, 1])


def test_a_dose_decays_by_its_factor(views):
    one, again = named("dose decays from image to image", decay=0.4)
    even = again(views, views.images[0]).mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(even, even[1], rtol=0.01)
    means = one(views, views.images[0]).mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(means[1:] / means[:-1], 0.4, rtol=0.02)


def test_registration_takes_shifts_back(views):
    """At so high a dose, by the path that `predict.py` takes."""
    example = views.images[0]
    plain, inner = exposed(views, example), (..., slice(12, -12), slice(12, -12))
    raw, again = named("shifts", amount="2 Å")
    error = [float((one(views, example) - plain)[inner].square().mean()) for one in (raw, again)]
    assert error[1] < 0.1 * error[0]


def test_an_image_is_missing(views):
    example = views.images[0]
    blank, copied = (one(views, example)[0] for one in named("one image missing"))
    # As the normalisation tells it: the standard deviation of equal numbers is not exactly 0 on every processor.
    assert int(without_contrast(blank).sum()) == 1
    assert sum(np.array_equal(copied[i], copied[j]) for i in range(3) for j in range(i)) == 1


def test_the_table_of_a_model(predictor, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("hrtem.training.testsets.PATCH", 64)
    monkeypatch.setattr(robustness.models, "load", lambda name: predictor)
    few = [Disturbance("none", ""), *named("shifts", amount="2 Å")]
    monkeypatch.setattr(robustness, "disturbances", lambda: iter(few))
    robustness.main("mine", "views=1", "dose=3e3", f"output={tmp_path / 'a.md'}")
    title, _, head, _, *lines = (tmp_path / "a.md").read_text().splitlines()
    assert "mine: 1 series of 3 images, 3,000 e/Å² in each image, 9,000 in all" in title
    assert head.count("|") == lines[0].count("|") == 8
    assert [line.split(" | ")[2] for line in lines] == ["as they are", "as they are", "prepared"]
    assert "The table is in" in capsys.readouterr().out


def test_the_command_knows_it():
    assert "robustness" in BENCHMARKS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "at least one model"),
        (["mos2", "views=0"], "views must be"),
        (["mos2", "output=a.txt"], "Markdown file"),
        (["graphene"], "graphene takes single images"),
        (["diamond"], "diamond"),
    ],
)
def test_bad_words_are_refused(words, said):
    with pytest.raises(InputError, match=said):
        robustness.main(*words)


def test_a_model_that_does_without_some_images_sees_whole_series_first(configuration, monkeypatch, tmp_path):
    """Else a series that nothing is wrong with would lack images, and could not be prepared."""
    predictor = Predictor(instantiate(configuration(*TINY, "focal=3", "optics.missing=0.9").task).eval())
    monkeypatch.setattr("hrtem.training.testsets.PATCH", 64)
    monkeypatch.setattr(robustness.models, "load", lambda name: predictor)
    monkeypatch.setattr(robustness, "disturbances", lambda: iter(named("none")))
    robustness.main("mine", "views=2", f"output={tmp_path / 'a.md'}")
    assert len((tmp_path / "a.md").read_text().splitlines()) == 6
