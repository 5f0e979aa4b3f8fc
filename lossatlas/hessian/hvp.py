"""Products with the Hessian of a network's mean loss.

    operator = Hessian(net, data, LOSSES["crossentropy"])
    operator(v)                    # the Hessian times v, (size,) both
    loss, gradient = operator.gradient()

Convention: the mean over the samples (with weights, the weighted mean), plus the loss's own term of the parameters.
Products are exact (Pearlmutter, 1994); batches come in a fixed order, the network is in eval mode, and its outputs are
turned into float64 before the loss is computed.

Two ways: `folded`, where BatchNorm is folded into the layers in front of it as a differentiable function and the
gradient is differentiated forwards along v; and otherwise the gradient's product with v, differentiated backwards.
The first takes 2 to 2.7 gradients, and 1.6 to 2 when it is compiled; the second up to 4. On the CPU batches go side by
side, see `lanes`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import WeightNorm

from lossatlas.data.losses import Batch, Loss, is_single_threaded
from lossatlas.data.streamed import AnyData, some_of
from lossatlas.data.structures import leaves
from lossatlas.errors import BadInput, BadUsage, Stop, note
from lossatlas.evaluation.folding import FoldedFunction, NotFoldable
from lossatlas.evaluation.parallel_batches import (
    ParallelBatches,
    deep_copy,
    default_parallel_batches,
    evaluation_copy,
    replicas,
)
from lossatlas.evaluation.precision import PRECISIONS, channels_come_last, in_float64, set_numerics
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import fitted, is_changed, map_inputs, place_samples
from lossatlas.hessian.derivative_check import NO_GRAPH, causes_in, check_derivatives, derived
from lossatlas.hessian.lanczos import Operator
from lossatlas.parameter_space.directions import Selection
from lossatlas.parameter_space.points import Point, converted, is_variance, movable

Reduce = Callable[[Tensor], Tensor]  # the sum of a vector over the ranks that share the data
SYMMETRIC = 2e-3  # of the length of a product: rounding in float32 stays far below
FEW, ASIDE = (
    16,
    0.02,
)  # samples, spread over the data, and a step relative to the weights, with which the network itself is compared
CHECKED = 8  # samples on which the folded way is compared with the other
LARGEST, SMALLEST = {"cpu": 128, "cuda": 256}, 32  # samples in a batch
IN_FLIGHT = 512  # samples whose activations are in memory at once, in batches side by side


@dataclass(frozen=True)
class EquivalentForward:
    """The network and what its folded form computes, which belong to one batch while that is computed."""

    net: nn.Module
    function: FoldedFunction | None


class Hessian:
    """The Hessian with respect to chosen parameters of a copy of `net`, as a function of flat vectors.

    parameters: patterns of parameter names (re.search), all parameters by default; without: a parameter that one of these
    matches is left out. A tensor with several names (tied weights) is meant by any of them, and counts once.
    matrices_only: of these the ones with more than one axis, as in the release of Li et al. reduce: where the data are
    spread over ranks, how a vector is summed over them; then `total` is the weight of all samples. batch_size: see
    `usual_batch_size`. lanes: how many batches go side by side on the CPU; by default one for each thread, if there are
    enough batches. folded: whether to fold BatchNorm; by default where that is possible and right, see `why_not_folded`.
    compiled: let torch.compile fuse the folded way, which takes half a minute or more at the first product. precision:
    'float32' or 'float64'; by default that of the parameters, and float32 for half precision.
    A copy whose gradient is not that of the network itself is not used: then products move the network in place, and it is
    what it was after each. Raises BadUsage where no parameter is chosen, or where what is not folded should be compiled;
    BadInput where derivatives are not those of the loss, see `derivatives.check_derivatives`.
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
        lanes: int | None = None,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        folded: bool | None = None,
        compiled: bool = False,
        precision: str | None = None,
    ) -> None:
        self.own, self.loss, self.reduce = net, loss, reduce or (lambda vector: vector)
        self.selection, self.matrices_only = Selection(parameters, without, self.own), matrices_only
        self.position: Point | None = None  # where a network that is moved in place is to be, if it is not where it was
        self.entered, self.in_place = False, False
        try:
            self.arrange(curvature_copy(self.own, device, precision), data, batch_size, compiled)
            wrong = self.difference()
        except (Stop, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            wrong = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        if wrong:
            self.borrow(device, precision, wrong)
            self.arrange(self.own, data, batch_size, compiled)
        self.why_not_folded = "not asked for" if folded is False else self.fold()
        if folded and not self.folded:
            raise BadInput(f"BatchNorm cannot be folded: {self.why_not_folded}")
        if compiled and not self.folded:
            raise BadUsage(f"only what is folded can be compiled; this network is not: {self.why_not_folded}")
        self.compiled = torch.compile(self.differentiated, fullgraph=True, dynamic=False) if compiled else None
        threads = torch.get_num_threads() if self.device.type == "cpu" and not compiled else 1
        most = max(1, min(threads, IN_FLIGHT // self.batch_size))
        count = (
            1 if is_single_threaded(loss) or self.in_place else lanes or default_parallel_batches(len(self.spans), most)
        )
        with self.session():
            check_derivatives(self)
        self.side = (
            ParallelBatches([self.twin, *self.twins(count - 1)], max(1, threads // count)) if count > 1 else None
        )

    def arrange(self, net: nn.Module, data: AnyData, batch_size: int | None, compiled: bool) -> None:
        """Choose the parameters of a network, and put the data in place."""
        self.net = net
        if not self.in_place:
            net.register_forward_hook(in_float64)
        named = dict(net.named_parameters())
        self.names = [
            n
            for n, value in named.items()
            if n in self.selection and movable(value) and (value.dim() > 1 or not self.matrices_only)
        ]
        self.check_names(named)
        self.parameters = [named[name] for name in self.names]
        if not self.in_place:
            for parameter in self.parameters:
                parameter.requires_grad_(True)
        self.shapes = [p.shape for p in self.parameters]
        self.size = sum(p.numel() for p in self.parameters)
        self.dtype, self.device = self.parameters[0].dtype, self.parameters[0].device
        images = any(isinstance(x, Tensor) and x.dim() == 4 for _, x in leaves(next(iter(data.batches(1)))))
        last = channels_come_last(self.device, "float32") and not self.in_place
        samples = place_samples(data, self.device, self.dtype, channels_last=last)
        if images and last and not self.takes(samples.first_samples()):
            samples = place_samples(data, self.device, self.dtype, channels_last=False)
        threads = torch.get_num_threads() if self.device.type == "cpu" and not compiled else 1
        self.batch_size = batch_size or usual_batch_size(len(data), self.device.type, threads)
        self.samples = samples
        self.some = place_samples(some_of(data, FEW), self.device, self.dtype, channels_last=samples.channels_last)
        self.spans = list(samples.spans(0, len(samples), self.batch_size))
        sample = samples.first_samples()
        with torch.no_grad(), self.session():
            self.loss(self.net, sample)
            samples.overwritten = is_changed(sample, samples.first_samples())
            weights = [self.loss(self.net, batch).weights for batch in self.given()]
        own = sum(
            float(stop - start if w is None else w.double().sum())
            for (start, stop), w in zip(self.spans, weights, strict=True)
        )
        self.total = float(self.reduce(torch.tensor([own], dtype=torch.float64))[0])
        self.share = own / self.total  # of the term of the parameters alone, which every rank would add
        self.twin = EquivalentForward(self.net, None)

    def check_names(self, named: Mapping[str, Tensor]) -> None:
        """Raise BadUsage where no parameter is chosen, BadInput where one is complex."""
        if not self.names:
            only = self.selection.only
            what = (
                f"is left by '{self.selection}'"
                if self.selection.without
                else f"is called like {', '.join(only) or 'a matrix'}"
            )
            raise BadUsage(f"no parameter {what}: there are {', '.join(named)}")
        if pairs := [name for name in self.names if named[name].is_complex()]:
            raise BadInput(
                f"the Hessian is taken with respect to real parameters, and '{pairs[0]}' is complex: leave it out, or keep "
                "its real and imaginary parts as two parameters"
            )

    def borrow(self, device: torch.device | str, precision: str | None, wrong: str) -> None:
        """From now on use the network itself, in place. Raises BadUsage where that is not possible."""
        first = next(p for p in self.own.parameters() if movable(p))
        if len({p.dtype for p in self.own.parameters() if movable(p)}) > 1:
            raise BadInput(
                f"products with the Hessian need parameters of one precision, and a copy in one does not work ({wrong}): "
                "convert the network itself"
            )
        asked = PRECISIONS[precision][0] if precision in PRECISIONS else first.dtype
        if first.dtype not in (torch.float32, torch.float64) or asked != first.dtype:
            raise BadInput(
                f"a converted copy of this network does not compute what it computes ({wrong}), and products with the "
                f"Hessian in {str(asked).removeprefix('torch.')} need one: convert the network itself to it first"
            )
        if first.device.type != torch.device(device).type:
            raise BadUsage(
                f"device {device}: this network can only be evaluated in place ({wrong}), on {first.device}: move it first"
            )
        note(f"products with the Hessian use the network itself, which is slower: {wrong}")
        self.in_place = True

    @contextmanager
    def session(self) -> Iterator[None]:
        """While the network is computed with: one that is used in place is moved there, and afterwards what it was before."""
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

    def difference(self) -> str:
        """How the gradient of a copy differs from that of the network itself, beside its weights; '' where it does not.

        Both are those of a few samples, compared tensor by tensor.
        """
        aside = self.aside()
        self.check_repeated()
        with self.changed(aside), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            value = self.part(self.net, self.some.first_samples(FEW), penalty=True)
            found = derived(lambda: self.slopes(value, self.parameters, False), causes_in(value))
        with evaluated_in_place(self.own), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            named = dict(self.own.named_parameters())
            own = [named[name].requires_grad_(True) for name in self.names]
            with torch.no_grad():
                for parameter, piece in zip(own, self.unflatten(aside), strict=True):
                    parameter.data.add_(piece.to(parameter.device, parameter.dtype))
            there = self.part(self.own, fitted(self.some.first_samples(FEW), self.own), penalty=True)
            wanted = self.slopes(there, own, False)
        return self.unlike(float(value.detach()), float(there.detach()), found, wanted, {p.dtype for p in own})

    def check_repeated(self) -> None:
        """Raise BadInput where a few losses differ when they are computed twice."""
        with torch.random.fork_rng(), torch.no_grad(), self.session():
            first, second = (float(self.part(self.net, self.some.first_samples(FEW), penalty=True)) for _ in range(2))
        if first != second and not (math.isnan(first) and math.isnan(second)):
            raise BadInput(
                f"two losses at the same weights differ by {abs(first - second):.1e}: the network or its loss is random "
                "(dropout, noise, shuffled data), and its Hessian is not defined"
            )

    def unlike(
        self,
        value: float,
        there: float,
        found: Sequence[Tensor | None],
        wanted: Sequence[Tensor | None],
        kinds: set[torch.dtype],
    ) -> str:
        """See `difference`. kinds: of the network's own parameters."""
        low = bool(kinds & {torch.bfloat16, torch.float16})
        loss_error, tensor_error, whole_error = (5e-2, math.inf, 0.2) if low else (1e-4, 2e-2, 1e-3)
        if math.isfinite(there) and not abs(value - there) <= loss_error * abs(there):
            return f"its loss would be {value:.6g} where that of the network itself is {there:.6g}"
        pairs = [
            (
                torch.zeros(()) if f is None else f.detach().double().cpu(),
                torch.zeros(()) if w is None else w.detach().double().cpu(),
            )
            for f, w in zip(found, wanted, strict=True)
        ]
        length = math.sqrt(sum(float(w.norm()) ** 2 for _, w in pairs))
        for name, (f, w) in zip(self.names, pairs, strict=True):
            error = float((f - w).norm())
            if error > tensor_error * float(w.norm()) + whole_error * length:
                return f"the gradient with respect to '{name}' would be off by {error / max(length, 1e-300):.1e} of its length"
        return ""

    def aside(self) -> Tensor:
        """A small random step, relative to the size of each tensor, at whose end the gradient is not zero."""
        generator = torch.Generator().manual_seed(0)
        pieces = []
        for p in self.parameters:
            size = float(p.detach().double().norm()) / math.sqrt(max(1, p.numel()))
            pieces.append(ASIDE * (size or 0.1) * torch.randn(p.shape, generator=generator).to(p.device, p.dtype))
        return self.flatten(pieces)

    @property
    def folded(self) -> bool:
        return self.twin.function is not None

    def block(self, names: Sequence[str]) -> "HessianBlock":
        """The diagonal block that belongs to these parameters, as an operator."""
        return HessianBlock(self, names)

    def twins(self, count: int) -> Iterator[EquivalentForward]:
        """More of them, around the same parameters."""
        for net in replicas(self.net, count):
            yield EquivalentForward(net, None if self.twin.function is None else FoldedFunction(net))

    def fold(self) -> str:
        """Use the folded way if it gives the same product on a few samples, in float64; otherwise why not."""
        if self.in_place:
            return "the network itself is used, in place"
        twin = in_double(self.net)
        tensors = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}
        parameters, generator = [tensors[name] for name in self.names], torch.Generator().manual_seed(0)
        vectors = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(self.device) for p in parameters]
        batch, again = (map_inputs(self.samples.first_samples(CHECKED), doubled) for _ in range(2))
        try:
            folded = EquivalentForward(self.net, FoldedFunction(self.net))
            with forward_ad.dual_level():
                found = self.forwards(parameters, tensors, vectors, self.names, folded, (0, batch))
            with sdpa_kernel(SDPBackend.MATH):
                expected = self.backwards(vectors, parameters, EquivalentForward(twin, None), (1, again))
            error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
            reason = "" if error <= 1e-6 else f"it would change a product by {error:.1e}"
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        if not reason:
            self.twin = folded
        return reason

    def takes(self, batch: Batch) -> bool:
        """Whether the network computes images in channels-last order; `view` does not."""
        try:
            with torch.no_grad():
                self.loss(self.net, batch)
        except RuntimeError:
            return False
        return True

    def given(self) -> Iterator[Batch]:
        """The batches, as copies where the network writes into its input."""
        return self.samples.stream(self.spans)

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer of the network by name."""
        return {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}

    def place(self, point: Mapping[str, Tensor]) -> int:
        """Move the network to a point of a plane, see `space.planes`; gives the number of variances that were negative.

        They are set to zero.
        """
        if not self.in_place:
            return move(self.tensors(), point)
        self.position = {name: value.clone() for name, value in point.items()}
        return move(self.position, point)

    def __call__(self, vector: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """The Hessian times a vector (size,), in the parameters' dtype.

        names: those parameters alone vary, the vector covers them, and the product is that with their block.
        """
        set_numerics(self.device)
        with self.session():
            return self.product(vector, names)

    def product(self, vector: Tensor, names: Sequence[str] | None) -> Tensor:
        chosen = [k for k, name in enumerate(self.names) if names is None or name in names]
        parameters = [self.parameters[k] for k in chosen]
        pieces = unflatten(vector.to(self.device, self.dtype), [self.shapes[k] for k in chosen])
        total = torch.zeros(len(vector), dtype=self.dtype, device=self.device)
        if self.folded:
            tensors = self.tensors()
            if names is not None:
                fixed = dict(zip(self.names, self.parameters, strict=True))
                tensors |= {name: value.detach() for name, value in fixed.items()}
            chosen_names = [self.names[k] for k in chosen]
            if self.compiled is not None and names is None:
                for batch in self.given():
                    total += flatten(self.compiled(parameters, tensors, pieces, batch), parameters)
            else:
                with forward_ad.dual_level():  # one for all threads, because it belongs to the process
                    for part in self.each(partial(self.forwards, parameters, tensors, pieces, chosen_names)):
                        total += part
        else:
            for part in self.each(partial(self.backwards, pieces, parameters)):
                total += part
        return self.reduce(total)

    def each(self, function: Callable[[EquivalentForward, tuple[int, Batch]], Tensor]) -> Iterator[Tensor]:
        """function(twin, (number, batch)) of every batch, in their order."""
        batches = enumerate(self.given())
        # Fused attention has no second derivative (pytorch issue 116350).
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            if self.side is not None:
                yield from self.side.map(function, batches)
            else:
                for batch in batches:
                    yield function(self.twin, batch)

    def forwards(
        self,
        parameters: Sequence[Tensor],
        tensors: dict[str, Tensor],
        vectors: Sequence[Tensor],
        names: Sequence[str],
        twin: EquivalentForward,
        item: tuple[int, Batch],
    ) -> Tensor:
        """The derivative along `vectors` of the gradient of one batch's part of the mean loss; inside of a dual level."""
        assert twin.function is not None
        function = twin.function
        moving = [
            forward_ad.make_dual(p.detach().requires_grad_(True), v.detach())
            for p, v in zip(parameters, vectors, strict=True)
        ]
        own = {**tensors, **dict(zip(names, moving, strict=True))}
        value = self.part(lambda *a, **k: in_float64(None, None, function(own, *a, **k)), item[1])
        gradients = torch.autograd.grad(value, moving, allow_unused=True)
        return flatten([None if g is None else forward_ad.unpack_dual(g).tangent for g in gradients], parameters)

    def differentiated(
        self,
        parameters: Sequence[Tensor],
        tensors: dict[str, Tensor],
        vectors: Sequence[Tensor],
        batch: Batch,
    ) -> list[Tensor]:
        """The same in the form that torch.compile takes."""
        function = self.twin.function
        assert function is not None

        def part(*moving: Tensor) -> Tensor:
            own = {**tensors, **dict(zip(self.names, moving, strict=True))}
            return self.part(lambda *a, **k: in_float64(None, None, function(own, *a, **k)), batch)

        gradient = grad(part, argnums=tuple(range(len(parameters))))
        return list(jvp(gradient, tuple(p.detach() for p in parameters), tuple(v.detach() for v in vectors))[1])

    def backwards(
        self, vectors: Sequence[Tensor], parameters: Sequence[Tensor], twin: EquivalentForward, item: tuple[int, Batch]
    ) -> Tensor:
        """The gradient of one batch's part, its product with `vectors`, and the gradient of that."""
        value = self.part(twin.net, item[1], penalty=item[0] == 0)
        gradients = self.slopes(value, parameters, item[0] == 0, create_graph=True)
        used = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g is not None and g.requires_grad]
        if not used:  # a loss that is linear in the parameters
            return torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=self.device)
        product = torch.stack([(g * v.detach()).sum() for g, v in used]).sum()
        return flatten(torch.autograd.grad(product, parameters, allow_unused=True), parameters)

    def slopes(
        self, value: Tensor, parameters: Sequence[Tensor], first: bool, create_graph: bool = False
    ) -> Sequence[Tensor | None]:
        """The derivatives of one batch's part. Raises BadInput where the first one has none with respect to any parameter."""
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if value.requires_grad:
            try:
                found = torch.autograd.grad(value, parameters, create_graph=create_graph, allow_unused=True)
            except RuntimeError as error:
                if "a second time" not in str(error):
                    raise
                raise BadInput(NO_GRAPH) from error
        if first and len(parameters) == len(self.parameters) and all(slope is None for slope in found):
            raise BadInput(
                "autograd sees no parameter in the loss: it is computed without a graph (torch.no_grad, detach, "
                "torch.func.linearize), or from others than the chosen parameters"
            )
        return found

    def gradient(self) -> tuple[float, Tensor]:
        """The mean loss and its gradient (size,)."""

        def of(twin: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            value = self.part(twin.net, item[1], penalty=item[0] == 0)
            own = self.flatten(self.slopes(value, self.parameters, item[0] == 0))
            return torch.cat([value.detach().reshape(1), own.double()])

        total = torch.zeros(1 + self.size, dtype=torch.float64, device=self.device)
        with self.session():
            for part in self.each(of):
                total += part
        return float(self.reduce(total[:1].cpu())[0]), self.reduce(total[1:].to(self.dtype))

    def weights(self) -> Tensor:
        """The chosen parameters, (size,)."""
        with self.session():
            return self.flatten(self.parameters)

    @contextmanager
    def changed(self, change: Tensor | None) -> Iterator[None]:
        """The network with the chosen parameters changed by a vector (size,); afterwards they are what they were, bit for bit."""
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
        """The same as `gradient`, at changed parameters."""
        with self.changed(change):
            return self.gradient()

    def loss_at(self, change: Tensor | None) -> float:
        """The mean loss at changed parameters."""

        def of(twin: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            with torch.no_grad():
                return self.part(twin.net, item[1], penalty=item[0] == 0).double().reshape(1)

        with self.changed(change):
            total = torch.zeros(1, dtype=torch.float64, device=self.device)
            for part in self.each(of):
                total += part
            return float(self.reduce(total.cpu())[0])

    def part(self, model: Callable[..., Any], batch: Batch, penalty: bool = False) -> Tensor:
        losses = self.loss(model, batch)
        if losses.penalty is not None and not isinstance(model, nn.Module):
            raise NotFoldable("the loss has a term of the parameters")
        weighted = losses.per_sample if losses.weights is None else losses.weights * losses.per_sample
        part = weighted.sum() / self.total
        return part + losses.penalty * self.share if penalty and losses.penalty is not None else part

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        return unflatten(vector, self.shapes)

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """One vector, zero where a parameter does not enter."""
        return flatten(tensors, self.parameters)


def curvature_copy(net: nn.Module, device: torch.device | str, precision: str | None = None) -> nn.Module:
    """A copy whose parameters are of one type: float64 where all are, or where it is asked for, otherwise float32."""
    kinds = {p.dtype for p in net.parameters() if movable(p)}
    wanted = PRECISIONS[precision][0] if precision in PRECISIONS else None
    dtype = wanted or (torch.float64 if kinds == {torch.float64} else torch.float32)
    change = None if kinds == {dtype} else dtype
    result = evaluation_copy(net)._apply(lambda t: converted(t, device, change)).requires_grad_(False)
    for module in result.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # sparse gradients cannot be differentiated again
    with_plain_weight_norm(result)
    return result


def with_plain_weight_norm(net: nn.Module) -> None:
    """Let weight norm be computed by plain operations: the second derivative of the fused one is wrong (torch 2.13)."""
    for module in net.modules():
        if isinstance(module, parametrizations._WeightNorm):
            vars(module)["forward"] = partial(normed_weight, module.dim)
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                vars(hook)["compute_weight"] = partial(hooked_weight, hook.name, hook.dim)


def normed_weight(dim: int, length: Tensor, direction: Tensor) -> Tensor:
    return direction * (length / torch.norm_except_dim(direction, 2, dim))


def hooked_weight(name: str, dim: int, module: nn.Module) -> Tensor:
    return normed_weight(dim, getattr(module, f"{name}_g"), getattr(module, f"{name}_v"))


def in_double(net: nn.Module) -> nn.Module:
    """A copy in float64, on the same device."""
    return deep_copy(net)._apply(lambda t: converted(t, t.device, torch.float64))


def move(tensors: Mapping[str, Tensor], point: Mapping[str, Tensor]) -> int:
    """Put a point into tensors, in place; gives the number of variances that were negative, and are set to zero."""
    clamped = 0
    with torch.no_grad():
        for name, value in point.items():
            own = tensors[name].data
            own.copy_(value)
            if is_variance(name):
                clamped += int((own < 0).sum())
                own.clamp_(min=0)
    return clamped


@dataclass(frozen=True)
class HessianBlock:
    """A diagonal block of a Hessian: see `Hessian.block`."""

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


def size_of(names: Sequence[str], shapes: Sequence[torch.Size], chosen: Sequence[str] | None) -> int:
    """How many numbers the chosen parameters have; None for all."""
    return sum(shape.numel() for name, shape in zip(names, shapes, strict=True) if chosen is None or name in chosen)


def check_deterministic(operator: Operator, tolerance: float = 1e-5) -> None:
    """Raise BadInput when two products at the same weights differ, as with dropout in eval mode or noise.

    Or when they are not finite; or not those of a symmetric operator, as where torch's second derivative of a layer is
    wrong (that of the fused `weight_norm` is, in 2.13).
    """
    generator = torch.Generator().manual_seed(0)
    probe, other = (
        torch.randn(operator.size, generator=generator).to(operator.device, operator.dtype) for _ in range(2)
    )
    with torch.random.fork_rng():
        first, second = operator(probe), operator(probe)
    if not torch.isfinite(first).all():
        raise BadInput("the Hessian of this network's loss is not finite: a weight is not, or the loss overflows")
    error = float((first - second).norm() / first.norm().clamp(min=1e-30))
    if not error <= tolerance:
        raise BadInput(
            f"two products with the same vector differ by {error:.1e}: the network or its loss is random "
            "(dropout, noise, shuffled data), and its Hessian is not defined"
        )
    there, back = float(other.double() @ first.double()), float(probe.double() @ operator(other).double())
    if not abs(there - back) <= SYMMETRIC * float(first.double().norm()):
        raise BadInput(
            f"products with this network's Hessian are not symmetric (u'Hv = {there:.6g}, v'Hu = {back:.6g}): torch's "
            "second derivative of one of its layers is wrong (weight_norm is known for it): remove it, for example "
            "with torch.nn.utils.parametrize.remove_parametrizations"
        )


def usual_batch_size(samples: int, device: str, threads: int) -> int:
    """The largest one; smaller where there would not be a batch for each thread."""
    return max(SMALLEST, min(LARGEST[device], -(-samples // threads)))


def doubled(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def unflatten(vector: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = vector.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def flatten(tensors: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """One vector, zero where a parameter does not enter."""
    return torch.cat(
        [
            p.new_zeros(p.numel()) if t is None else t.detach().reshape(-1)
            for t, p in zip(tensors, parameters, strict=True)
        ]
    )
