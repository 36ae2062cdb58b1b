"""Small recipes and folders that several tests share."""

from __future__ import annotations

import copy
import functools
import gc
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from hrtem import command, commandline

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores; threads of each would wait for each other's.
    import torch  # the process that only distributes the tests does without

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent

#: The structure file of the documentation.
CRYSTAL = ROOT / "docs" / "SrTiO3.cif"

#: What a recipe leaves to the user, or to another recipe.
SAID = {
    "sample/file": [f"sample.structure={CRYSTAL}"],
    "peaks/mass": ["target=gaussian"],
    "peaks/height": ["target=gaussian"],
    "peaks/counted_offsets": ["target=count_classes"],
    "loss/counted_offsets": ["target=count_classes"],
}

#: Makes any recipe small enough for a test: 13 Å fields, 64 px images, few steps.
TINY = [
    "sample.extent=25.6",
    "data.numbers={train: 2, val: 1, test: 1}",
    "wave.scheduler=inline",
    "data.patch=64",
    "data.margin=16",
    "data.batch_size=2",
    "data.epoch_size=4",
    "optics.test_doses=[1.0e+3, 1.0e+5]",
    "trainer.max_epochs=1",
]

#: What more a recipe needs to fit into that field.
SMALL = {
    "sample=gold": ["sample.diameter=15"],
    "experiment=madsen2018_graphene": ["sample.extent=24.0"],  # whole pixels of theirs
}


def tiny(*words: str) -> list[str]:
    """:data:`TINY` for the recipes that ``words`` choose."""
    return TINY + [more for word in words for more in SMALL.get(word, [])]


def pytest_collection_finish() -> None:
    """Keep the garbage collector, which recipes set off often, from looking through all imported modules each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    commandline.prepare()


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    """Read each file of the recipes once in a process; Hydra reads them all for each composition, in 0.05 s."""
    load, kept = ConfigRepository.load_config, dict[tuple[str, ...], ConfigResult | None]()

    def load_once(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        key = (*(source.path for source in self.sources), config_path)
        if str(ROOT / "conf") not in key:  # a test that writes recipes of its own
            return load(self, config_path)
        if key not in kept:
            kept[key] = load(self, config_path)
        return copy.deepcopy(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", load_once)
        yield


@functools.cache
def _recipe(name: str, *words: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(name, overrides=list(words), return_hydra_config=True)


def recipe(*words: str, name: str = "train") -> DictConfig:
    """The configuration for the words of a command line, composed once in a process: Hydra takes a quarter second."""
    return copy.deepcopy(_recipe(name, *words))


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wave cache that the tests of one process share."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HRTEM_CACHE"] = str(folder)
    return folder


@pytest.fixture
def configuration(cache_folder: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose a recipe: ``configuration("sample=gold", focal=3)``."""

    def composed(*overrides: str, name: str = "train", **words: Any) -> DictConfig:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import open_dict

        config = recipe(*overrides, *(f"{key}={value}" for key, value in words.items()), name=name)
        with open_dict(config):
            config.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config

    return composed


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, cache_folder: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a script of the repository, or ``hrtem``, in ``tmp_path``: ``start("train.py", "focal=0")``.

    Returns status, stdout and stderr.

    In this process, since a new one spends seconds on imports; one test of each script starts a real process.
    """

    def run(script: str, *words: str) -> tuple[int, str, str]:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script if script == "hrtem" else str(ROOT / script), *words])
        capfd.readouterr()
        try:
            if script == "hrtem":
                command.main()
            else:
                runpy.run_path(str(ROOT / script), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capfd.readouterr())

    return run


def told(stderr: str) -> str:
    """The one line that a mistake prints."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    return lines[0]
