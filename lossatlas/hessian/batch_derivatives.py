"""First and second derivatives of one batch's part of the mean loss, with errors that name the cause.

Products with the Hessian are exact (Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6, 1994).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node
from torch.func import grad, jvp

from lossatlas.data.losses import Batch, Model
from lossatlas.errors import BadInput, first_line
from lossatlas.evaluation.folding import FoldedFunction
from lossatlas.evaluation.precision import in_float64
from lossatlas.hessian.flat_vectors import flatten

NO_GRAPH = (
    "the gradient disagrees with finite differences of the loss, or the loss is detached from the autograd graph: take "
    "derivatives within the loss with create_graph=True, and detach nothing that depends on the parameters"
)
RANDOM_LOSS = "the network or its loss is random (dropout, noise, shuffled data), and its Hessian is not defined"

T = TypeVar("T")


class BatchLoss(Protocol):
    """One batch's part of the mean loss, a scalar; with `penalty` also the loss's term of the parameters."""

    def __call__(self, model: Model, batch: Batch, *, penalty: bool = False) -> Tensor: ...


@dataclass(frozen=True)
class EquivalentForward:
    """A network and, where BatchNorm is folded, its folded function; one batch at a time uses it."""

    net: nn.Module
    function: FoldedFunction | None


def gradient_of(
    value: Tensor, parameters: Sequence[Tensor], *, required: bool, create_graph: bool = False
) -> Sequence[Tensor | None]:
    """Differentiate a loss with respect to parameters.

    Args:
        value: The loss, a scalar.
        parameters: The tensors to differentiate with respect to.
        required: Refuse a loss that depends on none of them.
        create_graph: Keep the graph of the gradient, so that it can be differentiated again.

    Returns:
        A gradient for each parameter, None where the loss does not depend on it.

    Raises:
        BadInput: The graph is gone, or no parameter has a gradient although one is required.
    """
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if value.requires_grad:
        try:
            found = torch.autograd.grad(value, parameters, create_graph=create_graph, allow_unused=True)
        except RuntimeError as error:
            if "a second time" not in str(error):
                raise
            raise BadInput(NO_GRAPH) from error
    if required and all(gradient is None for gradient in found):
        raise BadInput(
            "autograd sees no parameter in the loss: it is computed without a graph (torch.no_grad, detach, "
            "torch.func.linearize), or from others than the chosen parameters"
        )
    return found


def reverse_product(
    batch_loss: BatchLoss,
    net: nn.Module,
    batch: Batch,
    parameters: Sequence[Tensor],
    vectors: Sequence[Tensor],
    *,
    penalty: bool,
    required: bool,
) -> Tensor:
    """Multiply a batch's Hessian by vectors: reverse mode over reverse mode.

    Args:
        batch_loss: The batch's part of the mean loss.
        net: The network.
        batch: The samples.
        parameters: The tensors that the Hessian refers to.
        vectors: One for each parameter, in its shape.
        penalty: Include the loss's term of the parameters.
        required: See `gradient_of`.

    Returns:
        The product (size,), zero where the loss is linear in the parameters.

    Raises:
        BadInput: See `gradient_of`.
    """
    value = batch_loss(net, batch, penalty=penalty)
    gradients = gradient_of(value, parameters, required=required, create_graph=True)
    used = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g is not None and g.requires_grad]
    if not used:
        first = parameters[0]
        return torch.zeros(sum(p.numel() for p in parameters), dtype=first.dtype, device=first.device)
    product = torch.stack([(g * v.detach()).sum() for g, v in used]).sum()
    return flatten(torch.autograd.grad(product, parameters, allow_unused=True), parameters)


@dataclass
class FoldedLoss:
    """A batch's part of the mean loss of a folded network, as a function of chosen parameters.

    Not frozen, because torch.compile cannot construct frozen dataclasses.

    Attributes:
        batch_loss: A batch's part of the mean loss.
        function: The folded network as a function of its tensors.
        names: The names of the chosen parameters.
        tensors: All parameters and buffers by name.
    """

    batch_loss: BatchLoss
    function: FoldedFunction
    names: Sequence[str]
    tensors: Mapping[str, Tensor]

    def __call__(self, values: Sequence[Tensor], batch: Batch) -> Tensor:
        """Evaluate the loss with these values of the chosen parameters."""
        tensors = {**self.tensors, **dict(zip(self.names, values, strict=True))}
        return self.batch_loss(lambda *a, **k: in_float64(None, None, self.function(tensors, *a, **k)), batch)


def forward_product(loss: FoldedLoss, batch: Batch, parameters: Sequence[Tensor], vectors: Sequence[Tensor]) -> Tensor:
    """Multiply a batch's Hessian by vectors: forward mode over reverse mode.

    To be called within `forward_ad.dual_level`.

    Args:
        loss: The batch's part of the mean loss, of the folded network.
        batch: The samples.
        parameters: The tensors that the Hessian refers to, the chosen ones of `loss`.
        vectors: One for each parameter, in its shape.

    Returns:
        The product (size,).
    """
    duals = [
        forward_ad.make_dual(p.detach().requires_grad_(True), v.detach())
        for p, v in zip(parameters, vectors, strict=True)
    ]
    gradients = torch.autograd.grad(loss(duals, batch), duals, allow_unused=True)
    return flatten([None if g is None else forward_ad.unpack_dual(g).tangent for g in gradients], parameters)


def functional_product(
    loss: FoldedLoss, batch: Batch, parameters: Sequence[Tensor], vectors: Sequence[Tensor]
) -> list[Tensor]:
    """Compute `forward_product` by torch.func, which torch.compile accepts.

    Args:
        loss: Mean loss of a batch as a function of the parameters.
        batch: The samples.
        parameters: The point, a tensor for each parameter.
        vectors: The vector, a tensor for each parameter, of the same shapes.

    Returns:
        The product with the Hessian of the batch, a tensor for each parameter.
    """

    def part(*moving: Tensor) -> Tensor:
        return loss(moving, batch)

    gradient = grad(part, argnums=tuple(range(len(parameters))))
    return list(jvp(gradient, tuple(p.detach() for p in parameters), tuple(v.detach() for v in vectors))[1])


def with_causes(compute: Callable[[], T], causes: str) -> T:
    """Compute a derivative, and name the likely causes where torch refuses.

    Args:
        compute: Computes it.
        causes: See `custom_derivatives`.

    Raises:
        BadInput: The derivative does not exist, or the graph is gone.
    """
    try:
        return compute()
    except BadInput as error:
        raise BadInput(f"{error}{causes}") from error
    except RuntimeError as error:
        if "is not implemented" in str(error):
            raise BadInput(f"torch has no second derivative of a part of this network: {first_line(error)}") from error
        if not causes:
            raise
        raise BadInput(f"{NO_GRAPH}: {str(error).split('. ')[0][:150]}{causes}") from error


def custom_derivatives(value: Tensor, warned: Sequence[str] = ()) -> str:
    """Name the operations in the graph of a loss that define derivatives of their own.

    Args:
        value: The loss.
        warned: Warnings of torch while it was computed.

    Returns:
        A text in parentheses for the end of an error's line, '' where there are none.
    """
    names, seen, waiting = set[str](), set[Node](), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            names.add(type(node).__name__.removesuffix("Backward"))
        waiting += [following for following, _ in node.next_functions]
    if "CheckpointFunction" in names or any("Gradients will be None" in each for each in warned):
        return " (torch.utils.checkpoint computes its gradients outside of the graph: use use_reentrant=False)"
    return f" (the network uses {', '.join(sorted(names))}, which defines a derivative of its own)" if names else ""
