"""Mistakes in one sentence, and words as Hydra takes them."""

from __future__ import annotations

import errno
import io
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from rich.console import Console

from hrtem import commandline
from hrtem.errors import Failures, InputError, Stopped
from hrtem.folders import name_results
from hrtem.micrograph.recordings import list_images


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
    for error, kept in ((InputError("no"), False), (KeyboardInterrupt(), False), (RuntimeError("crash"), True)):
        folder = tmp_path / "study" / type(error).__name__
        folder.mkdir(parents=True)
        with pytest.raises(type(error)), commandline.folder_kept_on_success(folder):
            raise error
        assert folder.exists() == kept


def test_the_files_of_the_user_in_a_run_folder_stay(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError), commandline.folder_kept_on_success(tmp_path):
        raise InputError("no")
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


#: Letters of file names, and all that has a meaning for Hydra, OmegaConf, glob, a shell or a terminal.
LETTERS = "ab1\u00b2\u00e9\u6f22 (2)=#~;,'\"\\$${}[]*?!&|<>%@:+^`\t\n.-_\udcff\U0001f600"


def hydra(word):
    """The value that a recipe gets for a word."""
    value = OverridesParser.create().parse_override(word).value()
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]


def test_a_thousand_file_names_arrive_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    names = {"".join(rng.choices(LETTERS, k=rng.randint(1, 12))).strip(" ") + ".npy" for _ in range(1000)}
    for name in names:
        (tmp_path / name).touch()
    some = sorted(names)
    rng.shuffle(some)
    for start in range(0, len(some), 50):
        given = some[start : start + 50]
        (word,) = commandline.quote_words([f"images=[{','.join(given)}]"], keys=("images",))
        assert hydra(word) == given
        (word,) = commandline.quote_words([f"images={given[0]}"], keys=("images",))
        assert hydra(word) == given[0]
        assert commandline.quote_words([word], keys=("images",)) == [word]
    folders = name_results([Path(name).stem for name in some])
    for folder in folders:
        (tmp_path / "out" / folder).mkdir(parents=True)
        assert not folder.startswith(".")
        folder.encode()
    assert len(list_images(tmp_path)) == sum(not name.startswith(".") for name in some)


def test_lists_of_names():
    words = [
        "x=[[a, b],['c, d',e]]",
        "x=[]",
        "x=null",
        "x=[a",
        "x=[a]b",
        "x=a,b",
        "x=${y}",
        "z=${y}",
        "z=[1,2",
        "z=a(b",
    ]
    said = ["[['a','b'],['c, d','e']]", "[]", "null", "'[a'", "'[a]b'", "'a,b'", r"'\${y}'", "${y}", "'[1,2'", "'a(b'"]
    quoted = commandline.quote_words(words, keys=("x",))
    assert [word.partition("=")[2] for word in quoted] == said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_too_little_memory_is_told(error):
    assert commandline.sentence_of(error).startswith("there is too little memory (")


def test_a_stop_while_words_are_read_has_no_traceback(capsys):
    with pytest.raises(SystemExit) as end, commandline.end_in_one_sentence():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped by SIGINT.\n"


def test_a_reader_that_ends_has_no_traceback():
    code = """
from hrtem import commandline
with commandline.end_in_one_sentence(), commandline.log_to(commandline.Path("/dev/null")) as log:
    for number in range(100_000):
        log.info("line %d", number)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "stopped, because the program that read the output has ended.\n"
    assert process.wait() == 141


def test_file_names_are_quoted():
    words = ["images=a b (1),c='x'.tif", "images=[a,b]", "images='done'", "sampling=0.1", "--help"]
    assert commandline.quote_words(words, keys=("images",)) == [
        r"images='a b (1),c=\'x\'.tif'",
        "images=['a','b']",
        "images='done'",
        "sampling=0.1",
        "--help",
    ]


def test_one_image_too_large_for_the_memory_is_told_like_a_whole_job():
    failures = Failures()
    with failures.collect("a.tif"):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    assert failures.sentences == [
        "a.tif: there is too little memory ([enforce fail] DefaultCPUAllocator: can't allocate memory)."
    ]


def test_a_reader_of_the_output_that_ends_is_told_once(capfd):
    """Lines of other packages' logs are lost without a traceback; Rich reports it like print."""

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    commandline.prepare()
    logging.StreamHandler(Closed()).emit(logging.makeLogRecord({"msg": "a line"}))
    with pytest.raises(BrokenPipeError):
        Console(file=Closed()).print("a table")
    assert capfd.readouterr() == ("", "")
