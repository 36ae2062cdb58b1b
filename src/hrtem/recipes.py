"""The recipes under ``conf/``, for those who use them without Hydra's command line."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import hrtem
from hrtem.errors import InputError

#: The folder of the recipes, beside the source.
CONF = Path(hrtem.__file__).resolve().parents[2] / "conf"


def register() -> None:
    """Teach OmegaConf the one word that the recipes use beyond its own: ``${len:list}``, ``${len:list,list}``."""
    OmegaConf.register_new_resolver("len", lambda *lists: sum(map(len, lists)), replace=True)


def composed(*words: str, name: str = "train") -> DictConfig:
    """The configuration that a command line of these ``words`` has.

    Raises:
        InputError: the recipes do not lie beside the source.
    """
    if not (CONF / f"{name}.yaml").is_file():
        raise InputError(f"the recipes must lie beside the source, and {CONF / name}.yaml does not exist.")
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(words))
