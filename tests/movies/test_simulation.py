"""Simulated movies: hops at the rates that were asked for, and frames and truth that show the same."""

from __future__ import annotations

import csv
import json
from itertools import pairwise

import mrcfile
import numpy as np
import pytest
import torch
from conftest import told

from hrtem.command.simulate import main
from hrtem.commandline import end_in_one_sentence
from hrtem.errors import InputError
from hrtem.movies import simulation
from hrtem.movies.simulation.hopping import Hopping
from hrtem.movies.simulation.movie import SimulatedMovie, simulate
from hrtem.recipes import compose
from hrtem.samples import Gold

#: A particle small enough to be simulated within a test.
SMALL = (
    "sample.extent=32.0", "sample.diameter=14", "sample.offset=0", "dynamics.frames=4", "dynamics.rate=1.0",
    "data.margin=16", "wave.scheduler=inline", "wave.oversampling=1", "dynamics.row_length=3", "dynamics.shortest=1",
    "dynamics.rows=4", "number=1",
)  # fmt: skip


def particle(**settings):
    words = dict(zone_axes=[[1, 1, 0]], diameter=20, rotation=[-10, 10], support=["ceria"], tilt=[0, 1.5], contact=0.5)
    return Gold("gold", ["Au"], 48.0, {"Ce": 0.065, "O": 0.085}, **(words | settings))


@pytest.fixture(scope="module")
def trajectory():
    return Hopping(particle(), rate=0.5, binding=1.0, rows=8)(200.0, np.random.default_rng(1))


@pytest.fixture
def movie(cache_folder):
    return SimulatedMovie.of(compose(*SMALL, name="movie"))


def test_rows_and_atoms_are_kept_and_hop_between_neighbours_that_hold_them(trajectory):
    states = trajectory.states
    assert len(trajectory.times) > 100
    assert np.all(np.diff(trajectory.times) > 0)
    np.testing.assert_array_equal(states.sum(axis=1), states[0].sum())
    for (start, end), before, after in zip(trajectory.paths, states[:-1], states[1:], strict=True):
        assert before[start] > 0 == before[end]
        assert trajectory.neighbours[start, end]
        assert after[end] == before[start]
        assert not trajectory.standing[start]
        assert (after[trajectory.neighbours[end]] > 0).sum() >= 2
        np.testing.assert_array_equal(np.flatnonzero(before != after), sorted((start, end)))
    # Seen along [110], each column inside the particle has six neighbours.
    assert trajectory.neighbours.sum(axis=1).max() == 6


def test_hops_come_as_often_as_their_rates_say():
    """The number of hops of rows with n neighbours is within four standard deviations of its compensator."""
    binding, expected, seen = 1.0, np.zeros(7), np.zeros(7)
    for seed in range(4):
        one = Hopping(particle(), rate=0.5, binding=binding, rows=8)(100.0, np.random.default_rng([7, seed]))
        beside, dwells = one.coordination(), one.dwells()
        paths = np.zeros_like(one.rates)
        for state in range(len(one.states)):
            paths[state] = one.rates[state] / (0.5 * np.exp(-binding * np.maximum(beside[state] - 2, 0)))
        np.testing.assert_allclose(paths, np.round(paths), atol=1e-9)  # whole numbers of open paths
        for number in range(7):
            expected[number] += (one.rates * (beside == number) * dwells[:, None]).sum()
        for state, (start, _) in enumerate(one.paths):
            seen[beside[state, start]] += 1
    assert seen[2:5].min() > 10
    assert seen[5:].sum() == 0
    np.testing.assert_array_less(np.abs(seen - expected), 4.0 * np.sqrt(expected) + 1e-9)


def test_a_trajectory_shares_out_its_time(trajectory):
    edges = np.linspace(0.0, 200.0, 41)
    shares = [trajectory.shares(a, b) for a, b in pairwise(edges)]
    np.testing.assert_allclose([sum(share.values()) for share in shares], 1.0)
    occupancy = trajectory.occupancy(edges)
    # Time on a line is time on a line, however the movie is cut.
    total = ((trajectory.states > 0) * trajectory.dwells()[:, None]).sum(axis=0)
    np.testing.assert_allclose(occupancy.sum(axis=0) * 5.0, total)
    states, which = trajectory.distinct
    np.testing.assert_array_equal(states[which], trajectory.states)
    assert len(np.unique(states, axis=0)) == len(states)
    assert which[0] == 0


def test_columns_of_a_state_lie_on_its_lines(trajectory):
    state = trajectory.states[-1]
    _, columns = trajectory.structure(state)
    lines = trajectory.lines[state > 0]
    assert len(columns) == len(lines)
    away = np.linalg.norm(columns.positions[:, None] - lines[None], axis=2)
    # A tilt of 1.5 degrees moves the middle of a row that is off by one atom by less than 0.1 Å.
    assert away.min(axis=1).max() < 0.1
    np.testing.assert_array_equal(columns.counts, state[state > 0][away.argmin(axis=1)])


