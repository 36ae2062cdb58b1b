"""A U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel.

    Unlike batch normalisation it is the same in training and in inference, whatever doses a batch contains. Unlike
    group normalisation its output does not depend on the size of the image or tile.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(B, C, Y, X)``, without copies for channels-last memory.

        In mixed precision it computes in the type of its weights, float32, and returns the type of ``features``: on a
        CPU, normalising 16-bit features with 32-bit weights is slower than converting the features twice.
        """
        pixels = features.permute(0, 2, 3, 1).to(self.weight.dtype)
        return super().forward(pixels).permute(0, 3, 1, 2).to(features.dtype)


def convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """3 x 3 convolution, channel normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        ChannelNorm(out_channels),
        # An in-place ReLU would change a view, and its gradient would be copied three times.
        nn.ReLU(),
    )


class UNet(nn.Module):
    """The U-Net of Ronneberger et al. (arXiv 1505.04597).

    Args:
        in_channels: number of images in a focal series.
        out_channels: number of classes.
        channels: number of features at each level, fine to coarse.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.down = nn.ModuleList(
            nn.Sequential(convolution(narrow, wide), convolution(wide, wide)) for narrow, wide in pairwise(widths)
        )
        pairs = list(zip(channels[1:], channels[:-1], strict=True))[::-1]
        self.reduce = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for wide, narrow in pairs)
        self.up = nn.ModuleList(
            nn.Sequential(convolution(2 * narrow, narrow), convolution(narrow, narrow)) for _, narrow in pairs
        )
        self.head = nn.Conv2d(channels[0], out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, out_channels, Y, X)`` of ``images`` ``(B, in_channels, Y, X)``."""
        features = images
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            features = down(F.max_pool2d(features, 2) if level else features)
            skips.append(features)
        skips.pop()
        for reduce, up in zip(self.reduce, self.up, strict=True):
            # Reducing the channels before upsampling gives the same numbers for a quarter of the work.
            features = F.interpolate(reduce(features), scale_factor=2, mode="nearest")
            features = up(torch.cat([features, skips.pop()], dim=1))
        return self.head(features)
