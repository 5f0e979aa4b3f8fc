"""Planes and volumes: maps from coordinates to points in the space of a network's parameters.

Coordinates are (a, b), also on a line, where b has no effect; in a volume (a, b, c).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lossatlas.errors import BadInput
from lossatlas.io.seeded_directions import blocks
from lossatlas.parameter_space.points import Point, on_device, widened


class Plane(Protocol):
    """A map from coordinates to a point in parameter space; the names are the same at every point."""

    def point(self, *at: float) -> Point:
        """Compute the point at coordinates (a, b), in a volume (a, b, c)."""
        ...

    def on(self, device: torch.device, dtype: torch.dtype) -> "Plane":
        """Return the same plane, whose points are on a device and of a real type; complex numbers stay complex."""
        ...


@dataclass(frozen=True)
class AffinePlane:
    """The plane origin + a * dx + b * dy, or the volume origin + a * dx + b * dy + c * dz.

    Attributes:
        origin: Floating-point or complex tensors by name, all on one device.
        dx: The x direction, in the same shapes.
        dy: The y direction; None for a line.
        dz: The z direction of a volume; None for a line or a plane.

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
    dz: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        for axis, direction in zip("xyz", self.directions, strict=False):
            for name, value in self.origin.items():
                if name not in direction:
                    raise BadInput(f"the {axis} direction lacks '{name}' {tuple(value.shape)}")
                if direction[name].shape != value.shape:
                    raise BadInput(
                        f"the {axis} direction has shape {tuple(direction[name].shape)} for '{name}', "
                        f"the network {tuple(value.shape)}"
                    )

    @property
    def directions(self) -> tuple[Mapping[str, Tensor], ...]:
        """The directions of the axes that there are."""
        return tuple(each for each in (self.dx, self.dy, self.dz) if each is not None)

    def point(self, *at: float) -> Point:
        """Compute the point at coordinates (a, b), in a volume (a, b, c); coordinates that are left out are 0."""
        return {
            name: shifted(w, ((step, each[name]) for step, each in zip(at, self.directions, strict=False)))
            for name, w in self.origin.items()
        }

    def write_point(self, at: Sequence[float], own: Mapping[str, Tensor]) -> None:
        """Write the point at some coordinates into tensors of any type, block by block, without memory of its size.

        The numbers are those of `point`, rounded once to the type of each tensor.
        """
        for name, w in self.origin.items():
            steps, target = [each[name] for each in self.directions], own[name]
            if not all(each.is_contiguous() for each in (w, target, *steps)):
                target.copy_(shifted(w, zip(at, steps, strict=False)))
                continue
            w, target, steps = w.reshape(-1), target.view(-1), [each.reshape(-1) for each in steps]
            for block in blocks(len(target)):
                target[block].copy_(shifted(w[block], zip(at, (each[block] for each in steps), strict=False)))

    def on(self, device: torch.device, dtype: torch.dtype) -> "AffinePlane":
        """Return the same plane with its tensors on a device."""
        return AffinePlane(*(on_device(each, device, dtype) for each in (self.origin, *self.directions)))

    def double(self) -> "AffinePlane":
        """Return the same plane in float64."""
        return self.on(next(iter(self.origin.values())).device, torch.float64)


def shifted(w: Tensor, steps: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Compute w + a * dx + b * dy + ..., where each operation is rounded, and half precision counts as float32.

    Args:
        w: Tensor at the origin.
        steps: The coordinate along each direction, and the tensor of the direction, of the same shape as `w`.
    """
    result = widened(w)
    for coordinate, direction in steps:
        result = result + coordinate * direction
    return result


@dataclass(frozen=True)
class MappedPlane:
    """A surface in parameter space that a function of the coordinates gives.

    Attributes:
        function: Maps coordinates to a point.
    """

    function: Callable[..., Point]

    def point(self, *at: float) -> Point:
        """Compute the point at some coordinates."""
        return self.function(*at)

    def on(self, device: torch.device, dtype: torch.dtype) -> "MappedPlane":
        """Return the same surface, whose points are moved to a device; the function computes where it did before."""
        return MappedPlane(lambda *at: on_device(self.function(*at), device, dtype))
