"""Training runs in one plane: differences from the origin, coordinates, and distances from the plane."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from lossatlas.choices import DirType, Ignore, PlaneKind
from lossatlas.errors import BadInput
from lossatlas.io import Directions, Projection
from lossatlas.io.trajectory_files import EXPLAINED
from lossatlas.jobs.inputs.networks import Net, point_of
from lossatlas.jobs.trajectory.checkpoint_projection import (
    CheckpointDifferences,
    differences,
    flat_axes,
    plane_coordinates,
)
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries
from lossatlas.parameter_space import Point, Selection, as_point
from lossatlas.parameter_space.projection import product_matrix
from lossatlas.parameter_space.selection import EVERYTHING


@dataclass(frozen=True, kw_only=True)
class PlaneChoice:
    """The plane that checkpoints are projected onto.

    Attributes:
        kind: 'pca' for the first two principal components, 'river' for the drift and the top eigenvector of the
            Hessian, 'local' for a chart of local planes.
        dir_type: 'weights' for parameters, 'states' for buffers too.
        ignore: 'biasbn' leaves out biases and normalization layers, '' does not.
        selection: The tensors that are not left out.
    """

    kind: PlaneKind = "pca"
    dir_type: DirType = "weights"
    ignore: Ignore = ""
    selection: Selection = EVERYTHING


@dataclass(frozen=True, kw_only=True)
class RunDifferences:
    """Differences of all checkpoints from the last one of the first run, which is the origin.

    Attributes:
        runs: The runs.
        choice: The tensors that count.
        rows: (checkpoints, numbers) differences: the first run without its last checkpoint, the other runs, the origin.
        net: A network of this architecture.
        origin: Tensors of the origin by name.
        origin_hash: Hash of the origin's checkpoint.
    """

    runs: tuple[CheckpointSeries, ...]
    choice: PlaneChoice
    rows: CheckpointDifferences
    net: nn.Module
    origin: Point
    origin_hash: str

    @classmethod
    def of(
        cls,
        net: nn.Module,
        runs: Sequence[CheckpointSeries],
        choice: PlaneChoice,
        origin_hash: str,
        *,
        complete: bool,
    ) -> "RunDifferences":
        """Read the origin; the other checkpoints are read when they are needed.

        Args:
            net: The network.
            runs: The runs.
            choice: The tensors that count.
            origin_hash: Hash of the origin's checkpoint.
            complete: Each checkpoint has to hold all tensors of the network, also those that do not count.

        Raises:
            BadInput: A checkpoint does not fit the network.
        """
        first, *others = runs
        checkpoints: list[Net] = [*first.checkpoints[:-1], *(each for run in others for each in run.checkpoints)]
        checkpoints.append(first.checkpoints[-1])

        def point(k: int) -> Point:
            return point_of(net, checkpoints[k], choice.dir_type, complete=complete)

        origin = point(len(checkpoints) - 1)
        rows = differences(point, len(checkpoints), origin, net, ignore=choice.ignore, selection=choice.selection)
        return cls(runs=tuple(runs), choice=choice, rows=rows, net=net, origin=origin, origin_hash=origin_hash)

    def row_numbers(self) -> list[list[int]]:
        """Return the numbers of the rows of each run, in the order of its checkpoints."""
        numbers, start = [], 0
        for k, run in enumerate(self.runs):
            count = len(run.checkpoints) - (k == 0)
            numbers.append([*range(start, start + count), *([len(self.rows) - 1] if k == 0 else [])])
            start += count
        return numbers


@dataclass(frozen=True, kw_only=True)
class ProjectedRuns:
    """Training runs in one plane.

    Attributes:
        runs: The runs.
        directions: The plane as a file stores it.
        plane: Its two directions by tensor name.
        paths: Coordinates of each run in the plane.
        origin_hash: Hash of the checkpoint at the origin.
    """

    runs: tuple[CheckpointSeries, ...]
    directions: Directions
    plane: tuple[Point, Point]
    paths: tuple[Projection, ...]
    origin_hash: str

    @property
    def plane_digest(self) -> str:
        """SHA-256 of the directions of the plane."""
        return self.directions.sha256

    @property
    def coordinates(self) -> np.ndarray:
        """(checkpoints, 2) coordinates of all runs."""
        return np.concatenate([np.column_stack([path.x, path.y]) for path in self.paths])

    @property
    def distances(self) -> np.ndarray:
        """(checkpoints,) distances of all runs from the plane."""
        return np.concatenate([path.distance for path in self.paths if path.distance is not None])

    @property
    def extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest coordinate of all runs along x and along y."""
        low, high = self.coordinates.min(0), self.coordinates.max(0)
        return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))

    def share_in_plane(self) -> float:
        """Return the share of the squared distances from the origin that lies in the plane, from 0 to 1."""
        axes, places = flat_axes(self.plane), self.coordinates
        inside = ((places @ product_matrix(axes, axes)) * places).sum()
        return float(inside / max(float(inside + (self.distances**2).sum()), 1e-300))


def project_runs(found: RunDifferences, directions: Directions, source: str, *, own: bool) -> ProjectedRuns:
    """Project training runs onto a plane.

    Args:
        found: The differences from the origin.
        directions: The plane.
        source: Name of the plane in messages.
        own: The plane is made from these runs, so that its shares of the variance are theirs.

    Returns:
        The runs in the plane.

    Raises:
        BadInput: The directions do not fit the network, or span no plane.
    """
    if directions.y is None:
        raise BadInput(f"{source} holds one direction, a plane needs two")
    kind, name = found.choice.dir_type, f"a direction in {source}"
    plane = as_point(directions.x, found.net, kind, name), as_point(directions.y, found.net, kind, name)
    places, distances = plane_coordinates(found.rows, plane, source)
    shares = directions.extra.get(EXPLAINED, ()) if own else ()
    axes = tuple(str(directions.about.get(letter, letter)) for letter in "xy")
    paths = []
    for run, rows in zip(found.runs, found.row_numbers(), strict=True):
        path = Projection(
            places[rows, 0],
            places[rows, 1],
            epochs=None if run.epochs is None else np.array(run.epochs, float),
            distance=distances[rows],
            explained=tuple(float(share) for share in shares),
            drops=run.drops,
            run=run.name,
            axes=axes,
            counted=run.counted,
        )
        paths.append(path)
    return ProjectedRuns(
        runs=found.runs,
        directions=directions,
        plane=plane,
        paths=tuple(paths),
        origin_hash=found.origin_hash,
    )
