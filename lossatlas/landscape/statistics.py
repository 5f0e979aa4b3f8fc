"""Sums over the samples of a cell, from which mean, variance and standard error follow."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

# A row of float64 for one cell and one split: sums over its samples of weight, weight * loss and so on (a 2 or 4 after
# a factor is its power); the term of the parameters alone; the number of BatchNorm variances that were set to zero;
# and the smallest standard error that may be stated, see Tolerance. Metrics follow as sums of weight * metric.
MOMENTS = (
    "weight2",
    "weight2_loss",
    "weight2_loss2",
    "weight4",
    "weight4_loss",
    "weight4_loss2",
    "weight4_loss3",
    "weight4_loss4",
)
STATISTICS = ("n", "weight", "weight_loss", "weight_loss2", *MOMENTS, "penalty", "clamped", "least_se")
PENALTY, CLAMPED = (STATISTICS.index(name) for name in ("penalty", "clamped"))
INFLATION = 1.5  # a standard error from c effective samples is multiplied by 1 + INFLATION / sqrt(c)

# Columns in multilevel sampling, see `sample_count`: the mean loss without the term of the parameters, its standard
# error, the part of that error which is due to the cell's own samples, and the number of control variates.
ESTIMATE, ESTIMATE_SE, OWN_SE, CONTROL_COUNT = "estimate", "estimate_se", "own_se", "helpers"


def estimates(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the further columns in multilevel sampling: of the loss, then of each metric."""
    return (
        ESTIMATE,
        ESTIMATE_SE,
        OWN_SE,
        CONTROL_COUNT,
        *(f"{name}_{what}" for name in metrics for what in ("estimate", "se")),
    )


def metrics_of(names: Iterable[str]) -> list[str]:
    """Return the metrics among the names of a cell's statistics, in their order."""
    others = [name for name in names if name not in STATISTICS]
    return others[: others.index(ESTIMATE)] if ESTIMATE in others else others


def sums_of(loss: np.ndarray, weight: np.ndarray | None, metrics: Sequence[np.ndarray]) -> np.ndarray:
    """Return the row of sums over some samples.

    Args:
        loss: Losses, (n,) float64.
        weight: Weights, (n,), or None for 1.
        metrics: Metrics, (n,) each.

    Returns:
        STATISTICS, then the metrics, in float64.
    """
    w = np.ones_like(loss) if weight is None else weight
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.stack([loss**k for k in range(5)])
        moments = [(w * powers[:3]).sum(1), (w**2 * powers[:3]).sum(1), (w**4 * powers).sum(1)]
        totals = [(w * metric).sum() for metric in metrics]
    return np.concatenate([[len(loss)], *moments, [0.0] * (len(STATISTICS) - 1 - 3 - len(MOMENTS)), totals])


def with_moments(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Complete the statistics of a file from before there were MOMENTS, when all weights were 1.

    Moments that cannot be known are NaN, and with them the standard error of cells for which not all samples were used.

    Args:
        statistics: The sums in the file by name.

    Returns:
        All STATISTICS, then the metrics.
    """
    s = {**statistics, "weight2": statistics["weight"], "weight4": statistics["weight"]}
    for name in ("loss", "loss2"):
        s[f"weight2_{name}"] = s[f"weight4_{name}"] = statistics[f"weight_{name}"]
    unknown = np.full(statistics["n"].shape, np.nan)
    s |= {"weight4_loss3": unknown, "weight4_loss4": unknown, "least_se": np.where(np.isnan(s["n"]), np.nan, 0.0)}
    return {name: s[name] for name in (*STATISTICS, *(name for name in statistics if name not in STATISTICS))}


def as_statistics(row: np.ndarray, **changed: float) -> dict[str, np.ndarray]:
    """Return the statistics of one row by name, (1,) each; some of them changed."""
    named = dict(zip(STATISTICS, row[: len(STATISTICS), None], strict=True))
    return {**named, **{name: np.array([value]) for name, value in changed.items()}}


def squared_deviations(statistics: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums over the samples of e^2 and e^4, with e = weight * (loss - mean).

    These are the terms of the error of a weighted mean.
    """
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


def effective_samples(statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute the effective number of samples that the variance is estimated from: (sum e^2)^2 / sum e^4.

    It is n for two equal groups and 1 for one outlier. The relative error of a variance estimated from c effective
    samples is about 1 / sqrt(c).

    Args:
        statistics: Sums by name, arrays of one shape.

    Returns:
        An array of that shape, between 1 and the number of samples; e is weight * (loss - mean).
    """
    second, fourth = squared_deviations(statistics)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.clip(np.where(second > 0, second**2 / fourth, statistics["n"]), 1, np.maximum(statistics["n"], 1))


def rare_error(n: int, effective: float, population: int) -> float:
    """Return the standard error of a share of which n samples hold none, by Laplace's rule of succession: 1 of n + 2.

    Args:
        n: The number of samples.
        effective: Their effective size, see `control_variates.effective_sample_size`.
        population: The number of all samples.
    """
    count = effective + 2
    return math.sqrt((count - 1) / count**2 * (1 / n - 1 / population) * n / effective)


def summarize(statistics: Mapping[str, np.ndarray], population: int) -> dict[str, np.ndarray]:
    """Return mean loss, its standard error, accuracy and further metrics from the sums over samples.

    The standard error belongs to a ratio of two sums (Cochran, Sampling Techniques, 1977, section 6.4) over `n` samples
    drawn without replacement from `population`: zero when all of them were used. It is inflated by 1 + INFLATION /
    sqrt(c) for c `effective_samples`.

    Args:
        statistics: Sums by name, arrays of one shape.
        population: The number of all samples.

    Returns:
        `loss` (a mean, with the term of the parameters), `loss_se`, `acc` (percent) and other metrics (means) by name.
    """
    weight, n = statistics["weight"], statistics["n"]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = statistics["weight_loss"] / weight
        variance = squared_deviations(statistics)[0] / weight**2 * n / np.maximum(n - 1, 1)
        error = np.sqrt(variance * np.maximum(1 - n / population, 0)) * (
            1 + INFLATION / np.sqrt(effective_samples(statistics))
        )
        error = np.maximum(error, statistics["least_se"])
        if ESTIMATE in statistics:
            estimated = np.isfinite(statistics[ESTIMATE])
            mean = np.where(estimated, statistics[ESTIMATE], mean)
            error = np.where(estimated, statistics[ESTIMATE_SE], error)
        result = {"loss": mean + statistics["penalty"], "loss_se": np.where(n >= population, 0.0, error)}
        for name in metrics_of(statistics):
            value, unit = statistics[name] / weight, 100 if name == "accuracy" else 1
            field = "acc" if name == "accuracy" else name
            if ESTIMATE in statistics:
                estimated = np.isfinite(statistics[f"{name}_estimate"])
                value = np.where(estimated, statistics[f"{name}_estimate"], value)
                result[f"{field}_se"] = unit * statistics[f"{name}_se"]
            result[field] = unit * value
    return result
