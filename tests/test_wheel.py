"""The wheel, installed beside the dependencies alone: recipes, models and the command come with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tiny
from untrained import micrograph

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel installs, built from a copy of the source, as the index would have it."""
    place = tmp_path_factory.mktemp("wheel")
    left = shutil.ignore_patterns(".*", "cache", "runs", "predictions", "build", "site", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, place / "source", ignore=left)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(place), str(place / "source")]
    subprocess.run(build, check=True, cwd=place)
    (wheel,) = place.glob("hrtem-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(place / "site"), str(wheel)], check=True, cwd=place)
    shutil.rmtree(place / "source")
    return place / "site"


@pytest.fixture
def hrtem(installed, tmp_path):
    """Run the installed command in an empty folder; only the dependencies come from this environment."""

    def run(*words):
        environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
        command = [sys.executable, str(installed / "bin" / "hrtem"), *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_it_is_not_the_clone_that_runs(installed):
    code = "import hrtem, hrtem.recipes; print(hrtem.__file__); print(hrtem.recipes.CONF)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    module, recipes = map(Path, done.stdout.split())
    assert installed in module.parents
    assert recipes == installed / "hrtem" / "conf"
    assert not (installed / "benchmarks").exists()
    assert not (installed / "tests").exists()


def test_atoms_are_found(hrtem, tmp_path):
    np.save(tmp_path / "flake.npy", micrograph())
    done = hrtem("find", "model=graphene", "images=flake.npy", "sampling=0.15", "output=found")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found" / "flake" / "report.html").stat().st_size > 10_000


def test_a_network_is_trained(hrtem, tmp_path):
    done = hrtem("train", *tiny(), "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert "Test on simulated images" in done.stdout


def test_a_gallery_is_drawn(hrtem, tmp_path):
    done = hrtem("gallery", *tiny(), "waves=1", "examples=2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gallery-graphene.png").is_file()
