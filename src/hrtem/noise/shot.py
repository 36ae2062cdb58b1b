"""Random numbers of a batch, each example from a generator of its own seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Electrons per pixel from which the fast approximation serves, see :func:`poisson`.
MANY = 30.0


def poisson(mean: Tensor, seeds: Tensor) -> Tensor:
    """Poisson random numbers of any ``mean`` ``(B, ...)``, whole numbers of the same shape.

    Rejection sampling takes longer than all of the optics. From a mean of :data:`MANY` up a rounded normal
    number with the Cornish-Fisher corrections of the Poisson distribution (Abramowitz & Stegun, 26.2.49) takes its
    place; the variance that rounding adds is taken off first. Tests can't tell the two apart in 10⁶ numbers.
    """
    mean = mean.clamp(max=1e9)
    z = normal(mean, seeds)
    width = (mean - 1.0 / 12.0).clamp_min(1.0).sqrt()
    excess = (z * z).sub_(1.0)
    counts = torch.addcmul(mean, width, z).add_(excess, alpha=1.0 / 6.0)
    counts = counts.addcdiv_(excess.mul_(z), width, value=-1.0 / 72.0).round_()
    few = mean < MANY
    if not bool(few.any()):
        return counts
    exact = _each(mean.where(few, 0.0), seeds, lambda image, generator: torch.poisson(image, generator=generator))
    return torch.where(few, exact, counts)


def normal(like: Tensor, seeds: Tensor) -> Tensor:
    """Standard normal numbers of the shape of ``like`` ``(B, ...)``."""
    numbers = torch.empty_like(like)
    generator = torch.Generator(device=like.device)
    for image, seed in zip(numbers, seeds.tolist(), strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    return numbers


def _each(images: Tensor, seeds: Tensor, make: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
    """Apply ``make`` to each of ``images`` ``(B, ...)`` with a generator of its own seed ``(B,)``."""
    generator = torch.Generator(device=images.device)
    seeded = zip(images, seeds.tolist(), strict=True)
    return torch.stack([make(image, generator.manual_seed(seed)) for image, seed in seeded])
