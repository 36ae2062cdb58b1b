"""Trained runs beside each other: which belong together, what they are called, what they cost."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from hydra.utils import instantiate
from skimage.io import imread

from hrtem.command.compare import main
from hrtem.errors import InputError
from hrtem.sweeps import comparison, show
from hrtem.sweeps.comparison import Cost, Entry, Run, names
from hrtem.sweeps.entries import flat, spread
from hrtem.sweeps.show import HEADER

BASE = {"sample": "graphene", "model": "unet", "optics": "graphene"}


def run(choices=(), **settings):
    return Run(Path("runs/x"), {"seed": 0, "focal": 1, **settings}, {**BASE, **dict(choices)}, {1e3: {"f1": 0.5}})


def entry(f1, error, name="a", **more):
    runs = [
        Run(Path("x"), {}, {}, {1e3: {"f1": one, "error_pm": two}, 1e4: {"f1": 0.9, "error_pm": 5.0}}, **more)
        for one, two in zip(f1, error, strict=True)
    ]
    return Entry(name, runs, Cost(1000, 2500.0, 0.125))


def test_one_changed_number_is_the_name():
    runs = [run(**{"task.optimizer.lr": 1e-3}), run(**{"task.optimizer.lr": 3e-3})]
    assert names(runs) == ["task.optimizer.lr=0.001", "task.optimizer.lr=0.003"]


def test_a_recipe_stands_for_its_settings_and_for_what_follows_it():
    runs = [
        run(**{"sample.extent": 40.0}),
        run({"sample": "mos2", "optics": "mos2"}, **{"sample.extent": 50.0, "sample.classes": ["Mo", "S2"]}),
    ]
    assert names(runs) == ["sample=graphene", "sample=mos2"]


def test_settings_tell_apart_what_one_recipe_does_not():
    runs = [
        run(**{"model.fold": 1}),
        run(**{"model.fold": 2}),
        run({"model": "msdnet"}, **{"model.width": 2}),
    ]
    assert names(runs) == ["model=unet model.fold=1", "model=unet model.fold=2", "model=msdnet"]


def test_a_fact_that_is_repeated_is_told_once():
    """As in a resolved configuration, where Hydra's own record is missing."""
    runs = [run(**{"data.sampling": value, "task.sampling": value, "wave.sampling": value}) for value in (0.1, 0.2)]
    assert names(runs) == ["data.sampling=0.1", "data.sampling=0.2"]


def test_a_lone_run_and_equal_runs_are_called_by_their_folders():
    assert names([run()]) == ["runs/x"]
    assert names([run(), run()]) == ["runs/x", "runs/x"]


def test_repetitions_differ_by_chance_only():
    assert run(seed=1).recipe == run(seed=2, study="b", **{"logger.project": "x", "data.cache": "y"}).recipe
    assert run(focal=3).recipe != run().recipe


