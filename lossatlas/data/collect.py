"""Data sets from tensors, torch data sets, loaders, or any iterable of batches.

Two passes have to see the same samples in the same order: a loader that shuffles is read in the order of its data set,
and data that are drawn at random are refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)
from torch.utils.data import Dataset as TorchDataset

from lossatlas.data.dataset import Dataset, FixedBatches, bytes_of, check_lengths, spread_numbers
from lossatlas.data.memory import budget, in_words
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.data.structures import Structure, axis_lengths, equal_structures, is_column, joined_batches, mapped
from lossatlas.errors import BadInput, note

# What `as_dataset` takes: (inputs, targets) or another structure of tensors, a torch data set, or batches.
DataLike = tuple[Any, ...] | Mapping[str, Any] | TorchDataset[Any] | DataLoader[Any] | Iterable[Structure] | AnyData
READ_BATCH = 256  # samples in a batch that is read from a data set without a loader
CHECKED_SAMPLES = 3  # that are read twice
CURE = (
    "give a torch Dataset with a length and items by number, or a DataLoader of one; then samples are read when needed"
)


@dataclass(frozen=True)
class Reading:
    """Settings by which data are read, and known facts about them.

    Attributes:
        name: Name of the data in messages and files.
        split: 'train' or 'test'.
        classes: Number of classes; 0 where it is not known.
        stream: Read samples when they are needed; None decides by their size.
        limit: Number of samples that are needed; later ones may be missing. None needs all.
    """

    name: str
    split: str
    classes: int
    stream: bool | None
    limit: int | None = None


def as_dataset(
    data: DataLike,
    *,
    name: str = "",
    split: str = "train",
    classes: int = 0,
    stream: bool | None = None,
    limit: int | None = None,
) -> AnyData:
    """Return every sample in a fixed order, in memory or streaming.

    Data that are in memory already stay there. Batches whose shapes differ stay as they are.

    Args:
        data: (inputs, targets) or another structure of tensors with the samples along the first axis; tokens (n, t)
            alone; a torch `Dataset`; a `DataLoader`; or any iterable of batches.
        name: A name for messages and files; by default the type of `data`.
        split: The name of the split.
        classes: The number of classes, 0 where targets are not labels.
        stream: Read the samples of a data set, or of a loader of one, when they are needed; by default where they would
            take more than `memory.budget`.
        limit: Take the first samples only, so many; whole batches where their shapes differ.

    Raises:
        BadInput: The data are random, empty, or none of these; or they have to be streamed and cannot.

    Example:
        >>> data = as_dataset((torch.randn(5, 3), torch.arange(5)), name="five", classes=5)
        >>> len(data)
        5
        >>> inputs, targets = data.read(slice(2))
        >>> inputs.shape, targets.tolist()
        (torch.Size([2, 3]), [0, 1])
    """
    name = name or type(data).__name__
    reading = Reading(name, split, classes, stream, limit)
    if limit is None:
        return all_samples(data, reading)
    found = all_samples(fewer_samples(data, limit), reading)
    if isinstance(found, FixedBatches) and len(found.first(limit)) > limit:
        note(
            f"the batches of the {name} stay as they are: the first of them with {len(found.first(limit))} samples are "
            "used"
        )
    return found.first(limit)


def is_token_tensor(data: Any) -> bool:
    """Return whether an object is a tensor (n, t) of whole numbers, which the loss `next_token` takes alone."""
    return isinstance(data, Tensor) and data.dim() == 2 and data.dtype in (torch.int64, torch.int32)


def fewer_samples(data: Any, limit: int) -> Any:
    """Return a torch data set, or a loader of one, without the samples after `limit`; other data as they are."""
    if isinstance(data, TorchDataset) and not isinstance(data, IterableDataset | TensorDataset) and has_length(data):
        return Subset(data, range(min(limit, len(data))))  # type: ignore[arg-type]
    return data


def all_samples(data: DataLike, reading: Reading) -> AnyData:
    """Return the samples of any data.

    Raises:
        BadInput: As `as_dataset`.
    """
    name, split, classes = reading.name, reading.split, reading.classes
    if isinstance(data, Dataset | FixedBatches | Streamed):
        return data
    if type(data) is TensorDataset:
        return Dataset(name, split, tuple(data.tensors), classes)
    if isinstance(data, DataLoader):
        return from_loader(data, reading)
    if isinstance(data, TorchDataset):
        return from_torch_dataset(data, reading)
    if is_structure(data):
        return Dataset(name, split, mapped(data, Tensor.detach), classes)
    if isinstance(data, Iterable) and not isinstance(data, Tensor):
        return from_batches(data, reading)
    if is_token_tensor(data):
        return Dataset(name, split, data.detach(), classes)
    what = f"one tensor alone, of shape {tuple(data.shape)}" if isinstance(data, Tensor) else name
    raise BadInput(
        "data have to be (inputs, targets), a dict of tensors, a torch Dataset, a DataLoader or an iterable of "
        f"batches, with the samples along the first axis of every tensor, not {what}"
    )


def from_loader(loader: "DataLoader[Any]", reading: Reading) -> AnyData:
    """Return the samples of a loader, in the order of its data set.

    Raises:
        BadInput: As `without_shuffling` or `from_batches`.
    """
    if type(loader).__iter__ is not DataLoader.__iter__:  # a subclass may change the batches
        return from_batches(loader, reading)
    loader = without_shuffling(loader, reading.name)
    source = loader.dataset
    if type(source) is TensorDataset:
        return from_batches(loader, replace(reading, stream=None))
    by_number = has_length(source) and loader.batch_size is not None and isinstance(loader.sampler, SequentialSampler)
    if not by_number:
        return from_batches(loader, reading)
    if reading.limit is not None:
        source = fewer_samples(source, reading.limit)
        loader = DataLoader(
            source, batch_size=loader.batch_size, collate_fn=loader.collate_fn, num_workers=loader.num_workers
        )
    fixed = 0 if loader.collate_fn is default_collate else loader.batch_size or 1
    name, split, classes = reading.name, reading.split, reading.classes
    streamed = Streamed(name, split, source, classes, loader.collate_fn, loader.num_workers, fixed=fixed)
    if is_better_streamed(streamed, reading.stream):
        return streamed
    return from_batches(loader, replace(reading, stream=None, limit=None))


def from_torch_dataset(dataset: "TorchDataset[Any]", reading: Reading) -> AnyData:
    """Return the samples of a torch data set.

    Raises:
        BadInput: As `check_repeatable` or `from_batches`.
    """
    if isinstance(dataset, IterableDataset):
        return from_batches(DataLoader(dataset, batch_size=READ_BATCH), reading)
    check_repeatable(dataset, reading.name)
    if has_length(dataset):
        streamed = Streamed(reading.name, reading.split, dataset, reading.classes)
        if is_better_streamed(streamed, reading.stream):
            return streamed
    return from_batches(DataLoader(dataset, batch_size=READ_BATCH), replace(reading, stream=None, limit=None))


def has_length(dataset: Any) -> bool:
    """Return whether a data set has a length, and is not empty."""
    try:
        return len(dataset) > 0
    except TypeError:
        return False


def is_better_streamed(data: Streamed, asked: bool | None) -> bool:
    """Return whether to read samples when they are needed: on request, or by default if they take too much memory."""
    return data.sample_bytes * len(data) > budget() if asked is None else asked


def is_structure(data: Any) -> bool:
    """Return whether an object is one structure with all samples, rather than a list of batches."""
    if isinstance(data, Mapping):
        return bool(axis_lengths(data))
    if not isinstance(data, list | tuple) or not data or is_column(data):
        return False
    if isinstance(data, tuple) and all(isinstance(item, Tensor) for item in data):
        return True  # different lengths are an error, not a tuple of batches
    found = axis_lengths(data)
    return all(not isinstance(item, list | tuple | Mapping) for item in data) and len(set(found.values())) == 1


def without_shuffling(loader: "DataLoader[Any]", name: str) -> "DataLoader[Any]":
    """Return a loader in the order of its data set, and warn if that changes it.

    Raises:
        BadInput: The data set draws samples at random.
    """
    if isinstance(loader.dataset, IterableDataset):
        return loader
    check_repeatable(loader.dataset, name)
    if isinstance(loader.sampler, SequentialSampler) and not loader.drop_last:
        return loader
    if isinstance(loader.sampler, RandomSampler | SequentialSampler) and loader.batch_size is not None:
        why = "drops the last batch" if isinstance(loader.sampler, SequentialSampler) else "shuffles"
        note(f"the {name} {why}: its samples are taken in the order of the data set, all of them")
        return DataLoader(
            loader.dataset, batch_size=loader.batch_size, collate_fn=loader.collate_fn, num_workers=loader.num_workers
        )
    return loader


def check_repeatable(dataset: Any, name: str) -> None:
    """Check that samples are the same each time they are read.

    Raises:
        BadInput: A sample differs, as with augmentation.
    """
    try:
        count = len(dataset)
    except TypeError:
        return
    for k in spread_numbers(count, CHECKED_SAMPLES) if count else ():
        if not equal_structures(as_structure(dataset[k]), as_structure(dataset[k])):
            raise BadInput(
                f"sample {k} of the {name} differs each time it is read: it is drawn or augmented at random, and "
                "its loss is not one number; give the data set without augmentation"
            )


def as_structure(sample: Any) -> Structure:
    """Return a sample as a structure."""
    return sample if isinstance(sample, list | tuple | Mapping) else [sample]


def from_batches(batches: Iterable[Any], reading: Reading) -> AnyData:
    """Read all batches, or the first ones that hold `limit` samples, and join them where their shapes agree.

    Torch's random numbers, of which a loader draws a seed, stay as they were.

    Raises:
        BadInput: They have to be streamed, cannot be read, or begin with other samples in a second pass.
    """
    if reading.stream:
        raise BadInput(f"the {reading.name} has no samples by number, so it cannot be read in parts: {CURE}")
    with torch.random.fork_rng(devices=[]):
        kept = read_batches(batches, reading.name, reading.limit)
        check_first(batches, kept[0], reading.name)
    try:
        return Dataset(reading.name, reading.split, joined_batches(kept), reading.classes)
    except (ValueError, TypeError):
        return FixedBatches(reading.name, reading.split, kept, reading.classes)


def read_batches(batches: Iterable[Any], name: str, limit: int | None = None) -> list[Structure]:
    """Read all batches into memory, or those that hold the first `limit` samples.

    Raises:
        BadInput: There are none, or they take more memory than `memory.budget`.
    """
    kept: list[Structure] = []
    if isinstance(batches, list | tuple) and any(isinstance(batch, Tensor) for batch in batches):
        raise BadInput(
            f"the {name} holds tensors beside other things, or of different lengths: give (inputs, targets) of one "
            "tensor each, a dict of all tensors with a loss(model, batch), or batches that are dicts or tuples, as "
            "(tensor,)"
        )
    size, count, most = 0, 0, budget()
    for batch in batches:
        kept.append(mapped(batch, lambda tensor: tensor.detach().cpu()))
        check_lengths(kept[-1], f"batch {len(kept) - 1} of the data ({name})")
        size += bytes_of(kept[-1])
        count += next(iter(axis_lengths(kept[-1]).values()))
        if size > most:
            raise BadInput(f"the {name} takes more than the {in_words(most)} of memory that data may take here: {CURE}")
        if limit is not None and count >= limit:
            break
    if not kept:
        raise BadInput(f"the {name} gives no batch: it is empty, or has been iterated over before")
    return kept


def check_first(batches: Iterable[Any], first: Structure, name: str) -> None:
    """Check that a second pass begins with the same samples; an iterator, which has one pass only, is not checked.

    Raises:
        BadInput: It does not.
    """
    if isinstance(batches, Iterator):
        return
    again = next(iter(batches), None)
    if again is None or not equal_structures(as_structure(mapped(again, Tensor.detach)), as_structure(first)):
        raise BadInput(
            f"two passes over the {name} begin with different samples: it shuffles or draws at random; give it "
            "without shuffling"
        )
