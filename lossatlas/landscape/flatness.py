"""How flat a saved surface is around its centre, in numbers that follow from its cells alone.

Distances are in the coordinates of the line or plane: with filter-normalized directions 1 is as long as the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.landscape.interpolant import Interpolant, fitting
from lossatlas.landscape.surface import Surface

RISES = (0.1, 0.5, 1.0)
ANGLES = 360
STEPS = 8  # of a cell, along a ray and for the share of a plane


@dataclass(frozen=True)
class Measure:
    """A number; `bound` where the edge of the grid, or a cell that is not known, came first, and it may be larger. how: in a
    word, where there is more than one way."""

    value: float
    bound: bool = False
    how: str = ""

    def __str__(self) -> str:
        return f"{'> ' * self.bound}{self.value:.4g}{f' ({self.how})' if self.how else ''}"


def flatness(surface: Surface, name: str = "train_loss") -> dict[str, Measure]:
    """Measures by what they are, in an order to be read; a line has fewer. Raises BadUsage where nothing is known.

    The centre is the origin, the network itself; where that is not on the grid, the lowest cell.
    """
    if name not in surface.fields:
        raise BadUsage(f"there is no field '{name}': choose from {', '.join(surface.fields)}")
    values = np.atleast_2d(surface.fields[name])
    x, y = surface.grid.x, np.zeros(1) if surface.grid.y is None else surface.grid.y
    if len(x) < 2:
        raise BadUsage(f"one point along x says nothing about how flat it is: {surface.grid}")
    if not np.isfinite(values).any():
        raise BadUsage(f"no cell of '{name}' is finite")
    ground = Ground.of(x, y, values)
    centre, where = ground.centre()
    result = {
        f"{name} at the centre{where}": Measure(centre[2]),
        "lowest cell": Measure(float(np.nanmin(ground.known))),
    }
    exact = surface.about.get("second_derivatives") if where == "" and name == "train_loss" else None
    for letter in "xy" if surface.grid.y is not None else "x":
        if np.isfinite((found := curvature(ground, letter, centre, exact)).value):  # the centre may lie on the edge
            result[f"curvature along {letter}"] = found
    radii = ground.radii(centre, [centre[2] + rise for rise in RISES])
    for rise, (lengths, bounds) in zip(RISES, radii, strict=True):
        first = int(lengths.argmin())
        result[f"radius below +{rise:g}, smallest"] = Measure(float(lengths[first]), bool(bounds[first]))
        result[f"radius below +{rise:g}, mean"] = Measure(float(lengths.mean()), bool(bounds.any()))
    what = "line" if surface.grid.y is None else "plane"
    for rise in RISES:
        result[f"share of the {what} below +{rise:g}"] = Measure(ground.share(centre[2] + rise))
    if surface.grid.y is None and x[0] <= 0 and x[-1] >= 1:
        result |= barrier(surface, name)
    return result


def barrier(surface: Surface, name: str) -> dict[str, Measure]:
    """How far the loss between 0 and 1 rises above the straight line between its values there (Frankle et al., 2020)."""
    line = Ground.of(surface.grid.x, np.zeros(1), np.atleast_2d(surface.fields[name]))
    places = np.linspace(0, 1, 1001)
    values = line.at(places, np.zeros(1001))
    above = values - ((1 - places) * values[0] + places * values[-1])
    if not np.isfinite(above).any():
        return {}
    top = int(np.nanargmax(above))
    return {
        "barrier from 0 to 1": Measure(float(above[top]), bool(np.isnan(above).any())),
        "barrier at": Measure(places[top]),
    }


@dataclass(frozen=True)
class Ground:
    """A field between its cells; a line is a plane of one row."""

    x: np.ndarray
    y: np.ndarray
    known: np.ndarray  # (ny, nx), NaN where it is not finite
    between: Interpolant

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, values: np.ndarray) -> "Ground":
        known = np.where(np.isfinite(values), values, np.nan)
        if len(y) == 1:  # the same row again: nothing changes across
            rows, wide = np.array([-1.0, 1.0]), np.repeat(known, 2, 0)
        else:
            rows, wide = y, known
        finite = known[np.isfinite(known)]
        log = fitting(x, rows, wide)[0] if len(y) > 1 else bool((finite > 0).all())
        return cls(x, y, known, Interpolant.of(x, rows, wide, log))

    def at(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.between.at(a, b)[0]

    def centre(self) -> tuple[tuple[float, float, float], str]:
        """Coordinates and value, and what it is where it is not the origin."""
        cell = [np.flatnonzero(axis == 0) for axis in (self.y, self.x)]
        if all(len(each) for each in cell):  # a cell, whatever its neighbours are
            origin = float(self.known[cell[0][0], cell[1][0]])
        else:
            origin = float(self.at(np.array(0.0), np.array(0.0)))
        if np.isfinite(origin):
            return (0.0, 0.0, origin), ""
        j, i = np.unravel_index(np.nanargmin(self.known), self.known.shape)
        return (float(self.x[i]), float(self.y[j]), float(self.known[j, i])), " (the lowest cell)"

    def radii(self, centre: tuple[float, float, float], levels: list[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each level, along rays in all directions that begin on the grid: how far the value stays below, and where the
        grid ends before."""
        turns = np.array([0.0, np.pi]) if len(self.y) == 1 else np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
        ways = np.stack([np.cos(turns), np.sin(turns) * (len(self.y) > 1)])
        spacing = [np.diff(axis).min() for axis in (self.x, self.y) if len(axis) > 1]
        reach = float(np.hypot(np.ptp(self.x), np.ptp(self.y)))
        ways = ways[:, self.edge(centre, ways, np.full(len(turns), reach)) > 1e-9 * reach]
        far = np.linspace(0, reach, max(2, int(np.ceil(reach / min(spacing) * STEPS)) + 1))
        a, b = (c + far[:, None] * way for c, way in zip(centre, ways, strict=False))
        values = self.at(a, b)
        values[0] = centre[2]
        found = []
        for level in levels:
            stop = ~(values <= level)  # also where it is not known
            first = np.where(stop.any(0), stop.argmax(0), len(far) - 1)
            below, above = (np.take_along_axis(values, k[None], 0)[0] for k in (np.maximum(first - 1, 0), first))
            bound = np.isnan(above) | ~stop.any(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                part = np.where(bound, 0.0, (level - below) / (above - below))
            lengths = far[np.maximum(first - 1, 0)] + part * (far[1] - far[0])
            found.append((np.where(bound, self.edge(centre, ways, far[first]), lengths), bound))
        return found

    def edge(self, centre: tuple[float, float, float], ways: np.ndarray, most: np.ndarray) -> np.ndarray:
        """How far the grid reaches along each ray, at most so far: a cell that is not known may come first."""
        reach = np.full(ways.shape[1], np.inf)
        for c, way, axis in zip(centre, ways, (self.x, self.y), strict=False):
            with np.errstate(divide="ignore", invalid="ignore"):
                ends = np.where(way > 1e-12, (axis[-1] - c) / way, np.where(way < -1e-12, (axis[0] - c) / way, np.inf))
            reach = np.minimum(reach, ends)
        return np.minimum(reach, most)

    def share(self, level: float) -> float:
        """Of the part that is known."""
        axes = [
            np.interp((np.arange(STEPS * (len(axis) - 1)) + 0.5) / STEPS, np.arange(len(axis)), axis)
            for axis in (self.x, self.y)
        ]
        if len(self.y) == 1:
            axes[1] = np.zeros(1)
        values = self.at(*np.meshgrid(*axes))
        known = np.isfinite(values)
        return float((values[known] <= level).sum() / known.sum())


def curvature(
    ground: Ground, letter: str, centre: tuple[float, float, float], exact: Mapping[str, float] | None
) -> Measure:
    """The second derivative along an axis, as a product with the Hessian has given it, or from the cells beside the centre."""
    if exact and letter * 2 in exact:
        return Measure(float(exact[letter * 2]), how="exact")
    axis = ground.x if letter == "x" else ground.y
    at = centre[0] if letter == "x" else centre[1]
    step = float(np.diff(axis).min())
    places = at + step * np.array([-1.0, 0.0, 1.0])
    other = np.full(3, centre[1] if letter == "x" else centre[0])
    values = ground.at(places, other) if letter == "x" else ground.at(other, places)
    return Measure(float((values[0] - 2 * values[1] + values[2]) / step**2), how=f"cells {step:.3g} apart")
