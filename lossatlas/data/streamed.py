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

from lossatlas.data.dataset import ByNumber, Dataset, FixedBatches, bytes_of, spread_numbers
from lossatlas.data.structures import Structure, mapped
from lossatlas.errors import BadInput, Stop

Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Streamed(ByNumber):
    """Samples in a fixed order that are read in batches, each whenever it is asked for.

    source: a data set with a length and items by number. numbers: which of its items, all by default. collate: makes a
    batch of items, as that of a `DataLoader`. workers: processes that read, as those of a `DataLoader`; 0 for a thread of
    this process. fixed: the size of batches that have to stay as they are, because what a sample becomes in one (its
    padding) may depend on the others; 0 where any will do. A batch is what the same items give in memory, to the last bit.
    """

    name: str
    split: str
    source: Any
    classes: int = 0
    collate: Collate = default_collate
    workers: int = 0
    numbers: Sequence[int] = ()
    fixed: int = 0
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)  # a data set may use one open file

    def __post_init__(self) -> None:
        if not len(self.numbers):
            object.__setattr__(self, "numbers", range(len(self.source)))
        if not len(self.numbers):
            raise BadInput(f"the {self.name} is empty")

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def digest(self) -> str:
        """What is known of the data without reading all of it: see `sketch`."""
        return f"sketch {self.sketch}"

    def read(self, index: Any) -> Structure:
        """The samples at `index` (a slice, or integers), as one batch. Raises BadInput where one cannot be read."""
        with self.lock:
            items = [self.item(k) for k in self.chosen(index)]
            return mapped(self.collate(items), lambda tensor: tensor.detach().cpu())

    def item(self, number: int) -> Any:
        try:
            return self.source[number]
        except Stop:
            raise
        except Exception as error:
            raise BadInput(f"sample {number} of the {self.name} cannot be read: {in_short(error)}") from error

    def chosen(self, index: Any) -> list[int]:
        if isinstance(index, slice):
            return list(self.numbers[index])
        return [self.numbers[k] for k in np.asarray(index).tolist()]

    def stream(self, indices: Iterable[Any]) -> Iterator[Structure]:
        """The batches at these indices, one after the other."""
        if not self.workers:
            for index in indices:
                yield self.read(index)
            return
        batches = [self.chosen(index) for index in indices]
        loader = DataLoader(self.source, batch_sampler=batches, collate_fn=self.collate, num_workers=self.workers)
        try:
            for batch in loader:
                yield mapped(batch, lambda tensor: tensor.detach())
        except Exception as error:
            raise BadInput(f"samples of the {self.name} cannot be read: {in_short(error)}") from error

    @cached_property
    def sample_bytes(self) -> int:
        """Of the first sample."""
        return bytes_of(self.read(slice(1)))

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """As of a Dataset, or the batches that have to stay as they are, from start on."""
        return super().spans(start, stop, self.fixed or size)

    def first(self, count: int) -> "Streamed":
        """So many samples, or batches with at least so many."""
        return self.take(slice(-(-count // self.fixed) * self.fixed if self.fixed else count))

    @property
    def parts(self) -> int:
        """Of how many parts a share may consist."""
        return -(-len(self) // self.fixed) if self.fixed else len(self)

    def share(self, k: int, n: int) -> "Streamed":
        """The k-th of n parts, in whole batches where they have to stay as they are."""
        size = self.fixed or 1
        return self.take(slice(self.parts * k // n * size, self.parts * (k + 1) // n * size))

    def take(self, index: Any) -> "Streamed":
        """The samples at `index` (a slice, or integers), in that order."""
        chosen = self.numbers[index] if isinstance(index, slice) else self.chosen(index)
        return replace(self, numbers=chosen)


def in_short(error: Exception) -> str:
    """Its type, and the last line of what it says, which is that of the process where it happened."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[-1]}" if said else type(error).__name__


AnyData = Dataset | FixedBatches | Streamed
SOME_BATCHES = 4  # of those that stay as they are


def some_of(data: AnyData, count: int) -> AnyData:
    """Some samples, spread evenly because those of a kind may lie together; whole batches where batches stay as they are."""
    if isinstance(data, FixedBatches):
        return replace(data, contents=[data.contents[k] for k in spread_numbers(len(data.contents), SOME_BATCHES)])
    if isinstance(data, Streamed) and data.fixed:
        return data.first(count)
    return data.take(torch.tensor(spread_numbers(len(data), count)))
