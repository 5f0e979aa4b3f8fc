"""Cells that help each other: which of them may be computed now, and the work of a block of them. See landscape.levels."""

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
from lossatlas.landscape.surface import DRAFT, Surface

FOR_DRAFTS = 0.9  # of the error that a cell may have: the rest is for the samples that correct it
MOST = 1024  # samples that a cell on the finest level may be made to draw at least
LONG = 0.1  # seconds; a cell that takes so long is not made longer
DEAR = 1.3  # times the cheapest: what a sample may cost at a cell with the fewest samples
SMALLEST = 16  # samples of a batch, where a cell's few samples are shared by lanes
Block = tuple[list[int], list[list[list[ControlVariate]]]]  # cells, and of each cell and split those that help it


def with_small_batches(evaluator: Evaluator, plan: Mapping[str, Any], chosen: bool) -> dict[str, Any]:
    """The plan with as few samples for a cell on the finest level as are worth going there, and batches so small that all
    lanes have something to do with them.

    chosen: whether the batch size was asked for: it stays, and nothing is measured.
    """
    lanes = plan["lanes"] or 1
    counts = [count for count in (FEWEST, 2 * FEWEST, 4 * FEWEST, 8 * FEWEST, MOST) if count >= SMALLEST * lanes] or [
        MOST
    ]
    if chosen:
        return {**plan, "fewest": counts[0]}
    split, times = next(iter(evaluator.data)), dict[int, float]()
    largest = plan["batch_size"]
    for count in counts:
        if count > len(evaluator.data[split]):
            break
        evaluator.batch_size = min(largest, -(-count // lanes))
        times[count] = min(visited(evaluator, split, count) for _ in range(3))
        if times[count] > LONG:
            break
    each = {count: seconds / count for count, seconds in times.items()}
    fewest = next((count for count in each if each[count] <= DEAR * min(each.values())), counts[0])
    evaluator.batch_size = largest
    return {**plan, "fewest": fewest, "batch_size": min(largest, -(-fewest // lanes))}


def visited(evaluator: Evaluator, split: str, count: int) -> float:
    """Seconds that so many samples take at a point, with going there."""
    began = time.perf_counter()
    evaluator.arrive(0.0, 0.0)
    evaluator.draw(split, 0, count)
    return time.perf_counter() - began


class MultilevelQueue(BlockQueue):
    """Blocks of cells of one level, each there once the cells that help its own are done."""

    def __init__(self, surface: Surface, pending: Sequence[int] | np.ndarray, size: int) -> None:
        """pending: cells in the order of the hierarchy; size: of a block."""
        self.hierarchy = surface.hierarchy
        cells = np.asarray(pending, dtype=np.int64)
        levels = self.hierarchy.level[cells]
        parts = [cells[levels == level] for level in range(self.hierarchy.count)]
        super().__init__([part[k : k + size].tolist() for part in parts for k in range(0, len(part), size)])
        self.helpers = {cell: self.hierarchy.helpers(cell) for block in self.blocks for cell in block}
        self.splits = list(surface.statistics)
        self.metrics = {split: metrics_of(arrays) for split, arrays in surface.statistics.items()}
        self.known: dict[int, list[ControlVariate]] = {}
        waiting = {cell for block in self.blocks for cell in block}
        self.known_before(surface, {other for others in self.helpers.values() for other in others} - waiting)
        self.missing = [{o for cell in block for o in self.helpers[cell] if o in waiting} for block in self.blocks]
        self.rest_on: dict[int, list[int]] = {}
        for k, others in enumerate(self.missing):
            for other in others:
                self.rest_on.setdefault(other, []).append(k)
        self.ready = [k for k, others in enumerate(self.missing) if not others]

    def known_before(self, surface: Surface, cells: set[int]) -> None:
        for cell in cells:
            found = [pair for split in self.splits if (pair := before(surface, split, cell)) is not None]
            if len(found) == len(self.splits):  # cells of another program say nothing of their samples
                self.learn(cell, [row for row, _ in found], [samples for _, samples in found])

    def learn(self, cell: int, rows: Sequence[np.ndarray], samples: Sequence[Samples]) -> None:
        splits = zip(self.splits, rows, samples, strict=True)
        self.known[cell] = [control_variate_of(row, self.metrics[split], own) for split, row, own in splits]

    def content(self, k: int) -> Block:
        found = [[self.known[other] for other in self.helpers[cell] if other in self.known] for cell in self.blocks[k]]
        return self.blocks[k], [[[other[s] for other in others] for s in range(len(self.splits))] for others in found]

    def arrived(self, k: int, found: BlockResult) -> None:
        for cell, rows, samples in zip(self.blocks[k], found.rows, found.samples, strict=True):
            if cell in self.rest_on:
                self.learn(cell, rows, samples)
            for other in self.rest_on.get(cell, ()):
                self.missing[other].discard(cell)
                if not self.missing[other]:
                    heapq.heappush(self.ready, other)


def multilevel_worker(surface: Surface, evaluator: Evaluator) -> Callable[[Block], BlockResult]:
    """The function from a block to rows and samples.

    A draft in a lower precision is settled first, with the drafts of other cells, and then helps its own cell, of which a
    few samples in float32 say how far it is from the truth.
    """
    hierarchy, shares = surface.hierarchy, surface.hierarchy.shares
    splits, metrics, floor = list(surface.statistics), list(evaluator.metrics), surface.plan["fewest"]

    def one(cell: int, helpers: Sequence[Sequence[ControlVariate]]) -> tuple[list[np.ndarray], list[Samples]]:
        theirs, level = dict(zip(splits, helpers, strict=True)), int(hierarchy.level[cell])
        found: dict[str, tuple[np.ndarray, Samples]] = {}
        for split in sorted(splits, key=lambda name: not name.startswith(DRAFT)):
            draft, own = f"{DRAFT}{split}" in splits, split.removeprefix(DRAFT)
            source = evaluator if not draft or evaluator.truth is None else evaluator.truth
            clamped = float(source.arrive(*surface.grid.point(cell)))
            share, fewest = shares[level], hierarchy.fewest(level, floor)
            if split.startswith(DRAFT):
                share *= FOR_DRAFTS
            elif draft:
                theirs[split] = [control_variate_of(found[f"{DRAFT}{split}"][0], metrics, found[f"{DRAFT}{split}"][1])]
                fewest = floor // 2

            def draw(start: int, stop: int, source: Evaluator = source, own: str = own) -> SampleDraw:
                return source.draw(own, start, stop)

            goal = ErrorTarget(evaluator.tolerance, share, fewest, surface.populations[split])
            row, drawn = estimate_cell(draw, metrics, theirs[split], goal, before(surface, split, cell))
            row[CLAMPED] = clamped
            last = goal.tolerance.exact or level == hierarchy.count - 1
            unneeded = last and not split.startswith(DRAFT) and row[0] >= goal.population
            found[split] = row, {} if unneeded else drawn
        return [found[split][0] for split in splits], [found[split][1] for split in splits]

    def work(block: Block) -> BlockResult:
        pairs = [one(cell, helpers) for cell, helpers in zip(*block, strict=True)]
        return BlockResult(np.stack([np.stack(rows) for rows, _ in pairs]), [samples for _, samples in pairs])

    return work


def before(surface: Surface, split: str, cell: int) -> tuple[np.ndarray, Mapping[str, np.ndarray]] | None:
    """Row and samples that a cell has; None where there are none."""
    if not surface.samples[split][cell]:
        return None
    row = np.array([array.flat[cell] for array in surface.statistics[split].values()])
    return row, surface.samples[split][cell]
