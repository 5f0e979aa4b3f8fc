"""Estimates of cells from few samples, with neighbouring cells as control variates, level by level.

The losses of a sample at two neighbouring cells are nearly proportional. The few samples that a cell draws therefore
estimate the difference to its neighbours, whose means are known from many more samples of the same order. Coarse
sub-grids are computed first (see `hierarchy`), and finer ones use them: multilevel Monte Carlo (Giles, Acta Numerica
24, 2015) on a grid, with regression in place of differences (Cochran, Sampling Techniques, 1977, chapter 7). Needs only
numpy. `sample_count` decides how many samples are drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossatlas.landscape.statistics import (
    INFLATION,
    STATISTICS,
    as_statistics,
    estimates,
    rare_error,
    summarize,
)
from lossatlas.landscape.tolerance import MIN_EFFECTIVE_SAMPLES, WELL_BELOW

MIN_SAMPLE_RATIO = 1.5  # times the samples of a cell: a neighbour with fewer adds nothing as a control variate
COLLINEAR = 1e-2  # of the controls' variance: keeps a regression on nearly equal ones from large coefficients
MAX_MISSING_SPREAD = 2.0  # of the neighbours' spread over that of the same samples; above it, more samples are drawn
CONTROLLED_INFLATION = 1.0  # as statistics.INFLATION, for residuals of a regression; checked by benchmarks/levels.py
CONTROLLED_WELL_BELOW = 5  # as tolerance.WELL_BELOW, for residuals of a regression
NEGLIGIBLE = 1e-9  # of the range of the losses: below it, a residual is a rounding error
LARGEST = 1e30  # losses that float32 holds, and their squares float64
Samples = Mapping[str, np.ndarray]  # 'loss', 'weight' where samples have weights, and the metrics; (n,) each


@dataclass(frozen=True)
class ControlVariate:
    """A cell that is done, as its neighbours use it.

    Attributes:
        samples: The samples that it has drawn; those that no other cell can use may be left out.
        mean: The estimated mean of the loss and of each metric.
        error: The standard errors of these means.
        count: The number of samples that it has drawn.
    """

    samples: Samples
    mean: Mapping[str, float]
    error: Mapping[str, float]
    count: int


@dataclass(frozen=True)
class CellEstimate:
    """The estimated mean of a loss or metric, with its standard error.

    Attributes:
        mean: The estimate.
        error: Its standard error.
        own_error: The part of the error that is due to the cell's own samples.
        neighbour_error: The part that is due to the standard errors of the control variates.
        residual_size: The effective number of samples that the variance of the residuals is estimated from:
            (sum e^2)^2 / sum e^4, see `statistics.effective_samples`.
        controlled: Control variates are used.
        effective_size: The effective sample size of the weights: (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965).
        missing_spread: The standard deviation of a control variate over all its samples, divided by that over the
            samples of this cell; the largest of all control variates.
        largest_residual: The largest absolute residual of the regression.
    """

    mean: float
    error: float
    own_error: float
    neighbour_error: float
    residual_size: float
    controlled: bool = False
    effective_size: float = math.inf
    missing_spread: float = 1.0
    largest_residual: float = math.inf

    @property
    def reliable(self) -> bool:
        """True if the residuals' variance is estimated from enough samples; fewer are needed with control variates."""
        return self.residual_size >= (MIN_EFFECTIVE_SAMPLES / 2 if self.controlled else MIN_EFFECTIVE_SAMPLES)

    @property
    def representative(self) -> bool:
        """True if the cell's samples have nearly the spread of all samples of the neighbours, large losses included."""
        return self.missing_spread <= MAX_MISSING_SPREAD

    @property
    def inflation(self) -> float:
        """The factor by which the own error may be larger, if the samples are too few for a reliable variance."""
        return CONTROLLED_WELL_BELOW if self.controlled else WELL_BELOW


