"""Result folders that appear only when complete; an interrupted run can be continued."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from hrtem.errors import InputError, Stopped

#: Suffix of the hidden folder, and the lock file that marks a hidden folder in use.
PARTIAL, LOCK = ".partial", ".lock"

#: Longest name of a result, bytes; file systems allow 255, and the hidden folder has a longer name.
LONGEST = 200

#: Names in a folder of results that are not results themselves, and the suffix of the folder of a movie's frames.
RESERVED, FRAMES = ("settings.yaml", "provenance.json", "run.log", "comparison.png", "comparison.json"), ".frames"

#: Error numbers of file systems that cannot reserve space.
CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)

#: Signals that are turned into an exception, so that the run can clean up.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Provide a hidden file to write, which replaces ``path`` if the block ends without an error.

    No other process or block has the same hidden file.
    """
    Stopped.obey()
    partial = hidden_file(path)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def hidden_file(path: Path) -> Path:
    """Return a hidden name beside ``path`` that nobody else uses, with the suffix of ``path``."""
    return path.with_name(f".{path.stem[:40]}.{uuid4().hex[:12]}{PARTIAL}{path.suffix}")


def reserve_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Create an NPY file whose space on the disk is reserved, and map it into memory for writing.

    Without the reservation the file is sparse, and a full disk kills the process at a later write.

    Raises:
        OSError: the disk has too little space; no file is left.
    """
    pixels: np.ndarray = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        reserve(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return pixels


def reserve(path: Path) -> None:
    """Reserve the space of a sparse file on the disk, where the system and the file system can.

    Raises:
        OSError: the disk has too little space.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in CANNOT_RESERVE:
                raise OSError(error.errno, error.strerror, str(path)) from None


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
        InputError: ``output`` is no name, the folder exists or cannot be made, or another process is making it.
        Stopped: the process received a signal.
    """
    if output is not None and not isinstance(output, str | os.PathLike):
        raise InputError(f"output must be the name of one new folder, got {output}.")
    hidden, target, made, held = _claim(Path(output)) if output else _claim_dated(Path(parent), settings)
    with held:
        try:
            _keep_only_the_same(hidden, settings)
            with _signals_raise(target), told_if_removed(hidden):
                yield hidden, target
                Stopped.obey()
                (hidden / LOCK).unlink(missing_ok=True)
                os.rename(hidden, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and target.exists():
                raise InputError(
                    f"output must be a new folder, and {target} has come into being meanwhile; the results are in "
                    f"{hidden}."
                ) from None
            _tidy(hidden, made)
            raise
        except BaseException:
            _tidy(hidden, made)
            raise


def _claim(target: Path) -> tuple[Path, Path, list[Path], Any]:
    """Make and lock the hidden folder of a result.

    Returns:
        The hidden folder, the target, the parent folders that were made, the innermost last, and the lock.

    Raises:
        InputError: see :func:`results`.
    """
    refusal = f"output must be a new folder, and {target}"
    if os.path.lexists(target):  # False, and no error, for a name that is too long
        raise InputError(f"{refusal} exists.")
    if target.name == "..":
        raise InputError(f"output must end in the name of a new folder, got {target}.")
    if not _is_utf8(target):
        raise InputError(f"output must be a name in UTF-8, which the writers of some files need, got {target}.")
    hidden = target.with_name(f".{target.name}{PARTIAL}")
    made = [place for place in reversed(target.parents) if not place.exists()]
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        return hidden, target, made, FileLock(hidden / LOCK).acquire(blocking=False)
    except Timeout:
        raise InputError(f"{refusal} is just being made by another process.") from None
    except OSError as error:
        _remove(made)
        raise InputError(f"output must be a folder that can be made, and {target} cannot: {error.strerror}.") from None


def _claim_dated(parent: Path, settings: str) -> tuple[Path, Path, list[Path], Any]:
    """Lock the hidden folder of an unfinished run with the same settings, or of a new ``<date>_<time>``."""
    for said in sorted(parent.glob(f".*{PARTIAL}/settings.yaml")):
        lock = FileLock(said.parent / LOCK)
        with suppress(OSError, Timeout):
            held = lock.acquire(blocking=False)
            if said.read_text(encoding="utf-8") == settings:
                return said.parent, parent / said.parent.name[1 : -len(PARTIAL)], [], held
        lock.release()
    made = [place for place in (*reversed(parent.parents), parent) if not place.exists()]
    for target in _dated(parent):
        hidden = target.with_name(f".{target.name}{PARTIAL}")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            hidden.mkdir()
            if not target.exists():
                return hidden, target, made, FileLock(hidden / LOCK).acquire(blocking=False)
            hidden.rmdir()
        except (FileExistsError, Timeout):
            if not parent.is_dir():
                raise InputError(f"results go into the folder {parent}, and it is a file.") from None
        except OSError as error:
            _remove(made)
            raise InputError(f"results go into the folder {parent}, which cannot be used: {error.strerror}.") from None
    raise AssertionError("the names do not end")


@contextmanager
def told_if_removed(folder: Path) -> Iterator[None]:
    """Tell in one sentence that the folder of a run was removed before the run ended.

    Raises:
        InputError: a file could not be written or read, and the folder is gone.
    """
    try:
        yield
    except (OSError, InputError) as error:
        if folder.is_dir():
            raise
        raise InputError(f"{folder} was removed while results were written into it.") from error


@contextmanager
def part(folder: Path, name: str) -> Iterator[Path | None]:
    """Provide a hidden folder, which is renamed to ``folder/name`` at the end of the block; None if that exists."""
    Stopped.obey()
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


def _dated(parent: Path) -> Iterator[Path]:
    """Yield ``parent/<date>_<time>``, and the same with a number for processes that start in the same second."""
    for number in count(1):
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        yield parent / (stamp if number == 1 else f"{stamp}-{number}")


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
        sentence = f"stopped by {name}; {target} was not made, and the same command continues where it stopped."
        Stopped.requests[:] = [Stopped(sentence, number)]
        Stopped.obey()

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield
    finally:
        Stopped.requests.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def new_folder(output: str | None, parent: str) -> Path:
    """Make the folder ``output``, or ``parent/<date>_<time>`` if ``output`` is None.

    Raises:
        InputError: the folder exists or cannot be made.
    """
    for folder in [Path(output)] if output else _dated(Path(parent)):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if output or not folder.parent.is_dir():
                raise InputError(f"output must be a new folder, and {folder} exists.") from None
            continue
        except OSError as error:
            raise InputError(
                f"output must be a folder that can be made, and {folder} cannot: {error.strerror}."
            ) from None
        return folder
    raise AssertionError("the names do not end")


def number_duplicates(names: Sequence[str]) -> list[str]:
    """Give each name a name of its own, by a number at the end of those that occurred before.

    Two names also count as equal if a file system may not tell them apart: by case, or by the form of their accents.
    """
    taken = {_alike(name) for name in names}
    answer: list[str] = []
    given: set[str] = set()
    for name in names:
        free = name
        number = count(2)
        while _alike(free) in given or (free != name and _alike(free) in taken):
            free = f"{name}-{next(number)}"
        given.add(_alike(free))
        answer.append(free)
    return answer


def name_results(names: Sequence[str]) -> list[str]:
    """Turn the names of images into names of their result folders, which differ from each other and from our files.

    The names depend only on the list, so that a run that continues another one finds its parts.
    """
    safe = [_safe(name) for name in names]
    # Our own files come first, and so keep their names.
    return number_duplicates([*RESERVED, *safe])[len(RESERVED) :]


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _safe(name: str) -> str:
    """Replace what cannot be the name of a visible folder, and cut a long name."""
    name = os.fsencode(name).decode("utf-8", "replace")
    name = name.removesuffix(FRAMES) + "_frames" if name.endswith(FRAMES) else name
    name = "_" * (len(name) - len(name.lstrip("."))) + name.lstrip(".")
    return name.encode()[:LONGEST].decode("utf-8", "ignore") or "_"


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
