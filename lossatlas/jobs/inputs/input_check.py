"""Check a network, its data and its loss on some samples before anything is computed."""

from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.dataset import FixedBatches, spread_numbers
from lossatlas.data.loss_check import check_loss
from lossatlas.data.losses import Loss, Losses, output_of
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.data.structures import Structure, leaves
from lossatlas.errors import PACKAGE_FOLDER, BadInput, Stop, error_location, first_line
from lossatlas.evaluation.reference import check_modes, check_movable, evaluated_in_place
from lossatlas.evaluation.sample_storage import copy_samples, fitted
from lossatlas.mpi.communicator import WorkFailed

CHECKED = 64  # samples that are checked


def check_inputs(net: nn.Module, loss: Loss, data: AnyData, name: str, count: int = CHECKED) -> Losses:
    """Compute and check the losses of some samples, see `check_loss`. The network is not changed.

    Args:
        net: The network.
        loss: The loss.
        data: The samples.
        name: The name of the network in messages.
        count: The number of samples.

    Returns:
        The losses of these samples.

    Raises:
        BadInput: The network cannot take the data, or the loss cannot be computed, is random or is not per sample. The
            message says whether the network or the loss failed.
    """
    check_movable(net)
    few, calls = fitted(inspected_samples(data, count), net), CallCounter()
    try:
        with evaluated_in_place(net) as model, torch.no_grad():
            calls.watch(model)
            losses = check_loss(loss, model, few, copy_samples)
        check_modes(net, lambda own: loss(own, copy_samples(few)).per_sample)
        return losses
    except WorkFailed:  # of another rank, whose message is complete
        raise
    except Stop as error:
        raise type(error)(f"{name}: {error}") from error
    except Exception as error:
        raise BadInput(
            f"{calls.failed(name, few)}: {error_location(error, [PACKAGE_FOLDER])}{first_line(error)}"
        ) from error


def loss_of_some_samples(net: nn.Module, loss: Loss, data: AnyData) -> float:
    """Return the mean loss of CHECKED samples, which a file records to identify network and loss."""
    few = fitted(inspected_samples(data, CHECKED), net)
    with evaluated_in_place(net) as model, torch.no_grad():
        return float(loss(model, copy_samples(few)).mean())


class CallCounter:
    """Counter of a network's calls, which tells an error of the network from an error of the loss."""

    def __init__(self) -> None:
        self.started, self.finished = 0, 0
        self.output: Any = None

    def watch(self, net: nn.Module) -> None:
        """Count the calls of a network within `evaluated_in_place`, which removes the hooks."""
        net.register_forward_pre_hook(self.begin)
        net.register_forward_hook(self.end)

    def begin(self, *_: Any) -> None:
        """Count a call that starts: a forward pre-hook."""
        self.started += 1

    def end(self, net: nn.Module, inputs: Any, output: Any) -> None:
        """Count a call that has finished: a forward hook."""
        self.finished, self.output = self.finished + 1, output

    def failed(self, name: str, samples: Structure) -> str:
        """Describe the part that failed, and its inputs.

        Args:
            name: The name of the network.
            samples: The samples that it got.
        """
        if self.started > self.finished:
            several = isinstance(samples, list | tuple) and len(samples) > 2
            hint = (
                " (it gets all of them but the last, which is the target; for several targets give a loss(model, "
                "batch), for several batches dicts or tuples)"
            )
            return f"the network {name} cannot take {described(samples)}{hint * several}"
        if self.started:
            return f"the loss failed with {described(samples)}, for which {name} gave {output_in_words(self.output)}"
        return f"the loss failed with {described(samples)}, before it called {name}"


def output_in_words(output: Any) -> str:
    """Describe the output of a network: shapes, and of several tensors the one that an ordinary loss receives."""
    tensors = [(path, leaf) for path, leaf in leaves(output) if isinstance(leaf, Tensor)]
    shapes = ["x".join(map(str, tensor.shape)) or "a number" for _, tensor in tensors]
    if len(tensors) < 2:
        return ", ".join(shapes) or type(output).__name__
    all_of_them = ", ".join(f"{path} of {shape}" for (path, _), shape in zip(tensors, shapes, strict=True))
    try:
        received = output_of(output)
    except (BadInput, AttributeError, TypeError, IndexError, KeyError, StopIteration):
        return all_of_them
    names = [path for path, tensor in tensors if tensor is received]
    hint = f" (loss(output, target) receives {names[0]}: for the others give a loss(model, batch))" if names else ""
    return all_of_them + hint


def inspected_samples(data: AnyData, count: int) -> Structure:
    """Return evenly spaced samples, because classes may be contiguous; the first batch where batches are fixed."""
    if isinstance(data, FixedBatches) or (isinstance(data, Streamed) and data.fixed):
        return next(data.batches(count))
    return data.read(spread_numbers(len(data), count))


def described(samples: Any) -> str:
    """Describe the shapes in a batch, for messages."""
    parts = [
        (path, "x".join(map(str, leaf.shape[1:])) or "numbers")
        for path, leaf in leaves(samples)
        if hasattr(leaf, "shape")
    ]
    if [path for path, _ in parts] == ["[0]", "[1]"]:
        return f"inputs of {parts[0][1]}"
    return "a batch of " + ", ".join(f"{path or 'one tensor'}: {shape}" for path, shape in parts)
