"""Blocks of cells for those who compute, each handed out once, when what it rests on is there."""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lossatlas.landscape.surface import Surface


class BlockResult(NamedTuple):
    """What was computed of a block of cells: rows for `Surface.with_cells`, and samples where cells help each other."""

    rows: np.ndarray
    samples: Sequence[Sequence[Mapping[str, np.ndarray]]] = ()


class BlockQueue:
    """Blocks that rest on nothing, in their order."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        """blocks: the cells of each."""
        self.blocks = blocks
        self.ready = list(range(len(blocks)))
        self.left = len(blocks)  # not handed out yet

    @classmethod
    def of(cls, cells: np.ndarray, size: int = 1) -> "BlockQueue":
        """These cells, so many to a block."""
        return cls([cells[k : k + size].tolist() for k in range(0, len(cells), size)])

    def __len__(self) -> int:
        return len(self.blocks)

    def take(self) -> tuple[int, Any] | None:
        """Number and content of the next block that can be computed now; None where there is none."""
        if not self.ready:
            return None
        k = heapq.heappop(self.ready)
        self.left -= 1
        return k, self.content(k)

    def content(self, k: int) -> Any:
        return self.blocks[k]

    def arrived(self, k: int, found: BlockResult) -> None:
        """Take note of what a block has given: others may rest on it."""

    @property
    def cells(self) -> int:
        """How many cells there are in all blocks."""
        return sum(len(cells) for cells in self.blocks)

    def finished(self, surface: Surface) -> Surface:
        """The surface of which all blocks are computed, with what follows from them."""
        return surface
