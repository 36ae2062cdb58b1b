"""What the network is to answer: maps with a Gaussian on every column."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hrtem.errors import InputError
from hrtem.ranges import Range


class GaussianMaps:
    """One map a class, with a Gaussian of height 1 at each of its columns.

    Args:
        channels: number of classes.
        sigma: standard deviation of the Gaussians, Å.
    """

    def __init__(self, channels: int, sigma: float) -> None:
        if channels < 1:
            raise InputError(f"target.channels must be at least 1, got {channels}.")
        self.channels = channels
        self.sigma = Range.parse("target.sigma", sigma, unit="Å", minimum=0.02, maximum=5.0).low

    def __call__(
        self, positions: Tensor, labels: Tensor, shape: tuple[int, int] | torch.Size, sampling: float
    ) -> Tensor:
        """Draw the maps of a batch.

        Args:
            positions: ``(B, N, 2)`` (x, y) in Å from the centre of pixel ``[0, 0]``.
            labels: ``(B, N)`` class indices; negative entries fill the batch up and are skipped.
            shape: (Y, X) of the maps.
            sampling: Å/px.

        Returns:
            Real ``(B, channels, Y, X)`` in [0, 1]. Where Gaussians meet, the higher one counts.
        """
        rows, columns = shape
        reach = math.ceil(4.0 * self.sigma / sampling)
        example, number = torch.nonzero(labels >= 0, as_tuple=True)
        where = positions[example, number] / sampling
        nearest = where.round().long()
        last = torch.tensor([columns, rows], device=where.device) - 1
        seen = ((nearest >= -reach) & (nearest <= last + reach)).all(dim=1)
        where, nearest = where[seen], nearest[seen]
        plane = (example * self.channels + labels[example, number])[seen]
        pixels = nearest[:, :, None] + torch.arange(-reach, reach + 1, device=where.device)
        # A Gaussian is the product of one along x and one along y: two rows of exponentials instead of a square.
        along = torch.exp(-0.5 * (pixels - where[:, :, None]) ** 2 * (sampling / self.sigma) ** 2)
        values = along[:, 1, :, None] * along[:, 0, None, :]
        # Maps with a border as wide as any Gaussian, so that none has to be cut.
        border = 2 * reach
        high, wide = rows + 2 * border, columns + 2 * border
        index = (plane[:, None, None] * high + pixels[:, 1, :, None] + border) * wide + pixels[:, 0, None, :] + border
        maps = torch.zeros(positions.shape[0] * self.channels * high * wide, device=where.device)
        maps.scatter_reduce_(0, index.flatten(), values.flatten().to(maps.dtype), "amax")
        maps = maps.reshape(-1, self.channels, high, wide)
        return maps[..., border : border + rows, border : border + columns].contiguous()
