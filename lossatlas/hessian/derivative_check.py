"""Derivatives are compared with finite differences before they are used.

A gradient that is cut (`detach`, `no_grad` within `forward`), replaced (straight-through estimators, gradient reversal) or
computed outside of the graph (reentrant checkpointing) gives a Hessian that is not that of the loss, and eigenvalues that look
resolved. The gradient is compared with differences of the loss, and a product with the Hessian with differences of the
gradient, in float64 where the network can be copied.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.errors import BadInput
from lossatlas.evaluation.sample_storage import map_inputs

if TYPE_CHECKING:
    from lossatlas.hessian.hvp import Hessian

FEW = 16  # samples
STEPS = (1e-4, 1e-6, 1e-7)  # relative to the weights, in float64: a kink within the longest is not within the shortest
COARSE = (1e-1, 1e-2, 1e-3)  # where only float32 is to be had
WRONG, COARSELY_WRONG = 1e-3, 0.2  # relative
NO_GRAPH = (
    "the derivatives of the loss are not those of its values, or their graph is gone: a derivative within it has to be taken "
    "with create_graph=True, and nothing may be detached that depends on the parameters"
)


def check_derivatives(hessian: "Hessian") -> None:
    """Compare the gradient and a product with the Hessian with finite differences, beside the weights.

    Args:
        hessian: The operator, within its session. Its parameters are restored.

    Raises:
        BadInput: They disagree. The message names the cause as far as the graph shows it.
    """
    probe = probe_of(hessian)
    product = probe.product()
    slope, causes = probe.slope(0.0)
    if not all(math.isfinite(value) for value in (probe.loss(0.0), norm(slope), norm(product))):
        return  # which has a message of its own
    off = min(probe.error_of_slope(step, slope) for step in probe.steps)
    if not off <= probe.wrong:
        raise BadInput(f"{NO_GRAPH}: along a random direction the gradient is off by {off:.1e}{causes}")
    off = min(probe.error_of_product(step, slope, product) for step in probe.steps)
    if not off <= 10 * probe.wrong:
        raise BadInput(
            f"{NO_GRAPH}: a product with the Hessian differs from differences of the gradient by {off:.1e}{causes or SECOND}"
        )


def probe_of(hessian: "Hessian") -> "Probe":
    """In float64 where the network can be copied and computes in it, otherwise the network that the operator uses."""
    from lossatlas.hessian.hvp import in_double

    try:
        if hessian.in_place and hessian.dtype != torch.float64:
            raise TypeError("a copy would not be the network")
        net, parameters = hessian.net, hessian.parameters
        if not hessian.in_place:
            net = in_double(hessian.net)
            named = dict(net.named_parameters())
            parameters = [named[name] for name in hessian.names]
            for parameter in parameters:
                parameter.requires_grad_(True)
        probe = Probe(hessian, net, parameters, torch.float64)
        probe.loss(0.0)
        return probe
    except BadInput:
        raise
    except Exception:  # this network computes in its own precision alone
        return Probe(hessian, hessian.net, hessian.parameters, hessian.dtype)


SECOND = " (torch's second derivative of one of its layers may be wrong: that of the fused weight_norm is)"


class Probe:
    """Losses and gradients of a few samples at `parameters` moved along one random direction, beside the weights."""

    def __init__(self, hessian: "Hessian", net: Any, parameters: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.hessian, self.net, self.parameters = hessian, net, parameters
        double = dtype == torch.float64
        self.dtype, self.rounding = dtype, 1e-14 if double else 1e-5
        self.steps, self.wrong = (STEPS, WRONG) if double else (COARSE, COARSELY_WRONG)
        generator = torch.Generator().manual_seed(2)
        self.direction = []
        for p in parameters:
            scale = float(p.detach().double().norm()) / math.sqrt(max(1, p.numel())) or 0.1
            self.direction.append(scale * torch.randn(p.shape, generator=generator).to(p.device, p.dtype))
        pieces = hessian.unflatten(hessian.aside())
        self.start = [(p.detach() + piece.to(p.device, p.dtype)) for p, piece in zip(parameters, pieces, strict=True)]

    def batch(self) -> Any:
        few = self.hessian.some.first_samples(FEW)
        return map_inputs(few, lambda t: t.to(self.dtype) if t.is_floating_point() else t)

    @contextmanager
    def at(self, step: float) -> Iterator[None]:
        """The parameters moved by a step; afterwards they are what they were."""
        before = [p.detach().clone() for p in self.parameters]
        try:
            with torch.no_grad():
                for p, w, v in zip(self.parameters, self.start, self.direction, strict=True):
                    p.data.copy_(w + step * v)
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.parameters, before, strict=True):
                    p.data.copy_(value)

    def loss(self, step: float) -> float:
        with self.at(step):
            return float(self.hessian.part(self.net, self.batch(), penalty=True).detach())

    def slope(self, step: float) -> tuple[list[Tensor], str]:
        """The gradient, and what its graph holds that may replace derivatives."""
        with self.at(step):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                value = self.hessian.part(self.net, self.batch(), penalty=True)
            causes = causes_in(value, [str(each.message) for each in said]) if step == 0.0 else ""
            found = derived(lambda: self.hessian.slopes(value, self.parameters, step == 0.0), causes)
            return [
                torch.zeros_like(p) if g is None else g.detach() for g, p in zip(found, self.parameters, strict=True)
            ], causes

    def error_of_slope(self, step: float, slope: Sequence[Tensor]) -> float:
        """How far the derivative along the direction is from a difference of losses, relative to the size that it usually has."""
        rise = (self.loss(step) - self.loss(-step)) / (2 * step)
        noise = self.rounding * abs(self.loss(0.0)) / step
        usual = math.sqrt(
            sum(float((g * v).double().square().sum()) for g, v in zip(slope, self.direction, strict=True))
        )
        return max(0.0, abs(rise - dot(slope, self.direction)) - noise) / max(usual, 1e-300)

    def error_of_product(self, step: float, slope: Sequence[Tensor], product: Sequence[Tensor]) -> float:
        """How far a product with the Hessian is from a difference of gradients, relative to its length."""
        pairs = zip(self.slope(step)[0], self.slope(-step)[0], strict=True)
        bent = [(up - down) / (2 * step) for up, down in pairs]
        off = norm([a - b for a, b in zip(bent, product, strict=True)])
        return max(0.0, off - self.rounding * norm(slope) / step) / max(norm(product), 1e-300)

    def product(self) -> list[Tensor]:
        """The Hessian times the direction."""
        from lossatlas.hessian.hvp import EquivalentForward

        twin = EquivalentForward(self.net, None)
        with self.at(0.0):
            causes = causes_in(self.hessian.part(self.net, self.batch(), penalty=True))
            flat = derived(
                lambda: self.hessian.backwards(self.direction, self.parameters, twin, (0, self.batch())), causes
            )
            return [
                part.view(p.shape)
                for part, p in zip(flat.split([p.numel() for p in self.parameters]), self.parameters, strict=True)
            ]


def derived(compute: Any, causes: str) -> Any:
    """What a derivative gives. Raises BadInput, with the causes, where torch refuses."""
    try:
        return compute()
    except BadInput as error:
        raise BadInput(f"{error}{causes}") from error
    except RuntimeError as error:
        if "is not implemented" in str(error):
            raise BadInput(
                f"torch has no second derivative of a part of this network: {str(error).splitlines()[0][:150]}"
            ) from error
        if not causes:
            raise
        raise BadInput(f"{NO_GRAPH}: {str(error).split('. ')[0][:150]}{causes}") from error


def causes_in(value: Tensor, said: Sequence[str] = ()) -> str:
    """In words, what in the graph of a loss has derivatives of its own. said: warnings of torch while it was computed."""
    names, seen, waiting = set[str](), set[Any](), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            names.add(type(node).__name__.removesuffix("Backward"))
        waiting += [following for following, _ in node.next_functions]
    if "CheckpointFunction" in names or any("Gradients will be None" in each for each in said):
        return " (torch.utils.checkpoint computes its gradients outside of the graph: use use_reentrant=False)"
    return f" (the network uses {', '.join(sorted(names))}, which defines a derivative of its own)" if names else ""


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def norm(a: Sequence[Tensor]) -> float:
    return math.sqrt(dot(a, a))
