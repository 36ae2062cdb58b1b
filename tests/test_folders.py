"""Folders of results that appear complete or not at all."""

from __future__ import annotations

import os
import signal

import pytest

from hrtem import folders
from hrtem.errors import InputError, Stopped
from hrtem.folders import new_folder, number_duplicates, part, replace_file, results, write_rows


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


def test_what_exists_is_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_text("data")
    for name, word in (("out", "exists"), ("file", "exists"), ("file/out", "cannot")):
        with pytest.raises(InputError, match=word), results(str(tmp_path / name), "", ""):
            pytest.fail("nothing should be written")
    assert names(tmp_path) == ["file", "out"]


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


def test_distinct_names():
    assert number_duplicates(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


def test_a_table_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.csv"
    write_rows(path, ["x", "y"], [(1, "a,b"), (2, "c")])
    assert path.read_text() == 'x,y\n1,"a,b"\n2,c\n'

    def broken():
        yield (3, "d")
        raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError, match="no more rows"):
        write_rows(path, ["x", "y"], broken())
    assert path.read_text().startswith("x,y\n1,")
    with pytest.raises(OSError, match="full"), replace_file(path):
        raise OSError("full")
    assert names(tmp_path) == ["a.csv"]


def test_numbers_stay_numbers_in_a_table_and_texts_are_no_formulas(tmp_path):
    cells = ["-1.5", "-", "=1", "'=1", "''=1", "'a", "+2", "@", "a=1", "-nan"]
    folders.write_rows(tmp_path / "a.csv", ["=x", *"bcdefghij"], [cells, [1, -2.5, *cells[2:]]])
    head, first, second = (tmp_path / "a.csv").read_text().splitlines()
    assert head.startswith("'=x,b")
    assert first.split(",") == ["-1.5", "'-", "'=1", "''=1", "'" * 3 + "=1", "'a", "+2", "'@", "a=1", "-nan"]
    assert second.startswith("1,-2.5,'=1")
    assert list(folders.read_rows(tmp_path / "a.csv")[0].values()) == cells
