"""Multilevel sampling of a grid: which cells may be computed now, and the evaluation of a block of them.

Cells of coarse levels serve as control variates of their neighbours on finer ones, see `landscape.control_variates`.
"""

import heapq
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.landscape.control_variates import ControlVariate, Samples, control_variate_of
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.landscape.sample_count import FEWEST_CONTROLLED, ErrorTarget, estimate_cell
from lossatlas.landscape.statistics import CLAMPED, metrics_of
from lossatlas.landscape.surface import LOW_PRECISION, Surface
from lossatlas.mpi.block_queue import BlockQueue, BlockResult

LOW_PRECISION_SHARE = 0.9  # of the error of a cell, for the low-precision mean; the rest is for its correction
MAX_FIRST_SAMPLES = 1024  # largest number of samples that a cell on the finest level begins with
LONG_CELL = 0.1  # seconds; cells are not made longer than this to save moves
MAX_COST_RATIO = 1.3  # cost of a sample at a cell with the fewest samples, relative to the cheapest
MIN_BATCH = 16  # samples of a batch, where the samples of a cell are divided among threads


class MultilevelBlock(NamedTuple):
    """The work of one block.

    Attributes:
        cells: Numbers of the cells.
        control_variates: The control variates of each cell and split.
    """

    cells: list[int]
    control_variates: list[list[list[ControlVariate]]]


class EstimatedCell(NamedTuple):
    """The result for one cell and split.

    Attributes:
        row: Statistics, metrics and estimates, see `sample_count.estimate_cell`.
        samples: All samples that it has drawn; none where no other cell and no continuation needs them.
    """

    row: np.ndarray
    samples: Samples


