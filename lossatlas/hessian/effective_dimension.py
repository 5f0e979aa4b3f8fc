"""Effective dimension: sum of max(v, 0) / (max(v, 0) + z) over the eigenvalues v, with bounds for those not computed.

    found = effective_dimension(pairs.values, z=1e-3, size=850_000, highest=pairs.bounds[1], spectrum=spectrum)
    found.value, found.error          # estimate of the whole, with its standard error
    found.known, found.low, found.high

Maddox, Benton and Wilson, arXiv 2003.02139. For the Hessian of the mean loss, the z that matches a weight
decay is the weight decay itself; for the loss summed over N samples it is N times that.

The bounds hold for any symmetric operator, negative and repeated eigenvalues included, each with probability 1 - RISK.
Ritz values never exceed the eigenvalues of the same rank, so their sum is a lower bound. The rest follows from the
quadrature rules of stochastic Lanczos: by the Chebyshev-Markov-Stieltjes inequalities (Akhiezer, The Classical Moment
Problem, section 2.5) the measure of a probe between two nodes is known up to the weights of those nodes, which bounds
the integral of an increasing function; the deviation of a probe from the spectrum is bounded as for any weighted
chi-square variable (Laurent and Massart, Ann. Statist. 28, 2000, lemma 1).

The estimate is the mean of the probes' quadratures. Its standard error has two parts. One is the variance over probes,
which for vectors uniform on the sphere follows from the traces of F and F^2 with F = max(A, 0) / (max(A, 0) + z). The
other is the resolution of the rules: the change when half or a quarter of their steps are left out, or the deviation of
the summand from chords between neighbouring nodes, whichever is larger.
"""

import math
from collections.abc import Sequence

import numpy as np

from lossatlas.landscape.spectrum import Dimension, Spectrum

RISK = 1e-3  # of each bound
NEGLIGIBLE = 1e-25  # a weight: the node belongs to another invariant subspace than the probe


def eigenvalue_share(values: np.ndarray | float, z: float) -> np.ndarray:
    """Compute max(v, 0) / (max(v, 0) + z) of each value v."""
    largest = np.finfo(np.float64).max / 2  # an infinite value counts 1
    positive = np.clip(np.asarray(values, dtype=np.float64), 0, largest)
    return positive / (positive + z)


def effective_dimension(
    values: Sequence[float] | np.ndarray,
    z: float,
    *,
    size: int,
    highest: float = math.inf,
    spectrum: Spectrum | None = None,
) -> Dimension:
    """Compute the effective dimension of an operator from some of its eigenvalues and a density.

    Args:
        values: The largest Ritz values; negative ones count 0.
        z: Regularization, in units of the eigenvalues.
        size: Number of eigenvalues of the operator.
        highest: Upper bound of all eigenvalues.
        spectrum: The result of `density`. Without it each further eigenvalue may be anything up to `highest`.

    Returns:
        Bounds, and with a spectrum an estimate.

    Raises:
        ValueError: z is not positive.

    Example:
        >>> from lossatlas.hessian import effective_dimension
        >>> effective_dimension([3.0, 1.0, 0.0], z=1.0, size=3).value
        1.25
    """
    if not z > 0:
        raise ValueError(f"z = {z}: the regularization must be positive")
    known = float(eigenvalue_share(np.asarray(values), z).sum())
    if len(values) >= size:
        return Dimension(known, known, known, known, 0.0)
    low, high = known, size * float(eigenvalue_share(highest, z))
    if spectrum is None:
        return Dimension(known, low, max(high, low))
    below, above = by_quadrature(spectrum, z, size)
    low, high = max(low, below), min(high, above)
    return Dimension(known, low, max(high, low), *estimate(spectrum, z, size))


