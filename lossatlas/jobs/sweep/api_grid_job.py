"""From the arguments of a Python function to a finished surface."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from lossatlas import config
from lossatlas.choices import DirType
from lossatlas.data import AnyData, DataLike, Loss, LossLike, as_dataset, as_loss
from lossatlas.data.memory import in_words
from lossatlas.errors import note
from lossatlas.evaluation.reference import KeptTensors
from lossatlas.io.direction_files import Directions
from lossatlas.io.lock import Lock
from lossatlas.jobs.inputs.api_arguments import AxisLike, check_values, dir_type_of, grid_of
from lossatlas.jobs.inputs.api_inputs import DirectionArguments, recorded_loss_name
from lossatlas.jobs.inputs.input_check import CHECKED, check_inputs
from lossatlas.jobs.inputs.make_directions import ArraysInFile, DirectionRequest, Origin, note_sheared
from lossatlas.jobs.inputs.network_memory import memory_record, small_batch_size
from lossatlas.jobs.inputs.networks import state_of, statistics_differ
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.output_files import with_lock
from lossatlas.jobs.inputs.records import about_of, request_of
from lossatlas.jobs.sweep.grid_job import Quantity, SurfaceOutput, continued, run_from_python, with_second_derivatives
from lossatlas.jobs.sweep.grid_points import (
    GridPoints,
    checkpoint_path,
    networks_on,
    points_along,
    points_of_chart,
    random_lines,
)
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.landscape import Grid, Surface
from lossatlas.models.checkpoint import state_digest
from lossatlas.mpi.agreement import check_same_request, on_first
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of
from lossatlas.parameter_space import Plane, position

NAMES = ("network", "second network", "third network")  # of modules, which have none, in figures

E = TypeVar("E")  # evaluates the quantity, see `Quantity`


@dataclass(frozen=True, kw_only=True)
class SurfaceArguments(Generic[E]):
    """Arguments of `surface` or `eigenvalues`, checked before anything is read.

    Attributes:
        quantity: The quantity to compute at every point.
        axes: The arguments that define the axes.
        x: Coordinates along the first direction.
        y: Coordinates along the second direction; None for a line.
        device: Where it is computed.
        limit: The number of samples of each split; None for all.
        dir_type: 'weights' or 'states'; None where the networks decide.
        low: The network is moved in place, and everything else of its size is on disk.
        z: Coordinates along the third direction; None for a line or a plane.
    """

    quantity: Quantity[E]
    axes: DirectionArguments
    x: AxisLike
    y: AxisLike | None
    device: torch.device
    limit: int | None
    dir_type: DirType | None
    low: bool = False
    z: AxisLike | None = None

    @classmethod
    def checked(
        cls,
        net: nn.Module,
        *,
        quantity: Quantity[E],
        axes: DirectionArguments,
        x: AxisLike,
        y: AxisLike | None,
        device: str | torch.device | None,
        limit: int | None,
        dir_type: DirType | None,
        low: bool = False,
        z: AxisLike | None = None,
    ) -> "SurfaceArguments[E]":
        """Check the arguments of `surface` and `eigenvalues`.

        Args:
            net: The network, whose device is the default.
            quantity: The quantity to compute at every point.
            axes: The arguments that define the axes.
            x: Coordinates along the first direction.
            y: Coordinates along the second direction; None for a line.
            device: Device to compute on; None for the device of the network.
            limit: Number of samples of each split; None for all.
            dir_type: 'weights' or 'states'; None where the networks decide.
            low: The network is moved in place, and everything else of its size is on disk.
            z: Coordinates along the third direction; None for a line or a plane.

        Raises:
            BadUsage: An argument is out of range, or two contradict each other.
        """
        only, without = axes.selection.only, axes.selection.without
        check_values(config.PlaneOptions, seed=axes.seed, only=only, without=without)
        check_values(config.DatasetOptions, limit=limit)
        axes.check(1 + (y is not None) + (z is not None), dir_type)
        place = device_of(device, net=net)
        return cls(quantity=quantity, axes=axes, x=x, y=y, z=z, device=place, limit=limit, dir_type=dir_type, low=low)

    def read(
        self, net: nn.Module, data: DataLike, test: DataLike | None, loss: LossLike, kept: KeptTensors | None = None
    ) -> "SurfaceInputs":
        """Read the data, check them with network and loss, and make the points.

        Args:
            net: The network.
            data: Training samples.
            test: Test samples, or None.
            loss: The loss.
            kept: The copies of a large network's tensors on disk.

        Raises:
            BadUsage: Arguments contradict each other.
            BadInput: Network, data and loss do not fit each other.
        """
        splits = {"train": as_dataset(data, limit=self.limit)}
        if test is not None:
            splits["test"] = as_dataset(test, split="test", limit=self.limit)
        loss_function, grid = as_loss(loss), grid_of(self.x, self.y, self.z)
        checked = CHECKED if kept is None else min(CHECKED, max(2, small_batch_size(splits["train"])))
        some_losses = check_inputs(net, loss_function, splits["train"], type(net).__name__, checked)
        moved = dir_type_of(self.dir_type, states_differ=statistics_differ(net, self.axes.others))
        self.axes.check(len(grid.axes), moved)
        curvature = OriginCurvature(
            net,
            splits["train"],
            loss_function,
            loss_name=recorded_loss_name(loss),
            selection=self.axes.selection,
            device=self.device,
        )
        points, plane, second_derivatives = self.points(net, moved, grid, curvature, kept)
        return SurfaceInputs(
            splits=splits,
            loss=loss_function,
            dir_type=moved,
            points=points,
            plane=plane,
            request={
                **request_of(net, loss, splits, some_losses),
                **points.record,
                **memory_record(low=kept is not None),
            },
            about={**about_of(splits), **points.about},
            curvature=curvature if second_derivatives else None,
        )

    def points(
        self,
        net: nn.Module,
        dir_type: DirType,
        grid: Grid,
        curvature: OriginCurvature,
        kept: KeptTensors | None = None,
    ) -> tuple[GridPoints, Plane, bool]:
        """Make the grid points of the axes: checkpoints, random lines, or points along directions.

        Args:
            net: The network at the origin.
            dir_type: 'weights' or 'states'.
            grid: The grid that was asked for, of one or two axes.
            curvature: Gradient and eigenvectors at the origin.
            kept: The copies of a large network's tensors on disk.

        Returns:
            The points, their plane, which shares no memory with the network, and whether second derivatives belong to
            them.

        Raises:
            BadUsage: Directions and networks do not fit the number of axes.
            BadInput: A direction or a network does not fit.
        """
        axes = self.axes
        if axes.path:
            chart, path = axes.chart, axes.path
            points = checkpoint_path(path, grid, dir_type) if chart is None else points_of_chart(path, chart, grid)
            return points, points.parametrization.plane(net), False
        at = position(net, dir_type) if kept is None else kept.point(net, dir_type)
        origin = Origin.checked(net, dir_type, at, axes.selection, None if kept is None else kept.scratch)
        request = axes.request(origin, len(grid.axes), curvature)
        if axes.repeat is not None:
            points = random_lines(request, grid, axes.repeat)
            return points, points.parametrization.plane(net, origin.point), False
        points = along_new_directions(request, grid, per_layer=axes.per_layer)
        plane = points.parametrization.plane(net, origin.point)
        return points, plane, axes.curvature or request.needs_curvature


def along_new_directions(request: DirectionRequest, grid: Grid, *, per_layer: bool) -> GridPoints:
    """Make directions, and return the points along them, with the networks on their line or plane."""
    origin, vectors = request.origin, request.make()
    about = {"checkpoint": state_digest(state_of(origin.net)), "dir_type": origin.dir_type}
    directions = request.stored(vectors, about)
    note_sheared(origin, directions)
    points = points_along(origin, directions, grid, per_layer=per_layer)
    ends = [(name, axis) for name, axis in zip(NAMES[1:], request.axes, strict=False) if axis.kind == "network"]
    if per_layer or not ends:
        return points
    others = [(name, axis.vector) for name, axis in ends if axis.vector is not None]
    return replace(points, networks=networks_on(origin, vectors, NAMES[0], others))


@dataclass(frozen=True, kw_only=True)
class SurfaceInputs:
    """Inputs of `surface` and `eigenvalues`.

    Attributes:
        splits: The samples by split.
        loss: The loss.
        dir_type: 'weights' or 'states'.
        points: The points of the grid.
        plane: The map from its coordinates to parameters.
        request: The fields that identify the job, see `io.resume`.
        about: Provenance.
        curvature: The curvature at the origin, where second derivatives along the axes are asked for.
        problem: Network, points, data and loss together.
    """

    splits: dict[str, AnyData]
    loss: Loss
    dir_type: DirType
    points: GridPoints
    plane: Plane
    request: dict[str, Any]
    about: dict[str, Any]
    curvature: OriginCurvature | None = None
    problem: Problem | None = None


def embedded(directions: Directions | None) -> Directions | None:
    """Return the directions that a surface file holds, without vectors that would be large in every snapshot."""
    axes = () if directions is None else directions.axes
    if directions is None or not any(isinstance(axis, ArraysInFile) for axis in axes):
        return directions
    size = in_words(directions.stored_bytes)
    note(f"the surface file does not hold its directions, {size} of vectors: figures do not need them")
    return None


def run_surface_job(
    world: World,
    net: nn.Module,
    quantity: Quantity[E],
    inputs: SurfaceInputs,
    file: str | Path | None,
    *,
    force: bool,
    progress: bool,
) -> Surface:
    """Compute the missing cells of a surface for a Python function, under the lock of its file.

    Args:
        world: The ranks of the script, every one of which calls this.
        net: The network at the origin.
        quantity: The quantity to compute.
        inputs: The inputs, with their `problem`.
        file: The surface file to write or to continue; None to keep everything in memory.
        force: Start over where `file` exists.
        progress: Show a progress line.

    Returns:
        The surface, see `grid_job.run_from_python`.

    Raises:
        BadInput: The file belongs to another job, or ranks have different arguments.
        CannotWrite: The file cannot be written, or another run writes it.
    """
    points, problem = inputs.points, inputs.problem
    assert problem is not None
    fresh = points.described(
        quantity.new_surface(
            net,
            inputs.splits,
            inputs.loss,
            points.grid,
            device=str(problem.device),
            request=inputs.request,
            about=inputs.about,
        )
    )
    shared = {"grid": str(points.grid), "precision": fresh.plan.get("precision")}
    check_same_request(world, {**fresh.request, **shared, "curvature": inputs.curvature is not None})

    def finish(lock: Lock | None) -> Surface:
        known = continued(world, file, fresh)
        known = on_first(world, lambda: with_second_derivatives(known, inputs.curvature, points.directions))
        path, embed = (None, None) if file is None else (Path(file), embedded(points.directions))
        output = SurfaceOutput(path, embed=embed, lock=lock)
        return run_from_python(world, quantity, problem, known, output, progress=progress)

    return with_lock("surface", file, world, force=force, finish=finish)
