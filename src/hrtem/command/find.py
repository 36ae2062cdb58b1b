"""Find the atoms in images, focal series and movies: ``hrtem find model=graphene images=image.dm3``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hrtem import api, folders, models, provenance, recipes, report
from hrtem.api import Model
from hrtem.commandline import log_to, quote, settings
from hrtem.errors import Failures, InputError
from hrtem.micrograph import Movie, Recording
from hrtem.movies import pipeline
from hrtem.movies.frames import follow
from hrtem.ranges import parse_flag

#: Recipe that defines the words of the command.
RECIPE = "prediction/find"
#: Words whose values are names, mostly of files.
FILES = ("model", "checkpoint", "images", "item", "mask", "output")


def main(words: Sequence[str]) -> None:
    """Find atoms as specified by the words of a command line; a word that is no setting names an image."""
    known = {word.name for word in recipes.described(recipes.CONF / f"{RECIPE}.yaml")}
    images = [word for word in words if _is_image(word, known)]
    words = [word for word in words if word not in images]
    if images and any(word.startswith("images=") for word in words):
        raise InputError(f"images are named either alone or after images=, got {images[0]} beside images=.")
    if images:
        # The names of a list are read and quoted once more, see quote_words.
        named = ",".join(quote(image, literal=len(images) == 1) for image in images)
        words.append(f"images={named}" if len(images) == 1 else f"images=[{named}]")
    run(settings(words, RECIPE, files=FILES))


def _is_image(word: str, known: Container[str]) -> bool:
    key, equals, _ = word.partition("=")
    return key not in known and (not equals or os.path.lexists(word))


def run(words: dict[str, Any]) -> None:
    """Write tables, structures, maps, overlays and a page for each image, focal series or movie into a new folder.

    Args:
        words: settings with the names of ``conf/prediction/find.yaml``.

    Raises:
        InputError: a word or a model cannot be used, or no image can be used, and no file has been written; or, at the
            end, images or frames could not be used, and the results of all others have been written.
    """
    # All images are checked and all models loaded before any file is written; bad images are named and left out.
    for name in ("register", "symmetric", "fit"):
        parse_flag(name, words[name])
    if words["fit"] and words["task"] is not None:
        raise InputError("fit=true is for images and focal series, and task=dynamics follows a movie.")
    chosen = models.choose(words["model"], words["checkpoint"])
    model = api.load(chosen, **{name: words[name] for name in ("device", "symmetric", "precision")})
    if words["fit"]:
        model.check_fit(words["known"])
    given: Sequence[Recording | Movie]
    failures = Failures(words["on_error"])
    if words["task"] is None:
        chosen_by = ("images", "sampling", "defocus", "register", "mask", "crop", "item", "frame")
        given = images = model.open(**{name: words[name] for name in chosen_by}, failures=failures)
    elif words["task"] == "dynamics":
        given = movies = pipeline.look_at_movies(model.predictor, words, failures)
    else:
        raise InputError(f"task must be dynamics or left out, got {words['task']}.")
    if not given and failures.sentences:
        raise InputError(failures.summary())
    sources = [path for recording in given for path in recording.sources if path.is_file()]
    if words["mask"] is not None:
        sources.append(Path(words["mask"]))
    facts = {
        "model_sha256": models.checksum(chosen),
        "images_sha256": {str(path): provenance.sha256(path) for path in sources},
    }
    said = yaml.safe_dump(words | facts, sort_keys=False)
    with folders.results(words["output"], "predictions", said) as (place, final), log_to(place / "run.log") as log:
        provenance.record(None, place, **facts)
        for sentence in failures.sentences:
            log.error("%s", sentence)
        if words["task"] == "dynamics":
            pipeline.predict(model.predictor, words, place, log, movies, failures)
        else:
            find_in_all(model, images, place, words | facts, log, failures)
        log.info("%s go to %s", "Tables, figures and pages" if words["task"] else "Tables, pages and overlays", final)
        for line in failures.table():
            log.info("%s", line)
    failures.conclude(str(final))


def find_in_all(
    model: Model,
    images: Sequence[Recording],
    place: Path,
    settings: Mapping[str, Any],
    log: Logger,
    failures: Failures,
) -> None:
    """Write the results of each image, focal series or movie into a folder of its own.

    Args:
        model: the model.
        images: images, focal series and movies.
        place: folder of the results, which may contain finished parts of an interrupted run.
        settings: settings listed on the pages.
        log: logger of the run.
        failures: collects the images and frames that cannot be used.

    Raises:
        InputError: no image can be used.
    """
    done = 0
    for name, recording in zip(folders.name_results([one.name for one in images]), images, strict=True):
        before = len(failures.sentences)
        with failures.collect(name), folders.part(place, name) as mine:
            if mine is None:
                log.info("%s is there already, from an earlier run that was stopped", name)
            elif recording.is_movie:
                if settings["fit"]:
                    raise InputError(f"fit=true is for images and focal series, and {recording.source} is a movie.")
                frames = list(movie(model, recording, place / f"{name}{folders.FRAMES}", log, failures))
                if not frames:
                    raise InputError(f"{recording.source} has no frame that can be used.")
                number = sum(len(frame.columns) for frame in frames)
                report.write_files(frames, mine, name, settings)
                found = f"{number} columns" if number else "no columns found"
                log.info("%s (%.4f Å/px): %d frames, %s", recording.source, frames[0].sampling, len(frames), found)
            else:
                table = model.find_in(recording[0])
                if settings["fit"] and len(table):
                    with failures.collect(name):  # without a fit, the answer of the network is written
                        table = model.fit(table, settings["known"], partial(log.info, "%s: %s", name))
                for warning in table.warnings:
                    log.warning("%s", warning)
                table.write_into(mine, settings)
                log.info("%s (%.4f Å/px): %s", recording.source, table.sampling, table.summary())
            done += 1
        recording.close()
        shutil.rmtree(place / f"{name}{folders.FRAMES}", ignore_errors=True)
        for sentence in failures.sentences[before:]:
            log.error("%s", sentence)
    if not done:
        raise InputError(failures.summary())


def movie(model: Model, recording: Recording, kept: Path, log: Logger, failures: Failures) -> Iterator[report.Frame]:
    """Find the columns in the frames of a movie; frames that cannot be used are left out.

    Results are stored on disk, so that a restart after a kill does not repeat finished frames. The images are stored
    on disk as well until the overlays are drawn.
    """
    kept.mkdir(exist_ok=True)
    images = folders.reserve_array(kept / "images.npy", np.float32, (len(recording), *recording.shape))
    first = True
    for found in follow(model.predictor, recording, kept, failures=failures):
        if not found.usable:
            continue
        # If the columns of this frame were found in this run, its image is already in memory.
        micrograph = recording[found.number] if found.prediction is None else found.prediction.micrograph
        for doubt in model.doubts(micrograph) if first else ():
            log.warning("%s", doubt)
        first = False
        images[found.number] = micrograph.picture
        yield report.Frame(
            images[found.number], found.columns, found.sampling, in_domain=found.in_domain, number=found.number
        )
