"""`train.py` as a user starts it."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY, told
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from hrtem import folders
from hrtem.matching import score_files
from hrtem.training import experiment


def train(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python train.py` in ``folder``."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


def run_folder(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/*")
    return found


@pytest.mark.parametrize(
    ("sample", "focal", "classes", "process"),
    [pytest.param("graphene", 1, ["C"], True, marks=pytest.mark.slow), ("mos2", 3, ["Mo", "S2", "S"], False)],
)
def test_one_run_from_structure_to_model(tmp_path, start, sample, focal, classes, process):
    words = [*TINY, f"sample={sample}", f"focal={focal}"]
    if process:
        done = train(tmp_path, *words)
        status, stdout, stderr = done.returncode, done.stdout, done.stderr
    else:
        status, stdout, stderr = start("train.py", *words)
    assert status == 0, stderr
    folder = run_folder(tmp_path)
    assert folder.parent.name == f"{sample}-focal{focal}"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["in_channels"] == focal
    assert "${" not in (folder / "config.yaml").read_text()
    scores = json.loads((folder / "metrics.json").read_text())
    assert list(scores) == ["1000", "100000"]
    assert set(classes) <= set(scores["1000"])
    assert (folder / "metrics.csv").read_text().count("\n") > 1
    assert (folder / "examples.png").stat().st_size > 10_000
    assert list(json.loads((folder / "reliability.json").read_text())) == ["all", "1000", "100000"]
    assert (folder / "reliability.png").stat().st_size > 5_000
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["versions"]["torch"].startswith("2.13.0")
    assert len(provenance["cache_key"]) == 12
    assert "F1" in stdout
    assert f"python predict.py checkpoint={folder / 'checkpoints' / 'best.ckpt'}" in stdout.replace("\n", "")


def test_trainings_of_one_second_have_folders_of_their_own(tmp_path, start, monkeypatch):
    """Also the jobs of a sweep over two studies; Lightning passes the folder of a job to further processes."""
    given = []

    def run(config, folder):
        assert Path(HydraConfig.get().run.dir if HydraConfig.get().mode == RunMode.RUN else folder).resolve() == folder
        given.append(str(folder.relative_to(tmp_path)))
        return 0.0

    class Frozen(datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(experiment, "run", run)
    monkeypatch.setattr(folders, "datetime", Frozen)
    for words in ([], ["-m", "sample=graphene,mos2"]):
        status, _, stderr = start("train.py", *words)
        assert status == 0, stderr
    stamp = "runs/graphene-focal1/2026-01-02_03-04-05"
    assert given == [stamp, f"{stamp}-2/0", f"{stamp}-2/1"]


def test_resume_continues(tmp_path, start):
    assert start("train.py", *TINY)[0] == 0
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    status, _, stderr = start("train.py", *TINY, "trainer.max_epochs=2", f"resume={last}", "hydra.run.dir=resumed")
    assert status == 0, stderr
    state = torch.load(tmp_path / "resumed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (state["epoch"], state["global_step"]) == (1, 4)


def test_wandb_runs_offline_without_a_login(tmp_path, start, monkeypatch):
    for name, value in {"WANDB_API_KEY": "", "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}.items():
        monkeypatch.setenv(name, value)
    status, _, stderr = start("train.py", *TINY, "logger=wandb")
    assert status == 0, stderr
    (offline,) = run_folder(tmp_path).glob("wandb/offline-run-*")
    assert (offline / "files" / "media" / "images").is_dir()
    (log,) = offline.glob("run-*.wandb")
    recorded = log.read_bytes()
    sent = (b"val/f1", b"test/1000/f1", b"provenance", b"revision", b"cache_key", b"hrtem.samples.Graphene")
    for word in (*sent, b"progress", b"examples", b"confusion", b"against dose/f1"):
        assert word in recorded


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sample=diamond"], ["sample/diamond", "file gold graphene"]),
        (["focl=3"], ["focl"]),
        (["sample.vacancies=0.1"], ["vacancies"]),
        (["focal=0"], ["focal", "0", "1 to 64"]),
        (["focal=three"], ["focal", "three"]),
        (["optics.defocus=[100,-100]"], ["optics.defocus", "swapped", "[-100, 100]"]),
        (["optics.dose=-5"], ["optics.dose", "-5"]),
        (["resume=none.ckpt"], ["resume", "none.ckpt"]),
        ([f"resume={ROOT / 'README.md'}"], ["resume", "README.md is not: it is damaged or of another kind."]),
        (["callbacks.safeguard.minutes=0"], ["callbacks.safeguard.minutes", "0"]),
        (["+noise.colour=1"], ["Physical", "colour"]),
        (["wave.workers=1"], ["wave.workers is no word"]),
        (["sample"], ["sample must have a value"]),
        (["hydra.run.dir=/dev/null/run"], ["hydra.run.dir", "/dev/null/run cannot: Not a directory"]),
        (["trainer.accelerator=abacus"], ["abacus"]),
    ],
)
def test_a_mistake_is_told_in_one_sentence(tmp_path, start, words, named):
    status, _, stderr = start("train.py", *TINY, *words)
    assert status != 0
    assert all(word in told(stderr) for word in named), stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_mistake_in_a_process_of_its_own(tmp_path, cache_folder):
    done = train(tmp_path, *TINY, "focal=0")
    assert done.returncode == 2
    assert "focal" in told(done.stderr)
    assert not list(tmp_path.iterdir())


#: Long enough to be interrupted: three epochs of thirty steps. In single precision one batch rounds nearly as two do,
#: in a network without batch normalisation, which on a CPU is each process's own.
LONG = [
    *TINY,
    "trainer.precision=32-true",
    "model=folded_unet",
    "data.epoch_size=60",
    "data.numbers={train: 2, val: 3, test: 3}",
    "trainer.max_epochs=3",
]
CURVES = "trainer.log_every_n_steps=1"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache_folder):
    """A training that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done = train(folder, *LONG, CURVES, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def interrupted(folder: Path, how: Callable[[int], None], *words: str) -> tuple[int, str]:
    """Start a training in ``folder / "run"``, do something to it in its second epoch: status and stderr."""
    command = [sys.executable, str(ROOT / "train.py"), *LONG, *words, "hydra.run.dir=run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "stderr").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)
    last = folder / "run" / "checkpoints" / "last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    how(process.pid)
    status = process.wait(timeout=120)
    return status, (folder / "stderr").read_text()


def same(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same weights and the same state of the optimizer, bit for bit."""
    states = [torch.load(path, weights_only=True) for path in (one, other)]
    weights = [state["state_dict"] for state in states]
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert states[0]["global_step"] == states[1]["global_step"]
    pairs = [(weights[0][name], weights[1][name]) for name in weights[0]]
    pairs += [(moments[0][n][name], moments[1][n][name]) for n in moments[0] for name in moments[0][n]]
    # What was never learnt, as the domain of so short a training, is no number in both.
    return all(torch.allclose(*pair, rtol=0.0, atol=0.0, equal_nan=True) for pair in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_continues_to_the_same_result(tmp_path, whole, number, status):
    ended, stderr = interrupted(tmp_path, lambda process: os.kill(process, number))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert ended == status, stderr
    saved = torch.load(last, weights_only=True)
    if number == signal.SIGKILL:
        assert (saved["epoch"], saved["global_step"]) == (0, 30)
    else:
        assert 30 < saved["global_step"] < 60, "in the middle of the second epoch"
        assert stderr.splitlines()[-1].endswith(f"continue it with resume={last}")
        assert "Traceback" not in stderr
    done = train(tmp_path, *LONG, f"resume={last}", "hydra.run.dir=rest")
    assert done.returncode == 0, done.stderr
    for name in ("last.ckpt", "best.ckpt"):
        assert same(tmp_path / "rest" / "checkpoints" / name, whole / "checkpoints" / name)
    assert (tmp_path / "rest" / "metrics.json").read_text() == (whole / "metrics.json").read_text()


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_continues_from_a_checkpoint_of_that_epoch(tmp_path, whole):
    """`resume=auto` in the same folder, as a batch system starts a job again."""
    interrupted(tmp_path, lambda process: os.kill(process, signal.SIGKILL), "callbacks.safeguard.minutes=0.001")
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < saved["global_step"] < 30, "in the middle of the first epoch"
    done = train(tmp_path, *LONG, "resume=auto", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "run" / "checkpoints" / "best.ckpt", whole / "checkpoints" / "best.ckpt")
    assert (tmp_path / "run" / "metrics.json").read_text() == (whole / "metrics.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["cpu", "ddp_cpu"])
def test_a_full_disk_is_told_and_harms_no_checkpoint(tmp_path, cache_folder, trainer):
    """The limit on the size of a file, set in the middle of a run, refuses what a full disk would."""
    kept = {}

    def fill(process):
        kept.update((path, path.read_bytes()) for path in (tmp_path / "run" / "checkpoints").iterdir())
        resource.prlimit(process, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    status, stderr = interrupted(tmp_path, fill, f"trainer={trainer}")
    assert status == 2
    sentence = stderr.splitlines()[-1]
    assert sentence.startswith("error: the checkpoint")
    assert sentence.endswith("the one before it is whole.")
    assert sorted(path.name for path in kept) == ["best.ckpt", "last.ckpt"]
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir()} == kept


def curve(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, whole):
    """Two images a step, one from each; the 3 to validate cannot be shared evenly."""
    cache = tmp_path / "cache"
    done = train(
        tmp_path, *LONG, CURVES, "trainer=ddp_cpu", "data.batch_size=1", "hydra.run.dir=run", HRTEM_CACHE=str(cache)
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    for name, values in {"train/loss": 90, "val/loss": 3, "val/f1": 3, "test/loss": 1, "test/1000/f1": 1}.items():
        assert len(curve(run, name)) == values
        # One peak more or less, where a probability lies at the threshold, is a hundredth of a tiny test's F1.
        assert curve(run, name) == pytest.approx(curve(whole, name), abs=0.05 if "f1" in name else 1e-3), name
    # Rounding differs between a batch of two and two batches of one, and waves simulated apart differ in the sixth
    # digit, which is an electron more or less in some pixel. Both grow with each step.
    ours, theirs = (curve(folder, "train/loss")[:5] for folder in (run, whole))
    assert ours[0] == pytest.approx(theirs[0], abs=2e-5)
    assert ours == pytest.approx(theirs, abs=5e-4)
    counts = [json.loads((folder / "metrics.json").read_text())["1000"]["all"]["true"] for folder in (run, whole)]
    assert counts[0] == counts[1]
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["run"]
    assert done.stdout.count("Run folder") == done.stdout.count("Simulating graphene") == 1
    assert len(list(cache.glob("*/*/*.npz"))) == 8
    assert "ddp_process" not in json.loads((run / "provenance.json").read_text())["command"]


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path, cache_folder):
    """A signal to the first one stops both; they continue to what they would have come to."""
    words = ("trainer=ddp_cpu", "data.batch_size=1")
    status, stderr = interrupted(tmp_path, lambda process: os.kill(process, signal.SIGTERM), *words)
    assert status == 143
    assert "resume=" in stderr.splitlines()[-1]
    assert train(tmp_path, *LONG, *words, "resume=auto", "hydra.run.dir=run").returncode == 0
    assert train(tmp_path, *LONG, *words, "hydra.run.dir=whole").returncode == 0
    for name in ("last.ckpt", "best.ckpt"):
        assert same(tmp_path / "run" / "checkpoints" / name, tmp_path / "whole" / "checkpoints" / name)


@pytest.mark.slow
def test_torchrun_starts_one_run(tmp_path, cache_folder):
    def started(*words):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*torchrun, str(ROOT / "train.py"), *TINY, "data.numbers.val=2", "trainer=ddp_cpu", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    refused = started()
    assert "need one run folder: say hydra.run.dir=FOLDER" in refused.stderr
    assert not list(tmp_path.iterdir())
    done = started("hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert done.stdout.count("Run folder") == 1


def test_a_sweep_with_several_processes_is_refused(tmp_path, start):
    status, _, stderr = start("train.py", *TINY, "trainer=ddp_cpu", "seed=0,1", "-m")
    assert status == 2
    assert "a sweep (-m) must run each of its trials in one process, and trainer.devices makes 2" in told(stderr)


@pytest.mark.slow
def test_the_default_recipe_finds_the_atoms(tmp_path):
    """What `make train` promises, from an empty cache: F1 of 0.90 at least from 10⁴ e/Å² up."""
    done = train(tmp_path, HRTEM_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    scores = json.loads((run_folder(tmp_path) / "metrics.json").read_text())
    for dose in ("10000", "30000", "100000"):
        assert scores[dose]["all"]["f1"] >= 0.90
        assert scores[dose]["all"]["error_pm"] < 15.0

    data = os.environ.get("HRTEM_REAL_DATA")
    if not data:
        pytest.skip("HRTEM_REAL_DATA is unset: the model has not seen a real micrograph")
    checkpoint = run_folder(tmp_path) / "checkpoints" / "best.ckpt"
    for name, sampling in (("graphene_dtu", 0.1185), ("graphene_flower", 0.2188)):
        place = Path(data) / "real" / name
        words = [f"checkpoint={checkpoint}", f"images={place / 'image.tif'}", f"sampling={sampling}", f"output={name}"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "predict.py"), *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = tmp_path / name / "image" / "atoms.csv"
        score = score_files(found, place / "atoms.csv", sampling, mask=place / "evalmask.png")
        assert score.f1 >= 0.95, name
        assert score.error_pm < 20.0, name
