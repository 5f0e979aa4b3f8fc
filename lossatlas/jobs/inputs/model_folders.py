"""Functions of a network and data that take a folder of Hugging Face and texts as well."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from torch import nn

from lossatlas.datasets.texts import TextSettings
from lossatlas.models.hugging_face import load_model, text_data
from lossatlas.mpi.agreement import on_all
from lossatlas.mpi.communicator import World

P = ParamSpec("P")
R = TypeVar("R")


def accepts_folder(
    function: Callable[Concatenate[nn.Module, P], R],
) -> Callable[Concatenate[nn.Module | str | Path, P], R]:
    """Decorate a function of a network and data so that it takes the folder of a causal language model, and texts.

    A folder is read by `models.hugging_face.load_model` on every rank; the default loss is 'next_token' then. `data`
    and `test` may be texts, or a file of texts, which are tokenized as `models.hugging_face.language_model` does by
    default.
    """

    @functools.wraps(function)
    def with_folder(*arguments: Any, **keywords: Any) -> R:
        given = {**dict(zip(("net", "data"), arguments, strict=False)), **keywords}
        folder = given.get("net")
        if not isinstance(folder, str | Path):
            return function(*arguments, **keywords)
        world, others = World.of_communicator(given.get("ranks")), arguments[2:]
        say = bool(given.get("progress", True)) and world.root

        def read() -> dict[str, Any]:
            return {"net": load_model(folder)} | {
                name: text_data(folder, given[name], TextSettings(), split=split, progress=say)
                for name, split in (("data", "train"), ("test", "test"))
                if is_text(given.get(name))
            }

        given = {"loss": "next_token", **given, **on_all(world, read)}
        first = [given.pop(name) for name in ("net", "data") if name in given]
        return function(*first, *others, **given)

    return cast("Callable[Concatenate[nn.Module | str | Path, P], R]", with_folder)


def is_text(data: Any) -> bool:
    """Return whether data are texts, or a file of texts."""
    if isinstance(data, str | Path):
        return True
    return isinstance(data, list | tuple) and bool(data) and all(isinstance(item, str) for item in data)
