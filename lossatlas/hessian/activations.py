"""The trace of the Hessian of the mean loss with respect to what layers give out, or take in.

    activations = Activations(net, data, loss, patterns=["Conv2d"])
    table = traces(activations, tolerance=0.02)

For a layer with the outputs a_i for sample i, the Hessian has one block for each sample, because samples do not see each
other in eval mode; its trace is the mean over the samples of tr d2 l_i / d a_i2. It does not depend on the batch size.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.data.losses import Batch, Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadUsage
from lossatlas.evaluation.precision import in_float64
from lossatlas.evaluation.sample_storage import place_samples
from lossatlas.hessian.hvp import curvature_copy
from lossatlas.hessian.trace import FEWEST, standard_errors
from lossatlas.parameter_space.directions import patterns_of

Reduce = Callable[[Tensor], Tensor]
Layer = tuple[str, str, tuple[int, ...]]  # name (with the number of the call, where there are several), type, shape


class Activations:
    """One probe of the traces of chosen layers at a time, over all samples.

    patterns: of names or types of modules (re.search; by default every module without children). at: 'output' or
    'input'. reduce, precision: as for Hessian. Raises BadUsage where no layer is chosen.
    """

    def __init__(
        self,
        net: nn.Module,
        data: AnyData,
        loss: Loss,
        *,
        patterns: str | Sequence[str] = (),
        at: str = "output",
        batch_size: int = 128,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        precision: str | None = None,
    ) -> None:
        patterns = patterns_of(patterns)
        self.net, self.loss, self.reduce = (
            curvature_copy(net, device, precision),
            loss,
            reduce or (lambda v: v),
        )
        first = next(self.net.parameters())
        self.samples = place_samples(
            data, torch.device(device), first.dtype, channels_last=False
        )  # which every network takes
        self.samples.overwritten = True  # it may be
        self.spans = list(self.samples.spans(0, len(data), batch_size))
        self.total = float(self.reduce(torch.tensor([self.weight()], dtype=torch.float64))[0])
        self.seen: list[tuple[str, str, Tensor]] = []
        self.net.register_forward_hook(in_float64)
        for name, module in self.net.named_modules():
            kind = type(module).__name__
            if chosen(name, kind, patterns) if patterns else name and not any(True for _ in module.children()):
                if at == "input":
                    module.register_forward_pre_hook(self.watch_input(name, kind))
                else:
                    module.register_forward_hook(self.watch_output(name, kind))
        self.layers = self.look()
        if not self.layers:
            raise BadUsage(
                f"no layer is called like {', '.join(patterns)}, nor of such a type: there are "
                + ", ".join(f"{name} ({type(m).__name__})" for name, m in self.net.named_modules() if name)
            )

    def given(self) -> Iterator[Batch]:
        """The batches, as copies, because a network may write into its input."""
        return self.samples.stream(self.spans)

    def weight(self) -> float:
        with torch.no_grad():
            weights = [self.loss(self.net, batch).weights for batch in self.given()]
        return sum(
            float(stop - start) if w is None else float(w.double().sum())
            for (start, stop), w in zip(self.spans, weights, strict=True)
        )

    def watch_output(self, name: str, kind: str) -> Callable[..., Any]:
        return lambda module, args, output: self.watch(name, kind, output)

    def watch_input(self, name: str, kind: str) -> Callable[..., Any]:
        return lambda module, args: (self.watch(name, kind, args[0]), *args[1:]) if args else None

    def watch(self, name: str, kind: str, value: Any) -> Any:
        """Remember an activation; the network goes on with a copy, which it may overwrite."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        value = value if value.requires_grad else value.detach().requires_grad_(True)
        self.seen.append((name, kind, value))
        return value.clone()

    def look(self) -> list[Layer]:
        """Which activations there are in one pass; a module that is called several times has one for each call."""
        self.seen = []
        self.loss(self.net, self.samples.first_samples(1))
        counts = [sum(other == name for other, _, _ in self.seen) for name, _, _ in self.seen]
        names = [
            name if count == 1 else f"{name} (call {1 + sum(o == name for o, _, _ in self.seen[:k])})"
            for k, ((name, _, _), count) in enumerate(zip(self.seen, counts, strict=True))
        ]
        return [(name, kind, tuple(a.shape[1:])) for name, (_, kind, a) in zip(names, self.seen, strict=True)]

    def __call__(self, seed: int) -> Tensor:
        """z' H z with one Rademacher vector z for each layer: (layers,) float64. Ranks draw their own by `seed`."""
        generator, result = torch.Generator().manual_seed(seed), torch.zeros(len(self.layers), dtype=torch.float64)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for batch in self.given():
                self.seen = []
                losses = self.loss(self.net, batch)
                weighted = losses.per_sample if losses.weights is None else losses.weights * losses.per_sample
                values = [value for _, _, value in self.seen]
                gradients = torch.autograd.grad(
                    weighted.sum() / self.total, values, create_graph=True, allow_unused=True
                )
                for k, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
                    z = (2 * torch.randint(0, 2, value.shape, generator=generator) - 1).to(value)
                    if gradient is None or not gradient.requires_grad:  # unused, or linear from here on
                        continue
                    (product,) = torch.autograd.grad((gradient * z).sum(), value, retain_graph=True, allow_unused=True)
                    if product is not None:
                        result[k] += (product.double() * z.double()).sum().cpu()
        self.seen = []
        return self.reduce(result)


def chosen(name: str, kind: str, patterns: Sequence[str]) -> bool:
    return bool(name) and any(re.search(pattern, name) or re.search(pattern, kind) for pattern in patterns)


@dataclass(frozen=True)
class Traces:
    """Traces of `layers` with standard errors, (layers,) each, from so many probes."""

    layers: Sequence[Layer]
    values: np.ndarray
    errors: np.ndarray
    probes: int


def traces(
    probe: Callable[[int], Tensor],
    layers: Sequence[Layer],
    *,
    tolerance: float = 0.02,
    most: int = 100,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda probes, error: None,
) -> Traces:
    """Probe until every standard error is at most tolerance * |trace|, or `most` times. probe: an `Activations`."""
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
        if len(samples) >= most or (len(samples) >= FEWEST and worst <= tolerance):
            return Traces(layers, values, errors, len(samples))
