"""Conversion of the user's files, stacks and folders into single images, focal series and movies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, overload

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph import series
from hrtem.micrograph.files import FOLDERS, FORMATS, open_file, read_floats, read_frame
from hrtem.micrograph.image import Acquisition, Micrograph, check_shape
from hrtem.micrograph.region import Region
from hrtem.micrograph.stack import Stack
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

    Raises:
        InputError: a file cannot be opened, or the number of images differs from ``focal``.
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
    ) -> None:
        self.sources, self.focal, self.name, self.register = tuple(sources), focal, name, register
        self.region = region or Region()
        self.defocus = defocus
        self._stack: Stack | None = None
        looks = [_look(path) for path in self.sources]
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
                self._stack = open_file(self.source)
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
        return self[0] if self.is_movie else self._unordered()

    def _unordered(self) -> Micrograph:
        """Read the image, or all images of a series as their files have them."""
        images, acquisitions = [], []
        for path in self.sources:
            stack = open_file(path)
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
        return self.region.cropped(Micrograph(np.concatenate(images), self.sampling, self.name, self.source, **facts))

    def _check(self, number: int, shapes: Sequence[tuple[int, int]], sizes: Sequence[float | None]) -> None:
        names = self.source if len(self.sources) == 1 else f"the series of {', '.join(map(str, self.sources))}"
        if self.focal > 1 and number != self.focal:
            hint = "" if number > 1 else "; name the files of a series as images=[[first,second,...]]"
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
) -> list[Recording]:
    """Open the images that the user gives as ``images=``, without reading pixels.

    Args:
        images: a file, a folder, or a list of files, folders and lists; an inner list contains the files of one focal
            series. A folder stands for all of its files of known formats in the order of their names, with numbers
            sorted by value.
        focal: number of input images of the model. For 1, a stack is a movie. For more, a stack, an inner list, or
            exactly ``focal`` files of one image each are one series.
        sampling, defocus, register, region: as for :class:`Recording`.

    Raises:
        InputError: a file or folder is missing, damaged, of another kind or has another number of images, or a folder
            contains no image.
    """
    sampling = None if sampling is None else parse_sampling(sampling)
    if defocus is not None:
        defocus = _defoci(defocus, focal)
    entries = [images] if isinstance(images, str | os.PathLike) else list(images)
    if not entries:
        raise InputError("images must name at least one file, got [].")
    made: list[Recording] = []

    def add(sources: Sequence[Path], name: str) -> None:
        made.append(Recording(sources, focal, name, sampling, defocus, register, region))

    files = [Path(entry) for entry in entries if isinstance(entry, str | os.PathLike)]
    if len(files) == len(entries) and _is_series(files, focal):
        add(files, _shared(files))
        return made
    for entry in entries:
        if not isinstance(entry, str | os.PathLike):
            parts = [Path(part) for part in entry]
            if focal == 1 or not parts:
                raise InputError(f"this model takes single images, and images has a list of {len(parts)} in its list.")
            add(parts, _shared(parts))
        elif is_folder(Path(entry)):
            parts = list_images(Path(entry))
            if not parts:
                raise InputError(f"{entry} is a folder without images; known suffixes are {', '.join(FORMATS)}.")
            if _is_series(parts, focal):
                add(parts, Path(entry).resolve().name)
            else:
                for part in parts:
                    add([part], part.stem)
        else:
            add([Path(entry)], Path(entry).stem)
    return made


def _look(path: Path) -> tuple[int, tuple[int, int], Stack]:
    """Number of images in a file, their shape, and the closed stack with the metadata."""
    stack = open_file(path)
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


def is_folder(path: Path) -> bool:
    """Tell a folder of images from a file, which some formats write as a folder."""
    return path.is_dir() and path.suffix.lower() not in FOLDERS


def list_images(folder: Path) -> list[Path]:
    """List the files of known formats in a folder, sorted by name and number; EMI files count only without others."""
    parts = [part for part in folder.iterdir() if part.suffix.lower() in FORMATS and not part.name.startswith(".")]
    parts = [part for part in parts if part.suffix.lower() != ".emi"] or parts
    return sorted(parts, key=lambda part: [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", part.name)])


def _is_series(files: Sequence[Path], focal: int) -> bool:
    """Whether the files are the single images of one series."""
    if focal == 1 or len(files) != focal or any(is_folder(path) for path in files):
        return False
    return all(_look(path)[0] == 1 for path in files)


def _shared(files: Sequence[Path]) -> str:
    """Common beginning of the file names of a series; without one, the name of the first file."""
    stems = [path.stem for path in files]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    return "".join(letters[0] for letters in same).rstrip(" _.-") or stems[0]
