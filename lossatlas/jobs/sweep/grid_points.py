"""The points of a grid, for the commands and the Python functions alike: parametrization, and what a file records.

A front end translates its arguments into an `Origin` and a `DirectionRequest`; the functions of this module do the
rest:

    points_along(...)       a line or a plane along directions, a line for each layer of a direction, or a scheme
    random_lines(...)       lines along random directions
    points_on_curve(...)    a curve between two networks
    checkpoint_path(...)    checkpoints that are the points themselves
    points_of_chart(...)    a chart along a path of checkpoints
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.choices import CurveKind, CurveOrNone, DirType, SchemeOrNone
from lossatlas.errors import BadUsage, named
from lossatlas.io import Directions
from lossatlas.io.resume import NOT_COMPUTED
from lossatlas.jobs.inputs.make_directions import DirectionRequest, Origin
from lossatlas.jobs.sweep.parametrization import (
    AffineParametrization,
    ChartParametrization,
    CheckpointPath,
    CurveParametrization,
    LayerLines,
    MappedParametrization,
    Parametrization,
    RandomLines,
    SchemeParametrization,
)
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.chart_cells import ChartCells

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.jobs.inputs.networks import Net
    from lossatlas.parameter_space import Point
    from lossatlas.parameter_space.local_planes import LocalChart

    NetworkPoint = tuple[str, Point]  # the name or the digest of a network, and its tensors

NEAR = 1e-3  # a network lies on a plane if its distance from the plane is at most this part of that from the origin
DECIMALS = 12  # of the coordinates of networks, so that rounding leaves none outside a grid that ends there

NetworkAt = tuple[str, float, float]  # the name of a network, and its coordinates x and y


@dataclass(frozen=True, kw_only=True)
class GridPoints:
    """The points of a grid.

    Attributes:
        parametrization: The map from coordinates to parameters.
        grid: The grid; the y coordinates of several lines are their numbers.
        record: The fields that identify the points, see `io.resume`.
        directions: The directions of the axes; None where none are stored (a path of checkpoints, repeats, curves).
        networks: The networks on the line or plane, where they are known.
        curve: The kind of the curve through three networks, of which the third is its control point; '' for none.
        chart_cells: The checkpoints that each cell of a chart comes from; None for other points.
    """

    parametrization: Parametrization
    grid: Grid
    record: Mapping[str, Any]
    directions: Directions | None = None
    networks: Sequence[NetworkAt] = ()
    curve: CurveOrNone = ""
    chart_cells: ChartCells | None = None

    def described(self, surface: Surface) -> Surface:
        """Return a new surface of these points, with what is known of its cells before they are computed."""
        return surface if self.chart_cells is None else self.chart_cells.on(surface)

    @property
    def about(self) -> dict[str, Any]:
        """The provenance of the points: networks and curve."""
        networks: dict[str, Any] = {"networks": self.networks} if self.networks else {}
        return networks | ({"curve": self.curve} if self.curve else {})


def points_along(
    origin: Origin, directions: Directions, grid: Grid, *, per_layer: bool = False, scheme: SchemeOrNone = ""
) -> GridPoints:
    """Return the points along directions.

    Args:
        origin: The network at the origin.
        directions: The directions; empty ones in a dry run, which does not compute them. Their float32 arrays become
            views of the buffers of a line or plane, so that no array exists twice.
        grid: The grid.
        per_layer: Move each layer alone, in a line of its own.
        scheme: The name of a nonlinear interpolation, see `parameter_space.schemes`; '' for none.

    Raises:
        BadUsage: The direction moves one layer alone, and `per_layer` is asked for.
        BadInput: The directions do not fit the network.
    """
    sha = directions.sha256 if directions.x else NOT_COMPUTED
    record: dict[str, Any] = {"dir_type": origin.dir_type, "directions": sha}
    points: Parametrization
    if scheme and directions.x and directions.y is not None:
        only, without = origin.selection.only, origin.selection.without
        points = SchemeParametrization(scheme, directions.x, directions.y, only, without)
        record["scheme"] = scheme
        if scheme == "barycentric" and (rule := origin.layout.rule("filter")):
            record["scheme_filters"] = rule.strip()
    elif origin.scratch is not None and directions.x and not per_layer:
        points = MappedParametrization(origin.dir_type, directions.axes)
    else:
        points = AffineParametrization.of(origin.dir_type, directions, origin.net)
    if per_layer and isinstance(points, AffineParametrization) and directions.x:
        layers = layers_moved(origin, directions)
        points, grid = LayerLines(points, tuple(map(tuple, layers.values()))), grid_of_rows(grid, len(layers))
        record |= {"rows_of": "layers", "rows": list(layers)}
    return GridPoints(parametrization=points, grid=grid, record=record, directions=directions)


def layers_moved(origin: Origin, directions: Directions) -> dict[str, list[str]]:
    """Return the tensor names of each layer that the x direction moves.

    Raises:
        BadUsage: It moves fewer than two layers.
    """
    from lossatlas.parameter_space import layers_of

    layers = layers_of(origin.vectors(directions)[0])
    if len(layers) < 2:
        raise BadUsage(
            f"{named('per_layer')}: the direction moves {len(layers)} layer of this network, and it needs two"
        )
    return layers


def grid_of_rows(grid: Grid, rows: int) -> Grid:
    """Return the grid of several lines, whose y numbers them."""
    return Grid(grid.x, np.arange(float(rows)))


def random_lines(request: DirectionRequest, grid: Grid, repeat: int) -> GridPoints:
    """Return lines along random directions, which every rank draws itself.

    Args:
        request: The first of them; the others differ in `idx`.
        grid: The grid of a line.
        repeat: The number of lines.
    """
    origin, axis = request.origin, request.axes[0]
    rows = [replace(request, idx=k).describe()["x"] for k in range(repeat)]
    only, without = origin.selection.only, origin.selection.without
    return GridPoints(
        parametrization=RandomLines(origin.dir_type, axis.norm, axis.ignore, request.seed, only, without),
        grid=grid_of_rows(grid, repeat),
        record={"dir_type": origin.dir_type, "directions": rows[0], "rows_of": "repeats", "rows": rows},
    )


def checkpoint_path(path: "Sequence[Net]", grid: Grid, dir_type: DirType) -> GridPoints:
    """Return the points of a path of checkpoints, the k-th at x = k; each is read again when it is evaluated."""
    from lossatlas.jobs.inputs.networks import state_of
    from lossatlas.models.checkpoint import state_digest

    digests = [state_digest(state_of(each)) for each in path]
    return GridPoints(
        parametrization=CheckpointPath(dir_type, tuple(zip(path, digests, strict=True))),
        grid=grid,
        record={"dir_type": dir_type, "path": digests},
    )


def points_of_chart(path: "Sequence[Net]", chart: "LocalChart", grid: Grid) -> GridPoints:
    """Return the points of a chart along a path of checkpoints.

    Args:
        path: The checkpoints.
        chart: The chart; x is the length of the path, y the distance across it.
        grid: The grid.
    """
    record: dict[str, Any] = {"dir_type": chart.dir_type, "chart": "local planes", "directions": chart.digest}
    if chart.in_own_planes:
        record["cells"] = "in their own planes"
    return GridPoints(
        parametrization=ChartParametrization(
            CheckpointPath("states", tuple(zip(path, chart.digests, strict=True))), chart
        ),
        grid=grid,
        record=record,
        chart_cells=chart.cells(grid),
    )


def points_on_curve(
    kind: CurveKind, dir_type: DirType, control_points: "Sequence[NetworkPoint]", end: "NetworkPoint", grid: Grid
) -> GridPoints:
    """Return the points of a curve from the network to another one.

    Args:
        kind: 'bezier' or 'polygonal'.
        dir_type: 'weights' or 'states'.
        control_points: The digests and tensors of the control points in order.
        end: The digest and the tensors of the other network.
        grid: The grid.
    """
    arrays = [{name: value.numpy() for name, value in each.items()} for _, each in (*control_points, end)]
    words = f"a {kind} curve towards {end[0]} by {', '.join(digest for digest, _ in control_points)}"
    return GridPoints(
        parametrization=CurveParametrization(kind, dir_type, arrays),
        grid=grid,
        record={"dir_type": dir_type, "directions": words},
    )


def networks_on(
    origin: Origin, vectors: "Sequence[Point]", name: str, others: "Sequence[NetworkPoint]"
) -> list[NetworkAt]:
    """Return the networks on a line or a plane, of a volume that at z = 0, with their coordinates by least squares.

    Args:
        origin: The network at the origin.
        vectors: The directions; none in a dry run.
        name: The name of the network at the origin.
        others: Names and tensors of further networks, of which those off the plane are left out.
    """
    from lossatlas.parameter_space.normalization import dot, inner
    from lossatlas.parameter_space.points import widened

    found = [(name, 0.0, 0.0)]
    gram = np.array([[inner(a, b) for b in vectors] for a in vectors])
    for other, target in others if vectors else ():
        along, square = np.zeros(len(vectors)), 0.0
        for tensor, value in origin.point.items():  # one at a time, which may be large
            shift = widened(target[tensor]) - widened(value)
            along += [dot(a[tensor], shift) for a in vectors]
            square += dot(shift, shift)
        at = np.linalg.lstsq(gram, along, rcond=None)[0]
        if square - 2 * at @ along + at @ gram @ at <= NEAR**2 * square:
            x, y, z = (round(float(c), DECIMALS) + 0.0 for c in (*at, 0.0, 0.0)[:3])
            if z == 0:
                found.append((other, x, y))
    return found
