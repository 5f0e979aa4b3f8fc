"""Measures of how flat a saved surface is around its centre.

Distances are in the coordinates of the line or plane: for filter-normalized directions, a distance of 1 is the norm of
the weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lossatlas.argument_checks import checked_number
from lossatlas.errors import BadUsage, named
from lossatlas.landscape.cell_prediction import prediction_errors
from lossatlas.landscape.interpolant import Interpolant, cross_validate, plausible_range
from lossatlas.landscape.recorded_options import recorded_option
from lossatlas.landscape.surface import Surface

SAME_COORDINATE = 1e-9  # of the length of an axis: smaller differences are rounding
RISES = (0.1, 0.5, 1.0)  # levels above the centre
ANGLES = 360  # rays
STEPS_PER_CELL = 8  # along a ray, and for the share of a plane


@dataclass(frozen=True)
class Measure:
    """A number with its error.

    Attributes:
        value: The number.
        bound: The value is a lower bound, because the edge of the grid or an unknown cell was reached.
        method: How the number was obtained, where there is more than one method.
        error: Error bound due to interpolated cells, NaN where it is not known.
        confidence: Half of the 95 % confidence interval of a mean over random directions, 0 for other numbers.
        resolution: The distance of the cells between which the number lies, where they do not tell more; 0 where the
            values between cells are those of a smooth field.
    """

    value: float
    bound: bool = False
    method: str = ""
    error: float = 0.0
    confidence: float = 0.0
    resolution: float = 0.0

    def __str__(self) -> str:
        method = "; ".join(filter(None, [self.method, "interpolated, error unknown" * bool(np.isnan(self.error))]))
        error = "".join(f" +- {each:.2g}" for each in (self.confidence, self.error) if each > 0)
        decimals = max(0, -math.floor(math.log10(self.resolution))) if self.resolution else 0
        value = f"{self.value:.{decimals}f}" if self.resolution else f"{self.value:.4g}"
        return f"{'> ' * self.bound}{value}{error}{f' ({method})' if method else ''}"


def flatness(surface: Surface, name: str = "train_loss", within: float | None = None) -> dict[str, Measure]:
    """Measure how flat a field is around its centre.

    The centre is the origin, the network itself; where that is not on the grid, the lowest cell. The lowest cell, the
    curvature and the barrier are of computed cells alone. Radii and shares are of the surface between the cells; where
    some of these are interpolated, the error is the largest change when these move by their error bounds. An infinite
    value is above every level. Of a score, which is better the higher it is, there are the lowest and the highest cell,
    and the radius of `within`.

    Args:
        surface: A line or a plane.
        name: The name of the field.
        within: Measure as well how far from the centre the field stays within this percentage of its value there:
            until a loss has risen by it, or a score (see `is_score`) has fallen by it.

    Returns:
        Measures by description, in the order of a report; a line has fewer.

    Raises:
        BadUsage: The field does not exist, has no finite value, or the grid has one point along x; the cells lie on a
            chart along a training path; or the centre is 0 where `within` is asked for.
    """
    if surface.is_chart:
        raise BadUsage(
            "this is a chart along a training path, and flatness is measured on a line or a plane through one network: "
            "compute one with lossatlas surface"
        )
    if name not in surface.fields:
        raise BadUsage(f"there is no field '{name}': choose from {', '.join(surface.fields)}")
    if len(surface.grid.x) < 2:
        raise BadUsage(f"one point along x says nothing about how flat it is: {surface.grid}")
    if not np.isfinite(surface.fields[name][surface.done]).any():
        raise BadUsage(f"no cell of '{name}' is finite")
    field, errors = InterpolatedField.of_surface(surface, name), prediction_errors(surface, name)
    centre, where = field.centre()
    change = None if within is None else RelativeChange.of(name, within, centre[2])
    result = {
        f"{name} at the centre{where}": centre_measure(surface, name, field),
        "lowest cell": Measure(float(np.nanmin(field.measured))),
    }
    if is_score(name):
        result["highest cell"] = Measure(float(np.nanmax(field.measured)))
    exact = surface.about.get("second_derivatives") if where == "" and name == "train_loss" else None
    axes = "" if is_score(name) else "x" if surface.grid.y is None else "xy"
    for axis_name in axes:
        if np.isfinite((found := curvature(field, axis_name, centre, exact)).value):  # the centre may lie on the edge
            result[f"curvature along {axis_name}"] = found
    rises = () if is_score(name) else RISES
    shifted = [extents(other, change, rises) for other in shifted_fields(surface, name, field)]
    result |= with_errors(extents(field, change, rises), shifted, errors)
    if between_networks(surface):
        result |= barrier(surface, name)
    return result


def centre_measure(surface: Surface, name: str, field: "InterpolatedField") -> Measure:
    """Return the value at the centre, with its error if no cell was computed there."""
    (a, b, value), _ = field.centre()
    cell = field.cell(a, b)
    if cell is not None and np.isfinite(field.measured[cell]):
        return Measure(value)
    if cell is not None:
        return Measure(value, error=float(np.atleast_2d(prediction_errors(surface, name))[cell]))
    others = [{"": Measure(other.centre()[0][2])} for other in shifted_fields(surface, name, field)]
    return with_errors({"": Measure(value, method="between cells")}, others, prediction_errors(surface, name))[""]


@dataclass(frozen=True)
class RelativeChange:
    """A change of a field for the worse: a loss rises by a percentage of its value at the centre, a score falls.

    Attributes:
        words: The change in words.
        sign: 1 where the field rises, -1 where it falls.
        size: Its size, in units of the field.
    """

    words: str
    sign: int
    size: float

    @classmethod
    def of(cls, name: str, percent: float, centre: float) -> "RelativeChange":
        """Return the change of a field.

        Args:
            name: The name of the field.
            percent: The percentage.
            centre: The value of the field at the centre.

        Raises:
            BadUsage: The percentage is not positive and finite, or the centre is 0 or not finite.
        """
        checked_number("within", percent, above=0)
        if not 0 < abs(centre) < np.inf:
            raise BadUsage(f"{name} is {centre:g} at the centre: {named('within')} asks for a percentage of it")
        rises = not is_score(name)
        return cls(f"{'+' if rises else '-'}{percent:g} %", 1 if rises else -1, abs(centre) * percent / 100)

    def radii(self, field: "InterpolatedField") -> "Radii":
        """Return the distances from the centre at which the change is reached."""
        towards = replace(field, values=self.sign * field.values)
        (a, b, _), _ = field.centre()
        value = self.sign * field.centre()[0][2]
        return towards.radii((a, b, value), [value + self.size])[0]


def is_score(name: str) -> bool:
    """Tell whether a field is better the higher it is: one that is neither a loss nor an eigenvalue.

    Example:
        >>> is_score("train_acc"), is_score("exp(train_loss)"), is_score("max_eig")
        (True, False, False)
    """
    return "loss" not in name and "_eig" not in name


def extents(field: "InterpolatedField", change: RelativeChange | None, rises: Sequence[float]) -> dict[str, Measure]:
    """Return radii around the centre, and the shares of the grid below some levels.

    Args:
        field: The field.
        change: A change for the worse up to which a radius is measured; None for none.
        rises: The levels above the centre.
    """
    centre, _ = field.centre()
    result = {}
    if change is not None:
        radii = change.radii(field)
        # A score of samples has steps, and where a step lies between two cells is not known.
        resolution = field.spacing if change.sign < 0 else 0.0
        result[f"radius within {change.words}, smallest"] = replace(radii.smallest(), resolution=resolution)
        result[f"radius within {change.words}, mean"] = replace(radii.mean(), resolution=resolution)
    for rise, radii in zip(rises, field.radii(centre, [centre[2] + rise for rise in rises]), strict=True):
        result[f"radius below +{rise:g}, smallest"] = radii.smallest()
        result[f"radius below +{rise:g}, mean"] = radii.mean()
    label = "line" if len(field.y) == 1 else "plane"
    for rise in rises:
        below, known = field.share(centre[2] + rise)
        method = f"of the {100 * known:.3g} % that is known" if known < 1 else ""
        result[f"share of the {label} below +{rise:g}"] = Measure(below, method=method)
    return result


def shifted_fields(surface: Surface, name: str, field: "InterpolatedField") -> list["InterpolatedField"]:
    """Return the field with interpolated cells as low and as high as they may be; nothing if there are none."""
    errors = np.atleast_2d(prediction_errors(surface, name))
    if not errors.any():
        return []
    lowest, highest = plausible_range(field.measured[np.isfinite(field.measured)])
    values = (field.values - errors, field.values + errors)
    return [replace(field, values=np.where(errors == 0, field.values, np.clip(v, lowest, highest))) for v in values]


def with_errors(found: dict[str, Measure], others: list[dict[str, Measure]], errors: np.ndarray) -> dict[str, Measure]:
    """Add the largest difference to some other measures as the error; NaN if an error bound is NaN."""
    unknown = np.nan if np.isnan(errors).any() else 0.0
    return {
        label: replace(
            each, error=float(np.max([unknown, *(abs(other[label].value - each.value) for other in others)]))
        )
        for label, each in found.items()
    }


def between_networks(surface: Surface) -> bool:
    """Return whether a line connects one network at 0 with another one at 1, and reaches both."""
    if surface.grid.y is not None or not surface.grid.x[0] <= 1e-9 or not surface.grid.x[-1] >= 1 - 1e-9:
        return False
    if "networks" in surface.about:
        positions = np.array([float(x) for _, x, _ in surface.about["networks"]])
        return all(bool(np.isclose(positions, end, atol=1e-6).any()) for end in (0, 1))
    towards, direction = (recorded_option(surface.about, name) for name in ("model_file2", "xdirection"))
    return bool(towards) and direction in ("", "random")  # without an x direction of its own


def barrier(surface: Surface, name: str) -> dict[str, Measure]:
    """Measure the barrier on a line between two networks, from computed cells.

    The barrier is the largest difference between the loss and the straight line between the values at 0 and 1 (Frankle
    et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML 2020, section 2).
    """
    field = InterpolatedField.of_surface(surface, name)
    x, values = field.x, field.measured[0]
    ends = []
    for position in (0.0, 1.0):
        k = int(np.abs(x - position).argmin())
        at_cell = np.isclose(x[k], position, atol=1e-9) and not np.isnan(values[k])
        ends.append(float(values[k]) if at_cell else float(field.at(np.array(position), np.array(0.0))))
    inside = (x > 1e-9) & (x < 1 - 1e-9)
    known = inside & ~np.isnan(values)
    if not np.isfinite(ends).all() or not known.any():
        return {}
    above = values[known] - ((1 - x[known]) * ends[0] + x[known] * ends[1])
    top, rounding = int(above.argmax()), 1e-14 * max(map(abs, ends))
    if not above[top] > rounding:
        return {"barrier from 0 to 1": Measure(0.0, bound=bool((inside & ~known).any()))}
    return {
        "barrier from 0 to 1": Measure(float(above[top]), bound=bool((inside & ~known).any())),
        "barrier at": Measure(float(x[known][top])),
    }


@dataclass(frozen=True)
class Radii:
    """Distances along rays from the centre to a level.

    Attributes:
        lengths: (rays,).
        bounds: Which of them are lower bounds, (rays,).
        infinite: Which of them end at an infinite value, (rays,).
    """

    lengths: np.ndarray
    bounds: np.ndarray
    infinite: np.ndarray

    def smallest(self) -> Measure:
        """Return the shortest distance, a lower bound where its ray meets the edge of the grid first."""
        k = int(self.lengths.argmin())
        method = "up to an infinite cell" if self.infinite[k] else ""
        return Measure(float(self.lengths[k]), bound=bool(self.bounds[k]), method=method)

    def mean(self) -> Measure:
        """Return the mean distance, a lower bound where a ray meets the edge of the grid first."""
        method = f"{100 * self.infinite.mean():.2g} % of it up to infinite cells" if self.infinite.any() else ""
        return Measure(float(self.lengths.mean()), bound=bool(self.bounds.any()), method=method)


@dataclass(frozen=True)
class InterpolatedField:
    """A field as a continuous function; a line is a plane of one row.

    Attributes:
        x: Coordinates of the columns, (nx,).
        y: Coordinates of the rows, (ny,).
        values: (ny, nx), NaN where they are not known.
        computed: Which values are computed, not interpolated from others, (ny, nx).
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    computed: np.ndarray

    @classmethod
    def of_surface(cls, surface: Surface, name: str) -> "InterpolatedField":
        """Return a field of a surface; interpolated values are clipped to the limits of the computed ones."""
        values, done = np.atleast_2d(surface.fields[name]), np.atleast_2d(surface.done)
        measured = values[done & np.isfinite(values)]
        values = np.where(done, values, np.clip(values, *plausible_range(measured)))
        return cls(surface.grid.x, np.zeros(1) if surface.grid.y is None else surface.grid.y, values, done)

    @cached_property
    def measured(self) -> np.ndarray:
        """The computed values, NaN elsewhere."""
        return np.where(self.computed, self.values, np.nan)

    @cached_property
    def between(self) -> Interpolant:
        """The interpolant of the finite values."""
        known = np.where(np.isfinite(self.values), self.values, np.nan)
        if len(self.y) == 1:  # repeated, so that the field is constant across the line
            rows, wide = np.array([-1.0, 1.0]), np.repeat(known, 2, 0)
        else:
            rows, wide = self.y, known
        finite = known[np.isfinite(known)]
        log = cross_validate(self.x, rows, wide)[0] if len(self.y) > 1 else bool((finite > 0).all())
        return Interpolant.of(self.x, rows, wide, log=log)

    def at(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return values at points (a, b), never above all cells around them.

        Next to an infinite cell, each point has the value of the nearest cell.
        """
        found = self.between.at(a, b)[0]
        corners, nearest = self.square(a, b)
        found = np.fmin(found, np.where(np.isnan(corners).any(0) | np.isnan(found), found, corners.max(0)))
        if not np.isinf(self.values).any():
            return found
        inside = (a >= self.x[0]) & (a <= self.x[-1]) & ((len(self.y) == 1) | ((b >= self.y[0]) & (b <= self.y[-1])))
        at_infinity = inside & np.isnan(found) & (np.isinf(nearest) | ~np.isnan(corners).any(0))
        return np.where(at_infinity, nearest, found)

    def square(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of the cells around points, (2 or 4, ...), and of the nearest one."""
        positions = []
        for axis, at in ((self.y, b), (self.x, a)):
            low = np.clip(np.searchsorted(axis, at, "right") - 1, 0, max(0, len(axis) - 2))
            high = np.minimum(low + 1, len(axis) - 1)
            positions.append((low, high, np.where(at - axis[low] > axis[high] - at, high, low)))
        (south, north, row), (west, east, column) = positions
        corners = np.stack([self.values[j, i] for j in (south, north) for i in (west, east)])
        return corners, self.values[row, column]

    def cell(self, a: float, b: float) -> tuple[int, int] | None:
        """Return row and column of the cell at a point, or None."""
        found = [
            np.flatnonzero(np.abs(axis - at) <= SAME_COORDINATE * np.ptp(axis))
            for axis, at in ((self.y, b), (self.x, a))
        ]
        return (int(found[0][0]), int(found[1][0])) if all(len(each) for each in found) else None

    def centre(self) -> tuple[tuple[float, float, float], str]:
        """Return coordinates and value of the centre, and a remark if it is not the origin."""
        cell = self.cell(0.0, 0.0)
        origin = float(self.at(np.array(0.0), np.array(0.0)) if cell is None else self.values[cell])
        if np.isfinite(origin):
            return (0.0, 0.0, origin), ""
        finite = np.where(np.isfinite(self.measured), self.measured, np.inf)
        j, i = np.unravel_index(finite.argmin(), finite.shape)
        return (float(self.x[i]), float(self.y[j]), float(finite[j, i])), " (the lowest cell)"

    @property
    def spacing(self) -> float:
        """The smallest distance of two cells along an axis."""
        return min(float(np.diff(axis).min()) for axis in (self.x, self.y) if len(axis) > 1)

    def radii(self, centre: tuple[float, float, float], levels: Sequence[float]) -> list[Radii]:
        """Measure, for each level, how far the value stays below it along rays in all directions.

        Args:
            centre: Coordinates and value where the rays begin.
            levels: The levels.

        Returns:
            The radii of each level.
        """
        turns = np.array([0.0, np.pi]) if len(self.y) == 1 else np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
        rays = np.stack([np.cos(turns), np.sin(turns) * (len(self.y) > 1)])
        reach = float(np.hypot(np.ptp(self.x), np.ptp(self.y)))
        rays = rays[:, self.edge(centre, rays, np.full(len(turns), reach)) > 1e-9 * reach]
        far = np.linspace(0, reach, max(2, int(np.ceil(reach / self.spacing * STEPS_PER_CELL)) + 1))
        a, b = (c + far[:, None] * ray for c, ray in zip(centre, rays, strict=False))
        values = self.at(a, b)
        values[0] = centre[2]
        found = []
        for level in levels:
            stop = ~(values <= level)  # True for NaN
            first = np.where(stop.any(0), stop.argmax(0), len(far) - 1)
            below, above = (np.take_along_axis(values, k[None], 0)[0] for k in (np.maximum(first - 1, 0), first))
            bound = np.isnan(above) | ~stop.any(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                part = np.where(bound | ~np.isfinite(below), 0.0, (level - below) / (above - below))
            lengths = far[np.maximum(first - 1, 0)] + part * (far[1] - far[0])
            end = self.edge(centre, rays, np.full(rays.shape[1], reach))  # of the grid
            known = np.where(stop.any(0), far[np.maximum(first - 1, 0)], far[first])
            lengths = np.where(bound, np.where(end <= far[first], end, known), lengths)
            found.append(Radii(lengths, bound, np.isposinf(above)))
        return found

    def edge(self, centre: tuple[float, float, float], rays: np.ndarray, most: np.ndarray) -> np.ndarray:
        """Return the distance to the edge of the grid along each ray, at most `most`, where an unknown cell may be."""
        reach = np.full(rays.shape[1], np.inf)
        for c, ray, axis in zip(centre, rays, (self.x, self.y), strict=False):
            with np.errstate(divide="ignore", invalid="ignore"):
                ends = np.where(ray > 1e-12, (axis[-1] - c) / ray, np.where(ray < -1e-12, (axis[0] - c) / ray, np.inf))
            reach = np.minimum(reach, ends)
        return np.minimum(reach, most)

    def share(self, level: float) -> tuple[float, float]:
        """Return the share of the known part that is below a level, and the share of the grid that is known."""
        axes = [
            np.interp((np.arange(STEPS_PER_CELL * (len(axis) - 1)) + 0.5) / STEPS_PER_CELL, np.arange(len(axis)), axis)
            for axis in (self.x, self.y)
        ]
        if len(self.y) == 1:
            axes[1] = np.zeros(1)
        values = self.at(*np.meshgrid(*axes))
        known = ~np.isnan(values)
        return float((values[known] <= level).sum() / known.sum()) if known.any() else np.nan, float(known.mean())


def curvature(
    field: InterpolatedField, axis_name: str, centre: tuple[float, float, float], exact: Mapping[str, float] | None
) -> Measure:
    """Return the second derivative along an axis.

    Args:
        field: The field, with its mask of computed cells.
        axis_name: 'x' or 'y'.
        centre: Coordinates x and y of the point, and the value there.
        exact: Second derivatives by Hessian-vector products, by 'xx' and 'yy'; None or empty where there are none.

    Returns:
        The exact value where it is given; otherwise a second difference of computed cells, NaN where they are missing.
    """
    if exact and axis_name * 2 in exact:
        return Measure(float(exact[axis_name * 2]), method="exact")
    cell, along_x = field.cell(*centre[:2]), axis_name == "x"
    if cell is not None:
        row, k = (cell[0], cell[1]) if along_x else (cell[1], cell[0])
        axis, values = (field.x, field.values[row]) if along_x else (field.y, field.values[:, row])
        return second_difference(axis, values, field.computed[row] if along_x else field.computed[:, row], k)
    axis, at, across = (field.x, centre[0], centre[1]) if along_x else (field.y, centre[1], centre[0])
    step = float(np.diff(axis).min())
    positions, other = at + step * np.array([-1.0, 0.0, 1.0]), np.full(3, across)
    computed = replace(field, values=field.measured)
    values = computed.at(positions, other) if along_x else computed.at(other, positions)
    return Measure(float((values[0] - 2 * values[1] + values[2]) / step**2), method=f"between cells {step:.3g} apart")


def second_difference(axis: np.ndarray, values: np.ndarray, computed: np.ndarray, k: int) -> Measure:
    """Return the second derivative at a point of an axis, from the nearest computed points at equal distance.

    Args:
        axis: Coordinates (n,), increasing.
        values: Values (n,) at them.
        computed: Mask (n,) of the points that are computed, not interpolated.
        k: Index of the point.

    Returns:
        The second derivative and its method; NaN where no such three points are computed.
    """
    away = next((n for n in range(1, min(k, len(axis) - 1 - k) + 1) if computed[k - n] and computed[k + n]), 0)
    if not away or not computed[k]:
        return Measure(np.nan)
    (x0, x1, x2), (u0, u1, u2) = axis[[k - away, k, k + away]], values[[k - away, k, k + away]]
    with np.errstate(invalid="ignore"):
        found = 2 * ((u2 - u1) / (x2 - x1) - (u1 - u0) / (x1 - x0)) / (x2 - x0)
    return Measure(float(found), method=f"cells {(x2 - x0) / 2:.3g} apart")
