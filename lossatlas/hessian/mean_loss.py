"""The mean loss of a network as a function of chosen parameters, and its gradient.

The loss is the mean over the samples (with weights, the weighted mean) plus its own term of the parameters. Batches
come in a fixed order, the network is in evaluation mode, and its outputs are converted to float64 before the loss is
computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.choices import ProductPrecision
from lossatlas.data.losses import Batch, Loss
from lossatlas.data.streamed import AnyData
from lossatlas.evaluation.parallel_batches import ParallelBatches
from lossatlas.hessian.batch_derivatives import EquivalentForward, gradient_of
from lossatlas.hessian.loss_samples import Reduce
from lossatlas.hessian.network_choice import LossSettings, copy_or_original
from lossatlas.parameter_space.selection import Selection


class MeanLoss:
    """The mean loss as a function of changes of chosen parameters.

    A copy of the network is evaluated. Where the gradient of the copy differs from the network's own, the network is
    used in place, and restored after every call.

    Args:
        net: The network.
        data: Its samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        selection: The parameters by name.
        matrices_only: Of these, take those with more than one axis.
        batch_size: Samples in a batch.
        device: The device.
        reduce: Sums a vector over the ranks where samples are distributed over ranks.
        reduce_setup: The same during construction, whose sums every rank needs; by default `reduce`.
        precision: See `curvature_copy.curvature_copy`.

    Attributes:
        names: The names of the parameters, in the order of the vectors.
        shapes: Their shapes.
        size: The number of their entries.
        dtype: Their type.
        device: Their device.
        total_weight: The weight of all samples, over all ranks.
        in_place: The network itself is used.

    Raises:
        BadUsage: No parameter is chosen.
        BadInput: The network is random, or a parameter is complex.
    """

    def __init__(
        self,
        net: nn.Module,
        data: AnyData,
        loss: Loss,
        *,
        selection: Selection,
        matrices_only: bool,
        batch_size: int,
        device: torch.device | str,
        reduce: Reduce | None,
        reduce_setup: Reduce | None,
        precision: ProductPrecision | None,
    ) -> None:
        self.reduce = reduce or (lambda vector: vector)
        settings = LossSettings(data, loss, selection, matrices_only, batch_size, reduce_setup or self.reduce)
        parts = copy_or_original(net, settings, device, precision)
        self.network, self.samples = parts.network, parts.samples
        self.net, self.in_place, self.chosen = self.network.net, self.network.in_place, self.network.chosen
        self.names, self.parameters, self.shapes = self.chosen.names, self.chosen.tensors, self.chosen.shapes
        self.size, self.dtype, self.device = self.chosen.size, self.chosen.dtype, self.chosen.device
        self.forward = EquivalentForward(self.net, None)
        self.parallel: ParallelBatches[EquivalentForward] | None = None

    @property
    def total_weight(self) -> float:
        return self.samples.total_weight

    def session(self) -> AbstractContextManager[None]:
        """Use the network within, see `EvaluatedNetwork.session`."""
        return self.network.session()

    def move_to(self, point: Mapping[str, Tensor]) -> int:
        """Move the network to a point of a plane, see `EvaluatedNetwork.move_to`."""
        return self.network.move_to(point)

    def map_batches(self, function: Callable[[EquivalentForward, tuple[int, Batch]], Tensor]) -> Iterator[Tensor]:
        """Compute function(forward, (number, batch)) of every batch, in their order."""
        batches = enumerate(self.samples.batches())
        # Fused attention has no second derivative (pytorch issue 116350).
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            if self.parallel is not None:
                yield from self.parallel.map(function, batches)
            else:
                for batch in batches:
                    yield function(self.forward, batch)

    def gradient(self) -> tuple[float, Tensor]:
        """Compute the mean loss and its gradient.

        Returns:
            The loss, and the gradient (size,) in the type of the parameters.

        Raises:
            BadInput: The loss has no gradient, see `batch_derivatives.gradient_of`.
        """

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            number, batch = item
            value = self.samples.batch_loss(forward.net, batch, penalty=number == 0)
            own = self.chosen.flatten(gradient_of(value, self.parameters, required=number == 0))
            return torch.cat([value.detach().reshape(1), own.double()])

        total = torch.zeros(1 + self.size, dtype=torch.float64, device=self.device)
        with self.session():
            for part in self.map_batches(of_batch):
                total += part
        return float(self.reduce(total[:1].cpu())[0]), self.reduce(total[1:].to(self.dtype))

    def gradient_at(self, change: Tensor | None) -> tuple[float, Tensor]:
        """Compute `gradient` at parameters changed by a vector (size,), None for no change."""
        with self.network.displaced(change):
            return self.gradient()

    def loss_at(self, change: Tensor | None) -> float:
        """Compute the mean loss at parameters changed by a vector (size,), None for no change."""

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            with torch.no_grad():
                return self.samples.batch_loss(forward.net, item[1], penalty=item[0] == 0).double().reshape(1)

        with self.network.displaced(change):
            total = torch.zeros(1, dtype=torch.float64, device=self.device)
            for part in self.map_batches(of_batch):
                total += part
            return float(self.reduce(total.cpu())[0])

    @property
    def part_count(self) -> int:
        """The number of samples of this rank, or of the batches that have to stay as they are."""
        return self.samples.stored.data.parts

    def gradient_of_parts(
        self, change: Tensor | None, numbers: Sequence[int], fraction: float | None = None
    ) -> tuple[float, Tensor]:
        """Estimate the mean loss and its gradient by a part of the samples.

        Args:
            change: (size,) change of the parameters; None for none.
            numbers: Numbers of samples of this rank, or of the batches that have to stay as they are.
            fraction: The share of all samples that the chosen ones of all ranks are; by default that of one rank.

        Returns:
            The loss, and its gradient (size,) in the type of the parameters.
        """
        total = torch.zeros(1 + self.size, dtype=torch.float64, device=self.device)
        with self.network.displaced(change), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for value in self.losses_of_parts(numbers, fraction):
                own = self.chosen.flatten(gradient_of(value, self.parameters, required=False))
                total += torch.cat([value.detach().reshape(1), own.double()])
        return float(self.reduce(total[:1].cpu())[0]), self.reduce(total[1:].to(self.dtype))

    def loss_of_parts(self, change: Tensor | None, numbers: Sequence[int], fraction: float | None = None) -> float:
        """Estimate the mean loss by a part of the samples, see `gradient_of_parts`."""
        with self.network.displaced(change), torch.no_grad():
            total = sum((value.double() for value in self.losses_of_parts(numbers, fraction)), torch.zeros(()))
        return float(self.reduce(total.reshape(1).cpu())[0])

    def losses_of_parts(self, numbers: Sequence[int], fraction: float | None) -> Iterator[Tensor]:
        """Compute the loss of each batch of some parts, and this rank's share of the term of the parameters."""
        fraction = fraction or len(numbers) / self.part_count
        for batch in self.samples.of_parts(numbers):
            yield self.samples.batch_loss(self.net, batch) / fraction
        penalty = self.samples.loss(self.net, self.samples.few()).penalty if self.has_penalty else None
        if penalty is not None:
            yield penalty * self.samples.penalty_share

    @cached_property
    def has_penalty(self) -> bool:
        """The loss has a term of the parameters."""
        with self.session(), torch.no_grad():
            return self.samples.loss(self.net, self.samples.few()).penalty is not None

    def moving(self) -> Tensor | None:
        """Return a mask (size,) of the entries that vary: 1, and 0 in padding rows; None where all vary."""
        return self.chosen.free()

    def weights(self) -> Tensor:
        """Return the chosen parameters as a vector (size,)."""
        with self.session():
            return self.chosen.flatten(self.parameters)

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Split a vector (size,) into views in the shapes of the parameters."""
        return self.chosen.unflatten(vector)
