"""A loss surface: a grid, statistics and fields at its cells, which cells are done, and where it came from.

Cells are numbered row by row: cell j * nx + i is the point (x[i], y[j]); arrays have shape (ny, nx), or (nx,) in 1-D.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from errors import BadUsage

# What a worker reports of one cell and one split, as a row of float64: sums over its samples of weight, weight * loss and
# so on (the 2 and 4 behind a factor is its power); a term of the parameters alone; how many BatchNorm variances were set to
# zero; and what the standard error is at least, see Tolerance. Metrics follow as sums of weight * metric.
MOMENTS = ("weight2", "weight2_loss", "weight2_loss2", "weight4", "weight4_loss", "weight4_loss2", "weight4_loss3",
           "weight4_loss4")  # fmt: skip
STATISTICS = ("n", "weight", "weight_loss", "weight_loss2", *MOMENTS, "penalty", "clamped", "least_se")
PENALTY, CLAMPED, LEAST_SE = (STATISTICS.index(name) for name in ("penalty", "clamped", "least_se"))
FEWEST_SAMPLES = 1000
FEWEST_CARRIERS = 20  # samples that the spread of the losses has to rest on before a standard error is believed
DOUBT = 1.5  # a standard error that rests on c samples is stated 1 + DOUBT / sqrt(c) times as large
WELL_BELOW = 10  # with fewer, the standard error has to be so many times smaller than allowed; nor is it stated smaller


@dataclass(frozen=True)
class Grid:
    """The cells: x has shape (nx,), y has shape (ny,) or is None for a curve."""

    x: np.ndarray
    y: np.ndarray | None = None

    @classmethod
    def parse(cls, x: str, y: str | None = None) -> "Grid":
        """From 'min:max:num' for each axis. Raises BadUsage."""
        return cls(parse_range("--x", x), None if y is None else parse_range("--y", y))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.x),) if self.y is None else (len(self.y), len(self.x))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def point(self, cell: int) -> tuple[float, float]:
        """The coordinates (a, b) of a cell; b is 0 on a curve."""
        j, i = divmod(cell, len(self.x))
        return float(self.x[i]), 0.0 if self.y is None else float(self.y[j])

    def coarse_first(self) -> np.ndarray:
        """All cells, those of coarse sub-grids first, so that an unfinished surface already shows its shape."""
        levels = (
            np.maximum.outer(*(refinement(n) for n in self.shape)) if self.y is not None else refinement(len(self.x))
        )
        return np.argsort(levels.ravel(), kind="stable")

    def matches(self, other: "Grid") -> bool:
        """Equal shape, and coordinates equal up to rounding of the last digits."""
        if self.shape != other.shape:
            return False
        pairs = [(self.x, other.x)] if self.y is None or other.y is None else [(self.x, other.x), (self.y, other.y)]
        return all(same_coordinates(a, b) for a, b in pairs)

    def __str__(self) -> str:
        axes = [self.x] if self.y is None else [self.x, self.y]
        return " x ".join(f"[{a[0]:.6g}, {a[-1]:.6g}] in {len(a)}" for a in axes)


def same_coordinates(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to rounding, which is small against the distance of two neighbours too."""
    rounding = 1e-9 * max(float(np.abs(a).max()), float(np.abs(b).max()))
    spacing = min(float(np.diff(a).min()), float(np.diff(b).min())) if len(a) > 1 else math.inf
    return bool((np.abs(a - b) <= min(rounding, 1e-3 * abs(spacing))).all())


def parse_range(option: str, text: str) -> np.ndarray:
    parts = text.split(":")
    try:
        low, high, number = float(parts[0]), float(parts[1]), int(float(parts[2]))
        if len(parts) != 3 or number != float(parts[2]) or not math.isfinite(low + high):
            raise ValueError
    except (ValueError, IndexError, OverflowError):
        raise BadUsage(f"{option}={text}: give min:max:num, as in {option}=-1:1:51") from None
    if number < 1 or (number == 1) != (low == high) or low > high:
        raise BadUsage(f"{option}={text}: needs min < max and at least 2 points (or min = max and 1 point)")
    if number > 1_000_000:
        raise BadUsage(f"{option}={text}: {number} points on an axis are more than a million")
    return np.linspace(low, high, number)


