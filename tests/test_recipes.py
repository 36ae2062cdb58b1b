"""Recipes without a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hrtem import recipes
from hrtem.errors import InputError


def test_words_compose_as_on_the_command_line() -> None:
    config = recipes.compose("sample=mos2", "focal=3", "sample.metal=W", "target=gaussian")
    assert config.optics.num_images == 3
    assert config.model.out_channels == len(config.sample.classes) == 5
    assert OmegaConf.to_container(config.sample, resolve=True)["classes"][0] == "W"  # type: ignore[index, call-overload]


def test_recipes_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recipes, "CONF", tmp_path)
    with pytest.raises(InputError, match=r"recipes must lie beside the source, and .*train\.yaml does not exist"):
        recipes.compose()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("smaple=gold", "sample"),
        ("optics.dsoe=300", "optics.dose"),
        ("defocus=30", "optics.defocus"),
        ("focl=3", "focal"),
        ("trainer.max_epoch=3", "trainer.max_epochs"),
    ],
)
def test_a_misspelt_word_is_told_what_it_may_mean(word, meant):
    with pytest.raises(InputError, match=f"{word.partition('=')[0]} is no word of the recipe; did you mean .*{meant}"):
        recipes.compose(word)


def test_what_resembles_nothing_is_refused_without_advice():
    with pytest.raises(InputError, match=r"xyzzy is no word of the recipe\.$"):
        recipes.compose("xyzzy=1")


@pytest.mark.parametrize(
    ("said", "name"), [("Au", "gold"), ("au", "gold"), ("GOLD", "gold"), ("MoS2", "mos2"), ("Graphene", "graphene")]
)
def test_choices_may_be_said_as_the_field_writes_them(said, name):
    assert recipes.compose(f"sample={said}").sample.name == name
    assert recipes.spell(["-m", f"sample={said},mos2", "focal=3"]) == ["-m", f"sample={name},mos2", "focal=3"]


@pytest.mark.parametrize("said", ["null", "5", "true", "{a:1}"])
def test_a_choice_is_a_name(said):
    with pytest.raises(InputError, match=rf"loss must be bce, counted_offsets, .* or softmax, got {said}\.$"):
        recipes.compose(f"loss={said}")


def test_every_word_of_a_recipe_has_its_comment_in_the_help():
    text = recipes.help_of("train")
    assert "optics.dose=[1.0e+3, 1.0e+5]" in text
    assert "e/Å², drawn on a log scale" in text
    assert "sample: file | gold | graphene | graphene_voronoi | mos2 (now graphene)" in text
    assert "sample.contamination.thickness=[3.0, 12.0]" in text
    words = {word.name for word in recipes.described(recipes.CONF / "prediction" / "find.yaml")}
    assert words == set(recipes.keys(recipes.compose("images=a", name="prediction/find")))
    assert all(f"  {word}=" in recipes.help_of("prediction/find") for word in words)