def with_small_batches(evaluator: Evaluator, plan: ExecutionPlan, *, keep_batch_size: bool) -> ExecutionPlan:
    """Complete an execution plan for few samples per cell.

    The plan gets the smallest number of samples at a finest cell (`fewest`) that is worth the move to the cell, and a
    batch size that gives every thread a batch.

    Args:
        evaluator: The evaluator, for measurements.
        plan: The execution plan.
        keep_batch_size: The batch size was given by the user: it stays, and nothing is measured.

    Returns:
        The completed plan.
    """
    parallel_batches, batch_size = plan["lanes"] or 1, plan["batch_size"]
    choices = [
        FEWEST_CONTROLLED,
        2 * FEWEST_CONTROLLED,
        4 * FEWEST_CONTROLLED,
        8 * FEWEST_CONTROLLED,
        MAX_FIRST_SAMPLES,
    ]
    counts = [count for count in choices if count >= MIN_BATCH * parallel_batches] or [MAX_FIRST_SAMPLES]
    if keep_batch_size:
        return {**plan, "fewest": counts[0]}
    split, costs = next(iter(evaluator.data)), dict[int, float]()
    for count in counts:
        if count > len(evaluator.data[split]):
            break
        evaluator.batch_size = min(batch_size, -(-count // parallel_batches))
        seconds = min(seconds_for_samples(evaluator, split, count) for _ in range(3))
        costs[count] = seconds / count
        if seconds > LONG_CELL:
            break
    evaluator.batch_size = batch_size
    fewest = next((count for count in costs if costs[count] <= MAX_COST_RATIO * min(costs.values())), counts[0])
    return {**plan, "fewest": fewest, "batch_size": min(batch_size, -(-fewest // parallel_batches))}


def seconds_for_samples(evaluator: Evaluator, split: str, count: int) -> float:
    """Measure the seconds that a move and `count` samples take."""
    began = time.perf_counter()
    evaluator.move_to(0.0, 0.0)
    evaluator.draw_samples(split, 0, count)
    return time.perf_counter() - began


class MultilevelQueue(BlockQueue):
    """A queue of blocks of cells of one level, each of which is ready when the neighbours of its cells are done.

    Args:
        surface: The surface so far.
        pending: Numbers of the cells to compute, in the order of the hierarchy.
        size: Cells in a block.
    """

    def __init__(self, surface: Surface, pending: Sequence[int] | np.ndarray, size: int) -> None:
        self.hierarchy = surface.hierarchy
        cells = np.asarray(pending, dtype=np.int64)
        levels = self.hierarchy.level[cells]
        parts = [cells[levels == level] for level in range(self.hierarchy.count)]
        super().__init__([part[k : k + size].tolist() for part in parts for k in range(0, len(part), size)])
        self.neighbours = {cell: self.hierarchy.neighbours(cell) for block in self.blocks for cell in block}
        self.splits = list(surface.statistics)
        self.metrics = {split: metrics_of(arrays) for split, arrays in surface.statistics.items()}
        self.control_variates: dict[int, list[ControlVariate]] = {}
        waiting = {cell for block in self.blocks for cell in block}
        self.load_control_variates(
            surface, {other for others in self.neighbours.values() for other in others} - waiting
        )
        self.unfinished_neighbours = [
            {o for cell in block for o in self.neighbours[cell] if o in waiting} for block in self.blocks
        ]
        self.dependents: dict[int, list[int]] = {}
        for k, others in enumerate(self.unfinished_neighbours):
            for other in others:
                self.dependents.setdefault(other, []).append(k)
        self.ready = [k for k, others in enumerate(self.unfinished_neighbours) if not others]

    def load_control_variates(self, surface: Surface, cells: set[int]) -> None:
        """Take cells that are done as control variates; cells without stored samples cannot be used."""
        for cell in cells:
            found = [stored for split in self.splits if (stored := stored_samples(surface, split, cell)) is not None]
            if len(found) == len(self.splits):  # an imported cell has no samples
                self.add_control_variate(cell, [row for row, _ in found], [samples for _, samples in found])

    def add_control_variate(self, cell: int, rows: Sequence[np.ndarray], samples: Sequence[Samples]) -> None:
        """Take a cell that is done as a control variate, with a row and samples for each split."""
        splits = zip(self.splits, rows, samples, strict=True)
        self.control_variates[cell] = [control_variate_of(row, self.metrics[split], own) for split, row, own in splits]

    def content(self, k: int) -> MultilevelBlock:
        """Return the cells of block k, and the control variates of each."""
        found = [
            [self.control_variates[other] for other in self.neighbours[cell] if other in self.control_variates]
            for cell in self.blocks[k]
        ]
        splits = range(len(self.splits))
        return MultilevelBlock(self.blocks[k], [[[other[s] for other in others] for s in splits] for others in found])

    def arrived(self, k: int, found: BlockResult) -> None:
        """Record the result of block k, and make blocks ready that waited for it."""
        for cell, rows, samples in zip(self.blocks[k], found.rows, found.samples, strict=True):
            if cell in self.dependents:
                self.add_control_variate(cell, rows, samples)
            for other in self.dependents.get(cell, ()):
                self.unfinished_neighbours[other].discard(cell)
                if not self.unfinished_neighbours[other]:
                    heapq.heappush(self.ready, other)


class MultilevelWorker:
    """Evaluator of blocks of a `MultilevelQueue`.

    Where losses are computed in a lower precision, the low-precision mean of a cell is estimated first, with the
    neighbours as control variates. It then is the control variate of the same cell in float32, for which a few samples
    suffice.

    Args:
        surface: The surface that is computed, with a complete plan.
        evaluator: The evaluator.
    """

    def __init__(self, surface: Surface, evaluator: Evaluator) -> None:
        self.surface, self.evaluator, self.hierarchy = surface, evaluator, surface.hierarchy
        self.splits, self.metrics = list(surface.statistics), list(evaluator.metrics)

    def __call__(self, block: MultilevelBlock) -> BlockResult:
        """Return rows (cells, splits, statistics) and samples of the cells of a block."""
        found = [self.estimate(cell, others) for cell, others in zip(*block, strict=True)]
        rows = np.stack([np.stack([each.row for each in splits]) for splits in found])
        return BlockResult(rows, [[each.samples for each in splits] for splits in found])

    def estimate(self, cell: int, control_variates: Sequence[Sequence[ControlVariate]]) -> list[EstimatedCell]:
        """Estimate a cell, given the control variates of each split; the result is in the order of the splits."""
        neighbours, found = dict(zip(self.splits, control_variates, strict=True)), dict[str, EstimatedCell]()
        for split in sorted(self.splits, key=lambda name: not name.startswith(LOW_PRECISION)):
            low = found.get(f"{LOW_PRECISION}{split}")
            controls = neighbours[split] if low is None else [control_variate_of(low.row, self.metrics, low.samples)]
            found[split] = self.estimate_split(cell, split, controls, corrects_low_precision=low is not None)
        return [found[split] for split in self.splits]

    def estimate_split(
        self, cell: int, split: str, controls: Sequence[ControlVariate], *, corrects_low_precision: bool
    ) -> EstimatedCell:
        """Estimate one split at a cell.

        Args:
            cell: Flat index of the cell.
            split: Name of the split, with `LOW_PRECISION` before it for the low-precision mean.
            controls: Control variates of the cell.
            corrects_low_precision: The only control variate is the low-precision mean of the same cell, so a few
                samples in full precision suffice.

        Returns:
            The row of the cell, and its samples where another estimate needs them.
        """
        surface, evaluator, level = self.surface, self.evaluator, int(self.hierarchy.level[cell])
        is_low_precision, data = split.startswith(LOW_PRECISION), split.removeprefix(LOW_PRECISION)
        if corrects_low_precision and evaluator.full_precision is not None:
            evaluator = evaluator.full_precision
        clamped = float(evaluator.move_to(*surface.grid.point(cell)))
        share, floor = self.hierarchy.shares[level], surface.plan["fewest"]
        goal = ErrorTarget(
            self.evaluator.tolerance,
            share * LOW_PRECISION_SHARE if is_low_precision else share,
            floor // 2 if corrects_low_precision else self.hierarchy.fewest(level, floor),
            surface.populations[split],
        )
        before = stored_samples(surface, split, cell)
        row, samples = estimate_cell(partial(evaluator.draw_samples, data), self.metrics, controls, goal, before)
        row[CLAMPED] = clamped
        is_last = goal.tolerance.exact or level == self.hierarchy.count - 1
        is_needed = is_low_precision or not is_last or row[0] < goal.population
        return EstimatedCell(row, samples if is_needed else {})


def stored_samples(surface: Surface, split: str, cell: int) -> tuple[np.ndarray, Samples] | None:
    """Return row and samples of a cell, or None if it has none."""
    if not surface.samples[split][cell]:
        return None
    row = np.array([array.flat[cell] for array in surface.statistics[split].values()])
    return row, surface.samples[split][cell]