def refinement(n: int) -> np.ndarray:
    """The level at which each of n points is first visited when the spacing is halved from level to level."""
    stride = 1 << max(0, (n - 1).bit_length() - 2)
    levels = np.full(n, -1)
    for level in range(n.bit_length() + 1):
        chosen = np.arange(0, n, max(1, stride >> level))
        levels[chosen[levels[chosen] < 0]] = level
    return levels


@dataclass(frozen=True)
class Tolerance:
    """The standard error of a cell's loss that is small enough: the larger of relative * |loss| and absolute.

    The default, zero, asks for all samples.

    Where few samples carry the loss, the first ones may hold none of these, and agree all the better. So a standard error
    is not believed until FEWEST_CARRIERS samples carry the spread (see `carriers`), unless it is WELL_BELOW what is
    allowed; and none is stated that is smaller than allowed / WELL_BELOW. `benchmarks/tolerance.py` counts how often it
    holds. What fewer than one sample in 300 carry may still be missed by the first FEWEST_SAMPLES.
    """

    relative: float = 0.0
    absolute: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Tolerance":
        """From 'REL' or 'REL,ABS'. Raises BadUsage."""
        try:
            values = [float(part) for part in text.split(",")]
            if len(values) > 2 or not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
                raise ValueError
        except ValueError:
            raise BadUsage(f"--tolerance {text}: give REL or REL,ABS, as in --tolerance 0.02,0.05") from None
        return cls(*values)

    @property
    def exact(self) -> bool:
        return not (self.relative or self.absolute)

    def excess(self, statistics: Mapping[str, np.ndarray], population: int) -> np.ndarray:
        """The standard error in units of what is allowed: at most 1 where the samples are enough, or not finite."""
        known = summarize(statistics, population)
        with np.errstate(divide="ignore", invalid="ignore"):
            allowed = self.allowed(known["loss"])
            excess = np.where(known["loss_se"] > allowed, known["loss_se"] / allowed, 0.0)
        return np.where(np.isnan(known["loss_se"]) & np.isfinite(known["loss"]), np.inf, excess)

    def allowed(self, loss: np.ndarray) -> np.ndarray:
        return np.maximum(self.relative * np.abs(loss), self.absolute)

    def least_se(self, row: np.ndarray, population: int) -> float:
        """What a cell that stops with these statistics (in the order of STATISTICS) has to state at least."""
        if self.exact or row[0] >= population:
            return 0.0
        return float(self.allowed(summarize(as_statistics(row), population)["loss"])[0]) / WELL_BELOW

    def samples(self, row: np.ndarray, population: int) -> int:
        """How many samples a cell with these statistics (in the order of STATISTICS) needs, as far as they tell."""
        n = int(row[0])
        if self.exact:
            return population
        if n < min(FEWEST_SAMPLES, population):
            return min(FEWEST_SAMPLES, population)
        statistics = as_statistics(row, least_se=0.0)
        excess = float(self.excess(statistics, population)[0])
        if not excess > 1:
            strict = Tolerance(self.relative / WELL_BELOW, self.absolute / WELL_BELOW)
            believed = not carriers(statistics)[0] < FEWEST_CARRIERS or not strict.excess(statistics, population)[0] > 1
            return n if believed else min(population, 2 * n)
        # With a standard error of c * sqrt(1/n - 1/N), the allowed one takes 1/m = 1/N + (1/n - 1/N) / excess^2.
        wanted = 1 / (1 / population + (1 / n - 1 / population) / excess**2)
        return min(population, max(n + 1, min(math.ceil(wanted), 4 * n)))


