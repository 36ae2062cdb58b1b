"""Which run a training continues."""

from __future__ import annotations

import os

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from hrtem.errors import InputError
from hrtem.training import resume

RECIPE = {"study": "graphene-focal1", "seed": 0, "task": {"lr": 1.0}, "model": {"depth": 3}, "resume": "auto"}


def earlier_run(folder, recipe, network, age=0.0, finished=False):
    """What a run leaves, as far as resuming looks at it."""
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"hyper_parameters": {"model": network}}, last)
    os.utime(last, (1e9 - age, 1e9 - age))
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    if finished:
        (folder / "metrics.json").write_text("{}")
    return str(last)


def test_the_newest_unfinished_run_of_the_recipe_is_continued(tmp_path):
    here = tmp_path / "new"

    def found():
        return resume.checkpoint_to_resume(OmegaConf.create(RECIPE), here)

    assert found() is None
    earlier_run(tmp_path / "finished", RECIPE, {}, age=0, finished=True)
    earlier_run(tmp_path / "other rate", RECIPE | {"task": {"lr": 2.0}}, {}, age=1)
    earlier_run(tmp_path / "other seed", RECIPE | {"seed": 1}, {}, age=2)
    assert found() is None
    newest = earlier_run(tmp_path / "cut", RECIPE, {}, age=3)
    earlier_run(tmp_path / "cut before", RECIPE, {}, age=4)
    assert found() == newest
    own = earlier_run(here, RECIPE, {}, age=5)
    assert found() == own


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    last = earlier_run(tmp_path / "a", RECIPE, {"depth": 4})
    with pytest.raises(InputError, match=r"holds another network than this run: \{'depth': 4\} instead of"):
        resume.checkpoint_to_resume(OmegaConf.create(RECIPE | {"resume": last}), tmp_path)
    assert resume.checkpoint_to_resume(OmegaConf.create(RECIPE | {"resume": last, "model": {"depth": 4}}), tmp_path)
