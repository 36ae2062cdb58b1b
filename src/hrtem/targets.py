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
        batch = positions.shape[0]
        maps = torch.zeros(batch * self.channels * rows * columns, device=positions.device)
        example, number = torch.nonzero(labels >= 0, as_tuple=True)
        where = positions[example, number] / sampling
        plane = example * self.channels + labels[example, number]
        reach = math.ceil(4.0 * self.sigma / sampling)
        offset = torch.arange(-reach, reach + 1, device=positions.device)
        nearest = where.round().long()
        x = nearest[:, 0, None, None] + offset[None, None, :]
        y = nearest[:, 1, None, None] + offset[None, :, None]
        distance2 = (x - where[:, 0, None, None]) ** 2 + (y - where[:, 1, None, None]) ** 2
        value = torch.exp(-0.5 * distance2 * (sampling / self.sigma) ** 2)
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        index = (plane[:, None, None] * rows + y) * columns + x
        maps.scatter_reduce_(0, index[inside], value[inside].to(maps.dtype), "amax")
        return maps.reshape(batch, self.channels, rows, columns)
