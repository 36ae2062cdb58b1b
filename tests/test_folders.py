"""Folders of results that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from contextlib import suppress
from datetime import datetime

import numpy as np
import pytest

from hrtem import folders
from hrtem.errors import Failures, InputError, Stopped
from hrtem.folders import (
    name_results,
    new_folder,
    number_duplicates,
    part,
    replace_file,
    reserve_array,
    results,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(place, name, text="done"):
    with part(place, name) as mine:
        if mine is None:
            return False
        (mine / "atoms.csv").write_text(text)
        return True


def test_it_appears_once_all_is_written(tmp_path):
    with results(str(tmp_path / "deep" / "out"), "predictions", "a: 1\n") as (place, final):
        assert write(place, "flake")
        assert not final.exists()
    assert names(final) == ["flake", "settings.yaml"]
    assert (final / "settings.yaml").read_text() == "a: 1\n"
    assert names(final.parent) == ["out"]


def test_without_a_name_it_is_called_by_the_time(tmp_path):
    with results(None, str(tmp_path / "predictions"), "") as (_, final):
        pass
    assert names(tmp_path / "predictions") == [final.name]


def test_a_mistake_before_anything_is_finished_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), results(str(tmp_path / "deep" / "out"), "", "") as (place, _):  # noqa: PT012, SIM117
        with part(place, "flake") as mine:
            (mine / "atoms.csv").write_text("half")
            raise RuntimeError
    assert names(tmp_path) == []


@pytest.mark.parametrize("named", [True, False])
def test_the_same_command_goes_on_with_what_was_finished(tmp_path, named):
    words = (str(tmp_path / "out") if named else None, str(tmp_path))
    with pytest.raises(RuntimeError), results(*words, "a: 1\n") as (place, _):  # noqa: PT012
        assert write(place, "first", "of the killed run")
        with part(place, "second"):
            raise RuntimeError
    assert all(name.startswith(".") for name in names(tmp_path))
    with results(*words, "a: 1\n") as (place, final):
        assert not write(place, "first")
        assert write(place, "second")
    assert names(tmp_path) == [final.name]
    assert names(final) == ["first", "second", "settings.yaml"]
    assert (final / "first" / "atoms.csv").read_text() == "of the killed run"


def test_other_settings_begin_anew(tmp_path):
    with pytest.raises(RuntimeError), results(str(tmp_path / "out"), "", "a: 1\n") as (place, _):  # noqa: PT012
        assert write(place, "first")
        raise RuntimeError
    with results(str(tmp_path / "out"), "", "a: 2\n") as (place, final):
        assert write(place, "first")
    assert names(final) == ["first", "settings.yaml"]


def test_a_signal_is_told_in_one_sentence(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=r"SIGTERM; .*out was not made") as stop:  # noqa: PT012, SIM117
        with results(str(tmp_path / "out"), "", ""):
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the signal was not heard")
    assert stop.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert names(tmp_path) == []


def test_a_signal_within_code_that_survives_every_error_stops_the_run(tmp_path):
    with pytest.raises(Stopped), results(str(tmp_path / "out"), "", ""), Failures().collect("a.tif"):  # noqa: PT012
        with suppress(Exception):  # such as the tracing of a network, or a reader of damaged files
            os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the run goes on")
    assert names(tmp_path) == []


def test_a_request_to_stop_that_compiled_code_drops_is_raised_again(tmp_path):
    for number in range(3):
        with pytest.raises(Stopped), results(str(tmp_path / "out"), "", "") as (place, _):  # noqa: PT012
            with suppress(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            if number == 0:
                write(place, "first")
                pytest.fail("the next image is done")
            if number == 1:
                with replace_file(place / "frame.npz"):
                    pytest.fail("the next frame is done")
        assert names(tmp_path) == []
    with results(str(tmp_path / "out"), "", "") as (place, _):
        assert write(place, "first")


def test_what_exists_is_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_text("data")
    for name, word in (
        ("out", "exists"),
        ("file", "exists"),
        ("file/out", "cannot"),
        ("out/new/..", "end in the name"),
        ("..", "exists"),
        ("none/..", "end in the name"),
        ("x" * 300, "cannot: File name too long"),
    ):
        with pytest.raises(InputError, match=word), results(str(tmp_path / name), "", ""):
            pytest.fail("nothing should be written")
    assert names(tmp_path) == ["file", "out"]


@pytest.mark.parametrize("output", [["a", "b"], 5])
def test_what_is_no_name_is_refused(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the name of one new folder, got"), results(output, "", ""):
        pytest.fail("nothing should be written")
    assert names(tmp_path) == []


def test_what_comes_into_being_meanwhile_is_kept(tmp_path):
    with pytest.raises(InputError, match="meanwhile"), results(str(tmp_path / "out"), "", "") as (place, _):  # noqa: PT012
        write(place, "flake")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("data")
    assert names(tmp_path / "out") == ["precious"]
    assert (tmp_path / ".out.partial" / "flake" / "atoms.csv").exists()


def test_two_processes_do_not_share_a_folder(tmp_path):
    with results(str(tmp_path / "out"), "", ""):  # noqa: SIM117
        with pytest.raises(InputError, match="another process"), results(str(tmp_path / "out"), "", ""):
            pytest.fail("two at once")
    assert names(tmp_path) == ["out"]


def test_new_folder(tmp_path):
    folder = new_folder(str(tmp_path / "a" / "b"), "unused")
    assert folder.is_dir()
    with pytest.raises(InputError, match="exists"):
        new_folder(str(folder), "unused")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output"):
        new_folder(str(tmp_path / "file" / "below"), "unused")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a", "b", "a", "a"], ["a", "b", "a-2", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
        (["a", "a", "a-2", "a-2"], ["a", "a-3", "a-2", "a-2-2"]),
        (["a", "A", "\u00e9", "e\u0301"], ["a", "A-2", "\u00e9", "e\u0301-2"]),
    ],
)
def test_distinct_names(given, names):
    assert number_duplicates(given) == names


def test_names_of_results_are_safe():
    names = ["settings.yaml", "run.log", ".", "..", ".x", "", "film.frames", "film", "b\udcff", "é" * 250]
    made = name_results(names)
    assert made[:8] == ["settings.yaml-2", "run.log-2", "_", "__", "_x", "_-2", "film_frames", "film"]
    assert made[8] == "b\ufffd"
    assert len(made[9].encode()) == 200


def test_a_result_needs_a_name_in_utf_8(tmp_path):
    with pytest.raises(InputError, match="name in UTF-8"), results(str(tmp_path / "a\udcff"), "", ""):
        pytest.fail("nothing should be written")
    assert names(tmp_path) == []


def test_two_results_of_one_second_have_two_names(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "datetime", Frozen)
    with results(None, str(tmp_path), "a: 1\n") as (_, first), results(None, str(tmp_path), "a: 1\n") as (_, second):
        assert new_folder(None, str(tmp_path)).name == "2026-01-02_03-04-05"
    # Nothing that came into being meanwhile is replaced.
    assert (first.name, second.name) == ("2026-01-02_03-04-05", "2026-01-02_03-04-05-2")


class Frozen(datetime):
    @classmethod
    def now(cls):
        return cls(2026, 1, 2, 3, 4, 5)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with replace_file(tmp_path / "a.png") as one, replace_file(tmp_path / "a.png") as other:
        assert one != other
        assert one.suffix == ".png"
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.png").read_text() == "one"


def test_a_mapped_file_has_its_space(tmp_path, monkeypatch):
    pixels = reserve_array(tmp_path / "a.npy", np.float32, (4, 64, 64))
    pixels[:] = 1.0
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= pixels.nbytes

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left") as error:
        reserve_array(tmp_path / "b.npy", np.float32, (4, 64, 64))
    assert error.value.filename == str(tmp_path / "b.npy")
    assert names(tmp_path) == ["a.npy"]


def test_a_folder_that_is_removed_meanwhile_is_told(tmp_path):
    with pytest.raises(InputError, match="was removed while"), results(str(tmp_path / "out"), "", "") as (place, _):  # noqa: PT012
        shutil.rmtree(place)
        write(place, "flake")
