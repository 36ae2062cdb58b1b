"""From movies to their histories: frames are found one by one and kept, then followed through time and reported."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from logging import Logger
from pathlib import Path
from typing import Any

import numpy as np

from hrtem import folders, report
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.micrograph import FrameFiles, Micrograph, Movie, await_files, open_movies, require_calibration
from hrtem.movies import figures, tables
from hrtem.movies.frames import claim, find_frame, follow
from hrtem.movies.tracking import Detections, History, analyse_movie, compare_rates
from hrtem.movies.tracking.registration import Reference
from hrtem.movies.tracking.sites import SURFACE
from hrtem.ranges import Range
from hrtem.report.page import Movie as Shown
from hrtem.report.page import write_page
from hrtem.report.tables import fields_of

#: Candidates down to this probability are kept: that a column was almost seen says something of a site.
FAINT = 0.1
#: From this one on they are drawn.
SURE = 0.5
#: Frames in the figure of frames, and on the page.
CHOSEN, ON_PAGE = 6, 60


@dataclass(frozen=True)
class Report:
    """A movie that was followed.

    Attributes:
        history: what happened.
        frames: what was found in each frame.
        in_domain: share of the frames that look like those of the training; None where that is unknown.
        rate: frames per second that were found, those that had been found before left out; None where all had.
    """

    history: History
    frames: Sequence[Detections]
    in_domain: float | None
    rate: float | None


def prepare_predictor(predictor: Predictor) -> Predictor:
    """The predictor, ready for movies: it also tells of columns that are unlikely.

    Raises:
        InputError: the model takes focal series.
    """
    needed = predictor.network.optics.num_images
    if needed != 1:
        raise InputError(
            f"task=dynamics takes models of single images, and this one takes focal series of {needed} images."
        )
    predictor.network.find_peaks.threshold = min(FAINT, predictor.network.find_peaks.threshold)
    return predictor


def follow_movie(
    predictor: Predictor, movie: Movie, kept: Path, frame_time: float, live: bool = False, log: Logger | None = None
) -> Report:
    """Find the columns of each frame and follow them through time.

    Of each frame no more is held than positions and probabilities; frames are read one by one.

    Args:
        predictor: as :func:`prepare_predictor` gives it.
        movie: of two frames at least.
        kept: folder in which each finished frame is kept; the same call later goes on where this one stopped.
        frame_time: s from frame to frame.
        live: the movie is what has come into a watched folder, see :func:`watch_folder`.
        log: where the end of each hundred frames is noted.

    Raises:
        InputError: a frame cannot be read, or columns are too few to be followed.
    """
    if len(movie) < 2:
        raise InputError(f"task=dynamics needs a movie of two frames at least, and {movie.source} holds {len(movie)}.")
    frames, likenesses, new, start = [], [], 0, time.perf_counter()
    for frame in follow(predictor, movie, kept, growing=live):
        frames.append(Detections.of(frame.columns))
        likenesses.append(frame.in_domain)
        new += frame.prediction is not None
        if log is not None and len(frames) % 100 == 0:
            log.info("%s: %d of %d frames", movie.name, len(frames), len(movie))
    seconds = time.perf_counter() - start
    sampling = require_calibration(movie[0]).sampling
    assert sampling is not None
    rows, width = movie.shape
    extent = ((width - 1) * sampling, (rows - 1) * sampling)
    history = analyse_movie(frames, extent, frame_time, lambda number: movie[number].images[0], sampling)
    told = [one for one in likenesses if one is not None]
    return Report(history, frames, float(np.mean(told)) if told else None, new / seconds if new else None)


def watch_folder(
    predictor: Predictor, folder: Path, kept: Path, quiet: float, sampling: float | None, log: Logger, **waiting: Any
) -> FrameFiles:
    """Find the columns of frames as a camera writes them into a folder, until none has come for a while.

    Each frame is registered against those before it as soon as it has been found, and a line says what was found, how
    far the specimen has drifted and how many frames a second are being kept up with.

    Args:
        predictor: as :func:`prepare_predictor` gives it.
        folder: that is watched.
        kept: folder in which finished frames are kept.
        quiet: seconds without a new file after which the movie is over.
        sampling: pixel size in Å/px; None takes that of the files.
        log: what is said of each frame goes there.
        waiting: see :func:`hrtem.micrograph.await_files`.

    Returns:
        The movie of all frames that came.

    Raises:
        InputError: there is no such folder, no frame came, or one cannot be used.
    """
    movie = FrameFiles([], folder.resolve().name, folder, sampling)
    reference = Reference()
    for path in await_files(folder, quiet, **waiting):
        start = time.perf_counter()
        movie.add(path)
        number = len(movie) - 1
        if not number:
            predictor.check(movie[0])
            claim(predictor, movie, kept, growing=True)
        columns = Detections.of(find_frame(predictor, movie, number, kept).columns)
        pose = reference.follow(columns)
        seconds = time.perf_counter() - start
        sure = int((columns.probabilities >= SURE).sum())
        place = f"drift {pose.shift[0]:+.2f} {pose.shift[1]:+.2f} Å" if pose.known else "not registered"
        log.info("%s: frame %d, %d columns, %s, %.2f frames/s", path.name, number, sure, place, 1.0 / seconds)
    if not len(movie):
        raise InputError(f"no frame came into {folder} within {quiet:g} s.")
    return movie


def write(
    found_in: Report, predictor: Predictor, movie: Movie, folder: Path, settings: Mapping[str, Any], unit: str,
    chosen: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """Write the tables, the figures and the page of a movie into a folder.

    Args:
        found_in: what happened in it.
        predictor: for the network's output of the chosen frames.
        movie: for their images.
        folder: an empty one.
        settings: what the page lists.
        unit: of time.
        chosen: frames of the figure; None takes some evenly spaced ones.

    Raises:
        InputError: there is no such frame.
    """
    history = found_in.history
    number = len(found_in.frames)
    if chosen is None:
        chosen = np.unique(np.linspace(0, number - 1, min(CHOSEN, number)).astype(int)).tolist()
    tables.write_tables(history, found_in.frames, folder, unit)
    drawn = {place: _frame(predictor, movie[place], history, place) for place in chosen}
    figures.frames_figure(history, drawn, folder / "frames.png", unit)
    first = chosen[0]
    figures.map_figure(history, drawn[first], first, folder / "map.png")
    figures.occupancy_figure(history, folder / "occupancy.png", unit)
    figures.motion_figure(history, folder / "motion.png", unit)
    spaced = np.linspace(0, number - 1, min(ON_PAGE, number)).astype(int).tolist()
    shown = sorted({*spaced, *chosen})
    frames = [drawn.get(place) or _frame(predictor, movie[place], history, place) for place in shown]
    fields = fields_of(frames)
    fields[0] = replace(fields[0], values=np.array(shown)[fields[0].values.astype(int)])
    surface = (history.occupancy.probability[:, history.occupancy.kinds == SURFACE] >= 0.5).sum(axis=1)
    beside = Shown(shown, number, surface.astype(float), "occupied surface columns")
    write_page(frames, fields, folder / "report.html", movie.name, settings, beside)


def write_comparison(reports: Mapping[str, Report], folder: Path, unit: str) -> list[str]:
    """Compare the rates of several movies with those of the first; returns a sentence for each."""
    names = list(reports)
    histories = {name: one.history for name, one in reports.items()}
    figures.comparison_figure(histories, folder / "comparison.png", unit)
    said, sentences = [], []
    for name in names[1:]:
        for what in ("leave", "arrive"):
            one, other = (getattr(histories[who].rates, what) for who in (names[0], name))
            result = compare_rates(one, other)
            said.append({"first": names[0], "second": name, "event": what, **asdict(result)})
            if what == "leave":
                times = f"{result.ratio:.2f} ({result.low:.2f} to {result.high:.2f}) times as often"
                sentences.append(f"columns of {name} leave {times} as those of {names[0]}, p = {result.p:.2g}")
    (folder / "comparison.json").write_text(json.dumps(said, indent=2) + "\n")
    return sentences


def predict(predictor: Predictor, words: Mapping[str, Any], place: Path, log: Logger, given: Sequence[Movie]) -> None:
    """What ``python predict.py task=dynamics`` does, once all has been looked at.

    Args:
        predictor: as :func:`prepare_predictor` gives it.
        words: of the command line.
        place: folder of the results, in which what a stopped run had finished lies.
        log: of the run.
        given: the movies; empty where a folder is watched.
    """
    unit, frame_time = ("frame", 1.0) if words["frame_time"] is None else ("s", float(words["frame_time"]))
    live = words["watch"] is not None
    if live:
        watch = Path(words["images"])
        kept = place / f"{watch.resolve().name}.frames"
        given = [watch_folder(predictor, watch, kept, float(words["watch"]), words["sampling"], log)]
    chosen = check_frames(words["frames"], given)
    names = name_movies(given)
    reports: dict[str, Report] = {}
    for name, movie in zip(names, given, strict=True):
        kept = place / f"{name}.frames"
        reports[name] = follow_movie(predictor, movie, kept, frame_time, live, log)
        with folders.part(place, name) as mine:
            if mine is None:
                log.info("%s is there already, from an earlier run that was stopped", name)
            else:
                write(reports[name], predictor, movie, mine, words, unit, chosen)
        one = reports[name]
        speed = "" if one.rate is None else f"; {one.rate:.2f} frames/s"
        log.info("%s: %s%s", movie.source, one.history.summary(unit), speed)
        if one.in_domain is not None and one.in_domain < 0.5:
            log.warning("Do not trust this: %.0f %% of its frames are unlike the training.", 100 * (1 - one.in_domain))
    if len(reports) > 1:
        for sentence in write_comparison(reports, place, unit):
            log.info("%s", sentence)
    for name in names:
        shutil.rmtree(place / f"{name}.frames", ignore_errors=True)


def name_movies(given: Sequence[Movie]) -> list[str]:
    """What the movies are called, each differently: where several have one name, their folders stand before it."""
    names = [movie.name for movie in given]
    return folders.number_duplicates(
        [
            name if names.count(name) == 1 else f"{movie.source.resolve().parent.name}-{name}"
            for name, movie in zip(names, given, strict=True)
        ]
    )


def look_at_movies(predictor: Predictor, words: Mapping[str, Any]) -> list[Movie]:
    """The movies that a command line names, and a refusal of what cannot be used, before anything is written.

    Raises:
        InputError: the model takes focal series, a word is of no use, or what ``images`` names is no movie.
    """
    prepare_predictor(predictor)
    if words["frame_time"] is not None:
        Range.parse("frame_time", words["frame_time"], unit="s", minimum=1e-6, maximum=1e6)
    if words["watch"] is not None:
        Range.parse("watch", words["watch"], unit="s", minimum=0.1, maximum=1e6)
        if not isinstance(words["images"], str) or not Path(words["images"]).is_dir():
            raise InputError(f"images must be one folder to watch, and {words['images']} is none.")
        return []
    given = open_movies(words["images"], words["sampling"])
    for movie in given:
        predictor.check(movie[0])
    check_frames(words["frames"], given)
    return given


def check_frames(chosen: Sequence[int] | None, given: Sequence[Movie]) -> list[int] | None:
    """The frames of ``frames=[…]``, which all movies must have.

    Raises:
        InputError: they are no list of numbers of frames.
    """
    if chosen is None:
        return None
    shortest = min(map(len, given), default=1)
    good = not isinstance(chosen, str) and all(isinstance(one, int) and 0 <= one < shortest for one in chosen)
    if not good or not len(chosen):
        raise InputError(f"frames must be a list of numbers of frames from 0 to {shortest - 1}, got {chosen}.")
    return sorted(set(chosen))


def _frame(predictor: Predictor, micrograph: Micrograph, history: History, number: int) -> report.Frame:
    """A frame with the network's output, the columns that are sure, and what they are."""
    prediction = predictor.find(micrograph)
    frame = report.Frame.of(prediction, marks=figures.marks(history, number))
    return replace(frame, columns=frame.columns[frame.columns.probabilities >= SURE])
