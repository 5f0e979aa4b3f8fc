"""Samples that are read when they are needed, for data that do not fit into memory.

data = Streamed("photos", "train", dataset, classes=1000)      # any data set with a length and items by number
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, default_collate

from lossatlas.data.dataset import Dataset, FixedBatches, bytes_of, sketch_of, spread_numbers
from lossatlas.data.structures import Structure, mapped
from lossatlas.errors import BadInput

Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Streamed:
    """Samples in a fixed order that are read in batches, each whenever it is asked for.

    source: a data set with a length and items by number. numbers: which of its items, all by default. collate: makes a
    batch of items, as that of a `DataLoader`. workers: processes that read, as those of a `DataLoader`; 0 for a thread of
    this process. A batch is what the same items give in memory, to the last bit.
    """

    name: str
    split: str
    source: Any
    classes: int = 0
    collate: Collate = default_collate
    workers: int = 0
    numbers: Sequence[int] = ()
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

    @cached_property
    def sketch(self) -> str:
        """SHA-256 of some samples, spread evenly, and of how many there are."""
        return sketch_of(self.read(spread_numbers(len(self))), len(self), self.classes)

    def read(self, index: Any) -> Structure:
        """The samples at `index` (a slice, or integers), as one batch. Raises BadInput where one cannot be read."""
        with self.lock:
            return self.joined([self.source[k] for k in self.chosen(index)])

    def joined(self, items: list[Any]) -> Structure:
        return mapped(self.collate(items), lambda tensor: tensor.detach().cpu())

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
        for batch in loader:
            yield mapped(batch, lambda tensor: tensor.detach())

    @cached_property
    def sample_bytes(self) -> int:
        """Of the first sample."""
        return bytes_of(self.read(slice(1)))

    def take(self, index: Any) -> "Streamed":
        """The samples at `index` (a slice, or integers), in that order."""
        chosen = self.numbers[index] if isinstance(index, slice) else self.chosen(index)
        return replace(self, numbers=chosen)

    def first(self, count: int) -> "Streamed":
        return self.take(slice(count))

    def share(self, k: int, n: int) -> "Streamed":
        """The k-th of n parts."""
        return self.take(slice(len(self) * k // n, len(self) * (k + 1) // n))

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """See Dataset.spans."""
        for first in range(start, stop, size):
            yield first, min(first + size, len(self))

    def batches(self, size: int) -> Iterator[Structure]:
        """Consecutive batches; the last one may be smaller."""
        for first, last in self.spans(0, len(self), size):
            yield self.read(slice(first, last))


AnyData = Dataset | FixedBatches | Streamed
