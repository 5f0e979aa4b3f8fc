"""The choice of the grid cells that are computed; the others are predicted from their neighbours, level by level.

A cell is predicted from the coarser cells around it, by interpolation of third order along the axes. The error of the
predictions is known at the cells of the level before, for which the same could have been done, and at one in
CHECK_EVERY of the cells that could be predicted, which is computed as a check. If more than MAX_MISS_SHARE of the
checks are off by more than the tolerance, the level is computed in full. A cell whose predicted loss lies outside the
`plausible_range` of the computed ones, such as below zero where these are positive, is computed too.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossatlas.landscape.derived_fields import is_expression
from lossatlas.landscape.grid import Grid
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.landscape.interpolant import plausible_range
from lossatlas.landscape.surface import Surface
from lossatlas.landscape.tolerance import Tolerance

MAX_COARSE_MISS = 3.0  # tolerances, on the level before: half the distance reduces the error at least by this factor
CHECK_EVERY = 8  # one in so many of the cells that could be predicted is computed
MAX_MISS_SHARE = 0.05  # of the checks that may be off by more than the tolerance
MISS_RADIUS = 1  # coarser points on each side that are computed around a cell that was not as predicted
STENCIL_RADIUS = 2  # coarser points on each side from which a cell is predicted


def prediction_errors(surface: Surface, name: str) -> np.ndarray:
    """Return the error bound of a field at each cell: the tolerance of the predictions, and zero at computed cells.

    Args:
        surface: The surface.
        name: The name of the field.

    Returns:
        An array of the grid's shape; NaN at predicted cells where no tolerance is known, such as of a metric.
    """
    found = surface.about.get("adaptive", {}).get("tolerance")
    allowed = np.full(surface.grid.shape, np.nan)
    if found is not None and not is_expression(name):
        tolerance = Tolerance(*found)
        if name.endswith("_loss"):
            allowed = tolerance.allowed(surface.fields[name])
        elif name.endswith("_acc") and tolerance.relative and not surface.samples:
            allowed = np.full(surface.grid.shape, 100 * tolerance.relative)
    return np.where(surface.interpolated, allowed, 0.0)


@dataclass(frozen=True)
class CellChoice:
    """The cells of one level by what is done about them, as arrays of cell numbers.

    Attributes:
        needed: Cells that have to be computed.
        checks: Cells that could be predicted and are computed to check the predictions.
        already_done: Cells that could be predicted and were computed by an earlier run.
        predicted: Cells that are predicted.
    """

    needed: np.ndarray
    checks: np.ndarray
    already_done: np.ndarray
    predicted: np.ndarray

    @property
    def computed(self) -> np.ndarray:
        """All cells that are computed, in their order."""
        return np.sort(np.concatenate([self.needed, self.checks, self.already_done]))


class Predictor:
    """Predictor of the cells of a grid from the cells of coarser levels, by Lagrange interpolation along the axes.

    Args:
        grid: The grid.
        hierarchy: Its levels.
    """

    def __init__(self, grid: Grid, hierarchy: Hierarchy) -> None:
        self.hierarchy, self.shape = hierarchy, hierarchy.shape
        self.axes = grid.axes if len(grid.axes) > 1 else (np.zeros(1), *grid.axes)
        self.stencils: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray] | None] = {}

    def axis_stencil(self, axis: int, level: int, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the coarser points around the k-th of an axis and their weights, or None at an edge."""
        key = axis, level, k
        if key not in self.stencils:
            coarse = np.flatnonzero(self.hierarchy.axes[axis] < level)
            self.stencils[key] = stencil(self.axes[axis], coarse, k)
        return self.stencils[key]

    def cell_stencil(self, cell: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the coarser cells from which a cell is predicted and their weights, or None at an edge."""
        level = int(self.hierarchy.level[cell])
        found = []
        for axis, k in enumerate(self.hierarchy.place(cell)):
            own_row = axis == 0 and self.hierarchy.rows
            found.append((np.array([k]), np.ones(1)) if own_row else self.axis_stencil(axis, level, k))
        parts = [each for each in found if each is not None]
        if level == 0 or len(parts) < len(found):
            return None
        cells = np.ravel_multi_index(np.ix_(*(near for near, _ in parts)), self.shape)
        return cells.ravel(), functools.reduce(np.multiply.outer, [weights for _, weights in parts]).ravel()

    def __call__(self, cell: int, values: np.ndarray) -> float:
        """Predict a cell.

        Args:
            cell: The number of the cell.
            values: The field, (cells,); only coarser cells are used.

        Returns:
            The prediction; NaN at an edge.
        """
        found = self.cell_stencil(cell)
        with np.errstate(invalid="ignore"):  # infinite values give no prediction
            return float("nan") if found is None else float((values[found[0]] * found[1]).sum())


def stencil(x: np.ndarray, coarse: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return up to 2 * STENCIL_RADIUS coarse points around the k-th and their Lagrange weights, or None at an edge."""
    right = int(np.searchsorted(coarse, k))
    if right < len(coarse) and coarse[right] == k:
        return np.array([k]), np.ones(1)
    if right in (0, len(coarse)):
        return None
    near = coarse[max(0, right - STENCIL_RADIUS) : right + STENCIL_RADIUS]
    weights = [np.prod([(x[k] - x[other]) / (x[own] - x[other]) for other in near if other != own]) for own in near]
    return near, np.array(weights)


class AdaptiveChoice:
    """Choice of the cells to compute, level by level; see the module.

    Args:
        grid: The grid.
        hierarchy: Its levels.
        tolerance: The error that is allowed for a predicted loss.
        fields: Names of the fields that have to be predicted well: losses, and accuracies in percent, for which 100
            times the relative tolerance is allowed.

    Attributes:
        values: Each field, (cells,), computed or predicted, NaN where not yet known.
        misses: The error of the prediction of each computed cell, in units of the allowed error; the largest of all
            fields.
        predicted: Which cells are predicted, (cells,).
        checked: The number of checks so far.
        missed: The number of checks that failed.
    """

    def __init__(self, grid: Grid, hierarchy: Hierarchy, tolerance: Tolerance, fields: Sequence[str]) -> None:
        self.hierarchy, self.tolerance, self.grid = hierarchy, tolerance, grid
        self.predict = Predictor(grid, hierarchy)
        self.values = {name: np.full(grid.size, np.nan) for name in fields}
        self.misses = np.full(grid.size, np.nan)
        self.predicted = np.zeros(grid.size, bool)
        self.checked = self.missed = 0

    def choose(self, level: int, done: np.ndarray) -> CellChoice:
        """Choose what is done about the cells of a level, once all coarser levels are known.

        Args:
            level: The level.
            done: Which cells (cells,) were computed by an earlier run; they are not predicted.
        """
        cells = np.flatnonzero(self.hierarchy.level == level)
        allowed = {name: plausible_range(own[np.isfinite(own) & ~self.predicted]) for name, own in self.values.items()}
        predictable = np.array(
            [
                level > 1 and self.predicts_well(int(cell)) and self.is_within_limits(int(cell), allowed)
                for cell in cells
            ],
            dtype=bool,
        )
        candidates = cells[predictable]
        drawn = np.random.default_rng(level).permutation(len(candidates))[: -(-len(candidates) // CHECK_EVERY)]
        checked = np.isin(
            np.arange(len(candidates)), drawn
        )  # random, because regular checks could miss a regular pattern
        others = candidates[~checked]
        return CellChoice(cells[~predictable], candidates[checked], others[done[others]], others[~done[others]])

    def cells_near_misses(self, choice: CellChoice) -> np.ndarray:
        """Return the predicted cells of a level that are near a computed one that was not as predicted."""
        computed = np.concatenate([choice.checks, choice.already_done])
        near = np.zeros(self.hierarchy.shape, bool)
        for cell in computed[self.misses[computed] > 1]:
            reach = 2 * MISS_RADIUS << (self.hierarchy.count - 1 - int(self.hierarchy.level[cell]))
            places = self.hierarchy.place(int(cell))
            around = [slice(max(0, k - reach), k + reach + 1) for k in places]
            if self.hierarchy.rows:
                around[0] = slice(places[0], places[0] + 1)
            near[tuple(around)] = True
        return choice.predicted[near.ravel()[choice.predicted]]

    def predicts_well(self, cell: int) -> bool:
        """Return whether the cells of the level before around a cell were close to their predictions."""
        if self.predict.cell_stencil(cell) is None:
            return False
        level = int(self.hierarchy.level[cell])
        places = self.hierarchy.place(cell)
        around = [self.near(axis, level, k) for axis, k in enumerate(places)]
        if self.hierarchy.rows:
            around[0] = np.array(places[:1])
        block = np.ix_(*around)
        levels, shape = self.hierarchy.level.reshape(self.hierarchy.shape), self.hierarchy.shape
        before = levels[block] == level - 1
        misses, left_out = self.misses.reshape(shape)[block][before], self.predicted.reshape(shape)[block][before]
        known = misses[~left_out & ~np.isnan(misses)]  # NaN for cells at an edge
        return bool((known <= MAX_COARSE_MISS).all())

    def is_within_limits(self, cell: int, allowed: Mapping[str, tuple[float, float]]) -> bool:
        """Return whether the prediction of a cell is finite, and each loss within its limits."""
        found = {name: self.predict(cell, own) for name, own in self.values.items()}
        return all(
            np.isfinite(value) and (not name.endswith("_loss") or allowed[name][0] <= value <= allowed[name][1])
            for name, value in found.items()
        )

    def near(self, axis: int, level: int, k: int) -> np.ndarray:
        """Return the coarser points of an axis within STENCIL_RADIUS of the k-th on each side."""
        coarse = np.flatnonzero(self.hierarchy.axes[axis] < level)
        right = int(np.searchsorted(coarse, k))
        return coarse[max(0, right - STENCIL_RADIUS) : right + STENCIL_RADIUS]

    def record_values(
        self, cells: np.ndarray, values: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray]
    ) -> None:
        """Record computed cells of a level, and compare them with their predictions.

        Args:
            cells: Numbers of the cells.
            values: Each field at these cells.
            errors: Standard errors of the fields; a difference below them does not count.
        """
        for name, own in self.values.items():
            inside = np.array([self.predict.cell_stencil(int(cell)) is not None for cell in cells], dtype=bool)
            expected = np.array([self.predict(int(cell), own) for cell in cells])
            own[cells] = values[name]
            with np.errstate(invalid="ignore", divide="ignore"):
                off = np.maximum(np.abs(expected - own[cells]) - np.nan_to_num(errors[name]), 0)
                off /= self.allowed(name, own[cells])
            off[~np.isfinite(off)] = np.inf
            self.misses[cells[inside]] = np.fmax(self.misses[cells], off)[inside]

    def allowed(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the allowed error of a field at some values."""
        if name.endswith("_acc"):
            return np.full(values.shape, 100 * self.tolerance.relative or np.inf)
        return self.tolerance.allowed(values)

    def accept_predictions(self, choice: CellChoice) -> bool:
        """Return whether the predictions of a level are accepted, given its checks; counts checks and misses."""
        missed = int((self.misses[choice.checks] > 1).sum())
        self.checked += len(choice.checks)
        self.missed += missed
        return missed <= MAX_MISS_SHARE * len(choice.checks)

    def predict_cells(self, cells: np.ndarray) -> None:
        """Predict some cells of a level."""
        for own in self.values.values():
            own[cells] = [self.predict(int(cell), own) for cell in cells]
        self.predicted[cells] = True

    def fill_predictions(self, field: np.ndarray, *, bounded: bool) -> np.ndarray:
        """Return a field with predictions at the predicted cells.

        Args:
            field: Computed values, of the grid's shape.
            bounded: Clip each prediction to the range of the cells that it is made from, which an interpolation of
                third order may leave.
        """
        flat = field.ravel().copy()
        for cell in self.hierarchy.order(np.flatnonzero(self.predicted)):
            flat[cell] = self.predict(int(cell), flat)
            found = self.predict.cell_stencil(int(cell))
            if bounded and found is not None:
                flat[cell] = np.clip(flat[cell], flat[found[0]].min(), flat[found[0]].max())
        return flat.reshape(field.shape)