def estimate(spectrum: Spectrum, z: float, size: int) -> tuple[float, float]:
    """Estimate the dimension by the mean of the probes' quadratures, with its standard error."""
    sums, squares, unresolved = [], [], []
    for nodes, weights in map(trimmed, spectrum.nodes, spectrum.weights):
        ended = bool((weights < NEGLIGIBLE).any()) or len(nodes) >= size  # in an invariant subspace: the rule is exact
        nodes, weights = nodes[weights >= NEGLIGIBLE], weights[weights >= NEGLIGIBLE]
        sums.append(size * float(weights @ eigenvalue_share(nodes, z)))
        squares.append(size * float(weights @ eigenvalue_share(nodes, z) ** 2))
        fewer = [sums[-1] - size * by_fewer_steps(nodes, weights, z, part) for part in (2, 4)]
        unresolved.append([0.0] * 3 if ended else [*fewer, size * chord_deviation(nodes, weights, z)])
    value, a = float(np.mean(sums)), math.sqrt(0.5 / len(sums))
    square = (a + math.sqrt(a * a + float(np.mean(squares)))) ** 2  # an upper bound with probability 0.6
    spread = 2 * max(square - value**2 / size, 0.0) / len(sums)
    return value, math.sqrt(spread + float(np.abs(np.mean(unresolved, axis=0)).max()) ** 2)


def trimmed(nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove the padding of a probe's rule, see `density.padded_rules`."""
    count = len(nodes)
    while count > 1 and weights[count - 1] == 0 and nodes[count - 1] == nodes[count - 2]:
        count -= 1
    return nodes[:count], weights[:count]


def chord_deviation(nodes: np.ndarray, weights: np.ndarray, z: float) -> float:
    """Average how far the share at the nodes is from the chords between their neighbours.

    A node stands for one eigenvalue or for many between its neighbours. The lower neighbour of the lowest node is at
    most 0.
    """
    around = np.concatenate([[min(0.0, 2 * nodes[0])], nodes, [nodes[-1]]])
    left, right, at = around[:-2], around[2:], nodes
    part = np.where(right > left, (at - left) / np.where(right > left, right - left, 1), 0.5)
    chord = (1 - part) * eigenvalue_share(left, z) + part * eigenvalue_share(right, z)
    return float(weights @ np.abs(eigenvalue_share(at, z) - chord))


def by_fewer_steps(nodes: np.ndarray, weights: np.ndarray, z: float, part: int) -> float:
    """Evaluate a probe's rule without its last steps.

    Args:
        nodes: Ritz values (steps,).
        weights: Their weights (steps,), of sum 1.
        z: The added constant of the effective dimension.
        part: A 1 / `part` of the steps is left out, at least one.

    Returns:
        The mean of |value| / (|value| + z) by the shorter rule; 0 where no step remains.
    """
    kept = len(nodes) - max(1, len(nodes) // part)
    if kept < 1:
        return 0.0
    vectors = [np.sqrt(weights)]
    for _ in range(kept - 1):  # Lanczos on the nodes, from the weights, restores the rule
        fresh = nodes * vectors[-1]
        for _ in range(2):
            for vector in vectors:
                fresh = fresh - (vector @ fresh) * vector
        vectors.append(fresh / max(float(np.linalg.norm(fresh)), 1e-300))
    basis = np.stack(vectors)
    values, rotation = np.linalg.eigh((basis * nodes) @ basis.T)
    return float(rotation[0] ** 2 @ eigenvalue_share(values, z))


def by_quadrature(spectrum: Spectrum, z: float, size: int) -> tuple[float, float]:
    """Bound the dimension from the probes' rules."""
    lows, highs = [], []
    for nodes, weights in zip(spectrum.nodes, spectrum.weights, strict=True):
        at, weights = eigenvalue_share(nodes[weights > 0], z), weights[weights > 0]
        exact = len(at) >= size
        lows.append(size * (weights @ (at if exact else np.array([0.0, *at[:-1]]))))
        highs.append(size * (weights @ (at if exact else np.array([*at[1:], 1.0]))))
    a = math.sqrt(-math.log(RISK) / len(lows))
    low, high = float(np.mean(lows)), float(np.mean(highs))
    return max(math.sqrt(max(low - a * a, 0.0)) - a, 0.0) ** 2, (a + math.sqrt(a * a + high)) ** 2
