"""Strategies to evaluate the batches of a split at one point: one after the other, or several in parallel.

All strategies add the same rows in the same order. `cuda_graphs.CapturedGraphs` is another one; several points in one
call are evaluated by `stacked_points`.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lossatlas.data.losses import Batch
from lossatlas.evaluation.loss_sums import LossSums, add_to_sums
from lossatlas.evaluation.parallel_batches import ParallelBatches, replicas
from lossatlas.evaluation.sample_storage import SampleSpan, StoredSamples


class BatchExecution(Protocol):
    """Protocol of objects that add the sums of batches to a vector of sums."""

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[SampleSpan]) -> None:
        """Add the batches of some spans to `sums` (statistics,), in place."""


class PerSampleExecution(BatchExecution, Protocol):
    """A strategy that can also give the losses of single samples."""

    def per_sample(self, samples: StoredSamples, spans: Sequence[SampleSpan]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield `LossSums.per_sample` of each batch, in the shuffled order."""


class SequentialBatches:
    """Evaluation of one batch after the other, each by all threads.

    Args:
        step: Evaluates one batch.
        model: The network.
    """

    def __init__(self, step: LossSums, model: nn.Module) -> None:
        self.step, self.model = step, model

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[SampleSpan]) -> None:
        """Add the batches of some spans to `sums` (statistics,), in place."""
        for batch in samples.stream(spans):
            add_to_sums(sums, *self.step(self.model, batch))

    def per_sample(self, samples: StoredSamples, spans: Sequence[SampleSpan]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield `LossSums.per_sample` of each batch, in the shuffled order."""
        for batch in samples.stream(spans, shuffled=True):
            yield self.step.per_sample(self.model, batch)


class ConcurrentBatches:
    """Evaluation of several batches at a time on the CPU, each by one thread.

    Args:
        step: Evaluates one batch.
        model: The network.
        count: The number of threads.
        stateless: The model stores nothing in itself while it is evaluated, so that all threads can share it; otherwise
            each thread gets a replica.
    """

    def __init__(self, step: LossSums, model: nn.Module, count: int, *, stateless: bool) -> None:
        self.step, self.count = step, count
        self.parallel = ParallelBatches([model] * count if stateless else [model, *replicas(model, count - 1)])

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[SampleSpan]) -> None:
        """Add the batches of some spans to `sums` (statistics,), in place."""
        for row, penalty in self.parallel.map(self.batch_sums, samples.stream(spans)):
            add_to_sums(sums, row, penalty)

    def per_sample(self, samples: StoredSamples, spans: Sequence[SampleSpan]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield `LossSums.per_sample` of each batch, in the shuffled order."""
        yield from self.parallel.map(self.batch_rows, samples.stream(spans, shuffled=True))

    @torch.no_grad()
    def batch_rows(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return `LossSums.per_sample` of one batch; gradients are a setting of each thread."""
        return self.step.per_sample(model, batch)

    @torch.no_grad()
    def batch_sums(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the sums of one batch."""
        return self.step(model, batch)
