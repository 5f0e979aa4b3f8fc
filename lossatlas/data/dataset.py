"""Samples in a fixed order, in memory.

data = Dataset("moons", "train", (inputs, targets), classes=2)     # one structure: batches of any size, in any order
data = FixedBatches("texts", "train", batches)                     # batches of different shapes, which stay as they are
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.structures import Structure, axis_lengths, leaves, selected_samples
from lossatlas.errors import BadInput

Index = slice | Sequence[int] | Tensor | np.ndarray  # which samples, by number
SKETCH_SAMPLES = 64  # in a digest of part of the data
BATCH_AS_SAMPLE = (
    "where they do not (graphs, sets of points, boxes, losses within a batch), pass each batch as one sample: a list "
    "of batches whose tensors have a first axis of length 1 (tensor.unsqueeze(0)), see docs/your-own.md"
)


class ByNumber:
    """Samples in a fixed order, of which any can be read: the operations that follow from `len`, `read` and `take`.

    Attributes:
        classes: The number of classes where targets are labels, otherwise 0.
    """

    classes: int

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, index: Index) -> Structure:
        """Return the samples at `index` (a slice, or integers) as one batch."""
        raise NotImplementedError

    def take(self, index: Index) -> Self:
        """Return the data set of the samples at `index` (a slice, or integers), in that order."""
        raise NotImplementedError

    @cached_property
    def sketch(self) -> str:
        """SHA-256 of some samples, spread evenly, and of the number of samples."""
        return samples_sketch(self.read(spread_numbers(len(self))), len(self), self.classes)

    def first(self, count: int) -> Self:
        """Return the first `count` samples."""
        return self.take(slice(count))

    @property
    def parts(self) -> int:
        """The largest number of parts that `share` can make."""
        return len(self)

    def share(self, k: int, n: int) -> Self:
        """Return the k-th of n parts."""
        return self.take(slice(len(self) * k // n, len(self) * (k + 1) // n))

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield ranges (start, stop) of `size` samples; the last one may end after `stop`, not after all samples."""
        for first in range(start, stop, size):
            yield first, min(first + size, len(self))

    def batches(self, size: int) -> Iterator[Structure]:
        """Yield consecutive batches of `size` samples; the last one may be smaller."""
        for first, last in self.spans(0, len(self), size):
            yield self.read(slice(first, last))

    def stream(self, indices: Iterable[Index]) -> Iterator[Structure]:
        """Yield the batches at some indices, one after the other."""
        return map(self.read, indices)


