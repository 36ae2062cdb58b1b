"""The Lightning task: simulate a batch, learn its maps, find columns and score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from hydra.utils import get_class, instantiate
from torch import Tensor
from torchmetrics import MeanMetric

from hrtem import weights
from hrtem.calibration import (
    AS_DRAWN,
    CANDIDATE,
    MASS,
    UNCORRECTED,
    UNKNOWN,
    Diagram,
    Peaks,
    Presence,
    Reliability,
    Uncertainty,
    position_variance,
    probabilities,
    variances,
)
from hrtem.columns import Columns
from hrtem.data import collate, columns_of
from hrtem.domain import ENOUGH, EXAMPLES, Domain, features
from hrtem.errors import InputError
from hrtem.imaging import detected
from hrtem.metrics import ColumnMetrics, Score
from hrtem.nets import Dihedral

Settings = Mapping[str, Any]


class ColumnFinder(lightning.LightningModule):
    """Finds columns of given classes in focal series.

    All arguments are plain dicts, lists and numbers, so that a checkpoint needs no configuration files and
    loads without unpickling any object.

    Args:
        sample: settings of the sample; its ``name`` and ``classes`` are used.
        optics, noise, normalisation, target, model, loss, peaks: settings of these stages.
        optimizer: ``_target_`` and arguments of the optimizer.
        scheduler: ``_target_`` and arguments of the rate schedule, or None; an argument ``total_steps`` that
            is null becomes the number of training steps.
        sampling: Å/px of all images that the network sees.
        margin: pixels of the simulated images to cut off on each side, or ``auto``, which is
            :meth:`hrtem.optics.Optics.margin`.
        monitor: metric that a schedule on a plateau watches.
    """

    def __init__(
        self,
        sample: Settings,
        optics: Settings,
        noise: Settings,
        normalisation: Settings,
        target: Settings,
        model: Settings,
        loss: Settings,
        peaks: Settings,
        optimizer: Settings,
        scheduler: Settings | None,
        sampling: float,
        margin: int | str,
        monitor: str,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.classes = tuple(sample["classes"])
        self.sampling = sampling
        self.optics = instantiate(optics)
        self.noise = instantiate(noise)
        self.normalise = instantiate(normalisation)
        self.target = instantiate(target)
        self.find_peaks = instantiate(peaks)
        self.net = instantiate(model, _convert_="all").to(memory_format=torch.channels_last)
        self.loss = instantiate(loss)
        self._check()
        if isinstance(self.net, Dihedral):
            self.net.vectors = self.target.vectors
        self.metrics: Any = torch.nn.ModuleDict(
            {
                # "train" is taken by torch.nn.Module.
                "validation": ColumnMetrics(self.classes),
                "testing": ColumnMetrics(self.classes, groups=len(self.optics.test_doses)),
                "presence": Presence(self.find_peaks.sigma),
                "uncertainty": Uncertainty(self.find_peaks.sigma),
                "reliability": Reliability(self.find_peaks.threshold, groups=len(self.optics.test_doses)),
            }
        )
        # Measured in each validation, and so part of the checkpoint that follows it.
        self.uncertainty: Tensor
        self.presence: Tensor
        self.register_buffer("uncertainty", torch.tensor(AS_DRAWN, dtype=torch.float64))
        self.register_buffer("presence", torch.tensor(MASS, dtype=torch.float64))
        # What models have that were trained before uncertainties were measured as they are now.
        self.position_variance: Tensor
        self.register_buffer("position_variance", torch.tensor(UNCORRECTED))
        # Lightning's own mean is wrong where processes have different numbers of images.
        self.losses = torch.nn.ModuleDict({"val": MeanMetric(), "test": MeanMetric()})
        self.domain = Domain()
        #: Scores of the last test, for each dose under "all" and under each class.
        self.test_scores: dict[float, dict[str, Score]] = {}
        #: Columns of the last test for each dose, true class by found class; the last index is "nothing there".
        self.test_confusion: dict[float, Tensor] = {}
        #: Reliability of the last test, under "all" and under each dose.
        self.test_reliability: dict[str, Diagram] = {}

    @cached_property
    def margin(self) -> int:
        """Pixels of the simulated images to cut off on each side."""
        return int(self.optics.margin(self.sampling, self.hparams["margin"]))

    @classmethod
    def load(cls, path: str | Path) -> ColumnFinder:
        """The task in a checkpoint file or in the folder of an exported model, ready for inference on the CPU.

        Raises:
            InputError: there is no such file or it is no checkpoint of this task, or the folder is no model.
        """
        path = Path(path)
        if path.is_dir():
            settings, state = weights.read(path)
            try:
                task = cls(**settings)
                task.on_load_checkpoint({"state_dict": state})  # a model may be older than we are
                task.load_state_dict(state)
            except Exception as error:
                raise InputError(
                    f"the weights of the model {path} do not fit its settings: {_first(error)}."
                ) from error
            return task.eval()
        if not path.is_file():
            raise InputError(f"checkpoint must be a file that train.py wrote, and {path} does not exist.")
        try:
            return cls.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
        except Exception as error:
            raise InputError(
                f"checkpoint must be a file that train.py wrote, and {path} is not: {_first(error)}."
            ) from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let checkpoints load that were written before uncertainties and domains."""
        unknown = {f"domain.{name}": value for name, value in Domain().state_dict().items()}
        unknown["position_variance"] = torch.tensor(UNCORRECTED)
        unknown["uncertainty"] = torch.tensor(UNKNOWN, dtype=torch.float64)
        unknown["presence"] = torch.tensor(MASS, dtype=torch.float64)
        for name, value in unknown.items():
            checkpoint["state_dict"].setdefault(name, value)

    def on_train_start(self) -> None:
        """Learn what training images look like; always of the same ones, so that a resumed run knows the same."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.domain.known or data is None or data.epoch_size < ENOUGH:
            return
        images = data.images("train", min(EXAMPLES, data.epoch_size))
        values = []
        for first in range(0, len(images), data.batch_size):
            batch = collate([images[n] for n in range(first, min(first + data.batch_size, len(images)))])
            seen = self.simulate(self.transfer_batch_to_device(batch, self.device, 0))["images"]
            values.append(features(seen, self.sampling))
        self.domain.fit(torch.cat(values), side=seen.shape[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Probability maps ``(B, C, Y, X)``, or what else the target has, of normalised images ``(B, F, Y, X)``."""
        return self.target.maps(self.net(images.contiguous(memory_format=torch.channels_last)).float())

    @torch.no_grad()
    def simulate(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Images and targets of a collated batch of waves, on the batch's device.

        Returns:
            ``counts`` and ``images`` (normalised) ``(B, F, Y, X)``, ``target`` ``(B, C, Y, X)``, and the
            batch's ``positions``, ``labels``, ``atoms``, ``group`` and ``settings``.
        """
        settings = batch["settings"]
        counts = detected(self.optics, self.noise, batch["wave"], settings, self.sampling, self.margin)
        return {
            "counts": counts,
            "images": self.normalise(counts, self.sampling),
            "target": self.target(
                batch["positions"], batch["labels"], counts.shape[-2:], self.sampling, batch["atoms"]
            ),
            **{name: batch[name] for name in ("positions", "labels", "atoms", "group", "settings")},
        }

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Turn waves into images where the network runs."""
        return self.simulate(batch)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self.net(batch["images"].contiguous(memory_format=torch.channels_last))
        loss = self.loss(logits.float(), batch["target"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        maps, true, size = self._answer(batch, "val")
        peaks = self.peaks(maps, CANDIDATE)
        judged = [self.judged(one) for one in peaks]
        sure = [one.probabilities >= self.find_peaks.threshold for one in judged]
        found = [one[keep] for one, keep in zip(judged, sure, strict=True)]
        self.metrics["validation"].update(found, true, *size, groups=batch["group"].tolist())
        self.metrics["presence"].update([one.columns for one in peaks], true, *size)
        self.metrics["uncertainty"].update(peaks, sure, true, *size)

    def on_validation_epoch_end(self) -> None:
        metric = self.metrics["validation"]
        (scores,) = metric.scores()
        metric.reset()
        self._log_scores("val", scores)
        for name, values in {"presence": self.presence, "uncertainty": self.uncertainty}.items():
            values.copy_(self.metrics[name].compute())
            self.metrics[name].reset()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        maps, true, size = self._answer(batch, "test")
        groups = batch["group"].tolist()
        candidates = self.find(maps, threshold=CANDIDATE)
        found = [columns[columns.probabilities >= self.find_peaks.threshold] for columns in candidates]
        self.metrics["testing"].update(found, true, *size, groups=groups)
        self.metrics["reliability"].update(candidates, true, *size, groups=groups)

    def on_test_epoch_end(self) -> None:
        metric = self.metrics["testing"]
        self.test_scores = dict(zip(self.optics.test_doses, metric.scores(), strict=True))
        self.test_confusion = dict(zip(self.optics.test_doses, metric.compute()["confusion"].cpu(), strict=True))
        metric.reset()
        names = ["all", *(f"{dose:g}" for dose in self.optics.test_doses)]
        self.test_reliability = dict(zip(names, self.metrics["reliability"].diagrams(), strict=True))
        self.metrics["reliability"].reset()
        for dose, scores in self.test_scores.items():
            self._log_scores(f"test/{dose:.0f}", scores)

    def find(self, maps: Tensor, threshold: float | None = None) -> list[Columns]:
        """Columns in probability maps ``(B, C, Y, X)``, from ``threshold`` or that of the peaks up."""
        threshold = self.find_peaks.threshold if threshold is None else threshold
        judged = [self.judged(peaks) for peaks in self.peaks(maps, min(CANDIDATE, threshold))]
        return [columns[columns.probabilities >= threshold] for columns in judged]

    def calibrate(self, peaks: Sequence[Peaks], true: Sequence[Columns], width: float, height: float) -> None:
        """Measure anew, on images of ``width`` x ``height`` Å, what the peaks in them mean.

        Args:
            peaks: of each image, from :data:`hrtem.calibration.CANDIDATE` up.
            true: true columns of each image.
            width, height: largest x and y of a pixel centre, Å.
        """
        size = (width, height)
        presence, uncertainty = Presence(self.find_peaks.sigma), Uncertainty(self.find_peaks.sigma)
        presence.update([one.columns for one in peaks], true, *size)
        self.presence.copy_(presence.compute())
        sure = [self.judged(one).probabilities >= self.find_peaks.threshold for one in peaks]
        uncertainty.update(peaks, sure, true, *size)
        self.uncertainty.copy_(uncertainty.compute())

    def peaks(self, maps: Tensor, threshold: float) -> list[Peaks]:
        """Peaks of a mass from ``threshold`` up in maps ``(B, C, Y, X)``, of each example."""
        variance = self.find_peaks.sigma**2
        found = self.find_peaks(maps, self.sampling, self.classes, threshold, lambda excess: excess + variance)
        return [
            Peaks(columns, self.find_peaks.spreads(columns, answer, self.sampling))
            for columns, answer in zip(found, maps, strict=True)
        ]

    def judged(self, peaks: Peaks) -> Columns:
        """What peaks are by the measure of the last validation: how probable columns are, and how sure positions."""
        sigma, columns, law = self.find_peaks.sigma, peaks.columns, self.uncertainty.cpu().numpy()
        if np.isnan(law).any():
            variance = position_variance(columns.sigmas**2 - sigma**2, sigma, self.position_variance.cpu().numpy())
        else:
            variance = variances(peaks, sigma, law)
        judged = replace(columns, sigmas=np.sqrt(variance))
        if not self.find_peaks.calibrated:
            return judged
        return judged.believed(probabilities(columns, sigma, self.presence.cpu().numpy()))

    def _check(self) -> None:
        """Refuse a target, a loss, peaks and a network that do not fit together."""
        self.target.check(self.loss)
        reads = getattr(self.find_peaks, "reads", "classes")
        if reads != self.target.answers:
            raise InputError(
                f"peaks must read the {self.target.answers} of the target, and {type(self.find_peaks).__name__} "
                f"reads {reads}; leave peaks= away, or say the target that it belongs to."
            )

    def _answer(self, batch: dict[str, Any], name: str) -> tuple[Tensor, list[Columns], tuple[float, float]]:
        """Maps, true columns, and the largest x and y of a pixel's centre in Å; logs the loss."""
        logits = self.net(batch["images"].contiguous(memory_format=torch.channels_last)).float()
        mean = self.losses[name]
        assert isinstance(mean, MeanMetric)
        mean.update(self.loss(logits, batch["target"]), weight=len(logits))
        self.log(f"{name}/loss", mean, batch_size=len(logits))
        rows, columns = logits.shape[-2:]
        true = columns_of(batch["positions"], batch["labels"], self.classes, batch["atoms"])
        return self.target.maps(logits), true, ((columns - 1) * self.sampling, (rows - 1) * self.sampling)

    def _log_scores(self, prefix: str, scores: Mapping[str, Score]) -> None:
        for name, score in scores.items():
            if name != "all" and len(self.classes) == 1:
                continue
            infix = "" if name == "all" else f"{name}/"
            for quantity, value in score.qualities():
                bar = prefix == "val" and name == "all" and quantity in ("f1", "error_pm")
                self.log(f"{prefix}/{infix}{quantity}", value, prog_bar=bar)

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the recipe for the weights of the network."""
        settings = dict(self.hparams["optimizer"])
        if "fused" in signature(get_class(settings["_target_"])).parameters:
            # One pass over the weights in place of a dozen: on a CPU, a quarter of a step of a small network.
            settings.setdefault("fused", True)
        return instantiate(settings, params=self.net.parameters(), _convert_="all")

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer()
        settings = self.hparams["scheduler"]
        if settings is None:
            return optimizer
        settings = dict(settings)
        if "total_steps" in settings and settings["total_steps"] is None:
            settings["total_steps"] = int(self.trainer.estimated_stepping_batches)
        by_step = "total_steps" in settings
        scheduler = instantiate(settings, optimizer=optimizer)
        plan = {"scheduler": scheduler, "interval": "step" if by_step else "epoch", "monitor": self.hparams["monitor"]}
        return {"optimizer": optimizer, "lr_scheduler": plan}


def _first(error: BaseException) -> str:
    """First line of an error, without its full stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