def test_a_frame_is_the_mean_of_the_states_that_it_sees(movie):
    movie.simulate("inline")
    trajectory, edges = movie.trajectory, movie.edges()
    blurred = next(n for n in range(4) if len(trajectory.shares(edges[n], edges[n + 1])) > 1)
    settings = {name: torch.from_numpy(value[[blurred]]) for name, value in movie.settings().items()}
    mean = 0.0
    for state, share in trajectory.shares(edges[blurred], edges[blurred + 1]).items():
        wave = torch.from_numpy(movie.cache.wave_of("test", movie.number, state).copy())[None]
        mean = mean + share * movie.optics(wave, settings, movie.sampling)
    torch.testing.assert_close(list(movie.expected())[blurred], mean, rtol=1e-5, atol=1e-5)


def test_a_second_dose_shows_the_same_events_and_simulates_nothing(movie, monkeypatch):
    movie.simulate("inline")
    monkeypatch.setattr(type(movie.cache.wave), "__call__", lambda *_: pytest.fail("simulated again"))
    simulate([movie], "inline")
    one, other = np.stack(list(movie.frames(500.0))), np.stack(list(movie.frames(5000.0)))
    assert one.shape == (4, *movie.shape)
    assert other.mean() == pytest.approx(10.0 * one.mean(), rel=0.01)
    np.testing.assert_array_equal(one, np.stack(list(movie.frames(500.0))))


def test_truth_says_what_hops(movie):
    truth, trajectory = movie.truth(), movie.trajectory
    assert truth.share.shape == (4, len(trajectory.lines))
    np.testing.assert_allclose(truth.positions, trajectory.lines - 16 * 0.2)
    surface = (trajectory.states > 0) & ~trajectory.standing & (trajectory.coordination() < 6)
    exposure = (surface * trajectory.dwells()[:, None]).sum()
    assert truth.exposures.sum() == pytest.approx(exposure)
    assert truth.rate() == pytest.approx((trajectory.rates * trajectory.dwells()[:, None]).sum() / exposure)
    assert truth.rate([2]) > truth.rate([4])


def test_a_movie_drifts_within_its_margin_and_its_defocus_within_its_limits():
    condition = simulation.Dynamics("one", 500, 1.0, drift=0.5, wander=0.3, defocus_slope=1.0, defocus_wander=3.0)
    walk = condition.walk(np.random.default_rng(0), 2.0)
    assert 1.5 < np.abs(walk).max() <= 2.0
    assert np.abs(np.diff(walk, axis=0)).max() < 2.5  # reflected, and not thrown to the other side
    defoci = condition.defoci(np.random.default_rng(0), -100.0, -150.0, -50.0)
    assert (defoci.min(), defoci.max()) == (-150.0, -50.0)


def test_the_command_writes_a_movie_and_its_truth(tmp_path, cache_folder, capsys):
    output = tmp_path / "movie"
    main([*SMALL, f"output={output}"])
    assert "surface columns leave at" in capsys.readouterr().out
    with mrcfile.open(output / "movie.mrc") as file:
        assert file.data.shape == (4, 128, 128)
        assert float(file.voxel_size.x) == pytest.approx(0.2)
        assert np.isfinite(file.data).all()
    with (output / "occupancy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {"0", "1", "2", "3"}
    assert all((float(row["share"]) >= 0.5) == (row["occupied"] == "1") for row in rows)
    truth = json.loads((output / "truth.json").read_text())
    assert truth["rate_per_path_per_s"] == 1.0
    with (output / "hops.csv").open() as file:
        assert len(list(csv.DictReader(file))) == truth["hops"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["dynamics.frames=1"], "dynamics.frames must be a whole number from 2"),
        (["dynamics.rate=-1"], "dynamics.rate must be between"),
        (["focal=3"], "focal must be 1 for a movie"),
        (["sample.twin=0.3"], "sample.twin=0"),
        (["wave.frozen_phonons=2"], "wave.frozen_phonons must be 0"),
        (["dynamics.rate=1.0e+6", "dynamics.frames=100"], "below 20,000 hops"),
        (["dynamics=helium"], "dynamics/helium"),
    ],
)
def test_mistakes_are_told_in_one_sentence(words, sentence, tmp_path, cache_folder, capsys):
    with pytest.raises(SystemExit) as end, end_in_one_sentence():
        main([*SMALL, *words, f"output={tmp_path / 'movie'}"])
    assert end.value.code == 2
    assert sentence in told(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_too_many_states_are_refused(movie, monkeypatch):
    monkeypatch.setattr("hrtem.movies.simulation.states.BLOCK", 1)
    with pytest.raises(InputError, match="at most 1 distinct states"):
        movie.cache.states("test", movie.number)
