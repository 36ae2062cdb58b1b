"""Losses on logits that torch and MONAI do not provide.

A loss is *proper* if its expectation over uncertain targets is minimal at the expected target. Only then is the mass of
a peak a probability. Squared error and cross entropy are proper; focal and Dice losses are not.
"""

from __future__ import annotations

import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from hrtem.ranges import parse_number
from hrtem.targets.atom_counts import Classes


class SigmoidMSELoss(nn.MSELoss):
    """Mean squared error of the sigmoid of logits; proper like cross entropy, but large errors cost less."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        return super().forward(input.sigmoid(), target)


class FocalLoss(nn.Module):
    """Focal loss: cross entropy times a power of the error, so that easy pixels count less.

    This is the form of arXiv 2006.04388 for targets between 0 and 1; for targets 0 and 1 it equals that of arXiv
    1708.02002. MONAI's ``FocalLoss`` accepts targets between 0 and 1 too, but its minimum then lies at 0 or 1, so that
    Gaussians would be learnt as discs. Here the minimum lies at the target if the target is certain. The loss is
    not proper: for an uncertain target the optimum lies between the mean of the target and 1/2.

    Args:
        gamma: exponent of the error; 0 gives cross entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = parse_number("loss.gamma", gamma, minimum=0.0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        error = (input.sigmoid() - target).abs()
        return (error**self.gamma * F.binary_cross_entropy_with_logits(input, target, reduction="none")).mean()


class DiceBCELoss(nn.Module):
    """Sum of the Dice loss, in its form for targets between 0 and 1, and the binary cross entropy of each map.

    MONAI's ``DiceCELoss`` takes the cross entropy between channels if there are two or more, and the minima of
    ``DiceCELoss``, ``TverskyLoss`` and ``GeneralizedDiceLoss`` do not lie at a target between 0 and 1. Here the minimum
    lies at the target if the target is certain. The loss is not proper: for an uncertain target the optimum differs
    from the mean of the target and mostly lies above it.

    Args:
        dice_weight: weight of the Dice loss relative to the cross entropy.
    """

    def __init__(self, dice_weight: float = 1.0) -> None:
        super().__init__()
        self.dice_weight = parse_number("loss.dice_weight", dice_weight, minimum=0.0)
        # Over the whole batch, since a single image may contain no column of a class.
        self.dice = DiceLoss(sigmoid=True, soft_label=True, batch=True)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        return F.binary_cross_entropy_with_logits(input, target) + self.dice_weight * self.dice(input, target)


class OffsetLoss(nn.Module):
    """Cross entropy of the discs plus, within discs, the cross entropy of the classes and the Huber loss of offsets.

    Every image has the same weight, however many columns it shows, so that a batch may be split among processes.

    The cross entropy of discs alone is a mean over mostly empty pixels, from which rare classes are learnt late: the
    network learns that there is a column before it learns that the column is a vacancy. In the pixels of discs,
    p_c / Σ p_j is the share of class c. The cross entropy of these shares has the same optimum as that of the discs.

    Args:
        offset_weight: weight of the Huber loss relative to the cross entropy of the discs.
        delta: offset error above which the Huber loss is linear, in radii of the discs.
        class_weight: weight of the cross entropy of classes; without effect if there is a single class.
    """

    def __init__(self, offset_weight: float = 1.0, delta: float = 0.2, class_weight: float = 1.0) -> None:
        super().__init__()
        self.offset_weight = parse_number("loss.offset_weight", offset_weight, minimum=0.0)
        self.delta = parse_number("loss.delta", delta, minimum=1e-3)
        self.class_weight = parse_number("loss.class_weight", class_weight, minimum=0.0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits and offsets ``(B, C + 2, Y, X)`` against :class:`hrtem.targets.OffsetMaps`."""
        # One split instead of separate slices: the gradient of each slice would fill a whole batch of maps with zeros.
        logits, said = input.split([input.shape[1] - 2, 2], dim=1)
        discs = target[:, :-2]
        located = self._located(logits, discs, said, target[:, -2:])
        if discs.shape[1] == 1 or not self.class_weight:
            return located
        # The softmax inside the cross entropy turns log p_c into p_c / Σ p_j.
        named = F.cross_entropy(F.logsigmoid(logits), discs.argmax(dim=1), reduction="none")
        return located + self.class_weight * mean_within(named, discs.amax(dim=1))

    def _located(self, logits: Tensor, discs: Tensor, said: Tensor, offsets: Tensor) -> Tensor:
        away = F.huber_loss(said, offsets, delta=self.delta, reduction="none").sum(dim=1)
        # Divided by delta, so that a large offset error contributes its length.
        there = mean_within(away / self.delta, discs.amax(dim=1))
        return F.binary_cross_entropy_with_logits(logits, discs) + self.offset_weight * there


class CountedOffsetLoss(OffsetLoss):
    """:class:`OffsetLoss` plus the loss of the number of atoms within discs.

    Args:
        count: representation of the number of atoms, see :mod:`hrtem.targets.atom_counts`.
        count_weight: weight of the loss of the number of atoms relative to the cross entropy of the discs.
        offset_weight, delta: see :class:`OffsetLoss`.
    """

    def __init__(self, count: Classes, count_weight: float = 1.0, offset_weight: float = 1.0, delta: float = 0.2):
        super().__init__(offset_weight, delta)
        self.count = count
        self.count_weight = parse_number("loss.count_weight", count_weight, minimum=0.0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits and offsets ``(B, 1 + K + 2, Y, X)`` against :class:`hrtem.targets.CountedOffsetMaps`."""
        disc, numbers, said = input.split([1, input.shape[1] - 3, 2], dim=1)
        located = self._located(disc, target[:, :1], said, target[:, -2:])
        atoms = target[:, 1]
        counted = mean_within(self.count.loss(numbers, atoms), target[:, 0] * (atoms > 0))
        return located + self.count_weight * counted


def mean_within(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of values ``(B, Y, X)`` with weights ``(B, Y, X)`` within each image, averaged over the images."""
    return ((values * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp_min(1.0)).mean()
