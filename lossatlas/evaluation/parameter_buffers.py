"""The tensors of a network at a point of a plane, updated in place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.parameter_space.offloaded import announce_point
from lossatlas.parameter_space.planes import AffinePlane, Plane
from lossatlas.parameter_space.points import is_variance, named_tensors, real_view


@dataclass(frozen=True)
class FlatLayout:
    """The tensors of a point, contiguous in one flat buffer.

    Complex numbers are stored as two real coordinates each, along a last axis.

    Attributes:
        shapes: Shape of each tensor by name, in the order of the buffer.
        channels_last: Names of the tensors in channels-last order.
        complex_names: Names of the complex tensors.
    """

    shapes: Mapping[str, torch.Size]
    channels_last: frozenset[str]
    complex_names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, point: Mapping[str, Tensor], net: nn.Module, *, channels_last: bool = True) -> "FlatLayout":
        """Return the layout of a point.

        Args:
            point: Tensors by name.
            net: The network that they belong to, whose modules tell which ones are filters of convolutions.
            channels_last: Store the filters of convolutions in channels-last order.
        """
        pairs = frozenset(name for name, value in point.items() if value.is_complex())
        shapes = {name: real_view(value).shape for name, value in point.items()}
        return cls(shapes, convolution_weights(net) - pairs if channels_last else frozenset(), pairs)

    @property
    def total(self) -> int:
        """The number of coordinates."""
        return sum(shape.numel() for shape in self.shapes.values())

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the tensors in a buffer (..., total) by name; complex ones as pairs of real numbers."""
        parts = buffer.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: view_of(part, shape, channels_last=name in self.channels_last)
            for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)
        }

    def point(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the tensors in a buffer (total,) by name, complex ones as copies."""
        return {
            name: torch.view_as_complex(view.clone()) if name in self.complex_names else view
            for name, view in self.views(buffer).items()
        }

    def flat(self, point: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the buffer (total,) that holds a point already, or a new one with a copy of it."""
        first = point[next(iter(self.shapes))]
        size = self.total
        if (
            first.device == device
            and first.dtype == dtype
            and first.untyped_storage().nbytes() == size * dtype.itemsize
        ):
            buffer = first.new_empty(0).set_(first.untyped_storage(), 0, (size,), (1,))
            if all(is_same_memory(real_view(point[name]), view) for name, view in self.views(buffer).items()):
                return buffer
        buffer = torch.empty(size, device=device, dtype=dtype)
        for name, view in self.views(buffer).items():
            view.copy_(real_view(point[name]))
        return buffer


def is_same_memory(value: Tensor, view: Tensor) -> bool:
    """Return whether two tensors are views of the same memory, with the same shape, strides and type."""
    first, second = ((t.data_ptr(), t.shape, t.stride(), t.dtype) for t in (value, view))
    return first == second


class AffineBuffers:
    """Flat buffers of origin, directions and current point, by which a network moves over an affine plane.

    The point is computed in float32, or in float64 if any tensor has that type. Tensors of another type get it rounded.

    Args:
        net: The network; its tensors are replaced by views of the buffer.
        plane: The plane.
        channels_last: Store the filters of convolutions in channels-last order.
    """

    def __init__(self, net: nn.Module, plane: AffinePlane, *, channels_last: bool = True) -> None:
        self.layout = FlatLayout.of(plane.origin, net, channels_last=channels_last)
        self.views = self.layout.views
        own = named_tensors(net, every_name=True)
        device, dtype = (
            next(net.parameters()).device,
            point_dtype([*plane.origin.values(), *map(own.__getitem__, plane.origin)]),
        )
        pack = (self.layout.flat(point, device, dtype) for point in (plane.origin, *plane.directions))
        self.origin, *self.directions = pack
        self.current = self.origin.clone()
        self.dtypes = {name: own[name].dtype for name in plane.origin}
        self.rounded: list[tuple[Tensor, Tensor]] = []
        for name, view in self.views(self.current).items():
            if self.dtypes[name] == dtype:
                replace_tensor(net, name, view)
            else:
                tensor = torch.empty_like(own[name])
                replace_tensor(net, name, tensor)
                self.rounded.append((real_view(tensor.detach()), view))
        self.variances = [view for name, view in self.views(self.current).items() if is_variance(name)]
        self.update_rounded()

    def update_rounded(self) -> None:
        """Copy the point to the tensors of another type."""
        for tensor, view in self.rounded:
            tensor.copy_(view)

    def move(self, *at: float) -> Tensor:
        """Move the network to the point at some coordinates.

        Returns:
            The number of BatchNorm variances that would be negative and were set to zero, () on the device.
        """
        torch.add(self.origin, self.directions[0], alpha=at[0], out=self.current)
        for coordinate, direction in zip(at[1:], self.directions[1:], strict=False):
            self.current.add_(direction, alpha=coordinate)
        clamped = clamp_variances(self.variances, self.current)
        self.update_rounded()
        return clamped

    def stack(self, points: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """Return the tensors at several points.

        Args:
            points: Coordinates, (n, 2), in a volume (n, 3).

        Returns:
            Tensors (n, ...) by name, and the number of negative variances at each point, (n,) float64.
        """
        buffer = self.origin.expand(len(points), -1).clone()
        for direction, column in zip(self.directions, points.T, strict=False):
            coordinates = torch.from_numpy(column.copy()).to(buffer)
            buffer.addcmul_(coordinates[:, None], direction[None])
        views, clamped = self.views(buffer), buffer.new_zeros(len(points), dtype=torch.float64)
        for name, view in views.items():
            if is_variance(name):
                clamped += (view < 0).sum(dim=1)
                view.clamp_(min=0)
        return {name: self.in_own_dtype(name, view) for name, view in views.items()}, clamped

    def in_own_dtype(self, name: str, view: Tensor) -> Tensor:
        """Return a tensor of the point in the type that the network has it in."""
        return (torch.view_as_complex(view.clone()) if name in self.layout.complex_names else view).to(
            self.dtypes[name]
        )


class GeneralBuffers:
    """Parameters of a network that moves over any plane; each point is computed by the plane and copied.

    Args:
        net: The network; its tensors are replaced.
        plane: The plane.
    """

    def __init__(self, net: nn.Module, plane: Plane) -> None:
        device, own = next(net.parameters()).device, named_tensors(net, every_name=True)
        start = plane.point(0.0, 0.0)
        dtype = point_dtype([*start.values(), *map(own.__getitem__, start)])
        self.plane = plane.on(device, dtype)
        self.own = {
            name: torch.empty_like(value, device=device, dtype=own[name].dtype) for name, value in start.items()
        }
        for name, value in self.own.items():
            replace_tensor(net, name, value)
        self.move(0.0, 0.0)

    def move(self, *at: float) -> Tensor:
        """Move the network to the point at some coordinates.

        Returns:
            The number of BatchNorm variances that would be negative and were set to zero, () on the device.
        """
        for name, value in self.plane.point(*at).items():
            self.own[name].copy_(value)
        return clamp_variances([v for name, v in self.own.items() if is_variance(name)], next(iter(self.own.values())))


class InPlaceBuffers:
    """Tensors of a network itself, moved also where other objects share them; see `reference.evaluated_in_place`.

    Args:
        net: The network.
        plane: The plane.
    """

    def __init__(self, net: nn.Module, plane: Plane) -> None:
        self.net, self.plane, self.own = net, plane, named_tensors(net, every_name=True)

    @torch.no_grad()
    def move(self, *at: float) -> Tensor:
        """Move the network to the point at some coordinates.

        Returns:
            The number of BatchNorm variances that would be negative and were set to zero, () on the device.
        """
        data = {name: value.data for name, value in self.own.items()}  # so that the user's autograd graphs stay valid
        if isinstance(self.plane, AffinePlane):
            names = list(self.plane.origin)
            self.plane.write_point(at, data)
        else:
            names = list(point := self.plane.point(*at))
            for name, value in point.items():
                data[name].copy_(value)
        announce_point(self.net)
        return clamp_variances([data[name] for name in names if is_variance(name)], next(iter(data.values())))


ParameterBuffers = AffineBuffers | GeneralBuffers | InPlaceBuffers


def parameter_buffers(net: nn.Module, plane: Plane, *, in_place: bool, channels_last: bool) -> ParameterBuffers:
    """Return the buffers that move a network over a plane.

    Args:
        net: The network.
        plane: The plane.
        in_place: Move the tensors of the network itself; otherwise they are replaced.
        channels_last: Store the filters of convolutions in channels-last order, on an affine plane.
    """
    if in_place:
        return InPlaceBuffers(net, plane)
    if isinstance(plane, AffinePlane):
        return AffineBuffers(net, plane, channels_last=channels_last)
    return GeneralBuffers(net, plane)


def point_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the type in which a point is computed: float64 if any tensor has it, otherwise float32."""
    double = any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors)
    return torch.float64 if double else torch.float32


def clamp_variances(variances: Sequence[Tensor], like: Tensor) -> Tensor:
    """Set negative variances to zero, in place; return their number () on the device of `like`."""
    count = torch.zeros((), dtype=torch.float64, device=like.device)
    for variance in variances:
        count += (variance < 0).sum()
        variance.clamp_(min=0)
    return count


def convolution_weights(net: nn.Module) -> frozenset[str]:
    """Return the names of the filters of convolutions; other parameters with four axes keep their layout."""
    return frozenset(
        f"{name}.weight" if name else "weight"
        for name, module in net.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    )


def view_of(buffer: Tensor, shape: torch.Size, *, channels_last: bool) -> Tensor:
    """Return a tensor of some shape as a view of its part of a buffer, which may have leading axes."""
    lead = buffer.shape[:-1]
    if len(shape) != 4 or not channels_last:
        return buffer.view((*lead, *shape))
    return buffer.view(*lead, shape[0], shape[2], shape[3], shape[1]).movedim(-1, -3)


def replace_tensor(net: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer by `value`, under every name that it has (tied weights)."""
    modules = dict(net.named_modules(remove_duplicate=False))
    owner, _, leaf = name.rpartition(".")
    old = getattr(modules[owner], leaf)
    is_parameter = isinstance(old, nn.Parameter)
    new = nn.Parameter(value, requires_grad=False) if is_parameter else value
    for module in modules.values():
        table: dict[str, Tensor | None] = module._parameters if is_parameter else module._buffers
        for key in [key for key, tensor in table.items() if tensor is old]:
            table[key] = new
