"""Every word of the recipe takes a value of the right kind, or says in one sentence what it takes."""

from __future__ import annotations

import copy
import math

import pytest
from conftest import TINY
from omegaconf import OmegaConf, open_dict

from hrtem.commandline import sentence_of
from hrtem.training import experiment
from hrtem.training.construction import make

#: Values that hardly any word takes.
WRONG = ["abc", math.nan, -1, 2.5, [], None]
#: Words that have another name on the command line.
ALSO = {"num_images": "focal", "mode": "monitor_mode"}
#: Words of all kinds for the fast test.
FEW = [
    "data.batch_size", "data.margin", "data.numbers.train", "data.sampling", "data.workers", "data.optics", "seed",
    "model", "model.network.init_filters", "model.network.blocks_down", "monitor", "monitor_mode", "optics.test_doses",
    "sample.classes", "target.channels", "task.optimizer.lr", "task.optimizer", "task.scheduler.total_steps",
    "task.loss", "trainer.max_epochs", "callbacks.safeguard.minutes", "trainer",
]  # fmt: skip


def small(configuration):
    return configuration("model.network.init_filters=4", *TINY)


def leaves(part, name=""):
    if not isinstance(part, dict):
        return [name]
    return [leaf for key, value in part.items() for leaf in leaves(value, f"{name}.{key}" if name else str(key))]


def answer(config, word, wrong):
    """The sentence about a wrong value, or None if it is taken; no other error."""
    config = copy.deepcopy(config)
    with open_dict(config):
        OmegaConf.update(config, word, wrong, merge=False, force_add=True)
    try:
        experiment.prepare(config)
        make("trainer", config.trainer)
    except Exception as error:
        said = sentence_of(error)
        if said is None:
            raise
        return said
    return None


def check(config, words, values):
    for word in words:
        if word.rpartition(".")[2].startswith("_"):
            continue
        for wrong in values:
            said = answer(config, word, wrong)
            names = word.split(".")[-2:]
            assert said is None or any(name in said for name in [*names, ALSO.get(names[-1], word)]), f"{word}: {said}"
            assert said is None or "\n" not in said


def test_words_of_all_kinds(configuration):
    check(small(configuration), FEW, ["abc"])


@pytest.mark.parametrize(
    ("word", "wrong"),
    [
        ("data.batch_size", 2.5), ("data.batch_size", math.nan), ("seed", -1), ("seed", "x"),
        ("trainer.max_epochs", 0), ("trainer.log_every_n_steps", -1),
        ("data.sampling", math.nan), ("model", None), ("monitor", "val/nonsense"),
        ("task.optimizer.lr", math.nan), ("task.optimizer.lr", ".nan"),
        ("model.network.init_filters", -8), ("data.margin", -8), ("data.patch", 48),
        ("task.optimizer._target_", "torch.optim.Nonsense"), ("task.scheduler._target_", "no.such.thing"),
    ],
)  # fmt: skip
def test_what_no_training_can_use_is_refused(configuration, word, wrong):
    said = answer(small(configuration), word, wrong)
    assert said is not None
    assert str(wrong) in said
    assert word.rpartition(".")[2] in said


@pytest.mark.slow
def test_every_word_of_the_recipe(configuration):
    config = small(configuration)
    check(config, leaves(OmegaConf.to_container(config, resolve=False)), WRONG)
