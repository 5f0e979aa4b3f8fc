"""The density of the whole spectrum by stochastic Lanczos quadrature.

    found = density(operator, probes=8, steps=80)
    found.grid, found.density, found.cumulative

Each Gaussian probe's Lanczos run gives a quadrature rule, whose nodes are Ritz values and whose weights are the squared
first components of their coordinates (Ghorbani, Krishnan and Xiao, ICML 2019; Ubaru, Chen and Saad, 2017).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lossatlas.hessian.lanczos import Operator, lanczos


@dataclass(frozen=True)
class Spectrum:
    """Curves over eigenvalues, one row for each probe, and their mean.

    nodes, weights: (probes, steps), the quadrature rules; each row of weights sums to 1. grid: (points,). density:
    (points,), which integrates to 1, and density_se; cumulative: (points,), the share of eigenvalues at most there,
    and cumulative_se. sigma: the width of the Gaussian by which the density is smoothed.
    """

    nodes: np.ndarray
    weights: np.ndarray
    grid: np.ndarray
    density: np.ndarray
    density_se: np.ndarray
    cumulative: np.ndarray
    cumulative_se: np.ndarray
    sigma: float
    products: int


def density(
    operator: Operator,
    *,
    probes: int = 8,
    steps: int = 80,
    points: int = 1000,
    sigma: float | None = None,
    seed: int = 0,
    first: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[int, float], None] = lambda products, residual: None,
) -> Spectrum:
    """Density and cumulative curve from `probes` Lanczos runs of at most `steps` products. sigma: see `smoothing`.

    first: nodes and weights of a run from a Gaussian vector that is there already, which then is the first probe.
    """
    rules, products = [] if first is None else [first], 0
    for probe in range(len(rules), probes):
        done = products
        run = lanczos(
            operator,
            top=1,
            bottom=1,
            tolerance=0.0,
            most=steps,
            seed=seed + probe,
            progress=lambda n, r: progress(done + n, r),  # noqa: B023
        )
        products += run.products
        rules.append(run.rule())
    longest = max(len(values) for values, _ in rules)
    nodes = np.array([np.pad(values, (0, longest - len(values)), mode="edge") for values, _ in rules])
    weights = np.array([np.pad(w, (0, longest - len(w))) for _, w in rules])
    low, high = nodes.min(), nodes.max()
    sigma = sigma or smoothing(low, high)
    grid = np.linspace(low - 5 * sigma, high + 5 * sigma, points)
    distance = (grid[None, :, None] - nodes[:, None, :]) / sigma
    curves = (weights[:, None, :] * np.exp(-(distance**2) / 2)).sum(2) / (sigma * np.sqrt(2 * np.pi))
    steps_up = (weights[:, None, :] * (distance >= 0)).sum(2)
    return Spectrum(
        nodes,
        weights,
        grid,
        curves.mean(0),
        standard_error(curves),
        steps_up.mean(0),
        standard_error(steps_up),
        float(sigma),
        products,
    )


def smoothing(low: float, high: float) -> float:
    """A sigma for a spectrum from low to high: at most 1 % of the range, and about one point of the grid at least.

    Most eigenvalues are near zero. Between these, six sigmas reach from zero to the nearer end, so that the mass near zero is not
    smeared beyond it.
    """
    extent = high - low
    nearest = min(abs(low), abs(high)) if low < 0 < high else 0.0
    return max(float(np.clip(nearest / 6, 0.0015 * extent, 0.01 * extent)), 1e-12)


def standard_error(curves: np.ndarray) -> np.ndarray:
    if len(curves) == 1:
        return np.full(curves.shape[1], np.nan)
    return curves.std(0, ddof=1) / np.sqrt(len(curves))