@dataclass(frozen=True)
class Surface:
    """What is known on a grid. Immutable: `with_cells` returns a new one.

    done: which cells are computed (NaN and infinity are values). statistics[split][name]: float64 arrays of
    grid.shape, see STATISTICS. values: fields that are stored as such (eigenvalues, or the fields of a file that
    records no statistics). foreign: cells taken over from a file that records no provenance. populations[split]:
    how many samples the split has. plan and request: what decides the digits, and what was asked for. about: where it
    came from.
    """

    grid: Grid
    done: np.ndarray
    statistics: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    foreign: np.ndarray | None = None
    populations: Mapping[str, int] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_values(cls, grid: Grid, names: Sequence[str], **about: Any) -> "Surface":
        """Nothing known yet of these fields, which are stored as such."""
        return cls(
            grid, np.zeros(grid.shape, bool), values={name: np.full(grid.shape, np.nan) for name in names}, **about
        )

    @classmethod
    def empty(cls, grid: Grid, populations: Mapping[str, int], metrics: Sequence[str], **about: Any) -> "Surface":
        """Nothing known yet of the losses of these splits."""
        names = (*STATISTICS, *metrics)
        statistics = {split: {name: np.full(grid.shape, np.nan) for name in names} for split in populations}
        return cls(grid, np.zeros(grid.shape, bool), statistics, populations=dict(populations), **about)

    def pending(self, tolerance: Tolerance | None = None) -> np.ndarray:
        """Cells still to compute, coarse sub-grids first: not done, or with too large a standard error.

        What a plan puts into one call is complete: such cells are computed together, always in the same company.
        """
        waiting = ~self.done
        for split, statistics in self.statistics.items():
            waiting |= self.done & ((tolerance or Tolerance()).excess(statistics, self.populations[split]) > 1)
        order = self.grid.coarse_first()
        waits, company = waiting.ravel()[order], self.plan.get("points_per_call", 0) or 1
        return order[np.repeat(np.logical_or.reduceat(waits, np.arange(0, len(order), company)), company)[: len(order)]]

    def complete_part(self) -> tuple[np.ndarray, ...]:
        """Row and column numbers of the finest sub-grid whose cells are all done, for drawing an unfinished surface.

        All of them when the surface is complete, the bounding rows and columns at least.
        """
        levels = [refinement(n) for n in self.grid.shape]
        for finest in range(max(int(level.max()) for level in levels), -1, -1):
            chosen = [np.flatnonzero(level <= finest) for level in levels]
            if self.done[np.ix_(*chosen)].all():
                return tuple(chosen)
        return tuple(np.flatnonzero(level <= 0) for level in levels)

    @property
    def fields(self) -> dict[str, np.ndarray]:
        """Every field by name, of shape grid.shape, NaN where a cell is not done."""
        result = dict(self.values)
        for split, statistics in self.statistics.items():
            for name, value in summarize(statistics, self.populations[split]).items():
                old = self.values.get(f"{split}_{name}")
                if self.foreign is not None and old is not None:
                    value = np.where(self.foreign, old, value)
                result[f"{split}_{name}"] = value
        return {name: np.where(self.done, value, np.nan) for name, value in result.items()}

    def with_cells(self, cells: Sequence[int], rows: np.ndarray) -> "Surface":
        """Add computed cells; rows has shape (cells, splits, statistics), in the order of `statistics`.

        Where there are no statistics it has shape (cells, fields), in the order of `values`.
        """
        done, statistics, values = self.done.copy(), {}, dict(self.values)
        done.flat[cells] = True
        if not self.statistics:
            for column, (name, array) in enumerate(self.values.items()):
                values[name] = array.copy()
                values[name].flat[cells] = rows[:, column]
        for k, (split, arrays) in enumerate(self.statistics.items()):
            statistics[split] = {name: array.copy() for name, array in arrays.items()}
            for column, array in enumerate(statistics[split].values()):
                array.flat[cells] = rows[:, k, column]
        return replace(self, done=done, statistics=statistics, values=values)


