"""Any network, averaged over the symmetries of the square."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn


class Dihedral(nn.Module):
    """The mean answer of a network to the eight orientations of an image, each turned back.

    Turning or mirroring the image turns or mirrors the answer, whatever the network: this is the Reynolds operator of
    the group. Eight passes cost eight times as much, with the same parameters. The mean is over logits.

    Args:
        network: from ``(B, in_channels, Y, X)`` to ``(B, out_channels, Y, X)``.
        vectors: 2 if the last two channels are a vector along x and y, which turns with the image, else 0.
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
                # What ran along a mirrored axis runs the other way; transposing exchanges x and y.
                x, y = answer[:, -2] * (1 - 2 * (-1 in mirrored)), answer[:, -1] * (1 - 2 * (-2 in mirrored))
                way = torch.stack([y, x] if transposed else [x, y], dim=1)
                answer = torch.cat([answer[:, :-2], way], dim=1)
            answers.append(answer)
        return torch.stack(answers).mean(dim=0)
