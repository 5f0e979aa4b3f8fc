"""The density of the whole spectrum by stochastic Lanczos quadrature.

    found = density(operator, probes=8, steps=80)
    found.grid, found.density, found.cumulative

The Lanczos run of each Gaussian probe gives a quadrature rule, whose nodes are Ritz values and whose weights are the
squared first components of their coordinates (Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos
quadrature, SIAM J. Matrix Anal. Appl. 38, 2017; Ghorbani, Krishnan and Xiao, ICML 2019, Algorithm 1).
"""

from collections.abc import Callable, Sequence

import numpy as np

from lossatlas.hessian.lanczos import Operator, lanczos
from lossatlas.landscape.spectrum import Spectrum


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
    """Estimate the density of the eigenvalues and its cumulative curve.

    Args:
        operator: The operator.
        probes: Number of Gaussian start vectors.
        steps: Largest number of products for each of them.
        points: Number of points of the curves.
        sigma: Standard deviation of the Gaussian that smooths the density; see `smoothing` for the default.
        seed: Of the start vectors.
        first: Nodes and weights of an earlier run from a Gaussian vector, which serves as the first probe.
        progress: Called with the number of products and a residual after each product.

    Returns:
        The curves.

    Example:
        >>> import numpy as np
        >>> from lossatlas.hessian import density, of_matrix
        >>> found = density(of_matrix(np.diag(np.arange(50.0))), probes=4, steps=20)
        >>> round(float(found.density.sum() * (found.grid[1] - found.grid[0])), 2)
        1.0
    """
    rules, products = [] if first is None else [first], 0
    for probe in range(len(rules), probes):
        done = products
        run = lanczos(
            operator,
            top=1,
            bottom=1,
            tolerance=0.0,
            max_products=steps,
            seed=seed + probe,
            progress=lambda n, r: progress(done + n, r),  # noqa: B023
        )
        products += run.products
        rules.append(run.rule())
    nodes, weights = padded_rules(rules)
    return smoothed_spectrum(nodes, weights, points, sigma, products)


def smoothed_spectrum(
    nodes: np.ndarray, weights: np.ndarray, points: int, sigma: float | None, products: int
) -> Spectrum:
    """Compute the curves of quadrature rules.

    Args:
        nodes: Ritz values (probes, steps).
        weights: Their weights, (probes, steps), of sum 1 for each probe.
        points: Number of points of the grid.
        sigma: Standard deviation of the Gaussian that replaces a node, in units of eigenvalues; None chooses it.
        products: Number of products with the operator, which the result reports.
    """
    low, high = nodes.min(), nodes.max()
    sigma = sigma or smoothing(low, high)
    grid = np.linspace(low - 5 * sigma, high + 5 * sigma, points)
    distance = (grid[None, :, None] - nodes[:, None, :]) / sigma
    curves = (weights[:, None, :] * np.exp(-(distance**2) / 2)).sum(2) / (sigma * np.sqrt(2 * np.pi))
    steps_up = (weights[:, None, :] * (distance >= 0)).sum(2)
    return Spectrum(
        nodes=nodes,
        weights=weights,
        grid=grid,
        density=curves.mean(0),
        density_se=standard_error(curves),
        cumulative=steps_up.mean(0),
        cumulative_se=standard_error(steps_up),
        sigma=float(sigma),
        products=products,
    )


def padded_rules(rules: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Stack quadrature rules to (probes, steps), shorter ones padded by their last node with weight 0."""
    longest = max(len(values) for values, _ in rules)
    nodes = np.array([np.pad(values, (0, longest - len(values)), mode="edge") for values, _ in rules])
    weights = np.array([np.pad(w, (0, longest - len(w))) for _, w in rules])
    return nodes, weights


def smoothing(low: float, high: float) -> float:
    """Choose sigma for a spectrum from low to high: at most 1 % of the range, and about one point of the grid at least.

    Most eigenvalues are near zero. Between these limits six sigmas reach from zero to the nearer end, so that the
    density near zero is not smeared beyond that end.
    """
    extent = high - low
    nearest = min(abs(low), abs(high)) if low < 0 < high else 0.0
    return max(float(np.clip(nearest / 6, 0.0015 * extent, 0.01 * extent)), 1e-12)


def standard_error(curves: np.ndarray) -> np.ndarray:
    """Return the standard error (points,) of the mean of curves (probes, points), NaN for one curve."""
    if len(curves) == 1:
        return np.full(curves.shape[1], np.nan)
    return curves.std(0, ddof=1) / np.sqrt(len(curves))
