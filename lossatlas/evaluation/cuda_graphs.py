"""CUDA graphs of the batches of an evaluation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.errors import first_line, note
from lossatlas.evaluation.loss_sums import LossSums, add_to_sums
from lossatlas.evaluation.sample_storage import SampleSpan, StoredSamples

MAX_GRAPHS = 512  # batches that are captured; with more, the time of kernel launches is negligible
GraphKey = tuple[int, int, int, int]  # identities of sums and samples, start and stop


class CapturedGraphs:
    """Forward pass, loss and sums of each batch as one CUDA graph, replayed without gaps between kernel launches.

    The sums and the samples have to be the same tensors at each call: samples on the device, in few batches. A network
    that cannot be captured is evaluated without graphs.

    Args:
        step: Evaluates one batch.
        model: The network.

    Attributes:
        supported: False once a capture has failed.
    """

    def __init__(self, step: LossSums, model: nn.Module) -> None:
        self.step, self.model = step, model
        self.graphs: dict[GraphKey, torch.cuda.CUDAGraph] = {}
        self.pool: Any = None  # an opaque handle of the memory that the graphs share
        self.supported = True

    def add(self, sums: Tensor, samples: StoredSamples, spans: Sequence[SampleSpan]) -> None:
        """Add the batches of some spans to `sums` (statistics,), in place."""
        for span in spans:
            key = (id(sums), id(samples), *span)
            if self.supported and key not in self.graphs:
                self.capture(key, sums, samples, span)
            if self.supported:
                self.graphs[key].replay()
            else:
                self.run_eagerly(sums, samples, span)

    def run_eagerly(self, sums: Tensor, samples: StoredSamples, span: SampleSpan) -> None:
        """Add one batch without a graph."""
        add_to_sums(sums, *self.step(self.model, samples.batch(*span)))

    def capture(self, key: GraphKey, sums: Tensor, samples: StoredSamples, span: SampleSpan) -> None:
        """Capture the graph of one batch.

        Where this fails, a note says so, and `supported` becomes False.

        Args:
            key: Identity of sums, samples and span, by which the graph is found again.
            sums: Sums to which the graph adds; they keep their values here.
            samples: Samples on the device.
            span: First sample and end of the batch.
        """
        before = sums.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose algorithms and take memory at a first call
            self.run_eagerly(sums, samples, span)
        torch.cuda.current_stream().wait_stream(stream)
        sums.copy_(before)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                self.run_eagerly(sums, samples, span)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            note(f"no CUDA graphs for this network ({first_line(error, 120)})")
            self.supported = False
            return
        self.pool = graph.pool()
        self.graphs[key] = graph
