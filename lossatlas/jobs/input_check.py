"""A look at a network, its data and its loss before anything is computed."""

from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.dataset import FixedBatches, spread_numbers
from lossatlas.data.loss_check import check_loss
from lossatlas.data.losses import Loss, Losses
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.data.structures import Structure, leaves
from lossatlas.errors import HERE, BadInput, Stop, error_location
from lossatlas.evaluation.reference import check_modes, check_movable, evaluated_in_place
from lossatlas.evaluation.sample_storage import copy_samples, fitted

CHECKED = 64  # samples


def check_inputs(net: nn.Module, loss: Loss, data: AnyData, what: str, count: int = CHECKED) -> Losses:
    """The losses of some samples, see `check_loss`. The network stays as it is.

    what: what it is called in messages. Raises BadInput where it cannot take the data, its loss cannot be computed, or is
    random, or is none of single samples; the message says whether the network or the loss failed.
    """
    check_movable(net)
    few, calls = fitted(inspected_samples(data, count), net), CallCounter()
    try:
        with evaluated_in_place(net) as model, torch.no_grad():
            calls.watch(model)
            found = check_loss(loss, model, few, copy_samples)
        check_modes(net, lambda own: loss(own, copy_samples(few)).per_sample)
        return found
    except Stop as error:
        raise type(error)(f"{what}: {error}") from error
    except Exception as error:
        raise BadInput(f"{calls.failed(what, few)}: {error_location(error, [HERE])}{one_line(error)}") from error


def loss_of_some_samples(net: nn.Module, loss: Loss, data: AnyData) -> float:
    """Return the mean loss of CHECKED samples, by which a file knows its network and its loss again."""
    few = fitted(inspected_samples(data, CHECKED), net)
    with evaluated_in_place(net) as model, torch.no_grad():
        return float(loss(model, copy_samples(few)).mean())


class CallCounter:
    """The calls of a network, by which an error is one of the network or of the loss."""

    def __init__(self) -> None:
        self.begun, self.ended = 0, 0
        self.output: Any = None

    def watch(self, net: nn.Module) -> None:
        """Count the calls of a network within `evaluated_in_place`, which removes the hooks."""
        net.register_forward_pre_hook(self.begin)
        net.register_forward_hook(self.end)

    def begin(self, *_: Any) -> None:
        self.begun += 1

    def end(self, net: nn.Module, inputs: Any, output: Any) -> None:
        self.ended, self.output = self.ended + 1, output

    def failed(self, what: str, samples: Structure) -> str:
        """The part that failed, and what it received."""
        if self.begun > self.ended:
            return f"the network {what} cannot take {described(samples)}"
        if self.begun:
            given = [leaf for _, leaf in leaves(self.output) if isinstance(leaf, Tensor)]
            shapes = (
                ", ".join("x".join(map(str, leaf.shape)) or "a number" for leaf in given) or type(self.output).__name__
            )
            return f"the loss failed with {described(samples)}, for which {what} gave {shapes}"
        return f"the loss failed with {described(samples)}, before it called {what}"


def inspected_samples(data: AnyData, count: int) -> Structure:
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
