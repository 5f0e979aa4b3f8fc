"""Levels of a grid's cells, from coarse to fine: finer cells are estimated or predicted from coarser neighbours."""

import itertools
from collections.abc import Sequence

import numpy as np

from lossatlas.landscape.grid import Grid, largest_of, refinement
from lossatlas.landscape.tolerance import FEWEST_SAMPLES

SAMPLES_PER_LEVEL = 2  # cells of a level begin with this many times the samples of the next finer level


class Hierarchy:
    """The levels of a grid's cells, from coarse to fine, and the coarser neighbours of each cell.

    Args:
        grid: The grid.
        rows: Rows are independent curves, which have no common neighbours.

    Attributes:
        shape: (ny, nx), of a volume (nz, ny, nx); a curve has one row.
        axes: The level of each point of each axis, in the order of `shape`.
        level: The level of each cell, (cells,).
        count: The number of levels.

    Example:
        >>> hierarchy = Hierarchy(Grid(np.arange(9.0)))
        >>> hierarchy.level.tolist(), hierarchy.neighbours(3)
        ([0, 2, 1, 2, 0, 2, 1, 2, 0], [2, 4])
    """

    def __init__(self, grid: Grid, *, rows: bool = False) -> None:
        self.shape = grid.shape if len(grid.shape) > 1 else (1, *grid.shape)
        self.rows = rows or grid.y is None
        self.axes = [refinement(n) for n in self.shape]
        if self.rows:
            self.axes[0] = np.zeros(self.shape[0], int)
        self.level = largest_of(self.axes).ravel()
        self.count = int(self.level.max()) + 1

    def neighbours(self, cell: int) -> list[int]:
        """Return the corners of the coarser grid's box around a cell: up to two along each axis; none on level 0."""
        level = self.level[cell]
        if level == 0:
            return []
        places = self.place(cell)
        corners = [enclosing(np.flatnonzero(axis < level), k) for axis, k in zip(self.axes, places, strict=True)]
        if self.rows:
            corners[0] = [places[0]]
        return [int(np.ravel_multi_index(each, self.shape)) for each in itertools.product(*corners)]

    def place(self, cell: int) -> tuple[int, ...]:
        """Return the numbers of a cell along the axes of `shape`."""
        return tuple(int(k) for k in np.unravel_index(cell, self.shape))

    def order(self, cells: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return some cells sorted by level, coarse levels first."""
        cells = np.sort(np.asarray(cells, dtype=np.int64))
        return cells[np.argsort(self.level[cells], kind="stable")]

    @property
    def shares(self) -> np.ndarray:
        """The share of the allowed error for a cell of each level, (levels,).

        The rest is left for finer cells that use it. It is the square root of a share of the variance, to which each
        level adds the same part.
        """
        return np.sqrt(np.arange(1, self.count + 1) / self.count)

    def fewest(self, level: int, floor: int) -> int:
        """Return the number of samples that a cell begins with; finer cells need more samples of coarser ones.

        Args:
            level: The level of the cell.
            floor: The number on the finest level.
        """
        return (
            FEWEST_SAMPLES if level == 0 else min(FEWEST_SAMPLES, floor * SAMPLES_PER_LEVEL ** (self.count - 1 - level))
        )


def enclosing(coarse: np.ndarray, k: int) -> list[int]:
    """Return the last coarse number up to k and the first from k on; one of them at an edge or where k is coarse."""
    below, above = coarse[coarse <= k], coarse[coarse >= k]
    return sorted({*below[-1:].tolist(), *above[:1].tolist()})
