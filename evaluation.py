"""Statistics of a network's loss at the points of a plane.

    evaluator = Evaluator(net, Affine(origin, dx, dy), {"train": data}, LOSSES["crossentropy"], batch_size=64)
    rows = evaluator([(0.0, 0.0), (0.1, 0.2)])       # (points, splits, statistics), float64

Data, origin and directions stay on the device; a point costs one fused step over the parameters and the forward
passes, without a synchronization per batch.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataloader import Dataset
from folding import Folded, NotFoldable
from losses import Batch, Loss
from net_plotter import Affine, Plane, is_variance
from surface import STATISTICS


class Evaluator:
    """Evaluates a copy of `net` (the network itself is not touched) at points of a plane, in eval mode.

    Affine planes take the fast path: the whole point is formed in one buffer on the device. Calling it with points
    (a, b) gives float64 (points, splits, statistics), the columns being `columns`: see surface.STATISTICS.
    folded: BatchNorm is folded into the layers in front of it, see `choose_path`; the loss then must not look at the
    model's own parameters.
    """

    def __init__(
        self,
        net: nn.Module,
        plane: Plane,
        data: Mapping[str, Dataset],
        loss: Loss,
        *,
        batch_size: int,
        device: str | torch.device = "cpu",
        folded: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.loss = loss
        # Detached and moved as a copy, so that nothing done here can reach the caller's network.
        self.net = deepcopy(net).to(self.device).eval().requires_grad_(False)
        self.batches = {
            split: list(zip(resident(d.inputs, self.device).split(batch_size),
                            d.targets.to(self.device).split(batch_size), strict=True))
            for split, d in data.items()
        }  # fmt: skip
        self.place = AffinePlace(self.net, plane) if isinstance(plane, Affine) else AnyPlace(self.net, plane)
        self.folded = Folded(self.net) if folded else None  # after `place`, so that both see the same tensors
        self.model = self.net if self.folded is None else self.folded.net
        with torch.inference_mode():
            inputs, targets = next(iter(self.batches.values()))[0]
            self.metrics = tuple(loss(self.model, (inputs[:2], targets[:2])).metrics)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*STATISTICS, *self.metrics)

    @torch.inference_mode()
    def __call__(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        return np.stack([self.at(a, b) for a, b in points])

    def at(self, a: float, b: float) -> np.ndarray:
        clamped = self.place.move(a, b)
        if self.folded is not None:
            self.folded.update()
        rows = [self.sum_up(batches, clamped) for batches in self.batches.values()]
        return torch.stack(rows).cpu().numpy()

    def sum_up(self, batches: Sequence[Batch], clamped: Tensor) -> Tensor:
        """One row of statistics, on the device, in float64."""
        sums = torch.zeros(4 + len(self.metrics), dtype=torch.float64, device=self.device)
        for batch in batches:
            losses = self.loss(self.model, batch)
            loss = losses.per_sample.double()
            weights = torch.ones_like(loss) if losses.weights is None else losses.weights.double()
            sums[0] += len(loss)
            sums[1:] += torch.stack(
                [
                    weights.sum(),
                    (weights * loss).sum(),
                    (weights * loss * loss).sum(),
                    *((weights * losses.metrics[name]).sum() for name in self.metrics),
                ]
            )
        penalty = sums.new_zeros(()) if losses.penalty is None else losses.penalty.double()
        return torch.cat([sums[:4], torch.stack([penalty, clamped]), sums[4:]])


def choose_path(net: nn.Module, inputs: Tensor) -> tuple[bool, str]:
    """Whether to evaluate a network with BatchNorm folded, and why not; checked on a few inputs (B, ...)."""
    try:
        folded = Folded(deepcopy(net).eval())
    except NotFoldable as reason:
        return False, str(reason)
    with torch.inference_mode():
        expected, found = net.eval()(inputs), folded.net(inputs)
    error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    return (True, "") if error <= 1e-3 else (False, f"folding would change its output by {error:.1e}")


def resident(inputs: Tensor, device: torch.device) -> Tensor:
    """Images in channels-last order, which is the faster one for convolutions on CPU and GPU alike."""
    inputs = inputs.to(device)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


class AffinePlace:
    """Moves a network on an affine plane: origin, directions and the current point are four flat buffers."""

    def __init__(self, net: nn.Module, plane: Affine) -> None:
        first = next(iter(plane.origin.values()))
        device, dtype = next(net.parameters()).device, first.dtype
        pack = [plane.origin, plane.dx] + ([] if plane.dy is None else [plane.dy])
        self.origin, *self.directions = (flatten(point, plane.origin, device, dtype) for point in pack)
        self.current = self.origin.clone()
        self.variances = []
        offset = 0
        for name, value in plane.origin.items():
            view = viewed(self.current[offset : offset + value.numel()], value.shape)
            replace_tensor(net, name, view)
            offset += value.numel()
            if is_variance(name):
                self.variances.append(view)

    def move(self, a: float, b: float) -> Tensor:
        """Go to a point; returns how many BatchNorm variances would be negative and were set to zero."""
        torch.add(self.origin, self.directions[0], alpha=a, out=self.current)
        if len(self.directions) > 1:
            self.current.add_(self.directions[1], alpha=b)
        return clamp(self.variances, self.current)


class AnyPlace:
    """Moves a network on any plane."""

    def __init__(self, net: nn.Module, plane: Plane) -> None:
        self.plane, self.net = plane, net
        self.device = next(net.parameters()).device
        self.own = {name: value.to(self.device, copy=True) for name, value in plane.point(0.0, 0.0).items()}
        for name, value in self.own.items():
            replace_tensor(net, name, value)

    def move(self, a: float, b: float) -> Tensor:
        for name, value in self.plane.point(a, b).items():
            self.own[name].copy_(value)
        return clamp([v for name, v in self.own.items() if is_variance(name)], torch.zeros((), device=self.device))


def clamp(variances: Sequence[Tensor], like: Tensor) -> Tensor:
    """Set negative variances to zero, in place; their number, on the device."""
    count = torch.zeros((), dtype=torch.float64, device=like.device)
    for variance in variances:
        count += (variance < 0).sum()
        variance.clamp_(min=0)
    return count


def flatten(point: Mapping[str, Tensor], order: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """One buffer with every tensor of a point, filters of convolutions in channels-last order."""
    return torch.cat([stored(point[name]).reshape(-1).to(device, dtype) for name in order])


def stored(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1) if value.dim() == 4 else value


def viewed(buffer: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `stored`, without a copy."""
    if len(shape) != 4:
        return buffer.view(shape)
    return buffer.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def replace_tensor(net: nn.Module, name: str, value: Tensor) -> None:
    """Put `value` in the place of a parameter or buffer, under every name it has (tied weights)."""
    modules = dict(net.named_modules(remove_duplicate=False))
    owner, _, leaf = name.rpartition(".")
    old = getattr(modules[owner], leaf)
    is_parameter = isinstance(old, nn.Parameter)
    new = nn.Parameter(value, requires_grad=False) if is_parameter else value
    for module in modules.values():
        table: dict[str, Any] = module._parameters if is_parameter else module._buffers
        for key in [key for key, held in table.items() if held is old]:
            table[key] = new
