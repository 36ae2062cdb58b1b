"""CSV files that appear complete or not at all, and that no spreadsheet executes."""

from __future__ import annotations

import pytest

from hrtem.csv_files import read_rows, write_rows
from hrtem.folders import replace_file


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
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_numbers_stay_numbers_in_a_table_and_texts_are_no_formulas(tmp_path):
    cells = ["-1.5", "-", "=1", "'=1", "''=1", "'a", "+2", "@", "a=1", "-nan"]
    write_rows(tmp_path / "a.csv", ["=x", *"bcdefghij"], [cells, [1, -2.5, *cells[2:]]])
    head, first, second = (tmp_path / "a.csv").read_text().splitlines()
    assert head.startswith("'=x,b")
    assert first.split(",") == ["-1.5", "'-", "'=1", "''=1", "'" * 3 + "=1", "'a", "+2", "'@", "a=1", "-nan"]
    assert second.startswith("1,-2.5,'=1")
    assert list(read_rows(tmp_path / "a.csv")[0].values()) == cells
