"""Find the atoms: ``python predict.py model=graphene images=image.dm3``. Settings: ``conf/predict.yaml``."""

from __future__ import annotations

import sys

import hydra
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from hrtem import models, report, runs
from hrtem.micrograph import read
from hrtem.report import folder

runs.prepare()


@hydra.main(config_path="conf", config_name="predict", version_base="1.3")
@runs.told_in_one_sentence()
def main(config: DictConfig) -> None:
    """Write tables, structures, maps, overlays and a page for each micrograph into a new folder."""
    paths = list(config.images) if isinstance(config.images, ListConfig) else [config.images]
    # Everything is read and every model loaded before anything is written.
    micrographs = [read(path, sampling=config.sampling) for path in paths]
    model = models.chosen(config.named, config.checkpoint)
    finder = models.load(model, device=config.device, symmetric=config.symmetric)
    for micrograph in micrographs:
        finder.check(micrograph)
    facts = {
        "model_sha256": models.checksum(model),
        "images_sha256": {str(m.source): runs.sha256(m.source) for m in micrographs if m.source.is_file()},
    }
    settings = {**OmegaConf.to_container(config, resolve=True), **facts}
    with folder.results(config.output, "predictions", yaml.safe_dump(settings, sort_keys=False)) as (place, final):
        log = runs.file_log(place / "run.log")
        runs.record(None, place, **facts)
        for name, micrograph in zip(runs.distinct([m.name for m in micrographs]), micrographs, strict=True):
            with folder.part(place, name) as mine:
                if mine is None:
                    log.info("%s is there already, from an earlier run that was stopped", name)
                    continue
                prediction = finder.find(micrograph)
                report.write_files([report.Frame.of(prediction)], mine, name, settings)
            log.info("%s (%.4f Å/px): %s", micrograph.source, micrograph.sampling, prediction.summary())
    log.info("Tables, pages and overlays are in %s", final)


if __name__ == "__main__":
    # Hydra would look for model= among the recipes of networks, conf/model.
    words = [f"named={word.removeprefix('model=')}" if word.startswith("model=") else word for word in sys.argv[1:]]
    sys.argv[1:] = runs.quoted(words, keys=("named", "checkpoint", "images", "output"))
    with runs.told_in_one_sentence():
        main()
