"""Logger of a run, and pictures and tables for loggers that accept more than numbers."""

from __future__ import annotations

import netrc
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from skimage.io import imread

from hrtem import provenance
from hrtem.ranges import parse_folder, parse_whole
from hrtem.training.data import WaveDataModule
from hrtem.training.examples import examples_figure
from hrtem.training.task import Task


def logger(config: DictConfig, folder: Path, **facts: Any) -> Any:
    """Create the Lightning logger of the configuration.

    Weights & Biases runs offline if there is no login and ``WANDB_MODE`` is not set; such a run is uploaded later with
    ``wandb sync``. It receives the resolved configuration, the revision of the code and ``facts``. A ``metrics.csv`` of
    an earlier part of the run in ``folder`` is renamed.
    """
    table = folder / "metrics.csv"
    if table.is_file():
        rank_zero_only(table.rename)(folder / f"metrics-{len(list(folder.glob('metrics*.csv')))}.csv")
    if not config.logger._target_.endswith("WandbLogger"):
        return instantiate(config.logger)
    offline = "WANDB_MODE" not in os.environ and not _wandb_login()
    # Hydra's instantiate reserves the argument name config.
    make = instantiate(config.logger, _partial_=True, _convert_="all", offline=offline)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return make(config={**settings, "provenance": provenance.provenance() | facts})


def _wandb_login() -> bool:
    """Whether there is a key of `wandb login` in the environment, in W&B's settings or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import wandb

    settings = wandb.setup().settings
    # W&B reads its environment only once; without this, a later change of WANDB_MODE would be ignored.
    wandb.teardown()
    try:
        keys = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, netrc.NetrcParseError):
        return bool(settings.api_key)
    return bool(settings.api_key or keys.authenticators(urlparse(settings.base_url).hostname or ""))


def takes_pictures(logger: Any) -> bool:
    """Whether a logger accepts pictures and text besides numbers."""
    return type(logger).__name__ in ("WandbLogger", "TensorBoardLogger")


def log_figure(logger: Any, name: str, path: Path, step: int | None = None) -> None:
    """Send a picture to a logger, if it accepts pictures."""
    if hasattr(logger, "log_image"):
        logger.log_image(key=name, images=[str(path)])
    elif takes_pictures(logger):
        logger.experiment.add_image(name, imread(path), step, dataformats="HWC")


def log_table(logger: Any, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Send a table to a logger, if it accepts tables or text."""
    if hasattr(logger, "log_table"):
        logger.log_table(key=name, columns=list(header), data=[list(row) for row in rows])
    elif takes_pictures(logger):
        words = [[f"{word:.4g}" if isinstance(word, float) else str(word) for word in row] for row in rows]
        text = "\n".join(" | ".join(row) for row in [header, ["---"] * len(header), *words])
        logger.experiment.add_text(name, text)


def close(logger: Any) -> None:
    """Wait until a logger has written everything; W&B and TensorBoard write in the background."""
    if type(logger).__name__ == "WandbLogger":
        logger.experiment.finish()
    elif takes_pictures(logger):
        logger.experiment.close()


class Journal(Callback):
    """Pictures of the validations and tables of the test, sent to W&B or TensorBoard by the first process.

    Args:
        folder: folder of the run; its ``config.yaml`` and ``provenance.json`` are sent too.
        every_n_epochs: number of epochs between two pictures of examples.
        views: number of examples, each at a low and a high dose.
    """

    def __init__(self, folder: str, every_n_epochs: int = 1, views: int = 1) -> None:
        self.folder = parse_folder("callbacks.journal.folder", folder)
        self.every_n_epochs = parse_whole("callbacks.journal.every_n_epochs", every_n_epochs, minimum=1)
        self.views = parse_whole("callbacks.journal.views", views, minimum=1)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send configuration and provenance to TensorBoard; W&B receives them in :func:`logger`."""
        if trainer.is_global_zero and type(trainer.logger).__name__ == "TensorBoardLogger":
            for name in ("config.yaml", "provenance.json"):
                text = (self.folder / name).read_text().replace("\n", "\n    ")
                trainer.logger.experiment.add_text(name, f"    {text}")  # type: ignore[union-attr]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and send a few examples."""
        if not (trainer.is_global_zero and takes_pictures(trainer.logger)) or trainer.sanity_checking:
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            assert isinstance(pl_module, Task)
            data: WaveDataModule = trainer.datamodule  # type: ignore[attr-defined]
            with tempfile.TemporaryDirectory() as folder:
                figure = examples_figure(pl_module, data, Path(folder) / "examples.png", views=self.views)
                log_figure(trainer.logger, "progress", figure, step=trainer.global_step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send tables of the scores against dose and of the confusion of classes."""
        log = trainer.logger
        if not (trainer.is_global_zero and takes_pictures(log)):
            return
        assert isinstance(pl_module, Task)
        curves = [
            (dose, name, score.precision, score.recall, score.f1, score.error_pm)
            for dose, classes in pl_module.test_scores.items()
            for name, score in classes.items()
        ]
        log_table(log, "dose", ("dose", "class", "precision", "recall", "f1", "error_pm"), curves)
        names = (*pl_module.classes, "nothing")
        confusion = [
            (dose, true, found, int(table[row, column]))
            for dose, table in pl_module.test_confusion.items()
            for row, true in enumerate(names)
            for column, found in enumerate(names)
        ]
        log_table(log, "confusion", ("dose", "true", "found", "columns"), confusion)
        _log_curves(log, [(dose, f1, error) for dose, name, _, _, f1, error in curves if name == "all"])


def _log_curves(logger: Any, points: Sequence[tuple[float, float, float]]) -> None:
    """Send curves of F1 and position error in pm against dose; TensorBoard's steps are electrons per Å²."""
    for number, quantity in ((1, "f1"), (2, "error_pm")):
        if type(logger).__name__ == "WandbLogger":
            import wandb

            table = wandb.Table(columns=["dose", quantity], data=[[point[0], point[number]] for point in points])
            title = f"{quantity} against dose (e/Å²)"
            logger.experiment.log({f"against dose/{quantity}": wandb.plot.line(table, "dose", quantity, title=title)})
        else:
            for point in points:
                logger.experiment.add_scalar(f"against dose/{quantity}", point[number], round(point[0]))
