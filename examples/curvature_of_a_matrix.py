"""The estimators of `hessian` on an explicit matrix, next to the exact answers: any symmetric operator will do.

python examples/curvature_of_a_matrix.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from lossatlas.hessian import density, diagonal, effective_dimension, hutch_plus_plus, hutchinson, lanczos, of_matrix


def power_iteration(operator, products: int) -> float:
    """What the estimators replace: one eigenvalue, the largest in magnitude, and no error."""
    v = torch.ones(operator.size, dtype=torch.float64)
    for _ in range(products):
        v = v / v.norm()
        image = operator(v)
        value, v = float(v @ image), image
    return value


def main(size: int = 300) -> None:
    # A spectrum like that of a trained network: a few outliers, a bulk at zero, a small negative tail.
    rng = np.random.default_rng(0)
    values = np.concatenate([[30.0, 29.0, 9.0], rng.gamma(0.5, 0.2, size - 43), -rng.gamma(1.0, 0.3, 40)])
    q = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrix = (q * values) @ q.T
    operator = of_matrix(matrix)

    ends = lanczos(operator, top=2, bottom=1, tolerance=1e-4)
    power = power_iteration(operator, ends.products)
    print(
        f"largest:  Lanczos {ends.values[0]:.5f} (residual {ends.residuals[0]:.0e}, {ends.products} products for both "
        f"ends), power iteration {power:.5f} (as many products), exact {values.max():.5f}"
    )
    print(f"second:   Lanczos {ends.values[1]:.5f}, exact {np.sort(values)[-2]:.5f}")
    print(f"smallest: Lanczos {ends.values[2]:.5f}, exact {values.min():.5f}")
    for name, estimator in (("Hutchinson", hutchinson), ("Hutch++", hutch_plus_plus)):
        trace = estimator(operator, tolerance=0.02, max_products=5000)
        print(
            f"trace:    {name} {trace.value:.2f} +- {trace.error:.2f} ({trace.products} products), exact "
            f"{values.sum():.2f}"
        )
    entries, errors = diagonal(operator, probes=200)
    inside = np.mean(np.abs(entries.numpy() - np.diag(matrix)) <= 2 * errors.numpy())
    print(f"diagonal: {100 * inside:.0f} % of the entries within 2 standard errors")
    spectrum = density(operator, probes=10, steps=60)
    at = np.searchsorted(spectrum.grid, 0.5)
    print(
        f"density:  {100 * spectrum.cumulative[at]:.1f} +- {100 * spectrum.cumulative_se[at]:.1f} % of them below 0.5, "
        f"exact {100 * np.mean(values <= 0.5):.1f} %"
    )
    top = lanczos(operator, top=100, tolerance=1e-4).values
    bounds = effective_dimension(top, 1.0, size=size)
    exact = (np.maximum(values, 0) / (np.maximum(values, 0) + 1.0)).sum()
    print(
        f"effective dimension for z = 1, from 100 eigenvalues: {bounds.low:.1f} to {bounds.high:.1f}, exact {exact:.1f}"
    )


if __name__ == "__main__":
    main()
