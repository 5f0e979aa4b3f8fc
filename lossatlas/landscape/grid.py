"""The cells of a surface: coordinates along each axis, and the order in which they are computed."""

import math
from dataclasses import dataclass

import numpy as np

from lossatlas.errors import BadUsage, named

MAX_POINTS, MAX_CELLS = 1_000_000, 10_000_000
LARGEST, CLOSEST = 1e30, 1e-30  # coordinates, and distances of neighbours, that float32 can multiply
SPACING = 1e-12  # smallest distance of neighbours relative to the coordinates, far above the rounding of float64


@dataclass(frozen=True)
class Grid:
    """The cells of a plane or a curve.

    Attributes:
        x: Coordinates of the columns, (nx,).
        y: Coordinates of the rows, (ny,), or None for a curve.

    Example:
        >>> grid = Grid.parse("-1:1:3", "0:1:2")
        >>> grid.shape, grid.point(5)
        ((2, 3), (1.0, 1.0))
    """

    x: np.ndarray
    y: np.ndarray | None = None

    @classmethod
    def parse(cls, x: str, y: str | None = None) -> "Grid":
        """Return the grid of 'min:max:num' for each axis.

        Args:
            x: The range of the columns.
            y: The range of the rows, or None for a curve.

        Raises:
            BadUsage: A range is malformed, or there are too many cells.
        """
        axes = [read_range("x", x)] if y is None else [read_range("x", x), read_range("y", y)]
        if (cells := math.prod(number for _, _, number in axes)) > MAX_CELLS:
            raise BadUsage(f"{named('x', x)}, {named('y', y)}: {cells:.3g} cells are more than ten million")
        return cls(*(np.linspace(*axis) for axis in axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx), or (nx,) for a curve."""
        return (len(self.x),) if self.y is None else (len(self.y), len(self.x))

    @property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)

    def point(self, cell: int) -> tuple[float, float]:
        """Return the coordinates (a, b) of a cell; b is 0 on a curve."""
        j, i = divmod(cell, len(self.x))
        return float(self.x[i]), 0.0 if self.y is None else float(self.y[j])

    def coarse_first(self) -> np.ndarray:
        """Return all cells, coarse sub-grids first, so that an unfinished surface already shows its shape."""
        levels = (
            np.maximum.outer(*(refinement(n) for n in self.shape)) if self.y is not None else refinement(len(self.x))
        )
        return np.argsort(levels.ravel(), kind="stable")

    def matches(self, other: "Grid") -> bool:
        """Return whether two grids have the same shape, and coordinates that are equal up to rounding."""
        if self.shape != other.shape:
            return False
        pairs = [(self.x, other.x)] if self.y is None or other.y is None else [(self.x, other.x), (self.y, other.y)]
        return all(same_coordinates(a, b) for a, b in pairs)

    def __str__(self) -> str:
        axes = [self.x] if self.y is None else [self.x, self.y]
        return " x ".join(f"[{a[0]:.6g}, {a[-1]:.6g}] in {len(a)}" for a in axes)


def same_coordinates(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether coordinates are equal up to rounding, which has to be small against their spacing too."""
    rounding = 1e-9 * max(float(np.abs(a).max()), float(np.abs(b).max()))
    spacing = min(float(np.diff(a).min()), float(np.diff(b).min())) if len(a) > 1 else math.inf
    return bool((np.abs(a - b) <= min(rounding, 1e-3 * abs(spacing))).all())


def read_range(field: str, text: str) -> tuple[float, float, int]:
    """Return lowest and highest coordinate and their number from 'min:max:num'.

    Raises:
        BadUsage: The text is malformed, or its numbers cannot be used.
    """
    parts, given = text.split(":"), named(field, shown(text))
    try:
        low, high, points = float(parts[0]), float(parts[1]), float(parts[2])
        if len(parts) != 3 or points != int(points) or not math.isfinite(low + high):
            raise ValueError
    except (ValueError, IndexError, OverflowError):
        raise BadUsage(f"{given}: give min:max:num, as in {named(field)}='-1:1:51'") from None
    if points < 1 or (points == 1) != (low == high) or low > high:
        raise BadUsage(f"{given}: needs min < max and at least 2 points (or min = max and 1 point)")
    if points > MAX_POINTS:
        raise BadUsage(f"{given}: {points:.3g} points on an axis are more than a million")
    if max(-low, high) > LARGEST:
        raise BadUsage(f"{given}: coordinates beyond {LARGEST:g} are too large for float32")
    if points > 1 and (high - low) / (points - 1) < max(CLOSEST, SPACING * max(-low, high)):
        raise BadUsage(f"{given}: the points are too close to be told apart")
    return low, high, int(points)


def shown(text: str) -> str:
    """Shorten a user's text for a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def refinement(n: int) -> np.ndarray:
    """Compute the level at which each point of an axis is first used when the spacing is halved from level to level.

    Args:
        n: The number of points.

    Returns:
        Levels, (n,).

    Example:
        >>> refinement(9).tolist()
        [0, 2, 1, 2, 0, 2, 1, 2, 0]
    """
    stride = 1 << max(0, (n - 1).bit_length() - 2)
    levels = np.full(n, -1)
    for level in range(n.bit_length() + 1):
        chosen = np.arange(0, n, max(1, stride >> level))
        levels[chosen[levels[chosen] < 0]] = level
    return levels
