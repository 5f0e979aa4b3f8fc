"""Fingerprints of data, networks and losses, which identify the job of a file, see `io.resume`."""

import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data.streamed import AnyData

DEPTH = 6  # of nested objects


def data_record(splits: Mapping[str, AnyData]) -> dict[str, str]:
    """Return the digests of the data by split: with the number of classes that was declared, and of the samples alone.

    Python functions know no number of classes, and files of earlier versions record the first digest alone.
    """
    return {
        name: digest
        for split, data in splits.items()
        for name, digest in ((f"{split}_data", data.digest), (f"{split}_samples", without_classes(data).digest))
    }


def data_sketches(splits: Mapping[str, AnyData]) -> dict[str, str]:
    """Return the digests of some samples by the names of `data_record`, for streamed data."""
    return {
        name: sketch
        for split, data in splits.items()
        for name, sketch in ((f"{split}_data", data.sketch), (f"{split}_samples", without_classes(data).sketch))
    }


def recalibration_record(count: int, training: AnyData) -> str:
    """Return the text that identifies the samples on which BatchNorm statistics are estimated again."""
    return f"recalibrated on {count} samples of {training.digest}"


def without_classes(data: AnyData) -> AnyData:
    """Return the same data without a declared number of classes."""
    return replace(data, classes=0) if data.classes else data


def settings_digest(value: Any) -> str:
    """Return a digest of the settings and the code of a network or a loss.

    It covers attributes that are numbers, texts or tensors, and the source and the closure of functions. It does not
    cover parameters and buffers of networks, nor names that functions import or look up when they run.

    Args:
        value: A network, a loss, or any other value.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in parts(value, DEPTH):
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b";")
    return digest.hexdigest()[:16]


def user_loss_name(loss: Any) -> str:
    """Return the name of a user's loss for the record: of a function its module and name, of a module its repr."""
    if isinstance(loss, nn.Module):
        return repr(loss)
    if isinstance(loss, functools.partial):
        return f"partial of {user_loss_name(loss.func)}"
    return f"{getattr(loss, '__module__', '')}.{getattr(loss, '__qualname__', type(loss).__name__)}"


def parts(value: Any, depth: int) -> Iterator[str | bytes]:  # noqa: PLR0912  one case after the other
    """Yield the contents of a value in a fixed order.

    Args:
        value: The value.
        depth: The levels of nested objects that are visited.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        yield repr(value)
    elif isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(value)
        yield f"{tuple(array.shape)} {array.dtype}"
        yield array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
    elif depth == 0:
        yield type(value).__qualname__
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield f"{key}:"
            yield from parts(value[key], depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
            yield from parts(item, depth - 1)
    elif isinstance(value, nn.Module):
        yield from parts_of_module(value)
    elif isinstance(value, functools.partial):
        yield "partial"
        yield from parts((value.func, value.args, value.keywords), depth - 1)
    elif isinstance(value, MethodType):
        yield from parts((value.__func__, value.__self__), depth - 1)
    elif isinstance(value, FunctionType):
        yield from parts_of_function(value, depth)
    elif isinstance(value, BuiltinFunctionType | type):
        yield identity_of(value)
    else:
        yield type(value).__qualname__
        yield from parts(dict(getattr(value, "__dict__", {})), depth - 1)


def parts_of_module(module: nn.Module) -> Iterator[str | bytes]:
    """Yield the settings of each layer; of a module without parameters its buffers too, as class weights of a loss."""
    own = {"training", "_parameters", "_buffers", "_modules"}
    for name, layer in module.named_modules():
        yield f"{name}: "
        yield from parts_of_class(type(layer))
        settings = {key: value for key, value in vars(layer).items() if key not in own and not key.startswith("_")}
        simple = (bool, int, float, complex, str, tuple, list, type(None), torch.dtype)
        yield from parts({key: value for key, value in settings.items() if isinstance(value, simple)}, 3)
    if not any(True for _ in module.parameters()):
        yield from parts(dict(module.named_buffers()), 2)


def parts_of_class(kind: type) -> Iterator[str]:
    """Yield the name of an installed class; of a user's class also the source, and the sources of its bases."""
    yield identity_of(kind)
    for each in kind.__mro__:
        if not is_installed(each):
            try:
                yield textwrap.dedent(inspect.getsource(each))
            except (OSError, TypeError, IndentationError):  # defined in an interpreter
                yield from (
                    repr(value.__code__.co_code) for value in vars(each).values() if isinstance(value, FunctionType)
                )


def identity_of(value: Any) -> str:
    """Return the name of a class or function; of a user's, whose file has several module names, without the module."""
    name = str(getattr(value, "__qualname__", type(value).__qualname__))
    return f"{value.__module__}.{name}" if is_installed(value) else name


def is_installed(value: Any) -> bool:
    """Return whether a class or function is part of Python, of an installed package, or of this one."""
    name = str(getattr(value, "__module__", "") or "")
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    inside = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"))
    return name != "__main__" and (not file or name.startswith("lossatlas") or any(part in file for part in inside))


def parts_of_function(function: FunctionType, depth: int) -> Iterator[str | bytes]:
    """Yield the source of a function, its defaults and its closure."""
    yield identity_of(function)
    try:
        yield textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, IndentationError):  # typed into an interpreter
        yield function.__code__.co_code
        yield repr([c for c in function.__code__.co_consts if isinstance(c, bool | int | float | str | type(None))])
    yield from parts((function.__defaults__, function.__kwdefaults__), depth - 1)
    for cell in function.__closure__ or ():
        try:
            yield from parts(cell.cell_contents, depth - 1)
        except ValueError:  # empty
            yield "empty"
