"""Simulate, train and test: ``hrtem train sample=mos2 focal=3``, or ``python train.py …`` in a clone."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hrtem import command, commandline, folders, recipes
from hrtem.errors import InputError

#: Recipe that defines the words of the command.
RECIPE = "train"
#: Words whose values are file names.
FILES = ("start", "resume", "data.cache", "sample.structure")

# ${new_folder:PARENT} makes a folder that no other process has. Its name stays in the configuration, which all jobs of
# a sweep share. A launcher resolves it in a process that imports no more of us than this module.
OmegaConf.register_new_resolver(
    "new_folder", lambda parent: str(folders.new_folder(None, parent)), use_cache=True, replace=True
)


def main(words: Sequence[str]) -> None:
    """Run one experiment, or all experiments of a sweep."""
    # A training on several devices starts further processes with the name of this script and the same words.
    sys.argv = [__file__, *words]
    sys.modules["__main__"].__spec__ = None
    start()


def start() -> None:
    """Run the training that the command-line words of this process specify."""
    commandline.prepare()
    if set(sys.argv[1:]) & command.HELP:
        print(command.describe("train"))
        return
    # Commas separate the values of a sweep.
    sweep = {"-m", "--multirun"} & set(sys.argv[1:])
    sys.argv[1:] = commandline.quote_words(recipes.spell(sys.argv[1:]), keys=() if sweep else FILES)
    try:
        hydra.main(config_path=str(recipes.CONF), config_name=RECIPE, version_base="1.3")(job)()
    except OSError as error:
        # Hydra makes the folder before it calls the job; its error about a missing file has no file name.
        if error.filename is None or any(
            frame.f_code is job.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)
        ):
            raise
        place = "hydra.sweep.dir" if sweep else "hydra.run.dir"
        reason = f"{error.filename} cannot: {error.strerror}"
        raise InputError(f"{place} must be a folder that can be made, and {reason}.") from None


def job(config: DictConfig) -> float:
    """Run one experiment and return the monitored metric of its best checkpoint; in a sweep, raise what ends it."""
    commandline.prepare()  # a launcher may have started this job in another process
    hydra_config = HydraConfig.get()
    with commandline.end_in_one_sentence():
        folder = Path(hydra_config.runtime.output_dir)
        with commandline.folder_kept_on_success(folder):
            # Imported here so that --help does not wait for torch.
            from hrtem.training import experiment

        try:
            with folders.told_if_removed(folder):
                return experiment.run(config, folder)
        except Exception as error:
            if hydra_config.mode != RunMode.MULTIRUN:
                raise
            failure = error
    # In a sweep the sweeper collects the failures, and the other jobs are done.
    sentence = commandline.sentence_of(failure)
    raise failure if sentence is None else InputError(sentence) from failure


if __name__ == "__main__":
    with commandline.end_in_one_sentence():
        start()
