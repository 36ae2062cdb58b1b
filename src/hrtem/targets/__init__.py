"""Target maps for the network, losses on its output, and representations of the number of atoms in a column."""

from hrtem.targets.atom_counts import Classes, Normal, Ordinal
from hrtem.targets.losses import CountedOffsetLoss, DiceBCELoss, FocalLoss, OffsetLoss, SigmoidMSELoss
from hrtem.targets.maps import CountedOffsetMaps, GaussianMaps, OffsetMaps, SoftmaxMaps

__all__ = [
    "Classes", "CountedOffsetLoss", "CountedOffsetMaps", "DiceBCELoss", "FocalLoss", "GaussianMaps", "Normal",
    "OffsetLoss", "OffsetMaps", "Ordinal", "SigmoidMSELoss", "SoftmaxMaps",
]  # fmt: skip
