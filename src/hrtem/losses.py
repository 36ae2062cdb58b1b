"""Losses on logits that torch does not have."""

from __future__ import annotations

from torch import Tensor, nn


class SigmoidMSELoss(nn.MSELoss):
    """Mean squared error of probabilities, from logits; as proper as cross entropy, and gentler on great mistakes."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, C, Y, X)`` against a target of that shape in [0, 1]."""
        return super().forward(input.sigmoid(), target)
