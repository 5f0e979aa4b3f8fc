"""Products with the Hessian of a network's mean loss.

    operator = Hessian(net, data, LOSSES["crossentropy"])
    operator(v)                    # the Hessian times v, (size,) both
    loss, gradient = operator.gradient()

The loss is the mean over the samples (with weights, the weighted mean) plus its own term of the parameters. Products are
exact; batches come in a fixed order, the network is in evaluation mode, and its outputs are converted to float64 before
the loss is computed.

There are two execution modes. `folded`: BatchNorm is folded into the layers in front of it as a differentiable function,
and the gradient is differentiated in forward mode. This takes 2 to 2.7 times the time of a gradient, 1.6 to 2 when it is
compiled. Otherwise the product of gradient and vector is differentiated in reverse mode, which takes up to 4 times the
time of a gradient. On the CPU several batches are computed in parallel, see `lossatlas.evaluation.parallel_batches`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.data.losses import Batch, Loss, Model, alone
from lossatlas.data.streamed import AnyData, some_of
from lossatlas.data.structures import leaves
from lossatlas.errors import BadInput, BadUsage, Stop, named, note
from lossatlas.evaluation.folding import FoldedFunction, NotFoldable
from lossatlas.evaluation.parallel_batches import ParallelBatches, default_parallel_batches, replicas
from lossatlas.evaluation.precision import PRECISIONS, channels_come_last, in_float64, set_numerics
from lossatlas.evaluation.reference import borrowed
from lossatlas.evaluation.sample_storage import StoredSamples, fitted, is_changed, of_inputs, place_samples
from lossatlas.hessian.batch_derivatives import (
    EquivalentForward,
    FoldedLoss,
    custom_derivatives,
    forward_product,
    functional_product,
    gradient_of,
    reverse_product,
    with_causes,
)
from lossatlas.hessian.curvature_copy import (
    LossAndGradient,
    curvature_copy,
    float64_copy,
    gradient_mismatch,
    to_float64,
)
from lossatlas.hessian.derivative_check import check_derivatives
from lossatlas.hessian.flat_vectors import flatten, size_of, unflatten
from lossatlas.parameter_space.directions import Selection
from lossatlas.parameter_space.points import Point, is_variance, movable

Reduce = Callable[[Tensor], Tensor]  # the sum of a vector over the ranks that share the data
COMPARED_SAMPLES = 16  # spread over the data, on which a copy is compared with the network itself
COMPARED_STEP = 0.02  # of a step away from the weights, relative to the size of each tensor
FOLDING_SAMPLES = 8  # on which the folded mode is compared with the other
LARGEST, SMALLEST = {"cpu": 128, "cuda": 256}, 32  # samples in a batch
IN_FLIGHT = 512  # samples whose activations are in memory at once, in parallel batches


class Hessian:
    """The Hessian of the mean loss with respect to chosen parameters, as an operator on flat vectors.

    A copy of the network is differentiated. Where the gradient of the copy is not that of the network itself, the network
    is used in place, and restored after every product.

    Args:
        net: The network.
        data: Its samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        parameters: Patterns of parameter names (re.search); all parameters by default. A tensor with several names (tied
            weights) matches under any of them, and counts once.
        without: Patterns of parameters to leave out.
        matrices_only: Of these, take those with more than one axis, as in the code of Li et al. (arXiv 1712.09913).
        batch_size: Samples in a batch; see `usual_batch_size` for the default.
        parallel_batches: Batches that are computed in parallel on the CPU; by default one for each thread if there are
            enough batches.
        device: The device.
        reduce: Sums a vector over the ranks where samples are distributed over ranks.
        folded: Fold BatchNorm; by default where that is possible and gives the same product, see `why_not_folded`.
        compiled: Fuse the folded mode by torch.compile, which takes half a minute or more at the first product.
        precision: 'float32' or 'float64'; by default that of the parameters, and float32 for half precision.

    Attributes:
        names: The names of the parameters, in the order of the vectors.
        shapes: Their shapes.
        size: The number of their entries.
        dtype: Their type, which products have too.
        device: Their device.
        total_weight: The weight of all samples, over all ranks.
        folded: The folded mode is used.
        why_not_folded: The reason why not, '' where it is.

    Raises:
        BadUsage: No parameter is chosen, or an unfolded network is to be compiled.
        BadInput: The derivatives are not those of the loss (see `derivative_check.check_derivatives`), the network is
            random, a parameter is complex, or BatchNorm cannot be folded although `folded` is True.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> operator = Hessian(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"])
        >>> operator(torch.ones(operator.size)).shape
        torch.Size([27])
    """

    def __init__(
        self,
        net: nn.Module,
        data: AnyData,
        loss: Loss,
        *,
        parameters: str | Sequence[str] = (),
        without: str | Sequence[str] = (),
        matrices_only: bool = False,
        batch_size: int | None = None,
        parallel_batches: int | None = None,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        folded: bool | None = None,
        compiled: bool = False,
        precision: str | None = None,
    ) -> None:
        self.original_net, self.loss, self.reduce = net, loss, reduce or (lambda vector: vector)
        self.selection, self.matrices_only = Selection(parameters, without, net), matrices_only
        self.position: Point | None = None  # where a network that is used in place is moved, None for its own weights
        self.entered, self.in_place = False, False
        self.prepare_network(data, device, precision, batch_size=batch_size, compiled=compiled)
        self.choose_mode(folded=folded, compiled=compiled)
        threads = torch.get_num_threads() if self.device.type == "cpu" and not compiled else 1
        most = max(1, min(threads, IN_FLIGHT // self.batch_size))
        one_by_one = alone(loss) or self.in_place
        count = 1 if one_by_one else parallel_batches or default_parallel_batches(len(self.spans), most)
        with self.session():
            check_derivatives(self)
        self.parallel = (
            ParallelBatches([self.forward, *self.replicated_forwards(count - 1)], max(1, threads // count))
            if count > 1
            else None
        )

    def prepare_network(
        self,
        data: AnyData,
        device: torch.device | str,
        precision: str | None,
        *,
        batch_size: int | None,
        compiled: bool,
    ) -> None:
        """Use a copy whose gradient is that of the network, otherwise the network itself."""
        try:
            self.set_up(curvature_copy(self.original_net, device, precision), data, batch_size, compiled=compiled)
            mismatch = self.copy_mismatch()
        except (Stop, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            mismatch = short_reason(error, 150)
        if mismatch:
            self.use_in_place(device, precision, mismatch)
            self.set_up(self.original_net, data, batch_size, compiled=compiled)

    def choose_mode(self, *, folded: bool | None, compiled: bool) -> None:
        """Fold and compile as asked for. Raises BadInput, BadUsage where that is not possible."""
        self.why_not_folded = "not asked for" if folded is False else self.fold()
        if folded and not self.folded:
            raise BadInput(f"BatchNorm cannot be folded: {self.why_not_folded}")
        if compiled and not self.folded:
            raise BadUsage(f"only a folded network can be compiled; this network is not: {self.why_not_folded}")
        self.compiled = torch.compile(self.functional_product, fullgraph=True, dynamic=False) if compiled else None

    def set_up(self, net: nn.Module, data: AnyData, batch_size: int | None, *, compiled: bool) -> None:
        """Choose the parameters of a network, and put the samples onto its device."""
        self.net = net
        if not self.in_place:
            net.register_forward_hook(in_float64)
        self.choose_parameters()
        self.samples = self.stored(data)
        threads = torch.get_num_threads() if self.device.type == "cpu" and not compiled else 1
        self.batch_size = batch_size or usual_batch_size(len(data), self.device.type, threads)
        few = some_of(data, COMPARED_SAMPLES)
        self.compared_samples = place_samples(few, self.device, self.dtype, self.samples.channels_last)
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

    def stored(self, data: AnyData) -> StoredSamples:
        """Put samples onto the device, images in the channels-last layout where that is faster and accepted."""
        images = any(isinstance(x, Tensor) and x.dim() == 4 for _, x in leaves(next(iter(data.batches(1)))))
        last = channels_come_last(self.device, "float32") and not self.in_place
        samples = place_samples(data, self.device, self.dtype, last)
        if images and last and not self.accepts(samples.few()):
            samples = place_samples(data, self.device, self.dtype, channels_last=False)
        return samples

    def sum_weights(self) -> None:
        """Sum the weights of all samples, and note whether the network overwrites its input."""
        sample = self.samples.few()
        with torch.no_grad(), self.session():
            self.loss(self.net, sample)
            self.samples.overwritten = is_changed(sample, self.samples.few())
            weights = [self.loss(self.net, batch).weights for batch in self.batches()]
        own = sum(
            float(stop - start if w is None else w.double().sum())
            for (start, stop), w in zip(self.spans, weights, strict=True)
        )
        self.total_weight = float(self.reduce(torch.tensor([own], dtype=torch.float64))[0])
        self.penalty_share = own / self.total_weight  # of the loss's term of the parameters, which every rank adds

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
                f"the Hessian is taken with respect to real parameters, and '{pairs[0]}' is complex: leave it out, or keep "
                "its real and imaginary parts as two parameters"
            )

    def use_in_place(self, device: torch.device | str, precision: str | None, mismatch: str) -> None:
        """Switch to the network itself. Raises BadInput, BadUsage where that is not possible."""
        own = [p for p in self.original_net.parameters() if movable(p)]
        first = own[0]
        if len({p.dtype for p in own}) > 1:
            raise BadInput(
                f"products with the Hessian need parameters of one precision, and a copy in one does not work ({mismatch}): "
                "convert the network itself"
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

    @contextmanager
    def session(self) -> Iterator[None]:
        """Use the network within: one that is used in place is moved to its position, and restored afterwards."""
        if not self.in_place or self.entered:
            yield
            return
        self.entered = True
        try:
            with borrowed(self.net):
                for parameter in self.parameters:
                    parameter.requires_grad_(True)
                if self.position is not None:
                    move(self.tensors(), self.position)
                yield
        finally:
            self.entered = False

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
            value = self.batch_loss(self.net, self.compared_samples.few(COMPARED_SAMPLES), penalty=True)
            found = with_causes(lambda: gradient_of(value, self.parameters, required=False), custom_derivatives(value))
        net = self.original_net
        with borrowed(net), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            tensors = dict(net.named_parameters())
            own = [tensors[name].requires_grad_(True) for name in self.names]
            with torch.no_grad():
                for parameter, piece in zip(own, self.unflatten(step), strict=True):
                    parameter.data.add_(piece.to(parameter.device, parameter.dtype))
            wanted = self.batch_loss(net, fitted(self.compared_samples.few(COMPARED_SAMPLES), net), penalty=True)
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
                float(self.batch_loss(self.net, self.compared_samples.few(COMPARED_SAMPLES), penalty=True))
                for _ in range(2)
            )
        if first != second and not (math.isnan(first) and math.isnan(second)):
            raise BadInput(
                f"two losses at the same weights differ by {abs(first - second):.1e}: the network or its loss is random "
                "(dropout, noise, shuffled data), and its Hessian is not defined"
            )

    def small_step(self) -> Tensor:
        """Draw a small random step (size,), relative to the size of each tensor, at whose end the gradient is not zero."""
        generator = torch.Generator().manual_seed(0)
        pieces = []
        for p in self.parameters:
            size = float(p.detach().double().norm()) / math.sqrt(max(1, p.numel()))
            pieces.append(
                COMPARED_STEP * (size or 0.1) * torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
            )
        return self.flatten(pieces)

    @property
    def folded(self) -> bool:
        return self.forward.function is not None

    def block(self, names: Sequence[str]) -> "HessianBlock":
        """Return the diagonal block of these parameters as an operator."""
        return HessianBlock(self, names)

    def replicated_forwards(self, count: int) -> Iterator[EquivalentForward]:
        """Replicate the network, around the same parameters."""
        for net in replicas(self.net, count):
            yield EquivalentForward(net, None if self.forward.function is None else FoldedFunction(net))

    def fold(self) -> str:
        """Use the folded mode if it gives the same product on a few samples, in float64; otherwise return the reason."""
        if self.in_place:
            return "the network itself is used, in place"
        net = float64_copy(self.net)
        tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        parameters, generator = [tensors[name] for name in self.names], torch.Generator().manual_seed(0)
        vectors = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(self.device) for p in parameters]
        batch, again = (of_inputs(self.samples.few(FOLDING_SAMPLES), to_float64) for _ in range(2))
        try:
            function = FoldedFunction(self.net)
            with forward_ad.dual_level():
                found = forward_product(
                    FoldedLoss(self.batch_loss, function, self.names, tensors), batch, parameters, vectors
                )
            with sdpa_kernel(SDPBackend.MATH):
                expected = reverse_product(
                    self.batch_loss, net, again, parameters, vectors, penalty=False, required=False
                )
            error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
            reason = "" if error <= 1e-6 else f"it would change a product by {error:.1e}"
        except Exception as error:
            reason = short_reason(error, 120)
        if not reason:
            self.forward = EquivalentForward(self.net, function)
        return reason

    def accepts(self, batch: Batch) -> bool:
        """Test whether the network takes images in channels-last order, which `view` does not."""
        try:
            with torch.no_grad():
                self.loss(self.net, batch)
        except RuntimeError:
            return False
        return True

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, as copies where the network overwrites its input."""
        return self.samples.stream(self.spans)

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter and buffer of the network by name."""
        return {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}

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

    def __call__(self, vector: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """Multiply the Hessian, or a diagonal block of it, by a vector.

        Args:
            vector: (size,), or the size of the block.
            names: The parameters of the block; None for all.

        Returns:
            The product, in the shape of `vector` and the type of the parameters, of the mean loss.
        """
        set_numerics(self.device)
        with self.session():
            return self.product(vector, names)

    def product(self, vector: Tensor, names: Sequence[str] | None) -> Tensor:
        """Compute `__call__` within a session."""
        chosen = [k for k, name in enumerate(self.names) if names is None or name in names]
        parameters = [self.parameters[k] for k in chosen]
        pieces = unflatten(vector.to(self.device, self.dtype), [self.shapes[k] for k in chosen])
        total = torch.zeros(len(vector), dtype=self.dtype, device=self.device)
        if self.folded:
            parts = self.folded_parts(parameters, pieces, None if names is None else [self.names[k] for k in chosen])
        else:
            parts = self.unfolded_parts(parameters, pieces)
        for part in parts:
            total += part
        return self.reduce(total)

    def unfolded_parts(self, parameters: Sequence[Tensor], pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Compute each batch's part of a product in reverse mode."""
        required = len(parameters) == len(self.parameters)

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            number, batch = item
            first = number == 0
            return reverse_product(
                self.batch_loss, forward.net, batch, parameters, pieces, penalty=first, required=required and first
            )

        return self.map_batches(of_batch)

    def folded_parts(
        self, parameters: Sequence[Tensor], pieces: Sequence[Tensor], names: Sequence[str] | None
    ) -> Iterator[Tensor]:
        """Compute each batch's part of a product in forward mode; names: those of a block's parameters, None for all."""
        tensors = self.tensors()
        if names is not None:
            fixed = dict(zip(self.names, self.parameters, strict=True))
            tensors |= {name: value.detach() for name, value in fixed.items()}
        elif self.compiled is not None:
            for batch in self.batches():
                yield flatten(self.compiled(parameters, tensors, pieces, batch), parameters)
            return
        own = self.names if names is None else names

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            assert forward.function is not None
            loss = FoldedLoss(self.batch_loss, forward.function, own, tensors)
            return forward_product(loss, item[1], parameters, pieces)

        with forward_ad.dual_level():  # one for all threads, because it belongs to the process
            yield from self.map_batches(of_batch)

    def functional_product(
        self, parameters: Sequence[Tensor], tensors: dict[str, Tensor], vectors: Sequence[Tensor], batch: Batch
    ) -> list[Tensor]:
        """Compute one batch's product in the form that torch.compile accepts."""
        function = self.forward.function
        assert function is not None
        return functional_product(
            FoldedLoss(self.batch_loss, function, self.names, tensors), batch, parameters, vectors
        )

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

    def weights(self) -> Tensor:
        """Return the chosen parameters as a vector (size,)."""
        with self.session():
            return self.flatten(self.parameters)

    @contextmanager
    def displaced(self, change: Tensor | None) -> Iterator[None]:
        """Add a vector (size,) to the chosen parameters within; afterwards they are restored bit for bit."""
        with self.session():
            before = [p.detach().clone() for p in self.parameters]
            pieces = [None] * len(before) if change is None else self.unflatten(change.to(self.device, self.dtype))
            with torch.no_grad():
                for p, piece in zip(self.parameters, pieces, strict=True):
                    if piece is not None:
                        p.data.add_(piece)
            try:
                yield
            finally:
                with torch.no_grad():
                    for p, value in zip(self.parameters, before, strict=True):
                        p.data.copy_(value)

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

    def batch_loss(self, model: Model, batch: Batch, *, penalty: bool = False) -> Tensor:
        """Compute one batch's part of the mean loss, with `penalty` also the loss's term of the parameters."""
        losses = self.loss(model, batch)
        if losses.penalty is not None and not isinstance(model, nn.Module):
            raise NotFoldable("the loss has a term of the parameters")
        weighted = losses.per_sample if losses.weights is None else losses.weights * losses.per_sample
        part = weighted.sum() / self.total_weight
        return part + losses.penalty * self.penalty_share if penalty and losses.penalty is not None else part

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Split a vector (size,) into views in the shapes of the parameters."""
        return unflatten(vector, self.shapes)

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Concatenate a tensor for each parameter to a vector (size,); None stands for zeros."""
        return flatten(tensors, self.parameters)


@dataclass(frozen=True)
class HessianBlock:
    """A diagonal block of a Hessian as an operator: see `Hessian.block`."""

    hessian: Hessian
    names: Sequence[str]

    @property
    def size(self) -> int:
        return size_of(self.hessian.names, self.hessian.shapes, self.names)

    @property
    def dtype(self) -> torch.dtype:
        return self.hessian.dtype

    @property
    def device(self) -> torch.device:
        return self.hessian.device

    def __call__(self, vector: Tensor) -> Tensor:
        return self.hessian(vector, self.names)


def move(tensors: Mapping[str, Tensor], point: Mapping[str, Tensor]) -> int:
    """Copy a point into tensors, in place; set negative variances to zero, and return their number."""
    clamped = 0
    with torch.no_grad():
        for name, value in point.items():
            own = tensors[name].data
            own.copy_(value)
            if is_variance(name):
                clamped += int((own < 0).sum())
                own.clamp_(min=0)
    return clamped


def short_reason(error: Exception, width: int) -> str:
    """Return the first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:width]


def usual_batch_size(samples: int, device: str, threads: int) -> int:
    """Choose a batch size: the largest one that leaves a batch for each thread, within fixed limits.

    Args:
        samples: Number of samples.
        device: 'cpu' or 'cuda'.
        threads: Number of threads.
    """
    return max(SMALLEST, min(LARGEST[device], -(-samples // threads)))
