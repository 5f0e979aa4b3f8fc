"""The local learning coefficient of a minimum, from draws of the loss around it, and what speaks against it.

The coefficient measures how fast the volume of parameters shrinks whose loss is below that of the minimum plus a small
amount: half the number of parameters at a minimum with a regular Hessian, less at a degenerate one (Watanabe, Algebraic
Geometry and Statistical Learning Theory, 2009). Its estimate is n beta (E[L(w)] - L(w*)), see `hessian.langevin`.
"""

import math
from dataclasses import dataclass

import numpy as np

LARGEST_SPREAD = 1.1  # of the potential scale reduction, above which chains disagree
SLOWEST_GROWTH = 1.5  # power of the distance, below which draws are not in the valley of a minimum
LARGEST_GRADIENT_PART = 0.1  # of the rest of the estimate, that comes from the gradient at the network itself
LARGEST_NOISE = 0.2  # of mini-batches, relative to the noise of the dynamics
FEWEST_DRAWS = 4  # with which halves of chains are compared
DRIFT_RISK = 0.01  # the probability that draws without a drift, or within a valley, are said to be otherwise


@dataclass(frozen=True)
class LearningCoefficientEstimate:
    """A local learning coefficient, and what speaks against it.

    Attributes:
        value: The mean over the chains.
        error: Its standard error over the chains; NaN for one chain.
        chains: (chains,) the estimate of each chain.
        spread: The potential scale reduction of the chains' halves (Gelman and others, Bayesian Data Analysis, 3rd
            edition, section 11.4), 1 where all of them have the same distribution.
        growth: The power with which the loss grows with the distance from the minimum, along the draws: the mean of its
            derivative along w - w* over that of its rise; 2 where it is quadratic, more where it is degenerate.
        drift: The change of the estimate from the first half of the draws to the second, in standard errors over the
            chains; NaN for one chain.
        first_order: The part of the estimate that comes from the gradient at the network itself, 0 at a minimum; NaN
            where it is not known.
        doubts: Sentences that say why not to believe the value; none where nothing was found.
    """

    value: float
    error: float
    chains: np.ndarray
    spread: float
    growth: float
    drift: float
    first_order: float
    doubts: tuple[str, ...]


def estimate_coefficient(
    differences: np.ndarray,
    slopes: np.ndarray,
    inverse_temperature: float,
    noise: float = 0.0,
    first_order: np.ndarray | None = None,
) -> LearningCoefficientEstimate:
    """Estimate a local learning coefficient from chains.

    Args:
        differences: (chains, draws) of the loss from that of the minimum, see `hessian.langevin`.
        slopes: (chains, draws) derivatives of the loss along the way from the minimum.
        inverse_temperature: n beta.
        noise: By how much the noise of mini-batches makes the variance of the draws too large, at most and relatively.
        first_order: (chains, draws) parts of first order of the differences, NaN in chains where they are not known.

    Example:
        >>> import numpy as np
        >>> draws = np.random.default_rng(0).gamma(2.0, 0.01, size=(4, 500))
        >>> found = estimate_coefficient(draws, 2 * draws, inverse_temperature=100.0)
        >>> round(found.value, 1), found.doubts
        (2.0, ())
    """
    values = inverse_temperature * np.asarray(differences, dtype=np.float64)
    chains, excess = values.mean(axis=1), inverse_temperature * (slopes - SLOWEST_GROWTH * differences).mean(axis=1)
    spread, drift = scale_reduction(values), drift_of(values)
    growth = float(np.mean(slopes) / np.mean(differences)) if np.mean(differences) else math.nan
    error = float(chains.std(ddof=1) / math.sqrt(len(chains))) if len(chains) > 1 else math.nan
    value = float(chains.mean())
    parts = np.full(len(chains), np.nan) if first_order is None else inverse_temperature * first_order.mean(axis=1)
    known = np.isfinite(parts) & np.isfinite(chains)
    part = float(parts[known].mean()) if known.any() else math.nan
    away = distance_from_minimum(float(chains[known].mean()) if known.any() else math.nan, part)
    found = (*reasons_to_doubt(value, values, spread, drift, at_minimum=not away), *saturation(excess), *away)
    if noise > LARGEST_NOISE:
        more = "the noise of the mini-batches makes the variance of the draws too large, by up to"
        found += (f"{more} {noise:.0%}: take a smaller learning rate, or larger mini-batches",)
    return LearningCoefficientEstimate(value, error, chains, spread, growth, drift, part, found)


