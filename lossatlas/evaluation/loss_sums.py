"""The sums that a batch adds to the sums of a cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossatlas.data.losses import Batch, Loss, Losses
from lossatlas.landscape.statistics import PENALTY


@dataclass(frozen=True)
class LossSums:
    """Sums of a loss and its metrics over the samples of a batch; see `landscape.statistics`.

    Attributes:
        loss: The loss.
        metrics: Names of its metrics.
    """

    loss: Loss
    metrics: tuple[str, ...]

    def __call__(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Evaluate one batch.

        Args:
            model: The network.
            batch: The samples.

        Returns:
            Sums (statistics,) in float64, and the term of the parameters alone () or None.
        """
        found = self.loss(model, batch)
        return self.totals(found), found.penalty

    def per_sample(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Evaluate one batch without summing.

        Args:
            model: The network.
            batch: n samples.

        Returns:
            Losses, weights and metrics of the samples, (2 + metrics, n) in float64, and the term of the parameters
            alone.
        """
        found = self.loss(model, batch)
        loss = found.per_sample.double()
        weights = torch.ones_like(loss) if found.weights is None else found.weights.double()
        metrics = [found.metrics[name].double() for name in self.metrics]
        return torch.stack([loss, weights, *metrics]), found.penalty

    def totals(self, losses: Losses) -> Tensor:
        """Return the sums (statistics,) of the losses of one batch, in float64."""
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
        metrics = [self.metric_sum(losses, name) for name in self.metrics]
        count = zeros[:1] + len(loss)
        return torch.cat([count, by_weight[0][:3], by_weight[1][:3], by_weight[2], zeros, *metrics])

    def metric_sum(self, losses: Losses, name: str) -> Tensor:
        """Return the weighted sum (1,) of a metric."""
        value = losses.metrics[name]
        return (value if losses.weights is None else losses.weights.double() * value).double().sum().reshape(1)


def add_to_sums(sums: Tensor, row: Tensor, penalty: Tensor | None) -> None:
    """Add the row of one batch to the sums, in place; the term of the parameters replaces the one before."""
    sums += row
    if penalty is not None:
        sums[PENALTY] = penalty.double()
