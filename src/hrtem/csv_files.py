"""CSV files whose texts a spreadsheet does not execute."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from hrtem import folders

#: Beginnings of a text that a spreadsheet takes for a formula, and of a text that may need an apostrophe in front.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
GUARDED = (*FORMULA, "'")
Cell = TypeVar("Cell")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file that appears only when complete; ``rows`` may be a generator.

    Spreadsheets execute a text that begins with ``=``, ``+``, ``-`` or ``@``, so that such a text gets an apostrophe in
    front; numbers stay as they are. :func:`read_rows` removes the apostrophe.
    """
    with folders.replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([_guarded(cell) for cell in row] for row in chain([header], rows))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of :func:`write_rows` as one dictionary per row, with the texts as they were before writing."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [[_unguarded(cell) for cell in row] for row in csv.reader(file)]
    return [dict(zip(header, row, strict=True)) for row in rows]


def _guarded(cell: Cell) -> Cell | str:
    if not isinstance(cell, str) or not cell.startswith(GUARDED):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}" if cell.lstrip("'").startswith(FORMULA) else cell
    return cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell
