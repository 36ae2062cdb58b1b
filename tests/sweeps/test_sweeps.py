"""Multiruns as a user starts them: grids, searches, launchers, and W&B's agent."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import wandb
import yaml
from conftest import ROOT, TINY, recipe, told
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from submitit.core.utils import FailedJobError

CONF = ROOT / "conf"
SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
AGENTS = sorted(path.stem for path in (CONF / "wandb").glob("*.yaml"))
#: A search of few and quick trials over a rate; `sample.extent` and so on are TINY.
SEARCH = ["sweep=search", *TINY, "task.optimizer.weight_decay=1e-4", "target.radius=0.5"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), **more}


def train(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python train.py` in ``folder``."""
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(command, cwd=folder, env=environment(**more), capture_output=True, text=True)


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def runs_in(folder: Path) -> list[str]:
    """Run folders below ``folder`` that hold a tested model."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("metrics.json"))


@pytest.mark.parametrize("name", SWEEPS)
def test_the_values_that_a_recipe_sweeps_compose(configuration, name):
    """The first and the last; each recipe that they name has a test of its own."""
    config = recipe(f"sweep={name}")
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.study.startswith(name)
    said = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    for word in OverridesParser.create().parse_overrides(said):
        assert word.is_sweep_override()
        values = list(word.sweep_string_iterator()) if word.is_discrete_sweep() else [word.value().start]
        for value in dict.fromkeys((values[0], values[-1])):
            configuration(f"sweep={name}", f"{word.key_or_group}={value}")


def test_the_sweep_over_architectures_leaves_none_out_that_trains_in_its_time():
    swept = yaml.safe_load((CONF / "sweep" / "architectures.yaml").read_text())["hydra"]["sweeper"]["params"]["model"]
    by_agents = yaml.safe_load((CONF / "wandb" / "architectures.yaml").read_text())["parameters"]["model"]["values"]
    models = {path.stem for path in (CONF / "model").glob("*.yaml")}
    assert set(swept.split(",")) == set(by_agents) == models - {"dihedral_unet"}


@pytest.mark.parametrize("name", ["focal", "focal_known"])
@pytest.mark.parametrize("sample", ["graphene", "graphene_voronoi", "mos2", "gold"])
def test_series_of_all_lengths_cost_the_same_dose(configuration, name, sample):
    """In training and in the test, about the same middle of the series, and where it is known, everywhere the same."""
    swept = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert swept == {"focal": "1,2,3,5"}
    totals, middles = [], []
    config = configuration(f"sweep={name}", f"sample={sample}", "optics.dose=1e4")
    for number in map(int, swept["focal"].split(",")):
        config.focal = number
        microscope = instantiate(config.optics)
        settings = [microscope.draw(np.random.default_rng(seed)) for seed in range(5)]
        assert {one["defocus"].shape for one in settings} == {(number,)}
        totals += [number * float(one["dose"]) for one in settings]
        totals += [number * microscope.image_dose(1e4)]
        middles += [float(one["defocus"].mean()) for one in settings]
    assert totals == pytest.approx([1e4] * len(totals))
    assert (np.std(middles) < 1e-3) == (name == "focal_known")


def test_a_grid_leaves_one_folder_a_job(tmp_path, start):
    status, _, stderr = start("train.py", "sweep=seeds", *TINY, "seed=0,1")
    assert status == 0, stderr
    (folder,) = tmp_path.glob("runs/seeds-graphene-focal1/*")
    assert runs_in(folder) == ["0", "1"]
    for job in ("0", "1"):
        assert yaml.safe_load((folder / job / "config.yaml").read_text())["seed"] == int(job)


def test_a_grid_outlives_a_job_that_is_refused(tmp_path, start):
    status, stdout, stderr = start("train.py", "-m", *TINY, "data.patch=33,64")
    assert status == 2
    (folder,) = tmp_path.glob("runs/graphene-focal1/*")
    assert runs_in(folder) == ["1"]
    assert "lacks 1 item" in told(stderr)
    listed = stdout.partition("Could not be used:")[2]
    assert "job 0 (data.patch=33): " in listed
    assert "multiple of 32 px, got 33" in listed


@pytest.mark.slow
def test_a_search_outlives_a_trial_that_is_refused(tmp_path, start):
    """Patches of 33 px are refused, those of 64 px train."""
    status, stdout, stderr = start("train.py", *SEARCH, "data.patch=33,64", "hydra.sweeper.trials=3")
    assert status == 0, stderr
    folder = tmp_path / "runs" / "search-graphene-focal1"
    rows = trials(folder)
    assert {row["state"] for row in rows if row["data.patch"] == "33"} == {"fail"}
    assert {row["state"] for row in rows if row["data.patch"] == "64"} == {"complete"}
    assert "multiple of 32 px, got 33" in next(row["error"] for row in rows if row["state"] == "fail")
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert "data.patch=64" in best["words"]
    assert runs_in(folder) == [row["number"] for row in rows if row["state"] == "complete"]
    assert best["value"] == max(float(row["value"]) for row in rows if row["value"])
    assert f"val/f1 = {best['value']:.4g} in {best['folder']}" in stdout
    # The command that is printed trains the best alone: all words but those that made it a search.
    assert best["command"] in stdout
    said = shlex.split(best["command"])[2:]
    assert set(best["words"]) | set(SEARCH[1:4]) <= set(said)
    assert not [word for word in said if word.startswith(("sweep=", "hydra."))]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([*SEARCH, "data.batch_size=2", "hydra.sweeper.trials=0"], ["hydra.sweeper.trials", "0"]),
        ([*SEARCH, "task.optimizer.lr=interval(1.0,0.5)"], ["task.optimizer.lr", "interval(1.0,0.5)"]),
        ([*SEARCH, "data.batch_size=2", "focl=3"], ["focl"]),
        (["-m", *TINY, "trainer.devices=2"], ["trainer.devices", "2", "sweep"]),
        (["sweep=everything"], ["sweep/everything", "architectures", "search"]),
        (["launcher=cloud"], ["launcher/cloud", "slurm"]),
    ],
)
def test_a_mistake_is_told_in_one_sentence(start, words, named):
    status, _, stderr = start("train.py", *words)
    assert status != 0
    assert all(word in told(stderr) for word in named), stderr


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path, cache_folder):
    words = [*SEARCH, "data.batch_size=2", "hydra.sweeper.trials=4"]
    folder = tmp_path / "runs" / "search-graphene-focal1"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words],
        cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            # In the middle of the second trial.
            if (folder / "1" / "config.yaml").exists():
                break
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
    first = (folder / "0" / "metrics.json").stat().st_mtime_ns

    done = train(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "1 of 4 trials are done already" in done.stdout
    rows = trials(folder)
    assert [row["state"] for row in rows] == ["complete", "interrupted", "complete", "complete", "complete"]
    assert rows[1]["task.optimizer.lr"] == rows[2]["task.optimizer.lr"]
    assert runs_in(folder) == ["0", "2", "3", "4"]
    assert (folder / "0" / "metrics.json").stat().st_mtime_ns == first
    again = train(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert len(trials(folder)) == 5


def install_slurm(folder: Path, accepts: bool) -> dict[str, str]:
    """Commands that pass for SLURM's: `sbatch` keeps the script and, if it ``accepts``, runs it in the background."""
    commands = {
        "sbatch": f"""cp "$1" "{folder}/script"
            {"" if accepts else "exit 1"}
            export SLURM_JOB_ID=7 SLURM_JOB_NAME=train SLURM_NTASKS=1 SLURM_NTASKS_PER_NODE=1 SLURM_JOB_NUM_NODES=1
            export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NODELIST=localhost SLURM_ARRAY_JOB_ID=7
            for SLURM_ARRAY_TASK_ID in 0 1; do
                export SLURM_ARRAY_TASK_ID
                bash "$1" > "{folder}/log" 2>&1 < /dev/null &
            done
            echo "Submitted batch job 7" """,
        "srun": """while [ "$1" != "${1#-}" ]; do
                case "$1" in --output|--error) shift 2;; *) shift;; esac
            done
            exec "$@" """,
        "sacct": """printf 'JobID|State|NodeList\\n7_0|RUNNING|localhost\\n7_1|RUNNING|localhost\\n' """,
    }
    folder.mkdir()
    for name, text in commands.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_what_slurm_is_asked_for(tmp_path, start, monkeypatch):
    """The batch file that `sbatch` receives."""
    monkeypatch.setenv("PATH", install_slurm(tmp_path / "slurm", accepts=False)["PATH"])
    words = ["launcher=slurm", "hydra.launcher.partition=h200", "hydra.launcher.account=tem", "trainer=gpu", "seed=0,1"]
    with pytest.raises(FailedJobError):
        start("train.py", *words)
    script = (tmp_path / "slurm" / "script").read_text()
    asked = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2] for line in script.splitlines() if "#SBATCH" in line
    )
    expected = {
        "partition": "h200", "account": "tem", "nodes": "1", "ntasks-per-node": "1", "gpus-per-node": "1",
        "cpus-per-task": "8", "mem": "32GB", "time": "720", "signal": "USR2@120", "array": "0-1%2", "job-name": "train",
    }  # fmt: skip
    assert expected.items() <= asked.items()
    assert f"{sys.executable} -u -m submitit.core._submit" in script


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_jobs_run_in_processes_of_their_own(tmp_path, cache_folder, launcher):
    """SLURM is played by four lines of shell."""
    slurm = install_slurm(tmp_path / "slurm", accepts=True) if launcher == "slurm" else {}
    done = train(tmp_path, "-m", f"launcher={launcher}", *TINY, "seed=0,1", **slurm)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/graphene-focal1/*")
    assert runs_in(folder) == ["0", "1"]
    commands = {json.loads((folder / job / "provenance.json").read_text())["command"] for job in ("0", "1")}
    assert all("submitit" in command for command in commands)


@pytest.mark.slow
def test_a_search_survives_a_refused_trial_in_another_process(tmp_path, cache_folder):
    words = [*SEARCH, "launcher=local", "data.batch_size=2", "data.patch=33,64", "hydra.sweeper.trials=4"]
    done = train(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    rows = trials(tmp_path / "runs" / "search-graphene-focal1")
    assert {(row["data.patch"], row["state"]) for row in rows} == {("33", "fail"), ("64", "complete")}
    assert any("multiple of 32 px, got 33" in row["error"] for row in rows)


def first_values(recipe: Path) -> dict[str, dict[str, object]]:
    """What W&B's server sends an agent: one value of each parameter."""
    parameters = yaml.safe_load(recipe.read_text())["parameters"]
    return {
        name: {"value": said.get("value", said.get("values", [said.get("min")])[0])}
        for name, said in parameters.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_words_of_an_agent_train(tmp_path, start, monkeypatch, name):
    """The command is put together by W&B's own code."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    recipe = yaml.safe_load((CONF / "wandb" / f"{name}.yaml").read_text())
    assert (recipe["program"], recipe["metric"]) == ("train.py", {"name": "val/f1", "goal": "maximize"})
    arguments = create_sweep_command_args({"args": first_values(CONF / "wandb" / f"{name}.yaml")})
    given = {"env": ["/usr/bin/env"], "program": [recipe["program"]], **arguments}
    command: list[str] = []
    for part in create_sweep_command(recipe["command"]):
        command += given[part[2:-1]] if part.startswith("${") and part.endswith("}") else [part]
    assert command[:3] == ["/usr/bin/env", "python", "train.py"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_RUN_ID", "abcd1234")
    # An earlier test may have made W&B read its environment, which it does once in a process.
    wandb.teardown()
    status, _, stderr = start("train.py", *command[3:], *TINY)
    assert status == 0, stderr
    assert runs_in(tmp_path / "runs") == [f"wandb-{name}/abcd1234"]
    assert list(tmp_path.glob(f"runs/wandb-{name}/abcd1234/wandb/offline-run-*-abcd1234"))


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_starts_a_training(tmp_path, cache_folder, name):
    """W&B's agent itself, given what its server would send."""
    recipe = CONF / "wandb" / f"{name}.yaml"
    received = {"args": first_values(recipe), "program": str(ROOT / "train.py"), "run_id": "abcd1234"}
    agent = f"""
import sys, yaml
from wandb.wandb_agent import Agent
agent = Agent(api=None, queue=None, sweep_id="test")
agent._sweep_command = [*yaml.safe_load(open({str(recipe)!r}))["command"], *sys.argv[1:]]
agent._command_run({received!r})
sys.exit(agent._run_processes["abcd1234"].wait())
"""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", agent, *TINY],
        cwd=tmp_path, env=environment(WANDB_MODE="offline", PATH=path), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert runs_in(tmp_path / "runs") == [f"wandb-{name}/abcd1234"]
