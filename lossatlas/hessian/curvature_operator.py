"""Matrices of second order of a mean loss as operators on flat vectors: what the Hessian and its relatives share."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossatlas.data.losses import is_single_threaded
from lossatlas.evaluation.parallel_batches import ParallelBatches, replicas
from lossatlas.evaluation.precision import set_numerics
from lossatlas.hessian.batch_derivatives import EquivalentForward
from lossatlas.hessian.batching import parallel_batch_count
from lossatlas.hessian.flat_vectors import entry_count, unflatten
from lossatlas.hessian.mean_loss import MeanLoss


class CurvatureOperator(MeanLoss):
    """A symmetric matrix of second order of a mean loss, whose products with vectors are sums over batches."""

    why_not_folded = "products of this matrix are not folded"
    semidefinite = False  # it is not known that no eigenvalue is negative

    @property
    def folded(self) -> bool:
        """BatchNorm is folded into the layers in front of it."""
        return self.forward.function is not None

    @abstractmethod
    def parts(
        self, parameters: Sequence[Tensor], pieces: Sequence[Tensor], names: Sequence[str] | None
    ) -> Iterator[Tensor]:
        """Compute each batch's part of a product.

        Args:
            parameters: The parameters of the product.
            pieces: The vector, in the shapes of the parameters.
            names: The names of the parameters of a diagonal block; None for all.
        """

    @abstractmethod
    def check(self) -> None:
        """Compare the derivatives at the current point with finite differences, or with each other, within a session.

        Raises:
            BadInput: They disagree.
        """

    def equivalent_forward(self, net: nn.Module) -> EquivalentForward:
        """Return a replica of the network, as `forward` is."""
        return EquivalentForward(net, None)

    def start_workers(self, threads: int, parallel_batches: int | None) -> None:
        """Compute several batches in parallel where that is possible.

        Args:
            threads: CPU threads of this process.
            parallel_batches: The number of batches; None for one for each thread if there are enough.
        """
        usual = parallel_batch_count(len(self.samples.spans), self.samples.batch_size, threads)
        one_by_one = is_single_threaded(self.samples.loss) or self.in_place
        count = 1 if one_by_one else parallel_batches or usual
        if count > 1:
            others = [self.equivalent_forward(net) for net in replicas(self.net, count - 1)]
            self.parallel = ParallelBatches([self.forward, *others], max(1, threads // count))

    def block(self, names: Sequence[str]) -> "OperatorBlock":
        """Return the diagonal block of these parameters as an operator."""
        return OperatorBlock(self, names)

    def __call__(self, vector: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """Multiply the matrix, or a diagonal block of it, by a vector.

        Args:
            vector: (size,), or the size of the block.
            names: The parameters of the block; None for all.

        Returns:
            The product, in the shape of `vector` and the type of the parameters.
        """
        set_numerics(self.device)
        with self.session():
            return self.product(vector, names)

    def product(self, vector: Tensor, names: Sequence[str] | None) -> Tensor:
        """Compute `__call__` within a session."""
        chosen = [k for k, name in enumerate(self.names) if names is None or name in names]
        parameters = [self.parameters[k] for k in chosen]
        vector, free = vector.to(self.device, self.dtype), self.chosen.free(names)
        pieces = unflatten(vector if free is None else free * vector, [self.shapes[k] for k in chosen])
        total = torch.zeros(len(vector), dtype=self.dtype, device=self.device)
        for part in self.parts(parameters, pieces, None if names is None else [self.names[k] for k in chosen]):
            total += part
        return self.reduce(total if free is None else free * total)


@dataclass(frozen=True)
class OperatorBlock:
    """A diagonal block of a matrix as an operator: see `CurvatureOperator.block`."""

    operator: CurvatureOperator
    names: Sequence[str]

    @property
    def size(self) -> int:
        return entry_count(self.operator.names, self.operator.shapes, self.names)

    @property
    def dtype(self) -> torch.dtype:
        return self.operator.dtype

    @property
    def device(self) -> torch.device:
        return self.operator.device

    def __call__(self, vector: Tensor) -> Tensor:
        return self.operator(vector, self.names)
