"""A trained network with its input settings, its peak finder and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from hrtem.calibration import (
    AS_DRAWN,
    CANDIDATE,
    COEFFICIENTS,
    MASS,
    UNCORRECTED,
    UNKNOWN,
    Peaks,
    position_variance,
    probabilities,
    variances,
)
from hrtem.calibration.domain import Domain
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference import weights
from hrtem.inference.size_limit import SizeLimit
from hrtem.nets import Dihedral, build
from hrtem.ranges import parse_list, parse_number

Settings = Mapping[str, Any]

#: Stages that a network and its training are made of.
STAGES = ("sample", "optics", "noise", "normalisation", "target", "model", "loss", "peaks")
#: Side of the image for the test of a loaded network, px.
SIDE = 64


class ColumnNetwork(torch.nn.Module):
    """A network with its input settings, its peak finder and its calibration.

    All arguments are plain dicts, lists and numbers. Therefore a checkpoint needs no configuration files and is loaded
    without unpickling arbitrary objects.

    Args:
        sample: settings of the sample; its ``name`` and ``classes`` are used.
        optics, noise, normalisation, target, model, loss, peaks: settings of these stages.
        optimizer: ``_target_`` and arguments of the optimizer.
        scheduler: ``_target_`` and arguments of the learning rate schedule, or None; if its argument ``total_steps`` is
            null, the number of training steps is inserted.
        sampling: Å/px of all input images of the network.
        margin: pixels of the simulated images to cut off on each side, or ``auto``, see
            :meth:`hrtem.optics.Optics.margin`.
        monitor: metric for a schedule that reduces the learning rate on a plateau.
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
        #: All arguments, as stored in a checkpoint and in an exported model.
        self.settings: dict[str, Any] = {
            "sample": sample,
            "optics": optics,
            "noise": noise,
            "normalisation": normalisation,
            "target": target,
            "model": model,
            "loss": loss,
            "peaks": peaks,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "sampling": sampling,
            "margin": margin,
            "monitor": monitor,
        }
        for stage in STAGES:
            part = self.settings[stage]
            if not isinstance(part, Mapping) or not isinstance(part.get("_target_"), str):
                raise InputError(f"{stage} must be one of the choices in conf/, with a _target_, got {part}.")
        self.classes = tuple(parse_list("sample.classes", sample.get("classes")))
        self.sampling = parse_number("data.sampling", sampling, unit="Å/px", minimum=0.05, maximum=0.5)
        self.optics = instantiate(optics)
        if margin != "auto":
            self.optics.margin(self.sampling, margin)  # refuses other values
        self.normalise = instantiate(normalisation)
        self.target = instantiate(target)
        self.find_peaks = instantiate(peaks)
        net: Any = build(model)
        self.net = net.to(memory_format=torch.channels_last)
        self._check()
        if isinstance(self.net, Dihedral):
            self.net.vectors = self.target.vectors
        # The calibration is measured in each validation and stored in the checkpoint after it.
        self.uncertainty: Tensor
        self.presence: Tensor
        self.register_buffer("uncertainty", torch.tensor(AS_DRAWN, dtype=torch.float64))
        self.register_buffer("presence", torch.tensor(MASS, dtype=torch.float64))
        # Calibration of older models, trained before the present method of measuring uncertainties.
        self.position_variance: Tensor
        self.register_buffer("position_variance", torch.tensor(UNCORRECTED))
        self.domain = Domain()

    @cached_property
    def margin(self) -> int:
        """Pixels of the simulated images to cut off on each side."""
        return int(self.optics.margin(self.sampling, self.settings["margin"]))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a checkpoint file or the folder of an exported model, for inference on the CPU.

        Raises:
            InputError: the file does not exist or is not a checkpoint, the folder is not a model, the settings name
                a class that is not allowed (see :mod:`hrtem.inference.trust`), or the weights do not fit the settings.
        """
        path = Path(path)
        if path.is_dir():
            name, (settings, state) = f"the model {path}", weights.read(path)
        else:
            name, (settings, state) = f"the checkpoint {path}", weights.read_checkpoint(path)
        try:
            with SizeLimit(state):
                network = cls(**settings)
                network.load_state_dict(complete(state))
                network.eval().check_answer()
        except Exception as error:
            cause = error.__cause__ or error  # Hydra wraps the errors of constructors
            if isinstance(cause, InputError):
                raise InputError(f"{name} cannot be used: {_first(cause)}.") from None
            raise InputError(f"the weights of {name} do not fit its settings: {_first(cause)}.") from error
        return network

    def check_answer(self) -> None:
        """Refuse weights that give other maps than those of the target, or values that are no numbers.

        Raises:
            InputError: the maps of a test image have another number of channels or are not finite, or the calibration
                is not finite.
        """
        pattern = torch.linspace(-3.0, 3.0, self.optics.num_images * SIDE * SIDE).reshape(1, -1, SIDE, SIDE)
        with torch.no_grad():
            logits = self.net(pattern.contiguous(memory_format=torch.channels_last))
        shape = (1, self.target.channels, SIDE, SIDE)
        if tuple(logits.shape) != shape:
            raise InputError(f"the network gives maps {tuple(logits.shape)}, and the target needs {shape}")
        # The law of a model older than its measurement is NaN.
        infinite = self.uncertainty[:COEFFICIENTS].isinf().any()
        if infinite or not (logits.isfinite().all() and self.presence.isfinite().all()):
            raise InputError("the network gives values that are no finite numbers")

    def forward(self, images: Tensor) -> Tensor:
        """Probability maps ``(B, C, Y, X)``, or other maps of the target, of normalised images ``(B, F, Y, X)``."""
        return self.target.maps(self.net(images.contiguous(memory_format=torch.channels_last)).float())

    def find(self, maps: Tensor, threshold: float | None = None) -> list[Columns]:
        """Find columns in maps ``(B, C, Y, X)`` with a probability of at least ``threshold``.

        By default it is the threshold of the peak finder.
        """
        threshold = self.find_peaks.threshold if threshold is None else threshold
        judged = [self.judge(peaks) for peaks in self.peaks(maps, min(CANDIDATE, threshold))]
        return [columns[columns.probabilities >= threshold] for columns in judged]

    def peaks(self, maps: Tensor, threshold: float) -> list[Peaks]:
        """Peaks with a mass of at least ``threshold`` in maps ``(B, C, Y, X)``, for each example."""
        variance = self.find_peaks.sigma**2
        found = self.find_peaks(maps, self.sampling, self.classes, threshold, lambda excess: excess + variance)
        return [
            Peaks(columns, self.find_peaks.spreads(columns, answer, self.sampling))
            for columns, answer in zip(found, maps, strict=True)
        ]

    def judge(self, peaks: Peaks) -> Columns:
        """Apply the calibration to peaks: columns with probabilities and standard deviations of positions."""
        sigma, columns, law = self.find_peaks.sigma, peaks.columns, self.uncertainty.cpu().numpy()
        if np.isnan(law).any():
            variance = position_variance(columns.sigmas**2 - sigma**2, sigma, self.position_variance.cpu().numpy())
        else:
            variance = variances(peaks, sigma, law)
        judged = replace(columns, sigmas=np.sqrt(variance))
        if not self.find_peaks.calibrated:
            return judged
        return judged.with_probabilities(probabilities(columns, sigma, self.presence.cpu().numpy()))

    def _check(self) -> None:
        """Refuse a peak finder that cannot read the maps of the target, and a target of other classes."""
        if len(self.classes) != self.target.classes:
            raise InputError(
                f"target.channels must be those of the {len(self.classes)} classes of the sample, got "
                f"{self.target.channels}, which are those of {self.target.classes}."
            )
        reads = getattr(self.find_peaks, "reads", "classes")
        if reads != self.target.answers:
            raise InputError(
                f"peaks must read the {self.target.answers} of the target, and {type(self.find_peaks).__name__} "
                f"reads {reads}; leave peaks= away, or say the target that it belongs to."
            )


def complete(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Complete the state of a network from an older version, which may lack the calibration and the domain."""
    unknown = {f"domain.{name}": value for name, value in Domain().state_dict().items()}
    unknown["position_variance"] = torch.tensor(UNCORRECTED)
    unknown["uncertainty"] = torch.tensor(UNKNOWN, dtype=torch.float64)
    unknown["presence"] = torch.tensor(MASS, dtype=torch.float64)
    return unknown | dict(state)


def _first(error: BaseException) -> str:
    """First line of an error, without its full stop."""
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    # torch begins with a title, and names the weights in the next line.
    return (others[0].strip() if others and first.endswith(":") else first).rstrip(".")
