"""Several points of an affine plane in one call, which is faster for small networks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lossatlas.data.losses import Batch
from lossatlas.evaluation.loss_sums import LossSums
from lossatlas.evaluation.parameter_buffers import AffineBuffers, ParameterBuffers
from lossatlas.evaluation.sample_storage import StoredSamples
from lossatlas.landscape.grid import Coordinates
from lossatlas.landscape.statistics import CLAMPED, PENALTY

SAMPLES_PER_LOSS = 1024  # a loss consists of many small operations, which larger batches make faster
BatchTotals = Callable[[dict[str, Tensor], Batch], tuple[Tensor, Tensor]]  # sums and penalty at one point


class StackedPoints:
    """Evaluator of all splits at several points in one call.

    The tensors of the points are stacked, and the forward pass is mapped over them (torch.func.vmap).

    Args:
        step: Evaluates one batch.
        net: The network.
        buffers: The buffers that move it.
        data: The samples of each split.

    Raises:
        TypeError: The plane is not affine.
    """

    def __init__(
        self, step: LossSums, net: nn.Module, buffers: ParameterBuffers, data: Mapping[str, StoredSamples]
    ) -> None:
        if not isinstance(buffers, AffineBuffers):
            raise TypeError("several points in one call need an affine plane")
        self.step, self.net, self.buffers, self.data = step, net, buffers, data

    def __call__(self, points: Sequence[Coordinates], batch_size: int) -> Tensor:
        """Return the sums at some points.

        Args:
            points: Coordinates of each, (a, b), or (a, b, c) in a volume.
            batch_size: Samples in one forward pass, so that activations stay in the cache.

        Returns:
            (points, splits, statistics) float64.
        """
        tensors, clamped = self.buffers.stack(np.array(points))

        def totals(own: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
            def model(*arguments: Any, **keywords: Any) -> Any:
                if keywords or len(arguments) > 1 or not isinstance(arguments[0], Tensor):
                    return functional_call(self.net, own, arguments, keywords)
                return torch.cat([functional_call(self.net, own, (x,)) for x in arguments[0].split(batch_size)])

            row, penalty = self.step(model, batch)
            return row, row[0] * 0 if penalty is None else penalty.double()

        return torch.stack(
            [self.split_sums(tensors, samples, totals, clamped, batch_size) for samples in self.data.values()], dim=1
        )

    def split_sums(
        self,
        tensors: dict[str, Tensor],
        samples: StoredSamples,
        totals: BatchTotals,
        clamped: Tensor,
        batch_size: int,
    ) -> Tensor:
        """Return the sums of one split, (points, statistics).

        Args:
            tensors: Parameters and buffers by name, (points, ...) each.
            samples: Samples of the split on the device.
            totals: Sums of a batch at one point, and its penalty.
            clamped: Number of clamped values of each point, (points,).
            batch_size: Samples of a batch.
        """
        spans = samples.spans(0, len(samples), max(batch_size, SAMPLES_PER_LOSS))
        sums: Any = 0
        for batch in samples.stream(spans):
            rows, penalty = vmap(totals, in_dims=(0, None))(tensors, batch)
            sums = sums + rows
        sums[:, PENALTY], sums[:, CLAMPED] = penalty, clamped
        return sums
