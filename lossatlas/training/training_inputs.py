"""The data and the network of a training, by name or from a user's functions, and what identifies them."""

import torch
from torch import nn

from lossatlas.config import LossChoice
from lossatlas.data import AnyData, Dataset, FixedBatches, shape_of
from lossatlas.datasets.registry import from_factory, get, load
from lossatlas.errors import BadInput, BadUsage, named, say
from lossatlas.models import build
from lossatlas.models.checkpoint import load_into, read_state, state_digest
from lossatlas.training.loop import initialize
from lossatlas.user_code import UserFunction, function_record


def load_training_data(
    dataset: str | UserFunction,
    *,
    datapath: str | None = None,
    raw: bool = False,
    limit: int | None = None,
    download: bool = False,
) -> tuple[AnyData, AnyData]:
    """Load training and test data.

    Args:
        dataset: Name of a data set, or a user's function.
        datapath: Folder of the data set; None for the usual places.
        raw: Leave the inputs unnormalized.
        limit: The first training samples; None for all.
        download: Fetch the data set where it is missing.

    Returns:
        Training data and test data; the training data twice, with a note, where a user's function gives no test data.

    Raises:
        BadUsage: The data set is unknown.
        BadInput: Files are missing or damaged, or the user's function fails.
    """
    if not isinstance(dataset, UserFunction):
        if download:
            get(dataset, datapath)
        return (
            load(dataset, "train", datapath=datapath, raw=raw, limit=limit),
            load(dataset, "test", datapath=datapath, raw=raw),
        )
    data = from_factory(dataset, "train", limit=limit)
    try:
        return data, from_factory(dataset, "test")
    except BadInput as error:
        say(f"note: no test data, so the test loss is measured on the training data ({error})")
        return data, data


def initial_network(
    model: str | UserFunction,
    data: AnyData,
    *,
    classes: int | None = None,
    init: str | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Make the network that is trained, with its initial weights.

    Args:
        model: Name in the zoo, or a user's function.
        data: Training data, whose shape and classes the network has.
        classes: Number of classes; None for the number that the data declare.
        init: Checkpoint of the initial weights; None for random ones.
        seed: Seed of random weights.
        device: Device of the network.

    Returns:
        The network; all its parameters need gradients if it is of the zoo.

    Raises:
        BadUsage: The model is unknown, or the number of classes.
        BadInput: The user's function fails, or the initial checkpoint does not fit.
    """
    if isinstance(model, UserFunction):
        net = build(model, seed=seed)
    else:
        classes = classes or _classes_of(data)
        if not classes:
            raise BadUsage(f"{named('classes')} is missing: the data do not say how many outputs the network has")
        net = build(model, shape_of(data), classes).requires_grad_(True)
    if init:
        load_into(net, read_state(init), init)
    elif not isinstance(model, UserFunction):
        initialize(net, seed)
    return net.to(device)


def _classes_of(data: AnyData) -> int:
    """Return the declared number of classes, otherwise the largest label in memory plus one; 0 if unknown."""
    if not data.classes and isinstance(data, Dataset) and not data.targets.is_floating_point():
        return int(data.targets.max()) + 1
    return data.classes


def check_batches(net: nn.Module, data: AnyData, batch_size: int) -> None:
    """Refuse a batch of one sample where the network has BatchNorm, which has no variance of it.

    Raises:
        BadUsage: There is such a batch.
    """
    single = not isinstance(data, FixedBatches) and 1 in (batch_size, len(data) % batch_size)
    if single and any("BatchNorm" in type(m).__name__ for m in net.modules()):
        raise BadUsage(
            f"{named('batch_size', batch_size)} leaves one of {len(data)} samples for a batch, on which BatchNorm "
            "cannot be trained"
        )


def origin_of(data: AnyData, init: str | None, model: str | UserFunction, loss: LossChoice) -> dict[str, str]:
    """Return hashes of all that decides the result of a training beside its recipe.

    Args:
        data: Training data.
        init: Checkpoint of the initial weights; None for random ones.
        model: Name in the zoo, or a user's function.
        loss: Name of the loss, or a user's function.

    Returns:
        Hashes of the data and of the initial checkpoint, and names and hashes of the user's functions.
    """
    hashes = {"data": data.digest, **({"init": state_digest(read_state(init))} if init else {})}
    for kind, choice in (("model", model), ("loss", loss)):
        if isinstance(choice, UserFunction):
            hashes |= function_record(kind, choice)
    return hashes
