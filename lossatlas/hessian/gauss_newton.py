"""Products with the generalized Gauss-Newton matrix, the Fisher information matrix, and the gradients' second moment.

    operator = GaussNewton(net, data, LOSSES["crossentropy"], matrix="ggn")
    operator(v)                    # the matrix times v, (size,) both

Let z be the output of the network for a sample, J its Jacobian with respect to the parameters, and l(z) the loss of the
sample. Each matrix is the (weighted) mean over the samples of J^T B J with a matrix B of the size of the output:

- `ggn`: B is the Hessian of l. It is the Hessian without the curvature of the network, and positive semidefinite for
  convex losses (Schraudolph, Neural Computation 14, 2002).
- `fisher`: B is the Fisher information of the distribution whose negative log-likelihood is l. For the cross-entropy,
  and for the squared error of numbers, it is the Hessian of l with respect to z, so that the matrix is that of `ggn`
  (Martens, JMLR 21, 2020); other losses are refused.
- `mc_fisher`: an unbiased estimate of that of `fisher`. B is the mean of g g^T over targets drawn from the
  distribution, g being the gradient of l with a drawn target. Positions of a sequence are drawn one by one.
- `empirical_fisher`: B is g g^T, g being the gradient of l with the target of the data: the uncentred second moment of
  the samples' gradients.

J v is computed in forward mode, by a forward pass of its own (within one that is recorded, the backward pass would
differentiate the tangents too, which takes longer). Where a layer has no derivative in forward mode, the
transposed product J^T w, which is linear in w, is differentiated with respect to w instead, which takes longer. The
gradient is compared with finite differences, and J v with J^T w, before they are used.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from lossatlas.choices import CurvatureMatrix, ProductPrecision
from lossatlas.data.drawn_targets import TargetDraws, draw_targets
from lossatlas.data.losses import LOSSES, Batch, Loss, Losses
from lossatlas.data.losses import forward as output_and_targets
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.evaluation.folding import NotFoldable
from lossatlas.hessian.batch_derivatives import EquivalentForward, with_causes
from lossatlas.hessian.batching import usual_batch_size
from lossatlas.hessian.curvature_operator import CurvatureOperator
from lossatlas.hessian.derivative_check import check_gradient
from lossatlas.hessian.flat_vectors import flatten
from lossatlas.hessian.loss_samples import Reduce, weighted_sum
from lossatlas.parameter_space.selection import Selection

LARGEST_DISAGREEMENT = 1e-3  # of products with the Jacobian and its transpose, relative
NO_PARAMETER = "the outputs of the network depend on none of the chosen parameters"
LIKELIHOODS = (LOSSES["crossentropy"], LOSSES["next_token"], LOSSES["mse"])  # for numbers as targets


class GaussNewton(CurvatureOperator):
    """A matrix J^T B J of the mean loss with respect to chosen parameters, as an operator on flat vectors.

    Args:
        net: The network.
        data: Its samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`. It calls the model once for a batch, and has no term of
            the parameters.
        matrix: 'ggn', 'fisher', 'mc_fisher' or 'empirical_fisher'.
        draws: For 'mc_fisher', the random numbers of the targets; by default one target for each sample.
        parameters: Patterns of parameter names (re.search); all parameters by default.
        without: Patterns of parameters to leave out.
        matrices_only: Of these, take those with more than one axis.
        batch_size: Samples in a batch; see `lossatlas.hessian.batching` for the default.
        parallel_batches: Batches that are computed in parallel on the CPU; by default one for each thread if there are
            enough batches.
        device: The device.
        reduce: Sums a vector over the ranks where samples are distributed over ranks.
        reduce_setup: The same during construction, whose sums every rank needs; by default `reduce`.
        precision: 'float32' or 'float64'; by default that of the parameters, and float32 for half precision.

    Attributes:
        names: The names of the parameters, in the order of the vectors.
        shapes: Their shapes.
        size: The number of their entries.
        dtype: Their type, which products have too.
        device: Their device.
        total_weight: The weight of all samples, over all ranks.
        forward_mode: J v is computed in forward mode.
        semidefinite: It is known that no eigenvalue is negative: B is a mean of outer products, or the Hessian of a
            convex loss. False for a loss of the user's own, whose samples may have negative weights.

    Raises:
        BadUsage: No parameter is chosen, or the loss is no negative log-likelihood that is known, for 'fisher' and
            'mc_fisher'.
        BadInput: The network is random, a parameter is complex, or the loss has a term of the parameters, calls the
            network more than once, or the gradient is not that of the loss.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> operator = GaussNewton(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"], matrix="ggn")
        >>> operator(torch.ones(operator.size)).shape
        torch.Size([27])
    """

    def __init__(
        self,
        net: nn.Module,
        data: AnyData,
        loss: Loss,
        *,
        matrix: CurvatureMatrix,
        draws: TargetDraws | None = None,
        parameters: str | Sequence[str] = (),
        without: str | Sequence[str] = (),
        matrices_only: bool = False,
        batch_size: int | None = None,
        parallel_batches: int | None = None,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        reduce_setup: Reduce | None = None,
        precision: ProductPrecision | None = None,
    ) -> None:
        check_likelihood(matrix, loss)
        threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
        super().__init__(
            net,
            data,
            loss,
            selection=Selection(parameters, without, net),
            matrices_only=matrices_only,
            batch_size=batch_size or usual_batch_size(len(data), device, threads),
            device=device,
            reduce=reduce,
            reduce_setup=reduce_setup,
            precision=precision,
        )
        check_likelihood(matrix, loss, self.samples.few())
        self.forward_mode = True
        of_labels = loss is LOSSES["mse"] and has_labels(self.samples.few())
        self.semidefinite = loss in LIKELIHOODS and (matrix != "ggn" or not of_labels)
        self.curvature = OutputCurvature(matrix, self.samples.loss, draws or TargetDraws())
        with self.session():
            self.check()
        self.start_workers(threads, parallel_batches)

    def check(self) -> None:
        """Compute a product with a few samples, so that what this loss does not allow is known at once.

        Raises:
            BadInput: The loss has a term of the parameters, calls the network more than once, or mixes samples.
        """
        check_gradient(self)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            self.forward_mode = not pads(self.net) and self.has_forward_mode()
            if not self.forward_mode and not with_causes(self.agrees_with_transpose, ""):
                raise BadInput("a layer has a derivative of its own that cannot be differentiated again, as J v needs")
            with tangents_enabled():
                few = self.samples.few()
                own = self.names, self.parameters, self.parameters
                self.batch_product(self.forward, few, *own, first=0, required=True)

    def has_forward_mode(self) -> bool:
        """Return whether all layers have derivatives in forward mode that agree with those in reverse mode."""
        try:
            with tangents_enabled():
                return self.agrees_with_transpose()
        except Exception:  # in reverse mode, what is wrong with the network or the loss is found again
            return False

    def parts(
        self, parameters: Sequence[Tensor], pieces: Sequence[Tensor], names: Sequence[str] | None
    ) -> Iterator[Tensor]:
        """Compute each batch's part of a product, see `CurvatureOperator.parts`."""

        own = self.names if names is None else names

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            number, batch = item
            required, first = names is None and number == 0, self.samples.spans[number][0]
            return self.batch_product(forward, batch, own, parameters, pieces, first=first, required=required)

        with tangents_enabled():
            yield from self.map_batches(of_batch)

    def agrees_with_transpose(self) -> bool:
        """Compare a product with the Jacobian of a few samples with one of its transpose."""
        generator = torch.Generator().manual_seed(3)
        vectors = [torch.randn(each.shape, generator=generator).to(each) for each in self.parameters]
        recorded = self.recorded_outputs(self.net, self.names, self.parameters, vectors)
        self.samples.loss(recorded, self.samples.few())
        weights = [torch.randn(each.shape, generator=generator).to(each) for each in recorded.outputs]
        back = torch.autograd.grad(
            recorded.outputs, self.parameters, grad_outputs=weights, retain_graph=True, allow_unused=True
        )
        tangents = recorded.tangents or jacobian_product(recorded.outputs, self.parameters, vectors, required=True)
        return are_transposes(tangents, weights, vectors, back)

    def recorded_outputs(
        self, net: nn.Module, names: Sequence[str], parameters: Sequence[Tensor], vectors: Sequence[Tensor]
    ) -> "RecordedOutputs":
        """Return a network whose outputs are recorded, in forward mode with their derivatives along vectors.

        Args:
            net: The network.
            names: The names of the parameters.
            parameters: The parameters.
            vectors: One for each parameter, in its shape.
        """
        if not self.forward_mode:
            return RecordedOutputs(net, None)
        pairs = zip(parameters, vectors, strict=True)
        duals = [forward_ad.make_dual(parameter.detach(), vector.detach()) for parameter, vector in pairs]
        return RecordedOutputs(net, dict(zip(names, duals, strict=True)))

    def batch_product(
        self,
        forward: EquivalentForward,
        batch: Batch,
        names: Sequence[str],
        parameters: Sequence[Tensor],
        vectors: Sequence[Tensor],
        *,
        first: int,
        required: bool,
    ) -> Tensor:
        """Multiply a batch's part of the matrix by vectors, within `tangents_enabled`.

        Args:
            forward: The network.
            batch: The samples.
            names: The names of the parameters.
            parameters: The tensors that the matrix refers to.
            vectors: One for each parameter, in its shape.
            first: The number of the first of the samples on this rank.
            required: Refuse outputs that depend on no parameter.

        Returns:
            The product (size,).
        """
        recorded = self.recorded_outputs(forward.net, names, parameters, vectors)
        try:
            losses = self.samples.loss(recorded, batch)
        except NotFoldable as error:
            raise BadInput(f"products need a loss of the outputs alone: {error}") from error
        if losses.penalty is not None:
            raise BadInput("the loss has a term of the parameters, which no matrix of the outputs contains")
        if self.forward_mode:
            tangents = recorded.tangents
            if required and not recorded.depends:
                raise BadInput(NO_PARAMETER)
        else:
            tangents = jacobian_product(recorded.outputs, parameters, vectors, required=required)
        curved = self.curvature.product(losses, recorded, batch, first, tangents)
        scaled = [each / self.total_weight for each in curved]
        found = torch.autograd.grad(recorded.outputs, parameters, grad_outputs=scaled, allow_unused=True)
        if not are_transposes(tangents, scaled, vectors, found):
            raise BadInput(
                "products with the Jacobian and with its transpose disagree for a batch: a layer has derivatives that "
                "are not those of its function, or depends on chance"
            )
        return flatten(found, parameters)


@dataclass(frozen=True)
class OutputCurvature:
    """The matrices B with respect to the outputs of a network.

    Attributes:
        matrix: 'ggn', 'fisher', 'mc_fisher' or 'empirical_fisher'.
        loss: The loss.
        draws: For 'mc_fisher', the random numbers of the targets.
    """

    matrix: CurvatureMatrix
    loss: Loss
    draws: TargetDraws

    def product(
        self, losses: Losses, recorded: "RecordedOutputs", batch: Batch, first: int, tangents: Sequence[Tensor]
    ) -> list[Tensor]:
        """Multiply the weighted sum of the samples' matrices B by tangents.

        Args:
            losses: The losses of the samples.
            recorded: The outputs.
            batch: The samples.
            first: The number of the first of them on this rank.
            tangents: A tensor for each output, in its shape.
        """
        if self.matrix == "empirical_fisher":
            return outer_product(losses, recorded.leaves, tangents)
        if self.matrix == "mc_fisher":
            numbers = range(first, first + len(losses.per_sample))
            return drawn_product(self.loss, recorded, batch, tangents, draws=self.draws, numbers=numbers)
        return hessian_product(losses, recorded.leaves, tangents)


def check_likelihood(matrix: CurvatureMatrix, loss: Loss, batch: Batch | None = None) -> None:
    """Check that a loss is the negative logarithm of a distribution, where a matrix needs one.

    Args:
        matrix: The matrix.
        loss: The loss.
        batch: A few samples, where they are known.

    Raises:
        BadUsage: The loss is no negative log-likelihood that is known.
    """
    if matrix not in ("fisher", "mc_fisher"):
        return
    if loss not in LIKELIHOODS:
        raise BadUsage(
            f"{named('matrix', matrix)} needs the distribution of the targets, which is known for crossentropy, "
            "next_token and mse: choose one of these losses, or ggn or empirical_fisher"
        )
    if batch is not None and loss is LOSSES["mse"] and has_labels(batch):
        raise BadUsage(
            f"{named('matrix', matrix)}: mse of labels compares probabilities, and is no log-likelihood: "
            "choose ggn or empirical_fisher"
        )


def pads(net: nn.Module) -> bool:
    """Return whether an embedding has a row whose gradient is left out, which forward mode does not do."""
    return any(getattr(module, "padding_idx", None) is not None for module in net.modules())


def are_transposes(
    tangents: Sequence[Tensor], weights: Sequence[Tensor], vectors: Sequence[Tensor], products: Sequence[Tensor | None]
) -> bool:
    """Compare w (J v) with (J^T w) v.

    Args:
        tangents: J v, a tensor for each output.
        weights: w, a tensor for each output.
        vectors: v, a tensor for each parameter.
        products: J^T w, a tensor for each parameter; None for zero.
    """
    here = [(w * t).detach().double() for w, t in zip(weights, tangents, strict=True)]
    there = [(g * v).detach().double() for g, v in zip(products, vectors, strict=True) if g is not None]
    size = sum(float(term.square().sum()) for term in (*here, *there)) ** 0.5
    off = sum(float(term.sum()) for term in here) - sum(float(term.sum()) for term in there)
    return not size or not math.isfinite(size) or abs(off) <= LARGEST_DISAGREEMENT * size


@contextmanager
def tangents_enabled() -> Iterator[None]:
    """Compute in forward mode within, in all threads; the fused inference of attention, which cannot, is off."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with forward_ad.dual_level():  # it belongs to the process
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def has_labels(batch: Batch) -> bool:
    """Return whether the targets of a batch are whole numbers."""
    return not output_and_targets(lambda *arguments, **keywords: torch.zeros(1), batch)[1].is_floating_point()


class RecordedOutputs:
    """A network whose output tensors are recorded, and replaced by leaves of a graph of their own for the loss.

    Args:
        net: The network.
        duals: Parameters by name with their tangents, for forward mode; None otherwise.

    Attributes:
        outputs: The output tensors that depend on parameters, with the graph of the network.
        leaves: The same values without it, which the loss depends on.
        tangents: In forward mode, the derivatives of the outputs along the tangents of the parameters.
        result: What the network returned, with the leaves in place of the outputs.
        depends: In forward mode, an output depends on one of the parameters.
    """

    def __init__(self, net: nn.Module, duals: Mapping[str, Tensor] | None) -> None:
        self.net, self.duals, self.called, self.depends = net, duals, False, False
        self.result: Any = None
        self.outputs: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.tangents: list[Tensor] = []

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self.called:
            raise BadInput("the loss calls the network more than once for a batch: only its Hessian is defined")
        self.called = True
        tangents = self.output_tangents(arguments, keywords)
        values, form = tree_flatten(self.net(*arguments, **keywords))
        pairs = zip(values, tangents or [None] * len(values), strict=True)
        self.result = tree_unflatten([self.recorded(value, tangent) for value, tangent in pairs], form)
        return self.result

    def output_tangents(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> list[Tensor | None]:
        """Compute, in forward mode, the derivative of each output; None where it is zero or the output no tensor."""
        if self.duals is None:
            return []
        with torch.no_grad():
            values, _ = tree_flatten(functional_call(self.net, dict(self.duals), arguments, keywords))
        return [forward_ad.unpack_dual(value).tangent if isinstance(value, Tensor) else None for value in values]

    def recorded(self, value: Any, tangent: Tensor | None) -> Any:
        """Return the leaf that stands for an output tensor; other outputs as they are."""
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        if self.duals is not None:
            self.depends = self.depends or tangent is not None
            self.tangents.append(torch.zeros_like(value) if tangent is None else tangent)
        leaf = value.detach().requires_grad_(True)
        self.outputs.append(value)
        self.leaves.append(leaf)
        return leaf


def jacobian_product(
    outputs: Sequence[Tensor], parameters: Sequence[Tensor], vectors: Sequence[Tensor], *, required: bool
) -> list[Tensor]:
    """Multiply the Jacobian of outputs by vectors.

    The product J^T w is linear in w, so that the derivative of its product with v is J v.

    Args:
        outputs: The outputs, with their graph.
        parameters: The tensors that the Jacobian refers to.
        vectors: One for each parameter, in its shape.
        required: Refuse outputs that depend on no parameter.

    Returns:
        A tensor for each output, in its shape.

    Raises:
        BadInput: The outputs depend on no parameter although that is required.
    """
    weights = [torch.zeros_like(output, requires_grad=True) for output in outputs]
    transposed: Sequence[Tensor | None] = [None] * len(parameters)
    if outputs:
        transposed = torch.autograd.grad(
            outputs, parameters, grad_outputs=weights, create_graph=True, allow_unused=True
        )
    used = [(t, v) for t, v in zip(transposed, vectors, strict=True) if t is not None and t.requires_grad]
    if not used:
        if required:
            raise BadInput(NO_PARAMETER)
        return [torch.zeros_like(output) for output in outputs]
    product = torch.stack([(t * v.detach()).sum() for t, v in used]).sum()
    found = torch.autograd.grad(product, weights, allow_unused=True)
    return [torch.zeros_like(w) if f is None else f for f, w in zip(found, weights, strict=True)]


def hessian_product(losses: Losses, leaves: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor]:
    """Multiply the Hessian of the weighted sum of losses with respect to outputs by tangents.

    Args:
        losses: The losses of the samples, with their graph.
        leaves: The outputs.
        tangents: A tensor for each output, in its shape.
    """
    total = weighted_sum(losses)
    slopes = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    used = [(s, t) for s, t in zip(slopes, tangents, strict=True) if s is not None and s.requires_grad]
    if not used:  # the loss is linear in the outputs
        return [torch.zeros_like(leaf) for leaf in leaves]
    product = torch.stack([(s * t).sum() for s, t in used]).sum()
    found = torch.autograd.grad(product, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if f is None else f for f, leaf in zip(found, leaves, strict=True)]


def drawn_product(
    loss: Loss,
    recorded: RecordedOutputs,
    batch: Batch,
    tangents: Sequence[Tensor],
    *,
    draws: TargetDraws,
    numbers: range,
) -> list[Tensor]:
    """Multiply the mean of g g^T over drawn targets by tangents, summed over a batch.

    Args:
        loss: The loss, a negative log-likelihood.
        recorded: The outputs of the network for the batch.
        batch: The samples.
        tangents: A tensor for each output, in its shape.
        draws: The random numbers.
        numbers: The numbers of the samples on this rank.
    """
    total = [torch.zeros_like(leaf) for leaf in recorded.leaves]

    def model(*arguments: Any, **keywords: Any) -> Any:
        return recorded.result

    for draw in range(draws.count):
        drawn = draw_targets(loss, model, batch, partial(draws.uniform, numbers, draw))
        sums = weighted_sum(loss(model, drawn.batch))
        slopes = torch.autograd.grad(sums, recorded.leaves, allow_unused=True)
        for each, slope, tangent in zip(total, slopes, tangents, strict=True):
            if slope is not None:
                along = (slope * tangent).sum(drawn.axes, keepdim=True) if drawn.axes else slope * tangent
                each += slope * along / draws.count
    return total


def outer_product(losses: Losses, leaves: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor]:
    """Multiply the sum of the samples' weights times g g^T by tangents, g being the gradient of a sample's loss.

    Args:
        losses: The losses of the samples, with their graph.
        leaves: The outputs, whose first axis is that of the samples.
        tangents: A tensor for each output, in its shape.

    Raises:
        BadInput: The losses of single samples are not known, or an output has another first axis.
    """
    each = losses.per_sample
    if not losses.spread:
        raise BadInput("the loss gives the mean of a batch alone: gradients of single samples need a loss per sample")
    slopes = torch.autograd.grad(each.sum(), leaves, allow_unused=True)
    if any(s is not None and (s.dim() == 0 or len(s) != len(each)) for s in slopes):
        raise BadInput("gradients of single samples need outputs whose first axis is that of the samples")
    pairs = [(s, t) for s, t in zip(slopes, tangents, strict=True) if s is not None]
    along = torch.stack([(s * t).flatten(1).sum(1) if s.dim() > 1 else s * t for s, t in pairs]).sum(0)
    if losses.weights is not None:
        along = along * losses.weights
    return [
        torch.zeros_like(leaf) if s is None else s * along.view(-1, *[1] * (s.dim() - 1))
        for s, leaf in zip(slopes, leaves, strict=True)
    ]
