"""A look at a network, its data and its loss before anything is computed."""

from typing import Any

import torch
from torch import nn

from lossatlas.data.dataset import FixedBatches, spread_numbers
from lossatlas.data.losses import Loss, Losses, check_loss
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.data.structures import Structure, leaves
from lossatlas.errors import HERE, BadInput, Stop, place_of
from lossatlas.evaluation.reference import borrowed, check_apart, check_movable
from lossatlas.evaluation.resident import fitted, sample_of

CHECKED = 64  # samples


def tried(net: nn.Module, loss: Loss, data: AnyData, what: str, count: int = CHECKED) -> Losses:
    """The losses of some samples, see `check_loss`. The network stays as it is.

    what: what it is called in messages. Raises BadInput where it cannot take the data, its loss cannot be computed, or is
    random, or is none of single samples.
    """
    check_movable(net)
    few = fitted(looked_at(data, count), net)
    try:
        with borrowed(net) as model, torch.no_grad():
            found = check_loss(loss, model, few, sample_of)
            check_apart(net, lambda own: loss(own, sample_of(few)).per_sample)
            return found
    except Stop as error:
        raise type(error)(f"{what}: {error}") from error
    except Exception as error:
        raise BadInput(f"{what} cannot take {described(few)}: {place_of(error, [HERE])}{one_line(error)}") from error


def looked_at(data: AnyData, count: int) -> Structure:
    """Some samples, spread evenly, because those of a class may lie together; the first batch where batches stay as they are."""
    if isinstance(data, FixedBatches) or (isinstance(data, Streamed) and data.fixed):
        return next(data.batches(count))
    return data.read(spread_numbers(len(data), count))


def described(samples: Any) -> str:
    """The shapes in a batch, for messages."""
    parts = [
        (path, "x".join(map(str, leaf.shape[1:])) or "numbers")
        for path, leaf in leaves(samples)
        if hasattr(leaf, "shape")
    ]
    if [path for path, _ in parts] == ["[0]", "[1]"]:
        return f"inputs of {parts[0][1]}"
    return "a batch of " + ", ".join(f"{path or 'one tensor'}: {shape}" for path, shape in parts)


def one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
