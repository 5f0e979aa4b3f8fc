"""Numbers of a Hessian's spectrum: trace, density and effective dimension, as `lossatlas.hessian` estimates them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MATRIX_NAMES = {
    "ggn": "Gauss-Newton matrix",
    "fisher": "Fisher information matrix",
    "mc_fisher": "Monte-Carlo Fisher matrix",
    "empirical_fisher": "empirical Fisher matrix",
}


def matrix_name(request: Mapping[str, Any]) -> str:
    """Return the name of the matrix of a spectrum in figures and tables.

    Args:
        request: The fields that identify its job.

    Example:
        >>> matrix_name({"matrix": "ggn"}), matrix_name({})
        ('Gauss-Newton matrix', 'Hessian')
    """
    return MATRIX_NAMES.get(request.get("matrix", ""), "Hessian")


@dataclass(frozen=True)
class TraceEstimate:
    """A trace with its standard error.

    Attributes:
        value: The trace.
        error: Its standard error, see `hessian.trace.standard_errors`.
        products: Number of products with the operator.
        blocks: (blocks,), the traces of diagonal blocks.
        block_errors: (blocks,), their standard errors.
    """

    value: float
    error: float
    products: int
    blocks: np.ndarray = field(default_factory=lambda: np.zeros(0))
    block_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Curves over eigenvalues: the mean over probes, with standard errors.

    Attributes:
        nodes: (probes, steps), the nodes of the quadrature rules.
        weights: (probes, steps), their weights; each row sums to 1.
        grid: (points,), eigenvalues.
        density: (points,), which integrates to 1, smoothed by a Gaussian.
        density_se: (points,), its standard error, NaN for one probe.
        cumulative: (points,), the fraction of eigenvalues up to each point.
        cumulative_se: (points,), its standard error, NaN for one probe.
        sigma: The standard deviation of the Gaussian, in units of the eigenvalues.
        products: Number of products with the operator.
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


@dataclass(frozen=True)
class Dimension:
    """An effective dimension.

    Attributes:
        known: Sum over the computed eigenvalues.
        low: Lower bound of the whole.
        high: Upper bound of the whole.
        value: Estimate of the whole, NaN without a density.
        error: Its standard error, NaN without a density.
    """

    known: float
    low: float
    high: float
    value: float = math.nan
    error: float = math.nan
