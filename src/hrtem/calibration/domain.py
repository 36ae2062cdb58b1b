"""Comparison of an image with the training images of a network; the output for an unlike image is not reliable."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

#: Edges of bands of spatial frequency, 1/Å: narrow enough to resolve lattice fringes, and not beyond the Nyquist
#: frequency of a coarsely sampled micrograph.
EDGES = (0.05, 0.15, 0.25, 0.35, 0.42, 0.5, 0.6, 0.7, 0.78, 0.86, 0.95, 1.1, 1.3, 1.6)
#: Number of features of an image: one for each band, skewness and kurtosis.
FEATURES = len(EDGES) - 1 + 2
#: Number of training images from which a task learns its domain.
EXAMPLES = 400
#: Smallest number of training images for a domain; with fewer it stays unknown.
ENOUGH = 8 * FEATURES
#: Number of stored quantiles of the distances of training images, from the smallest to the largest distance.
QUANTILES = 201
#: An image is out of the domain if less than this share of the training images is as far from their mean.
LEAST = 0.02
#: Largest number of pieces of an image that are compared with the training images.
PIECES = 64


def features(images: Tensor, sampling: float) -> Tensor:
    """Features of focal series, ``(B, FEATURES)``, for comparison with the training images.

    The features are the logarithm of the share of the power in rings between :data:`EDGES`, over all images of a
    series, then the skewness and the logarithm of the kurtosis.

    Args:
        images: normalised ``(B, F, Y, X)``.
        sampling: Å/px.
    """
    images = images.double()
    images = images - images.mean(dim=(-2, -1), keepdim=True)
    rows, columns = images.shape[-2:]
    window = torch.outer(_hann(rows, images), _hann(columns, images))
    power = torch.fft.fft2(images * window).abs().square().mean(dim=1)
    frequency = torch.hypot(
        torch.fft.fftfreq(rows, sampling, device=images.device)[:, None],
        torch.fft.fftfreq(columns, sampling, device=images.device)[None],
    )
    edges = pairwise(EDGES)
    # Small images may have no frequency in the lowest rings; these rings are then empty in all images.
    rings = [power[:, (frequency >= low) & (frequency < high)].sum(dim=1) for low, high in edges]
    whole = power.sum(dim=(1, 2)).clamp_min(1e-30)
    share = (torch.stack(rings, dim=1) / whole[:, None]).clamp_min(1e-6).log()
    variance = images.square().mean(dim=(1, 2, 3)).clamp_min(1e-30)
    skewness = images.pow(3).mean(dim=(1, 2, 3)) / variance**1.5
    kurtosis = images.pow(4).mean(dim=(1, 2, 3)) / variance**2
    return torch.cat([share, torch.stack([skewness, kurtosis.clamp_min(1e-6).log()], dim=1)], dim=1)


def _hann(size: int, like: Tensor) -> Tensor:
    return torch.hann_window(size, dtype=like.dtype, device=like.device)


class Domain(torch.nn.Module):
    """Distribution of the training images: mean and covariance of their features, and their distances from the mean.

    Distances are Mahalanobis distances. Their distribution is not assumed to be that of a Gaussian but taken from
    quantiles of the training images. All values are buffers, so that checkpoints contain them; without training images
    the domain is unknown.
    """

    side: Tensor
    mean: Tensor
    precision: Tensor
    distances: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("side", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(FEATURES, dtype=torch.float64))
        self.register_buffer("precision", torch.zeros(FEATURES, FEATURES, dtype=torch.float64))
        self.register_buffer("distances", torch.full((QUANTILES,), torch.nan, dtype=torch.float64))

    @property
    def known(self) -> bool:
        """Whether the domain has been fitted to training images."""
        return bool(self.distances.isfinite().all())

    def fit(self, values: Tensor, side: int) -> None:
        """Fit the domain to training images; with fewer than :data:`ENOUGH` images it stays as it is.

        Args:
            values: features of the images ``(N, FEATURES)``.
            side: side of the images, px.
        """
        if len(values) < ENOUGH:
            return
        self.side.fill_(side)
        # Half of the images give mean and covariance, the other half the distances of images independent of these.
        values, others = values[::2], values[1::2]
        self.mean.copy_(values.mean(dim=0))
        # A feature that is constant in all images must not make the distance of another value infinite.
        floor = 1e-4 * torch.eye(FEATURES, dtype=values.dtype, device=values.device)
        self.precision.copy_(torch.linalg.inv(torch.cov(values.T) + floor))
        share = torch.linspace(0.0, 1.0, QUANTILES, dtype=values.dtype, device=values.device)
        self.distances.copy_(torch.quantile(self.distance(others), share))

    def distance(self, values: Tensor) -> Tensor:
        """Mahalanobis distance ``(N,)`` of features ``(N, FEATURES)`` from the mean of the training images."""
        off = values.to(self.mean) - self.mean
        return torch.einsum("ni,ij,nj->n", off, self.precision, off).clamp_min(0.0).sqrt()

    def tail(self, values: Tensor) -> Tensor:
        """Share ``(N,)`` of training images at least as far from their mean as the features ``(N, FEATURES)``.

        The domain must be known.
        """
        return 1.0 - torch.searchsorted(self.distances, self.distance(values)).clamp_max(QUANTILES - 1) / (
            QUANTILES - 1
        )

    def likeness(self, images: Tensor, sampling: float) -> float | None:
        """Median of :meth:`tail` over pieces of an image of any size, each as large as a training image.

        Args:
            images: normalised ``(1, F, Y, X)``.
            sampling: Å/px.

        Returns:
            A number in [0, 1], or None if the domain is not known.
        """
        if not self.known:
            return None
        side = int(self.side)
        return self.likeness_of(
            (images[..., top : top + side, left : left + side] for top, left in place_windows(images.shape[-2:], side)),
            sampling,
        )

    def likeness_of(self, pieces: Iterable[Tensor], sampling: float) -> float:
        """Median of :meth:`tail` over pieces ``(1, F, h, w)`` of an image; the domain must be known."""
        return float(torch.cat([self.tail(features(piece, sampling)) for piece in pieces]).median())


def place_windows(shape: tuple[int, int] | torch.Size, side: int, valid: Tensor | None = None) -> list[tuple[int, int]]:
    """First pixels (top, left) of at most :data:`PIECES` pieces of ``side`` px, spread evenly over an image (Y, X).

    With pixels that are not ``valid``, bool ``(Y, X)``, only the pieces with the largest share of valid pixels count.
    """
    rows, columns = shape
    step = side if valid is None else max(1, side // 4)
    grid = [
        (top, left)
        for top in range(0, max(1, rows - side + 1), step)
        for left in range(0, max(1, columns - side + 1), step)
    ]
    if valid is not None:
        shares = [float(valid[top : top + side, left : left + side].float().mean()) for top, left in grid]
        grid = [place for place, share in zip(grid, shares, strict=True) if share >= max(shares) - 0.01]
    number = min(len(grid), PIECES)
    return [grid[(index * len(grid)) // number] for index in range(number)]
