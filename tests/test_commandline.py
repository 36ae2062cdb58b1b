"""Mistakes in one sentence, and words as Hydra takes them."""

from __future__ import annotations

import errno
import os

import pytest
from hydra.errors import InstantiationException

from hrtem import commandline
from hrtem.errors import InputError, Stopped


def test_a_mistake_deep_in_a_chain_is_found():
    error = InstantiationException("Error in call to target")
    error.__cause__ = InputError("defocus must be a number.")
    assert commandline.sentence_of(error) == "defocus must be a number."


def test_our_own_mistakes_keep_their_traceback():
    assert commandline.sentence_of(ValueError("a bug")) is None
    with pytest.raises(ValueError, match="a bug"), commandline.end_in_one_sentence():
        raise ValueError("a bug")


def test_a_mistake_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as end, commandline.end_in_one_sentence():
        raise InputError("focal must be at least 1, got 0.")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: focal must be at least 1, got 0.\n"


def test_a_run_that_was_stopped_ends_with_the_status_of_its_signal(capsys):
    with pytest.raises(SystemExit) as end, commandline.end_in_one_sentence():
        raise Stopped("SIGTERM ended the training", 15)
    assert end.value.code == 143
    assert capsys.readouterr().err == "SIGTERM ended the training\n"


def test_a_full_disk_is_told():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")
    assert commandline.sentence_of(full) == "nothing more can be written to metrics.csv: No space left on device."
    assert commandline.sentence_of(OSError(errno.EIO, "a broken disk")) is None


def test_a_folder_goes_with_a_mistake_but_not_with_a_crash(tmp_path):
    for error, kept in ((InputError("no"), False), (RuntimeError("crash"), True)):
        folder = tmp_path / "study" / type(error).__name__
        folder.mkdir(parents=True)
        with pytest.raises(type(error)), commandline.folder_kept_on_success(folder):
            raise error
        assert folder.exists() == kept


def test_file_names_are_quoted():
    words = ["images=a b (1),c='x'.tif", "images=[a,b]", "images='done'", "sampling=0.1", "--help"]
    assert commandline.quote_words(words, keys=("images",)) == [
        r"images='a b (1),c=\'x\'.tif'",
        "images=[a,b]",
        "images='done'",
        "sampling=0.1",
        "--help",
    ]
