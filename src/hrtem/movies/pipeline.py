"""Processing of movies: columns are found frame by frame and kept, then tracked through time and reported."""

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
from hrtem.errors import Failures, InputError
from hrtem.inference import Predictor
from hrtem.micrograph import Micrograph, Movie, Region, open_movies, require_calibration
from hrtem.micrograph.stack import is_frame_number
from hrtem.movies import figures, tables
from hrtem.movies.frames import follow
from hrtem.movies.tracking import Detections, History, analyse_movie, compare_rates
from hrtem.movies.tracking.sites import SURFACE
from hrtem.movies.watching import SURE, watch_folder
from hrtem.ranges import Range
from hrtem.report.page import Movie as Shown
from hrtem.report.page import write_page
from hrtem.report.tables import fields_of

#: Minimum probability of a detection that is kept; a weak detection is also evidence for the occupancy of a site.
FAINT = 0.1
#: Number of frames in the figure of frames, and on the page.
CHOSEN, ON_PAGE = 6, 60


@dataclass(frozen=True)
class Report:
    """Results of a tracked movie.

    Attributes:
        history: history of the movie.
        frames: detections in each frame.
        in_domain: share of the frames that are similar to the training images; None if unknown.
        rate: processing speed, frames/s, without frames from an earlier run; None if all frames are from earlier runs.
    """

    history: History
    frames: Sequence[Detections]
    in_domain: float | None
    rate: float | None


def prepare_predictor(predictor: Predictor) -> Predictor:
    """Prepare a predictor for movies: lower its threshold, so that it also returns improbable columns.

    Raises:
        InputError: the model requires focal series.
    """
    needed = predictor.network.optics.num_images
    if needed != 1:
        raise InputError(
            f"task=dynamics takes models of single images, and this one takes focal series of {needed} images."
        )
    predictor.network.find_peaks.threshold = min(FAINT, predictor.network.find_peaks.threshold)
    return predictor


def follow_movie(
    predictor: Predictor,
    movie: Movie,
    kept: Path,
    frame_time: float,
    live: bool = False,
    log: Logger | None = None,
    failures: Failures | None = None,
) -> Report:
    """Find the columns of each frame and track them through time.

    Frames are read one by one, and only positions and probabilities of their columns stay in memory.

    Args:
        predictor: result of :func:`prepare_predictor`.
        movie: movie of at least two frames.
        kept: folder of the finished frames; a later call continues after the last of them.
        frame_time: s from frame to frame.
        live: whether the movie comes from a watched folder, see :func:`hrtem.movies.watching.watch_folder`.
        log: logger that gets a message after every hundred frames, about each frame that cannot be used, and about what
            is left out of the first usable frame.
        failures: collects the frames that cannot be used, in which no column is visible; None raises the first error.

    Raises:
        InputError: a frame cannot be read and ``failures`` is None, or there are too few columns for tracking.
    """
    if len(movie) < 2:
        raise InputError(f"task=dynamics needs a movie of two frames at least, and {movie.source} holds {len(movie)}.")
    frames, likenesses, doubted, new, start = [], [], False, 0, time.perf_counter()
    for frame in follow(predictor, movie, kept, growing=live, failures=failures):
        frames.append(Detections.of(frame.columns, frame.usable))
        if not frame.usable and log is not None:
            log.warning("%s: frame %d cannot be used and is left out", movie.name, frame.number)
        if frame.usable and log is not None and not doubted:
            doubted, first = True, movie[frame.number] if frame.prediction is None else frame.prediction.micrograph
            for doubt in filter(None, (*first.remarks, first.warning)):
                log.warning("%s", doubt)
        likenesses.append(frame.in_domain)
        new += frame.prediction is not None
        if log is not None and len(frames) % 100 == 0:
            log.info("%s: %d of %d frames", movie.name, len(frames), len(movie))
    seconds = time.perf_counter() - start
    sampling = require_calibration(movie).sampling
    assert sampling is not None
    rows, width = movie.shape
    extent = ((width - 1) * sampling, (rows - 1) * sampling)
    history = analyse_movie(frames, extent, frame_time, lambda number: movie[number].images[0], sampling)
    told = [one for one in likenesses if one is not None]
    return Report(history, frames, float(np.mean(told)) if told else None, new / seconds if new else None)


