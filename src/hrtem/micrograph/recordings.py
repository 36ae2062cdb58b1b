"""Conversion of the user's files, stacks and folders into single images, focal series and movies."""

from __future__ import annotations

import glob
import os
import re
import reprlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, overload

import numpy as np

from hrtem.errors import Failures, InputError
from hrtem.micrograph import series
from hrtem.micrograph.files import FOLDERS, FORMATS, open_file, read_floats, read_frame
from hrtem.micrograph.image import Acquisition, Micrograph, check_shape
from hrtem.micrograph.region import Region
from hrtem.micrograph.stack import STACK, Item, Stack, is_frame_number
from hrtem.micrograph.units import SQUARE, parse_sampling, pixel_size


class Recording(Sequence[Micrograph]):
    """One image, one focal series or one movie; frames are read on access and not kept in memory.

    Args:
        sources: the file, or one file for each image of a series.
        focal: number of images per frame; 1 for a movie.
        name: name in tables and figures.
        sampling: pixel size in Å/px; None uses the calibration of the file.
        defocus: defocus of each image of a series, Å, positive is underfocus; None uses the values in the file.
        register: whether the images of a series are registered to the middle image.
        region: the part of each image in which columns are found.
        item, frame: image of a file with several, and of a stack, see :func:`hrtem.micrograph.files.open_file`.

    Raises:
        InputError: a file cannot be opened, the number of images differs from ``focal``, or the region does not fit.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        focal: int,
        name: str,
        sampling: float | None = None,
        defocus: Sequence[float] | None = None,
        register: bool = True,
        region: Region | None = None,
        item: Item = None,
        frame: int | None = None,
    ) -> None:
        self.region, self.item, self.frame = region or Region(), item, frame
        self.sources, self.focal, self.register = tuple(sources), focal, register
        self.name = name if frame is None else f"{name}-{frame:05d}"
        self.defocus = defocus
        self._stack: Stack | None = None
        looks = [_look(path, item, frame) for path in self.sources]
        numbers, shapes = [number for number, _, _ in looks], [shape for _, shape, _ in looks]
        if sampling is None:
            sizes = [pixel_size(path, stack.axes) for path, (_, _, stack) in zip(self.sources, looks, strict=True)]
        else:
            sizes = [parse_sampling(sampling)] * len(looks)
        #: Shape (Y, X) of the images.
        self.shape: tuple[int, int] = shapes[0]
        self._check(sum(numbers), shapes, sizes)
        #: Pixel size in Å/px, or None if unknown.
        self.sampling = sizes[0]
        self.region.check(self.source, self.shape)
        self._number = numbers[0] if focal == 1 else 1

    @property
    def source(self) -> Path:
        """The file; for a series in several files, the first."""
        return self.sources[0]

    @property
    def is_movie(self) -> bool:
        """Whether there is more than one frame."""
        return len(self) > 1

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, number: int) -> Micrograph: ...
    @overload
    def __getitem__(self, number: slice) -> list[Micrograph]: ...
    def __getitem__(self, number: int | slice) -> Micrograph | list[Micrograph]:
        """Read frame ``number`` from disk.

        Raises:
            InputError: the pixels are damaged, not finite or constant; the message names the file and the frame.
        """
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        if self.is_movie:
            if self._stack is None:
                self._stack = open_file(self.source, self.item)
            image = read_frame(self.source, self._stack, number)
            name = f"{self.name}-{number:05d}"
            acquisition = self._stack.acquisition
            defocus = acquisition.defocus
            one = None if defocus is None or len(defocus) != len(self) else (defocus[number],)
            facts = replace(acquisition, defocus=one)
            marks = self.region.marks()
            return self.region.cropped(Micrograph(image, self.sampling, name, self.source, number, facts, **marks))
        whole = self._unordered()
        if self.focal == 1:
            return whole
        whole = series.order_series(whole, self.defocus)
        return series.register_series(whole) if self.register else whole

    def close(self) -> None:
        """Close the file of a movie; reading another frame reopens it."""
        if self._stack is not None:
            self._stack.close()
        self._stack = None

    def look(self) -> Micrograph:
        """Read the first frame as its file has it: a focal series is neither ordered nor registered.

        Raises:
            InputError: the pixels are damaged, not finite or constant.
        """
        try:
            return self[0] if self.is_movie else self._unordered()
        finally:
            self.close()

    def _unordered(self) -> Micrograph:
        """Read the image, or all images of a series as their files have them."""
        images, acquisitions = [], []
        for path in self.sources:
            stack = open_file(path, self.item, self.frame)
            try:
                images.append(read_floats(path, stack))
            finally:
                stack.close()
            acquisitions.append(stack.acquisition)
        acquisition = acquisitions[0]
        if len(acquisitions) > 1:
            defoci = [one.defocus for one in acquisitions]
            known = all(defocus is not None and len(defocus) == 1 for defocus in defoci)
            acquisition = Acquisition(
                tuple(defocus[0] for defocus in defoci if defocus) if known else None,
                acquisition.dose,
                acquisition.energy,
            )
        facts = {"acquisition": acquisition, **self.region.marks()}
        series = np.concatenate(images)
        return self.region.cropped(Micrograph(series, self.sampling, self.name, self.source, self.frame, **facts))

    def _check(self, number: int, shapes: Sequence[tuple[int, int]], sizes: Sequence[float | None]) -> None:
        names = self.source if len(self.sources) == 1 else f"the series of {', '.join(map(str, self.sources))}"
        if self.focal > 1 and number != self.focal:
            hint = f"; {STACK}" if number > len(self.sources) else ""
            hint = "; name the files of a series as images=[[first,second,...]]" if number == 1 else hint
            raise InputError(f"this model takes focal series of {self.focal} images, and {names} holds {number}{hint}.")
        if len(set(shapes)) > 1:
            raise InputError(
                f"{names} must have images of one size, and has {', '.join(map(str, dict.fromkeys(shapes)))}."
            )
        known = [size for size in sizes if size is not None]
        if known and (len(known) < len(sizes) or max(known) > SQUARE * min(known)):
            listed = ", ".join("unknown" if size is None else f"{size:.4g} Å" for size in sizes)
            raise InputError(f"{names} must have images of one pixel size, and has {listed}.")


def open_recordings(
    images: Any,
    focal: int,
    sampling: float | None = None,
    defocus: Sequence[float] | None = None,
    register: bool = True,
    region: Region | None = None,
    item: Item = None,
    frame: int | None = None,
    failures: Failures | None = None,
) -> list[Recording]:
    """Open the images that the user gives as ``images=``, without reading pixels.

    Args:
        images: a file, a folder, a pattern such as ``*.dm4``, or a list of these and of lists; an inner list contains
            the files of one focal series. A folder stands for all of its files of known formats in the order of their
            names, with numbers sorted by value, and a pattern for those that match it.
        focal: number of input images of the model. For 1, a stack is a movie. For more, a stack, an inner list, or
            exactly ``focal`` files of one image each are one series.
        sampling, defocus, register, region, item, frame: as for :class:`Recording`.
        failures: collects the files that cannot be opened; None raises the first error.

    Raises:
        InputError: a file or folder is missing, damaged, of another kind or has another number of images, or a folder
            contains no image.
    """
    sampling = None if sampling is None else parse_sampling(sampling)
    if defocus is not None:
        defocus = _defoci(defocus, focal)
    if frame is not None and not is_frame_number(frame):
        raise InputError(f"frame must be the number of an image of a stack, from 0, got {frame}.")
    entries = list_entries(images)
    made: list[Recording] = []
    failures = failures or Failures("stop")

    def add(sources: Sequence[Path], name: str) -> None:
        with failures.collect(name):
            made.append(Recording(sources, focal, name, sampling, defocus, register, region, item, frame))

    def is_series(files: Sequence[Path]) -> bool:
        if focal == 1 or len(files) != focal or any(is_folder(path) or _is_pattern(path) for path in files):
            return False
        for path in files:
            with suppress(InputError):  # a damaged file is refused when the series is opened
                if _look(path, item, frame)[0] != 1:
                    return False
        return True

    files = [Path(entry) for entry in entries if isinstance(entry, str | os.PathLike)]
    if len(files) == len(entries) and is_series(files):
        add(files, _shared(files))
        return made
    for entry in entries:
        with failures.collect(str(entry)):
            if not isinstance(entry, str | os.PathLike):
                if not all(isinstance(one, str | os.PathLike) for one in entry):
                    said = " ".join(reprlib.repr(entry).split())  # an array is long
                    raise InputError(f"images must be names of files or lists of these, got {said} in the list.")
                parts = [part for one in entry for part in _named(one)]
                if focal == 1 or not parts:
                    number = len(parts)
                    raise InputError(f"this model takes single images, and images has a list of {number} in its list.")
                add(parts, _shared(parts))
            elif is_series(parts := _named(entry)):
                add(parts, Path(entry).resolve().name if is_folder(Path(entry)) else _shared(parts))
            else:
                for part in parts:
                    add([part], part.stem)
    return made


def _look(path: Path, item: Item, frame: int | None) -> tuple[int, tuple[int, int], Stack]:
    """Number of images in a file, their shape, and the closed stack with the metadata."""
    stack = open_file(path, item, frame)
    stack.close()
    number, rows, columns = check_shape(str(path), stack.shape, stack.dtype)
    return number, (rows, columns), stack


def _defoci(defocus: Iterable[Any], focal: int) -> tuple[float, ...]:
    """Parse the defocus values of a series, one per image, Å."""
    try:
        values = tuple(float(value) for value in defocus)
    except (TypeError, ValueError):
        values = ()
    if focal == 1 or len(values) != focal or not np.isfinite(values).all():
        wanted = "left out for a model of single images" if focal == 1 else f"a list of {focal} numbers in Å"
        raise InputError(f"defocus must be {wanted}, one for each image of a series, got {defocus}.")
    return values


def list_entries(images: Any) -> list[Any]:
    """Return the files, folders, patterns and inner lists that the user gives as ``images=``.

    Raises:
        InputError: ``images`` is empty, or neither a name nor a list.
    """
    if not isinstance(images, Iterable | os.PathLike):
        raise InputError(f"images must be names of files, got {images}.")
    entries = [images] if isinstance(images, str | os.PathLike) else list(images)
    if not entries or any(isinstance(entry, str) and not entry for entry in entries):
        raise InputError(f"images must name at least one file, got {images or 'nothing'}.")
    return entries


def is_folder(path: Path) -> bool:
    """Tell a folder of images from a file, which some formats write as a folder."""
    return path.is_dir() and path.suffix.lower() not in FOLDERS


def list_images(folder: Path) -> list[Path]:
    """List the files of known formats in a folder, sorted by name and number; EMI files count only without others."""
    return _known(folder.iterdir())


def list_files(path: Path) -> list[Path]:
    """Return the files that a file, a folder or a pattern stands for; no file if it has or matches no image."""
    if is_folder(path):
        return list_images(path)
    return _known(map(Path, glob.glob(str(path), recursive=True))) if _is_pattern(path) else [path]


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _named(entry: str | os.PathLike[str]) -> list[Path]:
    """The same, or an error if there is no image.

    Raises:
        InputError: the folder contains no image, or no image matches the pattern.
    """
    path = Path(entry)
    parts = list_files(path)
    if not parts:
        what = "a folder without images" if is_folder(path) else "a pattern that no image matches"
        raise InputError(f"{path} is {what}; known suffixes are {', '.join(FORMATS)}.")
    return parts


def _known(files: Iterable[Path]) -> list[Path]:
    parts = [part for part in files if part.suffix.lower() in FORMATS and not part.name.startswith(".")]
    parts = [part for part in parts if part.suffix.lower() != ".emi"] or parts
    return sorted(parts, key=_order)


def _order(path: Path) -> list[str | int]:
    """Name of a file for sorting, with its decimal numbers as values."""
    return [int(word) if number % 2 else word for number, word in enumerate(re.split(r"(\d+)", str(path)))]


def _shared(files: Sequence[Path]) -> str:
    """Common beginning of the file names of a series; without one, the name of the first file."""
    stems = [path.stem for path in files]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    return "".join(letters[0] for letters in same).rstrip(" _.-") or stems[0]
