"""Learning rate schedules."""

from __future__ import annotations

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hrtem.ranges import parse_number, parse_whole


class WarmupCosine(LRScheduler):
    """Linear increase to the optimizer's learning rate, then a decrease to nearly 0 along half a cosine period.

    Args:
        optimizer: the optimizer; its learning rates are set at each step.
        total_steps: number of training steps.
        warmup: share of the steps in which the rate increases.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float) -> None:
        warmup = parse_number("task.scheduler.warmup", warmup, minimum=0.0, maximum=1.0)
        self.total_steps = max(1, parse_whole("task.scheduler.total_steps", total_steps))
        self.rising = max(1, round(warmup * self.total_steps))
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Learning rates of the parameter groups at the current step."""
        step = self.last_epoch + 1
        if step <= self.rising:
            factor = step / self.rising
        else:
            done = (step - self.rising) / max(1, self.total_steps - self.rising)
            factor = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        return [rate * factor for rate in self.base_lrs]
