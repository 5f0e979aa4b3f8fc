"""Eigenvalues at both ends of a symmetric operator by one Lanczos run.

    found = lanczos(operator, top=2, bottom=1, tolerance=1e-3)
    found.values, found.vectors, found.residuals, found.bounds, found.products

Lanczos with full reorthogonalization (Golub and Van Loan, Matrix Computations, 4th edition, section 10.3): the ends of
the spectrum converge first, both in the same run. The residual of a Ritz pair is |beta * (last component of its
coordinates)|.

A small residual shows that an eigenvalue is near, not that it is the extreme one: a start vector may be nearly
orthogonal to the extreme eigenvector u. After k steps the next Lanczos vector is p(A) times the start, with the
polynomial p(t) = prod (t - theta_j) / prod beta_j over the Ritz values, and has unit length, so |p(lambda)| <=
1/|u'start| for every eigenvalue. The start has a random part, so that |u'start| >= `least_share` with probability 1 -
RISK at least. Where |p| exceeds 1 / least_share there is no eigenvalue, with that probability (van Dorsselaer,
Hochstenbach and van der Vorst, SIAM J. Matrix Anal. Appl. 22, 2000, section 3). A pair is resolved when its residual is
small and no eigenvalue beyond it is missed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BREAKDOWN = (1e-13, 1e-6)  # of the largest eigenvalue, in float64 and float32: a smaller beta ends a subspace
RISK = 1e-3  # the probability, for each wanted value, that a larger (or smaller) eigenvalue is missed
FRESH = 3  # new random vectors after which the search outside of an invariant subspace ends
ROUNDING = (1e-14, 2e-6)  # of the largest eigenvalue, in float64 and float32


class Operator(Protocol):
    """A symmetric linear map of vectors (size,), in one type and on one device."""

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __call__(self, vector: Tensor) -> Tensor: ...


class CapturedBasis(Protocol):
    """An orthonormal basis Q, and the diagonal of A Q Q' for an operator A: see `Pairs`."""

    @property
    def basis(self) -> "Basis": ...

    @property
    def captured(self) -> Tensor: ...


