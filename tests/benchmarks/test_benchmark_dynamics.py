"""The benchmark of movies counts what it says it counts."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_movies import EXTENT, Knowing, detected, truth

from benchmarks import dynamics
from hrtem.errors import InputError
from hrtem.movies.tracking import analyse_movie


def test_precision_and_recall_are_of_the_surface():
    """Of perfect detections nearly all is right; of those without one column only that is missing."""
    true = truth(1)
    found = detected(true, 1, recall=1.0, false=0.0, clutter=0.0, error=0.03)
    one = dynamics.outcome(true, analyse_movie(found, EXTENT, 0.5))
    assert one.hits <= min(one.said, one.there)
    assert one.hits / one.said > 0.97
    assert one.hits / one.there > 0.97
    assert one.true == true.rate()
    assert one.inside == (one.low <= one.true <= one.high)
    beside = true.occupied.astype(int) @ true.neighbours.astype(int)
    surface = true.occupied & (beside >= 2) & (beside < 6)
    assert one.there == surface.sum()
    lost = int(np.argmax(surface.all(axis=0)))
    fewer = [
        type(frame)(frame.positions[far], frame.probabilities[far])
        for frame, drift in zip(found, true.drift, strict=True)
        for far in [np.linalg.norm(frame.positions - true.positions[lost] - drift, axis=1) > 1.0]
    ]
    other = dynamics.outcome(true, analyse_movie(fewer, EXTENT, 0.5))
    assert one.hits - other.hits == pytest.approx(60, abs=6)


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson():
    assert dynamics.interval(45, 50) == "78% to 97%"
    assert dynamics.interval(50, 50) == "93% to 100%"
    assert dynamics.interval(0, 10) == "0% to 31%"


def test_a_tiled_movie_has_any_size_and_new_noise(cache_folder):
    movie = dynamics.Tiled(300, 3)
    one, other = movie[0].images[0], movie[1].images[0]
    assert one.shape == (300, 300)
    assert one.mean() == pytest.approx(500.0 * 0.2**2, rel=0.1)
    assert 0.0 < np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.9
    np.testing.assert_array_equal(one, movie[0].images[0])
    assert dynamics.Tiled(96, 3)[0].images.shape == (1, 96, 96)


def test_the_movies_of_both_conditions_differ_in_their_rates(cache_folder):
    (slow,), (fast,) = (dynamics.movies_of(name, 1, "val", []) for name in dynamics.CONDITIONS)
    assert slow.split == fast.split == "val"
    assert slow.truth().rate() < fast.truth().rate()


def test_speed_and_memory_are_printed(cache_folder, monkeypatch, capsys):
    frames = detected(truth(1, frames=24), 1)
    monkeypatch.setattr(dynamics.models, "load", lambda _: Knowing(frames))
    dynamics.main("speed", "any", "side=64", "frames=5")
    assert "frames/s of 64² px" in capsys.readouterr().out
    dynamics.main("memory", "any", "side=64", "frames=20")
    assert "MiB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "needs one model"),
        (("one", "two"), "needs one model"),
        (("one", "movies=0"), "movies must be between 1"),
        (("one", "doses=0"), "doses must be at least 1"),
        (("one", "split=train"), "split must be val or test"),
        (("speed", "one", "size=3"), "takes the words side and frames"),
    ],
)
def test_words_of_no_use_are_told(words, sentence):
    with pytest.raises(InputError, match=sentence):
        dynamics.main(*words)
