"""Directions and planes in the space of a network's parameters.

A point or a direction is a dict from the network's own tensor names to tensors. `weights` moves the parameters alone,
`states` the buffers of BatchNorm too. Normalizations follow Li et al., arXiv 1712.09913, section 4.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from errors import BadInput

Point = dict[str, Tensor]
TINY = 1e-10  # keeps a slice of zero norm from dividing by zero, as in the original release


def tensors(net: nn.Module, dir_type: str = "weights") -> Point:
    """The tensors a direction covers, detached, by name and in file order: parameters, or floating-point states.

    A tensor that is used under several names (tied weights) is listed once, under the first.
    """
    own: dict[str, Tensor] = dict(net.named_parameters(remove_duplicate=False))
    names = list(own)
    if dir_type == "states":
        own |= dict(net.named_buffers(remove_duplicate=False))
        names = [name for name in net.state_dict() if name in own]
    seen: set[int] = set()
    result: Point = {}
    for name in names:
        value = own[name]
        if id(value) not in seen and value.is_floating_point():
            seen.add(id(value))
            result[name] = value.detach()
    return result


def entries(net: nn.Module, dir_type: str) -> list[str]:
    """The entries of a direction file, in order: the parameters, or every state including the integer counters."""
    return [name for name, _ in net.named_parameters()] if dir_type == "weights" else list(net.state_dict())


def as_arrays(vector: Mapping[str, Tensor], net: nn.Module, dir_type: str) -> list[np.ndarray]:
    """A direction as the arrays of a direction file; what it does not move is zero."""
    state = net.state_dict()
    return [
        vector[name].numpy() if name in vector else np.zeros(tuple(state[name].shape), np.float32)
        for name in entries(net, dir_type)
    ]


def as_point(arrays: Sequence[np.ndarray], net: nn.Module, dir_type: str, what: str) -> Point:
    """Arrays of a direction file by tensor name. Raises BadInput, naming the first tensor that does not fit.

    Files of states written before torch 0.4.1 lack the counters of BatchNorm.
    """
    names, state, moved_names = entries(net, dir_type), net.state_dict(), tensors(net, dir_type)
    if len(arrays) != len(names):
        names = [name for name in names if not name.endswith("num_batches_tracked")]
    if len(arrays) != len(names):
        raise BadInput(f"{what} has {len(arrays)} tensors, the network {len(names)} for --dir_type {dir_type}")
    for name, array in zip(names, arrays, strict=True):
        if array.shape != tuple(state[name].shape):
            raise BadInput(f"{what} has shape {array.shape} for '{name}', the network {tuple(state[name].shape)}")
    return {
        name: torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
        for name, array in zip(names, arrays, strict=True)
        if name in moved_names
    }


def random_direction(at: Mapping[str, Tensor], norm: str, ignore: str, seed: int) -> Point:
    """A Gaussian direction at the point `at`, normalized. Depends on the seed and the shapes alone.

    norm: see `normalize`. ignore: 'biasbn' or ''.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
        for name, value in at.items()
    }
    return normalize(drawn, at, norm, ignore)


def normalize(direction: Mapping[str, Tensor], at: Mapping[str, Tensor], norm: str = "", ignore: str = "") -> Point:
    """Scale a direction to the weights it belongs to.

    norm: 'filter' (each slice along the first axis gets the norm of the same slice of the weights), 'layer' (each
    tensor), 'weight' (elementwise product with the weights), 'dfilter' and 'dlayer' (unit norm per slice or tensor),
    'unit' (unit norm of the whole), or '' (as it is). Tensors with at most one axis (biases, BatchNorm) become zero
    under ignore='biasbn'; otherwise they become the weights themselves, as in the original release, so two axes share
    that component (except under 'unit', where they are as drawn).
    """
    if norm == "unit":
        return unit(without_biases(direction, ignore))
    return {name: normalized(d, at[name], norm, ignore) for name, d in direction.items()}


