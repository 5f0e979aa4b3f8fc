"""The trace of the Hessian of the mean loss, or of a matrix like it, with respect to the outputs or inputs of layers.

    activations = Activations(net, data, loss, patterns=["Conv2d"])
    table = traces(activations, activations.layers, tolerance=0.02)

For a layer with the outputs a_i for sample i, the Hessian has one block for each sample, because samples do not depend
on each other in evaluation mode; its trace is the mean over the samples of tr d2 l_i / d a_i2. It does not depend on
the batch size. The estimator is Hutchinson's, see `lossatlas.hessian.trace`.

For the matrices of `lossatlas.hessian.gauss_newton` the block is J^T B J, J being the Jacobian of the network's output
with respect to a_i. Its trace is that of B J J^T, and is estimated by (J^T B u) (J^T u) with a random vector u of the
size of the output: two backward passes for all layers.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.choices import ActivationSite, CurvatureMatrix, ProductPrecision
from lossatlas.data.drawn_targets import TargetDraws
from lossatlas.data.losses import Batch, Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadUsage
from lossatlas.evaluation.precision import in_float64
from lossatlas.evaluation.sample_storage import place_samples
from lossatlas.hessian.curvature_copy import curvature_copy
from lossatlas.hessian.gauss_newton import OutputCurvature, RecordedOutputs, check_likelihood
from lossatlas.hessian.loss_samples import Reduce, sum_of_weights, weighted_sum
from lossatlas.hessian.trace import enough_probes, random_signs, standard_errors
from lossatlas.parameter_space.selection import patterns_of

Layer = tuple[str, str, tuple[int, ...]]  # name (with the number of the call, where there are several), type, shape


class Activations:
    """One probe of the traces of chosen layers at a time, over all samples.

    Args:
        net: The network, which is copied.
        data: Its samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        patterns: Patterns of names or types of modules (re.search); by default every module without children.
        at: 'output' or 'input' of the layers.
        batch_size: Samples in a batch.
        device: The device.
        reduce: Sums a vector over the ranks where samples are distributed over ranks.
        reduce_setup: The same during construction, whose sums every rank needs; by default `reduce`.
        precision: 'float32' or 'float64', see `Hessian`.
        matrix: 'hessian', or a matrix of `GaussNewton`.
        draws: For 'mc_fisher', the random numbers of the targets; by default one target for each sample.

    Attributes:
        layers: Name, type and shape (without the batch axis) of each activation.

    Raises:
        BadUsage: No layer is chosen, or the loss does not suit the matrix, see `GaussNewton`.
    """

    def __init__(
        self,
        net: nn.Module,
        data: AnyData,
        loss: Loss,
        *,
        patterns: str | Sequence[str] = (),
        at: ActivationSite = "output",
        batch_size: int = 128,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        reduce_setup: Reduce | None = None,
        precision: ProductPrecision | None = None,
        matrix: CurvatureMatrix = "hessian",
        draws: TargetDraws | None = None,
    ) -> None:
        patterns = patterns_of(patterns)
        check_likelihood(matrix, loss)
        self.curvature = None if matrix == "hessian" else OutputCurvature(matrix, loss, draws or TargetDraws())
        self.net, self.loss = curvature_copy(net, device, precision), loss
        self.reduce = reduce or (lambda v: v)
        dtype = next(self.net.parameters()).dtype
        # Every network takes images in the contiguous layout.
        self.samples = place_samples(data, torch.device(device), dtype, channels_last=False)
        self.samples.overwritten = True  # a network may overwrite its input
        check_likelihood(matrix, loss, self.samples.first_samples(1))
        self.spans = list(self.samples.spans(0, len(data), batch_size))
        weight = torch.tensor([self.weight()], dtype=torch.float64)
        self.total_weight = float((reduce_setup or self.reduce)(weight)[0])
        self.recorded: list[tuple[str, str, Tensor]] = []
        self.net.register_forward_hook(in_float64)
        self.register_hooks(patterns, at)
        self.layers = self.find_layers()
        if not self.layers:
            raise BadUsage(
                f"no layer is called like {', '.join(patterns)}, nor of such a type: there are "
                + ", ".join(f"{name} ({type(m).__name__})" for name, m in self.net.named_modules() if name)
            )

    def register_hooks(self, patterns: Sequence[str], at: ActivationSite) -> None:
        """Record the activations of the chosen layers during each pass."""
        for name, module in self.net.named_modules():
            kind = type(module).__name__
            if chosen(name, kind, patterns) if patterns else name and not any(True for _ in module.children()):
                if at == "input":
                    module.register_forward_pre_hook(self.input_hook(name, kind))
                else:
                    module.register_forward_hook(self.output_hook(name, kind))

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, as copies, because a network may overwrite its input."""
        return self.samples.stream(self.spans)

    def weight(self) -> float:
        """Sum the weights of this rank's samples."""
        with torch.no_grad():
            return sum_of_weights(self.spans, [self.loss(self.net, batch).weights for batch in self.batches()])

    def output_hook(self, name: str, kind: str) -> Callable[..., Any]:
        return lambda module, args, output: self.record(name, kind, output)

    def input_hook(self, name: str, kind: str) -> Callable[..., Any]:
        return lambda module, args: (self.record(name, kind, args[0]), *args[1:]) if args else None

    def record(self, name: str, kind: str, value: Any) -> Any:
        """Record an activation; the network continues with a copy, which it may overwrite."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        value = value if value.requires_grad else value.detach().requires_grad_(True)
        self.recorded.append((name, kind, value))
        return value.clone()

    def find_layers(self) -> list[Layer]:
        """List the activations of one pass; a module that is called several times has one for each call."""
        self.recorded = []
        self.loss(self.net, self.samples.first_samples(1))
        counts = [sum(other == name for other, _, _ in self.recorded) for name, _, _ in self.recorded]
        names = [
            name if count == 1 else f"{name} (call {1 + sum(o == name for o, _, _ in self.recorded[:k])})"
            for k, ((name, _, _), count) in enumerate(zip(self.recorded, counts, strict=True))
        ]
        return [(name, kind, tuple(a.shape[1:])) for name, (_, kind, a) in zip(names, self.recorded, strict=True)]

    def __call__(self, seed: int) -> Tensor:
        """Compute a sample of each layer's trace, z' H z with a Rademacher vector z.

        Args:
            seed: Of the vectors; ranks use different ones.

        Returns:
            (layers,) float64, for the mean loss.
        """
        generator, result = torch.Generator().manual_seed(seed), torch.zeros(len(self.layers), dtype=torch.float64)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for (first, _), batch in zip(self.spans, self.batches(), strict=True):
                self.recorded = []
                if self.curvature is None:
                    self.add_batch(batch, generator, result)
                else:
                    self.add_outputs(self.curvature, batch, first, generator, result)
        self.recorded = []
        return self.reduce(result)

    def add_batch(self, batch: Batch, generator: torch.Generator, result: Tensor) -> None:
        """Add one batch's part of z' H z to `result`."""
        part = weighted_sum(self.loss(self.net, batch)) / self.total_weight
        values = [value for _, _, value in self.recorded]
        gradients = torch.autograd.grad(part, values, create_graph=True, allow_unused=True)
        for k, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            z = random_signs(value.shape, generator).to(value)
            if gradient is None or not gradient.requires_grad:  # unused, or linear from here on
                continue
            (product,) = torch.autograd.grad((gradient * z).sum(), value, retain_graph=True, allow_unused=True)
            if product is not None:
                result[k] += (product.double() * z.double()).sum().cpu()

    def add_outputs(
        self, curvature: OutputCurvature, batch: Batch, first: int, generator: torch.Generator, result: Tensor
    ) -> None:
        """Add one batch's part of (J' B u) (J' u) to `result`, with a Rademacher vector u for the outputs.

        Args:
            curvature: The matrices B.
            batch: The samples.
            first: The number of the first of them on this rank.
            generator: Draws u.
            result: (layers,).
        """
        outputs = RecordedOutputs(self.net, None)
        losses = self.loss(outputs, batch)
        if not outputs.outputs:  # they depend on no chosen layer
            return
        signs = [random_signs(leaf.shape, generator).to(leaf) for leaf in outputs.leaves]
        curved = curvature.product(losses, outputs, batch, first, signs)
        values = [value for _, _, value in self.recorded]
        there, back = (
            torch.autograd.grad(outputs.outputs, values, grad_outputs=each, retain_graph=True, allow_unused=True)
            for each in (curved, signs)
        )
        for k, (one, other) in enumerate(zip(there, back, strict=True)):
            if one is not None and other is not None:
                result[k] += (one.double() * other.double()).sum().cpu() / self.total_weight


def chosen(name: str, kind: str, patterns: Sequence[str]) -> bool:
    return bool(name) and any(re.search(pattern, name) or re.search(pattern, kind) for pattern in patterns)


@dataclass(frozen=True)
class Traces:
    """Traces of layers with standard errors.

    Attributes:
        layers: Name, type and shape of each activation.
        values: (layers,), of the mean loss.
        errors: (layers,), standard errors.
        probes: Number of random vectors for each layer.
    """

    layers: Sequence[Layer]
    values: np.ndarray
    errors: np.ndarray
    probes: int


def traces(
    probe: Callable[[int], Tensor],
    layers: Sequence[Layer],
    *,
    tolerance: float = 0.02,
    max_probes: int = 100,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda probes, error: None,
) -> Traces:
    """Estimate traces by probes until every standard error is small.

    Args:
        probe: An `Activations`, or another function from a seed to z' H z of each layer (layers,).
        layers: The layers.
        tolerance: Largest standard error relative to each trace.
        max_probes: Largest number of probes.
        seed: Of the first probe.
        progress: Called with the number of probes and the largest relative standard error after each probe.

    Returns:
        The traces.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> from lossatlas.hessian import Activations, traces
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
        >>> activations = Activations(net, data, LOSSES["crossentropy"])
        >>> traces(activations, activations.layers).values.shape
        (3,)
    """
    samples: list[np.ndarray] = []
    while True:
        samples.append(probe(seed + len(samples)).numpy())
        rows = np.array(samples)
        values, errors = rows.mean(0), standard_errors(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            nothing = (rows == 0).all(0)  # layers that the loss is linear in
            errors = np.where(nothing, 0.0, errors)
            worst = float(np.nanmax(np.where(nothing, 0.0, errors / np.abs(values)), initial=0.0))
        progress(len(samples), worst)
        if enough_probes(len(samples), worst <= tolerance, max_probes):
            return Traces(layers, values, errors, len(samples))