@dataclass(frozen=True)
class Dataset(ByNumber):
    """Samples as a structure of tensors that have the samples along their first axis, such as (inputs, targets).

    Attributes:
        name: A name for messages and files.
        split: The name of the split.
        samples: The structure.
        classes: The number of classes where targets are labels, otherwise 0.

    Raises:
        BadInput: First axes differ in length.

    Example:
        >>> data = Dataset("moons", "train", (torch.randn(6, 2), torch.arange(6) % 2), classes=2)
        >>> [len(targets) for _, targets in data.batches(4)]
        [4, 2]
    """

    name: str
    split: str
    samples: Structure
    classes: int = 0

    def __post_init__(self) -> None:
        check_lengths(self.samples, f"the data ({self.name})")

    def __len__(self) -> int:
        return next(iter(axis_lengths(self.samples).values()))

    @property
    def inputs(self) -> Tensor:
        """The inputs of samples that are (inputs, targets)."""
        return self.samples[0]

    @property
    def targets(self) -> Tensor:
        """The targets of samples that are (inputs, targets)."""
        return self.samples[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all samples, as they are evaluated."""
        return digest_of(self.samples, self.classes)

    def read(self, index: Index) -> Structure:
        """Return the samples at `index` (a slice, or integers) as one batch."""
        return selected_samples(self.samples, index if isinstance(index, slice) else torch.as_tensor(index))

    def take(self, index: Index) -> "Dataset":
        """Return the data set of the samples at `index` (a slice or an integer tensor), in that order."""
        return replace(self, samples=selected_samples(self.samples, index))


@dataclass(frozen=True)
class FixedBatches:
    """Batches that cannot be joined because their shapes differ (padded sequences), in a fixed order.

    Attributes:
        name: A name for messages and files.
        split: The name of the split.
        contents: The batches.
        classes: The number of classes where targets are labels, otherwise 0.

    Raises:
        BadInput: First axes within a batch differ in length.
    """

    name: str
    split: str
    contents: Sequence[Structure]
    classes: int = 0

    def __post_init__(self) -> None:
        for k, batch in enumerate(self.contents):
            check_lengths(batch, f"batch {k} of the data ({self.name})")

    @cached_property
    def edges(self) -> list[int]:
        """The number of the first sample of each batch, then the number of all samples."""
        sizes = [next(iter(axis_lengths(batch).values())) for batch in self.contents]
        return [0, *np.cumsum(sizes).tolist()]

    def __len__(self) -> int:
        return self.edges[-1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all batches."""
        digests = [digest_of(batch, self.classes) for batch in self.contents]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    @property
    def sketch(self) -> str:
        """The digest: these data are in memory."""
        return self.digest

    @property
    def parts(self) -> int:
        """The largest number of parts that `share` can make."""
        return len(self.contents)

    def first(self, count: int) -> "FixedBatches":
        """Return batches with `count` samples, or somewhat more."""
        number = sum(edge < count for edge in self.edges[:-1])
        return replace(self, contents=self.contents[:number])

    def share(self, k: int, n: int) -> "FixedBatches":
        """Return the k-th of n parts."""
        count = len(self.contents)
        return replace(self, contents=self.contents[count * k // n : count * (k + 1) // n])

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges (start, stop) of whole batches until `stop` is reached; `size` has no effect."""
        for first, last in zip(self.edges, self.edges[1:], strict=False):
            if start <= first < stop:
                yield first, last

    def batches(self, size: int) -> Iterator[Structure]:
        """Yield the batches; `size` has no effect."""
        yield from self.contents


def check_lengths(samples: Structure, what: str) -> None:
    """Check that all tensors of a structure have the same number of samples along their first axes.

    Args:
        samples: The structure.
        what: Its name in a message.

    Raises:
        BadInput: They differ, or there are none.
    """
    found = axis_lengths(samples)
    rule = f"every tensor has to have the samples along its first axis; {BATCH_AS_SAMPLE}"
    if not found:
        raise BadInput(f"{what} have no tensor with an axis: {rule}")
    if len(set(found.values())) > 1 or not next(iter(found.values())):
        there = ", ".join(f"{count} in {path or 'the tensor'}" for path, count in found.items())
        raise BadInput(f"{what} have {there}: {rule}")


def samples_sketch(samples: Structure, count: int, classes: int) -> str:
    """Return a SHA-256 of some samples and of the number of all."""
    return hashlib.sha256(f"{count} {digest_of(samples, classes)}".encode()).hexdigest()


def spread_numbers(count: int, chosen: int = SKETCH_SAMPLES) -> list[int]:
    """Choose some of `count` samples, spread evenly.

    Args:
        count: The number of samples.
        chosen: The number to choose, by default as many as a sketch has.

    Returns:
        Their numbers, increasing; fewer than `chosen` if there are not as many.
    """
    return sorted({k * (count - 1) // max(1, chosen - 1) for k in range(chosen)})


def bytes_of(samples: Structure) -> int:
    """Return the bytes that the tensors of a structure take."""
    return sum(leaf.numel() * leaf.element_size() for _, leaf in leaves(samples) if isinstance(leaf, Tensor))


def digest_of(samples: Structure, classes: int) -> str:
    """Compute a SHA-256 of the values of a structure.

    Its form is a part of it, except for (inputs, targets), which have the digest of the first versions.
    """
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
        for piece in leaf.split(1024) if leaf.dim() else (leaf,):  # a copy of the whole tensor would double the memory
            result.update(np.ascontiguousarray(as_numpy(piece)).data)
    return result.hexdigest()


def as_numpy(tensor: Tensor) -> np.ndarray:
    """Return a tensor as a numpy array, on the CPU; bfloat16, which numpy lacks, becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