def usable_neighbours(neighbours: Sequence[ControlVariate], n: int) -> list[ControlVariate]:
    """Return the control variates with enough more samples than n, all of them small enough for a regression."""
    return [
        neighbour
        for neighbour in neighbours
        if neighbour.count >= MIN_SAMPLE_RATIO * n
        and math.isfinite(neighbour.error["loss"])
        and float(np.abs(neighbour.samples["loss"][:n]).max()) < LARGEST  # False for NaN
        and effective_sample_size(neighbour.samples, n) >= 2
        and not is_constant(neighbour.samples["loss"])
    ]


def estimate_mean(
    name: str,
    row: np.ndarray,
    samples: Samples,
    metrics: Sequence[str],
    neighbours: Sequence[ControlVariate],
    *,
    population: int,
) -> CellEstimate:
    """Estimate the mean of the loss or of a metric from a cell's samples and its control variates.

    Args:
        name: 'loss' or the name of a metric.
        row: The sums over the cell's samples.
        samples: The samples.
        metrics: Names of the metrics.
        neighbours: Control variates.
        population: The number of all samples of the split.
    """
    n, weight = int(row[0]), row[STATISTICS.index("weight")]
    column = STATISTICS.index("weight_loss") if name == "loss" else len(STATISTICS) + list(metrics).index(name)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = float(row[column] / weight)
    effective = effective_sample_size(samples, n)
    if n >= population:
        return CellEstimate(mean, 0.0, 0.0, 0.0, float(n))
    if not float(np.abs(samples[name]).max()) < LARGEST:  # True for NaN
        error = math.nan
        if name == "loss":
            error = float(summarize(as_statistics(row, least_se=0.0, penalty=0.0), population)["loss_se"][0])
        return CellEstimate(mean, error, error, 0.0, float(n))
    usable = [each for each in usable_neighbours(neighbours, n) if math.isfinite(each.error[name])]
    if effective < 2:
        return CellEstimate(mean, math.nan, math.nan, 0.0, 1.0, controlled=bool(usable), effective_size=effective)
    result = best_regression(name, mean, samples, usable, n=n, population=population)
    spreads = (deviation_scale(each, name) / deviation_scale(each, name, n) for each in usable)
    missing_spread = max(spreads, default=1.0)
    own_error = result.own_error * min(max(missing_spread, 1.0), MAX_MISSING_SPREAD)
    rare, widest = rare_error(n, effective, population), value_range(name, samples, neighbours)
    if name != "loss":
        own_error = max(own_error, widest * rare)
    elif (tied := tied_samples(samples, usable, n)).any():
        if result.largest_residual < NEGLIGIBLE * widest:  # the residuals are rounding errors
            result = replace(result, residual_size=0.0)
        is_continuous = len(np.unique(samples[name][:n][~tied])) >= MIN_EFFECTIVE_SAMPLES / 2
        jump = result.largest_residual if is_continuous else widest
        own_error = math.hypot(own_error, jump * math.sqrt(float(tied.mean())) * rare)
    error = math.hypot(own_error, result.neighbour_error)
    return replace(result, own_error=own_error, error=error, missing_spread=missing_spread, effective_size=effective)


def best_regression(
    name: str, mean: float, samples: Samples, neighbours: Sequence[ControlVariate], *, n: int, population: int
) -> CellEstimate:
    """Return the more accurate of the regressions on all neighbours and on their mean.

    If few samples dominate the variance, separate coefficients of the neighbours overfit these.

    Args:
        name: 'loss' or the name of a metric.
        mean: Mean of the n samples, with their weights.
        samples: The samples of the cell.
        neighbours: Control variates that have at least n samples and a finite error; none gives the plain mean.
        n: Number of samples of the cell.
        population: Number of all samples of the split.
    """
    residuals = deviations(samples, name, n)[1]
    controls = [deviations(neighbour.samples, name, n) for neighbour in neighbours]
    means = np.array([neighbour.mean[name] for neighbour in neighbours])
    errors = np.array([neighbour.error[name] for neighbour in neighbours])
    correlation = correlations(neighbours, name)
    found = [
        regress_on_controls(mean, residuals, controls, means, errors, population=population, correlation=correlation)
    ]
    if len(neighbours) > 1:
        middle = float(np.mean([at for at, _ in controls])), np.mean([each for _, each in controls], axis=0)
        error = np.array([error_of_sum(errors / len(neighbours), correlation)])
        found.append(
            regress_on_controls(mean, residuals, [middle], means.mean(keepdims=True), error, population=population)
        )
    return min(found, key=lambda each: each.error)


