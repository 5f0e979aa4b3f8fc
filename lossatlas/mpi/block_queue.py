"""Work queue of blocks of cells. Each block is handed out once, as soon as the results that it needs have arrived."""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lossatlas.landscape.surface import Surface


class BlockResult(NamedTuple):
    """The results of a block of cells.

    Attributes:
        rows: A row for each cell, see `Surface.with_cells`.
        samples: For each cell the losses of single samples by split, where cells are control variates of each other.
    """

    rows: np.ndarray
    samples: Sequence[Sequence[Mapping[str, np.ndarray]]] = ()


class BlockQueue:
    """Independent blocks, handed out in their order.

    Args:
        blocks: The cells of each block.
    """

    def __init__(self, blocks: Sequence[list[int]]) -> None:
        self.blocks = blocks
        self.ready = list(range(len(blocks)))
        self.left = len(blocks)  # not handed out yet

    @classmethod
    def of(cls, cells: np.ndarray, size: int = 1) -> "BlockQueue":
        """Return a queue of blocks of `size` cells, of which the last may be smaller."""
        return cls([cells[k : k + size].tolist() for k in range(0, len(cells), size)])

    def __len__(self) -> int:
        return len(self.blocks)

    def take(self) -> tuple[int, Any] | None:
        """Return the number and the content of the next block that can be computed now; None where there is none."""
        if not self.ready:
            return None
        k = heapq.heappop(self.ready)
        self.left -= 1
        return k, self.content(k)

    def content(self, k: int) -> Any:
        """Return the k-th block as it is sent to the rank that computes it."""
        return self.blocks[k]

    def arrived(self, k: int, result: BlockResult) -> None:
        """Record the result of a block, on which others may depend."""

    @property
    def cells(self) -> int:
        """The number of cells in all blocks."""
        return sum(len(cells) for cells in self.blocks)

    def finished(self, surface: Surface) -> Surface:
        """Return the surface, all of whose blocks are computed, with the values that are derived from them."""
        return surface
