"""Result folders that appear only when complete; an interrupted run can be continued."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from hrtem.errors import InputError, Stopped

#: Suffix of the hidden folder, and the lock file that marks a hidden folder in use.
PARTIAL, LOCK = ".partial", ".lock"

#: Beginnings of a text that a spreadsheet takes for a formula, and of a text that may need an apostrophe in front.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
GUARDED = (*FORMULA, "'")
Cell = TypeVar("Cell")

#: Signals that are turned into an exception, so that the run can clean up.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Provide a hidden file to write, which replaces ``path`` if the block ends without an error."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file that appears only when complete; ``rows`` may be a generator.

    Spreadsheets execute a text that begins with ``=``, ``+``, ``-`` or ``@``, so that such a text gets an apostrophe in
    front; numbers stay as they are. :func:`read_rows` removes the apostrophe.
    """
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
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


@contextmanager
def results(output: str | None, parent: str, settings: str) -> Iterator[tuple[Path, Path]]:
    """Provide a hidden folder, which is renamed to ``output`` or ``parent/<date>_<time>`` at the end of the block.

    A run that ends early leaves no ``output``. Its finished parts stay in the hidden folder next to it, and a run with
    the same settings continues there; :func:`part` marks the finished parts.

    Args:
        output: the folder to make.
        parent: folder for results without an ``output``.
        settings: text that must be equal for a run to continue another run; it is saved as ``settings.yaml``.

    Yields:
        The hidden folder, and its final path.

    Raises:
        InputError: the folder exists or cannot be made, or another process is making it.
        Stopped: the process received a signal.
    """
    target = Path(output) if output else _unfinished(Path(parent), settings)
    refusal = f"output must be a new folder, and {target}"
    if target.exists() or target.is_symlink():
        raise InputError(f"{refusal} exists.")
    hidden = target.with_name(f".{target.name}{PARTIAL}")
    # Parent folders that are made for this result, the innermost last.
    made = [place for place in reversed(target.parents) if not place.exists()]
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        held = FileLock(hidden / LOCK).acquire(blocking=False)
    except Timeout:
        raise InputError(f"{refusal} is just being made by another process.") from None
    except OSError as error:
        _remove(made)
        raise InputError(f"output must be a folder that can be made, and {target} cannot: {error.strerror}.") from None
    with held:
        try:
            _keep_only_the_same(hidden, settings)
            with _signals_raise(target):
                yield hidden, target
                (hidden / LOCK).unlink(missing_ok=True)
                os.rename(hidden, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and target.exists():
                raise InputError(f"{refusal} has come into being meanwhile; the results are in {hidden}.") from None
            _tidy(hidden, made)
            raise
        except BaseException:
            _tidy(hidden, made)
            raise


@contextmanager
def part(folder: Path, name: str) -> Iterator[Path | None]:
    """Provide a hidden folder, which is renamed to ``folder/name`` at the end of the block; None if that exists."""
    target = folder / name
    if target.exists():
        yield None
        return
    hidden = folder / f".{name}{PARTIAL}"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        yield hidden
        os.rename(hidden, target)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def _unfinished(parent: Path, settings: str) -> Path:
    """Return the unfinished ``<date>_<time>`` folder of a run with the same settings, or a new folder name."""
    for said in sorted(parent.glob(f".*{PARTIAL}/settings.yaml")):
        with suppress(OSError, Timeout), FileLock(said.parent / LOCK).acquire(blocking=False):
            if said.read_text(encoding="utf-8") == settings:
                return parent / said.parent.name[1 : -len(PARTIAL)]
    return parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _tidy(hidden: Path, made: list[Path]) -> None:
    """Remove a hidden folder without finished parts, and the parent folders that were made for it."""
    with suppress(OSError):
        if not any(place.is_dir() and not place.name.startswith(".") for place in hidden.iterdir()):
            shutil.rmtree(hidden)
            _remove(made)


def _keep_only_the_same(hidden: Path, settings: str) -> None:
    """Empty a hidden folder if its settings differ, and save the current settings in it."""
    said = hidden / "settings.yaml"
    if not said.is_file() or said.read_text(encoding="utf-8") != settings:
        for place in hidden.iterdir():
            if place.is_dir():
                shutil.rmtree(place)
            elif place.name != LOCK:
                place.unlink()
        said.write_text(settings, encoding="utf-8")


def _remove(made: list[Path]) -> None:
    """Remove empty folders, the innermost first."""
    for place in reversed(made):
        with suppress(OSError):
            place.rmdir()


@contextmanager
def _signals_raise(target: Path) -> Iterator[None]:
    """Turn stop signals into :class:`hrtem.errors.Stopped`."""

    def heard(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Stopped(
            f"stopped by {name}; {target} was not made, and the same command continues where it stopped.", number
        )

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def new_folder(output: str | None, parent: str) -> Path:
    """Make the folder ``output``, or ``parent/<date>_<time>`` if ``output`` is None.

    Raises:
        InputError: the folder exists or cannot be made.
    """
    folder = Path(output) if output else Path(parent) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"output must be a new folder, and {folder} exists.") from None
    except OSError as error:
        raise InputError(f"output must be a folder that can be made, and {folder} cannot: {error.strerror}.") from None
    return folder


def number_duplicates(names: Sequence[str]) -> list[str]:
    """Append a number to each name that has occurred before."""
    seen: dict[str, int] = {}
    answer = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        answer.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return answer
