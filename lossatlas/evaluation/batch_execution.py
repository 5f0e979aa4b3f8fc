"""The ways to take batches through a network at one point; all of them add the same rows in the same order.

    way = OneByOne(Sums(loss, metrics), model)
    way.add(sums, samples, spans)

`graphs.Captured` is a further one. Several points in one call are in `manypoints`.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lossatlas.data.losses import Batch
from lossatlas.evaluation.loss_sums import LossSums, include
from lossatlas.evaluation.parallel_batches import ParallelBatches, replicas
from lossatlas.evaluation.sample_storage import Span, StoredSamples


class BatchExecution(Protocol):
    """Adds the batches of some spans to the sums (statistics,) in place."""

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[Span]) -> None: ...


class PerSampleExecution(BatchExecution, Protocol):
    """Gives what `Sums.each` gives of the batches too, in the shuffled order."""

    def each(self, samples: StoredSamples, spans: Sequence[Span]) -> Iterator[tuple[Tensor, Tensor | None]]: ...


class SequentialBatches:
    """One batch after the other, each by all threads."""

    def __init__(self, step: LossSums, model: nn.Module) -> None:
        self.step, self.model = step, model

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[Span]) -> None:
        for batch in samples.stream(spans):
            include(sums, *self.step(self.model, batch))

    def each(self, samples: StoredSamples, spans: Sequence[Span]) -> Iterator[tuple[Tensor, Tensor | None]]:
        for batch in samples.stream(spans, shuffled=True):
            yield self.step.each(self.model, batch)


class ConcurrentBatches:
    """Several batches at a time on the CPU, each by one thread, with a copy of the model where it keeps things in itself."""

    def __init__(self, step: LossSums, model: nn.Module, count: int, stateless: bool) -> None:
        self.step = step
        self.lanes = ParallelBatches([model] * count if stateless else [model, *replicas(model, count - 1)])

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[Span]) -> None:
        for row, penalty in self.lanes.map(self.one, samples.stream(spans)):
            include(sums, row, penalty)

    def each(self, samples: StoredSamples, spans: Sequence[Span]) -> Iterator[tuple[Tensor, Tensor | None]]:
        yield from self.lanes.map(self.each_of_one, samples.stream(spans, shuffled=True))

    @torch.no_grad()
    def each_of_one(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self.step.each(model, batch)

    @torch.no_grad()
    def one(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self.step(model, batch)
