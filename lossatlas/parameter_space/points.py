"""Points in the space of a network's parameters.

A point or a direction is a dict from the network's own tensor names to tensors. With `dir_type` 'weights' it covers the
parameters, with 'states' the buffers of BatchNorm too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.choices import DirType
from lossatlas.errors import BadInput, named

Point = dict[str, Tensor]


def movable(tensor: Tensor) -> bool:
    """Test whether a tensor holds floating-point or complex numbers, which a direction can change."""
    return tensor.is_floating_point() or tensor.is_complex()


def is_sharded(net: nn.Module) -> bool:
    """Return whether parameters are spread over processes (FSDP, DTensor), each of which has a part of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(module, FullyShardedDataParallel) for module in net.modules()) or any(
        isinstance(p, DTensor) for p in net.parameters()
    )


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the real and imaginary parts of complex numbers; other types unchanged."""
    return dtype.to_real() if dtype.is_complex else dtype


def converted(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    """Move a tensor to a device and a floating-point type.

    Args:
        tensor: Complex numbers stay complex, integers keep their type.
        device: The device.
        dtype: A real type; None to keep the tensor's own.
    """
    if dtype is None or not movable(tensor):
        return tensor.to(device)
    return tensor.to(device, dtype.to_complex() if tensor.is_complex() else dtype)


def on_device(point: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> Point:
    """Move a point to a device and a real type; complex numbers stay complex."""
    return {name: converted(value, device, dtype) for name, value in point.items()}


def real_view(tensor: Tensor) -> Tensor:
    """View complex numbers as pairs of real ones along a last axis; other tensors unchanged."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def named_tensors(net: nn.Module, *, every_name: bool) -> Point:
    """Return every parameter and buffer of a network by name, also those that a state dict leaves out.

    Args:
        net: The network.
        every_name: List a tensor with several names (tied weights) under each of them; otherwise under the first alone.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> net[1].weight = net[0].weight
        >>> list(named_tensors(net, every_name=False)), list(named_tensors(net, every_name=True))
        (['0.weight', '0.bias', '1.bias'], ['0.weight', '0.bias', '1.weight', '1.bias'])
    """
    once = not every_name
    return {**dict(net.named_parameters(remove_duplicate=once)), **dict(net.named_buffers(remove_duplicate=once))}


def tensors(net: nn.Module, dir_type: DirType = "weights") -> Point:
    """List the tensors that a direction covers.

    Args:
        net: The network.
        dir_type: 'weights' for the parameters, 'states' for the state dict.

    Returns:
        Floating-point and complex tensors by name, detached, in the order of a direction file. A tensor with several
        names (tied weights) is listed once, under the first.
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


def position(net: nn.Module, dir_type: DirType = "weights") -> Point:
    """Copy the tensors that a direction covers, half precision as float32: the origin of planes through a network."""
    return {name: widened(value).clone() for name, value in tensors(net, dir_type).items()}


def wide_tensors(net: nn.Module, dir_type: DirType = "weights") -> Point:
    """List the tensors that a direction covers, half precision as float32; others share the network's memory."""
    return {name: widened(value) for name, value in tensors(net, dir_type).items()}


def widened(value: Tensor) -> Tensor:
    """Convert half precision to float32, in which directions are stored and points computed; others unchanged."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def entries(net: nn.Module, dir_type: DirType) -> list[str]:
    """Return the names of a direction file's arrays, in order: parameters, or every state with integer counters."""
    return [name for name, _ in net.named_parameters()] if dir_type == "weights" else list(net.state_dict())


def entries_of(arrays: Sequence[np.ndarray], net: nn.Module, dir_type: DirType) -> list[str]:
    """Return the names of these arrays of a direction file; states written by torch before 0.4.1 lack the counters."""
    names = entries(net, dir_type)
    return names if len(arrays) == len(names) else [n for n in names if not n.endswith("num_batches_tracked")]


def as_arrays(vector: Mapping[str, Tensor], net: nn.Module, dir_type: DirType) -> list[np.ndarray]:
    """Convert a direction to the arrays of a direction file.

    Args:
        vector: The direction, on the CPU.
        net: The network.
        dir_type: 'weights' or 'states'.

    Returns:
        An array for each entry, zero where the direction has none.
    """
    state = net.state_dict()
    return [
        widened(vector[name]).numpy() if name in vector else np.zeros(tuple(state[name].shape), np.float32)
        for name in entries(net, dir_type)
    ]


def as_point(arrays: Sequence[np.ndarray], net: nn.Module, dir_type: DirType, source: str) -> Point:
    """Convert the arrays of a direction file to tensors by name.

    Args:
        arrays: The arrays.
        net: The network.
        dir_type: 'weights' or 'states'.
        source: Name of the direction for messages.

    Returns:
        The direction in the network's own precision, at least float32 or complex64; float64 arrays of a float64 network
        keep their digits.

    Raises:
        BadInput: The arrays do not fit the network; the message names the first one.
    """
    names, state, covered = entries_of(arrays, net, dir_type), net.state_dict(), tensors(net, dir_type)
    if len(arrays) != len(names):
        raise BadInput(
            f"{source} has {len(arrays)} tensors, the network {len(names)} for {named('dir_type', dir_type)}"
        )
    for name, array in zip(names, arrays, strict=True):
        if array.shape != tuple(state[name].shape):
            raise BadInput(f"{source} has shape {array.shape} for '{name}', the network {tuple(state[name].shape)}")

    def kind(name: str, array: np.ndarray) -> np.dtype:
        is_double = real_dtype(covered[name].dtype) == torch.float64
        return np.result_type(np.float64 if is_double else np.float32, np.complex64 if np.iscomplexobj(array) else 0)

    return {
        name: torch.from_numpy(np.require(array, kind(name, array), ["C", "W"]))
        for name, array in zip(names, arrays, strict=True)
        if name in covered
    }


def is_variance(name: str) -> bool:
    """Test whether a state is a BatchNorm variance, which must not be negative."""
    return name.rsplit(".", 1)[-1] == "running_var"


def move(tensors: Mapping[str, Tensor], point: Mapping[str, Tensor]) -> int:
    """Copy a point into tensors, in place; set negative variances to zero, and return their number."""
    clamped = 0
    with torch.no_grad():
        for name, value in point.items():
            own = tensors[name].data
            own.copy_(value)
            if is_variance(name):
                clamped += int((own < 0).sum())
                own.clamp_(min=0)
    return clamped


@contextmanager
def restored(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Restore the values of tensors at the end bit for bit, even after an error."""
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.data.copy_(value)


@contextmanager
def moved(net: nn.Module, point: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Move a network to another point within; its values are restored afterwards bit for bit, even after an error.

    Args:
        net: The network.
        point: Tensors by name; negative variances are set to zero.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> with moved(net, {"bias": torch.ones(1)}):
        ...     net.bias.item()
        1.0
    """
    own = named_tensors(net, every_name=True)
    with restored([own[name] for name in point]):
        move(own, point)
        yield net
