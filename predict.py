"""Find the atoms: ``python predict.py checkpoint=best.ckpt images=image.dm3``. Settings: ``conf/predict.yaml``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig, ListConfig

from hrtem import report, runs
from hrtem.inference import Finder
from hrtem.micrograph import read

runs.prepare()


@hydra.main(config_path="conf", config_name="predict", version_base="1.3")
@runs.told_in_one_sentence()
def main(config: DictConfig) -> None:
    """Write a table and an overlay for each micrograph into a new folder."""
    paths = list(config.images) if isinstance(config.images, ListConfig) else [config.images]
    # Everything is read and every model loaded before anything is written.
    micrographs = [read(path, sampling=config.sampling) for path in paths]
    finder = Finder.load(config.checkpoint, device=config.device, symmetric=config.symmetric)
    for micrograph in micrographs:
        finder.check(micrograph)
    folder = runs.new_folder(config.output, "predictions")
    log = runs.file_log(folder / "run.log")
    runs.record(config, folder, model_sha256=runs.sha256(config.checkpoint))
    for name, micrograph in zip(runs.distinct([m.name for m in micrographs]), micrographs, strict=True):
        prediction = finder.find(micrograph)
        place = folder / name
        place.mkdir()
        table = place / "atoms.csv"
        report.write_table(prediction.columns, micrograph.sampling, table, prediction.in_domain)
        report.overlay(prediction.middle_image, prediction.columns, micrograph.sampling, place / "overlay.png")
        log.info("%s (%.4f Å/px): %s", micrograph.source, micrograph.sampling, prediction.summary())
    log.info("Tables and overlays are in %s", folder)


if __name__ == "__main__":
    sys.argv[1:] = runs.quoted(sys.argv[1:], keys=("checkpoint", "images", "output"))
    with runs.told_in_one_sentence():
        main()
