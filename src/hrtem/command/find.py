"""Find the atoms in images, focal series and movies: ``hrtem find model=graphene images=image.dm3``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hrtem import api, folders, models, provenance, recipes, report
from hrtem.api import Model
from hrtem.commandline import log_to, quote, settings
from hrtem.errors import InputError
from hrtem.micrograph import Movie, Recording
from hrtem.movies import pipeline
from hrtem.movies.frames import follow

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
        named = ",".join(map(quote, images))
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
        InputError: a word, a model or an image cannot be used; no file has been written.
    """
    # All images are checked and all models loaded before any file is written.
    chosen = models.choose(words["model"], words["checkpoint"])
    model = api.load(chosen, **{name: words[name] for name in ("device", "symmetric", "precision")})
    given: Sequence[Recording | Movie]
    if words["task"] is None:
        chosen_by = ("images", "sampling", "defocus", "register", "mask", "crop", "item", "frame")
        given = images = model.open(*(words[name] for name in chosen_by))
    elif words["task"] == "dynamics":
        given = movies = pipeline.look_at_movies(model.predictor, words)
    else:
        raise InputError(f"task must be dynamics or left out, got {words['task']}.")
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
        if words["task"] == "dynamics":
            pipeline.predict(model.predictor, words, place, log, movies)
            log.info("Tables, figures and pages go to %s", final)
            return
        for name, recording in zip(folders.name_results([one.name for one in images]), images, strict=True):
            with folders.part(place, name) as mine:
                if mine is None:
                    log.info("%s is there already, from an earlier run that was stopped", name)
                    continue
                if recording.is_movie:
                    for doubt in model.doubts(recording[0]):
                        log.warning("%s", doubt)
                    frames = list(movie(model, recording, place / f"{name}{folders.FRAMES}"))
                    found = f"{len(frames)} frames, {sum(len(frame.columns) for frame in frames)} columns"
                else:
                    table = model.find_in(recording[0])
                    for warning in table.warnings:
                        log.warning("%s", warning)
                    frames = [table.report()]
                    found = f"{table.prediction.summary()} {table.structure.summary()}"
                report.write_files(frames, mine, name, words | facts)
            recording.close()
            shutil.rmtree(place / f"{name}{folders.FRAMES}", ignore_errors=True)
            log.info("%s (%.4f Å/px): %s", recording.source, frames[0].sampling, found)
        log.info("Tables, pages and overlays go to %s", final)


def movie(model: Model, recording: Recording, kept: Path) -> Iterator[report.Frame]:
    """Find the columns in the frames of a movie.

    Results are stored on disk, so that a restart after a kill does not repeat finished frames. The images are stored
    on disk as well until the overlays are drawn.
    """
    kept.mkdir(exist_ok=True)
    images = folders.reserve_array(kept / "images.npy", np.float32, (len(recording), *recording.shape))
    for found in follow(model.predictor, recording, kept):
        # If the columns of this frame were found in this run, its image is already in memory.
        micrograph = recording[found.number] if found.prediction is None else found.prediction.micrograph
        images[found.number] = micrograph.picture
        yield report.Frame(images[found.number], found.columns, found.sampling, in_domain=found.in_domain)
