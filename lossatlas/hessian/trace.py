"""Trace and diagonal of an operator from products with random vectors, with standard errors.

    found = hutchinson(operator, tolerance=0.02)
    found.value, found.error, found.products

Hutchinson's estimator with Rademacher vectors z: E[z' A z] = tr A. Hutch++ (Meyer, Musco, Musco, Woodruff, 2021) takes
the trace on the range of A exactly and estimates the rest, which pays where few eigenvalues carry the trace. After a
Lanczos run the same comes for nothing: `hutchinson(operator, known=found)`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from lossatlas.hessian.lanczos import CapturedBasis, Operator

FEWEST = 12  # probes before a standard error is believed
SKEWNESS = 2.0  # that of one dominant eigenvalue is 2.8


@dataclass(frozen=True)
class TraceEstimate:
    """A trace with its standard error, and how many products it took; the same of diagonal blocks, (blocks,) each."""

    value: float
    error: float
    products: int
    blocks: np.ndarray = field(default_factory=lambda: np.zeros(0))
    block_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))


def rademacher(operator: Operator, generator: torch.Generator) -> Tensor:
    signs = 2 * torch.randint(0, 2, (operator.size,), generator=generator) - 1
    return signs.to(operator.device, operator.dtype)


def hutchinson(
    operator: Operator,
    *,
    tolerance: float = 0.02,
    most: int = 1000,
    seed: int = 0,
    known: CapturedBasis | None = None,
    blocks: Sequence[int] = (),
    progress: Callable[[int, float], None] = lambda products, error: None,
) -> TraceEstimate:
    """The trace, until its standard error is at most tolerance * |trace| or `most` products are done.

    known: such as a Lanczos run on the same operator; its basis already carries a part of the trace: only the rest is
    estimated, which takes far fewer products where a few eigenvalues carry the trace. blocks: sizes of consecutive
    diagonal blocks whose traces are wanted too, from the same products.
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
        if len(samples) >= most or (len(samples) >= FEWEST and error <= tolerance * abs(value)):
            return TraceEstimate(value, error, len(samples), mean[: len(blocks)], errors[: len(blocks)])


def sums(values: Tensor, sizes: Sequence[int]) -> np.ndarray:
    """The sum of each of consecutive pieces."""
    return np.array([float(piece.sum()) for piece in values.split(list(sizes))])


def standard_errors(samples: np.ndarray) -> np.ndarray:
    """Of the means over the first axis, such that 2 of them on either side hold the truth in 95 of 100 cases.

    The textbook's error is too small for few samples, and for skewed ones (few eigenvalues that carry the trace), all the
    more where one stops as soon as it is small. So it is scaled to Student's quantile, and grows with the skewness of the
    mean, |g| / sqrt(n), where g is taken as SKEWNESS at least, because few samples do not show it. Where a single
    eigenvalue carries nearly all, 88 of 100 or more are covered (`tests/test_hessian_estimators.py`); a Lanczos run beforehand
    takes such out.
    """
    count = len(samples)
    if count < 3:
        return np.full(samples.shape[1:], math.inf)
    spread = samples.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.nan_to_num(np.abs(((samples - samples.mean(0)) ** 3).mean(0)) / samples.std(axis=0) ** 3)
    factor = stdtrit(count - 1, 0.975) / 1.96 * (1 + np.maximum(skewness, SKEWNESS) / math.sqrt(count))
    return spread / math.sqrt(count) * factor


def hutch_plus_plus(
    operator: Operator,
    *,
    tolerance: float = 0.02,
    sketch: int = 10,
    most: int = 1000,
    seed: int = 0,
) -> TraceEstimate:
    """The trace: exact on the range of A applied to `sketch` random vectors, Hutchinson's estimate on the rest.

    Takes 2 * sketch products, then one for each probe of the rest, until the standard error of the whole is at most
    tolerance * |trace| or `most` products are done (FEWEST probes at least).
    """
    generator, sketch = torch.Generator().manual_seed(seed), min(sketch, operator.size)
    images = torch.stack([operator(rademacher(operator, generator)) for _ in range(sketch)], dim=1)
    basis = torch.linalg.qr(images.double()).Q.to(operator.dtype)
    exact = sum(float(torch.dot(q.double(), operator(q).double())) for q in basis.T)
    products, samples = 2 * sketch, list[float]()
    if sketch == operator.size:
        return TraceEstimate(exact, 0.0, products)
    while True:
        z = rademacher(operator, generator)
        z = z - basis @ (basis.T @ z)
        samples.append(float(torch.dot(z.double(), operator(z).double())))
        products += 1
        rest, error = float(np.mean(samples)), float(standard_errors(np.array(samples)))
        if products >= most or (len(samples) >= FEWEST and error <= tolerance * abs(exact + rest)):
            return TraceEstimate(exact + rest, error, products)


def diagonal(
    operator: Operator,
    *,
    probes: int = 100,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Estimate of the diagonal and its standard errors, (size,) each, from `probes` >= 2 products."""
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
    return mean, (variance / probes).sqrt() * float(stdtrit(probes - 1, 0.975) / 1.96)
