"""Principal components of a trajectory and its projection onto a plane: arrays in, arrays out.

A trajectory has few rows (checkpoints) and up to millions of columns (parameters), so everything goes through the small
matrix of inner products, in float64: a component whose singular value is a millionth of the largest keeps four digits. Rows may
be read when they are needed: few are held at a time, however many there are.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

COLUMNS = 1 << 20  # columns that are converted to float64 at a time
HELD = 4  # rows in memory at a time, in float64


class RowMatrix(Protocol):
    """(n, columns) of which each row is read, or computed, whenever it is asked for; an array is one too."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Components:
    """Principal components of centred rows.

    vectors: (k, columns), of unit length. singular_values, explained_variance, explained_variance_ratio: (k,), as
    scikit-learn defines them (divisor rows - 1).
    """

    vectors: np.ndarray
    singular_values: np.ndarray
    explained_variance: np.ndarray
    explained_variance_ratio: np.ndarray


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b.T of (n, columns) and (m, columns), accumulated in float64."""
    result = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        result += np.asarray(a[:, part], np.float64) @ np.asarray(b[:, part], np.float64).T
    return result


def inner_products(rows: RowMatrix) -> np.ndarray:
    """rows @ rows.T; each row is read once for every HELD of those before it."""
    n = len(rows)
    result = np.zeros((n, n))
    for first in range(0, n, HELD):
        numbers = range(first, min(first + HELD, n))
        held = np.empty((len(numbers), len(rows[0])))
        for row, k in zip(held, numbers, strict=True):
            row[:] = rows[k]
        result[first : numbers.stop, first : numbers.stop] = held @ held.T
        for k in range(numbers.stop, n):
            result[first : numbers.stop, k] = result[k, first : numbers.stop] = inner(held, rows[k][None])[:, 0]
    return result


def principal_components(rows: RowMatrix, count: int = 2, rounding: float = 0.0) -> Components:
    """The leading components of rows (n, columns), exact up to rounding.

    The eigenvectors of the Gram matrix of the centred rows, mapped back to the columns. The sign is such that the
    component's largest entry is positive, as the eigenvectors' own sign is arbitrary.

    Args:
        rows: all points of the trajectory, relative to any origin, which the centring removes.
        count: number of components.
        rounding: length of the rounding errors that the points had before the origin was subtracted; that of the rows'
            own type is added. A component whose singular value is not larger is noise.

    Raises:
        ValueError: when the rows are too few, or span fewer directions beyond rounding.
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
        directions = "1 direction" if rank == 1 else f"{rank} directions"
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
    components = components / np.sqrt(np.diag(inner(components, components)))[:, None]
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    return Components(components * np.sign(largest), singular, values[:count] / (n - 1), values[:count] / values.sum())


def project(rows: RowMatrix, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, k) of rows (n, columns) in the span of directions (k, columns), and distances (n,) from it.

    Least squares by the normal equations, so the directions need neither unit length nor right angles between them.
    Raises ValueError when they are linearly dependent.
    """
    gram = inner(directions, directions)
    if np.linalg.cond(gram) > 1e12:
        raise ValueError("the directions are linearly dependent")
    right, norms = np.zeros((len(rows), len(directions))), np.zeros(len(rows))
    for k in range(len(rows)):
        row = rows[k][None]
        right[k], norms[k] = inner(row, directions)[0], inner(row, row)[0, 0]
    coordinates = np.linalg.solve(gram, right.T).T
    return coordinates, np.sqrt(np.maximum(norms - (coordinates * right).sum(1), 0))
