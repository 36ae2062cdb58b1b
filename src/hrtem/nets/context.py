"""A residual network that knows what is common to a whole neighbourhood."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from monai.networks.nets import SegResNet
from torch import Tensor, nn


class LocalMean(nn.Module):
    """Adds to features what follows from their mean over a square around each of them.

    Tilt, defocus and thickness are common to all columns of a particle, and a count depends on each of them.
    Convolutions carry such knowledge only step by step; a mean brings it at once. The square has a fixed size, so that
    an answer depends neither on the size of the image nor on how it is cut into tiles. Before any training nothing is
    added.

    Args:
        channels: of the features.
        reach: from the middle of the square to its sides, in pixels of the features.
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
        """Features ``(B, C, Y, X)`` of ``features`` of the same shape."""
        # The mean over a square is that over rows of that over columns; beyond the border there is nothing to count.
        mean = features
        for size, padding in (((2 * self.reach + 1, 1), (self.reach, 0)), ((1, 2 * self.reach + 1), (0, self.reach))):
            mean = F.avg_pool2d(mean, size, stride=1, padding=padding, count_include_pad=False)
        return features + self.mix(mean)


class ContextSegResNet(SegResNet):
    """MONAI's residual encoder and decoder with :class:`LocalMean` between them.

    Args:
        reach: see :class:`LocalMean`, in pixels of the deepest level.
        init_filters, blocks_down, segresnet: of :class:`monai.networks.nets.SegResNet`.
    """

    def __init__(self, reach: int, init_filters: int, blocks_down: tuple[int, ...], **segresnet: Any) -> None:
        super().__init__(init_filters=init_filters, blocks_down=tuple(blocks_down), **segresnet)
        self.surroundings = LocalMean(init_filters * 2 ** (len(blocks_down) - 1), reach)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of the deepest level, and those of each level."""
        deepest, levels = super().encode(x)
        return self.surroundings(deepest), levels
