"""Eigenvalues at both ends of a symmetric operator by one Lanczos run.

    found = lanczos(operator, top=2, bottom=1, tolerance=1e-3)
    found.values, found.vectors, found.residuals, found.bounds, found.products

Lanczos with full reorthogonalization (Golub and Van Loan, Matrix Computations, section 10.3): the ends of the spectrum
converge first, both in the same run. The residual of a Ritz pair is |beta * (last component of its coordinates)|.

A small residual says that an eigenvalue is near, not that it is the extreme one: a start vector may have next to nothing
of the extreme eigenvector u. After k steps the next Lanczos vector is p(A) times the start, with the polynomial
p(t) = prod (t - theta_j) / prod beta_j over the Ritz values, and has unit length, so |p(lambda)| <= 1 / |u' start| for
every eigenvalue. The start has a random part, whose share of u is below `least_share` with a probability of at most
RISK; so where |p| exceeds 1 / least_share there is no eigenvalue, but for that risk (van Dorsselaer, Hochstenbach and van
der Vorst, SIAM J. Matrix Anal. Appl. 22, 2000, section 3). A pair is resolved when its residual is small and no
eigenvalue is left out beyond it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BREAKDOWN = 1e-6  # of the largest eigenvalue so far, in float32: a smaller beta means an invariant subspace
RISK = 1e-3  # the probability, for each wanted value, that a larger (or smaller) eigenvalue is left out
FRESH = 3  # new random vectors after which nothing is looked for outside of an invariant subspace
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


class CapturedBasis(Protocol):
    """What is known of an operator A on a subspace with the orthonormal basis Q: see Pairs."""

    @property
    def basis(self) -> "Basis": ...

    @property
    def captured(self) -> Tensor: ...


class NotFinite(ValueError):
    """The operator gave a value that is not finite."""


@dataclass(frozen=True)
class Pairs:
    """Ritz pairs, the largest values first, and how well they are resolved.

    values: (k,) float64. vectors: (k, size), unit rows. residuals: (k,), the norm of A v - value * v, at least the last
    digit of the largest value; what rounding adds in the products themselves, a few such digits, is not in it. bounds:
    below the first and above the second there is no eigenvalue, each but for
    a probability of RISK. converged: (k,) whether the residual is small enough, and no eigenvalue left out: an eigenvalue
    of exact multiplicity counts once. products: how many times the operator was applied. alphas, betas: the tridiagonal
    matrix. basis: its orthonormal vectors Q. captured: (size,) float64, the diagonal of A Q Q', which sums to the part of
    the trace that lies in the basis.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    bounds: tuple[float, float]
    converged: np.ndarray
    products: int
    alphas: np.ndarray
    betas: np.ndarray
    basis: "Basis"
    captured: Tensor

    def rule(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights (they sum to 1) of the quadrature that belongs to the start vector."""
        return rule_of(self.alphas, self.betas)


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
    largest value), and no eigenvalue farther out than so much is left out; with 0 all `most` products are done.
    most: products at most; the basis takes so many vectors of memory. start: a vector to begin with, such as the sum of
    the end vectors of a neighbour (a warm start), to which a random one of the same length is added; otherwise a Gaussian
    one. progress: hears the products done and the largest relative residual.
    Raises NotFinite where the operator gives a value that is not finite.
    """
    size, dtype, device = operator.size, operator.dtype, operator.device
    wanted = min(top + bottom, size)
    generator = torch.Generator().manual_seed(seed)
    basis = Basis(size, dtype, device)
    first, least_share = random_start(size, generator, start)
    basis.add(first.to(device, dtype))
    captured = torch.zeros(size, dtype=torch.float64, device=device)
    alphas: list[float] = []
    betas: list[float] = []
    fresh = 0
    reach: ResolvedRange | None = None  # of the first invariant subspace
    while True:
        image = operator(basis.last)
        if not torch.isfinite(image).all():
            raise NotFinite(f"the operator gave a value that is not finite at product {len(alphas) + 1}")
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
        progress(len(alphas), float(relative.max()))
        if not fresh:
            reach = ResolvedRange(values, [*betas, max(beta, torch.finfo(dtype).eps * scale)], least_share)
        assert reach is not None
        width = allowed(values, dtype, tolerance)
        whole = len(alphas) == size or fresh >= FRESH
        resolved = residuals <= width if tolerance > 0 else np.zeros(len(values), bool)
        resolved &= whole | reach.complete(values, width, top, bottom)
        enough = len(values) >= wanted and bool(resolved[chosen].all())
        # Inside an invariant subspace every pair is exact, but the ends of the spectrum may lie elsewhere.
        if (enough and not invariant) or len(alphas) in (most, size):
            break
        if invariant:
            image, beta = basis.rest(gaussian(size, generator).to(device, dtype)), 0.0
            fresh += 1
            if enough and len(alphas) >= 2 * wanted + 2:
                break
        basis.add(image)
        betas.append(beta)
    chosen = chosen[np.argsort(-values[chosen])]
    vectors = torch.stack([basis.combined(coordinates[:, k]) for k in chosen])
    outermost = (float(values[0]), float(values[-1]))
    return Pairs(
        values[chosen],
        vectors,
        residuals[chosen],
        outermost if whole else reach.bounds(*outermost),
        resolved[chosen],
        len(alphas),
        np.array(alphas),
        np.array(betas),
        basis,
        captured,
    )


def rule_of(alphas: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the quadrature of a tridiagonal matrix."""
    values, coordinates = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    return values, coordinates[0] ** 2


def random_start(size: int, generator: torch.Generator, warm: Tensor | None = None) -> tuple[Tensor, float]:
    """A start vector, and the share of any given unit vector that it has at least, but for a probability of RISK.

    The vector's component along a unit vector u is w + c g with g Gaussian, so it is below x in absolute value with a
    probability of at most 2 x / (c sqrt(2 pi)), whatever w is.
    """
    random = gaussian(size, generator)
    if warm is not None:
        warm = warm.detach().cpu().double()
        random = random + warm * (random.norm() / warm.norm().clamp(min=1e-300))
    return random, RISK * math.sqrt(math.pi / 2) / float(random.norm())


@dataclass(frozen=True)
class ResolvedRange:
    """What a Lanczos run says of eigenvalues that it has not found.

    values: its Ritz values, ascending. betas: as many, the last one being the length of what is left. least_share: of an
    eigenvector in the start.
    """

    values: np.ndarray
    betas: Sequence[float]
    least_share: float

    def excludes(self, t: float) -> bool:
        """Whether t is no eigenvalue: |p(t)| > 1 / least_share. log |p| is concave between two Ritz values."""
        with np.errstate(divide="ignore"):
            size = float(np.log(np.abs(t - self.values)).sum() - np.log(self.betas).sum())
        return size > -math.log(self.least_share)

    def complete(self, values: np.ndarray, width: np.ndarray, top: int, bottom: int) -> np.ndarray:
        """For each of ascending values whether, up to the end of the spectrum, no eigenvalue is left out beyond it.

        An eigenvalue within `width` of a value is not left out. Only the `top` last and the `bottom` first are looked at.
        """
        result = np.zeros(len(values), bool)
        for sign, count in ((1, top), (-1, bottom)):
            ahead: float | None = None
            for k in range(min(count, len(values))):
                i = len(values) - 1 - k if sign > 0 else k
                outer, inner = values[i] + sign * width[i], values[i] - sign * width[i]
                apart = ahead is None or sign * (ahead - outer) > 0
                if apart and not (self.excludes(outer) and (ahead is None or self.excludes(ahead))):
                    break
                result[i] = True
                ahead = inner if apart or ahead is None else sign * min(sign * inner, sign * ahead)
        return result

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """Below the first and above the second there is no eigenvalue; low and high are the outermost Ritz values."""
        spread = max(high - low, abs(low), abs(high), 1e-300)
        return self.beyond(low, -spread), self.beyond(high, spread)

    def beyond(self, value: float, step: float) -> float:
        """The least distance from an outermost Ritz value at which nothing is left, in the direction of `step`."""
        while not self.excludes(value + step):
            step *= 2
        inside, outside = 0.0, step
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if self.excludes(value + middle) else (middle, outside)
        return value + outside


def allowed(values: np.ndarray, dtype: torch.dtype, tolerance: float) -> np.ndarray:
    """What counts as resolved: relative, but not below what rounding leaves of the largest value."""
    floor = ROUNDING[dtype == torch.float32] * np.abs(values).max()
    return np.maximum(tolerance * np.abs(values), floor)


class Basis:
    """Orthonormal vectors, stored in chunks of rows."""

    CHUNK = 16

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.new = lambda: torch.empty(self.CHUNK, size, dtype=dtype, device=device)
        self.chunks: list[Tensor] = []
        self.count = 0

    @classmethod
    def of(cls, rows: Tensor, device: torch.device) -> "Basis":
        """What `stacked` has given, bit for bit."""
        basis = cls(rows.shape[1], rows.dtype, device)
        for row in rows:
            if basis.count % cls.CHUNK == 0:
                basis.chunks.append(basis.new())
            basis.count += 1
            basis.last.copy_(row)
        return basis

    def stacked(self) -> Tensor:
        """All vectors as (count, size)."""
        return torch.cat(list(self.rows()))

    @property
    def nbytes(self) -> int:
        return sum(rows.numel() * rows.element_size() for rows in self.rows())

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


def gaussian(size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64)
