"""Fingerprints of data, networks and losses, by which a file is recognized: see `io.resume`."""

import functools
import hashlib
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data.streamed import AnyData

DEPTH = 6  # of things in things


def data_record(splits: Mapping[str, AnyData]) -> dict[str, str]:
    """Return the digests of the data by split: with the number of classes that was declared, and of the samples alone.

    Python functions are told no number of classes, and files of earlier versions record the first digest alone.
    """
    return {
        name: digest
        for split, data in splits.items()
        for name, digest in ((f"{split}_data", data.digest), (f"{split}_samples", without_classes(data).digest))
    }


def data_sketches(splits: Mapping[str, AnyData]) -> dict[str, str]:
    """Return the digests of some samples by the names of `data_record`, for data that are read when they are needed."""
    return {
        name: sketch
        for split, data in splits.items()
        for name, sketch in ((f"{split}_data", data.sketch), (f"{split}_samples", without_classes(data).sketch))
    }


def without_classes(data: AnyData) -> AnyData:
    """Return the same data without a declared number of classes."""
    return replace(data, classes=0) if data.classes else data


def settings_digest(thing: Any) -> str:
    """A hash of settings and code: attributes that are numbers, texts or tensors, the source of functions and what they
    enclose. Parameters and buffers of networks are not in it, nor what functions import or look up when they run.
    """
    digest = hashlib.sha256()
    for part in parts(thing, DEPTH):
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b";")
    return digest.hexdigest()[:16]


def name_of(loss: Any) -> str:
    if isinstance(loss, nn.Module):
        return repr(loss)
    if isinstance(loss, functools.partial):
        return f"partial of {name_of(loss.func)}"
    return f"{getattr(loss, '__module__', '')}.{getattr(loss, '__qualname__', type(loss).__name__)}"


def parts(thing: Any, depth: int) -> Iterator[str | bytes]:  # noqa: PLR0912  one case after the other
    """Whatever tells it from others, in a fixed order."""
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        yield repr(thing)
    elif isinstance(thing, Tensor | np.ndarray):
        array = thing.detach().cpu() if isinstance(thing, Tensor) else torch.from_numpy(thing)
        yield f"{tuple(array.shape)} {array.dtype}"
        yield array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
    elif depth == 0:
        yield type(thing).__qualname__
    elif isinstance(thing, Mapping):
        for key in sorted(thing, key=str):
            yield f"{key}:"
            yield from parts(thing[key], depth - 1)
    elif isinstance(thing, list | tuple | set | frozenset):
        for value in sorted(thing, key=str) if isinstance(thing, set | frozenset) else thing:
            yield from parts(value, depth - 1)
    elif isinstance(thing, nn.Module):
        yield from parts_of_module(thing)
    elif isinstance(thing, functools.partial):
        yield "partial"
        yield from parts((thing.func, thing.args, thing.keywords), depth - 1)
    elif isinstance(thing, MethodType):
        yield from parts((thing.__func__, thing.__self__), depth - 1)
    elif isinstance(thing, FunctionType):
        yield from parts_of_function(thing, depth)
    elif isinstance(thing, BuiltinFunctionType | type):
        yield f"{thing.__module__}.{thing.__qualname__}"
    else:
        yield type(thing).__qualname__
        yield from parts(dict(getattr(thing, "__dict__", {})), depth - 1)


def parts_of_module(module: nn.Module) -> Iterator[str | bytes]:
    """Settings of each layer; of a loss its tensors too, such as the weights of classes."""
    own = {"training", "_parameters", "_buffers", "_modules"}
    for name, layer in module.named_modules():
        yield f"{name}: {type(layer).__module__}.{type(layer).__qualname__}"
        settings = {key: value for key, value in vars(layer).items() if key not in own and not key.startswith("_")}
        simple = (bool, int, float, complex, str, tuple, list, type(None), torch.dtype)
        yield from parts({key: value for key, value in settings.items() if isinstance(value, simple)}, 3)
    if not any(True for _ in module.parameters()):
        yield from parts(dict(module.named_buffers()), 2)


def parts_of_function(function: FunctionType, depth: int) -> Iterator[str | bytes]:
    yield f"{function.__module__}.{function.__qualname__}"
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
