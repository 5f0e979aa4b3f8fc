"""Points in the space of a network's parameters.

A point or a direction is a dict from the network's own tensor names to tensors. `weights` moves the parameters alone,
`states` the buffers of BatchNorm too.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput

Point = dict[str, Tensor]


def movable(tensor: Tensor) -> bool:
    """Whether a tensor has coordinates that a direction can change: floating-point or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of the real and imaginary parts of complex numbers; other types as they are."""
    return dtype.to_real() if dtype.is_complex else dtype


def converted(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    """A tensor on a device, in a floating-point type; complex numbers stay complex, integers stay what they are."""
    if dtype is None or not movable(tensor):
        return tensor.to(device)
    return tensor.to(device, dtype.to_complex() if tensor.is_complex() else dtype)


def real_view(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones along a last axis; other tensors as they are."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def tensors(net: nn.Module, dir_type: str = "weights") -> Point:
    """The tensors a direction covers, detached, by name and in file order: parameters, or states, with real or complex numbers.

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
        if id(value) not in seen and movable(value):
            seen.add(id(value))
            result[name] = value.detach()
    return result


def position(net: nn.Module, dir_type: str = "weights") -> Point:
    """Copies of the tensors a direction covers, in float32 at least: where a network is, for planes through it."""
    return {name: widened(value).clone() for name, value in tensors(net, dir_type).items()}


def wide_tensors(net: nn.Module, dir_type: str = "weights") -> Point:
    """The tensors a direction covers, in float32 at least; they share the network's memory where they need no conversion."""
    return {name: widened(value) for name, value in tensors(net, dir_type).items()}


def widened(value: Tensor) -> Tensor:
    """Half precision as float32, in which directions are stored and points computed; others as they are."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def entries(net: nn.Module, dir_type: str) -> list[str]:
    """The entries of a direction file, in order: the parameters, or every state including the integer counters."""
    return [name for name, _ in net.named_parameters()] if dir_type == "weights" else list(net.state_dict())


def entries_of(arrays: Sequence[np.ndarray], net: nn.Module, dir_type: str) -> list[str]:
    """The entries that arrays of a direction file have: those of states written before torch 0.4.1 lack the counters."""
    names = entries(net, dir_type)
    return names if len(arrays) == len(names) else [n for n in names if not n.endswith("num_batches_tracked")]


def as_arrays(vector: Mapping[str, Tensor], net: nn.Module, dir_type: str) -> list[np.ndarray]:
    """A direction as the arrays of a direction file; what it does not move is zero."""
    state = net.state_dict()
    return [
        widened(vector[name]).numpy() if name in vector else np.zeros(tuple(state[name].shape), np.float32)
        for name in entries(net, dir_type)
    ]


def as_point(arrays: Sequence[np.ndarray], net: nn.Module, dir_type: str, what: str) -> Point:
    """Arrays of a direction file by tensor name. Raises BadInput, naming the first tensor that does not fit."""
    names, state, moved_names = entries_of(arrays, net, dir_type), net.state_dict(), tensors(net, dir_type)
    if len(arrays) != len(names):
        raise BadInput(f"{what} has {len(arrays)} tensors, the network {len(names)} for --dir_type {dir_type}")
    for name, array in zip(names, arrays, strict=True):
        if array.shape != tuple(state[name].shape):
            raise BadInput(f"{what} has shape {array.shape} for '{name}', the network {tuple(state[name].shape)}")
    return {
        name: torch.from_numpy(np.require(array, np.complex64 if np.iscomplexobj(array) else np.float32, ["C", "W"]))
        for name, array in zip(names, arrays, strict=True)
        if name in moved_names
    }


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
                own[name].data.copy_(value.clamp(min=0) if is_variance(name) else value)
        yield net
    finally:
        with torch.no_grad():
            for name, value in before.items():
                own[name].data.copy_(value)
