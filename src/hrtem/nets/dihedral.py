"""Any network, averaged over the symmetries of the square."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn


class Dihedral(nn.Module):
    """Mean output of a network over the eight orientations of an image, each output transformed back.

    The output of any network becomes equivariant: it rotates and mirrors with the image. This is the Reynolds operator
    of the dihedral group. Eight passes cost eight times as much, with the same parameters. The mean is over logits.

    Args:
        network: from ``(B, in_channels, Y, X)`` to ``(B, out_channels, Y, X)``.
        vectors: 2 if the last two channels are the x and y components of a vector, which rotates with the image;
            else 0.
    """

    def __init__(self, network: nn.Module, vectors: int = 0) -> None:
        super().__init__()
        self.network = network
        self.vectors = vectors

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, out_channels, Y, X)`` of ``images`` ``(B, in_channels, Y, X)``."""
        answers = []
        for transposed, mirrored in product((False, True), ((), (-1,), (-2,), (-2, -1))):
            turned = (images.mT if transposed else images).flip(mirrored)
            answer = self.network(turned.contiguous(memory_format=torch.channels_last)).flip(mirrored)
            answer = answer.mT if transposed else answer
            if self.vectors:
                # Mirroring an axis changes the sign of this component; transposing exchanges x and y.
                x, y = answer[:, -2] * (1 - 2 * (-1 in mirrored)), answer[:, -1] * (1 - 2 * (-2 in mirrored))
                way = torch.stack([y, x] if transposed else [x, y], dim=1)
                answer = torch.cat([answer[:, :-2], way], dim=1)
            answers.append(answer)
        return torch.stack(answers).mean(dim=0)