class NotFinite(ValueError):
    """The operator gave a value that is not finite."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Ritz pairs, the largest values first, and their convergence.

    Attributes:
        values: (k,) float64.
        vectors: (k, size), unit rows.
        residuals: (k,), the norm of A v - value * v, and at least the rounding of the largest value. The rounding
            errors of the products themselves, a few times as large, are not included.
        bounds: No eigenvalue is below the first and none above the second, each with probability 1 - RISK.
        converged: (k,) bool, the residual is small and no eigenvalue beyond is missed. An eigenvalue of exact
            multiplicity counts once.
        products: Number of products with the operator.
        alphas: (products,), the diagonal of the tridiagonal matrix.
        betas: (products - 1,), its off-diagonal.
        basis: Its orthonormal vectors Q.
        captured: (size,) float64, the diagonal of A Q Q', whose sum is the part of the trace within the basis.
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
        """Compute the Gauss quadrature rule of the start vector: nodes and weights (products,), which sum to 1."""
        return quadrature_rule(self.alphas, self.betas)


def lanczos(
    operator: Operator,
    *,
    top: int = 1,
    bottom: int = 0,
    tolerance: float = 1e-3,
    max_products: int = 200,
    start: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda products, residual: None,
) -> Pairs:
    """Compute the `top` largest and the `bottom` smallest eigenvalues of an operator.

    Args:
        operator: The operator.
        top: Number of largest eigenvalues.
        bottom: Number of smallest eigenvalues.
        tolerance: A pair is resolved when its residual is at most tolerance * |value| (or the rounding of the largest
            value), and no eigenvalue beyond it by more than that is missed; 0 for all `max_products` products.
        max_products: Largest number of products; the basis needs memory for as many vectors.
        start: A vector (size,) to begin with, such as the sum of the end vectors at a neighbouring point (warm start),
            to which a random one of the same length is added; by default a Gaussian vector.
        seed: Of the random vectors.
        progress: Called with the number of products and the largest relative residual after each product.

    Returns:
        The Ritz pairs, converged or not.

    Raises:
        NotFinite: The operator gives a value that is not finite.

    Example:
        >>> import numpy as np
        >>> from lossatlas.hessian import lanczos, of_matrix
        >>> found = lanczos(of_matrix(np.diag([5.0, 2.0, -1.0])), top=1, bottom=1)
        >>> found.values.round(6).tolist()
        [5.0, -1.0]
    """
    run = LanczosRun(operator, top=top, bottom=bottom, tolerance=tolerance, start=start, seed=seed)
    while True:
        state = run.step()
        progress(len(run.alphas), float(state.relative.max()))
        # Inside an invariant subspace every pair is exact, but the ends of the spectrum may lie elsewhere.
        if (state.enough and not state.invariant) or len(run.alphas) in (max_products, operator.size):
            return run.pairs(state)
        if state.invariant:
            run.leave_subspace()
            if state.enough and len(run.alphas) >= 2 * run.wanted + 2:
                return run.pairs(state)
        run.extend()


@dataclass(frozen=True, kw_only=True)
class LanczosState:
    """The Ritz pairs after a product.

    Attributes:
        values: (k,), ascending.
        coordinates: (k, k), their vectors in the basis.
        residuals: (k,).
        chosen: Numbers of the wanted ones.
        relative: Residuals of these, relative to their values.
        resolved: (k,) bool, see `Pairs.converged`.
        invariant: The basis spans an invariant subspace.
        enough: All wanted values are resolved.
        whole: Nothing can be outside of the basis.
    """

    values: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray
    chosen: np.ndarray
    relative: np.ndarray
    resolved: np.ndarray
    invariant: bool
    enough: bool
    whole: bool


class LanczosRun:
    """The iteration of `lanczos`, product by product."""

    def __init__(
        self, operator: Operator, *, top: int, bottom: int, tolerance: float, start: Tensor | None, seed: int
    ) -> None:
        size, dtype, device = operator.size, operator.dtype, operator.device
        self.operator, self.top, self.bottom, self.tolerance = operator, top, bottom, tolerance
        self.wanted = min(top + bottom, size)
        self.generator = torch.Generator().manual_seed(seed)
        self.basis = Basis(size, dtype, device)
        first, self.least_share = random_start(size, self.generator, start)
        self.basis.add(first.to(device, dtype))
        self.captured = torch.zeros(size, dtype=torch.float64, device=device)
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.fresh = 0  # random vectors added since an invariant subspace was found
        self.range: ResolvedRange | None = None  # of the first invariant subspace
        self.image, self.beta = first, 0.0  # what remains of the last product, and its length

    def step(self) -> LanczosState:
        """Take a product with the last vector of the basis.

        Raises:
            NotFinite: The product holds a value that is not finite.
        """
        operator, basis, alphas, betas, dtype = self.operator, self.basis, self.alphas, self.betas, self.operator.dtype
        image = operator(basis.last)
        if not torch.isfinite(image).all():
            raise NotFinite(f"the operator gave a value that is not finite at product {len(alphas) + 1}")
        shares = basis.last.double() * image.double()
        self.captured += shares
        alphas.append(float(shares.sum()))
        image = basis.rest(image)
        beta = float(image.double().norm())
        self.image, self.beta = image, beta
        scale = max(np.abs(alphas).max(), max(betas, default=0.0), 1e-300)
        invariant = bool(beta <= BREAKDOWN[dtype == torch.float32] * scale)
        values, coordinates = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
        residuals = np.abs((0.0 if invariant else beta) * coordinates[-1])
        residuals = np.maximum(residuals, torch.finfo(dtype).eps * np.abs(values).max())
        chosen = ends(len(values), self.top, self.bottom)
        relative = residuals[chosen] / np.maximum(np.abs(values[chosen]), 1e-300)
        if not self.fresh:
            self.range = ResolvedRange(values, [*betas, max(beta, torch.finfo(dtype).eps * scale)], self.least_share)
        assert self.range is not None
        width = allowed(values, dtype, self.tolerance)
        whole = len(alphas) == operator.size or self.fresh >= FRESH
        resolved = residuals <= width if self.tolerance > 0 else np.zeros(len(values), bool)
        resolved &= whole | self.range.complete(values, width, self.top, self.bottom)
        enough = len(values) >= self.wanted and bool(resolved[chosen].all())
        return LanczosState(
            values=values,
            coordinates=coordinates,
            residuals=residuals,
            chosen=chosen,
            relative=relative,
            resolved=resolved,
            invariant=invariant,
            enough=enough,
            whole=whole,
        )

    def leave_subspace(self) -> None:
        """Go on with a random vector outside of an invariant subspace."""
        random = gaussian(self.operator.size, self.generator).to(self.operator.device, self.operator.dtype)
        self.image, self.beta = self.basis.rest(random), 0.0
        self.fresh += 1

    def extend(self) -> None:
        """Add the next vector to the basis."""
        self.basis.add(self.image)
        self.betas.append(self.beta)

    def pairs(self, state: LanczosState) -> Pairs:
        """Compute the vectors of the wanted pairs."""
        values, chosen = state.values, state.chosen
        chosen = chosen[np.argsort(-values[chosen])]
        vectors = torch.stack([self.basis.combined(state.coordinates[:, k]) for k in chosen])
        outermost = (float(values[0]), float(values[-1]))
        assert self.range is not None
        return Pairs(
            values=values[chosen],
            vectors=vectors,
            residuals=state.residuals[chosen],
            bounds=outermost if state.whole else self.range.bounds(*outermost),
            converged=state.resolved[chosen],
            products=len(self.alphas),
            alphas=np.array(self.alphas),
            betas=np.array(self.betas),
            basis=self.basis,
            captured=self.captured,
        )


def quadrature_rule(alphas: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the Gauss quadrature rule of a Lanczos run (Golub and Welsch, Math. Comp. 23, 1969).

    Args:
        alphas: (k,), the diagonal of the tridiagonal matrix.
        betas: (k - 1,), its off-diagonal.

    Returns:
        Nodes (k,), ascending, and weights (k,), which sum to 1.
    """
    values, coordinates = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    return values, coordinates[0] ** 2


