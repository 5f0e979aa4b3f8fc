"""Principal components of a trajectory and its projection onto a plane: arrays in, arrays out.

A trajectory has few rows (checkpoints) and up to millions of columns (parameters), so everything goes through the small
matrix of inner products, in float64: a component whose singular value is a millionth of the largest keeps four digits.
Rows can be read on demand: few are in memory at a time.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lossatlas.errors import counted

COLUMNS = 1 << 20  # columns that are converted to float64 at a time
ROWS_IN_MEMORY = 4  # at a time, in float64


class RowMatrix(Protocol):
    """A matrix (n, columns) whose rows are read or computed on demand; an array is one too."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Components:
    """Principal components of centred rows.

    Attributes:
        vectors: (k, columns), of unit length.
        singular_values: (k,), of the centred rows.
        explained_variance: (k,), with the divisor rows - 1, as in scikit-learn.
        explained_variance_ratio: (k,), fractions of the total variance.
    """

    vectors: np.ndarray
    singular_values: np.ndarray
    explained_variance: np.ndarray
    explained_variance_ratio: np.ndarray


def product_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute a @ b.T of (n, columns) and (m, columns), accumulated in float64."""
    result = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        result += np.asarray(a[:, part], np.float64) @ np.asarray(b[:, part], np.float64).T
    return result


def inner_products(rows: RowMatrix) -> np.ndarray:
    """Compute rows @ rows.T (n, n); each row is read once for every ROWS_IN_MEMORY rows before it."""
    n = len(rows)
    result = np.zeros((n, n))
    for first in range(0, n, ROWS_IN_MEMORY):
        numbers = range(first, min(first + ROWS_IN_MEMORY, n))
        block = np.empty((len(numbers), len(rows[0])))
        for row, k in zip(block, numbers, strict=True):
            row[:] = rows[k]
        result[first : numbers.stop, first : numbers.stop] = block @ block.T
        for k in range(numbers.stop, n):
            result[first : numbers.stop, k] = result[k, first : numbers.stop] = product_matrix(block, rows[k][None])[
                :, 0
            ]
    return result


def principal_components(rows: RowMatrix, count: int = 2, rounding: float = 0.0) -> Components:
    """Compute the leading principal components of rows, exact up to rounding.

    They are the eigenvectors of the Gram matrix of the centred rows, mapped back to the columns. Their sign is such
    that the largest entry is positive.

    Args:
        rows: (n, columns), all points of the trajectory, relative to any origin, which the centring removes.
        count: Number of components.
        rounding: Length of the rounding errors that the points had before the origin was subtracted; that of the rows'
            own type is added. A component whose singular value is not larger is noise.

    Returns:
        The components.

    Raises:
        ValueError: The rows are too few, or span fewer directions beyond rounding.

    Example:
        >>> rows = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [2.0, 1.0]])
        >>> principal_components(rows).vectors.round(6).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    n = len(rows)
    if n <= count:
        raise ValueError(f"{n} checkpoints, at least {count + 1} are needed")
    gram = inner_products(rows)
    centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    values, vectors = np.linalg.eigh(centred)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    longest, eps = float(np.diag(gram).max()), np.finfo(rows[0].dtype).eps
    least = max(n * np.finfo(float).eps * longest, (rounding + eps * np.sqrt(longest)) ** 2)
    rank = int((values > least).sum())
    if rank < count:
        directions = counted(rank, "direction", "directions")
        raise ValueError(
            f"{n} checkpoints span {directions} beyond rounding, {count} are needed (singular values "
            f"{', '.join(f'{value:.3g}' for value in np.sqrt(values[:count]))}; rounding {np.sqrt(least):.3g})"
        )
    singular = np.sqrt(values[:count])
    # Rows of vectors.T @ (rows - mean) / singular: subtracting the mean of the weights centres the rows.
    weights = (vectors[:, :count] - vectors[:, :count].mean(0)) / singular
    components = np.zeros((count, len(rows[0])))
    for k in range(n):
        row = rows[k]
        for component, weight in zip(components, weights[k], strict=True):
            for start in range(0, len(row), COLUMNS):
                component[start : start + COLUMNS] += weight * row[start : start + COLUMNS].astype(np.float64)
    components = components / np.sqrt(np.diag(product_matrix(components, components)))[:, None]
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    return Components(components * np.sign(largest), singular, values[:count] / (n - 1), values[:count] / values.sum())


def project(rows: RowMatrix, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project rows on the span of directions, by least squares.

    Args:
        rows: (n, columns).
        directions: (k, columns), of any length and at any angles.

    Returns:
        Coordinates (n, k), in units of the directions, and distances (n,) from the span.

    Raises:
        ValueError: The directions are linearly dependent, or not finite.

    Example:
        >>> project(np.array([[3.0, 4.0]]), np.array([[2.0, 0.0]]))
        (array([[1.5]]), array([4.]))
    """
    gram = product_matrix(directions, directions)
    if not np.isfinite(gram).all():
        raise ValueError("a direction is not finite")
    lengths = np.sqrt(np.diag(gram))
    if not lengths.all() or np.linalg.cond(gram / np.outer(lengths, lengths)) > 1e12:
        raise ValueError("the directions are linearly dependent")
    right, norms = np.zeros((len(rows), len(directions))), np.zeros(len(rows))
    for k in range(len(rows)):
        row = rows[k][None]
        right[k], norms[k] = product_matrix(row, directions)[0], product_matrix(row, row)[0, 0]
    coordinates = np.linalg.solve(gram, right.T).T
    return coordinates, np.sqrt(np.maximum(norms - (coordinates * right).sum(1), 0))
