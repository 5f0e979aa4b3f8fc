"""Where a network is in a plane: its tensors at a point, moved in place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.space.curves import Joined
from lossatlas.space.planes import Affine, Plane
from lossatlas.space.points import is_variance
from lossatlas.space.schemes import Rows, Scheme


class AffinePlace:
    """Moves a network on an affine plane: origin, directions and the current point are flat buffers.

    channels_last: filters of convolutions lie in that order.
    """

    def __init__(self, net: nn.Module, plane: Affine, channels_last: bool = True) -> None:
        self.last = filters(net) if channels_last else frozenset()
        first = next(net.parameters())
        pack = [plane.origin, plane.dx] + ([] if plane.dy is None else [plane.dy])
        self.origin, *self.directions = (
            flatten(point, plane.origin, self.last, first.device, first.dtype) for point in pack
        )
        self.current = self.origin.clone()
        self.shapes = {name: value.shape for name, value in plane.origin.items()}
        for name, view in self.views(self.current).items():
            replace_tensor(net, name, view)
        self.variances = [view for name, view in self.views(self.current).items() if is_variance(name)]

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """The tensors in a buffer (..., total) by name."""
        parts = buffer.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: viewed(part, shape, name in self.last)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        }

    def move(self, a: float, b: float) -> Tensor:
        """Go to a point; returns how many BatchNorm variances would be negative and were set to zero."""
        torch.add(self.origin, self.directions[0], alpha=a, out=self.current)
        if len(self.directions) > 1:
            self.current.add_(self.directions[1], alpha=b)
        return clamp(self.variances, self.current)

    def stack(self, points: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """The tensors at points (n, 2) by name, (n, ...) each, and the numbers of negative variances (n,)."""
        buffer = self.origin.expand(len(points), -1).clone()
        for direction, column in zip(self.directions, points.T, strict=False):
            coordinates = torch.from_numpy(column.copy()).to(buffer)
            buffer.addcmul_(coordinates[:, None], direction[None])
        views, clamped = self.views(buffer), buffer.new_zeros(len(points), dtype=torch.float64)
        for name, view in views.items():
            if is_variance(name):
                clamped += (view < 0).sum(dim=1)
                view.clamp_(min=0)
        return views, clamped


class AnyPlace:
    """Moves a network on any plane."""

    def __init__(self, net: nn.Module, plane: Plane) -> None:
        first = next(net.parameters())
        self.plane = plane.on(first.device, first.dtype) if isinstance(plane, Joined | Rows | Scheme) else plane
        self.own = {
            name: torch.empty_like(value, device=first.device, dtype=first.dtype)
            for name, value in self.plane.point(0.0, 0.0).items()
        }
        for name, value in self.own.items():
            replace_tensor(net, name, value)
        self.move(0.0, 0.0)

    def move(self, a: float, b: float) -> Tensor:
        for name, value in self.plane.point(a, b).items():
            self.own[name].copy_(value)
        return clamp([v for name, v in self.own.items() if is_variance(name)], next(iter(self.own.values())))


def clamp(variances: Sequence[Tensor], like: Tensor) -> Tensor:
    """Set negative variances to zero, in place; their number, on the device."""
    count = torch.zeros((), dtype=torch.float64, device=like.device)
    for variance in variances:
        count += (variance < 0).sum()
        variance.clamp_(min=0)
    return count


def filters(net: nn.Module) -> frozenset[str]:
    """The names of the filters of convolutions; other parameters with four axes are none of their business."""
    return frozenset(
        f"{name}.weight" if name else "weight"
        for name, module in net.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    )


def flatten(
    point: Mapping[str, Tensor],
    order: Mapping[str, Any],
    last: frozenset[str],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """One buffer with every tensor of a point, those named in `last` in channels-last order."""
    buffer = torch.empty(sum(point[name].numel() for name in order), device=device, dtype=dtype)
    offset = 0
    for name in order:
        value = stored(point[name], name in last)
        buffer[offset : offset + value.numel()].view(value.shape).copy_(value)
        offset += value.numel()
    return buffer


def stored(value: Tensor, channels_last: bool) -> Tensor:
    return value.permute(0, 2, 3, 1) if channels_last and value.dim() == 4 else value


def viewed(buffer: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """The inverse of `stored`, without a copy; the buffer may have leading axes."""
    lead = buffer.shape[:-1]
    if len(shape) != 4 or not channels_last:
        return buffer.view(*lead, *shape)
    return buffer.view(*lead, shape[0], shape[2], shape[3], shape[1]).movedim(-1, -3)


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