def scale_to(direction: Mapping[str, Tensor], at: Mapping[str, Tensor], norm: str = "", ignore: str = "") -> Point:
    """Normalize a direction that says something in every tensor, such as a gradient: see `normalize`.

    A tensor with one axis counts as one slice, and keeps its direction.
    """
    direction = without_biases(direction, ignore)
    if norm in ("", "unit"):
        return unit(direction) if norm else dict(direction)
    return {name: normalized(d.view(1, -1), at[name].view(1, -1), norm, "").view_as(d) if d.dim() <= 1
            else normalized(d, at[name], norm, "") for name, d in direction.items()}  # fmt: skip


def without_biases(direction: Mapping[str, Tensor], ignore: str) -> Point:
    return {name: torch.zeros_like(d) if d.dim() <= 1 and ignore == "biasbn" else d for name, d in direction.items()}


def unit(direction: Mapping[str, Tensor]) -> Point:
    length = inner(direction, direction) ** 0.5
    return {name: d / max(length, TINY) for name, d in direction.items()}


def inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float(torch.dot(a[name].double().flatten(), b[name].double().flatten())) for name in a)


def orthogonal(direction: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Point:
    """A direction without its part along another one, with the length it had. Raises BadInput where nothing is left."""
    length = inner(direction, direction) ** 0.5
    result = dict(direction)
    for _ in range(2):  # once leaves rounding behind
        share = inner(result, other) / max(inner(other, other), 1e-300)
        result = {name: d - share * other[name] for name, d in result.items()}
    left = inner(result, result) ** 0.5
    if left <= 1e-4 * length:
        raise BadInput("--orthogonalize: the y direction is along the x direction, and nothing is left of it")
    return {name: d * (length / left) for name, d in result.items()}


def normalized(d: Tensor, w: Tensor, norm: str, ignore: str) -> Tensor:
    if d.dim() <= 1:
        return torch.zeros_like(d) if ignore == "biasbn" else w.clone()
    rows = d.flatten(1).norm(dim=1).view(-1, *[1] * (d.dim() - 1))
    if norm == "filter":
        return d * (w.flatten(1).norm(dim=1).view_as(rows) / (rows + TINY))
    if norm == "layer":
        return d * (w.norm() / (d.norm() + TINY))
    if norm == "weight":
        return d * w
    if norm == "dfilter":
        return d / (rows + TINY)
    if norm == "dlayer":
        return d / (d.norm() + TINY)
    return d.clone()


def target_direction(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> Point:
    """The direction from one network to another, so that coordinate 1 is the second network."""
    return {name: end[name] - value for name, value in start.items()}


class Plane(Protocol):
    """A map from coordinates to a point in parameter space; the names are the same at every point."""

    def point(self, a: float, b: float) -> Point: ...


@dataclass(frozen=True)
class Affine:
    """The plane origin + a * dx + b * dy; dy is None for a line. Tensors on one device, float."""

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
        return {
            name: w + a * self.dx[name] + (0 if self.dy is None else b * self.dy[name])
            for name, w in self.origin.items()
        }


@dataclass(frozen=True)
class Mapped:
    """Any other surface: a function from (a, b) to a point."""

    function: Callable[[float, float], Point]

    def point(self, a: float, b: float) -> Point:
        return self.function(a, b)


def is_variance(name: str) -> bool:
    """Whether a state is a BatchNorm variance, which must not be negative."""
    return name.rsplit(".", 1)[-1] == "running_var"


@contextmanager
def moved(net: nn.Module, point: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The network at another point; the values it had before are back afterwards, bit for bit, even after an error."""
    own = {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers(remove_duplicate=False))}
    before = {name: own[name].detach().clone() for name in point}
    try:
        with torch.no_grad():
            for name, value in point.items():
                own[name].copy_(value.clamp(min=0) if is_variance(name) else value)
        yield net
    finally:
        with torch.no_grad():
            for name, value in before.items():
                own[name].copy_(value)