def write(
    found_in: Report, predictor: Predictor, movie: Movie, folder: Path, settings: Mapping[str, Any], unit: str,
    chosen: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """Write the tables, the figures and the page of a movie into a folder.

    Args:
        found_in: results of the movie.
        predictor: predictor for the network output of the chosen frames.
        movie: movie for the images of these frames.
        folder: an empty folder.
        settings: settings listed on the page.
        unit: unit of time.
        chosen: frames in the figure; None chooses evenly spaced frames, and frames that cannot be used are left out.

    Raises:
        InputError: a chosen frame does not exist.
    """
    history = found_in.history
    number = len(found_in.frames)
    usable = [place for place, found in enumerate(found_in.frames) if found.usable]
    chosen = [place for place in chosen or () if place in usable] or _spaced(usable, CHOSEN)
    tables.write_tables(history, found_in.frames, folder, unit)
    drawn = {place: _frame(predictor, movie[place], history, place) for place in chosen}
    figures.frames_figure(history, drawn, folder / "frames.png", unit)
    first = chosen[0]
    figures.map_figure(history, drawn[first], first, folder / "map.png")
    figures.occupancy_figure(history, folder / "occupancy.png", unit)
    figures.motion_figure(history, folder / "motion.png", unit)
    shown = sorted({*_spaced(usable, ON_PAGE), *chosen})
    frames = [drawn.get(place) or _frame(predictor, movie[place], history, place) for place in shown]
    fields = fields_of(frames)
    surface = (history.occupancy.probability[:, history.occupancy.kinds == SURFACE] >= 0.5).sum(axis=1)
    beside = Shown(number, surface.astype(float), "occupied surface columns")
    write_page(frames, fields, folder / "report.html", movie.name, settings, beside)


def write_comparison(reports: Mapping[str, Report], folder: Path, unit: str) -> list[str]:
    """Compare the rates of several movies with those of the first movie; returns one sentence per comparison."""
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


def predict(
    predictor: Predictor,
    words: Mapping[str, Any],
    place: Path,
    log: Logger,
    given: Sequence[Movie],
    failures: Failures | None = None,
) -> None:
    """Run ``python predict.py task=dynamics`` after the input has been checked.

    Args:
        predictor: result of :func:`prepare_predictor`.
        words: settings from the command line.
        place: folder of the results, which may contain finished parts of an interrupted run.
        log: logger of the run.
        given: the movies; empty if a folder is watched.
        failures: collects the movies and frames that cannot be used; None raises the first error.

    Raises:
        InputError: no movie can be used.
    """
    failures = failures or Failures("stop")
    unit, frame_time = ("frame", 1.0) if words["frame_time"] is None else ("s", float(words["frame_time"]))
    live = words["watch"] is not None
    if live:
        watch = Path(words["images"])
        kept = place / f"{folders.name_results([watch.resolve().name])[0]}{folders.FRAMES}"
        chosen_by = {"sampling": words["sampling"], "region": Region.parse(words["mask"], words["crop"])}
        chosen_by |= {"item": words["item"], "failures": failures}
        given = [watch_folder(predictor, watch, kept, float(words["watch"]), log=log, **chosen_by)]
    chosen = check_frames(words["frames"], given)
    names = name_movies(given)
    reports: dict[str, Report] = {}
    for name, movie in zip(names, given, strict=True):
        kept, before = place / f"{name}{folders.FRAMES}", len(failures.sentences)
        with failures.collect(name):
            one = follow_movie(predictor, movie, kept, frame_time, live, log, failures)
            with folders.part(place, name) as mine:
                if mine is None:
                    log.info("%s is there already, from an earlier run that was stopped", name)
                else:
                    write(one, predictor, movie, mine, words, unit, chosen)
            reports[name] = one
        movie.close()
        if name not in reports:
            for sentence in failures.sentences[before:]:
                log.error("%s", sentence)
            continue
        speed = "" if one.rate is None else f"; {one.rate:.2f} frames/s"
        log.info("%s: %s%s", movie.source, one.history.summary(unit), speed)
        if one.in_domain is not None and one.in_domain < 0.5:
            log.warning("Do not trust this: %.0f %% of its frames are unlike the training.", 100 * (1 - one.in_domain))
    if not reports:
        raise InputError(failures.summary())
    if len(reports) > 1:
        for sentence in write_comparison(reports, place, unit):
            log.info("%s", sentence)
    for name in names:
        shutil.rmtree(place / f"{name}{folders.FRAMES}", ignore_errors=True)


def name_movies(given: Sequence[Movie]) -> list[str]:
    """Unique names for the movies; if several have the same name, the names of their folders are put in front."""
    names = [movie.name for movie in given]
    return folders.name_results(
        [
            name if names.count(name) == 1 else f"{movie.source.resolve().parent.name}-{name}"
            for name, movie in zip(names, given, strict=True)
        ]
    )


def look_at_movies(predictor: Predictor, words: Mapping[str, Any], failures: Failures | None = None) -> list[Movie]:
    """Open the movies of a command line and check all settings before any file is written.

    Args:
        predictor: the model.
        words: settings from the command line.
        failures: collects the movies and frames that cannot be used; None raises the first error.

    Raises:
        InputError: the model requires focal series, a setting is invalid, or ``images`` is not a movie.
    """
    prepare_predictor(predictor)
    if words["frame_time"] is not None:
        Range.parse("frame_time", words["frame_time"], unit="s", minimum=1e-6, maximum=1e6)
    region = Region.parse(words["mask"], words["crop"])
    if words["watch"] is not None:
        Range.parse("watch", words["watch"], unit="s", minimum=0.1, maximum=1e6)
        if not isinstance(words["images"], str) or not Path(words["images"]).is_dir():
            raise InputError(f"images must be one folder to watch, and {words['images']} is no folder.")
        return []
    if words["frame"] is not None:
        raise InputError(f"frame takes one image of a stack, and task=dynamics needs all, got {words['frame']}.")
    failures = failures or Failures("stop")
    given = []
    for movie in open_movies(words["images"], words["sampling"], region, words["item"], failures):
        with failures.collect(movie.name):
            given.append(require_calibration(movie))
    if given:
        check_frames(words["frames"], given)
    return given


def check_frames(chosen: Sequence[int] | None, given: Sequence[Movie]) -> list[int] | None:
    """Check the frames of ``frames=[…]``, which must exist in all movies, and sort them.

    Raises:
        InputError: the value is not a list of frame numbers.
    """
    if chosen is None:
        return None
    shortest = min(map(len, given), default=1)
    numbers = chosen if isinstance(chosen, Sequence) and not isinstance(chosen, str) else ()
    if not numbers or not all(is_frame_number(one, shortest) for one in numbers):
        raise InputError(f"frames must be a list of numbers of frames from 0 to {shortest - 1}, got {chosen}.")
    return sorted(set(chosen))


def _frame(predictor: Predictor, micrograph: Micrograph, history: History, number: int) -> report.Frame:
    """Report frame with network output, columns of high probability, and marks of their states."""
    prediction = predictor.find(micrograph)
    frame = report.Frame.of(prediction, marks=figures.marks(history, number))
    return replace(frame, columns=frame.columns[frame.columns.probabilities >= SURE], number=number)


def _spaced(numbers: Sequence[int], most: int) -> list[int]:
    """At most ``most`` evenly spaced elements of a list."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(most, len(numbers))).astype(int))
    return [numbers[place] for place in places]
