"""The installed command: what its first word may be, and that each command says what it does."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT, told

import hrtem
from hrtem.command import COMMANDS, find
from hrtem.errors import InputError


def test_each_module_of_the_package_is_a_command():
    modules = {path.stem for path in (ROOT / "src" / "hrtem" / "command").glob("*.py")} - {"__init__"}
    assert modules == set(COMMANDS)


def test_without_words_all_commands_are_listed(start):
    for words in ([], ["--help"], ["help"]):
        status, stdout, _ = start("hrtem", *words)
        assert status == 0
        assert all(f"  {name}" in stdout and about in stdout for name, about in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(start, name):
    status, stdout, stderr = start("hrtem", name, "--help")
    assert status == 0, stderr
    assert f"hrtem {name}" in stdout


def test_an_unknown_command_is_refused(start):
    status, _, stderr = start("hrtem", "fnid")
    assert status == 2
    assert told(stderr) == f"error: the first word must be one of {', '.join(COMMANDS)}, got fnid."


def test_it_is_installed_and_says_its_version():
    installed = subprocess.run([f"{sys.prefix}/bin/hrtem", "--version"], capture_output=True, text=True, check=True)
    module = subprocess.run([sys.executable, "-m", "hrtem", "--version"], capture_output=True, text=True, check=True)
    assert installed.stdout == module.stdout == f"hrtem {hrtem.__version__}\n"


def test_a_table_is_scored(start, tmp_path):
    (tmp_path / "found.csv").write_text("x_px,y_px\n10,10\n20,20.5\n")
    (tmp_path / "true.csv").write_text("x_px,y_px\n10,10\n20,20\n30,30\n")
    status, stdout, stderr = start("hrtem", "score", "found.csv", "true.csv", "0.2")
    assert status == 0, stderr
    assert "precision 1.000, recall 0.667" in stdout
    status, _, stderr = start("hrtem", "score", "found.csv")
    assert status == 2
    assert "hrtem score FOUND.csv TRUE.csv SAMPLING" in told(stderr)


def test_words_that_are_no_settings_name_images(monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(find, "run", said.append)
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.npy", "x, y (2).npy", "[1].npy"):
        (tmp_path / name).touch()
    find.main(["a=b.npy", "model=graphene"])
    find.main(["x, y (2).npy", "model=graphene", "[1].npy", "none.npy", "item=BF (1)", "frame=2"])
    assert [words["images"] for words in said] == ["a=b.npy", ["x, y (2).npy", "[1].npy", "none.npy"]]
    assert (said[1]["item"], said[1]["frame"]) == ("BF (1)", 2)
    with pytest.raises(InputError, match="either alone or after images="):
        find.main(["a=b.npy", "images=x", "model=graphene"])
    with pytest.raises(InputError, match="samplin is no word of the recipe; did you mean sampling"):
        find.main(["a=b.npy", "samplin=0.1"])
