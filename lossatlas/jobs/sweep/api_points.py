"""The points of a Python function's grid: a line, a plane, or several lines, with their directions and their record."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas import config
from lossatlas.data import AnyData, Loss
from lossatlas.errors import BadUsage, named
from lossatlas.io import Directions
from lossatlas.jobs.inputs.api_inputs import DirectionArguments, point_of, state_of
from lossatlas.jobs.inputs.make_directions import AxisRequest, make_directions
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.sweep.parametrization import RandomLines
from lossatlas.landscape import Grid
from lossatlas.models.checkpoint import digest
from lossatlas.parameter_space import (
    AffinePlane,
    Layout,
    MappedPlane,
    Plane,
    Point,
    RowLines,
    as_arrays,
    layers_of,
    lengths,
    position,
)
from lossatlas.parameter_space.directions import note_skewed


@dataclass(frozen=True, kw_only=True)
class ScriptPoints:
    """The points of a Python function's grid.

    Attributes:
        plane: The map from coordinates to parameters.
        grid: The grid; the y coordinates of several lines are their numbers.
        record: The fields that identify the points, see `io.resume`.
        directions: The directions as a file stores them; None where the points are lines along random directions.
        curvature: The curvature at the origin, for second derivatives along the axes; None where it is not asked for.
    """

    plane: Plane
    grid: Grid
    record: Mapping[str, Any]
    directions: Directions | None
    curvature: OriginCurvature | None = None


@dataclass(frozen=True, kw_only=True)
class PointSource:
    """Inputs from which the points of a Python function's grid are made.

    Attributes:
        arguments: The arguments that define the axes.
        net: The network at the origin.
        grid: The grid that was asked for, of one or two axes.
        dir_type: 'weights' or 'states'.
        data: Samples of the loss, for gradient and eigenvectors.
        loss: The loss.
        loss_name: Its name in records.
        device: The device of gradient and eigenvectors.
    """

    arguments: DirectionArguments
    net: nn.Module
    grid: Grid
    dir_type: str
    data: AnyData
    loss: Loss
    loss_name: str
    device: torch.device

    def points(self) -> ScriptPoints:
        """Make the points.

        Raises:
            BadUsage: Directions and networks do not fit the number of axes.
            BadInput: A direction or a network does not fit.
        """
        if self.arguments.path:
            return self.checkpoints()
        if self.arguments.repeat > 1:
            return self.random_lines()
        return self.along_directions()

    def checkpoints(self) -> ScriptPoints:
        """Make the points of a path, each of which is read when it is evaluated."""
        path = self.arguments.path
        digests = [digest(state_of(each)) for each in path]
        return ScriptPoints(
            plane=MappedPlane(lambda a, _: point_of(self.net, path[round(a)], self.dir_type)),
            grid=self.grid,
            record={"dir_type": self.dir_type, "path": digests},
            directions=None,
        )

    def random_lines(self) -> ScriptPoints:
        """Make lines along random directions, those of the command with the same seed."""
        arguments, origin = self.arguments, position(self.net, self.dir_type)
        selection = arguments.selection.within_net(self.net)
        selection.of(origin)
        axis = AxisRequest("random", arguments.random_norm, arguments.ignore)
        lines = RandomLines(
            self.dir_type,
            config.AxisConfig(norm=axis.norm, ignore=axis.ignore),
            arguments.seed,
            arguments.selection.only,
            arguments.selection.without,
        )
        layout = Layout.of(self.net)
        rows = [axis.describe(arguments.seed, k, layout, None) + self.selected for k in range(arguments.repeat)]
        return ScriptPoints(
            plane=lines.lines(self.net, origin),
            grid=Grid(self.grid.x, np.arange(float(arguments.repeat))),
            record={"dir_type": self.dir_type, "directions": rows[0], "rows_of": "repeats", "rows": rows},
            directions=None,
        )

    def along_directions(self) -> ScriptPoints:
        """Make a line or a plane along directions, or a line for each layer of a direction."""
        arguments, axes = self.arguments, 1 if self.grid.y is None else 2
        origin, selection = position(self.net, self.dir_type), arguments.selection.within_net(self.net)
        selection.of(origin)
        arguments.check_axes(axes)
        layout = Layout.of(self.net)
        requests = [arguments.axis(k, axes, self.net, origin, self.dir_type) for k in range(axes)]
        curvature = OriginCurvature(
            self.net,
            self.data,
            self.loss,
            loss_name=self.loss_name,
            selection=arguments.selection,
            device=self.device,
        )
        vectors = make_directions(
            requests,
            origin,
            layout,
            selection,
            curvature,
            seed=arguments.seed,
            orthogonalize=arguments.orthogonalize,
        )
        if axes == 2:
            hint = f"{named('orthogonalize')} takes out of y its part along x"
            note_skewed(vectors[0], vectors[1], f"the surface is sheared ({hint})")
        words = [request.describe(arguments.seed, 0, layout, curvature) + self.selected for request in requests]
        directions = self.stored(origin, vectors, words)
        record: dict[str, Any] = {"dir_type": self.dir_type, "directions": directions.sha256}
        wanted = arguments.curvature or any(request.kind in ("gradient", "eigenvector") for request in requests)
        points = ScriptPoints(
            plane=AffinePlane(origin, *vectors),
            grid=self.grid,
            record=record,
            directions=directions,
            curvature=curvature if wanted else None,
        )
        return self.layer_by_layer(points, origin, vectors[0]) if arguments.per_layer else points

    def layer_by_layer(self, points: ScriptPoints, origin: Point, direction: Point) -> ScriptPoints:
        """Return a line for each layer of a direction, instead of the line along all of it. Raises BadUsage."""
        layers = layers_of(direction)
        if len(layers) < 2:
            raise BadUsage(
                f"{named('per_layer')}: the direction moves {len(layers)} layer of this network, and it needs two"
            )
        return replace(
            points,
            plane=layer_lines(origin, direction, list(layers.values())),
            grid=Grid(self.grid.x, np.arange(float(len(layers)))),
            record={**points.record, "rows_of": "layers", "rows": list(layers)},
        )

    @property
    def selected(self) -> str:
        """The part of a direction's description that names the parameters which move."""
        return f", {self.arguments.selection}" if self.arguments.selection else ""

    def stored(self, origin: Point, vectors: list[Point], words: list[str]) -> Directions:
        """Return directions as a file stores them; words: their descriptions."""
        arrays = [as_arrays({n: v.cpu() for n, v in vector.items()}, self.net, self.dir_type) for vector in vectors]
        about = {"checkpoint": digest(state_of(self.net)), "dir_type": self.dir_type}
        about |= dict(zip("xy", words, strict=False))
        if len(words) == 2 and self.arguments.orthogonalize:
            about["y"] += ", orthogonal to x"
        extra = {"tensors": np.array([name.encode() for name in origin]), "lengths": lengths(origin, vectors)}
        return Directions(arrays[0], arrays[1] if len(arrays) == 2 else None, about, extra)


def layer_lines(origin: Mapping[str, Tensor], direction: Point, layers: list[list[str]]) -> RowLines:
    """Return a line for each layer: the k-th one moves the tensors of that layer alone."""
    return RowLines(origin, lambda k: {name: direction[name] for name in layers[k]})
