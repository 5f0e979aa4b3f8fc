"""Planes: maps from coordinates (a, b) to points in the space of a network's parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lossatlas.errors import BadInput
from lossatlas.io.seeded_directions import blocks
from lossatlas.parameter_space.points import Point, on_device, widened


class Plane(Protocol):
    """A map from coordinates to a point in parameter space; the names are the same at every point."""

    def point(self, a: float, b: float) -> Point:
        """Compute the point at coordinates (a, b)."""
        ...

    def on(self, device: torch.device, dtype: torch.dtype) -> "Plane":
        """Return the same plane, whose points are on a device and of a real type; complex numbers stay complex."""
        ...


@dataclass(frozen=True)
class AffinePlane:
    """The plane origin + a * dx + b * dy.

    Attributes:
        origin: Floating-point or complex tensors by name, all on one device.
        dx: The x direction, in the same shapes.
        dy: The y direction; None for a line.

    Raises:
        BadInput: A direction lacks a tensor, or has another shape.

    Example:
        >>> import torch
        >>> plane = AffinePlane({"w": torch.zeros(2)}, {"w": torch.ones(2)})
        >>> plane.point(0.5, 0.0)["w"].tolist()
        [0.5, 0.5]
    """

    origin: Mapping[str, Tensor]
    dx: Mapping[str, Tensor]
    dy: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        for axis, direction in (("x", self.dx), ("y", self.dy)):
            if direction is None:
                continue
            for name, value in self.origin.items():
                if name not in direction:
                    raise BadInput(f"the {axis} direction lacks '{name}' {tuple(value.shape)}")
                if direction[name].shape != value.shape:
                    raise BadInput(
                        f"the {axis} direction has shape {tuple(direction[name].shape)} for '{name}', "
                        f"the network {tuple(value.shape)}"
                    )

    def point(self, a: float, b: float) -> Point:
        """Compute the point at coordinates (a, b)."""
        return {
            name: at(w, self.dx[name], a, None if self.dy is None else self.dy[name], b)
            for name, w in self.origin.items()
        }

    def write_point(self, a: float, b: float, own: Mapping[str, Tensor]) -> None:
        """Write the point at coordinates (a, b) into tensors of any type, block by block, without memory of its size.

        The numbers are those of `point`, rounded once to the type of each tensor.
        """
        for name, w in self.origin.items():
            dx, dy, target = self.dx[name], None if self.dy is None else self.dy[name], own[name]
            if not all(each.is_contiguous() for each in (w, dx, target, *([] if dy is None else [dy]))):
                target.copy_(at(w, dx, a, dy, b))
                continue
            w, dx, target, dy = w.reshape(-1), dx.reshape(-1), target.view(-1), None if dy is None else dy.reshape(-1)
            for block in blocks(len(target)):
                target[block].copy_(at(w[block], dx[block], a, None if dy is None else dy[block], b))

    def on(self, device: torch.device, dtype: torch.dtype) -> "AffinePlane":
        """Return the same plane with its tensors on a device."""
        dy = None if self.dy is None else on_device(self.dy, device, dtype)
        return AffinePlane(on_device(self.origin, device, dtype), on_device(self.dx, device, dtype), dy)

    def double(self) -> "AffinePlane":
        """Return the same plane in float64."""
        return self.on(next(iter(self.origin.values())).device, torch.float64)


def at(w: Tensor, dx: Tensor, a: float, dy: Tensor | None, b: float) -> Tensor:
    """Compute w + a * dx + b * dy, where each operation is rounded, and half precision counts as float32.

    Args:
        w: Tensor at the origin.
        dx: Tensor of the first direction, of the same shape.
        a: Coordinate along it.
        dy: Tensor of the second direction; None on a line.
        b: Coordinate along it.
    """
    return widened(w) + a * dx + (0 if dy is None else b * dy)


@dataclass(frozen=True)
class MappedPlane:
    """A surface in parameter space that a function of (a, b) gives.

    Attributes:
        function: Maps coordinates (a, b) to a point.
    """

    function: Callable[[float, float], Point]

    def point(self, a: float, b: float) -> Point:
        """Compute the point at coordinates (a, b)."""
        return self.function(a, b)

    def on(self, device: torch.device, dtype: torch.dtype) -> "MappedPlane":
        """Return the same surface, whose points are moved to a device; the function computes where it did before."""
        return MappedPlane(lambda a, b: on_device(self.function(a, b), device, dtype))
