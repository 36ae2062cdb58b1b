"""Movies from stacks, from folders and lists of single-frame files, and from folders that a camera still writes to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from hrtem.errors import InputError
from hrtem.micrograph.image import Micrograph
from hrtem.micrograph.recordings import Recording, list_images, open_recordings
from hrtem.micrograph.region import Region
from hrtem.micrograph.stack import Item

#: Time without a change of size and modification time after which a file counts as completely written, s.
SETTLED = 0.3
#: Time after which an unreadable file is refused, s.
PATIENCE = 20.0


class FrameFiles(Sequence[Micrograph]):
    """A movie with one file per frame; frames are read on access, and more files may be added.

    Args:
        files: files of the frames, in order.
        name: name of the movie.
        source: the folder, or the first file.
        sampling: pixel size in Å/px; None uses the calibration of the files.
        region: the part of each frame in which columns are found.
        item: image of files with several, see :func:`hrtem.micrograph.files.open_file`.

    Raises:
        InputError: a file cannot be opened, or differs in size or pixel size from the first.
    """

    is_movie = True

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        source: Path,
        sampling: float | None = None,
        region: Region | None = None,
        item: Item = None,
    ) -> None:
        self.name, self.source, self.given, self.region, self.item = name, source, sampling, region, item
        self.files: list[Path] = []
        self.sampling: float | None = sampling
        #: Shape (Y, X) of a frame, px.
        self.shape: tuple[int, int] = (0, 0)
        for path in files:
            self.add(path)

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files of all frames."""
        return tuple(self.files)

    def add(self, path: Path) -> None:
        """Append a file as the last frame."""
        one = Recording([path], 1, path.stem, self.given, item=self.item)
        if one.is_movie:
            raise InputError(f"{path} must hold one frame of a movie, and holds {len(one)}; give a stack alone.")
        if not self.files:
            self.shape, self.sampling = one.shape, one.sampling
        elif one.shape != self.shape:
            raise InputError(
                f"frames of a movie must have one size, and {path} has {one.shape[1]} x {one.shape[0]} px, the first "
                f"{self.shape[1]} x {self.shape[0]} px."
            )
        elif (one.sampling is None) != (self.sampling is None) or (
            one.sampling is not None and self.sampling is not None and abs(one.sampling / self.sampling - 1.0) > 1e-3
        ):
            raise InputError(
                f"frames of a movie must have one pixel size, and {path} has {one.sampling} Å, the first "
                f"{self.sampling} Å."
            )
        self.files.append(path)

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, number: int) -> Micrograph: ...
    @overload
    def __getitem__(self, number: slice) -> list[Micrograph]: ...
    def __getitem__(self, number: int | slice) -> Micrograph | list[Micrograph]:
        """Read frame ``number`` from its file."""
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        name = f"{self.name}-{number:05d}"
        return Recording([self.files[number]], 1, name, self.given, region=self.region, item=self.item)[0]

    def close(self) -> None:
        """Do nothing: no file is kept open."""


Movie = Recording | FrameFiles


def open_movies(
    images: Any, sampling: float | None = None, region: Region | None = None, item: Item = None
) -> list[Movie]:
    """Open the movies that the user gives as ``images=``.

    Args:
        images: a stack, a folder of single-frame files, or a list of these; a list of single-frame files, or a pattern
            such as ``*.tif`` that they match, is one movie as well.
        sampling: pixel size in Å/px; None uses the calibration of the files.
        region: the part of each frame in which columns are found.
        item: image of files with several, see :func:`hrtem.micrograph.files.open_file`.

    Raises:
        InputError: a file is missing or damaged, frames differ in size, or a movie has a single frame.
    """
    entries = [images] if isinstance(images, str | os.PathLike) else list(images)
    nested = [entry for entry in entries if not isinstance(entry, str | os.PathLike)]
    if nested:
        raise InputError(f"a movie is a stack, a folder or a list of files, and images has the list {list(nested[0])}.")
    made: list[Movie] = []
    single: list[Path] = []
    for entry in map(Path, entries):
        if (
            entry.is_dir()
            and len(parts := open_recordings(entry, 1, sampling, item=item)) > 1
            and not any(p.is_movie for p in parts)
        ):
            files = [part.source for part in parts]
            made.append(FrameFiles(files, entry.resolve().name, entry, sampling, region, item))
            continue
        for recording in open_recordings(entry, 1, sampling, region=region, item=item):
            if recording.is_movie:
                made.append(recording)
            else:
                single.append(recording.source)
    if len(single) > 1:
        made.append(FrameFiles(single, single[0].stem, single[0], sampling, region, item))
    elif single:
        raise InputError(f"task=dynamics needs a movie of two frames at least, and {single[0]} holds one.")
    if not made:
        raise InputError("images must name at least one movie, got [].")
    return made


def await_files(
    folder: Path,
    quiet: float,
    settled: float = SETTLED,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    item: Item = None,
) -> Iterator[Path]:
    """Yield the existing and future files of a folder in the order of their names, each as soon as it is complete.

    A file is complete when its size and modification time have stopped changing and all of its pixels can be read. An
    incomplete file also delays the files after it, so that frames stay in order.

    Args:
        folder: folder that a camera writes to.
        quiet: seconds without a new file after which the iteration ends.
        settled: s, see :data:`SETTLED`.
        patience: s, see :data:`PATIENCE`.
        clock, sleep: functions for reading the time and waiting.
        item: image of files with several, see :func:`hrtem.micrograph.files.open_file`.

    Raises:
        InputError: the folder does not exist, or a file stays unreadable.
    """
    if not folder.is_dir():
        raise InputError(f"images must be a folder to watch, and {folder} {_what(folder)}.")
    done: set[Path] = set()
    seen: dict[Path, tuple[tuple[int, int], float]] = {}
    since = clock()
    while True:
        waiting = [path for path in list_images(folder) if path not in done]
        for path in waiting:
            state = _state(path)
            now = clock()
            if state is None:
                break
            if seen.get(path, (None, 0.0))[0] != state:
                seen[path] = (state, now)
                since = now
            if now - seen[path][1] < settled:
                break
            problem = _unreadable(path, item)
            if problem is not None:
                if now - seen[path][1] > patience:
                    raise problem
                break
            done.add(path)
            since = clock()
            yield path
            since = clock()
        if not waiting and clock() - since > quiet:
            return
        sleep(0.05)


def _what(path: Path) -> str:
    return "is a file" if path.exists() else "does not exist"


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _unreadable(path: Path, item: Item) -> InputError | None:
    """Read all pixels of a single-frame file and return the error; None if the file is readable."""
    try:
        Recording([path], 1, path.stem, item=item)[0]
    except InputError as error:
        return error
    return None
