"""Find the atoms in images, focal series and movies: ``hrtem find model=graphene images=image.dm3``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hrtem import api, folders, models, provenance, recipes, report
from hrtem.api import Model
from hrtem.commandline import log_to, settings
from hrtem.errors import InputError
from hrtem.micrograph import Movie, Recording
from hrtem.movies import pipeline
from hrtem.movies.frames import follow

#: The recipe of its words.
RECIPE = "prediction/find"
#: Words of a command line whose values are names of files.
FILES = ("model", "checkpoint", "images", "output")


def main(words: Sequence[str]) -> None:
    """Find what the words of a command line say."""
    if set(words) & {"-h", "--help"}:
        print(__doc__ + "\n" + recipes.help_of(RECIPE))
        return
    run(settings(words, RECIPE, files=FILES))


def run(words: dict[str, Any]) -> None:
    """Write tables, structures, maps, overlays and a page for each image, focal series or movie into a new folder.

    Args:
        words: those of ``conf/prediction/find.yaml``.

    Raises:
        InputError: a word, a model or an image cannot be used; nothing has been written.
    """
    # Everything is looked at and every model loaded before anything is written.
    chosen = models.choose(words["model"], words["checkpoint"])
    model = api.load(chosen, **{name: words[name] for name in ("device", "symmetric", "precision")})
    given: Sequence[Recording | Movie]
    if words["task"] is None:
        given = images = model.open(words["images"], words["sampling"], words["defocus"], words["register"])
    elif words["task"] == "dynamics":
        given = movies = pipeline.look_at_movies(model.predictor, words)
    else:
        raise InputError(f"task must be dynamics or left out, got {words['task']}.")
    sources = [path for recording in given for path in recording.sources if path.is_file()]
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
        for name, recording in zip(folders.number_duplicates([one.name for one in images]), images, strict=True):
            with folders.part(place, name) as mine:
                if mine is None:
                    log.info("%s is there already, from an earlier run that was stopped", name)
                    continue
                if recording.is_movie:
                    for doubt in model.doubts(recording[0]):
                        log.warning("%s", doubt)
                    frames = list(movie(model, recording, place / f"{name}.frames"))
                    found = f"{len(frames)} frames, {sum(len(frame.columns) for frame in frames)} columns"
                else:
                    table = model.find_in(recording[0])
                    for warning in table.warnings:
                        log.warning("%s", warning)
                    frames = [table.report()]
                    found = f"{table.prediction.summary()} {table.structure.summary()}"
                report.write_files(frames, mine, name, words | facts)
            shutil.rmtree(place / f"{name}.frames", ignore_errors=True)
            log.info("%s (%.4f Å/px): %s", recording.source, frames[0].sampling, found)
        log.info("Tables, pages and overlays go to %s", final)


def movie(model: Model, recording: Recording, kept: Path) -> Iterator[report.Frame]:
    """The frames of a movie, each found once and kept, also over a kill; their images wait on disk to be drawn."""
    kept.mkdir(exist_ok=True)
    shape = (len(recording), *recording.shape)
    images = np.lib.format.open_memmap(kept / "images.npy", mode="w+", dtype=np.float32, shape=shape)
    for found in follow(model.predictor, recording, kept):
        # A frame that was just found has been read already.
        micrograph = recording[found.number] if found.prediction is None else found.prediction.micrograph
        images[found.number] = micrograph.images[0]
        yield report.Frame(images[found.number], found.columns, found.sampling, in_domain=found.in_domain)
