"""The benchmark compares like with like."""

from __future__ import annotations

import abtem
import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from benchmarks import convergence, detection, imaging, limits, training, waves
from benchmarks.__main__ import BENCHMARKS, main
from hrtem.errors import InputError


@pytest.fixture
def images(tmp_path):
    return imaging.scene(tmp_path, waves=2)


def test_both_ways_make_the_same_images(images):
    """The same views but for the random numbers of the noise, which agree with Poisson statistics."""
    with abtem.config.set({"diagnostics.progress_bar": False}):
        theirs = imaging.one_by_one(images, 0)
    ours = next(imaging.batched(images))[1][:, 0].numpy()
    assert ours.shape == theirs.shape == (imaging.BATCH, imaging.PATCH, imaging.PATCH)
    variance = 0.5 * (ours + theirs)
    z = (ours - theirs) / np.sqrt(2.0 * variance)
    assert float(z.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(z.std()) == pytest.approx(1.0, abs=0.02)


def test_both_ways_simulate_the_same_structure(tmp_path):
    """Up to thermal motion and to abTEM's grid, which is as much as half of what graphene scatters; they correlate."""
    store = waves.store(tmp_path, "graphene", 25.6)
    atoms, _ = store.sample(np.random.default_rng(0))
    theirs = np.angle(waves.plain(atoms, store.wave))[::2, ::2]
    ours = np.angle(store.wave(atoms, np.random.default_rng(0), plane=float(atoms.cell.array[2, 2])))
    assert theirs.shape == ours.shape == (128, 128)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95


def test_the_cost_of_waves(tmp_path):
    cost = waves.cost("graphene", 25.6, waves=1)
    assert 128**2 * 8 < cost.bytes < 1.2 * 128**2 * 8
    assert min(cost.seconds, cost.seconds_abtem, cost.seconds_torch) > 0.0


def test_abtems_own_potential_depends_on_the_grid_and_ours_does_not():
    """The reason for summing structure factors: docs/convergence.md has all numbers."""
    reference = convergence.seen(convergence.ours()(convergence.column(10, 0.0)))
    theirs, ours = (convergence.trust(way, reference) for way in (convergence.plain(2, 2.0), convergence.ours()))
    assert theirs.across > 0.2
    assert theirs.peak > 0.3
    assert ours.across < 1e-3
    assert ours.peak < 2e-3


def test_an_unknown_benchmark_is_told(capsys):
    assert main(["speed"]) == 2
    assert f"must be one of {', '.join(BENCHMARKS)}, got speed" in capsys.readouterr().err


def test_a_bad_argument_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["waves", "many"])
    assert "waves must be one number" in capsys.readouterr().err


@pytest.mark.slow
def test_the_oracle_of_the_published_microscope():
    """Known from an independent calculation: 20 pm along x or y at 10³ e/Å², one atom in eight taken wrongly."""
    rows = dict(limits.graphene(draws=40))
    position, decision = (next(text for case, text in rows.items() if words in case) for words in ("at 1e+03", "void"))
    assert float(position.split(" pm")[0]) == pytest.approx(20.0, abs=1.0)
    assert float(decision.split(" %")[0]) == pytest.approx(12.7, abs=3.0)


def test_an_oracle_counts_gold():
    """From 10³ e/Å² on every count is right, at a hundredth of the dose not nine in ten."""
    (text,) = [text for case, text in limits.gold() if "-80 Å" in case]
    low, middle, high = (float(share) for share in text.replace("%", "").split())
    assert 70.0 < low < 90.0 < middle < high
    assert high > 99.0


@pytest.mark.slow
def test_a_network_is_measured_against_the_limit_of_the_same_images(configuration):
    """An untrained one finds next to nothing."""
    task = instantiate(configuration("optics.test_doses=[1.0e+3, 1.0e+5]").task)
    table = limits.beside(task, structures=1, images=1)
    assert table.row_count == len(task.optics.test_doses)
    limit = [float(cell) for cell in table.columns[4].cells]
    assert not np.isnan(limit).any()
    assert limit == sorted(limit, reverse=True)


