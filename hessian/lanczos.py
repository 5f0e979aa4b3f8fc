"""Eigenvalues at both ends of a symmetric operator by one Lanczos run.

    found = lanczos(operator, top=2, bottom=1, tolerance=1e-3)
    found.values, found.vectors, found.residuals, found.products

Lanczos with full reorthogonalization (Golub and Van Loan, Matrix Computations, section 10.3): the ends of the spectrum
converge first, both in the same run. The residual of a Ritz pair is |beta * (last component of its coordinates)|.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BREAKDOWN = 1e-6  # of the largest eigenvalue so far, in float32: a smaller beta means an invariant subspace


ROUNDING = (1e-14, 2e-6)  # of the largest eigenvalue, in float64 and float32


class Operator(Protocol):
    """A symmetric linear map of vectors (size,), in a dtype and on a device."""

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __call__(self, vector: Tensor) -> Tensor: ...


class Captured(Protocol):
    """What is known of an operator A on a subspace with the orthonormal basis Q: see Pairs."""

    @property
    def basis(self) -> "Basis": ...

    @property
    def captured(self) -> Tensor: ...


@dataclass(frozen=True)
class Pairs:
    """Ritz pairs, the largest values first, and how well they are resolved.

    values: (k,) float64. vectors: (k, size), unit rows. residuals: (k,), the norm of A v - value * v, at least
    the rounding of the largest value. converged: (k,)
    whether the residual is small enough. products: how many times the operator was applied. alphas,
    betas: the tridiagonal matrix. basis: its orthonormal vectors Q. captured: (size,) float64, the diagonal of A Q Q',
    which sums to the part of the trace that lies in the basis.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    converged: np.ndarray
    products: int
    alphas: np.ndarray
    betas: np.ndarray
    basis: "Basis"
    captured: Tensor

    def rule(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights (they sum to 1) of the quadrature that belongs to the start vector."""
        values, coordinates = np.linalg.eigh(np.diag(self.alphas) + np.diag(self.betas, 1) + np.diag(self.betas, -1))
        return values, coordinates[0] ** 2


def lanczos(
    operator: Operator,
    *,
    top: int = 1,
    bottom: int = 0,
    tolerance: float = 1e-3,
    most: int = 200,
    start: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda products, residual: None,
) -> Pairs:
    """The `top` largest and the `bottom` smallest eigenvalues of an operator.

    tolerance: a pair is resolved when its residual is below tolerance * |value| (or below what rounding leaves of the
    largest value); with 0 all `most` products are done.
    most: products at most; the basis takes so many vectors of memory. start: a vector to begin with, such as the sum of
    the end vectors of a neighbour (a warm start); otherwise a Gaussian one. progress: hears the products done and the
    largest relative residual.
    Raises ValueError where the operator gives a value that is not finite.
    """
    size, dtype, device = operator.size, operator.dtype, operator.device
    wanted = min(top + bottom, size)
    generator = torch.Generator().manual_seed(seed)
    basis = Basis(size, dtype, device)
    basis.add(gaussian(size, generator, dtype, device) if start is None else start.to(device, dtype))
    captured = torch.zeros(size, dtype=torch.float64, device=device)
    alphas: list[float] = []
    betas: list[float] = []
    while True:
        image = operator(basis.last)
        if not torch.isfinite(image).all():
            raise ValueError(f"the operator gave a value that is not finite at product {len(alphas) + 1}")
        shares = basis.last.double() * image.double()
        captured += shares
        alphas.append(float(shares.sum()))
        image = basis.rest(image)
        beta = float(image.double().norm())
        scale = max(np.abs(alphas).max(), max(betas, default=0.0), 1e-300)
        invariant = beta <= BREAKDOWN * scale if dtype == torch.float32 else beta <= 1e-13 * scale
        values, coordinates = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
        residuals = np.abs((0.0 if invariant else beta) * coordinates[-1])
        residuals = np.maximum(residuals, torch.finfo(dtype).eps * np.abs(values).max())  # what rounding leaves
        chosen = ends(len(values), top, bottom)
        relative = residuals[chosen] / np.maximum(np.abs(values[chosen]), 1e-300)
        resolved = residuals[chosen] < allowed(values, chosen, tolerance, dtype)
        progress(len(alphas), float(relative.max()))
        enough = len(values) >= wanted and bool(resolved.all())
        # Inside an invariant subspace every pair is exact, but the ends of the spectrum may lie elsewhere.
        if (enough and not invariant) or len(alphas) in (most, size):
            break
        if invariant:
            image, beta = basis.rest(gaussian(size, generator, dtype, device)), 0.0
            if enough and len(alphas) >= 2 * wanted + 2:
                break
        basis.add(image)
        betas.append(beta)
    chosen = chosen[np.argsort(-values[chosen])]
    vectors = torch.stack([basis.combined(coordinates[:, k]) for k in chosen])
    return Pairs(
        values[chosen], vectors, residuals[chosen],
        residuals[chosen] < allowed(values, chosen, tolerance, dtype),
        len(alphas), np.array(alphas), np.array(betas), basis, captured,
    )  # fmt: skip


def allowed(values: np.ndarray, chosen: np.ndarray, tolerance: float, dtype: torch.dtype) -> np.ndarray:
    """The residual at which a pair counts as resolved: relative, but not below what rounding leaves of the largest."""
    floor = ROUNDING[dtype == torch.float32] * np.abs(values).max() if tolerance > 0 else 0.0
    return np.maximum(tolerance * np.abs(values[chosen]), floor)


class Basis:
    """Orthonormal vectors, stored in chunks of rows."""

    CHUNK = 16

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.new = lambda: torch.empty(self.CHUNK, size, dtype=dtype, device=device)
        self.chunks: list[Tensor] = []
        self.count = 0

    @property
    def last(self) -> Tensor:
        return self.chunks[-1][(self.count - 1) % self.CHUNK]

    def rows(self) -> Iterator[Tensor]:
        for k, chunk in enumerate(self.chunks):
            yield chunk[: self.count - k * self.CHUNK]

    def add(self, vector: Tensor) -> None:
        """Append a vector, scaled to unit norm."""
        if self.count % self.CHUNK == 0:
            self.chunks.append(self.new())
        self.count += 1
        self.last.copy_(vector / vector.double().norm().to(vector.dtype))

    def rest(self, vector: Tensor) -> Tensor:
        """A vector without its components along the basis; taken twice, because once leaves rounding behind."""
        for _ in range(2):
            for rows in self.rows():
                vector = vector - rows.T @ (rows @ vector)
        return vector

    def combined(self, coordinates: np.ndarray) -> Tensor:
        """The unit vector with these coordinates."""
        parts = torch.from_numpy(coordinates).split(self.CHUNK)
        total = sum(rows.T @ part.to(rows) for rows, part in zip(self.rows(), parts, strict=True))
        assert isinstance(total, Tensor)
        return total / total.double().norm().to(total.dtype)


def ends(count: int, top: int, bottom: int) -> np.ndarray:
    """Numbers of the `bottom` first and `top` last of `count` ascending values, each once."""
    return np.array(sorted({*range(min(bottom, count)), *range(max(count - top, 0), count)}), dtype=int)


def gaussian(size: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)