def random_start(size: int, generator: torch.Generator, warm: Tensor | None = None) -> tuple[Tensor, float]:
    """Draw a start vector, and bound its component along any given unit vector from below.

    The normalized vector's component along a unit vector u is w + c g with g Gaussian, so it is below x in absolute
    value with probability at most 2 x / (c sqrt(2 pi)), whatever w is.

    Args:
        size: Number of entries.
        generator: Source of the random numbers.
        warm: A vector (size,), to which the random one is added in the same length.

    Returns:
        The vector (size,) float64, and a bound that holds with probability 1 - RISK.
    """
    random = gaussian(size, generator)
    if warm is not None:
        warm = warm.detach().cpu().double()
        random = random + warm * (random.norm() / warm.norm().clamp(min=1e-300))
    return random, RISK * math.sqrt(math.pi / 2) / float(random.norm())


@dataclass(frozen=True)
class ResolvedRange:
    """The numbers that a Lanczos run excludes as eigenvalues, see the module's description.

    Attributes:
        values: (k,), the Ritz values, ascending.
        betas: (k,), the last one being the length of the vector that remains.
        least_share: Lower bound of an eigenvector's component in the start.
    """

    values: np.ndarray
    betas: Sequence[float]
    least_share: float

    def excludes(self, t: float) -> bool:
        """Test that t is no eigenvalue: |p(t)| > 1 / least_share. log |p| is concave between two Ritz values."""
        with np.errstate(divide="ignore"):
            size = float(np.log(np.abs(t - self.values)).sum() - np.log(self.betas).sum())
        return size > -math.log(self.least_share)

    def complete(self, values: np.ndarray, width: np.ndarray, top: int, bottom: int) -> np.ndarray:
        """Test that no eigenvalue between a value and its end of the spectrum is missed.

        Args:
            values: (k,), ascending.
            width: (k,); an eigenvalue within this distance of a value is not missed.
            top: Number of largest values to test.
            bottom: Number of smallest values to test.

        Returns:
            (k,) bool, False for values that are not tested.
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
                # The inner end of the intervals so far. Where they overlap, an inner interval may end farther out than
                # an outer one, and nothing is missed up to the innermost end. (`ahead is None` only tells mypy what
                # `apart` is.)
                ahead = inner if apart or ahead is None else sign * min(sign * inner, sign * ahead)
        return result

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """Bound the spectrum from both sides; low and high are the outermost Ritz values."""
        spread = max(high - low, abs(low), abs(high), 1e-300)
        return self.beyond(low, -spread), self.beyond(high, spread)

    def beyond(self, value: float, step: float) -> float:
        """Bisect for the nearest excluded number beyond an outermost Ritz value, in the direction of `step`."""
        while not self.excludes(value + step):
            step *= 2
        inside, outside = 0.0, step
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if self.excludes(value + middle) else (middle, outside)
        return value + outside


def allowed(values: np.ndarray, dtype: torch.dtype, tolerance: float) -> np.ndarray:
    """Return the largest residuals of resolved values: relative, and at least the rounding of the largest value."""
    floor = ROUNDING[dtype == torch.float32] * np.abs(values).max()
    return np.maximum(tolerance * np.abs(values), floor)


class Basis:
    """Orthonormal vectors, stored in chunks of rows so that a growing basis is not copied.

    Args:
        size: Number of entries of a vector.
        dtype: Type of the vectors.
        device: Device of the vectors.
    """

    CHUNK = 16

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.new = lambda: torch.empty(self.CHUNK, size, dtype=dtype, device=device)
        self.chunks: list[Tensor] = []
        self.count = 0

    @classmethod
    def of(cls, rows: Tensor, device: torch.device) -> "Basis":
        """Restore a basis from the rows (count, size) of `stacked`, bit for bit."""
        basis = cls(rows.shape[1], rows.dtype, device)
        for row in rows:
            if basis.count % cls.CHUNK == 0:
                basis.chunks.append(basis.new())
            basis.count += 1
            basis.last.copy_(row)
        return basis

    def stacked(self) -> Tensor:
        """Return all vectors as (count, size)."""
        return torch.cat(list(self.rows()))

    @property
    def nbytes(self) -> int:
        return sum(rows.numel() * rows.element_size() for rows in self.rows())

    @property
    def last(self) -> Tensor:
        return self.chunks[-1][(self.count - 1) % self.CHUNK]

    def rows(self) -> Iterator[Tensor]:
        """Iterate over chunks of at most CHUNK vectors."""
        for k, chunk in enumerate(self.chunks):
            yield chunk[: self.count - k * self.CHUNK]

    def add(self, vector: Tensor) -> None:
        """Append a vector, scaled to unit norm."""
        if self.count % self.CHUNK == 0:
            self.chunks.append(self.new())
        self.count += 1
        self.last.copy_(vector / vector.double().norm().to(vector.dtype))

    def rest(self, vector: Tensor) -> Tensor:
        """Project a vector on the complement of the basis; twice, because one projection leaves rounding errors."""
        for _ in range(2):
            for rows in self.rows():
                vector = vector - rows.T @ (rows @ vector)
        return vector

    def combined(self, coordinates: np.ndarray) -> Tensor:
        """Return the unit vector with these coordinates (count,)."""
        parts = torch.from_numpy(coordinates).split(self.CHUNK)
        total = sum(rows.T @ part.to(rows) for rows, part in zip(self.rows(), parts, strict=True))
        assert isinstance(total, Tensor)
        return total / total.double().norm().to(total.dtype)


def ends(count: int, top: int, bottom: int) -> np.ndarray:
    """Return the indices of the `bottom` first and `top` last of `count` ascending values, each once."""
    return np.array(sorted({*range(min(bottom, count)), *range(max(count - top, 0), count)}), dtype=int)


def gaussian(size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64)
