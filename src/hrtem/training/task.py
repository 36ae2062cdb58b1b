"""The Lightning task: simulate images, train the network on target maps, find columns and score them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from inspect import signature
from typing import Any

import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from torch import Tensor
from torchmetrics import MeanMetric

from hrtem.calibration import CANDIDATE, Diagram
from hrtem.calibration.domain import ENOUGH, EXAMPLES, features
from hrtem.calibration.measurement import Presence, Reliability, Uncertainty
from hrtem.columns import Columns
from hrtem.imaging import Imaging
from hrtem.inference.network import ColumnNetwork, complete
from hrtem.matching import Score
from hrtem.metrics import ColumnMetrics
from hrtem.training.construction import make
from hrtem.training.data import collate, columns_of


class Task(ColumnNetwork, lightning.LightningModule):
    """A network that learns to find columns of given classes in focal series.

    Args:
        settings: arguments of :class:`hrtem.inference.network.ColumnNetwork`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.save_hyperparameters(self.settings)
        self.noise = instantiate(self.settings["noise"])
        self.loss = instantiate(self.settings["loss"])
        self.target.check(self.loss)
        self.metrics: Any = torch.nn.ModuleDict(
            {
                # Not "train", which is a method of torch.nn.Module.
                "validation": ColumnMetrics(self.classes),
                "testing": ColumnMetrics(self.classes, groups=len(self.optics.test_doses)),
                "presence": Presence(self.find_peaks.sigma),
                "uncertainty": Uncertainty(self.find_peaks.sigma),
                "reliability": Reliability(self.find_peaks.threshold, groups=len(self.optics.test_doses)),
            }
        )
        # Lightning's own mean is wrong if processes have different numbers of images.
        self.losses = torch.nn.ModuleDict({"val": MeanMetric(), "test": MeanMetric()})
        #: Scores of the last test for each dose, under "all" and under each class.
        self.test_scores: dict[float, dict[str, Score]] = {}
        #: Confusion matrix of the last test for each dose, true class by found class; last index: "nothing there".
        self.test_confusion: dict[float, Tensor] = {}
        #: Reliability of the last test, under "all" and under each dose.
        self.test_reliability: dict[str, Diagram] = {}

    @cached_property
    def imaging(self) -> Imaging:
        """The microscope and detector of the recipe."""
        return Imaging(self.optics, self.noise, self.sampling, self.margin)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete checkpoints of older versions, which lack the calibration of uncertainties and the domain."""
        checkpoint["state_dict"] = complete(checkpoint["state_dict"])

    def on_train_start(self) -> None:
        """Fit the domain to training images, always the same images, so that a resumed run has the same domain."""
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

    @torch.no_grad()
    def simulate(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Simulate images and draw targets of a collated batch of waves, on the device of the batch.

        Returns:
            ``counts`` and ``images`` (normalised) ``(B, F, Y, X)``, ``target`` ``(B, C, Y, X)``, and ``positions``,
            ``labels``, ``atoms``, ``group`` and ``settings`` of the batch.
        """
        counts = self.imaging.simulate_counts(batch["wave"], batch["settings"])
        return {
            "counts": counts,
            "images": self.normalise(counts, self.sampling),
            "target": self.target(
                batch["positions"], batch["labels"], counts.shape[-2:], self.sampling, batch["atoms"]
            ),
            **{name: batch[name] for name in ("positions", "labels", "atoms", "group", "settings")},
        }

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Simulate images of the waves on the device of the network."""
        return self.simulate(batch)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch of images and targets."""
        logits = self.net(batch["images"].contiguous(memory_format=torch.channels_last))
        loss = self.loss(logits.float(), batch["target"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Update scores and calibration with the columns of a batch."""
        maps, true, size = self._answer(batch, "val")
        peaks = self.peaks(maps, CANDIDATE)
        judged = [self.judge(one) for one in peaks]
        sure = [one.probabilities >= self.find_peaks.threshold for one in judged]
        found = [one[keep] for one, keep in zip(judged, sure, strict=True)]
        self.metrics["validation"].update(found, true, *size, groups=batch["group"].tolist())
        self.metrics["presence"].update([one.columns for one in peaks], true, *size)
        self.metrics["uncertainty"].update(peaks, sure, true, *size)

    def on_validation_epoch_end(self) -> None:
        """Log the scores, and store the calibration of probabilities and standard deviations."""
        metric = self.metrics["validation"]
        (scores,) = metric.scores()
        metric.reset()
        self._log_scores("val", scores)
        for name, values in {"presence": self.presence, "uncertainty": self.uncertainty}.items():
            values.copy_(self.metrics[name].compute())
            self.metrics[name].reset()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Update scores, confusion and reliability with the columns of a batch."""
        maps, true, size = self._answer(batch, "test")
        groups = batch["group"].tolist()
        candidates = self.find(maps, threshold=CANDIDATE)
        found = [columns[columns.probabilities >= self.find_peaks.threshold] for columns in candidates]
        self.metrics["testing"].update(found, true, *size, groups=groups)
        self.metrics["reliability"].update(candidates, true, *size, groups=groups)

    def on_test_epoch_end(self) -> None:
        """Store the scores, the confusion matrices and the reliability at each dose."""
        metric = self.metrics["testing"]
        self.test_scores = dict(zip(self.optics.test_doses, metric.scores(), strict=True))
        self.test_confusion = dict(zip(self.optics.test_doses, metric.compute()["confusion"].cpu(), strict=True))
        metric.reset()
        names = ["all", *(f"{dose:g}" for dose in self.optics.test_doses)]
        self.test_reliability = dict(zip(names, self.metrics["reliability"].diagrams(), strict=True))
        self.metrics["reliability"].reset()
        for dose, scores in self.test_scores.items():
            self._log_scores(f"test/{dose:.0f}", scores)

    def _answer(self, batch: dict[str, Any], name: str) -> tuple[Tensor, list[Columns], tuple[float, float]]:
        """Maps, true columns, and the largest x and y of a pixel centre in Å of a batch; also logs the loss."""
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
        settings = self.settings["optimizer"]
        target = settings.get("_target_") if isinstance(settings, Mapping) else None
        known = getattr(torch.optim, str(target).removeprefix("torch.optim."), None)
        if isinstance(settings, Mapping) and known is not None and "fused" in signature(known).parameters:
            # One pass over the weights instead of a dozen saves a quarter of a step of a small network on a CPU.
            settings = {"fused": True, **settings}
        return make("task.optimizer", settings, params=self.net.parameters(), _convert_="all")

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """The learning rate schedule of the recipe, or None; ``steps`` is the number of training steps."""
        settings = self.settings["scheduler"]
        if settings is None:
            return None
        if isinstance(settings, Mapping) and settings.get("total_steps", 0) is None:
            settings = {**settings, "total_steps": steps}
        return make("task.scheduler", settings, optimizer=optimizer)

    def check_optimizer(self) -> None:
        """Refuse settings of optimizer and schedule before the training.

        Raises:
            InputError: they cannot be made.
        """
        self.scheduler(self.optimizer(), steps=100)

    def quantities(self) -> list[str]:
        """Names of the quantities that a validation measures, one of which selects the best checkpoint."""
        counts = (1.0, 1.0) if hasattr(self.target, "count") else ()
        names = [quantity for quantity, _ in Score(1.0, 1.0, 1.0, 0.0, 1, 1, *counts).qualities()]
        infixes = ["", *(f"{name}/" for name in self.classes if len(self.classes) > 1)]
        return ["val/loss", "train/loss", *(f"val/{infix}{name}" for infix in infixes for name in names)]

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule of the recipe."""
        optimizer = self.optimizer()
        scheduler = self.scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        if scheduler is None:
            return optimizer
        by_step = "total_steps" in self.settings["scheduler"]
        plan = {"scheduler": scheduler, "interval": "step" if by_step else "epoch", "monitor": self.settings["monitor"]}
        return {"optimizer": optimizer, "lr_scheduler": plan}
