"""An ensemble of several networks with averaged output."""

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

#: Properties that the members must have in common, as named in error messages.
COMMON = ("classes", "pixel size", "number of images", "target", "normalisation")


class Ensemble(torch.nn.Module):
    """Trained networks whose maps are averaged; a single network is an ensemble with one member.

    The maps of networks with a proper loss are expectations, and so is their mean, in which all members have equal
    weight. If only some members find a column, its probability is the mean over all members. If the members place the
    column at different positions, the variance of these positions adds to the width of its peak (law of total
    variance), and ``sigma`` is computed from this width. Probability and variance of a peak are the means over the
    calibrations of all members. For maps with offsets, the uncertainty of a position is computed from the spread of the
    votes; there the disagreement between the members' offsets is not included.

    Args:
        networks: one or more networks.

    Raises:
        InputError: the networks differ in a property of :data:`COMMON`, or there are none.
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

        Offsets and numbers of atoms are weighted with the disc maps of the same member, since the offsets and counts of
        a member that sees no column have no meaning.
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
        """Find columns in mean maps with the peak finder of the first member and the mean calibration of all."""
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

    def likeness(
        self, window: Callable[[int, int, int, int], Tensor], shape: tuple[int, int], valid: Tensor | None = None
    ) -> float | None:
        """Likeness of an image to the training images: the smallest value among the members.

        Args:
            window: gives the normalised pixels ``(F, h, w)`` of a window (top, bottom, left, right).
            shape: (Y, X) px of the image.
            valid: bool ``(Y, X)``, pixels that hold an image; None: all.

        Returns:
            See :meth:`hrtem.calibration.domain.Domain.likeness`; None if no member has a known domain.
        """
        said = []
        for member in self.members:
            domain, side = member.domain, int(member.domain.side)
            if domain.known:
                pieces = (
                    window(top, min(shape[0], top + side), left, min(shape[1], left + side))[None]
                    for top, left in place_windows(shape, side, valid)
                )
                said.append(domain.likeness_of(pieces, member.sampling))
        return min(said, default=None)


def _facts(network: ColumnNetwork) -> tuple[object, ...]:
    """Values of the properties in :data:`COMMON` for a network."""
    settings = network.settings
    return (
        list(network.classes),
        f"{network.sampling:g} Å",
        network.optics.num_images,
        dict(settings["target"]),
        dict(settings["normalisation"]),
    )
