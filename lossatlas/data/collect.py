"""Data in memory from what people have: tensors, torch data sets, loaders, any iterable of batches.

    data = as_dataset(loader)

Two passes have to see the same samples in the same order: what shuffles is put in order where that is possible, and what
draws at random is refused.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from lossatlas.data.dataset import AnyData, Dataset, FixedBatches
from lossatlas.data.structures import Structure, equal, is_column, joined, lengths, mapped
from lossatlas.errors import BadInput

BATCH = 256  # samples that are read at once from a data set without a loader
TRIED = 3  # samples that are read twice


def as_dataset(data: Any, *, name: str = "", split: str = "train", classes: int = 0) -> AnyData:
    """Every sample in memory, in a fixed order.

    data: (inputs, targets) or another structure of tensors with the samples along the first axis; a torch `Dataset`; a
    `DataLoader`; any iterable of batches. Batches whose shapes differ stay as they are. Raises BadInput for what is
    random, empty, or none of these.
    """
    if isinstance(data, Dataset | FixedBatches):
        return data
    name = name or type(data).__name__
    if type(data) is TensorDataset:
        return Dataset(name, split, tuple(data.tensors), classes)
    if isinstance(data, DataLoader):
        return from_batches(in_order(data, name), name, split, classes)
    if isinstance(data, TorchDataset):
        if isinstance(data, IterableDataset):
            return from_batches(DataLoader(data, batch_size=BATCH), name, split, classes)
        check_samples(data, name)
        return from_batches(DataLoader(data, batch_size=BATCH), name, split, classes)
    if is_structure(data):
        return Dataset(name, split, mapped(data, Tensor.detach), classes)
    if isinstance(data, Iterable):
        return from_batches(data, name, split, classes)
    raise BadInput(f"data have to be tensors, a torch Dataset, a DataLoader or an iterable of batches, not {name}")


def is_structure(data: Any) -> bool:
    """Whether something is one structure with all samples, rather than a list of batches."""
    if isinstance(data, Mapping):
        return bool(lengths(data))
    if not isinstance(data, list | tuple) or not data or is_column(data):
        return False
    found = lengths(data)
    return all(not isinstance(item, list | tuple | Mapping) for item in data) and len(set(found.values())) == 1


def in_order(loader: "DataLoader[Any]", name: str) -> "DataLoader[Any]":
    """The same loader without its shuffling, which is said; a data set that draws at random is refused."""
    if isinstance(loader.dataset, IterableDataset):
        return loader
    check_samples(loader.dataset, name)
    if isinstance(loader.sampler, SequentialSampler) and not loader.drop_last:
        return loader
    if isinstance(loader.sampler, RandomSampler | SequentialSampler) and loader.batch_size is not None:
        why = "drops the last batch" if isinstance(loader.sampler, SequentialSampler) else "shuffles"
        warnings.warn(
            f"the {name} {why}: its samples are taken in the order of the data set, all of them", stacklevel=4
        )
        return DataLoader(loader.dataset, batch_size=loader.batch_size, collate_fn=loader.collate_fn,
                          num_workers=loader.num_workers)  # fmt: skip
    return loader


def check_samples(dataset: Any, name: str) -> None:
    """Raise BadInput where a sample that is read twice differs, as with augmentation."""
    try:
        count = len(dataset)
    except TypeError:
        return
    for k in sorted({k * (count - 1) // max(1, TRIED - 1) for k in range(TRIED)} if count else ()):
        if not equal(wrapped(dataset[k]), wrapped(dataset[k])):
            raise BadInput(f"sample {k} of the {name} differs each time it is read: it is drawn or augmented at random, and "
                           "its loss is not one number; give the data set without augmentation")  # fmt: skip


def wrapped(sample: Any) -> Structure:
    return sample if isinstance(sample, list | tuple | Mapping) else [sample]


def from_batches(batches: Iterable[Any], name: str, split: str, classes: int) -> AnyData:
    kept = [mapped(batch, lambda tensor: tensor.detach().cpu()) for batch in batches]
    if not kept:
        raise BadInput(f"the {name} gives no batch: it is empty, or has been iterated over before")
    check_first(batches, kept[0], name)
    try:
        return Dataset(name, split, joined(kept), classes)
    except (ValueError, TypeError):
        return FixedBatches(name, split, kept, classes)


def check_first(batches: Iterable[Any], first: Structure, name: str) -> None:
    """Raise BadInput where a second pass begins with other samples; what can be iterated over only once is taken as it is."""
    if isinstance(batches, Iterator):
        return
    again = next(iter(batches), None)
    if again is None or not equal(wrapped(mapped(again, Tensor.detach)), wrapped(first)):
        raise BadInput(f"two passes over the {name} begin with different samples: it shuffles or draws at random; give it "
                       "without shuffling")  # fmt: skip
