"""Samples in memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """Images and labels, in a fixed order.

    inputs: (N, C, H, W) float32, normalized unless raw, in channels-last memory; targets: (N,) int64 in [0, classes).
    """

    name: str
    split: str
    inputs: "Tensor"
    targets: "Tensor"
    classes: int

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def digest(self) -> str:
        """SHA-256 of the inputs and targets as they are evaluated."""
        digest = hashlib.sha256(repr((tuple(self.inputs.shape), self.classes)).encode())
        for part in self.inputs.split(1024):  # a copy of all of them would double the memory
            digest.update(np.ascontiguousarray(part.numpy()).data)
        digest.update(np.ascontiguousarray(self.targets.numpy()).data)
        return digest.hexdigest()

    def take(self, index: Any) -> "Dataset":
        """The samples at `index` (a slice or an integer array), in that order."""
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])

    def batches(self, size: int) -> Iterator[tuple["Tensor", "Tensor"]]:
        """Consecutive batches (inputs, targets); the last one may be smaller."""
        yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)
