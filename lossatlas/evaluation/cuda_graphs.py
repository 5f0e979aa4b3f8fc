"""CUDA graphs of the batches of an evaluation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.errors import note
from lossatlas.evaluation.loss_sums import LossSums, add_to_sums
from lossatlas.evaluation.sample_storage import Span, StoredSamples

MAX_GRAPHS = 512  # batches that are captured; with more, launches do not matter


class CapturedGraphs:
    """Replays the forward pass, loss and sums of each batch as one CUDA graph, without gaps between kernel launches.

    The sums and the samples have to be the same tensors at each call: samples on the device, in few batches. A network that
    cannot be captured is evaluated without graphs.

    Args:
        step: Evaluates one batch.
        model: The network.

    Attributes:
        supported: False once a capture has failed.
    """

    def __init__(self, step: LossSums, model: nn.Module) -> None:
        self.step, self.model = step, model
        self.graphs: dict[Any, torch.cuda.CUDAGraph] = {}
        self.pool: Any = None
        self.supported = True

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[Span]) -> None:
        """Add the batches of some spans to `sums` (statistics,), in place."""
        for start, stop in spans:
            self.replay(sums, samples, start, stop)

    def replay(self, sums: Tensor, samples: StoredSamples, start: int, stop: int) -> None:
        """Add one batch by its graph, which is captured at the first call."""
        key = (id(sums), id(samples), start, stop)
        if self.supported and key not in self.graphs:
            self.capture(sums, samples, key)
        if self.supported:
            self.graphs[key].replay()
        else:
            self.run_eagerly(sums, samples, *key[2:])

    def run_eagerly(self, sums: Tensor, samples: StoredSamples, start: int, stop: int) -> None:
        """Add one batch without a graph."""
        add_to_sums(sums, *self.step(self.model, samples.batch(start, stop)))

    def capture(self, sums: Tensor, samples: StoredSamples, key: Any) -> None:
        """Capture the graph of one batch; `sums` keep their values."""
        before = sums.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose algorithms and take memory at a first call
            self.run_eagerly(sums, samples, *key[2:])
        torch.cuda.current_stream().wait_stream(stream)
        sums.copy_(before)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                self.run_eagerly(sums, samples, *key[2:])
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            note(f"no CUDA graphs for this network ({str(error).splitlines()[0][:120]})")
            self.supported = False
            return
        self.pool = graph.pool()
        self.graphs[key] = graph