def unresolved(surface: Surface, name: str) -> np.ndarray:
    """Where the eigenvalue `name` is not resolved: its residual, or the distance of the bound beyond which there is none,
    is above the tolerance, and above what rounding leaves.

    A file that records no bounds does not say whether a value is the extreme one, so none of its cells is resolved; one
    of the original release says nothing of the kind, and none is marked.
    """
    fields = surface.fields
    if f"{name}_residual" not in fields:
        return np.zeros(surface.grid.shape, bool)
    if f"{name}_bound" not in fields:
        return surface.done.copy()
    rounding = 1e-14 if surface.plan.get("precision") == "float64" else 2e-6
    largest = np.maximum(np.abs(fields["max_eig"]), np.abs(fields["min_eig"]))
    allowed = np.maximum(surface.request["tolerance"] * np.abs(fields[name]), rounding * largest)
    left = np.maximum(fields[f"{name}_residual"], np.abs(fields[f"{name}_bound"] - fields[name]))
    return left > allowed * (1 + 1e-9)


def with_moments(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The statistics of a file that was written before there were MOMENTS: all weights were 1.

    What they do not tell is NaN, and with it the standard error of cells for which not all samples were used.
    """
    s = {**statistics, "weight2": statistics["weight"], "weight4": statistics["weight"]}
    for name in ("loss", "loss2"):
        s[f"weight2_{name}"] = s[f"weight4_{name}"] = statistics[f"weight_{name}"]
    unknown = np.full(statistics["n"].shape, np.nan)
    s |= {"weight4_loss3": unknown, "weight4_loss4": unknown, "least_se": np.where(np.isnan(s["n"]), np.nan, 0.0)}
    return {name: s[name] for name in (*STATISTICS, *(name for name in statistics if name not in STATISTICS))}


def as_statistics(row: np.ndarray, **changed: float) -> dict[str, np.ndarray]:
    """One cell's statistics by name, (1,) each."""
    named = dict(zip(STATISTICS, row[: len(STATISTICS), None], strict=True))
    return {**named, **{name: np.array([value]) for name, value in changed.items()}}


def squared_deviations(statistics: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the samples of e^2 and e^4, with e = weight * (loss - mean), the terms of a weighted mean's error."""
    s = statistics
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        m = s["weight_loss"] / s["weight"]
        second = s["weight2_loss2"] - 2 * m * s["weight2_loss"] + m**2 * s["weight2"]
        fourth = (
            s["weight4_loss4"]
            - 4 * m * s["weight4_loss3"]
            + 6 * m**2 * s["weight4_loss2"]
            - 4 * m**3 * s["weight4_loss"]
            + m**4 * s["weight4"]
        )
    return np.maximum(second, 0), np.maximum(fourth, 0)


def carriers(statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many samples the spread rests on: (sum e^2)^2 / sum e^4, which is n for two equal groups and 1 for one outlier.

    The relative error of a variance from them is about 1 / sqrt(carriers).
    """
    second, fourth = squared_deviations(statistics)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.clip(np.where(second > 0, second**2 / fourth, statistics["n"]), 1, np.maximum(statistics["n"], 1))


def summarize(statistics: Mapping[str, np.ndarray], population: int) -> dict[str, np.ndarray]:
    """Mean loss, its standard error, accuracy (percent) and further metrics from the sums over samples.

    The standard error is that of a ratio of two sums (Cochran, Sampling Techniques, section 6.4) over `n` samples drawn
    without replacement from `population`: zero when all of them were used. It is stated larger where it rests on few
    samples, see `carriers` and DOUBT.
    """
    weight, n = statistics["weight"], statistics["n"]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = statistics["weight_loss"] / weight
        variance = squared_deviations(statistics)[0] / weight**2 * n / np.maximum(n - 1, 1)
        error = np.sqrt(variance * np.maximum(1 - n / population, 0)) * (1 + DOUBT / np.sqrt(carriers(statistics)))
        error = np.maximum(error, statistics["least_se"])
        result = {"loss": mean + statistics["penalty"], "loss_se": np.where(n >= population, 0.0, error)}
        for name, total in statistics.items():
            if name == "accuracy":
                result["acc"] = 100 * total / weight
            elif name not in STATISTICS:
                result[name] = total / weight
    return result
