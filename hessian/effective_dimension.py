"""Effective dimension: sum of max(v, 0) / (max(v, 0) + z) over the eigenvalues v, with bounds for those not computed.

    found = effective_dimension(pairs.values, z=1e-3, size=850_000, spectrum=spectrum)
    found.known, found.low, found.high

Maddox, Benton and Wilson, arXiv 2003.02139. For the Hessian of the mean loss the z that matches a weight decay is the
weight decay itself; for the loss summed over N samples it would be N times that.

The bounds hold for any symmetric operator, negative eigenvalues included, but for a probability of 2 * RISK. Two things
go into them. The trace: what it leaves for the rest is carried by at least so many eigenvalues. And the quadrature rules
of stochastic Lanczos: by the Chebyshev-Markov-Stieltjes inequalities (Akhiezer, The Classical Moment Problem, section 2.5)
the measure of a probe between two nodes is known up to the weights of those nodes, and an increasing function's integral
follows from that; how far a probe may be from the spectrum is bounded as for any weighted chi-square variable (Laurent and
Massart, Ann. Statist. 28, 2000, lemma 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hessian.density import Spectrum

RISK = 1e-3  # of each bound
ERRORS = 3.3  # standard errors that a trace is off by more than with a probability of RISK


@dataclass(frozen=True)
class Dimension:
    """known: from the computed eigenvalues. low, high: bounds of the whole."""

    known: float
    low: float
    high: float


def share(values: np.ndarray | float, z: float) -> np.ndarray:
    positive = np.maximum(np.asarray(values, dtype=np.float64), 0)
    return positive / (positive + z)


def effective_dimension(
    values: Sequence[float] | np.ndarray,
    z: float,
    *,
    size: int,
    residuals: Sequence[float] | np.ndarray | None = None,
    trace: tuple[float, float] | None = None,
    spectrum: Spectrum | None = None,
) -> Dimension:
    """Of an operator with `size` eigenvalues, of which `values` are the largest; negative ones count nothing.

    residuals: of the values, 0 by default. trace: with its standard error. spectrum: from `density`, told of the
    eigenvectors of just these values (`known`). Without both, the rest may be anything from 0 to the smallest of the
    values. Raises ValueError for z <= 0, or where the spectrum knows of another number of values.
    """
    if not z > 0:
        raise ValueError(f"z = {z}: the regularization must be positive")
    found = np.asarray(values, dtype=np.float64)
    off = np.zeros(len(found)) if residuals is None else np.asarray(residuals, dtype=np.float64)
    known, rest = float(share(found, z).sum()), size - len(found)
    least, most = float(share(found - off, z).sum()), float(share(found + off, z).sum())
    if rest <= 0:
        return Dimension(known, least, most)
    top = float((found + off).min()) if len(found) else math.inf  # of the rest
    low, high = 0.0, rest * (float(share(top, z)) if len(found) else 1.0)
    if trace is not None and top > 0:
        # The rest's positive part is at least its sum, and is carried by the fewest where each is as large as can be.
        left = trace[0] - ERRORS * trace[1] - float((found + off).sum())
        low = max(left, 0.0) / (top + z) if math.isfinite(top) else 0.0
    if spectrum is not None:
        if spectrum.known.shape[1] != len(found):
            raise ValueError(f"{len(found)} values, but the spectrum knows {spectrum.known.shape[1]} eigenvectors")
        below, above = rest_by_quadrature(spectrum, found, off, z, size)
        low, high = max(low, below), min(high, above)
    return Dimension(known, least + min(low, rest), most + min(max(high, low), rest))


def rest_by_quadrature(
    spectrum: Spectrum, values: np.ndarray, off: np.ndarray, z: float, size: int
) -> tuple[float, float]:
    """Bounds of the rest's dimension from the probes' rules."""
    lows, highs = [], []
    for nodes, weights, known in zip(spectrum.nodes, spectrum.weights, spectrum.known, strict=True):
        nodes, weights = nodes[weights > 0], weights[weights > 0]
        at = share(nodes, z)
        exact = len(nodes) >= size
        before = at if exact else np.array([0.0, *at[:-1]])
        after = at if exact else np.array([*at[1:], 1.0])
        lows.append(size * (weights @ before - known @ share(values + off, z)))
        highs.append(size * (weights @ after - known @ share(values - off, z)))
    a = math.sqrt(-math.log(RISK) / len(lows))
    low, high = max(float(np.mean(lows)), 0.0), max(float(np.mean(highs)), 0.0)
    return max(math.sqrt(max(low - a * a, 0.0)) - a, 0.0) ** 2, (a + math.sqrt(a * a + high)) ** 2
