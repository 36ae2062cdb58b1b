"""Random numbers for a batch, with a separately seeded generator for each example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Smallest number of electrons per pixel for the fast approximation, see :func:`poisson`.
MANY = 30.0


def poisson(mean: Tensor, seeds: Tensor) -> Tensor:
    """Draw Poisson random numbers of any ``mean`` ``(B, ...)``, whole numbers of the same shape.

    Rejection sampling takes longer than all of the optics. For means of :data:`MANY` and above, it is replaced by a
    rounded normal number with the Cornish-Fisher corrections of the Poisson distribution (Abramowitz & Stegun,
    26.2.49); the variance added by rounding is subtracted beforehand. Statistical tests with 10⁶ numbers do not
    distinguish the two.
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
    """Draw standard normal random numbers in the shape of ``like`` ``(B, ...)``."""
    numbers = torch.empty_like(like)
    generator = torch.Generator(device=like.device)
    for image, seed in zip(numbers, seeds.tolist(), strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    return numbers


def _each(images: Tensor, seeds: Tensor, make: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
    """Apply ``make`` to each of ``images`` ``(B, ...)`` with a generator seeded by its entry in ``seeds`` ``(B,)``."""
    generator = torch.Generator(device=images.device)
    seeded = zip(images, seeds.tolist(), strict=True)
    return torch.stack([make(image, generator.manual_seed(seed)) for image, seed in seeded])
