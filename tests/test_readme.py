"""What the README says can be done can be done."""

from __future__ import annotations

import re
import shlex

import pytest
from conftest import ROOT, tiny

from hrtem.command import COMMANDS
from hrtem.command.find import FILES
from hrtem.commandline import settings

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
MULTIRUNS = sorted({line for line in LINES if re.match(r"python train.py.* (-m|sweep=)", line)})
TRAININGS = sorted({line for line in LINES if line.startswith("python train.py")} - set(MULTIRUNS))
PREDICTIONS = sorted({line for line in LINES if line.startswith("python predict.py")})
OTHERS = sorted(set(filter(None, LINES)) - set(TRAININGS) - set(MULTIRUNS) - set(PREDICTIONS))


@pytest.mark.parametrize("command", TRAININGS)
def test_every_training_command_trains(start, monkeypatch, tmp_path, command):
    """Shortened by one list of overrides, the README's own words last but for those that say how long."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    left = ("trainer=gpu", "data.epoch_size=", "data.numbers.", "trainer.max_epochs=")
    words = [word for word in shlex.split(command)[2:] if not word.startswith(left)]
    short = [word for word in tiny(*words) if word.split("=")[0] not in {given.split("=")[0] for given in words}]
    status, stdout, stderr = start("train.py", *words, *short)
    assert status == 0, stderr
    assert "Test on simulated images" in stdout
    assert list(tmp_path.glob("runs/*/*/checkpoints/best.ckpt"))


@pytest.mark.parametrize("command", MULTIRUNS)
def test_every_job_of_a_multirun_composes(configuration, command):
    """The first and the last of each list; tests/test_sweeps.py runs a few."""
    words = [word.partition("=") for word in shlex.split(command)[2:] if word != "-m"]
    for end in (0, -1):
        config = configuration(*(f"{key}={values.split(',')[end]}" for key, _, values in words))
        assert config.model.in_channels == 1


@pytest.mark.parametrize("command", PREDICTIONS)
def test_every_prediction_command_composes(command):
    """All words are known to `predict.py`; its own tests run it on files."""
    said = settings(shlex.split(command)[2:], "prediction/find", files=FILES)
    assert said["checkpoint"] or said["model"]
    assert said["images"]


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_exist(command):
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif words[:2] == ["python", "-m"]:
        assert (ROOT / words[2] / "__main__.py").is_file()
    elif words[0] == "hrtem":
        assert words[1] in COMMANDS
    else:
        assert words[0] in {"git", "cd", "wandb", ".venv/bin/python", "."}


def test_files_that_the_text_names_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:conf|src|tests)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path


def test_every_word_of_every_group_is_listed():
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        for recipe in sorted(folder.glob("*.yaml")):
            if folder.name not in {"wave", "target", "data", "task", "peaks", "callbacks"}:
                assert recipe.stem in TEXT, f"README does not mention {folder.name}={recipe.stem}"
