"""Trace and diagonal of an operator from products with random vectors, with standard errors.

    found = hutchinson(operator, tolerance=0.02)
    found.value, found.error, found.products

Hutchinson's estimator with Rademacher vectors z: E[z' A z] = tr A. Hutch++ (Meyer, Musco, Musco, Woodruff, 2021) takes
the trace on the range of A exactly and estimates the rest, which pays where few eigenvalues carry the trace.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hessian.lanczos import Operator

FEWEST = 5  # probes before a standard error is believed


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, and how many products it took."""

    value: float
    error: float
    products: int


def rademacher(operator: Operator, generator: torch.Generator) -> Tensor:
    signs = 2 * torch.randint(0, 2, (operator.size,), generator=generator) - 1
    return signs.to(operator.device, operator.dtype)


def mean_and_error(samples: list[float]) -> tuple[float, float]:
    values = np.array(samples)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def hutchinson(
    operator: Operator,
    *,
    tolerance: float = 0.02,
    most: int = 1000,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda products, error: None,
) -> Estimate:
    """The trace, until its standard error is at most tolerance * |trace| or `most` products are done."""
    generator, samples = torch.Generator().manual_seed(seed), list[float]()
    while True:
        z = rademacher(operator, generator)
        samples.append(float(torch.dot(z.double(), operator(z).double())))
        value, error = mean_and_error(samples)
        progress(len(samples), error)
        if len(samples) >= most or (len(samples) >= FEWEST and error <= tolerance * abs(value)):
            return Estimate(value, error, len(samples))


def hutch_plus_plus(
    operator: Operator,
    *,
    tolerance: float = 0.02,
    sketch: int = 10,
    most: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The trace: exact on the range of A applied to `sketch` random vectors, Hutchinson's estimate on the rest.

    Takes 2 * sketch products, then one for each probe of the rest, until the standard error of the whole is at most
    tolerance * |trace| or `most` products are done.
    """
    generator, sketch = torch.Generator().manual_seed(seed), min(sketch, operator.size)
    images = torch.stack([operator(rademacher(operator, generator)) for _ in range(sketch)], dim=1)
    basis = torch.linalg.qr(images.double()).Q.to(operator.dtype)
    exact = sum(float(torch.dot(q.double(), operator(q).double())) for q in basis.T)
    products, samples = 2 * sketch, list[float]()
    if sketch == operator.size:
        return Estimate(exact, 0.0, products)
    while True:
        z = rademacher(operator, generator)
        z = z - basis @ (basis.T @ z)
        samples.append(float(torch.dot(z.double(), operator(z).double())))
        products += 1
        rest, error = mean_and_error(samples)
        if products >= most or (len(samples) >= FEWEST and error <= tolerance * abs(exact + rest)):
            return Estimate(exact + rest, error, products)


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
    return mean, (variance / probes).sqrt()
