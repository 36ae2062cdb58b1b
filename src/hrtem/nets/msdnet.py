"""The mixed-scale dense network of Pelt and Sethian."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MSDNet(nn.Module):
    """Densely connected layers of a few channels each, with cyclic dilations (PNAS 115, 254 (2018)).

    There is no pooling: all layers work at full resolution. The input of a layer is the images and the outputs of all
    previous layers.

    Args:
        in_channels: number of images in a focal series.
        out_channels: number of classes.
        depth: number of layers.
        width: number of channels of each layer.
        dilations: dilations of successive layers, repeated over the depth.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 24,
        width: int = 2,
        dilations: tuple[int, ...] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for layer in range(depth):
            dilation = dilations[layer % len(dilations)]
            self.layers.append(
                nn.Sequential(
                    nn.Conv2d(in_channels + layer * width, width, 3, padding=dilation, dilation=dilation, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                )
            )
        self.score = nn.Conv2d(in_channels + depth * width, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, out_channels, Y, X)`` of ``images`` ``(B, in_channels, Y, X)``."""
        features = images
        for layer in self.layers:
            features = torch.cat([features, layer(features)], dim=1)
        return self.score(features)
