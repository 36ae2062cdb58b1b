"""Target maps of the network: a Gaussian, a disc or a number of atoms at every column.

A target draws its maps from columns and converts the network's logits to maps (``maps``). Its attribute ``answers``
names the kind of maps; peak finders whose attribute ``reads`` has the same value can read them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hrtem.errors import InputError
from hrtem.ranges import parse_number, parse_whole
from hrtem.targets.atom_counts import Classes


class GaussianMaps:
    """One map per class, with a Gaussian of height 1 at each column of the class.

    Args:
        channels: number of classes.
        sigma: standard deviation of the Gaussians, Å.
    """

    #: Kind of the maps; peak finders of another kind are refused.
    answers = "classes"
    #: Number of last channels that are the x and y components of a vector, which rotates with the image.
    vectors = 0

    def __init__(self, channels: int, sigma: float) -> None:
        channels = parse_whole("target.channels", channels, minimum=1, maximum=4096)
        #: Number of first maps that belong to classes. Pictures of the output show these maps; the other maps, such as
        #: offsets and numbers of atoms, are valid only where these maps show a column.
        self.channels = self.classes = channels
        self.sigma = parse_number("target.sigma", sigma, unit="Å", minimum=0.02, maximum=5.0)

    def __call__(
        self,
        positions: Tensor,
        labels: Tensor,
        shape: tuple[int, int] | torch.Size,
        sampling: float,
        atoms: Tensor | None = None,
    ) -> Tensor:
        """Draw the maps of a batch.

        Args:
            positions: ``(B, N, 2)`` (x, y) in Å from the centre of pixel ``[0, 0]``.
            labels: ``(B, N)`` class indices; negative entries are padding and are skipped.
            shape: (Y, X) of the maps.
            sampling: Å/px.
            atoms: ``(B, N)`` atoms in each column, 0 where unknown; only targets that count atoms use it.

        Returns:
            Real ``(B, channels, Y, X)`` in [0, 1]. Where Gaussians overlap, the larger value is taken.
        """
        return self._drawn(positions, labels, shape, sampling)

    def maps(self, logits: Tensor) -> Tensor:
        """Probability maps ``(B, C, Y, X)`` of the network's logits ``(B, channels, Y, X)``."""
        return logits.sigmoid()

    def check(self, loss: torch.nn.Module) -> None:
        """Refuse a loss that does not fit the maps.

        Raises:
            InputError: the loss combines the channels instead of treating each map by itself.
        """
        if isinstance(loss, torch.nn.CrossEntropyLoss) or hasattr(loss, "offset_weight"):
            raise InputError(f"task.loss must be one of single maps, such as loss=bce, got {type(loss).__name__}.")

    def _drawn(self, positions: Tensor, labels: Tensor, shape: tuple[int, int] | torch.Size, sampling: float) -> Tensor:
        near = _windows(positions, labels, shape, sampling, 4.0 * self.sigma)
        # A two-dimensional Gaussian is the product of two one-dimensional Gaussians: fewer exponentials.
        along = torch.exp(-0.5 * near.away**2 * (sampling / self.sigma) ** 2)
        values = along[:, 1, :, None] * along[:, 0, None, :]
        plane = near.example * self.channels + near.label
        index = plane[:, None, None] * (near.high * near.wide) + near.pixel
        maps = torch.zeros(positions.shape[0] * self.channels * near.high * near.wide, device=positions.device)
        maps.scatter_reduce_(0, index.flatten(), values.flatten().to(maps.dtype), "amax")
        return near.cut(maps.reshape(-1, self.channels, near.high, near.wide), shape)


