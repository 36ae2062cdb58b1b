"""Runs: mistakes, folders, provenance."""

from __future__ import annotations

import errno
import os

import pytest
import torch
import yaml
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from hrtem import runs
from hrtem.errors import InputError, Stopped


def test_a_mistake_deep_in_a_chain_is_found():
    error = InstantiationException("Error in call to target")
    error.__cause__ = InputError("defocus must be a number.")
    assert runs.sentence_of(error) == "defocus must be a number."


def test_our_own_mistakes_keep_their_traceback():
    assert runs.sentence_of(ValueError("a bug")) is None
    with pytest.raises(ValueError, match="a bug"), runs.told_in_one_sentence():
        raise ValueError("a bug")


def test_a_mistake_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as end, runs.told_in_one_sentence():
        raise InputError("focal must be at least 1, got 0.")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: focal must be at least 1, got 0.\n"


def test_a_run_that_was_stopped_ends_with_the_status_of_its_signal(capsys):
    with pytest.raises(SystemExit) as end, runs.told_in_one_sentence():
        raise Stopped("SIGTERM ended the training", 15)
    assert end.value.code == 143
    assert capsys.readouterr().err == "SIGTERM ended the training\n"


def test_a_full_disk_is_told():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")
    assert runs.sentence_of(full) == "nothing more can be written to metrics.csv: No space left on device."
    assert runs.sentence_of(OSError(errno.EIO, "a broken disk")) is None


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


RECIPE = {"study": "graphene-focal1", "seed": 0, "task": {"lr": 1.0}, "model": {"depth": 3}, "resume": "auto"}


def test_the_newest_unfinished_run_of_the_recipe_is_continued(tmp_path):
    here = tmp_path / "new"

    def found():
        return runs.checkpoint_to_resume(OmegaConf.create(RECIPE), here)

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
        runs.checkpoint_to_resume(OmegaConf.create(RECIPE | {"resume": last}), tmp_path)
    assert runs.checkpoint_to_resume(OmegaConf.create(RECIPE | {"resume": last, "model": {"depth": 4}}), tmp_path)


def test_new_folder(tmp_path):
    folder = runs.new_folder(str(tmp_path / "a" / "b"), "unused")
    assert folder.is_dir()
    with pytest.raises(InputError, match="exists"):
        runs.new_folder(str(folder), "unused")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output"):
        runs.new_folder(str(tmp_path / "file" / "below"), "unused")


def test_a_folder_goes_with_a_mistake_but_not_with_a_crash(tmp_path):
    for error, kept in ((InputError("no"), False), (RuntimeError("crash"), True)):
        folder = tmp_path / "study" / type(error).__name__
        folder.mkdir(parents=True)
        with pytest.raises(type(error)), runs.folder_kept_on_success(folder):
            raise error
        assert folder.exists() == kept


def test_distinct_names():
    assert runs.distinct(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


def test_record_resolves_and_tells_where_a_run_came_from(tmp_path):
    config = OmegaConf.create({"a": 1, "b": "${a}"})
    runs.record(config, tmp_path, cache_key="abc")
    assert (tmp_path / "config.yaml").read_text() == "a: 1\nb: 1\n"
    text = (tmp_path / "provenance.json").read_text()
    for word in ("revision", "command", "torch", "cache_key"):
        assert word in text


def test_revision_names_a_commit_or_says_that_it_is_unknown():
    revision = runs.git_revision().rstrip("+")
    assert revision == "unknown" or len(revision) == 40


def test_file_names_are_quoted():
    words = ["images=a b (1),c='x'.tif", "images=[a,b]", "images='done'", "sampling=0.1", "--help"]
    assert runs.quoted(words, keys=("images",)) == [
        r"images='a b (1),c=\'x\'.tif'",
        "images=[a,b]",
        "images='done'",
        "sampling=0.1",
        "--help",
    ]


def test_checksum(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert runs.sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
