"""A surface between its cells: a bicubic interpolant with continuous slope, and an estimate of its error.

Slopes at the nodes come from parabolas through three neighbours, so that parabolas are reproduced exactly; between the
nodes it is a Hermite polynomial (Press et al., Numerical Recipes, section 3.6). Optionally, the logarithm of the values
is interpolated. For drawing, slopes are limited, so that no pits and towers appear beside a cell that differs much from
all others. The page's interpolant.js does the same arithmetic with limited slopes.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

FEWEST_NODES = 5  # nodes along each axis, to leave out every second one


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

    @classmethod
    def for_drawing(cls, x: np.ndarray, y: np.ndarray, values: np.ndarray, *, log: bool = False) -> "Interpolant":
        """Return the interpolant of values (ny, nx) that figures and the page draw, with limited slopes.

        Beside a cell that differs much from all others, it stays near the range of the cells around each point.

        Args:
            x: Coordinates of the columns, (nx,).
            y: Coordinates of the rows, (ny,).
            values: (ny, nx); NaN and infinity are holes.
            log: Interpolate the logarithm; every finite value then has to be positive.
        """
        free = cls.of(x, y, values, log=log)
        ux, uy = limited_slopes(free.x, free.u), limited_slopes(free.y, free.u.T).T
        uxy = minmod(limited_slopes(free.y, ux.T).T, limited_slopes(free.x, uy))
        return replace(free, ux=ux, uy=uy, uxy=uxy)

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


def subdivided(x: np.ndarray, u: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate along the last axis, as `Interpolant.for_drawing` does along one axis.

    Args:
        x: Coordinates, (n,).
        u: Finite values at the nodes, (..., n).
        parts: Parts that each interval is divided into.

    Returns:
        Coordinates (m,) and values (..., m), with the nodes among them, m being (n - 1) parts + 1.

    Example:
        >>> x = np.array([0.0, 1.0, 2.0])
        >>> [values.tolist() for values in subdivided(x, x**2, 2)]
        [[0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 0.25, 1.0, 2.25, 4.0]]
    """
    t, ux, h = np.arange(parts) / parts, limited_slopes(x, u), np.diff(x)[:, None]
    (a, b, c, d), _ = weights(t, h)
    left, right, slope, next_slope = u[..., :-1, None], u[..., 1:, None], ux[..., :-1, None], ux[..., 1:, None]
    values = a * left + b * slope + c * right + d * next_slope
    between = (*u.shape[:-1], (len(x) - 1) * parts)
    return (
        np.append((x[:-1, None] + t * h).ravel(), x[-1]),
        np.concatenate([values.reshape(between), u[..., -1:]], axis=-1),
    )


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


def limited_slopes(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return slopes along the last axis of u (..., n) that one node which differs from all others does not make steep.

    A slope is at most three times the smaller one of the two lines beside it, with which a curve through increasing
    values increases, or one and a half times that of two parabolas, which bend as both ends of their intervals do
    (Huynh 1993, Accurate monotone cubic interpolation, SIAM Journal on Numerical Analysis 30, 57-100, constraint M3).
    Slopes of parabolas stay as they are.

    Args:
        x: Coordinates, (n,).
        u: Values at the nodes, (..., n); NaN is a hole.

    Returns:
        (..., n).
    """
    steps = np.diff(x)
    lines = np.diff(u) / steps
    turns = steps * shared_bends(x, lines)
    none = np.full((*u.shape[:-1], 1), np.nan)
    line = minmod(np.concatenate([none, lines], -1), np.concatenate([lines, none], -1))
    parabola = minmod(np.concatenate([none, lines + turns], -1), np.concatenate([lines - turns, none], -1))
    steepest = np.maximum(3 * np.abs(np.where(np.sign(line) == np.sign(parabola), line, 0.0)), 1.5 * np.abs(parabola))
    found = slopes(x, u)
    return np.where(np.isnan(parabola), found, minmod(found, np.sign(parabola) * steepest))


def shared_bends(x: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Return the second divided difference that both ends of each interval have, the smaller one; 0 if signs differ.

    Beside an edge or a hole, that of the next node counts.

    Args:
        x: Coordinates, (n,).
        lines: Slopes of the lines between neighbours, (..., n - 1).
    """
    bends = np.full((*lines.shape[:-1], len(x) + 2), np.nan)  # with a node more at either end
    bends[..., 2:-2] = np.diff(lines) / (x[2:] - x[:-2])
    left, right = bends[..., 1:-2], bends[..., 2:-1]
    left = np.where(np.isnan(left), bends[..., 3:], left)
    right = np.where(np.isnan(right), bends[..., :-3], right)
    return np.nan_to_num(minmod(left, right))


def minmod(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the minmod of two numbers: the one nearer to 0, 0 for two signs; if one is NaN, the other one."""
    a, b = np.where(np.isnan(a), b, a), np.where(np.isnan(b), a, b)
    nearer = np.sign(a) * np.minimum(np.abs(a), np.abs(b))
    return np.where(np.isnan(a), np.nan, np.where(np.sign(a) == np.sign(b), nearer, 0.0))


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