class SoftmaxMaps(GaussianMaps):
    """One Gaussian map per class and a last map of the background; the maps add up to 1 at every pixel.

    The cross entropy with these soft targets is proper too, so that masses stay probabilities.

    Args:
        channels: number of classes plus 1 for the background.
        sigma: standard deviation of the Gaussians, Å.
    """

    def __init__(self, channels: int, sigma: float) -> None:
        super().__init__(channels, sigma)
        self.classes = channels - 1

    def __call__(
        self,
        positions: Tensor,
        labels: Tensor,
        shape: tuple[int, int] | torch.Size,
        sampling: float,
        atoms: Tensor | None = None,
    ) -> Tensor:
        """Draw the maps of a batch, which add up to 1 at every pixel; see :class:`GaussianMaps`."""
        maps = self._drawn(positions, labels, shape, sampling)
        # The last channel is still empty. Where Gaussians of two classes overlap, they share the pixel.
        maps = maps / maps.sum(dim=1, keepdim=True).clamp_min(1.0)
        maps[:, -1] = 1.0 - maps.sum(dim=1)
        return maps

    def maps(self, logits: Tensor) -> Tensor:
        """Probability maps ``(B, channels - 1, Y, X)`` of the classes, without the background."""
        return logits.softmax(dim=1)[:, :-1]

    def check(self, loss: torch.nn.Module) -> None:
        """Refuse a loss that does not fit the maps; raises InputError."""
        if not isinstance(loss, torch.nn.CrossEntropyLoss):
            raise InputError(f"task.loss must be loss=softmax for target=gaussian_softmax, got {type(loss).__name__}.")


class OffsetMaps:
    """One map per class with a disc at every column, and two maps of the offset from each disc pixel to its column.

    Args:
        channels: number of classes plus 2 for the offsets along x and y.
        radius: radius of the discs, Å; the offsets are in units of this radius.
    """

    answers = "offsets"
    vectors = 2

    def __init__(self, channels: int, radius: float) -> None:
        channels = parse_whole("target.channels", channels, minimum=1, maximum=4096)
        if channels < 3:
            raise InputError(f"target.channels must be at least 3, a class and two offsets, got {channels}.")
        self.channels = channels
        self.classes = channels - 2
        self.radius = parse_number("target.radius", radius, unit="Å", minimum=0.05, maximum=5.0)

    def __call__(
        self,
        positions: Tensor,
        labels: Tensor,
        shape: tuple[int, int] | torch.Size,
        sampling: float,
        atoms: Tensor | None = None,
    ) -> Tensor:
        """Draw the maps of a batch; the arguments are those of :class:`GaussianMaps`.

        Returns:
            Real ``(B, channels, Y, X)``: discs in [0, 1] with a rim one pixel wide, then the offsets to the nearest
            column along x and y divided by the radius, 0 where there is no disc.
        """
        near = _windows(positions, labels, shape, sampling, self.radius + sampling)
        x, y = torch.broadcast_tensors(near.away[:, 0, None, :], near.away[:, 1, :, None])
        distance = torch.hypot(x, y)
        size = near.high * near.wide
        classes = self.classes
        disc = (0.5 + self.radius / sampling - distance).clamp(0.0, 1.0)
        plane = near.example * classes + near.label
        discs = torch.zeros(len(positions) * classes * size, device=positions.device)
        index = plane[:, None, None] * size + near.pixel
        discs.scatter_reduce_(0, index.flatten(), disc.flatten().to(discs.dtype), "amax")
        # Each pixel belongs to the nearest column, whatever the class.
        index = near.example[:, None, None] * size + near.pixel
        nearest = torch.full((len(positions) * size,), torch.inf, device=positions.device)
        nearest.scatter_reduce_(0, index.flatten(), distance.flatten().to(nearest.dtype), "amin")
        mine = (distance.to(nearest.dtype) == nearest[index]) & (disc > 0.0)
        offsets = (-away * (sampling / self.radius) for away in (x, y))
        owned = [*(value.expand_as(distance) for value in self._facts(near, labels, atoms)), *offsets]
        facts = torch.zeros(len(positions), len(owned), size, device=positions.device)
        where = torch.div(index[mine], size, rounding_mode="floor"), index[mine] % size
        for channel, value in enumerate(owned):
            facts[where[0], channel, where[1]] = value[mine].to(facts.dtype)
        maps = torch.cat([discs.reshape(-1, classes, size), facts], dim=1)
        return near.cut(maps.reshape(len(positions), -1, near.high, near.wide), shape)

    def _facts(self, near: _Windows, labels: Tensor, atoms: Tensor | None) -> list[Tensor]:
        """Further maps before the offsets: values of the pixel's column, which broadcast to ``(W, S, S)``."""
        return []

    def maps(self, logits: Tensor) -> Tensor:
        """Probabilities of the discs, then the offsets in Å, ``(B, channels, Y, X)``."""
        return torch.cat([logits[:, :-2].sigmoid(), self.radius * logits[:, -2:]], dim=1)

    def check(self, loss: torch.nn.Module) -> None:
        """Refuse a loss that does not fit the maps; raises InputError."""
        if not hasattr(loss, "offset_weight") or hasattr(loss, "count_weight"):
            raise InputError(f"task.loss must be loss=offsets for target=offsets, got {type(loss).__name__}.")