def is_constant(values: np.ndarray) -> bool:
    """Return whether all values are equal."""
    return bool((values == values[0]).all())


def tied_samples(samples: Samples, neighbours: Sequence[ControlVariate], n: int) -> np.ndarray:
    """Return which of the n samples have exactly the loss that they have at every neighbour; (n,) bool.

    Without neighbours, all samples are tied if all losses are equal, otherwise none. A loss that jumps (0-1) has such
    samples, and so has a loss that is constant in places (hinge). Their differences are zero, and say nothing about
    samples that jump and were not drawn.
    """
    own = samples["loss"][:n]
    if not neighbours:
        return np.full(n, is_constant(own))
    return np.logical_and.reduce([own == neighbour.samples["loss"][:n] for neighbour in neighbours])


def effective_sample_size(samples: Samples, n: int) -> float:
    """Return the effective size of the first n samples: (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965)."""
    if "weight" not in samples:
        return float(n)
    weight = samples["weight"][:n].astype(np.float64)
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def deviation_scale(neighbour: ControlVariate, name: str, n: int | None = None) -> float:
    """Return the root mean square deviation of (the first n of) a neighbour's samples, with a small positive term."""
    every = deviations(neighbour.samples, name, len(neighbour.samples[name]))[1]
    part = every if n is None else deviations(neighbour.samples, name, n)[1]
    return float(np.sqrt((part**2).mean())) + 1e-3 * float(np.sqrt((every**2).mean())) + np.finfo(float).tiny


def value_range(name: str, samples: Samples, neighbours: Sequence[ControlVariate]) -> float:
    """Return the range of the loss or metric over all samples at hand; 1 for accuracy, positive if all are equal."""
    if name == "accuracy":
        return 1.0
    every = np.concatenate([samples[name], *(neighbour.samples[name] for neighbour in neighbours)])
    every = every[np.abs(every) < LARGEST]  # leaves out NaN
    low, high = float(every.min()), float(every.max())
    return high - low if high > low else max(1.0, abs(high))


def deviations(samples: Samples, name: str, n: int) -> tuple[float, np.ndarray]:
    """Return the (weighted) mean of the first n samples, and weight * (value - mean) of each, (n,)."""
    values = samples[name][:n].astype(np.float64)
    if "weight" not in samples:
        mean = float(values.mean())
        return mean, values - mean
    weight = samples["weight"][:n].astype(np.float64)
    mean = float((weight * values).sum() / weight.sum())
    return mean, weight / weight.mean() * (values - mean)


def correlations(neighbours: Sequence[ControlVariate], name: str) -> np.ndarray:
    """Return the correlations of k neighbours over all samples that they have in common, so that large losses count.

    Returns:
        (k, k), clipped to between 0 and 1; 1 where a correlation is not known.
    """
    if len(neighbours) < 2:
        return np.ones((len(neighbours), len(neighbours)))
    common = min(len(neighbour.samples[name]) for neighbour in neighbours)
    with np.errstate(invalid="ignore"):  # an infinite loss
        different = np.stack([deviations(neighbour.samples, name, common)[1] for neighbour in neighbours])
        length = np.sqrt((different**2).sum(1))
        length[length == 0] = 1.0
        unit = different / length[:, None]
        return np.clip(np.nan_to_num(np.einsum("in,jn->ij", unit, unit), nan=1.0), 0, 1)


