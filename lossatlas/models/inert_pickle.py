"""A torch file read without its objects: tensors are read, anything else becomes an empty stand-in, and no code runs.

`torch.load(weights_only=True)` refuses a whole file for one object in it, such as the hyperparameters of a Lightning
checkpoint. Here a class or function that the file names is never imported: `StandIn` takes its place. Only the
functions in `TENSORS`, which build tensors from storages of the same file, are called.
"""

import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch


class StandIn:
    """An object of a class that was not imported.

    Attributes:
        of: The name of the class.
    """

    of = "object"

    def __new__(cls, *_: object, **__: object) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> "StandIn":
        return StandIn()

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Take an item of a list, which is dropped."""

    def extend(self, values: object) -> None:
        """Take items of a list, which are dropped."""

    def add(self, value: object) -> None:
        """Take an item of a set, which is dropped."""


class Entries(dict):
    """An ordered dict without the attributes that a file may give it."""

    def __setstate__(self, state: object) -> None:
        pass


class Builder:
    """A function that a file may call, and not change.

    Args:
        function: The function.
    """

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: object) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"the file changes a function ({name})")

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("the file changes a function")


def _parameter(data: torch.Tensor, requires_grad: bool = False, *_: object) -> torch.Tensor:
    """Return the numbers of a parameter."""
    return data


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> torch.Tensor:
    """Build a tensor on a storage, without the hooks that a file may attach."""
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, collections.OrderedDict())


TENSORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("collections", "OrderedDict"): Entries,
    ("torch", "Size"): tuple,
}


class InertUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a builder of tensors, a type of numbers, or a stand-in."""
        if (module, name) in TENSORS:
            return Builder(TENSORS[module, name])
        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        return type("StandIn", (StandIn,), {"of": f"{module}.{name}"})


def _refuse(*_: object, **__: object) -> NoReturn:
    """Refuse to read in place of `pickle.load`, which only files of old formats need."""
    raise pickle.UnpicklingError("the file has the format before torch 1.6")


def read_inert(path: Path) -> object:
    """Read a zip file of torch.save with stand-ins for its objects.

    Args:
        path: The file, in the format of torch 1.6 and later.

    Returns:
        Its content on the CPU; see `StandIn`.
    """
    inert: Any = SimpleNamespace(Unpickler=InertUnpickler, load=_refuse, __name__="inert")
    with open(path, "rb") as file:
        return torch.load(file, map_location="cpu", pickle_module=inert, weights_only=False)
