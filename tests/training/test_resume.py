"""Which run a training continues."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from hrtem.errors import InputError
from hrtem.training import resume

TASK = {"sample": {"extent": 50}, "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}}
RECIPE = {
    "study": "graphene-focal1",
    "seed": 0,
    "task": TASK,
    "data": {"batch_size": 8, "workers": 0, "cache": "a", "numbers": {"train": 4}, "sample": {}},
    "wave": {"oversampling": 2, "scheduler": "local"},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "gradient_clip_val": None},
    "resume": "auto",
}
#: Changes of a recipe, and what is said of them; changes of where a training runs decide nothing.
CHANGES = [
    ({"task": {**TASK, "optimizer": {**TASK["optimizer"], "lr": 2.0}}}, "task.optimizer.lr is 1.0 there and 2.0 here"),
    ({"data": {**RECIPE["data"], "batch_size": 4}}, "data.batch_size is 8 there and 4 here"),
    ({"data": {**RECIPE["data"], "numbers": {"train": 5}}}, "data.numbers.train is 4 there and 5 here"),
    ({"wave": {"oversampling": 3, "scheduler": "local"}}, "wave.oversampling is 2 there and 3 here"),
    ({"trainer": {**RECIPE["trainer"], "gradient_clip_val": 1.0}}, "trainer.gradient_clip_val is None there"),
    ({"seed": 1}, "seed is 0 there and 1 here"),
    ({"data": {**RECIPE["data"], "workers": 2, "cache": "b"}}, None),
    ({"wave": {"oversampling": 2, "scheduler": "inline"}}, None),
    ({"trainer": {**RECIPE["trainer"], "accelerator": "gpu"}}, None),
]


def earlier_run(folder, recipe=RECIPE, age=0.0, finished=False, continues=None):
    """What a run leaves, as far as resuming looks at it."""
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"hyper_parameters": recipe["task"], "state_dict": {}}, last)
    os.utime(last, (1e9 - age, 1e9 - age))
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "provenance.json").write_text(json.dumps({} if continues is None else {"continues": continues}))
    if finished:
        (folder / "metrics.json").write_text("{}")
    return str(last)


def found(folder, **changes):
    return resume.checkpoint_to_resume(OmegaConf.create(RECIPE | changes), folder)


def test_the_newest_unfinished_run_of_the_recipe_is_continued(tmp_path):
    here = tmp_path / "new"
    assert found(here) is None
    earlier_run(tmp_path / "finished", age=0, finished=True)
    for number, (change, said) in enumerate(CHANGES):
        if said:
            earlier_run(tmp_path / f"other {number}", RECIPE | change, age=1)
    assert found(here) is None
    damaged = tmp_path / "damaged"
    earlier_run(damaged, age=2)
    (damaged / "config.yaml").write_text("a: [")
    newest = earlier_run(tmp_path / "cut", age=3)
    earlier_run(tmp_path / "cut before", age=4)
    assert found(here) == newest
    own = earlier_run(here, age=5)
    assert found(here) == own


def test_a_run_that_another_has_continued_is_not_continued_again(tmp_path):
    first = earlier_run(tmp_path / "first", age=2)
    earlier_run(tmp_path / "second", finished=True, continues=first)
    assert found(tmp_path / "new") is None


def test_a_finished_or_another_run_in_the_own_folder_is_refused(tmp_path):
    earlier_run(tmp_path / "a", finished=True)
    with pytest.raises(InputError, match="is finished"):
        found(tmp_path / "a")
    earlier_run(tmp_path / "b", RECIPE | {"seed": 3})
    with pytest.raises(InputError, match="seed is 3 there and 0 here"):
        found(tmp_path / "b")


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, change, said):
    last = earlier_run(tmp_path / "a")
    if said is None:
        assert found(tmp_path / "b", resume=last, **change) == last
        return
    with pytest.raises(InputError, match=re.escape(said)):
        found(tmp_path / "b", resume=last, **change)


def test_a_run_may_be_trained_on_for_more_epochs(tmp_path):
    last = earlier_run(tmp_path / "a", finished=True)
    assert found(tmp_path / "b", resume=last, trainer={**RECIPE["trainer"], "max_epochs": 9}) == last


def test_a_checkpoint_alone_has_the_settings_of_its_task(tmp_path):
    last = earlier_run(tmp_path / "a")
    (tmp_path / "a" / "config.yaml").unlink()
    assert found(tmp_path / "b", resume=last, **CHANGES[1][0]) == last
    with pytest.raises(InputError, match=r"optimizer\.lr"):
        found(tmp_path / "b", resume=last, **CHANGES[0][0])