class CountedOffsetMaps(OffsetMaps):
    """A disc at every column, the number of atoms in the column, and the offset from each disc pixel to the column.

    The maps are ``(B, 4, Y, X)``: discs, number of atoms in the nearest column (0 where unknown), and two offsets. A
    batch in which no number of atoms is known is refused with an InputError.

    Args:
        channels: channels of the network: 1 for the discs, those of ``count``, and 2 for the offsets.
        radius: see :class:`OffsetMaps`.
        count: representation of the number of atoms, see :mod:`hrtem.targets.atom_counts`.
        classes: number of classes of the sample; must be 1.
    """

    answers = "counted offsets"

    def __init__(self, channels: int, radius: float, count: Classes, classes: int = 1) -> None:
        super().__init__(channels, radius)
        if classes != 1:
            raise InputError(f"target counts atoms of one class, as in sample=gold, and sample.classes has {classes}.")
        if channels != count.channels + 3:
            raise InputError(
                f"target.channels must be {count.channels + 3}, a disc, {count.channels} to count with and two "
                f"offsets, got {channels}."
            )
        self.classes = 1
        self.count = count

    def maps(self, logits: Tensor) -> Tensor:
        """Probabilities of the discs and of each number of atoms, offsets in Å, ``(B, 1 + largest + 2, Y, X)``."""
        counts = self.count.probabilities(logits[:, 1:-2])
        return torch.cat([logits[:, :1].sigmoid(), counts, self.radius * logits[:, -2:]], dim=1)

    def check(self, loss: torch.nn.Module) -> None:
        """Refuse a loss that does not fit the maps; raises InputError."""
        if not hasattr(loss, "count_weight"):
            raise InputError(
                f"task.loss must be loss=counted_offsets for a target that counts, got {type(loss).__name__}."
            )

    def _facts(self, near: _Windows, labels: Tensor, atoms: Tensor | None) -> list[Tensor]:
        if atoms is None or bool((labels >= 0).any() & (atoms <= 0).all()):
            raise InputError("target counts atoms, and the sample does not say how many its columns have.")
        return [atoms[near.example, near.number][:, None, None]]


class _Windows(NamedTuple):
    """Squares of pixels around W columns, in maps whose border is so wide that no square is cut."""

    example: Tensor  # (W,) index of the example in the batch
    number: Tensor  # (W,) index of the column in the example
    label: Tensor  # (W,) class index
    away: Tensor  # (W, 2, S) px from the column to the pixels along x and y
    pixel: Tensor  # (W, S, S) index into a flattened map of (high, wide)
    high: int
    wide: int
    border: int

    def cut(self, maps: Tensor, shape: tuple[int, int] | torch.Size) -> Tensor:
        """``maps`` ``(B, C, high, wide)`` without the border."""
        rows, columns = shape
        return maps[..., self.border : self.border + rows, self.border : self.border + columns].contiguous()


def _windows(
    positions: Tensor, labels: Tensor, shape: tuple[int, int] | torch.Size, sampling: float, radius: float
) -> _Windows:
    """Squares of pixels within ``radius`` Å of each column near enough to contribute to the maps."""
    rows, columns = shape
    reach = math.ceil(radius / sampling)
    example, number = torch.nonzero(labels >= 0, as_tuple=True)
    where = positions[example, number] / sampling
    nearest = where.round().long()
    last = torch.tensor([columns, rows], device=where.device) - 1
    seen = ((nearest >= -reach) & (nearest <= last + reach)).all(dim=1)
    where, nearest, example, number = where[seen], nearest[seen], example[seen], number[seen]
    pixels = nearest[:, :, None] + torch.arange(-reach, reach + 1, device=where.device)
    border = 2 * reach
    high, wide = rows + 2 * border, columns + 2 * border
    pixel = (pixels[:, 1, :, None] + border) * wide + pixels[:, 0, None, :] + border
    away = pixels - where[:, :, None]
    return _Windows(example, number, labels[example, number], away, pixel, high, wide, border)
