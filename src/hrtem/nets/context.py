"""A residual network with access to the mean features of a neighbourhood."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from monai.networks.nets import SegResNet
from torch import Tensor, nn


class LocalMean(nn.Module):
    """Add to the features a learnt function of their mean over a surrounding square.

    Tilt, defocus and thickness are common to all columns of a particle, and the count of atoms depends on all three.
    Convolutions spread this information step by step; a local mean provides it at once. The square has a fixed size, so
    that the output depends neither on the size of the image nor on its division into tiles. Before training the added
    term is zero.

    Args:
        channels: channels of the features.
        reach: distance from the centre of the square to its sides, in pixels of the features.
    """

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)
        )
        for parameter in self.mix[2].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Output features ``(B, C, Y, X)`` for input ``features`` of the same shape."""
        # The mean over a square separates into means along columns and along rows; padding does not count.
        mean = features
        for size, padding in (((2 * self.reach + 1, 1), (self.reach, 0)), ((1, 2 * self.reach + 1), (0, self.reach))):
            mean = F.avg_pool2d(mean, size, stride=1, padding=padding, count_include_pad=False)
        return features + self.mix(mean)


class ContextSegResNet(SegResNet):
    """MONAI's residual encoder and decoder with :class:`LocalMean` between them.

    Args:
        reach: see :class:`LocalMean`, in pixels of the deepest level.
        init_filters, blocks_down, segresnet: arguments of :class:`monai.networks.nets.SegResNet`.
    """

    def __init__(self, reach: int, init_filters: int, blocks_down: tuple[int, ...], **segresnet: Any) -> None:
        super().__init__(init_filters=init_filters, blocks_down=tuple(blocks_down), **segresnet)
        self.surroundings = LocalMean(init_filters * 2 ** (len(blocks_down) - 1), reach)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of the deepest level, and the list of features of all levels."""
        deepest, levels = super().encode(x)
        return self.surroundings(deepest), levels
