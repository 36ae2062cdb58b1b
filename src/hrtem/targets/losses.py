"""Losses on logits that torch and MONAI do not have.

A loss is *proper* if its least expectation over uncertain targets lies at the expected target. Only then is the mass of
a peak a probability. Squared error and cross entropy are; focal and Dice losses are not.
"""

from __future__ import annotations

import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from hrtem.ranges import parse_number
from hrtem.targets.atom_counts import Classes


class SigmoidMSELoss(nn.MSELoss):
    """Mean squared error of probabilities, from logits; as proper as cross entropy, and gentler on great mistakes."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        return super().forward(input.sigmoid(), target)


class FocalLoss(nn.Module):
    """Cross entropy times the error to a power, so that easy pixels count less.

    The form of arXiv 2006.04388 for targets between 0 and 1, which for 0 and 1 is that of arXiv 1708.02002. MONAI's
    ``FocalLoss`` takes such targets too, but is least at 0 or 1 for them: it would make discs of Gaussians. This one is
    least at a certain target, but not proper: for uncertain ones the answer lies between their mean and 1/2.

    Args:
        gamma: the power; 0 gives cross entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = parse_number("loss.gamma", gamma, minimum=0.0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        error = (input.sigmoid() - target).abs()
        return (error**self.gamma * F.binary_cross_entropy_with_logits(input, target, reduction="none")).mean()


class DiceBCELoss(nn.Module):
    """Dice loss, in the form that is right for targets between 0 and 1, and cross entropy, each map on its own.

    MONAI's ``DiceCELoss`` takes cross entropy between channels as soon as there are two, and it, ``TverskyLoss`` and
    ``GeneralizedDiceLoss`` are not least at a target between 0 and 1. This one is least at a certain target, but not
    proper: for uncertain ones the answer is not their mean, and most often above it.

    Args:
        dice_weight: of the Dice loss beside cross entropy.
    """

    def __init__(self, dice_weight: float = 1.0) -> None:
        super().__init__()
        self.dice_weight = parse_number("loss.dice_weight", dice_weight, minimum=0.0)
        # Over the whole batch: a single image may hold no column of a class.
        self.dice = DiceLoss(sigmoid=True, soft_label=True, batch=True)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        return F.binary_cross_entropy_with_logits(input, target) + self.dice_weight * self.dice(input, target)


class OffsetLoss(nn.Module):
    """Cross entropy of discs, and where discs are that of their classes and the Huber loss of offsets.

    Every image counts alike, however many columns it shows, so that a batch may be shared among processes.

    Cross entropy of discs alone is a mean over mostly empty pixels, and rare classes are learnt late from it: a
    vacancy is a column before it is a vacancy. Among the pixels of discs, p_c / Σ p_j is the share of class c; the
    cross entropy of these shares has its optimum where that of the discs has its own.

    Args:
        offset_weight: of the Huber loss beside cross entropy.
        delta: offset error from which on the Huber loss is linear, in radii of the discs.
        class_weight: of the cross entropy of classes; without effect where there is one.
    """

    def __init__(self, offset_weight: float = 1.0, delta: float = 0.2, class_weight: float = 1.0) -> None:
        super().__init__()
        self.offset_weight = parse_number("loss.offset_weight", offset_weight, minimum=0.0)
        self.delta = parse_number("loss.delta", delta, minimum=1e-3)
        self.class_weight = parse_number("loss.class_weight", class_weight, minimum=0.0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits and offsets ``(B, C + 2, Y, X)`` against :class:`hrtem.targets.OffsetMaps`."""
        # Split in one piece: the gradient of each slice by itself would fill a whole batch of maps with zeros.
        logits, said = input.split([input.shape[1] - 2, 2], dim=1)
        discs = target[:, :-2]
        located = self._located(logits, discs, said, target[:, -2:])
        if discs.shape[1] == 1 or not self.class_weight:
            return located
        # Its softmax of log p_c is p_c / Σ p_j.
        named = F.cross_entropy(F.logsigmoid(logits), discs.argmax(dim=1), reduction="none")
        return located + self.class_weight * mean_within(named, discs.amax(dim=1))

    def _located(self, logits: Tensor, discs: Tensor, said: Tensor, offsets: Tensor) -> Tensor:
        away = F.huber_loss(said, offsets, delta=self.delta, reduction="none").sum(dim=1)
        # Over delta, so that far offsets count as their length.
        there = mean_within(away / self.delta, discs.amax(dim=1))
        return F.binary_cross_entropy_with_logits(logits, discs) + self.offset_weight * there


class CountedOffsetLoss(OffsetLoss):
    """As :class:`OffsetLoss`, and the loss of the numbers of atoms where discs are.

    Args:
        count: how the network says numbers, see :mod:`hrtem.targets.atom_counts`.
        count_weight: of that loss beside the others.
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
    """Mean of values ``(B, Y, X)`` with weights ``(B, Y, X)``, of each image and then of all."""
    return ((values * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp_min(1.0)).mean()
