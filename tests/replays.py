"""Tolerances replayed on known losses: all samples of all cells are given, and `sample_count.estimate_cell` draws some.

benchmarks/levels.py counts in full how often stated errors hold, the tests in small numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lossatlas.landscape import Grid, Tolerance
from lossatlas.landscape.control_variates import ControlVariate, control_variate_of
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.landscape.sample_count import FEWEST_CONTROLLED, ErrorTarget, SampleDraw, estimate_cell
from lossatlas.landscape.statistics import STATISTICS, estimates

MARGINS = 6000
PLANE = Grid.parse("-1:1:9", "-1:1:9")
OF_MARGINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0-1": lambda margin: (margin < 0).astype(np.float64),
    "step": lambda margin: 0.05 + 20.0 * (margin < -1.5),
    "hinge": lambda margin: np.maximum(0, 1 - margin),
    "squared hinge": lambda margin: np.maximum(0, 1 - margin) ** 2,
    "cross-entropy": lambda margin: np.log1p(np.exp(-3 * margin)),
}
ESTIMATE, ERROR = (len(STATISTICS) + estimates(()).index(name) for name in ("estimate", "estimate_se"))


class Replay(NamedTuple):
    """Of one shuffle: estimates, stated errors and the truth, and how many samples were drawn, (cells,) each."""

    found: np.ndarray
    error: np.ndarray
    truth: np.ndarray
    used: np.ndarray


def margins(grid: Grid, samples: int = MARGINS, seed: int = 0) -> np.ndarray:
    """Of each sample a random bowl, turned over, with a wave on it: (cells, samples)."""
    assert grid.y is not None
    g = np.random.default_rng(seed)
    y, x = (each.reshape(-1, 1) for each in np.meshgrid(grid.y, grid.x, indexing="ij"))
    height, (slope_x, slope_y) = g.normal(2.0, 1.0, samples), g.normal(0.0, 0.7, (2, samples))
    bowl_x, bowl_y = g.exponential(0.8, (2, samples))
    phase, wave = g.uniform(0, 2 * np.pi, samples), g.normal(0.0, 0.3, samples)
    return height + slope_x * x + slope_y * y - bowl_x * x**2 - bowl_y * y**2 + wave * np.sin(2 * x + 1.5 * y + phase)


def of_margins(loss: str, tolerance: Tolerance, seed: int) -> Replay:
    """One shuffle of a loss of OF_MARGINS."""
    losses = OF_MARGINS[loss](margins(PLANE))
    order = np.random.default_rng(seed).permutation(losses.shape[1])
    return replayed(losses, order, losses.mean(1), PLANE, tolerance)


def replayed(losses: np.ndarray, order: np.ndarray, truth: np.ndarray, grid: Grid, tolerance: Tolerance) -> Replay:
    hierarchy, rows, known = Hierarchy(grid), {}, dict[int, ControlVariate]()
    for cell in hierarchy.order(np.arange(grid.size)).tolist():
        level = int(hierarchy.level[cell])
        goal = ErrorTarget(tolerance, hierarchy.shares[level], hierarchy.fewest(level, FEWEST_CONTROLLED), len(order))

        def draw(start: int, stop: int, cell: int = cell) -> SampleDraw:
            return SampleDraw(losses[cell, order[start:stop]].astype(np.float64))

        rows[cell], samples = estimate_cell(draw, (), [known[other] for other in hierarchy.neighbours(cell)], goal)
        if level < hierarchy.count - 1:
            known[cell] = control_variate_of(rows[cell], (), samples)
    table = np.stack([rows[cell] for cell in range(grid.size)])
    return Replay(table[:, ESTIMATE], table[:, ERROR], truth, table[:, 0])


def covered(found: list[Replay], level: np.ndarray) -> tuple[float, list[float], list[float]]:
    """How often the truth lies within two stated errors: of all cells, in five bands of the loss, and on each level."""
    within = np.stack([np.abs(each.found - each.truth) <= 2 * each.error + 1e-9 for each in found])
    order = np.argsort(np.mean([each.truth for each in found], axis=0), kind="stable")
    bands = [float(within[:, part].mean()) for part in np.array_split(order, 5)]
    return float(within.mean()), bands, [float(within[:, level == each].mean()) for each in range(level.max() + 1)]
