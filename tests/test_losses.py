"""Losses: their optimum and their slope."""

from __future__ import annotations

import pytest
import torch

from hrtem.losses import SigmoidMSELoss


def test_sigmoid_mse_is_the_squared_error_of_the_probability() -> None:
    logits, target = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[1.0, 0.25]]]])
    expected = ((0.5 - 1.0) ** 2 + (torch.tensor(2.0).sigmoid() - 0.25) ** 2) / 2
    assert float(SigmoidMSELoss()(logits, target)) == pytest.approx(float(expected))


def test_sigmoid_mse_is_least_at_the_expected_target() -> None:
    """Half of the targets are 1, a quarter 0.6: the best answer is their mean, so that masses stay probabilities."""
    targets = torch.tensor([1.0, 1.0, 0.6, 0.0])
    logit = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=50)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = SigmoidMSELoss()(logit.expand(4), targets)
        loss.backward()
        return loss

    optimizer.step(step)
    assert logit.sigmoid().item() == pytest.approx(float(targets.mean()), abs=1e-3)
