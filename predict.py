"""Find the atoms: ``python predict.py model=graphene images=image.dm3``. Settings: ``conf/predict.yaml``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from logging import Logger
from pathlib import Path

import hydra
import numpy as np
import yaml
from omegaconf import DictConfig, OmegaConf

from hrtem import histories, models, report, runs
from hrtem.errors import InputError
from hrtem.inference import Finder, follow
from hrtem.micrograph import Micrograph, Recording, lattice_spacings, lattice_warning, recordings
from hrtem.report import folder
from hrtem.structure import analyse

runs.prepare()


@hydra.main(config_path="conf", config_name="predict", version_base="1.3")
@runs.told_in_one_sentence()
def main(config: DictConfig) -> None:
    """Write tables, structures, maps, overlays and a page for each image, focal series or movie into a new folder."""
    words = OmegaConf.to_container(config, resolve=True)
    # Everything is looked at and every model loaded before anything is written.
    model = models.chosen(words["named"], words["checkpoint"])
    finder = models.load(model, **{name: words[name] for name in ("device", "symmetric", "precision")})
    if words["analysis"] is None:
        reading = {name: words[name] for name in ("sampling", "defocus", "register")}
        given = recordings(words["images"], finder.task.optics.num_images, **reading)
        first = [recording[0] for recording in given]
        for micrograph in first:
            finder.check(micrograph)
    elif words["analysis"] == "dynamics":
        given = histories.looked_at(finder, words)
    else:
        raise InputError(f"task must be dynamics or left out, got {words['analysis']}.")
    sources = [path for recording in given for path in recording.sources if path.is_file()]
    facts = {
        "model_sha256": models.checksum(model),
        "images_sha256": {str(path): runs.sha256(path) for path in sources},
    }
    settings = yaml.safe_dump(words | facts, sort_keys=False)
    with (
        folder.results(config.output, "predictions", settings) as (place, final),
        runs.logged(place / "run.log") as log,
    ):
        runs.record(None, place, **facts)
        if words["analysis"] == "dynamics":
            histories.predict(finder, words, place, log, given)
            log.info("Tables, figures and pages go to %s", final)
            return
        names = runs.distinct([recording.name for recording in given])
        for name, recording, micrograph in zip(names, given, first, strict=True):
            with folder.part(place, name) as mine:
                if mine is None:
                    log.info("%s is there already, from an earlier run that was stopped", name)
                    continue
                warn(finder, micrograph, log)
                if recording.is_movie:
                    frames = list(movie(finder, recording, place / f"{name}.frames"))
                    said = f"{len(frames)} frames, {sum(len(frame.columns) for frame in frames)} columns"
                else:
                    prediction = finder.find(micrograph)
                    structure = analyse(prediction.columns, prediction.extent)
                    frames = [report.Frame.of(prediction, structure.fields, structure.marks)]
                    said = f"{prediction.summary()} {structure.summary()}"
                report.write_files(frames, mine, name, words | facts)
            shutil.rmtree(place / f"{name}.frames", ignore_errors=True)
            log.info("%s (%.4f Å/px): %s", recording.source, micrograph.sampling, said)
        log.info("Tables, pages and overlays go to %s", final)


def warn(finder: Finder, micrograph: Micrograph, log: Logger) -> None:
    """Say what is odd about an image: an unregistered series, or a pixel size that does not fit the lattice."""
    spacings = lattice_spacings(finder.task.hparams["sample"], finder.task.hparams["optics"])
    for sentence in (*micrograph.remarks, lattice_warning(micrograph, spacings)):
        if sentence:
            log.warning("%s", sentence)


def movie(finder: Finder, recording: Recording, kept: Path) -> Iterator[report.Frame]:
    """The frames of a movie, each found once and kept, also over a kill; their images wait on disk to be drawn."""
    kept.mkdir(exist_ok=True)
    shape = (len(recording), *recording.shape)
    images = np.lib.format.open_memmap(kept / "images.npy", mode="w+", dtype=np.float32, shape=shape)
    for found in follow(finder, recording, kept):
        # A frame that was just found has been read already.
        micrograph = recording[found.number] if found.prediction is None else found.prediction.micrograph
        images[found.number] = micrograph.images[0]
        yield report.Frame(images[found.number], found.columns, found.sampling, in_domain=found.in_domain)


if __name__ == "__main__":
    # Hydra would look for model= and task= among the recipes of training, conf/model and conf/task.
    renamed = {"model": "named", "task": "analysis"}
    said = [word.partition("=") for word in sys.argv[1:]]
    words = [renamed.get(key, key) + equals + value for key, equals, value in said]
    sys.argv[1:] = runs.quoted(words, keys=("named", "checkpoint", "images", "output"))
    with runs.told_in_one_sentence():
        main()
