"""Samples in a fixed order, in memory.

data = Dataset("moons", "train", (inputs, targets), classes=2)     # one structure: batches of any size, in any order
data = FixedBatches("texts", "train", batches)                     # of shapes that differ: as they are
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.structures import Structure, leaves, lengths, part
from lossatlas.errors import BadInput

SKETCH_SAMPLES = 64  # samples that stand for all of them
BATCH_AS_SAMPLE = (
    "where they do not (graphs, sets of points, boxes, losses within a batch), pass each batch as one sample: a list of "
    "batches whose tensors have a first axis of length 1 (tensor.unsqueeze(0)), see docs/your-own.md"
)


class ByNumber:
    """Samples in a fixed order, of which any can be read: what follows from `len`, `read` and `take`."""

    classes: int

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, index: Any) -> Structure:
        """The samples at `index` (a slice, or integers), as one batch."""
        raise NotImplementedError

    def take(self, index: Any) -> Self:
        """The samples at `index` (a slice, or integers), in that order."""
        raise NotImplementedError

    @cached_property
    def sketch(self) -> str:
        """SHA-256 of some samples, spread evenly, and of how many there are."""
        return sketch_of(self.read(spread_numbers(len(self))), len(self), self.classes)

    def first(self, count: int) -> Self:
        return self.take(slice(count))

    @property
    def parts(self) -> int:
        """Of how many parts a share may consist."""
        return len(self)

    def share(self, k: int, n: int) -> Self:
        """The k-th of n parts."""
        return self.take(slice(len(self) * k // n, len(self) * (k + 1) // n))

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """Ranges of `size` samples from start on; the last one may end behind `stop`, though not behind the last sample."""
        for first in range(start, stop, size):
            yield first, min(first + size, len(self))

    def batches(self, size: int) -> Iterator[Structure]:
        """Consecutive batches; the last one may be smaller."""
        for first, last in self.spans(0, len(self), size):
            yield self.read(slice(first, last))

    def stream(self, indices: Iterable[Any]) -> Iterator[Structure]:
        """The batches at these indices, one after the other."""
        return map(self.read, indices)


@dataclass(frozen=True)
class Dataset(ByNumber):
    """Samples as a structure of tensors that have the samples along their first axis, such as (inputs, targets).

    classes: the number of classes where targets are labels, otherwise 0. Raises BadInput where lengths differ.
    """

    name: str
    split: str
    samples: Structure
    classes: int = 0

    def __post_init__(self) -> None:
        check_lengths(self.samples, f"the data ({self.name})")

    def __len__(self) -> int:
        return next(iter(lengths(self.samples).values()))

    @property
    def inputs(self) -> Tensor:
        """Of samples that are (inputs, targets)."""
        return self.samples[0]

    @property
    def targets(self) -> Tensor:
        return self.samples[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in it, as it is evaluated."""
        return digest_of(self.samples, self.classes)

    def read(self, index: Any) -> Structure:
        """The samples at `index` (a slice, or integers)."""
        return part(self.samples, index if isinstance(index, slice) else torch.as_tensor(index))

    def take(self, index: Any) -> "Dataset":
        """The samples at `index` (a slice or an integer tensor), in that order."""
        return replace(self, samples=part(self.samples, index))


@dataclass(frozen=True)
class FixedBatches:
    """Batches that cannot be joined, because their shapes differ (padded sequences); they stay as they came."""

    name: str
    split: str
    contents: Sequence[Structure]
    classes: int = 0

    def __post_init__(self) -> None:
        for k, batch in enumerate(self.contents):
            check_lengths(batch, f"batch {k} of the data ({self.name})")

    @cached_property
    def edges(self) -> list[int]:
        """The number of the first sample of each batch, and of all samples."""
        sizes = [next(iter(lengths(batch).values())) for batch in self.contents]
        return [0, *np.cumsum(sizes).tolist()]

    def __len__(self) -> int:
        return self.edges[-1]

    @cached_property
    def digest(self) -> str:
        digests = [digest_of(batch, self.classes) for batch in self.contents]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    @property
    def sketch(self) -> str:
        return self.digest

    @property
    def parts(self) -> int:
        return len(self.contents)

    def first(self, count: int) -> "FixedBatches":
        """Batches with `count` samples, or somewhat more."""
        number = sum(edge < count for edge in self.edges[:-1])
        return replace(self, contents=self.contents[:number])

    def share(self, k: int, n: int) -> "FixedBatches":
        """The k-th of n parts."""
        count = len(self.contents)
        return replace(self, contents=self.contents[count * k // n : count * (k + 1) // n])

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """The batches from start on until `stop` is reached, whatever size is asked for."""
        for first, last in zip(self.edges, self.edges[1:], strict=False):
            if start <= first < stop:
                yield first, last

    def batches(self, size: int) -> Iterator[Structure]:
        yield from self.contents


def check_lengths(samples: Structure, what: str) -> None:
    """Raise BadInput where the tensors of a structure do not have the same samples along their first axes."""
    found = lengths(samples)
    rule = f"every tensor has to have the samples along its first axis; {BATCH_AS_SAMPLE}"
    if not found:
        raise BadInput(f"{what} have no tensor with an axis: {rule}")
    if len(set(found.values())) > 1 or not next(iter(found.values())):
        there = ", ".join(f"{count} in {path or 'the tensor'}" for path, count in found.items())
        raise BadInput(f"{what} have {there}: {rule}")


def sketch_of(samples: Structure, count: int, classes: int) -> str:
    return hashlib.sha256(f"{count} {digest_of(samples, classes)}".encode()).hexdigest()


def spread_numbers(count: int, chosen: int = SKETCH_SAMPLES) -> list[int]:
    """Some of `count` samples, spread evenly; by default those of a sketch."""
    return sorted({k * (count - 1) // max(1, chosen - 1) for k in range(chosen)})


def bytes_of(samples: Structure) -> int:
    return sum(leaf.numel() * leaf.element_size() for _, leaf in leaves(samples) if isinstance(leaf, Tensor))


def digest_of(samples: Structure, classes: int) -> str:
    """SHA-256 over the values; the form is a part of it, except for the (inputs, targets) of the first versions."""
    found = [(path, leaf) for path, leaf in leaves(samples)]
    if [path for path, _ in found] == ["[0]", "[1]"] and all(isinstance(leaf, Tensor) for _, leaf in found):
        result = hashlib.sha256(repr((tuple(found[0][1].shape), classes)).encode())
    else:
        form = [
            (path, tuple(leaf.shape), str(leaf.dtype)) if isinstance(leaf, Tensor) else path for path, leaf in found
        ]
        result = hashlib.sha256(repr((form, classes)).encode())
    for _, leaf in found:
        if not isinstance(leaf, Tensor):
            result.update(repr(list(leaf)).encode())
            continue
        for piece in leaf.split(1024) if leaf.dim() else (leaf,):  # a copy of all of them would double the memory
            result.update(np.ascontiguousarray(as_numpy(piece)).data)
    return result.hexdigest()


def as_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor as a numpy array, on the CPU; numpy has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
