"""Effective dimension: sum of v / (v + z) over the eigenvalues v, with bounds for those that were not computed.

    found = effective_dimension(values, z=1e-3, size=850_000, trace=120.0)
    found.known, found.low, found.high

Maddox, Benton and Wilson, arXiv 2003.02139. For the Hessian of the mean loss the z that matches a weight decay is the
weight decay itself; for the loss summed over N samples it would be N times that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dimension:
    """known: from the computed eigenvalues. low, high: bounds of the whole, as far as the rest is not negative."""

    known: float
    low: float
    high: float


def effective_dimension(
    values: Sequence[float] | np.ndarray, z: float, *, size: int, trace: float | None = None
) -> Dimension:
    """Of an operator with `size` eigenvalues, of which `values` are the largest; negative ones count nothing.

    The rest lies between 0 and the smallest computed value. With the trace its sum is known too: v / (v + z) is
    concave, so the rest contributes most when it is spread evenly, and least when as few as possible carry it. Raises
    ValueError for z <= 0.
    """
    if z <= 0:
        raise ValueError(f"z = {z}: the regularization must be positive")
    found = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    known = float((np.maximum(found, 0) / (np.maximum(found, 0) + z)).sum())
    rest, largest = size - len(found), max(float(found[-1]) if len(found) else np.inf, 0.0)
    if rest <= 0:
        return Dimension(known, known, known)
    most = float(rest * largest / (largest + z)) if np.isfinite(largest) else float(rest)
    if trace is None:
        return Dimension(known, known, known + most)
    left = max(float(trace - found.sum()), 0.0)
    even = left / rest
    least = left / (largest + z) if np.isfinite(largest) else 0.0
    return Dimension(known, known + min(least, most), known + min(most, rest * even / (even + z)))
