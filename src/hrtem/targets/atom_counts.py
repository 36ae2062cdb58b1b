"""Three representations of the number of atoms in a column: classes, ordinal logits, and a normal distribution.

Each class has a number of ``channels`` and a ``loss`` on them, and computes ``probabilities`` of 1, 2, … ``largest``
atoms. All three losses are proper: their optimum is the true distribution, or its best normal approximation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.ranges import parse_whole


class Classes:
    """Classification: one logit for each number of atoms, trained with categorical cross entropy.

    Args:
        largest: largest number of atoms with a class of its own; columns with more atoms are assigned to this class.
    """

    def __init__(self, largest: int) -> None:
        self.largest = parse_whole("target.count.largest", largest, unit="atoms", minimum=2, maximum=1000)
        self.channels = self.largest

    def loss(self, logits: Tensor, atoms: Tensor) -> Tensor:
        """Loss ``(B, Y, X)`` of logits ``(B, channels, Y, X)`` for true numbers ``atoms`` ``(B, Y, X)``, from 1 up."""
        return F.cross_entropy(logits, atoms.long().clamp(1, self.largest) - 1, reduction="none")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(B, largest, Y, X)`` of 1, 2, … atoms where there is a column."""
        return logits.softmax(dim=1)


class Ordinal(Classes):
    """Ordinal classification: the k-th logit is that of "more than k atoms".

    A count that is wrong by one atom is wrong in a single logit.

    E. Frank and M. Hall, A simple approach to ordinal classification, ECML 2001.

    Args:
        largest: see :class:`Classes`.
    """

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self.channels = self.largest - 1

    def loss(self, logits: Tensor, atoms: Tensor) -> Tensor:
        """Sum of the binary cross entropies of the logits; see :class:`Classes`."""
        k = torch.arange(1, self.largest, device=atoms.device)[:, None, None]
        more = (atoms[:, None] > k).to(logits)
        return F.binary_cross_entropy_with_logits(logits, more, reduction="none").sum(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(B, largest, Y, X)`` of 1, 2, … atoms where there is a column."""
        # "More than k + 1 atoms" cannot be more probable than "more than k atoms"; the network does not guarantee it.
        more = F.pad(logits.sigmoid().cummin(dim=1).values, (0, 0, 0, 0, 1, 0), value=1.0)
        return more - F.pad(more[:, 1:], (0, 0, 0, 0, 0, 1))


class Normal(Classes):
    """Regression: mean and logarithm of the standard deviation of a normal distribution of the number of atoms.

    D. Nix and A. Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994.

    Args:
        largest: see :class:`Classes`.
    """

    #: Smallest standard deviation, atoms. The counts are integers and cannot constrain smaller values.
    LEAST = 0.2

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self.channels = 2

    def loss(self, logits: Tensor, atoms: Tensor) -> Tensor:
        """Negative logarithm of the normal density; see :class:`Classes`."""
        mean, sigma = self._moments(logits)
        return 0.5 * ((atoms.clamp(1, self.largest) - mean) / sigma) ** 2 + sigma.log()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(B, largest, Y, X)`` of 1, 2, … atoms where there is a column.

        The probability of a number is the integral of the density over the values that round to this number; 1 and
        ``largest`` include the tails.
        """
        mean, sigma = self._moments(logits)
        edges = torch.arange(1.5, self.largest, device=logits.device)[:, None, None]
        below = 0.5 * (1.0 + torch.erf((edges - mean[:, None]) / (math.sqrt(2.0) * sigma[:, None])))
        below = F.pad(F.pad(below, (0, 0, 0, 0, 0, 1), value=1.0), (0, 0, 0, 0, 1, 0))
        return below.diff(dim=1)

    def _moments(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, atoms; logits near 0 give the middle of the range and a large deviation."""
        half = 0.5 * self.largest
        return half * (1.0 + logits[:, 0]), self.LEAST + 0.5 * half * logits[:, 1].clamp(-12.0, 4.0).exp()
