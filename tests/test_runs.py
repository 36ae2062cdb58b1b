"""Runs: mistakes, folders, provenance."""

from __future__ import annotations

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from hrtem import runs
from hrtem.errors import InputError


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
