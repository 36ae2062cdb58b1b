"""Detection of columns in the frames of a folder that a camera still writes to."""

from __future__ import annotations

import time
from logging import Logger
from pathlib import Path
from typing import Any

from hrtem.errors import Failures, InputError
from hrtem.inference import Predictor
from hrtem.micrograph import FrameFiles, Item, Region, await_files, require_calibration
from hrtem.movies.frames import claim, find_frame
from hrtem.movies.tracking import Detections
from hrtem.movies.tracking.registration import Reference

#: Minimum probability of a column that is counted and drawn.
SURE = 0.5


def watch_folder(
    predictor: Predictor,
    folder: Path,
    kept: Path,
    quiet: float,
    sampling: float | None,
    log: Logger,
    region: Region | None = None,
    item: Item = None,
    failures: Failures | None = None,
    **waiting: Any,
) -> FrameFiles:
    """Find the columns of frames while a camera writes them into a folder, until no new frame arrives for some time.

    Each frame is registered to the earlier frames immediately. A log line reports the number of columns, the drift of
    the specimen and the processing speed in frames per second.

    Args:
        predictor: result of :func:`hrtem.movies.pipeline.prepare_predictor`.
        folder: folder to watch.
        kept: folder of the finished frames.
        quiet: seconds without a new file after which the movie ends.
        sampling: pixel size in Å/px; None uses the calibration of the files.
        log: logger for the line about each frame.
        region: the part of each frame in which columns are found.
        item: image of files with several, see :func:`hrtem.micrograph.await_files`.
        failures: collects the frames that cannot be used; None raises the first error.
        waiting: see :func:`hrtem.micrograph.await_files`.

    Returns:
        The movie of all frames that arrived.

    Raises:
        InputError: the folder does not exist, no frame arrived, or a frame is invalid.
    """
    movie = FrameFiles([], folder.resolve().name, folder, sampling, region, item, failures)
    reference, claimed = Reference(), False
    for path in await_files(folder, quiet, item=item, **waiting):
        start = time.perf_counter()
        movie.add(path)
        number = len(movie) - 1
        if not claimed and number not in movie.errors:
            require_calibration(movie)
            claim(predictor, movie, kept, growing=True)
            claimed = True
        frame = find_frame(predictor, movie, number, kept, failures) if claimed else None
        if frame is None or not frame.usable:
            log.warning("%s cannot be used as frame %d", path.name, number)
            continue
        columns = Detections.of(frame.columns)
        pose = reference.follow(columns)
        seconds = time.perf_counter() - start
        sure = int((columns.probabilities >= SURE).sum())
        place = f"drift {pose.shift[0]:+.2f} {pose.shift[1]:+.2f} Å" if pose.known else "not registered"
        log.info("%s: frame %d, %d columns, %s, %.2f frames/s", path.name, number, sure, place, 1.0 / seconds)
    if not len(movie):
        raise InputError(f"no frame came into {folder} within {quiet:g} s.")
    return movie
