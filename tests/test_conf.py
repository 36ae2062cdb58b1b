"""Every recipe composes and makes what it names."""

from __future__ import annotations

import re

import pytest
import yaml
from conftest import ROOT, SAID, tiny
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = ROOT / "conf"
RECIPES = sorted(
    path.relative_to(CONF) for path in CONF.glob("*/*.yaml") if path.parent.name not in ("wandb", "prediction")
)
#: Groups whose files are parts of another: they are made where they are used.
MADE_BY_OTHERS = {"callbacks", "experiment"}


def test_the_groups_are_those_of_the_design():
    groups = {path.parent.name for path in RECIPES}
    assert groups == {
        "sample", "wave", "optics", "noise", "target", "data", "model", "task", "loss", "peaks", "callbacks", "trainer",
        "logger", "experiment", "sweep", "launcher", "dynamics",
    }  # fmt: skip


def test_recipes_are_one_level_deep():
    assert {len(path.relative_to(CONF).parts) for path in CONF.rglob("*.yaml")} == {1, 2}


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_every_recipe_composes_resolves_and_instantiates(configuration, path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    words = [f"{path.parent}={path.stem}", *SAID.get(f"{path.parent}/{path.stem}", [])]
    # The test machine may have no GPU; the recipe must compose all the same.
    short = [word for word in tiny(*words) if not (path.parent.name == "experiment" and word.startswith("trainer"))]
    # Movies are no matter of a training.
    config = configuration(*words, *short, name="movie" if path.parent.name == "dynamics" else "train")
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    group = path.parent.name
    if group == "callbacks":
        assert all(instantiate(callback) is not None for callback in config.callbacks.values())
    elif group == "experiment":
        assert instantiate(config.task).classes == tuple(config.sample.classes)
    elif group == "wave":
        settings = OmegaConf.to_container(config.wave, resolve=True)
        # Where waves are simulated is the data module's matter.
        settings.pop("scheduler")
        assert instantiate(settings) is not None
    elif group not in {"sweep", "launcher"} and str(path) not in {"trainer/gpu.yaml", "trainer/slurm.yaml"}:
        assert instantiate(config[group]) is not None


@pytest.mark.parametrize("sample", sorted(path.stem for path in (CONF / "sample").glob("*.yaml")))
@pytest.mark.parametrize("focal", [1, 3])
def test_facts_are_said_once(configuration, sample, focal):
    config = configuration(f"sample={sample}", focal=focal)
    assert config.optics.num_images == config.model.in_channels == focal
    # A map for each class, and the way to the column along x and y.
    assert config.target.channels == config.model.out_channels == len(config.sample.classes) + 2
    assert config.study == f"{sample}-focal{focal}"
    assert config.wave.energy == config.optics.energy
    assert config.data.sampling == config.task.sampling == config.wave.sampling
    assert config.peaks.radius == config.target.radius
    assert config.task.loss == config.loss
    assert config.callbacks.checkpoint.monitor == config.task.monitor == config.monitor


@pytest.mark.parametrize("target", sorted(path.stem for path in (CONF / "target").glob("*.yaml")))
def test_a_target_brings_its_loss_and_its_peaks(configuration, target):
    """The task refuses those that do not fit; words after the target still choose."""
    config = configuration(f"target={target}", "sample=gold", *tiny("sample=gold"))
    assert config.model.out_channels == config.target.channels
    assert instantiate(config.task).target.channels == config.target.channels
    assert configuration("loss=mse", f"target={target}").loss._target_ == "hrtem.targets.SigmoidMSELoss"


@pytest.mark.parametrize("sample", ["gold", "mos2"])
def test_other_targets_have_the_channels_of_their_classes(configuration, sample):
    classes = len(configuration(f"sample={sample}").sample.classes)
    assert configuration(f"sample={sample}", "target=gaussian").model.out_channels == classes
    assert configuration(f"sample={sample}", "target=gaussian_softmax").model.out_channels == classes + 1
    assert configuration(f"sample={sample}", "target=offsets").model.out_channels == classes + 2


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_recipes_are_plain(path):
    """No evaluation, no resolver but `len`, `now` and OmegaConf's own, no tabs."""
    text = path.read_text()
    yaml.safe_load(text)
    assert "\t" not in text
    assert "eval" not in text
    for resolver in re.findall(r"\$\{([\w.]+):", text):
        assert resolver in {"len", "new_folder", "oc.env", "hydra"}
