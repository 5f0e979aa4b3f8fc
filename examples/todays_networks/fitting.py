"""The training loop of all six."""

from collections.abc import Callable

import torch
from torch import Tensor


def fit(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor], Tensor],
    samples: int,
    *,
    batch: int = 64,
    steps: int,
    cycle: bool = True,
    each: Callable[[int], None] = lambda step: None,
) -> None:
    """Steps on loss(numbers of a random batch). cycle: the rate rises and falls once. each: gets each step's number."""
    rate = optimizer.param_groups[0]["lr"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps) if cycle else None
    for step in range(1, steps + 1):
        value = loss(torch.randint(samples, (batch,)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        each(step)
        if step % max(1, steps // 6) == 0:
            print(f"step {step}: loss {value.item():.3g}")
