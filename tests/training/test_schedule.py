"""Learning rate schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from hrtem.errors import InputError
from hrtem.training.schedule import WarmupCosine


def rates(total, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, total, warmup)
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_rises_then_falls():
    seen = rates(20, 0.2)
    assert seen[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert all(later < earlier for earlier, later in pairwise(seen[3:]))
    assert seen[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_trainings(total):
    assert len(rates(total, 0.1)) == total


def test_warmup_is_a_share():
    with pytest.raises(InputError, match="warmup"):
        rates(10, 1.5)
