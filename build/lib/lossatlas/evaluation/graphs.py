"""CUDA graphs of the steps of an evaluation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossatlas.errors import say


class Graphs:
    """Each batch's forward pass, loss and sums as one CUDA graph, so that gaps between launches vanish."""

    def __init__(self, add: Callable[[str, int, int, bool], None]) -> None:
        self.add = add
        self.graphs: dict[tuple[str, int, int, bool], torch.cuda.CUDAGraph] = {}
        self.pool: Any = None
        self.works = True

    def run(self, sums: Tensor, *key: Any) -> None:
        """Add the samples of `key` (the arguments of Evaluator.add) to the sums."""
        if self.works and key not in self.graphs:
            self.capture(sums, key)
        if self.works:
            self.graphs[key].replay()
        else:
            self.add(*key)

    def capture(self, sums: Tensor, key: Any) -> None:
        kept = sums.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose algorithms and take memory at a first call
            self.add(*key)
        torch.cuda.current_stream().wait_stream(stream)
        sums.copy_(kept)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                self.add(*key)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            say(f"note: no CUDA graphs for this network ({str(error).splitlines()[0][:120]})")
            self.works = False
            return
        self.pool = graph.pool()
        self.graphs[key] = graph
