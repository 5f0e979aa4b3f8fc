"""What a batch adds to the sums of a cell, the same for every way to compute it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossatlas.data.losses import Batch, Loss, Losses
from lossatlas.landscape.statistics import PENALTY


@dataclass(frozen=True)
class LossSums:
    """The sums of a loss and its metrics, see `landscape.statistics`. Called with a model and a batch."""

    loss: Loss
    metrics: tuple[str, ...]

    def __call__(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(statistics,) of one batch in float64, and the loss's term of the parameters."""
        found = self.loss(model, batch)
        return self.of(found), found.penalty

    def each(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(2 + metrics, n): losses, weights and metrics of the samples of one batch in float64, and the penalty."""
        found = self.loss(model, batch)
        loss = found.per_sample.double()
        weights = torch.ones_like(loss) if found.weights is None else found.weights.double()
        metrics = [found.metrics[name].double() for name in self.metrics]
        return torch.stack([loss, weights, *metrics]), found.penalty

    def of(self, losses: Losses) -> Tensor:
        loss = losses.per_sample.double()
        square = loss * loss
        powers = torch.stack([torch.ones_like(loss), loss, square, square * loss, square * square])
        if not losses.spread:
            powers[2:] = torch.nan
        if losses.weights is None:
            by_weight = [powers.sum(1)] * 3
        else:
            weights = losses.weights.double()
            by_weight = [(powers * w).sum(1) for w in (weights, weights**2, weights**4)]
        zeros = torch.zeros_like(by_weight[0][:3])
        metrics = [self.metric(losses, name) for name in self.metrics]
        count = zeros[:1] + len(loss)
        return torch.cat([count, by_weight[0][:3], by_weight[1][:3], by_weight[2], zeros, *metrics])

    def metric(self, losses: Losses, name: str) -> Tensor:
        value = losses.metrics[name]
        return (value if losses.weights is None else losses.weights.double() * value).double().sum().reshape(1)


def include(sums: Tensor, row: Tensor, penalty: Tensor | None) -> None:
    """Add what one batch gives to the sums, in place."""
    sums += row
    if penalty is not None:
        sums[PENALTY] = penalty.double()
