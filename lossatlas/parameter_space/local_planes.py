"""A chart along a training path: the plane of velocity and acceleration at each checkpoint, blended between them.

After Liu 2026. A principal plane of the whole path leaves out most of a long one. Here every checkpoint k has a plane
of its own, spanned by the unit tangent e1 of the path and by the unit normal e2 towards which it turns. The abscissa s
of the chart is the length of the path, the ordinate t the distance along e2, and the cell (s, t) is

    theta(s, t) = sum over the two neighbouring checkpoints k of  w_k(s) (theta_k + (s - s_k) e1_k + t e2_k)

with the smooth weights w of `Column`. All of this lies in the span of the differences of checkpoints, so vectors are
rows of coefficients of the steps theta_(k+1) - theta_k, and lengths and angles follow from the steps' inner products:
no vector of the size of the network is made before a cell is evaluated.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lossatlas.choices import DirType
from lossatlas.errors import counted
from lossatlas.landscape.chart_cells import ChartCells
from lossatlas.landscape.grid import Grid
from lossatlas.parameter_space.points import Point
from lossatlas.parameter_space.projection import RowMatrix

FEWEST_IN_CHART = 3  # checkpoints that have an acceleration
STRAIGHT = 1e-6  # turns, in radians, that are none
ROUNDINGS = 4  # a turn that rounding of the checkpoints causes is smaller than so many of its bounds
PLACES_IN_CELL = 9  # of the width of a cell, at which it is asked whether a chart folds
BLOCK_BYTES = 1 << 26  # of rows in float64 that are in memory at a time


def step_products(rows: RowMatrix) -> np.ndarray:
    """Compute the inner products (n, n) of rows.

    In contrast to `projection.inner_products` the order of each sum does not depend on the number of threads: a chart
    is made again from the checkpoints where a file is continued, and has to be the same to the last bit.
    """
    n = len(rows)
    result = np.zeros((n, n))
    size = max(4, BLOCK_BYTES // (8 * max(1, len(rows[0])))) if n else 1
    for first in range(0, n, size):
        block = [np.asarray(rows[k], np.float64) for k in range(first, min(first + size, n))]
        for k in range(first, n):
            row = block[k - first] if k < first + len(block) else np.asarray(rows[k], np.float64)
            for j, other in enumerate(block[: k - first + 1], first):
                result[j, k] = result[k, j] = ordered_product(other, row)
    return result


def ordered_product(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the inner product of two vectors in an order that does not depend on threads."""
    return float(np.einsum("i,i->", a, b))


@dataclass(frozen=True)
class Column:
    """The cells of a chart above one abscissa: the line  theta_anchor + along + t * across.

    The weight of the second checkpoint is r^2 (3 - 2 r) at the fraction r of the way to it, so that the chart has
    continuous first derivatives, and at a checkpoint the column lies in its own plane alone.

    Attributes:
        first: The checkpoint before the column.
        second: The checkpoint after it.
        weight: Weight of the second one.
        along: (steps,) coefficients of the displacement at t = 0 from the anchor.
        across: (steps,) coefficients of the displacement for each unit of t.
    """

    first: int
    second: int
    weight: float
    along: np.ndarray
    across: np.ndarray

    @property
    def anchor(self) -> int:
        """The checkpoint with the larger weight."""
        return self.second if self.weight > 0.5 else self.first

    @property
    def other(self) -> int:
        """The checkpoint with the smaller weight."""
        return self.first if self.weight > 0.5 else self.second

    @property
    def other_weight(self) -> float:
        """The smaller weight."""
        return min(self.weight, 1 - self.weight)

    def shares(self, t: float) -> np.ndarray:
        """Return the coefficients (checkpoints,) of theta_k - theta_anchor in the displacement of a cell."""
        steps = self.along + t * self.across
        return np.append(0.0, steps) - np.append(steps, 0.0)


