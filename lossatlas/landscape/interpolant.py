"""A surface between its cells: a bicubic interpolant with continuous slope, and an estimate of its error.

Slopes at the nodes come from parabolas through three neighbours, so that parabolas are reproduced exactly; between the
nodes it is a Hermite polynomial (Press et al., Numerical Recipes, section 3.6). Optionally, the logarithm of the values
is interpolated. The page's interpolant.js does the same arithmetic.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

FEWEST_NODES = 5  # nodes along each axis, to leave out every second one
BEYOND = (
    0.25  # how far a drawn value may lie beyond the cells around it, in second differences: a parabola needs an eighth
)


@dataclass(frozen=True)
class Interpolant:
    """A bicubic Hermite interpolant. Immutable.

    Attributes:
        x: Coordinates of the columns, (nx,).
        y: Coordinates of the rows, (ny,).
        u: Values at the nodes or their logarithms, (ny, nx).
        ux: Slopes along x, (ny, nx).
        uy: Slopes along y, (ny, nx).
        uxy: Mixed derivatives, (ny, nx).
        log: The logarithm is interpolated.

    Example:
        >>> x = np.linspace(-1, 1, 5)
        >>> surface = Interpolant.of(x, x, x[None] ** 2 + x[:, None])
        >>> value, slope_x, slope_y = surface.at(0.25, 0.5)
        >>> float(value), float(slope_x), float(slope_y)
        (0.5625, 0.5, 1.0)
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    ux: np.ndarray
    uy: np.ndarray
    uxy: np.ndarray
    log: bool

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, values: np.ndarray, *, log: bool = False) -> "Interpolant":
        """Return the interpolant of values (ny, nx), in which NaN and infinity are holes.

        Args:
            x: Coordinates of the columns, (nx,).
            y: Coordinates of the rows, (ny,).
            values: (ny, nx).
            log: Interpolate the logarithm; every finite value then has to be positive.
        """
        values = np.where(np.isfinite(values), values, np.nan)
        u = np.log(values) if log else values
        ux = slopes(x, u)
        return cls(np.asarray(x, float), np.asarray(y, float), u, ux, slopes(y, u.T).T, slopes(y, ux.T).T, log)

    def at(self, a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the value and its slopes along x and y.

        Args:
            a: x coordinates.
            b: y coordinates, of the same shape.

        Returns:
            Three arrays of that shape; NaN outside the grid and in holes.
        """
        a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
        inside = (a >= self.x[0]) & (a <= self.x[-1]) & (b >= self.y[0]) & (b <= self.y[-1])
        i = np.clip(np.searchsorted(self.x, a, "right") - 1, 0, len(self.x) - 2)
        j = np.clip(np.searchsorted(self.y, b, "right") - 1, 0, len(self.y) - 2)
        h, k = self.x[i + 1] - self.x[i], self.y[j + 1] - self.y[j]
        p, dp = weights((a - self.x[i]) / h, h)
        q, dq = weights((b - self.y[j]) / k, k)
        value, slope_x, slope_y = np.zeros(a.shape), np.zeros(a.shape), np.zeros(a.shape)
        for n, (row, last) in enumerate(((j, 0), (j, 1), (j + 1, 0), (j + 1, 1))):
            # along y: value at the lower node, slope there, value at the upper node, slope there
            along, mixed = (self.uy, self.uxy) if last else (self.u, self.ux)
            parts = (along[row, i], mixed[row, i], along[row, i + 1], mixed[row, i + 1])
            line = sum(weight * part for weight, part in zip(p, parts, strict=True))
            slope = sum(weight * part for weight, part in zip(dp, parts, strict=True))
            value, slope_x, slope_y = value + q[n] * line, slope_x + q[n] * slope, slope_y + dq[n] * line
        if self.log:
            with np.errstate(over="ignore", invalid="ignore"):  # far outside the grid, where the result is NaN
                value = np.exp(value)
                slope_x, slope_y = value * slope_x, value * slope_y
        return tuple(np.where(inside, each, np.nan) for each in (value, slope_x, slope_y))  # type: ignore[return-value]

    def drawn_at(self, a: ArrayLike, b: ArrayLike) -> np.ndarray:
        """Return the values as the page draws them, within the range of the cells around each point.

        Beside a cell that differs much from all others the polynomial swings far beyond the cells around a point.

        Args:
            a: x coordinates.
            b: y coordinates, of the same shape.

        Returns:
            An array of that shape; NaN outside the grid and in holes.
        """
        a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
        i = np.clip(np.searchsorted(self.x, a, "right") - 1, 0, len(self.x) - 2)
        j = np.clip(np.searchsorted(self.y, b, "right") - 1, 0, len(self.y) - 2)
        low, high = (np.exp(each) if self.log else each for each in self._limits())
        return np.clip(self.at(a, b)[0], low[j, i], high[j, i])

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each square of four cells the lowest and the highest node value that is drawn, (ny-1, nx-1)."""
        corners = np.stack([self.u[:-1, :-1], self.u[:-1, 1:], self.u[1:, :-1], self.u[1:, 1:]])
        along = second_differences(self.x, self.u)
        across = second_differences(self.y, self.u.T).T
        below, above = (
            np.maximum(0, np.maximum(sign * along[:-1], sign * along[1:]))
            + np.maximum(0, np.maximum(sign * across[:, :-1], sign * across[:, 1:]))
            for sign in (1, -1)
        )
        return corners.min(0) - BEYOND * below, corners.max(0) + BEYOND * above


def second_differences(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return second differences in the intervals along the last axis, the smaller one of the two ends of each.

    It is 0 where the ends differ in sign: one cell that differs much from all others bends one end alone. Beside an
    edge or a hole, the second derivative at the next node counts.

    Args:
        x: Coordinates, (n,).
        u: Values at the nodes, (..., n).

    Returns:
        (..., n - 1).
    """
    bends = np.full((*u.shape[:-1], len(x) + 2), np.nan)  # with a node more at either end
    slope = np.diff(u) / np.diff(x)
    bends[..., 2:-2] = 2 * np.diff(slope) / (x[2:] - x[:-2])
    left = np.where(np.isnan(bends[..., 1:-2]), bends[..., 3:], bends[..., 1:-2])
    right = np.where(np.isnan(bends[..., 2:-1]), bends[..., :-3], bends[..., 2:-1])
    a, b = np.where(np.isnan(left), right, left), np.where(np.isnan(right), left, right)
    return np.where(a * b > 0, np.sign(a) * np.minimum(np.abs(a), np.abs(b)) * np.diff(x) ** 2, 0.0)


def clip_for_drawing(found: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Clip and round interpolated values for drawing.

    A bicubic overshoots a plateau of several equal values, such as an accuracy of 100 %, and rounding errors on a
    plateau would be drawn as contours. A minimum between the cells is lower than all of them, and stays.

    Args:
        found: Interpolated values.
        values: The values at the nodes.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return found
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = 10.0 ** np.floor(np.log10(np.maximum(np.abs(found), 1e-290)))
        found = np.round(found / unit, 11) * unit
    return np.clip(found, *plausible_range(finite))


def plausible_range(finite: np.ndarray) -> tuple[float, float]:
    """Return the range in which an interpolant is plausible.

    It does not pass a plateau, and is not negative if no value is. A minimum between the cells may be lower than all of
    them, but not below half of the lowest positive one.

    Args:
        finite: The finite values at the nodes, of any shape.

    Returns:
        The lowest and the highest plausible value, which may be infinite.
    """
    if finite.size == 0:
        return -np.inf, np.inf
    low, high = float(finite.min()), float(finite.max())
    plateau = (finite == low).sum() > max(4, 0.03 * finite.size)
    lowest = low if plateau else low / 2 if low >= 0 else -np.inf
    return lowest, high if (finite == high).sum() > 1 else np.inf


def weights(t: np.ndarray, h: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return the Hermite weights of value, slope, next value and next slope at t in [0, 1], and their derivatives.

    Args:
        t: Positions in the intervals.
        h: Lengths of the intervals.
    """
    value = ((1 + 2 * t) * (1 - t) ** 2, h * t * (1 - t) ** 2, t * t * (3 - 2 * t), h * t * t * (t - 1))
    slope = (6 * t * (t - 1) / h, (1 - t) * (1 - 3 * t), 6 * t * (1 - t) / h, t * (3 * t - 2))
    return value, slope


def slopes(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return slopes along the last axis of u (..., n), from the parabola through a node and its neighbours.

    At an edge or next to a hole, the parabola goes through the two next nodes on the other side, or it is a line.
    """
    n = len(x)
    result = np.full(u.shape, np.nan)
    known = np.isfinite(u)
    for k in range(n):
        on_axis = [0 <= m < n for m in range(k - 2, k + 3)]
        ok = [known[..., k + d] if on_axis[d + 2] else np.zeros(u.shape[:-1], bool) for d in range(-2, 3)]
        choices = [  # in order of preference
            (ok[1] & ok[3], (-1, 0, 1)),
            (ok[3] & ok[4], (0, 1, 2)),
            (ok[1] & ok[0], (-2, -1, 0)),
            (ok[3], (0, 1)),
            (ok[1], (-1, 0)),
        ]
        found = np.where(ok[2], 0.0, np.nan)  # a node without neighbours is flat
        for possible, steps in reversed(choices):
            if all(0 <= k + step < n for step in steps):
                nodes = [k + step for step in steps]
                found = np.where(ok[2] & possible, slope_of(x[nodes], u[..., nodes], x[k]), found)
        result[..., k] = found
    return result


def slope_of(x: np.ndarray, u: np.ndarray, at: float) -> np.ndarray:
    """Return the slope of the polynomial through two or three nodes, at `at`."""
    if len(x) == 2:
        return (u[..., 1] - u[..., 0]) / (x[1] - x[0])
    first, second = ((u[..., m + 1] - u[..., m]) / (x[m + 1] - x[m]) for m in (0, 1))
    curvature = (second - first) / (x[2] - x[0])
    return first + curvature * ((at - x[0]) + (at - x[1]))


def cross_validate(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> tuple[bool, float]:
    """Decide whether to interpolate the logarithm, and estimate the relative error.

    Every second row and column is left out and predicted. The error is the median difference divided by the
    interquartile range of the values, or a fifth of the 95th percentile divided by their range, whichever is larger.
    The transform with the smaller error is taken; values themselves are not, if they are predicted to be negative where
    all are positive.

    Args:
        x: Coordinates of the columns, (nx,).
        y: Coordinates of the rows, (ny,).
        values: (ny, nx).

    Returns:
        Whether to interpolate the logarithm, and the error; NaN where nothing can be left out.
    """
    finite = values[np.isfinite(values)]
    positive = bool(finite.size and (finite > 0).all())
    if min(len(x), len(y)) < FEWEST_NODES:
        return positive, np.nan
    cut = np.s_[::2, ::2]
    left = np.ones(values.shape, bool)
    left[cut] = False
    best = (positive, np.nan)
    for log in (True, False) if positive else (False,):
        coarse = Interpolant.of(x[::2], y[::2], values[cut], log=log)
        found, _, _ = coarse.at(*np.meshgrid(x, y))
        seen = left & np.isfinite(values) & np.isfinite(found)
        if seen.sum() < FEWEST_NODES or (positive and (found[seen] <= 0).any()):
            continue
        with np.errstate(divide="ignore"):
            scaled = (np.log(found[seen]), np.log(values[seen])) if positive else (found[seen], values[seen])
        distance = np.abs(scaled[0] - scaled[1])
        middle, whole = float(np.subtract(*np.percentile(scaled[1], [75, 25]))), float(np.ptp(scaled[1]))
        usual = float(np.median(distance)) / middle if middle > 0 else 0.0
        error = max(usual, 0.2 * float(np.percentile(distance, 95)) / whole if whole > 0 else 0.0)
        if np.isnan(best[1]) or error < best[1]:
            best = (log, error)
    return best
