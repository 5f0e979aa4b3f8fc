"""Targets drawn from the distribution that a loss makes of a network's output, for Monte-Carlo Fisher matrices.

The random numbers of a sample depend on the seed and on the number of the sample alone: batches and ranks change
nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.losses import (
    IGNORED_LABEL,
    LARGEST_UPCAST,
    LOSSES,
    TARGETS,
    Batch,
    Loss,
    Model,
    following_tokens,
    forward,
    output_of,
    positions_last,
    tokens_alone,
)

Uniform = Callable[[int], Tensor]  # from a count of numbers for each sample to numbers in (0, 1), (n, count)


@dataclass(frozen=True)
class DrawnTargets:
    """A batch whose targets are drawn.

    Attributes:
        batch: The batch.
        axes: The axes of the output within which drawn targets depend on each other, such as that of the classes.
    """

    batch: Batch
    axes: tuple[int, ...]


@dataclass(frozen=True)
class TargetDraws:
    """Random numbers for the targets of samples, by which their number and nothing else tells them apart.

    Attributes:
        count: Targets that are drawn for each sample.
        seed: The seed.
        first_sample: The number of the first sample of this rank among those of all ranks.

    Example:
        >>> both, last = TargetDraws(seed=1), TargetDraws(seed=1, first_sample=4)
        >>> torch.equal(both.uniform(range(3, 6), 0, 2)[1:], last.uniform(range(2), 0, 2))
        True
    """

    count: int = 1
    seed: int = 0
    first_sample: int = 0
    kept: dict[tuple[range, int, int], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def uniform(self, samples: range, draw: int, size: int) -> Tensor:
        """Return uniform numbers between 0 and 1, the same at each call.

        Args:
            samples: The numbers of the samples on this rank.
            draw: The number of the draw, below `count`.
            size: The count of numbers for each sample.

        Returns:
            (samples, size), float64.
        """
        key = samples, draw, size
        if key not in self.kept:
            rows = np.empty((len(samples), size))
            for row, sample in zip(rows, samples, strict=True):
                numbers = np.random.Philox(key=[self.seed, 0], counter=[0, self.first_sample + sample, draw, 0])
                np.random.Generator(numbers).random(out=row)
            self.kept[key] = torch.from_numpy(rows + 2.0**-54)  # 0 has no quantile
        return self.kept[key]


def draw_targets(loss: Loss, model: Model, batch: Batch, uniform: Uniform) -> DrawnTargets:
    """Draw the targets of a batch from the distribution whose negative log-likelihood is the loss.

    Args:
        loss: 'crossentropy', 'next_token' or 'mse' of LOSSES.
        model: Its output gives the distribution.
        batch: The batch; where a label is IGNORED_LABEL, the drawn one is too.
        uniform: Gives random numbers.

    Example:
        >>> net, batch = torch.nn.Linear(3, 2), (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
        >>> drawn = draw_targets(LOSSES["crossentropy"], net, batch, lambda count: torch.full((4, count), 0.999))
        >>> drawn.batch[1]
        tensor([1, 1, 1, 1])
    """
    with torch.no_grad():
        if loss is LOSSES["next_token"]:
            return drawn_tokens(model, batch, uniform)
        output, targets = forward(model, batch)
        if loss is LOSSES["mse"]:
            return DrawnTargets(with_targets(batch, normal_around(output, uniform)), tuple(range(1, output.dim())))
        logits = positions_last(output, targets)
        classes_second = logits.shape != output.shape or targets.shape == output.shape[:1] + output.shape[2:]
        return DrawnTargets(
            with_targets(batch, drawn_classes(logits, targets, uniform)), (1 if classes_second else -1,)
        )


def drawn_tokens(model: Model, batch: Batch, uniform: Uniform) -> DrawnTargets:
    """Draw the token at each position that counts, given the tokens before it in the data; see `draw_targets`."""
    given: Mapping[str, Any] = batch if isinstance(batch, Mapping) else {"input_ids": tokens_alone(batch)}
    outputs: list[Tensor] = []

    def recorded(*arguments: Any, **keywords: Any) -> Any:
        outputs.append(model(*arguments, **keywords))
        return outputs[-1]

    following = following_tokens(given)
    LOSSES["next_token"](recorded, batch)
    labels = torch.full_like(following, IGNORED_LABEL)
    labels[:, 1:] = drawn_classes(output_of(outputs[0]), following, uniform)[:, :-1]
    return DrawnTargets({**given, "labels": labels}, (-1,))


def drawn_classes(logits: Tensor, targets: Tensor, uniform: Uniform) -> Tensor:
    """Draw a class at each position, by the inverse of the distribution function.

    Args:
        logits: (n, ..., classes).
        targets: (n, ...); where it is IGNORED_LABEL, the result is too.
        uniform: Gives random numbers.
    """
    rows, numbers = logits.flatten(0, -2), uniform(targets[0].numel()).to(logits.device).flatten()
    step = max(1, LARGEST_UPCAST // logits.shape[-1])
    found = [
        torch.searchsorted(some.double().softmax(1).cumsum(1), u[:, None], right=True)[:, 0]
        for some, u in zip(rows.split(step), numbers.split(step), strict=True)
    ]
    drawn = torch.cat(found).clamp(max=logits.shape[-1] - 1).view(targets.shape)
    return torch.where(targets == IGNORED_LABEL, IGNORED_LABEL, drawn)


def normal_around(output: Tensor, uniform: Uniform) -> Tensor:
    """Draw numbers around an output, with the variance that makes the mean squared error a log-likelihood.

    The negative log-likelihood is the mean of (z - y)^2 over the K values of a sample where the variance is K / 2.

    Args:
        output: (n, ...), z.
        uniform: Gives random numbers.
    """
    count = output[0].numel()
    normal = torch.special.ndtri(uniform(count)).to(output.device, output.dtype)
    return output + (count / 2) ** 0.5 * normal.view(output.shape)


def with_targets(batch: Batch, targets: Tensor) -> Batch:
    """Return a batch with other targets."""
    if isinstance(batch, Mapping):
        return {**batch, next(name for name in TARGETS if name in batch): targets}
    assert isinstance(batch, Sequence)
    return (*batch[:-1], targets)