@dataclass(frozen=True)
class LocalPlanes:
    """Planes of velocity and acceleration at the checkpoints of a path.

    Attributes:
        at: (checkpoints,) length of the path up to each checkpoint, in units of the parameters.
        tangents: (checkpoints, steps) coefficients of the unit tangents.
        normals: (checkpoints, steps) coefficients of the unit normals.
        products: (steps, steps) inner products of the steps.

    Example:
        >>> steps = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> planes = LocalPlanes.of(steps @ steps.T)
        >>> planes.at.tolist(), (planes.normals @ steps)[1].round(3).tolist()
        ([0.0, 1.0, 2.0, 3.0], [-0.707, 0.707])
    """

    at: np.ndarray
    tangents: np.ndarray
    normals: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, products: np.ndarray, rounding: float = 0.0) -> "LocalPlanes":
        """Compute the planes from the inner products of the steps.

        Velocity and acceleration are the derivatives, with respect to the length of the path, of the parabola through a
        checkpoint and its two neighbours; the first and the last checkpoint take the parabola of their neighbour. Where
        the path does not turn, e2 is transported in parallel from the checkpoint before. Its sign is the one nearer to
        the transported one.

        Args:
            products: (steps, steps) inner products.
            rounding: Bound of the rounding errors in a checkpoint, by which a turn is told from none.

        Raises:
            ValueError: There are too few steps, one has no length, or the whole path is straight.
        """
        count = len(products) + 1
        if count < FEWEST_IN_CHART:
            raise ValueError(f"{counted(count, 'checkpoint has', 'checkpoints have')} no acceleration")
        lengths = np.sqrt(np.diag(products))
        if not np.isfinite(products).all():
            raise ValueError("a checkpoint is not finite")
        if not (lengths > rounding).all():
            k = int(np.argmin(lengths > rounding))
            raise ValueError(f"checkpoints {k + 1} and {k + 2} are the same network up to rounding")
        units = np.diag(1 / lengths)
        tangents, turns = tangents_and_turns(units, lengths, products)
        least = np.maximum(STRAIGHT, ROUNDINGS * rounding / np.minimum(lengths[:-1], lengths[1:]))
        turning = np.array([length_of_steps(turn, products) for turn in turns]) > np.pad(least, 1, mode="edge")
        if not turning.any():
            raise ValueError("the path is straight, and has no acceleration")
        at = np.append(0.0, np.cumsum(lengths))
        return cls(at, tangents, normals_of(tangents, turns, turning, products), products)

    def column(self, s: float) -> Column:
        """Return the cells above an abscissa; before the first and after the last checkpoint they are of one plane."""
        first = int(np.clip(np.searchsorted(self.at, s, "right") - 1, 0, len(self.at) - 2))
        part = float(np.clip((s - self.at[first]) / (self.at[first + 1] - self.at[first]), 0.0, 1.0))
        weight = part * part * (3 - 2 * part)
        step = np.zeros(len(self.products))
        step[first] = 1.0
        along, across = np.zeros((2, len(step)))
        for k, w, way in ((first, 1 - weight, 0.0), (first + 1, weight, 1.0)):
            from_anchor = (way - (weight > 0.5)) * step
            along = along + w * (from_anchor + (s - self.at[k]) * self.tangents[k])
            across = across + w * self.normals[k]
        return Column(first, first + 1, weight, along, across)

    def projected(self, column: Column) -> Column:
        """Return a column whose cells are projected onto the plane of its anchor, at a right angle."""
        k = column.anchor
        frame = np.stack([self.tangents[k], self.normals[k]])

        def inside(vector: np.ndarray) -> np.ndarray:
            parts = np.array([inner_of_steps(axis, vector, self.products) for axis in frame])
            return np.einsum("i,ij->j", parts, frame)

        return replace(column, along=inside(column.along), across=inside(column.across))

    def distortion(self, s: float, t: np.ndarray) -> np.ndarray:
        """Return the share of cells' displacements from their anchor that lies outside the plane of the anchor.

        Args:
            s: The abscissa of the cells.
            t: (ny,) their ordinates.

        Returns:
            (ny,) the distance from the plane divided by the distance from the anchor, from 0 to 1; 0 at the anchor.
        """
        column = self.column(s)
        inside = self.projected(column)
        whole = np.outer(t, column.across) + column.along
        outside = whole - np.outer(t, inside.across) - inside.along
        lengths = [np.array([length_of_steps(each, self.products) for each in rows]) for rows in (whole, outside)]
        return np.minimum(1.0, np.divide(lengths[1], lengths[0], out=np.zeros(len(t)), where=lengths[0] > 0))

    def folded(self, grid: Grid) -> np.ndarray:
        """Return where a chart folds, see `ChartCells`.

        Args:
            grid: The grid of the chart.

        Returns:
            (ny, nx) mask of the cells within whose width the derivative along s has, somewhere, no part along the path.
        """
        assert grid.y is not None
        edges = np.concatenate([grid.x[:1], (grid.x[1:] + grid.x[:-1]) / 2, grid.x[-1:]])
        middles = (self.at[1:] + self.at[:-1]) / 2  # where the blend turns fastest
        folded = np.zeros(grid.shape, bool)
        for i, (low, high) in enumerate(pairwise(edges)):
            inside = middles[(middles >= low) & (middles <= high)]
            for s in (*np.linspace(low, high, PLACES_IN_CELL), *inside):
                along, across = self.derivatives(float(s))
                ahead, turn = (inner_of_steps(each, along, self.products) for each in (along, across))
                folded[:, i] |= ahead + grid.y * turn <= 0
        return folded

    def derivatives(self, s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivatives along s of a cell at t = 0, and of the part that t multiplies.

        Returns:
            Coefficients (steps,) of both.
        """
        first = int(np.clip(np.searchsorted(self.at, s, "right") - 1, 0, len(self.at) - 2))
        length = self.at[first + 1] - self.at[first]
        part = float(np.clip((s - self.at[first]) / length, 0.0, 1.0))
        weight, growth = part * part * (3 - 2 * part), 6 * part * (1 - part) / length
        tangents, normals = self.tangents[first : first + 2], self.normals[first : first + 2]
        step = np.zeros(len(self.products))
        step[first] = 1.0
        apart = step + (s - self.at[first + 1]) * tangents[1] - (s - self.at[first]) * tangents[0]
        along = (1 - weight) * tangents[0] + weight * tangents[1] + growth * apart
        return along, growth * (normals[1] - normals[0])

    @property
    def turns(self) -> np.ndarray:
        """(checkpoints - 2,) angles between consecutive steps, in radians."""
        lengths = np.sqrt(np.diag(self.products))
        cosines = np.diag(self.products, 1) / (lengths[:-1] * lengths[1:])
        return np.arccos(np.clip(cosines, -1.0, 1.0))


def inner_of_steps(a: np.ndarray, b: np.ndarray, products: np.ndarray) -> float:
    """Compute the inner product of two vectors, given as coefficients of the steps."""
    return float(np.einsum("i,ij,j->", a, products, b))


def length_of_steps(a: np.ndarray, products: np.ndarray) -> float:
    """Compute the length of a vector, given as coefficients of the steps."""
    return float(np.sqrt(max(0.0, inner_of_steps(a, a, products))))


def tangents_and_turns(units: np.ndarray, lengths: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the unit tangents, and the parts of the turns at a right angle to them, at every checkpoint.

    Args:
        units: (steps, steps) coefficients of the steps of unit length.
        lengths: (steps,) lengths of the steps.
        products: (steps, steps) inner products of the steps.

    Returns:
        Coefficients (checkpoints, steps) of the tangents, and of the differences of the unit steps before and after a
        checkpoint, which are the acceleration times the mean length of the two steps.
    """
    tangents, turns, last = [], [], len(lengths)
    for k in range(last + 1):
        j = min(max(k, 1), last - 1)  # the checkpoint in the middle of the parabola
        before, after = lengths[j - 1], lengths[j]
        turn = units[j] - units[j - 1]
        velocity = (after * units[j - 1] + before * units[j]) / (before + after)
        velocity = velocity + (np.sign(k - j) * (before if k < j else after) * 2 / (before + after)) * turn
        speed = length_of_steps(velocity, products)
        if speed < STRAIGHT:  # the path goes back the way that it came
            velocity, speed = units[j], 1.0
        tangents.append(velocity / speed)
        turns.append(turn - inner_of_steps(turn, tangents[-1], products) * tangents[-1])
    return np.array(tangents), np.array(turns)


def normals_of(tangents: np.ndarray, turns: np.ndarray, turning: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Compute the unit normals of all checkpoints, from the first one at which the path turns on.

    Args:
        tangents: (checkpoints, steps) coefficients of the unit tangents.
        turns: (checkpoints, steps) coefficients of the turns.
        turning: (checkpoints,) mask of the checkpoints at which the path turns.
        products: (steps, steps) inner products of the steps.
    """
    normals, start = np.zeros_like(tangents), int(np.argmax(turning))
    normals[start] = turns[start] / length_of_steps(turns[start], products)
    for order in (range(start - 1, -1, -1), range(start + 1, len(tangents))):
        neighbour = start
        for k in order:
            normal = transported(normals[neighbour], tangents[neighbour], tangents[k], products)
            if turning[k]:
                sign = 1.0 if inner_of_steps(turns[k], normal, products) >= 0 else -1.0
                normal = sign * turns[k]
            normals[k] = normal / length_of_steps(normal, products)
            neighbour = k
    return normals


def transported(normal: np.ndarray, tangent: np.ndarray, there: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Transport a normal in parallel: by the smallest rotation that turns one tangent into another one.

    Args:
        normal: (steps,) coefficients of the normal.
        tangent: (steps,) coefficients of the tangent where it is.
        there: (steps,) coefficients of the tangent to which it is transported.
        products: (steps, steps) inner products of the steps.
    """
    cosine = inner_of_steps(tangent, there, products)
    if 1 + cosine < STRAIGHT:  # the opposite tangent has the same normals
        return normal
    return normal - (inner_of_steps(normal, there, products) / (1 + cosine)) * (tangent + there)


@dataclass(frozen=True, kw_only=True)
class LocalChart:
    """A chart along a path of checkpoints, as grid jobs take it.

    Attributes:
        planes: The planes.
        moved: Names of the tensors that the planes move. The others, such as BatchNorm statistics, are mixed of the two
            checkpoints by their weights alone.
        dir_type: 'weights' or 'states'.
        digests: The digest of each checkpoint.
        digest: Identifies the chart.
        in_own_planes: Every cell is projected onto the plane of its nearest checkpoint.
    """

    planes: LocalPlanes
    moved: tuple[str, ...]
    dir_type: DirType
    digests: tuple[str, ...]
    digest: str
    in_own_planes: bool = False

    def column(self, s: float) -> Column:
        """Return the cells above an abscissa."""
        column = self.planes.column(s)
        return self.planes.projected(column) if self.in_own_planes else column

    def cells(self, grid: Grid) -> ChartCells:
        """Return the sources and the distortion of the cells of a grid."""
        assert grid.y is not None
        columns = [self.planes.column(s) for s in grid.x]
        distortion = [] if self.in_own_planes else [self.planes.distortion(s, grid.y) for s in grid.x]
        return ChartCells(
            first=np.array([column.first for column in columns]),
            second=np.array([column.second for column in columns]),
            weight=np.array([column.weight for column in columns]),
            distortion=np.stack(distortion, 1) if distortion else None,
            folded=None if self.in_own_planes else self.planes.folded(grid),
        )


def combined(column: Column, t: float, checkpoint: Callable[[int], Point], moved: Set[str]) -> Point:
    """Compute the tensors of a cell from those of a few checkpoints.

    Args:
        column: The column of the cell.
        t: The ordinate of the cell.
        checkpoint: Returns the tensors of the k-th checkpoint by name.
        moved: Names of the tensors that the planes move; the others are mixed by the weights of the two checkpoints.

    Returns:
        Tensors by name. At a checkpoint they are its own, bit for bit: all else is added to these as differences.
    """
    anchor, shares = checkpoint(column.anchor), column.shares(t)
    parts = [(float(shares[k]), checkpoint(int(k))) for k in np.flatnonzero(shares) if k != column.anchor]
    mixed = [(column.other_weight, checkpoint(column.other))] if column.other_weight else []
    result: Point = {}
    for name, value in anchor.items():
        terms = parts if name in moved else mixed
        result[name] = value.clone()
        for share, other in terms:
            result[name] += share * (other[name] - value)
    return result