def test_training_steps_are_taken_in_turns(capsys, monkeypatch, cache_folder):
    """With networks of AtomAI's size, and a sentence where it is missing."""
    ways = training.compared(None, batch=1, pixels=32, seconds=0.01)
    assert len(ways) == 4
    assert {len(way.seconds) for way in ways.values()} == {len(next(iter(ways.values())).seconds)}
    for way in ways.values():
        assert way.parameters == pytest.approx(594_033, rel=0.05)
        assert min(way.seconds) > 0.0
        assert 2.0 < way.whole / way.forward <= 3.0
    plain, folded = (ways[f"hrtem U-Net, fold {fold}, float32"] for fold in (1, 2))
    assert plain.forward > 3.0 * folded.forward
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    monkeypatch.setattr(training, "stages", lambda seconds, device: {"loading": 1.0, "backward": 3.0})
    assert main(["training", "0.01", "batch=1", "pixels=32"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("AtomAI is not installed here")
    assert "75 %" in told


def test_the_stages_of_a_training_step(cache_folder):
    times = training.stages(0.01, "sample.extent=25.6", "data.patch=64", "data.margin=16", "data.batch_size=2")
    assert next(iter(times)) == "loading"
    assert list(times)[-2:] == ["backward", "optimizer"]
    assert min(times.values()) > 0.0


def test_words_of_the_training_benchmark_are_checked(capsys, tmp_path):
    for word, sentence in {
        "size=3": "training takes the words atomai, batch, pixels, peak",
        "pixels=40": "pixels must be a multiple of 32 px, got 40",
        f"atomai={tmp_path / 'python'}": "atomai must be the Python of an environment that has AtomAI",
    }.items():
        with pytest.raises(SystemExit):
            main(["training", word])
        assert sentence in capsys.readouterr().err


def test_a_python_without_atomai_is_told(tmp_path):
    """The other interpreter's own reason is passed on."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"No module named 'atomai'\" >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(InputError, match="No module named 'atomai'"), training.theirs(str(python), 1, 32, "cpu"):
        pass


@pytest.mark.slow
def test_batched_imaging_is_ten_times_faster():
    torch.set_num_threads(2)
    rates = imaging.imaging(seconds=5.0, waves=8)
    assert rates["batched imaging"] >= 10.0 * rates["abTEM, one by one"]


@pytest.fixture
def published(configuration):
    """Two views of a random network at two doses, by the published microscope."""
    words = [
        "experiment=madsen2018_graphene", "data.sampling=0.2", "data.patch=96", "data.margin=16", "sample.extent=25.6",
        "data.numbers={train: 1, val: 1, test: 2}", "wave.scheduler=inline", "optics.test_doses=[1.0e+3, 1.0e+5]",
    ]  # fmt: skip
    data = instantiate(configuration(*words).data)
    data.prepare_data()
    return data.images("test", 4, doses=data.optics.test_doses)


def test_the_detection_limit_is_that_of_the_images_that_are_scored(published):
    for number in range(2):
        view, settings, _ = detection.settings_of(published, number)
        example = published[number * 2]
        for name in ("defocus", "Cs", "astigmatism", "focal_spread"):
            np.testing.assert_array_equal(settings[name], example["settings"][name])
        wave, _ = published._view(*published.record(number), np.random.default_rng([published.seed, 2, number]))
        whole = published.record(number)[0]
        np.testing.assert_array_equal(wave, view.turned(whole[view.row : view.row + 128, view.column :][:, :128]))
        low, high = detection.limit(published, number)
        assert 0.5 <= low < high <= 1.0


def test_who_answers_the_truth_scores_one(published, monkeypatch):
    class Oracle:
        def __init__(self, images):
            self.network, self.truth = images, [images[number]["columns"] for number in range(len(images))]
            self.network.classes = ("C",)

        def find(self, micrograph):
            columns = self.truth[int(micrograph.name.split()[1])]
            return type("Prediction", (), {"columns": columns})

    everything, some = detection.scored(published, {"oracle": Oracle(published)}, [True, False])
    assert [score.f1 for score in everything["oracle"]] == [1.0, 1.0]
    assert [score.true for score in some["oracle"]] < [score.true for score in everything["oracle"]]
    assert all(score.error_pm == 0.0 for score in some["oracle"])


def test_a_number_of_views_that_is_none_is_refused():
    with pytest.raises(InputError, match="images must be a whole number"):
        detection.main("images=none")
