"""CUDA graphs of the steps of an evaluation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.errors import note
from lossatlas.evaluation.loss_sums import LossSums, include
from lossatlas.evaluation.sample_storage import Span, StoredSamples

MOST_GRAPHS = 512  # batches that are captured; with more, launches do not matter


class CapturedGraphs:
    """Each batch's forward pass, loss and sums as one CUDA graph, so that gaps between launches vanish.

    The sums and the samples have to be the same tensors at each call: samples on the device, in few batches.
    """

    def __init__(self, step: LossSums, model: nn.Module) -> None:
        self.step, self.model = step, model
        self.graphs: dict[Any, torch.cuda.CUDAGraph] = {}
        self.pool: Any = None
        self.works = True

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[Span]) -> None:
        for start, stop in spans:
            self.run(sums, samples, start, stop)

    def run(self, sums: Tensor, samples: StoredSamples, start: int, stop: int) -> None:
        key = (id(sums), id(samples), start, stop)
        if self.works and key not in self.graphs:
            self.capture(sums, samples, key)
        if self.works:
            self.graphs[key].replay()
        else:
            self.one(sums, samples, *key[2:])

    def one(self, sums: Tensor, samples: StoredSamples, start: int, stop: int) -> None:
        include(sums, *self.step(self.model, samples.batch(start, stop)))

    def capture(self, sums: Tensor, samples: StoredSamples, key: Any) -> None:
        kept = sums.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose algorithms and take memory at a first call
            self.one(sums, samples, *key[2:])
        torch.cuda.current_stream().wait_stream(stream)
        sums.copy_(kept)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                self.one(sums, samples, *key[2:])
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            note(f"no CUDA graphs for this network ({str(error).splitlines()[0][:120]})")
            self.works = False
            return
        self.pool = graph.pool()
        self.graphs[key] = graph
