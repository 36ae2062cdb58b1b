"""Several networks that answer together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hrtem.calibration import CANDIDATE
from hrtem.calibration.domain import place_windows
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference.network import ColumnNetwork

#: What the members must have in common, for a sentence.
COMMON = ("classes", "pixel size", "number of images", "target", "normalisation")


class Ensemble(torch.nn.Module):
    """Trained networks whose maps are averaged; one network is an ensemble of itself.

    The maps of networks with a proper loss are expectations, and so is their mean, in which each member is believed
    equally. A column that some members see and others do not has the mean of their probabilities. Where they see it at
    different places, its peak is wider by the variance of these places (law of total variance), and a peak's width is
    what its ``sigma`` comes from; what mass and width mean is the mean of what they have been measured to mean for
    each. Of maps with offsets, where positions are uncertain by the spread of votes, the disagreement of the offsets
    themselves is not counted.

    Args:
        networks: one or more.

    Raises:
        InputError: they differ in what :data:`COMMON` names.
    """

    def __init__(self, networks: Sequence[ColumnNetwork]) -> None:
        super().__init__()
        if not networks:
            raise InputError("checkpoint must name at least one file, got an empty list.")
        facts = [_facts(network) for network in networks]
        for number, theirs in enumerate(facts[1:], start=2):
            for name, one, other in zip(COMMON, facts[0], theirs, strict=True):
                if one != other:
                    raise InputError(
                        f"checkpoints that answer together must have the same {name}, and number 1 has {one}, "
                        f"number {number} has {other}."
                    )
        self.networks = torch.nn.ModuleList(networks)

    @property
    def members(self) -> list[ColumnNetwork]:
        """The networks."""
        return [network for network in self.networks if isinstance(network, ColumnNetwork)]

    def forward(self, images: Tensor) -> Tensor:
        """Mean maps ``(B, C, Y, X)`` of normalised images ``(B, F, Y, X)``.

        Offsets and numbers of atoms are weighted with the discs in which they hold: a member that sees no column
        knows neither where it is nor how high.
        """
        first, *others = self.members
        maps = first(images)
        if not others:
            return maps
        answers = torch.stack([maps, *(member(images) for member in others)])
        seen, held = answers.tensor_split([first.target.classes], dim=2)
        weights = seen.sum(dim=2, keepdim=True).clamp_min(1e-6)
        return torch.cat([seen.mean(dim=0), (held * weights).sum(dim=0) / weights.sum(dim=0)], dim=1)

    def find(self, maps: Tensor) -> list[Columns]:
        """Columns in mean maps, by the peaks of the first member, judged by the mean of what all have measured."""
        first = self.members[0]
        threshold = first.find_peaks.threshold
        answers = []
        for peaks in first.peaks(maps, min(CANDIDATE, threshold)):
            judged = [member.judge(peaks) for member in self.members]
            probabilities = np.mean([one.probabilities for one in judged], axis=0)
            variance = np.mean([np.square(one.sigmas) for one in judged], axis=0)
            columns = replace(peaks.columns.with_probabilities(probabilities), sigmas=np.sqrt(variance))
            answers.append(columns[probabilities >= threshold])
        return answers

    def likeness(self, window: Callable[[int, int, int, int], Tensor], shape: tuple[int, int]) -> float | None:
        """How much an image looks like those of the training: the least that any member says.

        Args:
            window: gives the normalised pixels ``(F, h, w)`` of a window (top, bottom, left, right).
            shape: (Y, X) px of the image.

        Returns:
            See :meth:`hrtem.calibration.domain.Domain.likeness`; None where no member knows its training images.
        """
        said = []
        for member in self.members:
            domain, side = member.domain, int(member.domain.side)
            if domain.known:
                pieces = (
                    window(top, min(shape[0], top + side), left, min(shape[1], left + side))[None]
                    for top, left in place_windows(shape, side)
                )
                said.append(domain.likeness_of(pieces, member.sampling))
        return min(said, default=None)


def _facts(network: ColumnNetwork) -> tuple[object, ...]:
    """What the members of an ensemble must have in common, as :data:`COMMON` names it."""
    settings = network.settings
    return (
        list(network.classes),
        f"{network.sampling:g} Å",
        network.optics.num_images,
        dict(settings["target"]),
        dict(settings["normalisation"]),
    )
