"""A sample, a detector, a network and a loss of one's own, in a folder of one's own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import TINY
from untrained import micrograph

CODE = """
import numpy as np
import torch
from ase import Atoms
from hrtem.columns import Columns
from hrtem.noise import Poisson
from hrtem.samples import Sample


class Chain(Sample):
    known_classes = ("C",)

    def __init__(self, name, classes, extent, rms_displacement, spacing):
        super().__init__(name, classes, extent, rms_displacement)
        self.spacing = spacing

    def __call__(self, rng):
        x = np.arange(2.0, self.extent - 2.0, self.spacing)
        places = np.column_stack([x, np.full(len(x), rng.uniform(4.0, self.extent - 4.0))])
        atoms = self.in_cell(Atoms(f"C{len(x)}", np.column_stack([places, 0.0 * x])), thickness=2.0)
        return atoms, Columns(places, [0] * len(x), self.classes, counts=[1] * len(x))


class Film(Poisson):
    pass


class Narrow(torch.nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(torch.nn.Conv2d(in_channels, out_channels, 3, padding=1))


class Absolute(torch.nn.L1Loss):
    def forward(self, logits, target):
        return super().forward(logits.sigmoid(), target)
"""
RECIPES = {
    "sample/chain": "_target_: mine.Chain\nname: chain\nclasses: [C]\nextent: 25.6\n"
    "rms_displacement: {C: 0.06}\nspacing: 2.0\n",
    "noise/film": "_target_: mine.Film\n",
    "model/narrow": "_target_: mine.Narrow\nin_channels: ${focal}\nout_channels: ${target.channels}\n",
    "loss/absolute": "_target_: mine.Absolute\n",
}


@pytest.fixture
def mine(tmp_path):
    """A folder with one module and four recipes."""
    (tmp_path / "mine.py").write_text(CODE)
    for name, text in RECIPES.items():
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(folder, *words, **environment):
    """``hrtem`` in ``folder``, where ``mine.py`` is on PYTHONPATH."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    settings = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "hrtem", *words]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)


@pytest.mark.slow
def test_parts_of_ones_own_are_trained_exported_and_loaded(mine):
    words = ["sample=chain", "noise=film", "model=narrow", "target=gaussian", "loss=absolute", "hydra.run.dir=run"]
    short = [word for word in TINY if not word.startswith("sample.")]
    done = run(mine, "train", f"hydra.searchpath=[file://{mine / 'recipes'}]", *words, *short)
    assert done.returncode == 0, done.stderr
    export = ("models", "export", "run/checkpoints/best.ckpt", "out/chain")
    refused = run(mine, *export)
    assert refused.returncode == 2
    sentence = "If mine is code that you have and trust, put it on PYTHONPATH and set HRTEM_TRUST=mine."
    assert sentence in refused.stderr
    done = run(mine, *export, HRTEM_TRUST="mine")
    assert done.returncode == 0, done.stderr
    assert "mine.Chain" in (mine / "out" / "chain" / "card.md").read_text()
    np.save(mine / "a.npy", micrograph())
    find = ("find", "model=out/chain", "images=a.npy", "sampling=0.15", "output=found")
    assert sentence in run(mine, *find).stderr
    done = run(mine, *find, HRTEM_TRUST="other,mine")
    assert done.returncode == 0, done.stderr
    (mine / "mine.py").unlink()
    refused = run(mine, "find", "model=out/chain", "images=a.npy", "sampling=0.15", HRTEM_TRUST="mine")
    assert refused.returncode == 2
    assert "mine.Chain" in refused.stderr
