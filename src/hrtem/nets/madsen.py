"""The residual network of Madsen et al., arXiv 1802.03008."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution(nn.Sequential):
    """3 x 3 convolution, parametric ReLU, batch normalisation, in the order of the network of 2018."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.PReLU(out_channels, init=0.01),
            nn.BatchNorm2d(out_channels),
        )


class ResidualBlock(nn.Module):
    """A convolution, three convolutions with a short skip connection, and a convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.before = Convolution(in_channels, out_channels)
        self.residual = nn.Sequential(*(Convolution(out_channels, out_channels) for _ in range(3)))
        self.after = Convolution(out_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Output features with as many pixels as ``features`` ``(B, C, Y, X)``."""
        features = self.before(features)
        return self.after(features + self.residual(features))


class Upsampling(nn.Sequential):
    """Transposed 4 x 4 convolution, initialised as bilinear interpolation; parametric ReLU; batch normalisation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        transposed = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
        with torch.no_grad():
            transposed.weight.zero_()
            for channel in range(out_channels):
                transposed.weight[channel, channel] = ramp[:, None] * ramp[None, :]
        super().__init__(transposed, nn.PReLU(out_channels, init=0.01), nn.BatchNorm2d(out_channels))


class MadsenNet(nn.Module):
    """Four levels of residual blocks with additive long skip connections.

    The published network has 32, 64, 128 and 256 features at its four levels: 5,191,393 parameters for a single image
    and a single class.

    Args:
        in_channels: number of images in a focal series.
        out_channels: number of classes.
        features: number of features at the first level; each deeper level doubles it.
    """

    def __init__(self, in_channels: int, out_channels: int, features: int = 32) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(4)]
        self.down = nn.ModuleList(
            ResidualBlock(narrow, wide) for narrow, wide in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.enlarge = nn.ModuleList(Upsampling(wide, narrow) for wide, narrow in pairs)
        self.up = nn.ModuleList(ResidualBlock(narrow, narrow) for _, narrow in pairs)
        self.score = nn.Conv2d(features, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, out_channels, Y, X)`` of ``images`` ``(B, in_channels, Y, X)``."""
        features, skips = images, []
        for level, down in enumerate(self.down):
            features = down(self.pool(features) if level else features)
            skips.append(features)
        skips.pop()
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            features = up(enlarge(features) + skips.pop())
        return self.score(features)
