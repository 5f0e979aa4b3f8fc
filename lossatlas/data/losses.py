"""Losses: a function of (model, batch) to per-sample losses, weights and metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Losses:
    """What a loss function returns for one batch of n samples.

    per_sample: (n,). weights: (n,) or None for 1. metrics: (n,) each, averaged like the loss; `accuracy` in 0..1.
    penalty: a term of the parameters alone (), the same for every batch.
    """

    per_sample: Tensor
    weights: Tensor | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    penalty: Tensor | None = None


Model = Callable[[Tensor], Tensor]  # a network, or anything that maps inputs to outputs
Loss = Callable[[Model, Batch], Losses]


def crossentropy(model: Model, batch: Batch) -> Losses:
    """Cross-entropy of the logits (n, classes) against the labels (n,)."""
    logits, targets = upcast(model(batch[0])), batch[1]
    return Losses(F.cross_entropy(logits, targets, reduction="none"), metrics=accuracy(logits, targets))


def mse(model: Model, batch: Batch) -> Losses:
    """Mean over the classes of (softmax(logits) - one-hot)^2, as in the release of Li et al."""
    logits, targets = upcast(model(batch[0])), batch[1]
    error = logits.softmax(1) - F.one_hot(targets, logits.shape[1])
    return Losses((error**2).mean(1), metrics=accuracy(logits, targets))


def upcast(logits: Tensor) -> Tensor:
    """Losses of reduced-precision logits are computed in float32."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def accuracy(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {"accuracy": logits.argmax(1) == targets}


LOSSES: dict[str, Loss] = {"crossentropy": crossentropy, "mse": mse}
