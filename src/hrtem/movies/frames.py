"""Frame-by-frame detection in movies; finished frames are kept on disk, so that a killed run can be resumed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hrtem import folders
from hrtem.calibration.domain import LEAST
from hrtem.columns import Columns
from hrtem.errors import Failures, InputError
from hrtem.inference.prediction import Prediction
from hrtem.inference.predictor import Predictor
from hrtem.micrograph import Micrograph

log = logging.getLogger(__name__)

#: Name of the file with the settings of the detection.
SETTINGS = "settings.json"


class FrameSource(Protocol):
    """A movie whose frames are read on access."""

    @property
    def name(self) -> str:
        """Name of the movie."""

    @property
    def source(self) -> Path:
        """File of the movie."""

    @property
    def sampling(self) -> float | None:
        """Pixel size, Å/px."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (Y, X) of a frame, px."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Micrograph: ...


@dataclass(frozen=True)
class FoundFrame:
    """Columns found in one frame of a movie.

    Attributes:
        number: frame number, from 0.
        columns: see :class:`Prediction`.
        likeness: see :class:`Prediction`.
        sampling: pixel size of the frame as read from the file, Å/px.
        prediction: the whole prediction, or None if an earlier run processed the frame.
        usable: False for a frame that cannot be read or is blank; it has no columns, which means nothing.
    """

    number: int
    columns: Columns
    likeness: float | None
    sampling: float
    prediction: Prediction | None = None
    usable: bool = True

    @property
    def in_domain(self) -> bool | None:
        """Whether the frame is similar to the training images; None if the checkpoint does not describe them."""
        return None if self.likeness is None else self.likeness >= LEAST


def follow(
    predictor: Predictor,
    recording: FrameSource,
    folder: Path,
    console: Console | None = None,
    growing: bool = False,
    failures: Failures | None = None,
) -> Iterator[FoundFrame]:
    """Find the columns of each frame of a movie, in order.

    Each finished frame is written to ``folder`` at once, as ``00012.npz``, complete or not at all. If the function is
    called again later, it reads the existing frames and continues with the first missing frame.

    Args:
        predictor: the model.
        recording: the movie.
        folder: folder of the finished frames; created if it does not exist.
        console: console for the progress bar, which appears only on a terminal; None uses stderr.
        growing: see :func:`claim`.
        failures: see :func:`find_frame`.

    Raises:
        InputError: the folder contains frames of another movie or another model, or the model cannot process the
            frames.
    """
    claim(predictor, recording, folder, growing)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        *Progress.get_default_columns()[1:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        transient=True,
    )
    with bar:
        for number in bar.track(range(len(recording)), total=len(recording), description=recording.name):
            yield find_frame(predictor, recording, number, folder, failures)


def claim(predictor: Predictor, recording: FrameSource, folder: Path, growing: bool = False) -> None:
    """Create the folder for the frames of a movie, or refuse a folder with frames of another movie or model.

    Args:
        predictor: the model.
        recording: the movie.
        folder: folder for the frames.
        growing: whether more frames will arrive, so that the number of frames does not identify the movie.

    Raises:
        InputError: the folder contains frames of another movie or another model.
    """
    settings = _settings(predictor, recording, growing)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings)


def find_frame(
    predictor: Predictor, recording: FrameSource, number: int, folder: Path, failures: Failures | None = None
) -> FoundFrame:
    """Find the columns of one frame and keep them in the folder, or read them from there if they already exist.

    Args:
        predictor: the model.
        recording: the movie.
        number: frame number, from 0.
        folder: folder of the finished frames; a damaged file in it is replaced.
        failures: collects the error of a frame that cannot be used; None raises it.
    """
    path, classes = folder / f"{number:05d}.npz", predictor.network.classes
    frame = _kept(path, number, classes)
    if frame is not None:
        return frame
    with (failures or Failures("stop")).collect(f"{recording.source}, frame {number}"):
        micrograph = recording[number]
        prediction = predictor.find(micrograph)
        assert micrograph.sampling is not None
        frame = FoundFrame(number, prediction.columns, prediction.likeness, micrograph.sampling, prediction)
    if frame is None:
        return FoundFrame(number, Columns([], [], classes), None, recording.sampling or np.nan, usable=False)
    _keep(path, frame)
    return frame


def _settings(predictor: Predictor, recording: FrameSource, growing: bool) -> dict[str, Any]:
    """Settings that determine the detections, as values for JSON."""
    digest = hashlib.sha256()
    for name, value in sorted(predictor.ensemble.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return {
        "movie": str(recording.source.resolve()),
        "frames": "growing" if growing else len(recording),
        "shape": list(recording.shape),
        "sampling": recording.sampling,
        "model": digest.hexdigest(),
        "threshold": predictor.network.find_peaks.threshold,
    }


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings into a new folder, or refuse a folder with other settings."""
    path = folder / SETTINGS
    if path.exists():
        try:
            theirs = json.loads(path.read_text())
        except ValueError:
            theirs = None
        if not isinstance(theirs, dict):
            raise InputError(f"{path} is not what a run of this kind wrote; give another folder.")
        for name, value in settings.items():
            if theirs.get(name) != value:
                raise InputError(
                    f"{folder} holds frames of another run: its {name} is {theirs.get(name)}, not {value}; "
                    "give another folder."
                )
        return
    with folders.replace_file(path) as part:
        part.write_text(json.dumps(settings, indent=2) + "\n")


def _keep(path: Path, frame: FoundFrame) -> None:
    likeness = np.nan if frame.likeness is None else frame.likeness
    values: dict[str, Any] = {**frame.columns.arrays(), "likeness": likeness, "sampling": frame.sampling}
    with folders.replace_file(path) as part, part.open("wb") as file:
        np.savez(file, **values)


def _kept(path: Path, number: int, classes: Sequence[str]) -> FoundFrame | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            values = {name: kept[name] for name in kept.files}
        likeness, sampling = float(values.pop("likeness")), float(values.pop("sampling"))
        columns = Columns(classes=tuple(classes), **values)
    except Exception as error:  # a damaged file causes errors of many kinds
        log.warning("%s is damaged (%s); the columns of frame %d are found again", path, error, number)
        return None
    return FoundFrame(number, columns, None if np.isnan(likeness) else likeness, sampling)
