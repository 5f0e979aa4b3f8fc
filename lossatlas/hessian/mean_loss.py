"""The mean loss of a network as a function of chosen parameters, and its gradient.

The loss is the mean over the samples (with weights, the weighted mean) plus its own term of the parameters. Batches
come in a fixed order, the network is in evaluation mode, and its outputs are converted to float64 before the loss is
computed.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.data.losses import Batch, Loss, Losses, Model
from lossatlas.data.streamed import AnyData, some_of
from lossatlas.data.structures import leaves
from lossatlas.errors import BadInput, BadUsage, Stop, first_line, named, note
from lossatlas.evaluation.folding import NotFoldable
from lossatlas.evaluation.parallel_batches import ParallelBatches
from lossatlas.evaluation.precision import PRECISIONS, channels_come_last, in_float64
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import StoredSamples, fitted, is_changed, place_samples
from lossatlas.hessian.batch_derivatives import RANDOM, EquivalentForward, custom_derivatives, gradient_of, with_causes
from lossatlas.hessian.curvature_copy import LossAndGradient, curvature_copy, gradient_mismatch
from lossatlas.hessian.flat_vectors import flatten, size_of_entries, unflatten
from lossatlas.parameter_space.points import Point, movable, move, named_tensors, restored
from lossatlas.parameter_space.selection import Selection

Reduce = Callable[[Tensor], Tensor]  # the sum of a vector over the ranks that share the data
COMPARED_SAMPLES = 16  # spread over the data, on which a copy is compared with the network itself
COMPARED_STEP = 0.02  # of a step away from the weights, relative to the size of each tensor


def padding_rows(net: nn.Module) -> dict[str, int]:
    """Return the padding row of each embedding by the name of its weight.

    torch gives it no gradient, so it is held fixed in training, and here. A weight that other modules use too varies.
    """
    uses: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        uses.setdefault(id(parameter), []).append(name)
    return {
        uses[id(module.weight)][0]: module.padding_idx
        for module in net.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None and len(uses[id(module.weight)]) == 1
    }


class MeanLoss:
    """The mean loss as a function of changes of chosen parameters.

    A copy of the network is evaluated. Where the gradient of the copy is not that of the network itself, the network is
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
        precision: str | None,
    ) -> None:
        self.original_net, self.loss, self.reduce = net, loss, reduce or (lambda vector: vector)
        self.reduce_setup = reduce_setup or self.reduce
        self.selection, self.matrices_only = selection, matrices_only
        self.position: Point | None = None  # where a network that is used in place is moved, None for its own weights
        self.entered, self.in_place = False, False
        self.parallel: ParallelBatches[EquivalentForward] | None = None
        self.prepare_network(data, device, precision, batch_size)

    def prepare_network(
        self, data: AnyData, device: torch.device | str, precision: str | None, batch_size: int
    ) -> None:
        """Use a copy whose gradient is that of the network, otherwise the network itself."""
        try:
            self.set_up(curvature_copy(self.original_net, device, precision), data, batch_size)
            mismatch = self.copy_mismatch()
        except (Stop, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            mismatch = first_line(error, 150)
        if mismatch:
            self.use_in_place(device, precision, mismatch)
            self.set_up(self.original_net, data, batch_size)

    def set_up(self, net: nn.Module, data: AnyData, batch_size: int) -> None:
        """Choose the parameters of a network, and put the samples onto its device."""
        self.net = net
        if not self.in_place:
            net.register_forward_hook(in_float64)
        self.choose_parameters()
        self.samples = self.stored(data)
        self.batch_size = batch_size
        few = some_of(data, COMPARED_SAMPLES)
        self.compared_samples = place_samples(few, self.device, self.dtype, channels_last=self.samples.channels_last)
        self.spans = list(self.samples.spans(0, len(self.samples), self.batch_size))
        self.sum_weights()
        self.forward = EquivalentForward(self.net, None)

    def choose_parameters(self) -> None:
        """Set names, shapes, size and type of the parameters. Raises BadUsage, BadInput, see `check_names`."""
        tensors = dict(self.net.named_parameters())
        self.names = [
            n
            for n, value in tensors.items()
            if n in self.selection and movable(value) and (value.dim() > 1 or not self.matrices_only)
        ]
        self.check_names(tensors)
        self.parameters = [tensors[name] for name in self.names]
        if not self.in_place:
            for parameter in self.parameters:
                parameter.requires_grad_(True)
        self.shapes = [p.shape for p in self.parameters]
        self.size = sum(p.numel() for p in self.parameters)
        self.dtype, self.device = self.parameters[0].dtype, self.parameters[0].device
        self.padding_rows = {name: row for name, row in padding_rows(self.net).items() if name in self.names}

    def free(self, names: Sequence[str] | None = None) -> Tensor | None:
        """Return a mask of the coordinates that vary: 1, and 0 in padding rows; None where all vary.

        Args:
            names: The parameters of a block; None for all.
        """
        chosen = [k for k, name in enumerate(self.names) if names is None or name in names]
        if not any(self.names[k] in self.padding_rows for k in chosen):
            return None
        masks = []
        for k in chosen:
            mask = torch.ones(self.shapes[k], dtype=self.dtype, device=self.device)
            if self.names[k] in self.padding_rows:
                mask[self.padding_rows[self.names[k]]] = 0
            masks.append(mask.flatten())
        return torch.cat(masks)

    def check_names(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise BadUsage where no parameter is chosen, BadInput where one is complex."""
        if not self.names:
            only = self.selection.only
            reason = (
                f"is left by '{self.selection}'"
                if self.selection.without
                else f"is called like {', '.join(only) or 'a matrix'}"
            )
            raise BadUsage(f"no parameter {reason}: there are {', '.join(tensors)}")
        if pairs := [name for name in self.names if tensors[name].is_complex()]:
            raise BadInput(
                f"the Hessian is taken with respect to real parameters, and '{pairs[0]}' is complex: leave it out, or "
                "keep its real and imaginary parts as two parameters"
            )

    def stored(self, data: AnyData) -> StoredSamples:
        """Put samples onto the device, images in the channels-last layout where that is faster and accepted."""
        images = any(isinstance(x, Tensor) and x.dim() == 4 for _, x in leaves(next(iter(data.batches(1)))))
        last = channels_come_last(self.device, "float32") and not self.in_place
        samples = place_samples(data, self.device, self.dtype, channels_last=last)
        if images and last and not self.accepts(samples.first_samples()):
            samples = place_samples(data, self.device, self.dtype, channels_last=False)
        return samples

    def accepts(self, batch: Batch) -> bool:
        """Test whether the network takes images in channels-last order, which `view` does not."""
        try:
            with torch.no_grad():
                self.loss(self.net, batch)
        except RuntimeError:
            return False
        return True

    def sum_weights(self) -> None:
        """Sum the weights of all samples, and note whether the network overwrites its input."""
        sample = self.samples.first_samples()
        with torch.no_grad(), self.session():
            self.loss(self.net, sample)
            self.samples.overwritten = is_changed(sample, self.samples.first_samples())
            weights = [self.loss(self.net, batch).weights for batch in self.batches()]
        own = sum_of_weights(self.spans, weights)
        self.total_weight = float(self.reduce_setup(torch.tensor([own], dtype=torch.float64))[0])
        self.penalty_share = own / self.total_weight  # of the loss's term of the parameters, which every rank adds

    def use_in_place(self, device: torch.device | str, precision: str | None, mismatch: str) -> None:
        """Switch to the network itself. Raises BadInput, BadUsage where that is not possible."""
        own = [p for p in self.original_net.parameters() if movable(p)]
        first = own[0]
        if len({p.dtype for p in own}) > 1:
            raise BadInput(
                f"products with the Hessian need parameters of one precision, and a copy in one does not work "
                f"({mismatch}): convert the network itself"
            )
        wanted = PRECISIONS[precision][0] if precision in PRECISIONS else first.dtype
        if first.dtype not in (torch.float32, torch.float64) or wanted != first.dtype:
            raise BadInput(
                f"a converted copy of this network does not compute the same ({mismatch}), and products with the "
                f"Hessian in {str(wanted).removeprefix('torch.')} need one: convert the network itself to it first"
            )
        if first.device.type != torch.device(device).type:
            raise BadUsage(
                f"{named('device', str(device))}: this network can only be evaluated in place ({mismatch}), on "
                f"{first.device}: move it first"
            )
        note(f"products with the Hessian use the network itself, which is slower: {mismatch}")
        self.in_place = True

    def copy_mismatch(self) -> str:
        """Compare the gradients of the copy and of the network itself on a few samples, a small step from its weights.

        Returns:
            A line about the difference, '' where there is none.

        Raises:
            BadInput: The loss is random.
        """
        step = self.small_step()
        self.check_repeated()
        with self.displaced(step), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            value = self.batch_loss(self.net, self.compared_samples.first_samples(COMPARED_SAMPLES), penalty=True)
            found = with_causes(lambda: gradient_of(value, self.parameters, required=False), custom_derivatives(value))
        net = self.original_net
        with evaluated_in_place(net), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            tensors = dict(net.named_parameters())
            own = [tensors[name].requires_grad_(True) for name in self.names]
            with torch.no_grad():
                for parameter, piece in zip(own, self.unflatten(step), strict=True):
                    parameter.data.add_(piece.to(parameter.device, parameter.dtype))
            wanted = self.batch_loss(
                net, fitted(self.compared_samples.first_samples(COMPARED_SAMPLES), net), penalty=True
            )
            expected = gradient_of(wanted, own, required=False)
        return gradient_mismatch(
            self.names,
            LossAndGradient(float(value.detach()), found),
            LossAndGradient(float(wanted.detach()), expected),
            half_precision=bool({p.dtype for p in own} & {torch.bfloat16, torch.float16}),
        )

    def check_repeated(self) -> None:
        """Raise BadInput where the loss of a few samples differs when it is computed twice."""
        with torch.random.fork_rng(), torch.no_grad(), self.session():
            first, second = (
                float(self.batch_loss(self.net, self.compared_samples.first_samples(COMPARED_SAMPLES), penalty=True))
                for _ in range(2)
            )
        if first != second and not (math.isnan(first) and math.isnan(second)):
            raise BadInput(f"two losses at the same weights differ by {abs(first - second):.1e}: {RANDOM}")

    def small_step(self) -> Tensor:
        """Draw a small random step (size,), relative to each tensor, at whose end the gradient is not zero."""
        generator = torch.Generator().manual_seed(0)
        pieces = []
        for p in self.parameters:
            random = torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
            pieces.append(COMPARED_STEP * size_of_entries(p) * random)
        return self.flatten(pieces)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Use the network within: one that is used in place is moved to its position, and restored afterwards."""
        if not self.in_place or self.entered:
            yield
            return
        self.entered = True
        try:
            with evaluated_in_place(self.net):
                for parameter in self.parameters:
                    parameter.requires_grad_(True)
                if self.position is not None:
                    move(self.tensors(), self.position)
                yield
        finally:
            self.entered = False

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, as copies where the network overwrites its input."""
        return self.samples.stream(self.spans)

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter and buffer of the network by name."""
        return named_tensors(self.net, every_name=False)

    def move_to(self, point: Mapping[str, Tensor]) -> int:
        """Move the network to a point of a plane.

        Args:
            point: Tensors by name, see `lossatlas.parameter_space.planes`.

        Returns:
            The number of BatchNorm variances that were negative; they are set to zero.
        """
        if not self.in_place:
            return move(self.tensors(), point)
        self.position = {name: value.clone() for name, value in point.items()}
        return move(self.position, point)

    @contextmanager
    def displaced(self, change: Tensor | None) -> Iterator[None]:
        """Add a vector (size,) to the chosen parameters within; afterwards they are restored bit for bit."""
        with self.session(), restored(self.parameters):
            if change is not None:
                with torch.no_grad():
                    for p, piece in zip(
                        self.parameters, self.unflatten(change.to(self.device, self.dtype)), strict=True
                    ):
                        p.data.add_(piece)
            yield

    def map_batches(self, function: Callable[[EquivalentForward, tuple[int, Batch]], Tensor]) -> Iterator[Tensor]:
        """Compute function(forward, (number, batch)) of every batch, in their order."""
        batches = enumerate(self.batches())
        # Fused attention has no second derivative (pytorch issue 116350).
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            if self.parallel is not None:
                yield from self.parallel.map(function, batches)
            else:
                for batch in batches:
                    yield function(self.forward, batch)

    def batch_loss(self, model: Model, batch: Batch, *, penalty: bool = False) -> Tensor:
        """Compute one batch's part of the mean loss, with `penalty` also the loss's term of the parameters."""
        losses = self.loss(model, batch)
        if losses.penalty is not None and not isinstance(model, nn.Module):
            raise NotFoldable("the loss has a term of the parameters")
        part = weighted_sum(losses) / self.total_weight
        return part + losses.penalty * self.penalty_share if penalty and losses.penalty is not None else part

    def gradient(self) -> tuple[float, Tensor]:
        """Compute the mean loss and its gradient.

        Returns:
            The loss, and the gradient (size,) in the type of the parameters.

        Raises:
            BadInput: The loss has no gradient, see `batch_derivatives.gradient_of`.
        """

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            number, batch = item
            value = self.batch_loss(forward.net, batch, penalty=number == 0)
            own = self.flatten(gradient_of(value, self.parameters, required=number == 0))
            return torch.cat([value.detach().reshape(1), own.double()])

        total = torch.zeros(1 + self.size, dtype=torch.float64, device=self.device)
        with self.session():
            for part in self.map_batches(of_batch):
                total += part
        return float(self.reduce(total[:1].cpu())[0]), self.reduce(total[1:].to(self.dtype))

    def gradient_at(self, change: Tensor | None) -> tuple[float, Tensor]:
        """Compute `gradient` at parameters changed by a vector (size,), None for no change."""
        with self.displaced(change):
            return self.gradient()

    def loss_at(self, change: Tensor | None) -> float:
        """Compute the mean loss at parameters changed by a vector (size,), None for no change."""

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            with torch.no_grad():
                return self.batch_loss(forward.net, item[1], penalty=item[0] == 0).double().reshape(1)

        with self.displaced(change):
            total = torch.zeros(1, dtype=torch.float64, device=self.device)
            for part in self.map_batches(of_batch):
                total += part
            return float(self.reduce(total.cpu())[0])

    def weights(self) -> Tensor:
        """Return the chosen parameters as a vector (size,)."""
        with self.session():
            return self.flatten(self.parameters)

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Split a vector (size,) into views in the shapes of the parameters."""
        return unflatten(vector, self.shapes)

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Concatenate a tensor for each parameter to a vector (size,); None stands for zeros."""
        return flatten(tensors, self.parameters)


def sum_of_weights(spans: Sequence[tuple[int, int]], weights: Sequence[Tensor | None]) -> float:
    """Sum the weights of samples over batches; spans: where each batch starts and stops, None for weights of 1."""
    return sum(
        float(stop - start if w is None else w.double().sum()) for (start, stop), w in zip(spans, weights, strict=True)
    )


def weighted_sum(losses: Losses) -> Tensor:
    """Sum the losses of a batch, each times the weight of its sample."""
    return (losses.per_sample if losses.weights is None else losses.weights * losses.per_sample).sum()
