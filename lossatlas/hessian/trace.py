"""Trace and diagonal of an operator from products with random vectors, with standard errors.

    found = hutchinson(operator, tolerance=0.02)
    found.value, found.error, found.products

Hutchinson's estimator (Hutchinson, Commun. Stat. Simul. Comput. 18, 1989) with Rademacher vectors z: E[z' A z] = tr A.
Hutch++ (Meyer, Musco, Musco and Woodruff, Hutch++: Optimal stochastic trace estimation, SOSA 2021, Algorithm 1) takes
the trace on the range of A exactly and estimates the rest, which pays where few eigenvalues dominate the trace. After a
Lanczos run the same needs no further products: `hutchinson(operator, known=found)`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from lossatlas.hessian.lanczos import CapturedBasis, Operator
from lossatlas.landscape.spectrum import TraceEstimate

FEWEST_PROBES = 12  # probes before a standard error is used
SKEWNESS = 2.0  # assumed at least; that of one dominant eigenvalue is 2.8


def rademacher(operator: Operator, generator: torch.Generator) -> Tensor:
    """Draw a vector (size,) of random signs, in the operator's type and on its device."""
    return random_signs((operator.size,), generator).to(operator.device, operator.dtype)


def random_signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw random signs, as integers on the CPU."""
    return 2 * torch.randint(0, 2, tuple(shape), generator=generator) - 1


def hutchinson(
    operator: Operator,
    *,
    tolerance: float = 0.02,
    max_products: int = 1000,
    seed: int = 0,
    known: CapturedBasis | None = None,
    blocks: Sequence[int] = (),
    progress: Callable[[int, float], None] = lambda products, error: None,
) -> TraceEstimate:
    """Estimate the trace by Hutchinson's estimator.

    Args:
        operator: The operator.
        tolerance: The estimate is complete when its standard error is at most tolerance * |trace|.
        max_products: Largest number of products.
        seed: Of the random vectors.
        known: The result of a Lanczos run on the same operator, whose basis holds a part of the trace exactly; the rest
            is estimated, with far fewer products where few eigenvalues dominate the trace.
        blocks: Sizes of consecutive diagonal blocks, whose traces are estimated from the same products.
        progress: Called with the number of products and the standard error after each product.

    Returns:
        The trace, and those of the blocks.

    Example:
        >>> import numpy as np
        >>> from lossatlas.hessian import hutchinson, of_matrix
        >>> hutchinson(of_matrix(np.diag([5.0, 2.0, -1.0]))).value
        6.0
    """
    generator, samples = torch.Generator().manual_seed(seed), list[np.ndarray]()
    sizes = [*blocks, operator.size - sum(blocks)]
    exact = torch.zeros(operator.size, dtype=torch.float64) if known is None else known.captured
    fixed = sums(exact, sizes)
    while True:
        z = rademacher(operator, generator)
        z = z if known is None else known.basis.rest(z)
        # The mean of z z' is P = 1 - Q Q', so that of the diagonal of z (A z)' is diag(A) - diag(A Q Q').
        samples.append(sums(z.double() * operator(z).double(), sizes))
        rows = np.array(samples)
        mean, errors = fixed + rows.mean(0), standard_errors(rows)
        value, error = float(mean.sum()), float(standard_errors(rows.sum(1)))
        progress(len(samples), error)
        if enough_probes(len(samples), error <= tolerance * abs(value), max_products):
            return TraceEstimate(value, error, len(samples), mean[: len(blocks)], errors[: len(blocks)])


def enough_probes(count: int, exact: bool, most: int) -> bool:
    """Test whether sampling ends: after `most` probes, or after FEWEST_PROBES where the estimate is exact enough."""
    return count >= most or (count >= FEWEST_PROBES and exact)


def sums(values: Tensor, sizes: Sequence[int]) -> np.ndarray:
    """Sum consecutive pieces of these sizes."""
    return np.array([float(piece.sum()) for piece in values.split(list(sizes))])


def standard_errors(samples: np.ndarray) -> np.ndarray:
    """Compute standard errors of means, such that 2 of them on either side hold the truth in 95 of 100 cases.

    The textbook's error is too small for few samples, and for skewed ones (few dominant eigenvalues), all the more
    where sampling stops as soon as the error is small. So it is scaled to Student's quantile, and inflated with the
    skewness of the mean, |g| / sqrt(n), where g is taken as SKEWNESS at least, because few samples do not show it.
    Where a single eigenvalue dominates, 88 of 100 intervals or more hold the truth
    (`tests/test_hessian_estimators.py`); a Lanczos run beforehand removes such eigenvalues.

    Args:
        samples: (n, ...).

    Returns:
        (...), inf for n < 3.
    """
    count = len(samples)
    if count < 3:
        return np.full(samples.shape[1:], math.inf)
    spread = samples.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.nan_to_num(np.abs(((samples - samples.mean(0)) ** 3).mean(0)) / samples.std(axis=0) ** 3)
    factor = student_factor(count) * (1 + np.maximum(skewness, SKEWNESS) / math.sqrt(count))
    return spread / math.sqrt(count) * factor


def student_factor(count: int) -> float:
    """Return the 97.5 % quantile of Student's distribution for this many samples, relative to the normal one's."""
    return float(stdtrit(count - 1, 0.975) / 1.96)


def hutch_plus_plus(
    operator: Operator,
    *,
    tolerance: float = 0.02,
    sketch: int = 10,
    max_products: int = 1000,
    seed: int = 0,
) -> TraceEstimate:
    """Estimate the trace: exactly on the range of A applied to random vectors, by Hutchinson's estimator on the rest.

    Takes 2 * sketch products, then one for each probe of the rest, FEWEST_PROBES probes at least.

    Args:
        operator: The operator.
        tolerance: The estimate is complete when its standard error is at most tolerance * |trace|.
        sketch: Number of random vectors.
        max_products: Largest number of products.
        seed: Of the random vectors.

    Returns:
        The trace, without blocks.

    Example:
        >>> import numpy as np
        >>> from lossatlas.hessian import hutch_plus_plus, of_matrix
        >>> round(hutch_plus_plus(of_matrix(np.diag([5.0, 2.0, -1.0]))).value, 6)
        6.0
    """
    generator, sketch = torch.Generator().manual_seed(seed), min(sketch, operator.size)
    images = torch.stack([operator(rademacher(operator, generator)) for _ in range(sketch)], dim=1)
    basis = torch.linalg.qr(images.double()).Q.to(operator.dtype)
    exact = sum(float(torch.dot(q.double(), operator(q).double())) for q in basis.T)
    samples = list[float]()
    if sketch == operator.size:
        return TraceEstimate(exact, 0.0, 2 * sketch)
    while True:
        z = rademacher(operator, generator)
        z = z - basis @ (basis.T @ z)
        samples.append(float(torch.dot(z.double(), operator(z).double())))
        rest, error = float(np.mean(samples)), float(standard_errors(np.array(samples)))
        if enough_probes(len(samples), error <= tolerance * abs(exact + rest), max_products - 2 * sketch):
            return TraceEstimate(exact + rest, error, 2 * sketch + len(samples))


def diagonal(
    operator: Operator,
    *,
    probes: int = 100,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Estimate the diagonal from products with random signs (Bekas, Kokiopoulou and Saad, Appl. Numer. Math. 57, 2007).

    Args:
        operator: The operator.
        probes: Number of products, at least 2.
        seed: Of the random vectors.

    Returns:
        The diagonal (size,) float64, and its standard errors (size,).

    Example:
        >>> import numpy as np
        >>> from lossatlas.hessian import diagonal, of_matrix
        >>> diagonal(of_matrix(np.diag([5.0, 2.0, -1.0])))[0].tolist()
        [5.0, 2.0, -1.0]
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.zeros(operator.size, dtype=torch.float64, device=operator.device)
    second = torch.zeros_like(first)
    for _ in range(probes):
        z = rademacher(operator, generator)
        product = (z * operator(z)).double()
        first += product
        second += product**2
    mean = first / probes
    variance = (second / probes - mean**2).clamp(min=0) * probes / (probes - 1)
    return mean, (variance / probes).sqrt() * student_factor(probes)
