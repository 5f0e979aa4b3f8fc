"""Multilevel sampling of a grid: which cells may be computed now, and the evaluation of a block of them.

Cells of coarse levels serve as control variates of their neighbours on finer ones, see `landscape.control_variates`.
"""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.io.block_queue import BlockQueue, BlockResult
from lossatlas.landscape.control_variates import (
    FEWEST,
    ControlVariate,
    ErrorTarget,
    SampleDraw,
    Samples,
    control_variate_of,
    estimate_cell,
)
from lossatlas.landscape.statistics import CLAMPED, metrics_of
from lossatlas.landscape.surface import LOW_PRECISION, Surface

LOW_PRECISION_SHARE = 0.9  # of the error that a cell may have: the rest is for the samples that correct it
MAX_FIRST_SAMPLES = 1024  # samples that a cell on the finest level may be made to draw at least
LONG_CELL = 0.1  # seconds; a cell that takes so long is not made longer
MAX_COST_RATIO = 1.3  # times the cheapest: what a sample may cost at a cell with the fewest samples
MIN_BATCH = 16  # samples of a batch, where a cell's few samples are shared by lanes
Block = tuple[list[int], list[list[list[ControlVariate]]]]  # cells, and of each cell and split those that help it


def with_small_batches(evaluator: Evaluator, plan: Mapping[str, Any], chosen: bool) -> dict[str, Any]:
    """Complete an execution plan for few samples per cell.

    The plan gets the smallest number of samples at a finest cell (`fewest`) that is worth the move to the cell, and a batch
    size that gives every thread a batch.

    Args:
        evaluator: The evaluator, for measurements.
        plan: The execution plan.
        chosen: The batch size was given by the user: it stays, and nothing is measured.

    Returns:
        The completed plan.
    """
    parallel_batches = plan["lanes"] or 1
    counts = [
        count
        for count in (FEWEST, 2 * FEWEST, 4 * FEWEST, 8 * FEWEST, MAX_FIRST_SAMPLES)
        if count >= MIN_BATCH * parallel_batches
    ] or [MAX_FIRST_SAMPLES]
    if chosen:
        return {**plan, "fewest": counts[0]}
    split, times = next(iter(evaluator.data)), dict[int, float]()
    largest = plan["batch_size"]
    for count in counts:
        if count > len(evaluator.data[split]):
            break
        evaluator.batch_size = min(largest, -(-count // parallel_batches))
        times[count] = min(seconds_for_samples(evaluator, split, count) for _ in range(3))
        if times[count] > LONG_CELL:
            break
    each = {count: seconds / count for count, seconds in times.items()}
    fewest = next((count for count in each if each[count] <= MAX_COST_RATIO * min(each.values())), counts[0])
    evaluator.batch_size = largest
    return {**plan, "fewest": fewest, "batch_size": min(largest, -(-fewest // parallel_batches))}


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
        """pending: cells in the order of the hierarchy; size: of a block."""
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
            if len(found) == len(self.splits):  # cells of another program say nothing of their samples
                self.add_control_variate(cell, [row for row, _ in found], [samples for _, samples in found])

    def add_control_variate(self, cell: int, rows: Sequence[np.ndarray], samples: Sequence[Samples]) -> None:
        """Take a cell that is done as a control variate, with a row and samples for each split."""
        splits = zip(self.splits, rows, samples, strict=True)
        self.control_variates[cell] = [control_variate_of(row, self.metrics[split], own) for split, row, own in splits]

    def content(self, k: int) -> Block:
        """Return the cells of block k, and the control variates of each."""
        found = [
            [self.control_variates[other] for other in self.neighbours[cell] if other in self.control_variates]
            for cell in self.blocks[k]
        ]
        return self.blocks[k], [[[other[s] for other in others] for s in range(len(self.splits))] for others in found]

    def arrived(self, k: int, found: BlockResult) -> None:
        """Record the result of block k, and make blocks ready that waited for it."""
        for cell, rows, samples in zip(self.blocks[k], found.rows, found.samples, strict=True):
            if cell in self.dependents:
                self.add_control_variate(cell, rows, samples)
            for other in self.dependents.get(cell, ()):
                self.unfinished_neighbours[other].discard(cell)
                if not self.unfinished_neighbours[other]:
                    heapq.heappush(self.ready, other)


def multilevel_worker(surface: Surface, evaluator: Evaluator) -> Callable[[Block], BlockResult]:
    """Return the function that evaluates a block.

    Where losses are computed in a lower precision, the low-precision mean of a cell is estimated first, with the neighbours as
    control variates. It then serves as control variate of the same cell in float32, for which a few samples suffice.

    Args:
        surface: The surface, whose plan and hierarchy count.
        evaluator: The evaluator.

    Returns:
        A function from a block to rows (cells, splits, statistics) and samples.
    """
    hierarchy, shares = surface.hierarchy, surface.hierarchy.shares
    splits, metrics, floor = list(surface.statistics), list(evaluator.metrics), surface.plan["fewest"]

    def estimate_one(
        cell: int, neighbours: Sequence[Sequence[ControlVariate]]
    ) -> tuple[list[np.ndarray], list[Samples]]:
        theirs, level = dict(zip(splits, neighbours, strict=True)), int(hierarchy.level[cell])
        found: dict[str, tuple[np.ndarray, Samples]] = {}
        for split in sorted(splits, key=lambda name: not name.startswith(LOW_PRECISION)):
            has_low_precision, own = f"{LOW_PRECISION}{split}" in splits, split.removeprefix(LOW_PRECISION)
            source = (
                evaluator if not has_low_precision or evaluator.full_precision is None else evaluator.full_precision
            )
            clamped = float(source.move_to(*surface.grid.point(cell)))
            share, fewest = shares[level], hierarchy.fewest(level, floor)
            if split.startswith(LOW_PRECISION):
                share *= LOW_PRECISION_SHARE
            elif has_low_precision:
                theirs[split] = [
                    control_variate_of(
                        found[f"{LOW_PRECISION}{split}"][0], metrics, found[f"{LOW_PRECISION}{split}"][1]
                    )
                ]
                fewest = floor // 2

            def draw(start: int, stop: int, source: Evaluator = source, own: str = own) -> SampleDraw:
                return source.draw_samples(own, start, stop)

            goal = ErrorTarget(evaluator.tolerance, share, fewest, surface.populations[split])
            row, drawn = estimate_cell(draw, metrics, theirs[split], goal, stored_samples(surface, split, cell))
            row[CLAMPED] = clamped
            last = goal.tolerance.exact or level == hierarchy.count - 1
            unneeded = last and not split.startswith(LOW_PRECISION) and row[0] >= goal.population
            found[split] = row, {} if unneeded else drawn
        return [found[split][0] for split in splits], [found[split][1] for split in splits]

    def work(block: Block) -> BlockResult:
        pairs = [estimate_one(cell, neighbours) for cell, neighbours in zip(*block, strict=True)]
        return BlockResult(np.stack([np.stack(rows) for rows, _ in pairs]), [samples for _, samples in pairs])

    return work


def stored_samples(surface: Surface, split: str, cell: int) -> tuple[np.ndarray, Mapping[str, np.ndarray]] | None:
    """Return row and samples of a cell, or None if it has none."""
    if not surface.samples[split][cell]:
        return None
    row = np.array([array.flat[cell] for array in surface.statistics[split].values()])
    return row, surface.samples[split][cell]
