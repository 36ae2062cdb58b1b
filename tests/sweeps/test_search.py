"""The search: what it draws from, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import math
import sys

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hrtem.errors import InputError
from hrtem.sweeps.search import Attempt, Search, distribution, split, words


def parsed(*said):
    return OverridesParser.create().parse_overrides(list(said))


SPACE = split(parsed("x=interval(-1.0,1.0)", "y=tag(log,interval(1e-3,1e-1))", "net=a,b"))[0]


def bowl(first, batch):
    """Best at x = 0.3, y = 0.01 and net a."""
    answers = []
    for trial in batch:
        said = dict(word.split("=") for word in trial)
        distance = (float(said["x"]) - 0.3) ** 2 + math.log10(float(said["y"]) / 0.01) ** 2
        answers.append(-distance - (said["net"] == "b"))
    return answers


def begun(folder, trials=25, **settings):
    return Search(SPACE, folder, settings.pop("mode", "max"), trials, **settings)


@pytest.mark.parametrize(
    ("said", "drawn"),
    [
        ("lr=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("sigma=interval(0.2,0.4)", FloatDistribution(0.2, 0.4)),
        ("width=tag(log,int(interval(8,64)))", IntDistribution(8, 64, log=True)),
        ("depth=range(2,6)", IntDistribution(2, 5)),
        ("depth=range(10,21,5)", IntDistribution(10, 20, step=5)),
        ("model=unet,msdnet", CategoricalDistribution(["unet", "msdnet"])),
        ("channels=choice([8,16],[16,32])", CategoricalDistribution(["[8,16]", "[16,32]"])),
        ("x=range(0.0,0.5,0.25)", CategoricalDistribution(["0.0", "0.25"])),
    ],
)
def test_what_a_word_draws_from(said, drawn):
    assert distribution(parsed(said)[0]) == drawn


@pytest.mark.parametrize("said", ["lr=interval(2.0,1.0)", "lr=tag(log,interval(0.0,1.0))", "n=range(3,3)"])
def test_an_empty_space_is_refused(said):
    with pytest.raises(InputError, match=said.split("=")[0]):
        split(parsed(said))


def test_the_last_word_counts():
    space, fixed = split(parsed("a=1,2", "b=3", "c=4", "a=5", "b=interval(0.0,1.0)"))
    assert set(space) == {"b"}
    assert fixed == ["c=4", "a=5"]


def test_drawn_numbers_become_words():
    assert words({"lr": 0.00123456789, "n": 3, "net": "[8,16]"}) == ["lr=0.00123457", "n=3", "net=[8,16]"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_it_comes_near_the_optimum(tmp_path, mode):
    sign = 1.0 if mode == "max" else -1.0
    search = begun(tmp_path, trials=40, mode=mode)
    best = search.run(lambda first, batch: [sign * value for value in bowl(first, batch)])
    assert 0.0 <= -sign * best.value < 0.05
    assert "net=a" in best.words
    assert best.value == pytest.approx(sign * bowl(0, [best.words])[0], abs=1e-4)


@pytest.mark.parametrize("killed_after", [0, 3, 15])
def test_a_killed_search_draws_what_it_would_have_drawn(tmp_path, killed_after):
    """Also after the trials that are random, and with the trial under way begun anew."""
    whole = begun(tmp_path / "whole")
    best = whole.run(bowl)

    class Killed(BaseException):
        pass

    left = iter(range(killed_after))

    def until_killed(first, batch):
        if next(left, None) is None:
            raise Killed
        return bowl(first, batch)

    killed = begun(tmp_path / "killed")
    with pytest.raises(Killed):
        killed.run(until_killed)
    killed.close()
    again = begun(tmp_path / "killed")
    assert len(again.finished()) == killed_after
    assert again.run(bowl).words == best.words
    assert [trial.params for trial in again.finished()] == [trial.params for trial in whole.finished()]
    with (tmp_path / "killed" / "trials.csv").open() as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert states == ["complete"] * killed_after + ["interrupted"] + ["complete"] * (25 - killed_after)


def test_a_finished_search_runs_nothing_more_and_can_be_lengthened(tmp_path):
    search = begun(tmp_path, trials=3)
    search.run(bowl)
    search.close()

    def nothing(first, batch):
        raise AssertionError

    again = begun(tmp_path, trials=3)
    again.run(nothing)
    again.close()
    longer = begun(tmp_path, trials=5)
    longer.run(bowl)
    assert len(longer.finished()) == 5


def test_what_a_killed_process_left_half_done_is_mended(tmp_path):
    search = begun(tmp_path, trials=3)
    search.run(bowl)
    search.close()
    (tmp_path / "journal.log.lock").symlink_to("journal.log")
    with (tmp_path / "journal.log").open("a") as file:
        file.write('{"op_code": 4, "half')
    again = begun(tmp_path, trials=4)
    assert len(again.finished()) == 3
    again.run(bowl)
    assert len(again.finished()) == 4


def test_failed_trials_do_not_stop_it(tmp_path):
    def unsteady(first, batch):
        return [("no memory", math.nan, value)[first % 3] for value in bowl(first, batch)]

    search = begun(tmp_path, trials=6)
    best = search.run(unsteady)
    assert best.number % 3 == 2
    search.write_best(best, monitor="val/f1")
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["fail", "fail", "complete"] * 2
    assert rows[0]["error"] == "no memory"
    assert "nan" in rows[1]["error"]
    saved = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert saved["number"] == best.number
    assert saved["words"] == best.words
    assert saved["finished"] == 6


def test_trials_at_once_differ(tmp_path):
    sizes = []

    def together(first, batch):
        sizes.append(len(batch))
        assert len({tuple(trial) for trial in batch}) == len(batch)
        return bowl(first, batch)

    begun(tmp_path, trials=7).run(together, at_once=3)
    assert sizes == [3, 3, 1]


def test_if_all_fail_the_reason_is_told(tmp_path):
    with pytest.raises(InputError, match=r"every trial.*no memory"):
        begun(tmp_path, trials=2).run(lambda first, batch: ["no memory"] * len(batch))


def test_trials_that_were_all_in_vain_do_not_count(tmp_path):
    """Whatever was wrong, in the words or elsewhere, the next search in the folder is a new one."""
    search = begun(tmp_path, trials=2, fixed=["data.patch=33"])
    with pytest.raises(InputError):
        search.run(lambda first, batch: ["refused"] * len(batch))
    search.close()
    again = begun(tmp_path, trials=2, fixed=["data.patch=64"])
    assert not again.finished()
    assert again.run(bowl).number in (2, 3)
    assert len(again.finished()) == 2


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search = begun(tmp_path, trials=2, fixed=["sample=mos2"])
    search.run(bowl)
    search.close()
    with pytest.raises(InputError, match=r"fixed.*sample=mos2.*sample=gold.*study="):
        begun(tmp_path, fixed=["sample=gold"])
    with pytest.raises(InputError, match=r"mode.*max.*min"):
        begun(tmp_path, fixed=["sample=mos2"], mode="min")
    with pytest.raises(InputError, match="space"):
        Search(split(parsed("x=1,2"))[0], tmp_path, "max", 2, fixed=["sample=mos2"])


def test_one_process_at_a_time(tmp_path):
    search = begun(tmp_path)
    with pytest.raises(InputError, match="another process"):
        begun(tmp_path)
    search.close()
    begun(tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [(dict(trials=0), "trials.*0"), (dict(mode="best"), "monitor_mode.*best")],
)
def test_bad_numbers_are_refused(tmp_path, settings, named):
    with pytest.raises(InputError, match=named):
        begun(tmp_path, **settings)
    with pytest.raises(InputError, match="params"):
        Search({}, tmp_path, "max", 1)
    with pytest.raises(InputError, match=r"max_batch_size.*0"):
        begun(tmp_path).run(bowl, at_once=0)


def test_a_refused_trial_is_a_failure_with_a_reason():
    def task(config):
        try:
            raise InputError("focal must be at least 1, got 0.")
        except InputError:
            sys.exit(2)  # as hrtem.runs.told_in_one_sentence does

    with pytest.raises(InputError, match="focal must be"):
        Attempt(task)(None)
    assert Attempt(lambda config: 0.5)(None) == 0.5
