"""Local contrast normalisation: what the network sees of a simulated or a real image."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from hrtem.ranges import Range


class LocalContrast:
    """Subtract the local mean and divide by the local standard deviation.

    Both are Gaussian averages over the neighbourhood and over all images of a focal series, so that the
    ratios within a series are kept. Gain, offset and slow background drop out; windows that the image's
    border cuts are renormalised, so that nothing is assumed of what lies outside.

    Args:
        sigma: standard deviation of the neighbourhood, Å.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = Range.parse("normalisation.sigma", sigma, unit="Å", minimum=0.5, maximum=1000.0).low

    def __call__(self, images: Tensor, sampling: float) -> Tensor:
        """Normalise ``images``, real ``(B, F, Y, X)`` at ``sampling`` Å/px, to the same shape."""
        width = self.sigma / sampling
        images = images - images.mean(dim=(1, 2, 3), keepdim=True)
        spread = images.std(dim=(1, 2, 3), keepdim=True)
        images = images / torch.where(spread > 0, spread, 1.0)
        mean = self._average(images.mean(dim=1, keepdim=True), width)
        variance = self._average(images.square().mean(dim=1, keepdim=True), width) - mean.square()
        # The floor keeps an empty corner of an image from being blown up to pure noise.
        return (images - mean) * variance.clamp_min(1e-4).rsqrt()

    @staticmethod
    def _average(images: Tensor, width: float) -> Tensor:
        rows = _window(images.shape[-2], width, images.device, images.dtype)
        columns = _window(images.shape[-1], width, images.device, images.dtype)
        return rows @ images @ columns.T


@lru_cache(maxsize=8)
def _window(size: int, width: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Matrix ``(size, size)`` of a Gaussian average of ``width`` pixels, each row normalised."""
    index = torch.arange(size, device=device, dtype=dtype)
    weights = torch.exp(-0.5 * ((index[:, None] - index[None, :]) / width) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)
