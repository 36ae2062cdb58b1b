"""A trained network on images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.columns import Columns
from hrtem.domain import LEAST
from hrtem.errors import InputError
from hrtem.micrograph import Micrograph, calibrated, remove_hot_pixels, resample
from hrtem.nets import Dihedral
from hrtem.task import ColumnFinder

#: Images are cut at multiples of this, so that pooling sees every tile on the same grid, px.
GRID = 32


@dataclass(frozen=True)
class Prediction:
    """What was found in one micrograph.

    Attributes:
        micrograph: the input.
        columns: columns found, positions in Å from the centre of the input's pixel ``[0, 0]``.
        images: what the network saw, ``(F, Y, X)`` at the model's pixel size.
        maps: its answer, ``(C, Y, X)``.
        sampling: Å/px of ``images`` and ``maps``.
        likeness: share of the training images that are as far from their mean as this image, or None where the
            checkpoint does not know its training images.
    """

    micrograph: Micrograph
    columns: Columns
    images: np.ndarray
    maps: np.ndarray
    sampling: float
    likeness: float | None = None

    @property
    def in_domain(self) -> bool | None:
        """Whether the image looks like those of the training; None where the checkpoint does not know them."""
        return None if self.likeness is None else self.likeness >= LEAST

    @property
    def middle_image(self) -> np.ndarray:
        """The middle image of the input, ``(Y, X)``, as it was read."""
        return self.micrograph.images[len(self.micrograph.images) // 2]

    def summary(self) -> str:
        """How many columns of each class, and a warning where the image is unlike those of the training."""
        names = self.columns.classes
        numbers = np.bincount(self.columns.labels, minlength=len(names))
        counts = ", ".join(f"{number} {name}" for number, name in zip(numbers, names, strict=True))
        if self.in_domain is not False:
            return counts
        return f"{counts}. Do not trust this: fewer than {LEAST:.0%} of the training images are as unusual as this one."


class Finder:
    """Finds columns in micrographs with a trained task.

    Args:
        task: the trained task.
        tile: side of the pieces that the network sees, px; bounds the memory.
        halo: overlap of the pieces, px; no less than half the network's receptive field leaves no seam.
        device: where the network runs.
    """

    def __init__(self, task: ColumnFinder, tile: int = 768, halo: int = 128, device: str = "cpu") -> None:
        if tile <= 2 * halo or tile % GRID or halo % GRID:
            raise InputError(f"tile and halo must be multiples of {GRID} px with tile > 2 halo, got {tile} and {halo}.")
        try:
            self.task = task.eval().to(device)
        except (RuntimeError, AssertionError):
            raise InputError(
                f"device must be one that this machine has, for instance cpu or cuda, got {device}."
            ) from None
        self.tile = tile
        self.halo = halo
        self.device = device

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "cpu", symmetric: bool = False) -> Finder:
        """From a checkpoint that ``train.py`` wrote; ``symmetric`` as :class:`hrtem.nets.Dihedral` averages."""
        task = ColumnFinder.load(checkpoint)
        if symmetric:
            task.net = Dihedral(task.net, task.target.vectors)
        return cls(task, device=device)

    def check(self, micrograph: Micrograph) -> None:
        """Refuse what this model cannot take.

        Raises:
            InputError: the pixel size is unknown, or the number of images is not the model's.
        """
        calibrated(micrograph)
        needed, given = self.task.optics.num_images, len(micrograph.images)
        if given != needed:
            wants = "single images" if needed == 1 else f"focal series of {needed} images"
            raise InputError(f"this model takes {wants}, and {micrograph.source} holds {given}.")

    def find(self, micrograph: Micrograph) -> Prediction:
        """Columns of one micrograph or focal series; raises what :meth:`check` raises."""
        self.check(micrograph)
        assert micrograph.sampling is not None
        sampling = self.task.sampling
        clean = [resample(remove_hot_pixels(image), micrograph.sampling, sampling) for image in micrograph.images]
        images = self.task.normalise(torch.from_numpy(np.stack(clean)).float()[None], sampling)
        maps = self.maps(images)
        (columns,) = self.task.find(maps)
        rows, width = maps.shape[-2:]
        columns = columns[columns.inside((width - 0.5) * sampling, (rows - 0.5) * sampling, border=-0.5 * sampling)]
        likeness = self.task.domain.likeness(images, sampling)
        return Prediction(micrograph, columns, images[0].numpy(), maps[0].numpy(), sampling, likeness)

    @torch.inference_mode()
    def maps(self, images: Tensor) -> Tensor:
        """The task's maps ``(1, C, Y, X)`` of normalised images ``(1, F, Y, X)`` of any size, on the CPU."""
        rows, columns = images.shape[-2:]
        images = F.pad(images, (0, -columns % GRID, 0, -rows % GRID))
        height, width = images.shape[-2:]
        maps = torch.empty(0)
        step = self.tile - 2 * self.halo
        for top in range(0, height, step):
            for left in range(0, width, step):
                first = max(0, top - self.halo), max(0, left - self.halo)
                last = min(height, top + step + self.halo), min(width, left + step + self.halo)
                piece = images[..., first[0] : last[0], first[1] : last[1]].to(self.device)
                answer = self.task(piece).cpu()
                if not len(maps):
                    maps = torch.empty(1, answer.shape[1], height, width)
                bottom, right = min(height, top + step), min(width, left + step)
                maps[..., top:bottom, left:right] = answer[
                    ..., top - first[0] : bottom - first[0], left - first[1] : right - first[1]
                ]
        return maps[..., :rows, :columns]
