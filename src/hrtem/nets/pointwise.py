"""Convolutions of one pixel as products of matrices."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Pointwise(nn.Conv2d):
    """A convolution of one pixel.

    In one thread torch computes such a convolution by a path that copies all features to another layout and back, which
    takes a fifth of a training step. As a product of matrices over the channels, which lie last in memory, nothing is
    copied. Weights and their names are those of :class:`torch.nn.Conv2d`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, C', Y, X)`` of ``features`` ``(B, C, Y, X)``."""
        return F.linear(features.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def with_pointwise(network: nn.Module) -> nn.Module:
    """The same ``network``, changed in place: its convolutions of one pixel are :class:`Pointwise`."""
    for module in network.modules():
        if type(module) is nn.Conv2d and set(module.kernel_size) == set(module.stride) == {1} and module.groups == 1:
            module.__class__ = Pointwise
    return network


def with_convolutions(network: nn.Module) -> nn.Module:
    """The opposite of :func:`with_pointwise`."""
    for module in network.modules():
        if type(module) is Pointwise:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
    return network
