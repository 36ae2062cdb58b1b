"""Movies from stacks, from folders and lists of single-frame files, and from folders that a camera still writes to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from hrtem.errors import Failures, InputError
from hrtem.micrograph.image import Micrograph
from hrtem.micrograph.recordings import Recording, is_folder, list_entries, list_files, list_images, open_recordings
from hrtem.micrograph.region import Region
from hrtem.micrograph.stack import Item

#: Time without a change of size and modification time after which a file counts as completely written, s.
SETTLED = 0.3
#: Time after which an unreadable file no longer delays the files after it, s.
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
        failures: collects the files that cannot be used; they stay in the movie as frames that cannot be read. None
            raises the first error.

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
        failures: Failures | None = None,
    ) -> None:
        self.name, self.source, self.given, self.region, self.item = name, source, sampling, region, item
        self.failures = failures or Failures("stop")
        self.files: list[Path] = []
        #: Errors of the files that cannot be used, by frame number.
        self.errors: dict[int, InputError] = {}
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
        try:
            self._check(path)
        except InputError as error:
            self.failures.add(str(path), error)
            self.errors[len(self.files)] = error
        self.files.append(path)

    def _check(self, path: Path) -> None:
        """Compare a file with the first usable file of the movie."""
        one = self._open(path, path.stem)
        if one.is_movie:
            raise InputError(f"{path} must hold one frame of a movie, and holds {len(one)}; give a stack alone.")
        if len(self.files) == len(self.errors):
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

    def _open(self, path: Path, name: str) -> Recording:
        return Recording([path], 1, name, self.given, region=self.region, item=self.item)

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
        if number in self.errors:
            raise self.errors[number]
        return self._open(self.files[number], f"{self.name}-{number:05d}")[0]

    def close(self) -> None:
        """Do nothing: no file is kept open."""


Movie = Recording | FrameFiles


def open_movies(
    images: Any,
    sampling: float | None = None,
    region: Region | None = None,
    item: Item = None,
    failures: Failures | None = None,
) -> list[Movie]:
    """Open the movies that the user gives as ``images=``.

    Args:
        images: a stack, a folder of single-frame files, or a list of these; a list of single-frame files, or a pattern
            such as ``*.tif`` that they match, is one movie as well.
        sampling: pixel size in Å/px; None uses the calibration of the files.
        region: the part of each frame in which columns are found.
        item: image of files with several, see :func:`hrtem.micrograph.files.open_file`.
        failures: collects the files that cannot be opened; None raises the first error. Beside single-frame files, such
            a file keeps its place in the movie.

    Raises:
        InputError: a file is missing or damaged, frames differ in size, or a movie has a single frame.
    """
    entries = list_entries(images)
    nested = [entry for entry in entries if not isinstance(entry, str | os.PathLike)]
    if nested:
        raise InputError(f"a movie is a stack, a folder or a list of files, and images has the list {list(nested[0])}.")
    failures = failures or Failures("stop")
    made: list[Movie] = []
    single: list[Path] = []
    files: list[Path] = []  # of single frames, and damaged files that may be frames
    damaged = failures.fresh()

    def add(parts: Sequence[Path], name: str, source: Path) -> None:
        movie = FrameFiles(parts, name, source, sampling, region, item, failures)
        if len(movie) - len(movie.errors) > 1:
            made.append(movie)

    for entry in map(Path, entries):
        parts = open_recordings(entry, 1, sampling, region=region, item=item, failures=damaged)
        movies, alone = [part for part in parts if part.is_movie], [part.source for part in parts if not part.is_movie]
        if is_folder(entry) and len(alone) == len(parts) > 1:
            add(list_images(entry), entry.resolve().name, entry)
            continue
        made += movies
        single += alone
        stacks = [part.source for part in movies]
        files += alone if is_folder(entry) else [path for path in list_files(entry) if path not in stacks]
    if len(single) > 1:
        add(files, files[0].stem, files[0])
    failures.sentences += [sentence for sentence in damaged.sentences if sentence not in failures.sentences]
    if len(single) == 1:
        with failures.collect(str(single[0])):
            raise InputError(f"task=dynamics needs a movie of two frames at least, and {single[0]} holds one.")
    if not made and not failures.sentences:
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
    incomplete file also delays the files after it, so that frames stay in order; a file that stays unreadable for
    ``patience`` is yielded as it is.

    Args:
        folder: folder that a camera writes to.
        quiet: seconds without a new file after which the iteration ends.
        settled: s, see :data:`SETTLED`.
        patience: s, see :data:`PATIENCE`.
        clock, sleep: functions for reading the time and waiting.
        item: image of files with several, see :func:`hrtem.micrograph.files.open_file`.

    Raises:
        InputError: the folder does not exist.
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
            if now - seen[path][1] <= patience and not _is_readable(path, item):
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


def _is_readable(path: Path, item: Item) -> bool:
    """Whether all pixels of a single-frame file can be read."""
    try:
        Recording([path], 1, path.stem, item=item)[0]
    except InputError:
        return False
    return True