def error_of_sum(errors: np.ndarray, correlation: np.ndarray) -> float:
    """Return the standard error of a sum whose terms' errors are as correlated as the losses, whatever their signs.

    They are not more correlated: each comes from the first samples of one order, and what two of them have from
    neighbours in common comes from more samples than what they have of their own (MIN_SAMPLE_RATIO).

    Args:
        errors: Standard errors of the terms, (k,).
        correlation: Correlations of the losses, (k, k).
    """
    return math.sqrt(max(float(np.einsum("i,ij,j->", errors, correlation, errors)), float((errors**2).max())))


def regress_on_controls(
    mean: float,
    residuals: np.ndarray,
    controls: Sequence[tuple[float, np.ndarray]],
    means: np.ndarray,
    errors: np.ndarray,
    *,
    population: int,
    correlation: np.ndarray | None = None,
) -> CellEstimate:
    """Estimate a mean over all samples from n of them, by regression on k controls with known means.

    Least squares is optimal here: the controls were estimated from the same n samples and further ones, so the
    residuals are not correlated with the errors of the controls. The regression estimator is from Cochran, Sampling
    Techniques, 1977, section 7.3.

    Args:
        mean: The mean of the n samples.
        residuals: Their deviations, (n,), see `deviations`; the controls explain a part of them.
        controls: The same for each control, over the same n samples.
        means: The means of the controls over all samples, (k,).
        errors: The standard errors of these, (k,).
        population: The number of all samples.
        correlation: Correlations of the errors, (k, k), see `error_of_sum`; 1 by default.
    """
    n, k = len(residuals), len(controls)
    factor = 1 / n - 1 / population
    neighbour_error = 0.0
    if k:
        others = np.stack([deviation for _, deviation in controls])
        scale = np.sqrt((others**2).mean(1))
        scale[scale == 0] = 1.0
        scaled = others / scale[:, None]
        matrix = np.einsum("in,jn->ij", scaled, scaled) / n
        matrix += COLLINEAR * np.eye(k)
        coefficients = np.linalg.solve(matrix, np.einsum("in,n->i", scaled, residuals) / n) / scale
        residuals = residuals - np.einsum("i,in->n", coefficients, others)
        mean += float((coefficients * (means - [at for at, _ in controls])).sum())
        neighbour_error = error_of_sum(
            np.abs(coefficients) * errors, np.ones((k, k)) if correlation is None else correlation
        )
    freedom = max(n - 1 - k, 1)
    own_error = math.sqrt((residuals**2).sum() / freedom * factor * (1 + k / freedom))
    largest = float(np.abs(residuals).max())
    unit = residuals / largest if largest > 0 else np.ones(n)
    residual_size = float((unit**2).sum() ** 2 / (unit**4).sum())
    own_error *= 1 + (CONTROLLED_INFLATION if k else INFLATION) / math.sqrt(residual_size)
    return CellEstimate(
        mean,
        math.hypot(own_error, neighbour_error),
        own_error,
        neighbour_error,
        residual_size,
        controlled=k > 0,
        largest_residual=largest,
    )


def control_variate_of(
    row: np.ndarray, metrics: Sequence[str], samples: Samples, *, cut: bool = True
) -> ControlVariate:
    """Return a cell that is done as a control variate.

    Args:
        row: Its row.
        metrics: Names of the metrics.
        samples: Its samples.
        cut: Leave out samples that no other cell can use.
    """
    columns = dict(zip(estimates(metrics), row[len(STATISTICS) + len(metrics) :], strict=True))
    count = int(row[0])
    names = ("loss", *metrics)
    pairs = [("estimate", "estimate_se"), *((f"{name}_estimate", f"{name}_se") for name in metrics)]
    part = math.ceil(count / MIN_SAMPLE_RATIO) if cut else count
    return ControlVariate(
        {name: array[:part] for name, array in samples.items()},
        {name: float(columns[mean]) for name, (mean, _) in zip(names, pairs, strict=True)},
        {name: float(columns[error]) for name, (_, error) in zip(names, pairs, strict=True)},
        count,
    )