def reasons_to_doubt(
    value: float, values: np.ndarray, spread: float, drift: float, *, at_minimum: bool
) -> tuple[str, ...]:
    """Say why not to believe an estimate.

    Args:
        value: The estimate.
        values: (chains, draws) of it.
        spread: The potential scale reduction.
        drift: The change between the halves of the draws, in standard errors.
        at_minimum: It is not known that the network is away from a minimum, which explains a negative value.
    """
    from scipy import stats

    diverged = int((~np.isfinite(values)).any(axis=1).sum())
    if diverged:
        return (f"{diverged} of {len(values)} chains left the finite numbers: take a smaller learning rate",)
    if not values.any():
        return ("the chains did not move: take a larger learning rate, or a longer burn-in",)
    found = []
    if values.shape[1] < FEWEST_DRAWS:
        found.append("there are too few draws to compare parts of the chains: take more")
    error = values.mean(1).std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    if abs(value) <= 2 * error:
        found.append("it is 0 within two standard errors: take more draws or chains")
    elif value < 0 and at_minimum:
        found.append(
            "it is negative: the chains found lower losses than that of the checkpoint, which is no minimum; "
            "train it further, or take a larger localization or a smaller learning rate"
        )
    if spread > LARGEST_SPREAD:
        apart = "chains" if len(values) > 1 else "halves of the chain"
        found.append(f"the {apart} disagree (scale reduction {spread:.2f}): take more draws, or a longer burn-in")
    if len(values) > 1 and 2 * stats.t.sf(abs(drift), len(values) - 1) < DRIFT_RISK:
        found.append(f"the draws still {'rise' if drift > 0 else 'fall'}: take a longer burn-in")
    if len(values) == 1:
        found.append("a single chain has no standard error: take several")
    return tuple(found)


def saturation(excess: np.ndarray) -> tuple[str, ...]:
    """Say that the draws have left the valley of the minimum.

    At a minimum the lowest term of a loss is of second order or higher, so that in its valley the derivative along w -
    w* is about twice the rise of the loss or more; beyond it the loss flattens.

    Args:
        excess: (chains,) mean derivatives of the loss along w - w*, less `SLOWEST_GROWTH` times its mean rises.
    """
    from scipy import stats

    if not np.isfinite(excess).all() or excess.mean() >= 0:
        return ()
    error = excess.std(ddof=1) / math.sqrt(len(excess)) if len(excess) > 1 else 0.0
    if error > 0 and stats.t.cdf(excess.mean() / error, len(excess) - 1) > DRIFT_RISK:
        return ()
    return (
        "the loss grows more slowly than with the square of the distance: the draws have left the valley of the "
        "network; take a larger localization",
    )


def distance_from_minimum(value: float, part: float) -> tuple[str, ...]:
    """Say that the network is not at a minimum, where its gradient matters for the estimate.

    Args:
        value: The estimate, of the chains whose part of first order is known.
        part: This part of it, 0 at a minimum; NaN where it is known of no chain.
    """
    if not value or not abs(part) > LARGEST_GRADIENT_PART * abs(value - part):
        return ()
    return (
        f"the network is not at a minimum: its gradient adds {part:.3g} to the estimate; train it further, or take a "
        "larger localization",
    )


def scale_reduction(values: np.ndarray) -> float:
    """Compute the potential scale reduction of the halves of chains (chains, draws); NaN for fewer than four draws."""
    half = values.shape[1] // 2
    if half < 2 or not np.isfinite(values).all():
        return math.nan
    halves = np.concatenate([values[:, :half], values[:, -half:]])
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    return math.sqrt((half - 1) / half + between / within) if within > 0 else 1.0


def drift_of(values: np.ndarray) -> float:
    """Compute the mean change of chains (chains, draws) between their halves, in its standard errors over chains."""
    half = values.shape[1] // 2
    if half < 1 or len(values) < 2:
        return math.nan
    changes = values[:, -half:].mean(axis=1) - values[:, :half].mean(axis=1)
    error = changes.std(ddof=1) / math.sqrt(len(changes))
    return float(changes.mean() / error) if error > 0 else 0.0