def test_nested_settings_are_flattened():
    assert flat({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": [1, 2], "e": None}


def test_mean_and_deviation_of_a_sample():
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert spread([1.0]) == (1.0, None)
    assert spread([]) is None
    assert entry([0.8, 0.9], [10.0, 14.0]).score("error_pm", 1e3) == pytest.approx((12.0, 8.0**0.5))
    assert entry([0.8], [10.0]).score("f1", 77.0) is None


def test_a_run_that_found_nothing_has_no_position_error(tmp_path, capsys):
    """As `metrics.json` says it, and the comparison goes on."""
    lost = entry([0.0, 0.8], [float("nan"), 10.0], "lost")
    show.print_table([lost], {})
    assert "nan ± nan" in capsys.readouterr().out
    show.figure([lost], {}, tmp_path / "a.png")


def test_cost_of_a_known_network(configuration, tmp_path):
    """A convolution of 3 x 3 pixels from 1 to 4 channels and one of 1 x 1 back: 9 · 4 + 4 multiplications a pixel."""
    import pytorch_lightning as lightning

    task = instantiate(configuration(*TINY, "target=gaussian", "model=unet", "model.channels=[4]").task)
    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    cost = Cost.measure(tmp_path / "best.ckpt", repeats=1)
    # Twice 3 x 3 at the only level: 1 to 4 and 4 to 4 channels, then 4 to 1.
    assert cost.flops == 2 * (9 * 4 + 9 * 16 + 4)
    # The normalisations have a gain and an offset for each of 4 channels.
    assert cost.parameters == (9 * 4 + 8) + (9 * 16 + 8) + (4 + 1)
    assert 0.0 < cost.seconds < 60.0


def test_table_figure_and_files(tmp_path, capsys):
    entries = [entry([0.8, 0.9], [10.0, 14.0], "seed pair", steps=300, seconds=60.0), entry([0.7], [20.0], "single")]
    limits = {1e3: 6.0}
    show.print_table(entries, limits)
    printed = capsys.readouterr().out
    for text in (
        "seed pair",
        "0.850 ± 0.071",
        "12.0 ± 2.8 (2.0×)",
        "20.0 (3.3×)",
        "1,000",
        "2.5",
        "0.125",
        "300",
        "60",
    ):
        assert text in printed, text

    show.write_markdown(entries, limits, tmp_path / "a.md")
    lines = (tmp_path / "a.md").read_text().splitlines()
    assert lines[0] == "F1, position error (pm) (× limit), at doses in e/Å² of each image:"
    assert len(lines) == 6
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert "0.700, 20.0 (3.3×)" in lines[5]

    show.write_csv(entries, limits, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HEADER
    assert [(row["name"], row["dose_e_per_A2"]) for row in rows] == [
        ("seed pair", "1000"), ("seed pair", "10000"), ("single", "1000"), ("single", "10000"),
    ]  # fmt: skip
    assert float(rows[0]["error_over_limit"]) == 2.0
    assert rows[1]["limit_pm"] == rows[2]["f1_sd"] == rows[2]["training_steps"] == ""

    show.figure(entries, limits, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")[..., :3].astype(int)
    assert picture.std() > 5


def test_classes_counts_and_the_dose_of_a_series(tmp_path, capsys):
    """As a test of MoS2 and one of counted gold leave them; a class that never occurs has no F1."""
    rest = {"f1": 0.9, "error_pm": 8.0}
    several = {"all": rest, "Mo": {"f1": 0.8}, "S2": {"f1": 0.6}, "S": {"f1": float("nan")}}
    counted = {"all": {**rest, "count_exact": 0.75}, "Au": {"f1": 0.9}}
    entries = []
    for name, scores in {"mos2": several, "gold": counted}.items():
        (folder := tmp_path / name).mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({"optics": {"dose_per": "series"}}))
        (folder / "metrics.json").write_text(json.dumps({"1000": scores}))
        entries.append(Entry(name, [Run.read(folder)], Cost(1, 1.0, 1.0)))
    assert entries[0].score("class_f1", 1e3)[0] == pytest.approx(0.7)
    assert entries[1].score("class_f1", 1e3) is None
    show.write_markdown(entries, {}, tmp_path / "a.md")
    first, _, _, _, mos2, gold = (tmp_path / "a.md").read_text().splitlines()
    assert first.endswith("mean F1 of the classes, share of exact counts, at doses in e/Å² of the whole series:")
    assert "0.900, 8.0, 0.700" in mos2
    assert "0.900, 8.0, 0.750" in gold
    show.write_csv(entries, {}, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class_f1"], row["count_exact"], row["dose_per"]) for row in rows] == [
        ("0.7", "", "series"), ("", "0.75", "series"),
    ]  # fmt: skip
    show.figure(entries, {}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    show.print_table([*entries, entry([0.5], [9.0])], {})
    assert "as the recipe says" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def trained(tmp_path, start):
    """Two seeds of one recipe and one run of another, as multiruns leave them."""
    for study, word in (("seeds", "seed=0,1"), ("nets", "model=msdnet")):
        status, _, stderr = start("train.py", "-m", *TINY, word, f"hydra.sweep.dir=runs/{study}")
        assert status == 0, stderr
    return tmp_path / "runs"


@pytest.mark.slow
def test_folders_that_train_py_left(trained, monkeypatch, capfd):
    """Run folders and folders of runs; a training that was stopped is passed over inside a folder."""
    monkeypatch.chdir(trained.parent)
    (trained / "seeds" / "2").mkdir()
    main([str(trained / "seeds"), str(trained / "nets" / "0"), "output=out.png"])
    printed = capfd.readouterr().out
    assert "±" in printed
    rows = list(csv.DictReader((trained.parent / "out.csv").open()))
    assert {(row["name"], row["runs"]) for row in rows} == {("model=folded_segresnet", "2"), ("model=msdnet", "1")}
    saved = json.loads((trained / "nets" / "0" / "metrics.json").read_text())
    last = next(row for row in rows if row["name"] == "model=msdnet" and row["dose_e_per_A2"] == "100000")
    assert float(last["f1"]) == saved["100000"]["all"]["f1"]
    assert (float(last["training_steps"]), last["parameters"]) == (2.0, "10614")
    assert 0.0 < float(last["training_seconds"]) < 60.0
    assert (trained.parent / "out.png").stat().st_size > 10_000
    assert "model=msdnet" in (trained.parent / "out.md").read_text()


def test_the_callbacks_time_the_training(configuration):
    assert "pytorch_lightning.callbacks.Timer" in {c._target_ for c in configuration().callbacks.values()}


def test_bad_input_is_told_in_one_sentence(tmp_path):
    bare, untested, broken, odd = (tmp_path / name for name in ("bare", "untested", "broken", "odd"))
    for folder in (bare, untested, broken, odd):
        folder.mkdir()
    for folder in (untested, broken, odd):
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0}))
    (broken / "metrics.json").write_text('{"1000": {"al')
    (odd / "metrics.json").write_text(json.dumps({"1000": {"all": {"f1": 0.5, "error_pm": 9.0}}}))
    limits = tmp_path / "limits.json"
    limits.write_text('{"1000": -1}')
    output = f"output={tmp_path / 'a.png'}"
    for words, named in (
        ([], "at least one run folder"),
        ([tmp_path / "none"], "none does not exist"),
        ([bare], "bare lacks config.yaml"),
        ([untested], "untested has no test results"),
        ([broken], "metrics.json holds no scores"),
        ([odd], "best.ckpt does not exist"),
        ([odd, "output=a.jpg"], "output must be a PNG.*a.jpg"),
        ([odd, "limits=none.json"], "none.json does not exist"),
        ([odd, f"limits={bare}"], "bare does not exist"),
        ([odd, f"limits={limits}"], "above 0"),
        ([odd, f"limits={broken / 'metrics.json'}"], "dose to pm"),
    ):
        with pytest.raises(InputError) as refusal:
            main([output, *map(str, words)])
        assert re.search(named, str(refusal.value)), refusal.value
        assert str(refusal.value).endswith(".")
    assert not list(tmp_path.glob("a.*"))


def test_limits_are_read(tmp_path):
    (tmp_path / "limits.json").write_text('{"1e3": 20, "10000": 6.3}')
    assert comparison.read_limits(tmp_path / "limits.json") == {1e3: 20.0, 1e4: 6.3}


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("hrtem.sweeps.entries.ColumnNetwork.load", lambda path: torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match=r"device.*quantum"):
        Cost.measure(Path("any"), device="quantum")
