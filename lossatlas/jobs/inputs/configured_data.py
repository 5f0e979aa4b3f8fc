"""Load the samples and the loss of a configuration: by name, from files, or from a user's functions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from lossatlas import config
from lossatlas.errors import BadInput, named, say
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor

    from lossatlas.data import AnyData, Loss


def loss_of(name: config.LossChoice) -> "Loss":
    """Return a loss by name, or the user's.

    Raises:
        BadUsage: As `as_loss`.
        BadInput: As `UserFunction.function`.
    """
    from lossatlas.data import as_loss

    return as_loss(name.function if isinstance(name, UserFunction) else name)


def load_splits(chosen: config.DataConfig, model: config.ModelChoice) -> "dict[str, AnyData]":
    """Load every split that is asked for.

    Raises:
        BadUsage: As `load_split`.
        BadInput: As `load_split`.
        CannotWrite: As `load_split`.
    """
    try:
        return {split: load_split(chosen, split) for split in chosen.splits}
    except BadInput as error:
        if isinstance(model, UserFunction) and isinstance(chosen.dataset, str):
            raise BadInput(f"{error} (data of your own: {named('dataset')} FILE.py:FUNCTION)") from error
        raise


def load_data(chosen: config.DataConfig, state: "dict[str, Tensor]", model: config.ModelChoice) -> "dict[str, AnyData]":
    """Load every split that is asked for. A user's own data get as many classes as the checkpoint has outputs.

    Args:
        chosen: The configuration of the data.
        state: The checkpoint; empty for none.
        model: The network's name, or the user's function, whose targets are not checked.

    Returns:
        The samples by split.

    Raises:
        BadInput: Samples, labels and network do not fit each other.
    """
    from lossatlas.data import Streamed
    from lossatlas.data.memory import in_words

    for split, file in zip(("train", "test"), chosen.files, strict=True):
        if file and split not in chosen.splits:
            asked = " and ".join(chosen.splits)
            say(f"note: {named(f'{split}loader', file)} is not used: {named('split')} asks for {asked}")
    data = load_splits(chosen, model)
    for split, samples in data.items():
        if isinstance(samples, Streamed):
            size = in_words(samples.sample_bytes * len(samples))
            say(f"the {split} data, {len(samples):,} samples of {size} in all, are read when they are needed")
    if isinstance(model, UserFunction):  # the loss alone knows the meaning of its targets
        return data
    check_pairs(data, model)
    data = with_classes(data, chosen, state, model)
    check_class_labels(data)
    return data


def check_pairs(data: "Mapping[str, AnyData]", model: str) -> None:
    """Raise BadInput where samples are no pairs of inputs and labels, which networks of the zoo take."""
    from lossatlas.data import FixedBatches

    for samples in data.values():
        few = next(samples.batches(2))
        if isinstance(samples, FixedBatches) or not isinstance(few, list | tuple) or len(few) != 2:
            raise BadInput(
                f"{model} of the zoo takes pairs of inputs and labels, and {named('dataset')} gives something else"
            )


def with_classes(
    data: "dict[str, AnyData]", chosen: config.DataConfig, state: "dict[str, Tensor]", model: str
) -> "dict[str, AnyData]":
    """Return the data of a user with the number of classes; other data as they are.

    Args:
        data: Samples by split.
        chosen: The data that are asked for, with the declared number of classes; 0 if none is declared.
        state: State of the checkpoint, which gives the number otherwise.
        model: Name of the network.

    Raises:
        BadInput: The network cannot take samples of this shape.
    """
    from lossatlas.data import shape_of
    from lossatlas.datasets.registry import OWN_KINDS
    from lossatlas.models import classes_in

    if not (chosen.classes or not isinstance(chosen.dataset, str) or chosen.dataset in OWN_KINDS or any(chosen.files)):
        return data
    first = data[chosen.splits[0]]
    with checking_shapes(model, first):
        classes = chosen.classes or classes_in(model, shape_of(first), state)
    if classes is None:  # loading the checkpoint reports the mismatch
        return data
    return {split: replace(samples, classes=classes) for split, samples in data.items()}


def check_class_labels(data: "Mapping[str, AnyData]") -> None:
    """Raise BadInput where a label is no class."""
    from lossatlas.data import Dataset

    for split, samples in data.items():
        if not isinstance(samples, Dataset) or samples.targets.is_floating_point():
            continue
        if (largest := int(samples.targets.max())) >= samples.classes:
            raise BadInput(f"the {split} data have the label {largest}, the network {samples.classes} classes")


@contextmanager
def checking_shapes(model: config.ModelChoice, data: "AnyData") -> Iterator[None]:
    """Turn errors of building a network of the zoo for these inputs into BadInput."""
    from lossatlas.data import shape_of

    try:
        yield
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
        shape = "x".join(map(str, shape_of(data)))
        raise BadInput(f"there is no {model} for inputs of {shape}: {error}") from error


def load_split(chosen: config.DataConfig, split: str) -> "AnyData":
    """Load one split: from a file, from the user's function, or by the name of a data set.

    Raises:
        BadUsage: The name or an argument of the user's function is unknown, or no sample is left.
        BadInput: The data are missing or damaged, cannot be fetched, or the user's function fails.
        CannotWrite: The folder of a download cannot be written.
    """
    from lossatlas.datasets.registry import from_factory, get, load, load_file

    file = chosen.files[0 if split == "train" else 1]
    if file:
        return load_file(file, split, limit=chosen.limit, data_split=chosen.data_split if split == "train" else 1)
    if isinstance(chosen.dataset, UserFunction):
        return from_factory(
            chosen.dataset, split, limit=chosen.limit, data_split=chosen.data_split, stream=chosen.streamed
        )
    if chosen.download:
        get(chosen.dataset, chosen.datapath)
    return load(
        chosen.dataset,
        split,
        datapath=chosen.datapath,
        raw=chosen.raw,
        limit=chosen.limit,
        data_split=chosen.data_split,
        image_size=chosen.image_size,
        stream=chosen.streamed,
    )
