"""Comparison of derivatives with finite differences, before they are used.

Products belong to another function than the loss, and eigenvalues look resolved all the same, where a gradient is cut
(`detach`, `no_grad` within `forward`), replaced (straight-through estimators, gradient reversal), or computed outside
of the graph (reentrant checkpointing). So the gradient is compared with differences of the loss, and a product with the
Hessian with differences of the gradient, in float64 where the network can be copied to it.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.data.losses import Batch
from lossatlas.errors import BadInput
from lossatlas.evaluation.sample_storage import map_inputs
from lossatlas.hessian.batch_derivatives import (
    NO_GRAPH,
    custom_derivatives,
    gradient_of,
    reverse_product,
    with_causes,
)
from lossatlas.hessian.curvature_copy import float64_copy
from lossatlas.hessian.flat_vectors import size_of_entries, unflatten
from lossatlas.hessian.mean_loss import MeanLoss
from lossatlas.parameter_space.points import restored

SAMPLES = 16
# Relative to the weights, in float64. The gradient jumps at kinks, of which a deep network has many: the two sides of a
# difference must not have one between them, and rounding limits the shortest step.
STEPS: tuple[float, ...] = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
ALWAYS = 4  # steps that are used whatever the rounding
COARSE_STEPS: tuple[float, ...] = (1e-1, 1e-2, 1e-3)  # where the network computes in float32 only
LARGEST_ERROR, LARGEST_COARSE_ERROR = 1e-3, 0.2  # relative
SECOND = " (torch's second derivative of one of its layers may be wrong: that of the fused weight_norm is)"


def check_gradient(mean_loss: MeanLoss) -> None:
    """Compare the gradient alone with finite differences, as `check_derivatives` does.

    Args:
        mean_loss: The loss, such as a `GaussNewton`, within its session. Its parameters are restored.

    Raises:
        BadInput: They disagree.
    """
    probe = probe_of(mean_loss)
    slope, causes = probe.slope(0.0)
    if not all(math.isfinite(value) for value in (probe.loss(0.0), norm(slope))):
        return  # the operator checks have messages for these
    off = smallest((probe.error_of_slope(step, slope) for step in probe.steps), probe.largest_error)
    if not off <= probe.largest_error:
        raise BadInput(f"{NO_GRAPH}: along a random direction the gradient is off by {off:.1e}{causes}")


def check_derivatives(mean_loss: MeanLoss) -> None:
    """Compare the gradient and a product with the Hessian with finite differences, a small step from the weights.

    Args:
        mean_loss: The loss, such as a `Hessian`, within its session. Its parameters are restored.

    Raises:
        BadInput: They disagree. The message names the cause as far as the graph shows it.
    """
    probe = probe_of(mean_loss)
    product = probe.product()
    slope, causes = probe.slope(0.0)
    if not all(math.isfinite(value) for value in (probe.loss(0.0), norm(slope), norm(product))):
        return  # the operator checks have messages for these
    off = smallest((probe.error_of_slope(step, slope) for step in probe.steps), probe.largest_error)
    if not off <= probe.largest_error:
        raise BadInput(f"{NO_GRAPH}: along a random direction the gradient is off by {off:.1e}{causes}")
    steps = probe.steps_for_product(slope, product)
    off = smallest((probe.error_of_product(step, slope, product) for step in steps), 10 * probe.largest_error)
    if not off <= 10 * probe.largest_error:
        raise BadInput(
            f"{NO_GRAPH}: a product with the Hessian differs from differences of the gradient by {off:.1e}"
            f"{causes or SECOND}"
        )


def smallest(errors: Iterable[float], enough: float) -> float:
    """Return the smallest error, or the first that is small enough."""
    least = math.inf
    for error in errors:
        least = min(least, error)
        if least <= enough:
            break
    return least


def probe_of(mean_loss: MeanLoss) -> "Probe":
    """Make a probe in float64 where the network can be copied and computes in it, otherwise in its own precision."""
    try:
        if mean_loss.in_place and mean_loss.dtype != torch.float64:
            raise TypeError("a copy would not compute what the network computes")
        net, parameters = mean_loss.net, mean_loss.parameters
        if not mean_loss.in_place:
            net = float64_copy(mean_loss.net)
            tensors = dict(net.named_parameters())
            parameters = [tensors[name] for name in mean_loss.names]
            for parameter in parameters:
                parameter.requires_grad_(True)
        probe = Probe(mean_loss, net, parameters, torch.float64)
        if probe.rounds_coarsely():  # a layer converts to float32, as normalization layers of language models do
            probe.use_coarse_steps()
        return probe
    except BadInput:
        raise
    except Exception:  # this network computes in its own precision only
        return Probe(mean_loss, mean_loss.net, mean_loss.parameters, mean_loss.dtype)


class Probe:
    """Losses and gradients of a few samples along one random direction, from a point a small step from the weights.

    Args:
        mean_loss: The loss.
        net: The network that is evaluated.
        parameters: The parameters of `net` that the loss refers to.
        dtype: Their type.

    Attributes:
        steps: Steps of the finite differences, relative to the size of each tensor.
        largest_error: Largest relative error that is no disagreement.
    """

    def __init__(self, mean_loss: MeanLoss, net: nn.Module, parameters: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.mean_loss, self.net, self.parameters = mean_loss, net, parameters
        double = dtype == torch.float64
        self.dtype, self.rounding, self.steps, self.largest_error = dtype, 1e-14, STEPS, LARGEST_ERROR
        if not double:
            self.use_coarse_steps()
        generator = torch.Generator().manual_seed(2)
        self.direction = []
        for p in parameters:
            self.direction.append(size_of_entries(p) * torch.randn(p.shape, generator=generator).to(p.device, p.dtype))
        if (free := mean_loss.chosen.free()) is not None:  # padding rows have no gradient, and do not vary
            masks = mean_loss.unflatten(free)
            self.direction = [d * mask.to(d.device, d.dtype) for d, mask in zip(self.direction, masks, strict=True)]
        pieces = mean_loss.unflatten(mean_loss.chosen.small_step())
        self.start = [(p.detach() + piece.to(p.device, p.dtype)) for p, piece in zip(parameters, pieces, strict=True)]

    def use_coarse_steps(self) -> None:
        """Take steps for a network that computes in float32."""
        self.rounding, self.steps, self.largest_error = 1e-5, COARSE_STEPS, LARGEST_COARSE_ERROR

    def rounds_coarsely(self) -> bool:
        """Return whether losses jump between steps that hardly move the weights, as they do not in float64."""
        here = self.loss(0.0)
        jumps = [abs(self.loss(step) + self.loss(-step) - 2 * here) for step in (1e-13, 1e-11, 1e-10, 1e-9)]
        return max(jumps) > 1e-12 * abs(here)

    def batch(self) -> Batch:
        few = self.mean_loss.samples.few(SAMPLES)
        return map_inputs(few, lambda t: t.to(self.dtype) if t.is_floating_point() else t)

    def value(self) -> Tensor:
        """Compute the loss, with its graph where that is enabled."""
        return self.mean_loss.samples.batch_loss(self.net, self.batch(), penalty=True)

    @contextmanager
    def at(self, step: float) -> Iterator[None]:
        """Move the parameters by a step within; afterwards they are restored."""
        with restored(self.parameters):
            with torch.no_grad():
                for p, w, v in zip(self.parameters, self.start, self.direction, strict=True):
                    p.data.copy_(w + step * v)
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                yield

    def loss(self, step: float) -> float:
        with self.at(step):
            return float(self.value().detach())

    def slope(self, step: float) -> tuple[list[Tensor], str]:
        """Compute the gradient, and name what may replace derivatives in its graph, see `custom_derivatives`."""
        with self.at(step):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                value = self.value()
            causes = custom_derivatives(value, [str(each.message) for each in warned]) if step == 0.0 else ""
            found = with_causes(lambda: gradient_of(value, self.parameters, required=step == 0.0), causes)
            return [
                torch.zeros_like(p) if g is None else g.detach() for g, p in zip(found, self.parameters, strict=True)
            ], causes

    def error_of_slope(self, step: float, slope: Sequence[Tensor]) -> float:
        """Compare the derivative along the direction with a difference of losses.

        Returns:
            The difference beyond rounding, relative to the typical size of such a derivative.
        """
        rise = (self.loss(step) - self.loss(-step)) / (2 * step)
        noise = self.rounding * abs(self.loss(0.0)) / step
        usual = math.sqrt(
            sum(float((g * v).double().square().sum()) for g, v in zip(slope, self.direction, strict=True))
        )
        return max(0.0, abs(rise - dot_product(slope, self.direction)) - noise) / max(usual, 1e-300)

    def steps_for_product(self, slope: Sequence[Tensor], product: Sequence[Tensor]) -> list[float]:
        """Return the steps at which a difference is larger than the gradient's rounding; the longest ones always."""
        noise = self.rounding * norm(slope) / max(norm(product), 1e-300)
        return [step for k, step in enumerate(self.steps) if k < ALWAYS or noise / step <= self.largest_error]

    def error_of_product(self, step: float, slope: Sequence[Tensor], product: Sequence[Tensor]) -> float:
        """Compare a product with the Hessian with a difference of gradients.

        Returns:
            The length of the difference beyond rounding, relative to the length of the product.
        """
        pairs = zip(self.slope(step)[0], self.slope(-step)[0], strict=True)
        expected = [(up - down) / (2 * step) for up, down in pairs]
        off = norm([a - b for a, b in zip(expected, product, strict=True)])
        return max(0.0, off - self.rounding * norm(slope) / step) / max(norm(product), 1e-300)

    def product(self) -> list[Tensor]:
        """Multiply the Hessian by the direction."""

        def compute() -> Tensor:
            return reverse_product(
                self.mean_loss.samples.batch_loss,
                self.net,
                self.batch(),
                self.parameters,
                self.direction,
                penalty=True,
                required=True,
            )

        with self.at(0.0):
            flat = with_causes(compute, custom_derivatives(self.value()))
            return unflatten(flat, [p.shape for p in self.parameters])


def dot_product(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def norm(a: Sequence[Tensor]) -> float:
    return math.sqrt(dot_product(a, a))
