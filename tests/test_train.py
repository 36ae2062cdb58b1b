"""`train.py` as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY, told

from hrtem.metrics import score_files


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


@pytest.mark.parametrize(("sample", "focal", "classes"), [("graphene", 1, ["C"]), ("mos2", 3, ["Mo", "S2", "S"])])
def test_one_run_from_structure_to_model(tmp_path, cache_folder, sample, focal, classes):
    done = train(tmp_path, *TINY, f"sample={sample}", f"focal={focal}")
    assert done.returncode == 0, done.stderr
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
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["versions"]["torch"].startswith("2.13.0")
    assert len(provenance["cache_key"]) == 12
    assert "F1" in done.stdout
    assert f"python predict.py checkpoint={folder / 'checkpoints' / 'best.ckpt'}" in done.stdout.replace("\n", "")


def test_resume_continues(tmp_path, cache_folder):
    assert train(tmp_path, *TINY).returncode == 0
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    done = train(tmp_path, *TINY, "trainer.max_epochs=2", f"resume={last}", "hydra.run.dir=resumed")
    assert done.returncode == 0, done.stderr
    state = torch.load(tmp_path / "resumed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (state["epoch"], state["global_step"]) == (1, 4)


def test_wandb_runs_offline_without_a_login(tmp_path, cache_folder):
    environment = {"WANDB_API_KEY": "", "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    done = train(tmp_path, *TINY, "logger=wandb", **environment)
    assert done.returncode == 0, done.stderr
    (offline,) = run_folder(tmp_path).glob("wandb/offline-run-*")
    assert (offline / "files" / "media" / "images").is_dir()
    (log,) = offline.glob("run-*.wandb")
    recorded = log.read_bytes()
    for word in (b"val/f1", b"test/1000/f1", b"provenance", b"revision", b"hrtem.samples.Graphene"):
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
        (["+noise.colour=1"], ["Physical", "colour"]),
        (["trainer.accelerator=abacus"], ["abacus"]),
    ],
)
def test_a_mistake_is_told_in_one_sentence(tmp_path, start, words, named):
    status, _, stderr = start("train.py", *TINY, *words)
    assert status != 0
    assert all(word in told(stderr) for word in named), stderr
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_process_of_its_own(tmp_path, cache_folder):
    done = train(tmp_path, *TINY, "focal=0")
    assert done.returncode == 2
    assert "focal" in told(done.stderr)
    assert not list(tmp_path.iterdir())


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
