"""Effective dimension: sum of max(v, 0) / (max(v, 0) + z) over the eigenvalues v, with bounds for those not computed.

    found = effective_dimension(pairs.values, z=1e-3, size=850_000, highest=pairs.bounds[1], spectrum=spectrum)
    found.value, found.error          # estimate of the whole, with its standard error
    found.known, found.low, found.high

Maddox, Benton and Wilson, arXiv 2003.02139. For the Hessian of the mean loss the z that matches a weight decay is the
weight decay itself; for the loss summed over N samples it would be N times that.

The bounds hold for any symmetric operator, negative and repeated eigenvalues included, but for a probability of RISK each.
Ritz values never exceed the eigenvalues of the same rank, so what they contribute is a lower bound. The rest comes from the
quadrature rules of stochastic Lanczos: by the Chebyshev-Markov-Stieltjes inequalities (Akhiezer, The Classical Moment
Problem, section 2.5) the measure of a probe between two nodes is known up to the weights of those nodes, and an increasing
function's integral follows from that; how far a probe may be from the spectrum is bounded as for any weighted chi-square
variable (Laurent and Massart, Ann. Statist. 28, 2000, lemma 1).

The estimate is the mean of the probes' quadratures. Its standard error has two parts: the spread over probes, which for vectors
that are uniform on the sphere follows from the traces of F and F^2, F = max(A, 0) / (max(A, 0) + z), and what the rules do not
resolve: what changes when half or a quarter of their steps are left out, or how far the share bends between neighbouring
nodes, whichever is more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossatlas.hessian.density import Spectrum

RISK = 1e-3  # of each bound


@dataclass(frozen=True)
class Dimension:
    """known: from the computed eigenvalues. low, high: bounds of the whole. value, error: estimate of the whole, and its
    standard error, NaN without a density."""

    known: float
    low: float
    high: float
    value: float = math.nan
    error: float = math.nan


def share(values: np.ndarray | float, z: float) -> np.ndarray:
    positive = np.clip(
        np.asarray(values, dtype=np.float64), 0, np.finfo(np.float64).max / 2
    )  # an infinite one counts 1
    return positive / (positive + z)


def effective_dimension(
    values: Sequence[float] | np.ndarray,
    z: float,
    *,
    size: int,
    highest: float = math.inf,
    spectrum: Spectrum | None = None,
) -> Dimension:
    """Of an operator with `size` eigenvalues, of which `values` are the largest Ritz values; negative ones count nothing.

    highest: no eigenvalue is above it. spectrum: from `density`. Without it the rest may be anything from 0 to `highest`.
    Raises ValueError for z <= 0.
    """
    if not z > 0:
        raise ValueError(f"z = {z}: the regularization must be positive")
    known = float(share(np.asarray(values), z).sum())
    if len(values) >= size:
        return Dimension(known, known, known, known, 0.0)
    low, high = known, size * float(share(highest, z))
    if spectrum is None:
        return Dimension(known, low, max(high, low))
    below, above = by_quadrature(spectrum, z, size)
    low, high = max(low, below), min(high, above)
    return Dimension(known, low, max(high, low), *estimate(spectrum, z, size))


NOTHING = 1e-25  # a weight: the node belongs to another invariant subspace than the probe


def estimate(spectrum: Spectrum, z: float, size: int) -> tuple[float, float]:
    """The mean of the probes' quadratures, and its standard error."""
    sums, squares, unresolved = [], [], []
    for nodes, weights in map(trimmed, spectrum.nodes, spectrum.weights):
        ended = bool((weights < NOTHING).any()) or len(nodes) >= size  # in an invariant subspace: the rule is exact
        nodes, weights = nodes[weights >= NOTHING], weights[weights >= NOTHING]
        sums.append(size * float(weights @ share(nodes, z)))
        squares.append(size * float(weights @ share(nodes, z) ** 2))
        fewer = [sums[-1] - size * by_fewer(nodes, weights, z, part) for part in (2, 4)]
        unresolved.append([0.0] * 3 if ended else [*fewer, size * bend(nodes, weights, z)])
    value, a = float(np.mean(sums)), math.sqrt(0.5 / len(sums))
    square = (a + math.sqrt(a * a + float(np.mean(squares)))) ** 2  # at most, but for a probability of 0.4
    spread = 2 * max(square - value**2 / size, 0.0) / len(sums)
    return value, math.sqrt(spread + float(np.abs(np.mean(unresolved, axis=0)).max()) ** 2)


def trimmed(nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A probe's rule without what it was padded with to the length of the longest: its last node again, of no weight."""
    count = len(nodes)
    while count > 1 and weights[count - 1] == 0 and nodes[count - 1] == nodes[count - 2]:
        count -= 1
    return nodes[:count], weights[:count]


def bend(nodes: np.ndarray, weights: np.ndarray, z: float) -> float:
    """How far the share at the nodes is from the chords between their neighbours, on average: what a rule of these nodes takes
    for one eigenvalue may be many between the neighbours. Below the lowest node is 0, at most."""
    around = np.concatenate([[min(0.0, 2 * nodes[0])], nodes, [nodes[-1]]])
    left, right, at = around[:-2], around[2:], nodes
    part = np.where(right > left, (at - left) / np.where(right > left, right - left, 1), 0.5)
    chord = (1 - part) * share(left, z) + part * share(right, z)
    return float(weights @ np.abs(share(at, z) - chord))


def by_fewer(nodes: np.ndarray, weights: np.ndarray, z: float, part: int) -> float:
    """What the same probe's rule gives when the last `part`-th of its steps is left out; 0 where nothing is left."""
    kept = len(nodes) - max(1, len(nodes) // part)
    if kept < 1:
        return 0.0
    vectors = [np.sqrt(weights)]
    for _ in range(kept - 1):  # Lanczos on the nodes, from the weights, gives the rule back
        fresh = nodes * vectors[-1]
        for _ in range(2):
            for vector in vectors:
                fresh = fresh - (vector @ fresh) * vector
        vectors.append(fresh / max(float(np.linalg.norm(fresh)), 1e-300))
    basis = np.stack(vectors)
    values, rotation = np.linalg.eigh((basis * nodes) @ basis.T)
    return float(rotation[0] ** 2 @ share(values, z))


def by_quadrature(spectrum: Spectrum, z: float, size: int) -> tuple[float, float]:
    """Bounds of the whole from the probes' rules."""
    lows, highs = [], []
    for nodes, weights in zip(spectrum.nodes, spectrum.weights, strict=True):
        at, weights = share(nodes[weights > 0], z), weights[weights > 0]
        exact = len(at) >= size
        lows.append(size * (weights @ (at if exact else np.array([0.0, *at[:-1]]))))
        highs.append(size * (weights @ (at if exact else np.array([*at[1:], 1.0]))))
    a = math.sqrt(-math.log(RISK) / len(lows))
    low, high = float(np.mean(lows)), float(np.mean(highs))
    return max(math.sqrt(max(low - a * a, 0.0)) - a, 0.0) ** 2, (a + math.sqrt(a * a + high)) ** 2
