"""A work queue that computes a grid level by level, and predicts cells from their neighbours where that is accurate.

The choice itself is made by `landscape.cell_prediction`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.landscape.cell_prediction import AdaptiveChoice, CellChoice
from lossatlas.landscape.surface import Surface
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.mpi.block_queue import BlockQueue, BlockResult


def keep_matching_predictions(surface: Surface, tolerance: Tolerance | None) -> Surface:
    """Remove predictions that were made for another tolerance.

    Args:
        surface: The surface.
        tolerance: The tolerance of the predictions, or None to compute all cells.
    """
    same = tolerance is not None and surface.about.get("adaptive", {}).get("tolerance") == as_record(tolerance)
    return surface if same else without_predictions(surface)


def without_predictions(surface: Surface) -> Surface:
    """Return a surface without its predictions."""
    about = {name: value for name, value in surface.about.items() if name != "adaptive"}
    return replace(surface, predicted={}, about=about)


def as_record(tolerance: Tolerance) -> list[float]:
    """Return a tolerance as it is recorded in the file: [relative, absolute]."""
    return [tolerance.relative, tolerance.absolute]


def check_plan(surface: Surface, tolerance: Tolerance | None) -> None:
    """Check that a surface can be continued adaptively.

    Args:
        surface: The surface.
        tolerance: The tolerance of the predictions, or None to compute all cells.

    Raises:
        BadUsage: Several points are computed in one call, so that the last digits of a cell depend on the others in it.
    """
    if tolerance is not None and surface.plan.get("points_per_call", 1) > 1:
        raise BadUsage(
            f"{named('adaptive')}: this file was begun with {surface.plan['points_per_call']} points in one call, "
            "which leave no cell out: give another file, or go on without it"
        )


QueueFactory = Callable[[Surface, np.ndarray], BlockQueue]


def checked_fields(surface: Surface) -> list[str]:
    """Return the fields that have to be predicted well: losses, and accuracies where they are of all samples."""
    names = ("loss",) if surface.samples else ("loss", "acc")
    return [f"{split}_{name}" for split in surface.splits for name in names if f"{split}_{name}" in surface.fields]


class AdaptiveQueue(BlockQueue):
    """Queue of the blocks of each level in two steps: needed cells and checks first, then cells near failed checks.

    The choice follows from the values of coarser levels alone, so that the number of ranks and interruptions change
    nothing.

    Args:
        surface: The surface so far.
        pending: Numbers of cells to compute.
        tolerance: The error that is allowed for a predicted cell.
        make_queue: Makes a queue of some cells of a surface.
    """

    def __init__(self, surface: Surface, pending: np.ndarray, tolerance: Tolerance, make_queue: QueueFactory) -> None:
        super().__init__([])
        self.surface, self.make_queue, self.tolerance = replace(surface, predicted={}), make_queue, tolerance
        self.unfinished = set(pending.tolist()) | set(np.flatnonzero(~surface.done).tolist())
        self.done = surface.done.ravel().copy()
        self.adaptive = AdaptiveChoice(surface.grid, surface.hierarchy, tolerance, checked_fields(surface))
        self.level = -1
        self.choice: CellChoice | None = None
        self.current, self.offset, self.outstanding = BlockQueue([]), 0, 0
        self.results: list[tuple[list[int], BlockResult]] = []
        self.advance()

    @property
    def cells(self) -> int:
        """The number of cells to compute, as far as is known: all but those that have been predicted so far."""
        return len(self.unfinished) - int(self.adaptive.predicted.sum())

    def take(self) -> tuple[int, Any] | None:
        """Return number and content of the next block that can be computed now, or None."""
        item = self.current.take()
        self.left = self.current.left
        return None if item is None else (self.offset + item[0], item[1])

    def arrived(self, k: int, found: BlockResult) -> None:
        """Record the result of block k; the last result of a step starts the next one."""
        self.results.append((self.blocks[k], found))
        self.current.arrived(k - self.offset, found)
        self.outstanding -= 1
        if not self.outstanding:
            self.advance()

    def advance(self) -> None:
        """Hand out the next cells that have to be computed, or finish."""
        while not self.outstanding and self.level < self.adaptive.hierarchy.count:
            self.record_results()
            if self.choice is None:
                self.start_level()
            else:
                self.continue_level(self.choice)

    def start_level(self) -> None:
        """Hand out the cells of the next level that are needed, and checks."""
        self.level += 1
        if self.level < self.adaptive.hierarchy.count:
            self.choice = self.adaptive.choose(self.level, self.done)
            self.enqueue(self.choice.computed)

    def continue_level(self, choice: CellChoice) -> None:
        """Compare computed cells with their predictions; hand out cells near misses, or predict the others."""
        self.adaptive.record_values(
            choice.computed, self.values(choice.computed), self.values(choice.computed, suffix="_se")
        )
        computed = choice.predicted
        if self.adaptive.accept_predictions(choice):
            computed = self.adaptive.cells_near_misses(choice)
        predicted = choice.predicted[~np.isin(choice.predicted, computed)]
        if len(computed):
            self.choice = CellChoice(predicted[:0], predicted[:0], computed, predicted)
        else:
            self.choice = None
            self.adaptive.predict_cells(predicted)
        self.enqueue(computed)

    def values(self, cells: np.ndarray, suffix: str = "") -> dict[str, np.ndarray]:
        """Return the checked fields at some cells; `suffix` selects their standard errors."""
        fields, nothing = self.surface.fields, np.zeros(self.surface.grid.size)
        return {name: fields.get(f"{name}{suffix}", nothing).ravel()[cells] for name in self.adaptive.values}

    def enqueue(self, cells: np.ndarray) -> None:
        """Append the blocks of those cells that are not computed yet."""
        to_compute = np.array([cell for cell in cells.tolist() if cell in self.unfinished], dtype=np.int64)
        if self.surface.samples:
            to_compute = self.surface.hierarchy.order(to_compute)
        self.current, self.offset = self.make_queue(self.surface, to_compute), len(self.blocks)
        self.blocks = [*self.blocks, *self.current.blocks]
        self.outstanding, self.left = len(self.current), self.current.left

    def record_results(self) -> None:
        """Store the results that have arrived in the surface."""
        if self.results:
            cells = [cell for block, _ in self.results for cell in block]
            rows = np.concatenate([found.rows for _, found in self.results])
            samples = [own for _, found in self.results for own in found.samples]
            self.surface = self.surface.with_cells(cells, rows, samples)
            self.results = []

    def finished(self, surface: Surface) -> Surface:
        """Return the surface with predictions for the cells that were not computed."""
        adaptive, left_out = self.adaptive, self.adaptive.predicted.reshape(surface.grid.shape)
        predicted = {
            name: np.where(left_out, adaptive.fill_predictions(array, bounded=not name.endswith("_loss")), np.nan)
            for name, array in replace(surface, predicted={}).fields.items()
            if not name.endswith("_se")
        }
        about = {
            "tolerance": as_record(self.tolerance),
            "interpolated": int((left_out & ~surface.done).sum()),
            "checked": adaptive.checked,
            "missed": adaptive.missed,
        }
        return replace(surface, predicted=predicted, about={**surface.about, "adaptive": about})
