"""An experiment from its settings to its run folder, as run by ``python train.py``."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as lightning
from omegaconf import DictConfig

from hrtem import provenance
from hrtem.commandline import folder_kept_on_success
from hrtem.errors import InputError
from hrtem.ranges import parse_choice, parse_whole
from hrtem.training import loggers, resume
from hrtem.training.construction import make
from hrtem.training.data import WaveDataModule
from hrtem.training.examples import examples_figure
from hrtem.training.reliability import save_reliability
from hrtem.training.scores import print_scores, save_scores
from hrtem.training.task import Task


def run(config: DictConfig, folder: Path) -> float:
    """Simulate, train, test, and write a run folder.

    Args:
        config: configuration of the experiment, as composed by ``conf/train.yaml``.
        folder: folder of the run.

    Returns:
        The monitored metric of the best checkpoint.

    Raises:
        InputError: a setting is not valid.
    """
    with folder_kept_on_success(folder):
        data, task, callbacks = prepare(config)
        if config.start is not None:
            resume.start_from(task, config.start)
        checkpoint = next(c for c in callbacks if isinstance(c, lightning.callbacks.ModelCheckpoint))
        continued = resume.checkpoint_to_resume(config, folder)
        logger = loggers.logger(config, folder, cache_key=data.cache.key)
        trainer = make("trainer", config.trainer, callbacks=callbacks, logger=logger)
        resume.check_processes(trainer)
    if trainer.is_global_zero:
        earlier = provenance.continued(folder)  # a run that is continued in its own folder keeps its origin
        if continued is not None and not Path(continued).resolve().is_relative_to(folder.resolve()):
            earlier = str(Path(continued).resolve())
        facts = {} if earlier is None else {"continues": earlier}
        provenance.record(config, folder, cache_key=data.cache.key, precision=trainer.precision, **facts)

    trainer.fit(task, data, ckpt_path=continued, weights_only=True)
    trainer.test(task, data, ckpt_path=checkpoint.best_model_path, verbose=False, weights_only=True)

    if trainer.is_global_zero:
        save_scores(task.test_scores, folder / "metrics.json")
        save_reliability(task.test_reliability, folder)
        figure = examples_figure(task, data, folder / "examples.png")
        loggers.log_figure(logger, "examples", figure)
        loggers.close(logger)
        print_scores(task.test_scores)
        print(f"Run folder: {folder}\nUse the model on your own image (its pixel size in Å):")
        print(f"  python predict.py checkpoint={checkpoint.best_model_path} images=IMAGE sampling=SAMPLING")
    best = checkpoint.best_model_score
    assert best is not None
    return float(best)


def prepare(config: DictConfig) -> tuple[WaveDataModule, Task, list[lightning.Callback]]:
    """Make data, task and callbacks of an experiment; a setting that cannot be used is found before anything is done.

    Raises:
        InputError: a setting is not valid.
    """
    for word in ("data", "task", "callbacks", "trainer"):
        if not isinstance(config[word], DictConfig):
            raise InputError(f"{word} must be one of the choices in conf/{word}, got {config[word]}.")
    seed = parse_whole("seed", config.seed, minimum=0, maximum=2**32 - 1)
    lightning.seed_everything(seed, workers=True, verbose=False)
    data, task = make("data", config.data), make("task", config.task)
    task.check_optimizer()
    known = task.quantities()
    for settings in config.callbacks.values():
        if isinstance(settings, DictConfig) and "monitor" in settings:
            parse_choice("monitor", settings.monitor, known)
            parse_choice("monitor_mode", settings.mode, ("min", "max"))
    callbacks = [make(f"callbacks.{name}", settings) for name, settings in config.callbacks.items()]
    if not any(isinstance(callback, lightning.callbacks.ModelCheckpoint) for callback in callbacks):
        raise InputError("callbacks.checkpoint must save checkpoints, got none.")
    return data, task, callbacks
