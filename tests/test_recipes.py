"""Recipes without a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hrtem import recipes
from hrtem.errors import InputError


def test_words_compose_as_on_the_command_line() -> None:
    config = recipes.composed("sample=mos2", "focal=3", "sample.metal=W", "target=gaussian")
    assert config.optics.num_images == 3
    assert config.model.out_channels == len(config.sample.classes) == 5
    assert OmegaConf.to_container(config.sample, resolve=True)["classes"][0] == "W"  # type: ignore[index, call-overload]


def test_recipes_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recipes, "CONF", tmp_path)
    with pytest.raises(InputError, match=r"recipes must lie beside the source, and .*train\.yaml does not exist"):
        recipes.composed()
