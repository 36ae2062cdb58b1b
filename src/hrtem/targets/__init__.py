"""What a network is to answer, the loss of what it answers, and the ways in which it can say a number of atoms."""

from hrtem.targets.atom_counts import Classes, Normal, Ordinal
from hrtem.targets.losses import CountedOffsetLoss, DiceBCELoss, FocalLoss, OffsetLoss, SigmoidMSELoss
from hrtem.targets.maps import CountedOffsetMaps, GaussianMaps, OffsetMaps, SoftmaxMaps

__all__ = [
    "Classes", "CountedOffsetLoss", "CountedOffsetMaps", "DiceBCELoss", "FocalLoss", "GaussianMaps", "Normal",
    "OffsetLoss", "OffsetMaps", "Ordinal", "SigmoidMSELoss", "SoftmaxMaps",
]  # fmt: skip
