"""Number of samples that a cell draws: as many as its standard error needs to come below the allowed one.

`estimate_cell` is given a function that draws samples; `control_variates` estimates the cell from them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lossatlas.landscape.control_variates import CellEstimate, ControlVariate, Samples, estimate_mean, usable_neighbours
from lossatlas.landscape.statistics import PENALTY, STATISTICS, sums_of
from lossatlas.landscape.tolerance import FEWEST_SAMPLES, WELL_BELOW, Tolerance

FEWEST_CONTROLLED = 64  # samples of a cell with neighbours; with fewer, a regression on these is not reliable
MIN_GROWTH, MAX_GROWTH = 1.1, 4  # limits of the factor by which the number of samples grows in one step


@dataclass(frozen=True)
class SampleDraw:
    """Samples that were drawn, in the shuffled order.

    Attributes:
        loss: Losses in float64, (n,).
        weight: Weights, (n,), or None for 1.
        metrics: Metrics by name, (n,) each.
        penalty: The term of the parameters alone.
    """

    loss: np.ndarray
    weight: np.ndarray | None = None
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    penalty: float = 0.0


@dataclass(frozen=True)
class ErrorTarget:
    """The condition under which a cell is done.

    Attributes:
        tolerance: The tolerance of the surface.
        share: The share of the allowed error that this cell may use.
        fewest: The number of samples that the cell begins with.
        population: The number of all samples of the split.
    """

    tolerance: Tolerance
    share: float
    fewest: int
    population: int

    def wanted(self, n: int, found: CellEstimate, penalty: float) -> int:
        """Return the number of samples that a cell needs.

        Args:
            n: The number of samples that it has.
            found: The estimate from these.
            penalty: The term of the parameters alone, which belongs to the loss that the tolerance is relative to.

        Returns:
            n if that is enough.
        """
        if n >= self.population:
            return n
        if found.effective_size < FEWEST_CONTROLLED / 2:  # most samples have no weight
            return min(self.population, 2 * n)
        allowed = float(self.tolerance.allowed(np.array(found.mean + penalty)))
        limit = self.share * allowed
        if not math.isfinite(found.mean) or not allowed < math.inf:
            return n
        if n < min(FEWEST_SAMPLES, self.population) and not found.controlled:
            return min(FEWEST_SAMPLES, self.population)
        if math.isnan(found.error) or not found.error <= limit:
            # The own error is c * sqrt(1/n - 1/N); that of the neighbours does not depend on n.
            own_variance = max(limit**2 - found.neighbour_error**2, 0.2 * limit**2)
            ratio = own_variance / found.own_error**2 if 0 < found.own_error < math.inf else 0.0
            needed = 1 / (1 / self.population + (1 / n - 1 / self.population) * ratio)
            return min(self.population, max(math.ceil(MIN_GROWTH * n), min(math.ceil(needed), MAX_GROWTH * n)))
        if not found.representative:
            return min(self.population, 2 * n)
        if not found.reliable and math.hypot(found.inflation * found.own_error, found.neighbour_error) > limit:
            return min(self.population, 2 * n)
        return n


def estimate_cell(
    draw: Callable[[int, int], SampleDraw],
    metrics: Sequence[str],
    neighbours: Sequence[ControlVariate],
    goal: ErrorTarget,
    before: tuple[np.ndarray, Samples] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw samples of a cell until its standard error is small enough.

    Args:
        draw: A function of (start, stop) that returns the samples from start to at least stop, in the shuffled order.
        metrics: Names of the metrics.
        neighbours: Control variates.
        goal: The condition under which the cell is done.
        before: Row and samples that the cell has already.

    Returns:
        The row of the cell (statistics, metrics, estimates; see `statistics.estimates`), and all its samples in
        float32.
    """
    width = len(STATISTICS) + len(metrics)
    row, samples = np.zeros(width), {}
    if before is not None and before[0][0] > 0:
        row, samples = before[0][:width].copy(), dict(before[1])
    wanted = goal.population if goal.tolerance.exact else min(goal.fewest, goal.population)
    while True:
        n = int(row[0])
        if n < wanted:
            new = draw(n, wanted)
            row += sums_of(new.loss, new.weight, list(new.metrics.values()))
            row[PENALTY] = new.penalty
            samples = append_samples(samples, new)
            n = int(row[0])
        penalty = float(row[PENALTY])
        found = {
            name: estimate_mean(name, row, samples, metrics, neighbours, population=goal.population)
            for name in ("loss", *metrics)
        }
        wanted = goal.population if goal.tolerance.exact else max(n, goal.wanted(n, found["loss"], penalty))
        if wanted <= n:
            return np.concatenate([row, estimate_columns(found, goal, n, penalty, neighbours)]), samples


def append_samples(samples: Samples, new: SampleDraw) -> dict[str, np.ndarray]:
    """Append new samples to the samples of a cell, in float32; weights are stored only once one differs from 1."""
    named = {"loss": new.loss, **new.metrics}
    if new.weight is not None and ("weight" in samples or not (new.weight == 1).all()):
        named["weight"] = new.weight
    elif "weight" in samples:
        named["weight"] = np.ones_like(new.loss)
    with np.errstate(over="ignore"):
        parts = {name: array.astype(np.float32) for name, array in named.items()}
    if not samples:
        return parts
    before = {"weight": np.ones_like(samples["loss"]), **samples}
    return {name: np.concatenate([before[name], array]) for name, array in parts.items()}


def estimate_columns(
    found: Mapping[str, CellEstimate], goal: ErrorTarget, n: int, penalty: float, neighbours: Sequence[ControlVariate]
) -> np.ndarray:
    """Return the columns `statistics.estimates` of a cell that is done.

    Args:
        found: Estimates of the loss, and then of each metric.
        goal: The condition under which the cell is done.
        n: Number of the cell's samples.
        penalty: The term of the parameters alone.
        neighbours: Control variates of the cell.
    """
    loss, *others = found.values()
    if n >= goal.population:
        return np.array([loss.mean, 0.0, 0.0, 0.0, *(value for each in others for value in (each.mean, 0.0))])
    least = float(goal.tolerance.allowed(np.array(loss.mean + penalty))) / WELL_BELOW
    error = loss.error if math.isnan(loss.error) else max(loss.error, least)
    row = [loss.mean, error, loss.own_error, float(len(usable_neighbours(neighbours, n)))]
    if not math.isfinite(loss.mean):
        row = [math.nan, math.nan, math.nan, 0.0]
    return np.array([*row, *(value for each in others for value in (each.mean, each.error))])
