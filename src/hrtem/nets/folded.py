"""Any network on blocks of pixels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hrtem.nets.pointwise import with_pointwise
from hrtem.ranges import parse_whole


class Folded(nn.Module):
    """A network that sees each block of ``fold`` x ``fold`` pixels as the channels of one.

    Nothing is lost, and at a sampling finer than the optics needs the same network costs ``fold``² times less
    and sees ``fold`` times as far; compare the focus of YOLOv5 and arXiv 1609.05158.

    Args:
        in_channels: images in a focal series.
        out_channels: maps.
        fold: side of a block.
        network: makes the network from its own ``in_channels`` and ``out_channels``.
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
