"""Three ways in which a network can say how many atoms stand in a column.

Each has a number of ``channels``, a ``loss`` of them, and gives ``probabilities`` of 1, 2, … ``largest`` atoms. All
three losses are proper: their optimum is the distribution, or its best normal approximation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.ranges import parse_whole


class Classes:
    """One logit for each number of atoms, and cross entropy between them.

    Args:
        largest: number of atoms that is told apart; higher columns count as that.
    """

    def __init__(self, largest: int) -> None:
        self.largest = parse_whole("target.count.largest", largest, unit="atoms", minimum=2, maximum=1000)
        self.channels = self.largest

    def loss(self, logits: Tensor, atoms: Tensor) -> Tensor:
        """Loss ``(B, Y, X)`` of logits ``(B, channels, Y, X)``; columns have ``atoms`` ``(B, Y, X)``, from 1 up."""
        return F.cross_entropy(logits, atoms.long().clamp(1, self.largest) - 1, reduction="none")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(B, largest, Y, X)`` of 1, 2, … atoms where there is a column."""
        return logits.softmax(dim=1)


class Ordinal(Classes):
    """One logit for each k, that there are more than k atoms: a count that is wrong by one is wrong in one of them.

    E. Frank and M. Hall, A simple approach to ordinal classification, ECML 2001.

    Args:
        largest: see :class:`Classes`.
    """

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self.channels = self.largest - 1

    def loss(self, logits: Tensor, atoms: Tensor) -> Tensor:
        """The sum of the cross entropies; see :class:`Classes`."""
        k = torch.arange(1, self.largest, device=atoms.device)[:, None, None]
        more = (atoms[:, None] > k).to(logits)
        return F.binary_cross_entropy_with_logits(logits, more, reduction="none").sum(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(B, largest, Y, X)`` of 1, 2, … atoms where there is a column."""
        # More than k + 1 atoms cannot be more probable than more than k, whatever the network says.
        more = F.pad(logits.sigmoid().cummin(dim=1).values, (0, 0, 0, 0, 1, 0), value=1.0)
        return more - F.pad(more[:, 1:], (0, 0, 0, 0, 0, 1))


class Normal(Classes):
    """Regression: the mean and the logarithm of the standard deviation of a normal distribution of the number.

    D. Nix and A. Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994.

    Args:
        largest: see :class:`Classes`.
    """

    #: Least standard deviation, atoms: below it whole numbers do not tell how sure a network is.
    LEAST = 0.2

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self.channels = 2

    def loss(self, logits: Tensor, atoms: Tensor) -> Tensor:
        """Negative logarithm of the density; see :class:`Classes`."""
        mean, sigma = self._moments(logits)
        return 0.5 * ((atoms.clamp(1, self.largest) - mean) / sigma) ** 2 + sigma.log()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``(B, largest, Y, X)``: a number has that of the values nearest to it, the ends the tails."""
        mean, sigma = self._moments(logits)
        edges = torch.arange(1.5, self.largest, device=logits.device)[:, None, None]
        below = 0.5 * (1.0 + torch.erf((edges - mean[:, None]) / (math.sqrt(2.0) * sigma[:, None])))
        below = F.pad(F.pad(below, (0, 0, 0, 0, 0, 1), value=1.0), (0, 0, 0, 0, 1, 0))
        return below.diff(dim=1)

    def _moments(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, atoms; an untrained network is for the middle, and unsure."""
        half = 0.5 * self.largest
        return half * (1.0 + logits[:, 0]), self.LEAST + 0.5 * half * logits[:, 1].clamp(-12.0, 4.0).exp()
