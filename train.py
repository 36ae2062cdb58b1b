"""Simulate, train and test: ``python train.py sample=mos2 focal=3``. Settings: ``conf/train.yaml``."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from hrtem import journal, models, report, runs

runs.prepare()


@hydra.main(config_path="conf", config_name="train", version_base="1.3")
def main(config: DictConfig) -> float:
    """Run one experiment and return the monitored metric of its best checkpoint."""
    runs.prepare()  # a launcher may have brought us into another process
    with runs.told_in_one_sentence():
        return experiment(config)


def experiment(config: DictConfig) -> float:
    """Simulate, train, test and report."""
    # Behind hrtem, which says how threads wait.
    import pytorch_lightning as lightning

    folder = Path(HydraConfig.get().runtime.output_dir)
    with runs.folder_kept_on_success(folder):
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        data, task = instantiate(config.data), instantiate(config.task)
        if config.start is not None:
            models.start(task, config.start)
        callbacks = [instantiate(callback) for callback in config.callbacks.values()]
        checkpoint = next(c for c in callbacks if isinstance(c, lightning.callbacks.ModelCheckpoint))
        resume = runs.checkpoint_to_resume(config, folder)
        logger = journal.logger(config, folder, cache_key=data.cache.key)
        trainer = instantiate(config.trainer, callbacks=callbacks, logger=logger)
        runs.check_processes(trainer)
    if trainer.is_global_zero:
        runs.record(config, folder, cache_key=data.cache.key, precision=trainer.precision)

    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    trainer.test(task, data, ckpt_path=checkpoint.best_model_path, verbose=False, weights_only=True)

    if trainer.is_global_zero:
        report.save_scores(task.test_scores, folder / "metrics.json")
        report.save_reliability(task.test_reliability, folder)
        figure = report.examples_figure(task, data, folder / "examples.png")
        journal.log_figure(logger, "examples", figure)
        journal.close(logger)
        report.print_scores(task.test_scores)
        print(f"Run folder: {folder}\nUse the model on your own image (its pixel size in Å):")
        print(f"  python predict.py checkpoint={checkpoint.best_model_path} images=IMAGE sampling=SAMPLING")
    return float(checkpoint.best_model_score)


if __name__ == "__main__":
    with runs.told_in_one_sentence():
        main()
