"""Any network applied to blocks of pixels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hrtem.nets.pointwise import with_pointwise
from hrtem.ranges import parse_whole


class Folded(nn.Module):
    """A network whose input pixels are blocks of ``fold`` x ``fold`` image pixels, stacked as channels.

    No information is lost. If the sampling is finer than the optics requires, the same network costs ``fold``² times
    less and its receptive field is ``fold`` times as wide; compare the focus layer of YOLOv5 and arXiv 1609.05158.

    Args:
        in_channels: number of images in a focal series.
        out_channels: number of maps.
        fold: side of a block, px.
        network: builds the inner network from its own ``in_channels`` and ``out_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, fold: int, network: Callable[..., nn.Module]) -> None:
        super().__init__()
        fold = parse_whole("model.fold", fold, unit="px", minimum=1, maximum=16)
        self.fold = nn.PixelUnshuffle(fold)
        self.network = with_pointwise(network(in_channels=in_channels * fold**2, out_channels=out_channels * fold**2))
        self.unfold = nn.PixelShuffle(fold)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, out_channels, Y, X)`` of ``images`` ``(B, in_channels, Y, X)``."""
        return self.unfold(self.network(self.fold(images)))
