"""Samples that are read when they are needed, for data that do not fit into memory.

data = Streamed("photos", "train", dataset, classes=1000)      # any data set with a length and items by number
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from lossatlas.data.dataset import ByNumber, Dataset, FixedBatches, Index, bytes_of, spread_numbers
from lossatlas.data.structures import Structure, mapped
from lossatlas.errors import BadInput, Stop

Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Streamed(ByNumber):
    """Samples in a fixed order, read in batches at every use.

    A batch is what the same items give in memory, to the last bit.

    Attributes:
        name: A name for messages and files.
        split: The name of the split.
        source: A data set with a length and items by number.
        classes: The number of classes where targets are labels, otherwise 0.
        collate: Makes a batch of items, as the `collate_fn` of a `DataLoader`.
        workers: Processes that read, as `num_workers` of a `DataLoader`; with 0, a thread of this process reads.
        numbers: The numbers of the items, all by default.
        fixed: The size of batches that have to stay as they are, because an item may depend on the others in its batch
            (padding); 0 for batches of any size.
        lock: Held while items are read, because a data set may use one open file.

    Raises:
        BadInput: There are no samples.
    """

    name: str
    split: str
    source: Any
    classes: int = 0
    collate: Collate = default_collate
    workers: int = 0
    numbers: Sequence[int] = ()
    fixed: int = 0
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not len(self.numbers):
            object.__setattr__(self, "numbers", range(len(self.source)))
        if not len(self.numbers):
            raise BadInput(f"the {self.name} is empty")

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def digest(self) -> str:
        """The sketch of the data, which does not need all of them to be read; see `sketch`."""
        return f"sketch {self.sketch}"

    def read(self, index: Index) -> Structure:
        """Return the samples at `index` (a slice, or integers) as one batch.

        Raises:
            BadInput: A sample cannot be read.
        """
        with self.lock:
            items = [self.item(k) for k in self.chosen(index)]
            return mapped(self.collate(items), lambda tensor: tensor.detach().cpu())

    def item(self, number: int) -> Any:
        """Return one item of the source."""
        try:
            return self.source[number]
        except Stop:
            raise
        except Exception as error:
            raise BadInput(f"sample {number} of the {self.name} cannot be read: {in_short(error)}") from error

    def chosen(self, index: Index) -> list[int]:
        """Return the numbers of the items at `index`."""
        if isinstance(index, slice):
            return list(self.numbers[index])
        return [self.numbers[k] for k in np.asarray(index).tolist()]

    def stream(self, indices: Iterable[Index]) -> Iterator[Structure]:
        """Read the batches at some indices, one after the other.

        The processes that read are started by this call and by its thread: a process that forks in one thread while
        another one computes may find locks held for ever.

        Raises:
            BadInput: A sample cannot be read.
        """
        if not self.workers:
            return map(self.read, indices)
        batches = [self.chosen(index) for index in indices]
        loader = DataLoader(self.source, batch_sampler=batches, collate_fn=self.collate, num_workers=self.workers)
        return self.from_processes(iter(loader)) if batches else iter(())

    def from_processes(self, batches: Iterator[Structure]) -> Iterator[Structure]:
        """Yield what processes read.

        Raises:
            BadInput: A sample cannot be read.
        """
        try:
            for batch in batches:
                yield mapped(batch, lambda tensor: tensor.detach())
        except Exception as error:
            raise BadInput(f"samples of the {self.name} cannot be read: {in_short(error)}") from error

    @cached_property
    def sample_bytes(self) -> int:
        """The bytes of the first sample."""
        return bytes_of(self.read(slice(1)))

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of `size` samples, or of the batches that have to stay as they are."""
        return super().spans(start, stop, self.fixed or size)

    def first(self, count: int) -> "Streamed":
        """Return the first `count` samples, or whole fixed batches with at least as many."""
        return self.take(slice(-(-count // self.fixed) * self.fixed if self.fixed else count))

    @property
    def parts(self) -> int:
        """The largest number of parts that `share` can make."""
        return -(-len(self) // self.fixed) if self.fixed else len(self)

    def share(self, k: int, n: int) -> "Streamed":
        """Return the k-th of n parts, in whole batches where these have to stay as they are."""
        size = self.fixed or 1
        return self.take(slice(self.parts * k // n * size, self.parts * (k + 1) // n * size))

    def take(self, index: Index) -> "Streamed":
        """Return the data set of the samples at `index` (a slice, or integers), in that order."""
        chosen = self.numbers[index] if isinstance(index, slice) else self.chosen(index)
        return replace(self, numbers=chosen)


def in_short(error: Exception) -> str:
    """Return the type of an error and the last line of its message, the error itself in a worker's traceback."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[-1]}" if said else type(error).__name__


AnyData = Dataset | FixedBatches | Streamed
SOME_BATCHES = 4  # where batches have to stay as they are


def some_of(data: AnyData, count: int) -> AnyData:
    """Return some samples, spread evenly because samples of one class may be adjacent.

    Args:
        data: The samples.
        count: Their number; a few whole batches instead, where batches have to stay as they are.
    """
    if isinstance(data, FixedBatches):
        return replace(data, contents=[data.contents[k] for k in spread_numbers(len(data.contents), SOME_BATCHES)])
    if isinstance(data, Streamed) and data.fixed:
        return data.first(count)
    return data.take(torch.tensor(spread_numbers(len(data), count)))


def shape_of(data: AnyData) -> tuple[int, ...]:
    """Return the shape of one input."""
    return tuple(next(data.batches(1))[0].shape[1:])
