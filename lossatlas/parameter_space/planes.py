"""Planes: maps from coordinates (a, b) to points in the space of a network's parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lossatlas.errors import BadInput
from lossatlas.parameter_space.points import Point


class Plane(Protocol):
    """A map from coordinates to a point in parameter space; the names are the same at every point."""

    def point(self, a: float, b: float) -> Point: ...


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
            name: w + a * self.dx[name] + (0 if self.dy is None else b * self.dy[name])
            for name, w in self.origin.items()
        }

    def double(self) -> "AffinePlane":
        """Return the same plane in float64."""
        origin, dx, dy = (
            None if point is None else {name: value.double() for name, value in point.items()}
            for point in (self.origin, self.dx, self.dy)
        )
        assert origin is not None
        assert dx is not None
        return AffinePlane(origin, dx, dy)


@dataclass(frozen=True)
class MappedPlane:
    """Any other surface.

    Attributes:
        function: Maps coordinates (a, b) to a point.
    """

    function: Callable[[float, float], Point]

    def point(self, a: float, b: float) -> Point:
        """Compute the point at coordinates (a, b)."""
        return self.function(a, b)
