"""The trajectory of a Python function: its plane, the surface under the runs, and the checkpoints' own losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lossatlas import config
from lossatlas.choices import DirType, OwnPlaneCells, PlaneKind
from lossatlas.data import DataLike, LossLike, as_dataset, as_loss
from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.parallel_batches import evaluation_copy
from lossatlas.io import Directions
from lossatlas.jobs.inputs.api_arguments import AxisLike
from lossatlas.jobs.inputs.api_inputs import (
    Direction,
    DirectionArguments,
    given_direction,
    recorded_loss_name,
    shared_copy,
)
from lossatlas.jobs.inputs.networks import Net, state_for, state_of
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.stored_vectors import from_file
from lossatlas.jobs.sweep.api_grid_job import SurfaceArguments, SurfaceInputs, run_surface_job
from lossatlas.jobs.sweep.loss_quantity import LossQuantity
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.jobs.trajectory.checkpoint_projection import grid_around
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries
from lossatlas.jobs.trajectory.local_chart import ChartedRun, charted, own_plane_cells
from lossatlas.jobs.trajectory.plane_directions import (
    EndCurvature,
    FoundPlane,
    PlaneSource,
    given_plane,
    store_plane,
)
from lossatlas.jobs.trajectory.run_files import checkpoints_file, own_planes_file, write_projections
from lossatlas.jobs.trajectory.run_projection import PlaneChoice, ProjectedRuns, RunDifferences, project_runs
from lossatlas.landscape import Surface
from lossatlas.models.checkpoint import state_digest
from lossatlas.mpi.agreement import on_all, on_first
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of
from lossatlas.parameter_space import Selection, as_arrays
from lossatlas.parameter_space.local_planes import FEWEST_IN_CHART, LocalChart

FEWEST_CHECKPOINTS: dict[PlaneKind, int] = {
    "pca": 3,
    "river": 2,
    "local": FEWEST_IN_CHART,
}  # checkpoints that a plane needs
GivenPlane = str | Path | Sequence[Direction]  # a direction file, or two directions


@dataclass(frozen=True, kw_only=True)
class PathSamples:
    """The data and the loss of a trajectory.

    Attributes:
        data: Training samples; None for the coordinates alone.
        test: Further samples, evaluated as a second split.
        loss: The loss.
    """

    data: DataLike | None
    test: DataLike | None
    loss: LossLike


@dataclass(frozen=True, kw_only=True)
class PathOutput:
    """The files of a trajectory.

    Attributes:
        file: The surface file; None to keep everything in memory.
        dir_file: The direction file of the plane; None to keep it in memory.
        world: The ranks of the script.
        force: Start over.
        progress: Show a progress line.
    """

    file: Path | None
    dir_file: Path | None
    world: World
    force: bool
    progress: bool


@dataclass(frozen=True, kw_only=True)
class TrajectoryArguments:
    """Arguments of `trajectory`, checked before anything is read.

    Attributes:
        choice: The plane.
        directions: Directions of a given plane; None for the plane of the runs.
        counts: Grid points along x and along y; None for no surface.
        margin: Margin around the path, as a share of its extent.
        width: Extent of a chart across the path, as a share of its length.
        own_planes: The cells of a chart whose losses are computed in their own planes too.
        quantity: Computed on the grid.
        own: Computed of every checkpoint.
        device: The device; None for the network's.
        limit: The number of samples of each split; None for all.
        samples: The data and the loss.
        output: The files.
    """

    choice: PlaneChoice
    directions: GivenPlane | None
    counts: tuple[int, int] | None
    margin: float
    width: float
    own_planes: OwnPlaneCells
    quantity: LossQuantity
    own: LossQuantity
    device: str | torch.device | None
    limit: int | None
    samples: PathSamples
    output: PathOutput

    @property
    def has_surface(self) -> bool:
        """The surface under the runs, and the losses of the checkpoints, are computed."""
        return self.samples.data is not None and self.counts is not None

    def check(self) -> None:
        """Raise BadUsage where arguments contradict each other, need data, or have a value without meaning."""
        if self.choice.kind == "local":
            self.check_local()
        if self.choice.kind == "river":
            river = named("plane", "river")
            if self.directions is not None:
                raise BadUsage(f"{river} makes a plane, and {named('directions')} gives one: leave one of them out")
            if self.choice.dir_type != "weights":
                raise BadUsage(f"{river} has no eigenvector of statistics: leave {named('dir_type', 'states')} out")
            if self.samples.data is None:
                raise BadUsage(f"{river} takes an eigenvector of the Hessian: give data too")
        if self.directions is not None and self.output.dir_file is not None:
            raise BadUsage(
                f"{named('dir_file')} stores the plane of the checkpoints, and {named('directions')} gives another: "
                "leave one of them out"
            )
        if not self.has_surface and (self.output.file is not None or self.samples.test is not None):
            field, lacking = (
                "file" if self.output.file is not None else "test",
                "data" if self.samples.data is None else "points",
            )
            raise BadUsage(f"{named(field)} belongs to the surface under the path: give {lacking} too")
        if not isinstance(self.margin, int | float | np.number) or not 0 <= self.margin <= config.MOST_MARGIN:
            raise BadUsage(f"{named('margin', self.margin)}: give 0 to {config.MOST_MARGIN:g} times the path's extent")

    def check_local(self) -> None:
        """Raise BadUsage where arguments do not suit a chart along the path."""
        local = named("plane", "local")
        for field in ("directions", "dir_file"):
            if getattr(self if field == "directions" else self.output, field) is not None:
                raise BadUsage(f"{local} makes planes, and {named(field)} names one: leave one of them out")
        if not self.has_surface:
            raise BadUsage(f"{local} is a map of the loss along the path: give data and points")


@dataclass(frozen=True, kw_only=True)
class TrajectoryJob:
    """A trajectory that a Python function computes.

    Attributes:
        net: The network, which says which tensors are compared.
        runs: The runs.
        arguments: The arguments.
    """

    net: nn.Module
    runs: tuple[CheckpointSeries, ...]
    arguments: TrajectoryArguments

    @property
    def last(self) -> Net:
        """The last checkpoint of the first run, the origin of the plane."""
        return self.runs[0].checkpoints[-1]

    @cached_property
    def end(self) -> nn.Module:
        """A copy of the network with the tensors of the last checkpoint of the first run."""
        return at_checkpoint(self.net, self.last)

    def differences(self) -> RunDifferences:
        """Return the differences of the checkpoints from the origin.

        Raises:
            BadUsage: There are too few checkpoints for the plane.
            BadInput: A checkpoint cannot be read, or does not fit the network.
        """
        arguments, run = self.arguments, self.runs[0]
        if arguments.directions is None:
            count = sum(len(each.checkpoints) for each in self.runs)
            needed = FEWEST_CHECKPOINTS[arguments.choice.kind]
            if count < needed:
                raise BadUsage(f"{count} checkpoints span no plane: give at least {needed}")
        if empty := [each for each in self.runs if not each.checkpoints]:
            raise BadUsage(f"there are no checkpoints{f' of {empty[0].name}' if len(self.runs) > 1 else ''}")
        if arguments.choice.kind == "river" and len(run.checkpoints) < 2:
            raise BadUsage(
                f"{named('plane', 'river')} leads from the first checkpoint of the first run to its last one"
            )
        needs_hash = arguments.has_surface or arguments.output.dir_file or arguments.choice.kind == "river"
        origin_hash = state_digest(state_of(self.end)) if needs_hash else ""
        return RunDifferences.of(self.net, self.runs, arguments.choice, origin_hash, complete=arguments.has_surface)

    def project(self) -> ProjectedRuns:
        """Find the plane of the runs, and project them onto it.

        Returns:
            The runs in their plane, on every rank.

        Raises:
            BadUsage: There are too few checkpoints.
            BadInput: A checkpoint does not fit the network, or the plane is none.
            CannotWrite: The direction file cannot be written.
        """
        arguments, output = self.arguments, self.arguments.output
        found = on_all(output.world, self.differences)
        # The last bits of an eigenvector, and a file, are those of rank 0.
        shared = arguments.choice.kind == "river" or output.dir_file is not None
        plane = (on_first if shared else on_all)(output.world, lambda: self.plane(found))
        return on_all(output.world, lambda: self.projected(found, plane))

    def charted(self) -> ChartedRun:
        """Make the chart along the run, of rank 0 for every rank.

        Raises:
            BadUsage: There are several runs, or too few checkpoints.
            BadInput: A checkpoint does not fit the network, or there are no local planes.
        """
        choice, world = self.arguments.choice, self.arguments.output.world
        return on_first(world, lambda: charted(self.differences(), choice))

    def projected(self, found: RunDifferences, plane: FoundPlane) -> ProjectedRuns:
        """Project the runs onto a plane, and write their coordinates beside its direction file."""
        output = self.arguments.output
        projected = project_runs(found, plane.directions, plane.source, own=plane.own)
        if output.dir_file is not None and output.world.root:
            write_projections(output.dir_file, projected, own=True)
        return projected

    def plane(self, found: RunDifferences) -> FoundPlane:
        """Return the given plane, or the plane of the runs.

        The plane of the runs is written to its direction file.

        Raises:
            BadUsage: As `plane_of`.
            BadInput: As `plane_of`, `PlaneSource.plane` or `store_plane`.
            CannotWrite: As `store_plane`.
        """
        arguments, output = self.arguments, self.arguments.output
        if arguments.directions is not None:
            return plane_of(arguments.directions, found)
        stored = [file for file in (output.dir_file, output.file) if file is not None]
        source = PlaneSource(
            found=found,
            curvature=self.curvature() if arguments.choice.kind == "river" else None,
            stored=() if output.force else stored,
        )
        plane = source.plane()
        if output.dir_file is not None:
            store_plane(output.dir_file, plane, None, force=output.force)
        return plane

    def curvature(self) -> EndCurvature:
        """Return the Hessian of the loss at the end of the first run."""
        arguments, samples = self.arguments, self.arguments.samples
        loss = samples.loss
        assert samples.data is not None  # see `TrajectoryArguments.check`
        train = as_dataset(samples.data, limit=arguments.limit)
        fields = {"loss": loss} if isinstance(loss, str) else {"loss_function": recorded_loss_name(loss)}

        def make(selection: Selection) -> OriginCurvature:
            return OriginCurvature(
                self.end,
                train,
                as_loss(loss),
                loss_name=recorded_loss_name(loss),
                selection=selection,
                device=device_of(arguments.device, net=self.net),
            )

        return EndCurvature(record=EndCurvature.record_of(self.end, train, loss, fields), make=make)

    def surface_arguments(
        self, quantity: LossQuantity, axes: DirectionArguments, x: AxisLike, y: AxisLike | None, *, dir_type: DirType
    ) -> SurfaceArguments[Evaluator]:
        """Return the arguments of a surface around the origin of the plane.

        Args:
            quantity: The quantity to compute at every point.
            axes: The arguments that define the axes.
            x: Coordinates along the first direction.
            y: Coordinates along the second direction; None for a line.
            dir_type: 'weights' or 'states'.

        Raises:
            BadUsage: An argument is out of range, or two contradict each other.
        """
        arguments = self.arguments
        return SurfaceArguments.checked(
            self.end,
            quantity=quantity,
            axes=axes,
            x=x,
            y=y,
            device=arguments.device,
            limit=arguments.limit,
            dir_type=dir_type,
        )

    def losses(self) -> Surface:
        """Compute the losses of the checkpoints themselves, run by run, with their own BatchNorm statistics."""
        checkpoints = [each for run in self.runs for each in run.checkpoints]
        axes, x = DirectionArguments(path=tuple(checkpoints)), np.arange(float(len(checkpoints)))
        file = self.arguments.output.file
        arguments = self.surface_arguments(self.arguments.own, axes, x, None, dir_type="states")
        return self.compute(arguments, None if file is None else checkpoints_file(file))

    def surface(self, projected: ProjectedRuns) -> Surface:
        """Compute the surface under the runs."""
        counts = self.arguments.counts
        assert counts is not None
        x, y = grid_around(projected.extent, self.arguments.margin, counts)
        axes = DirectionArguments(directions=list(projected.plane))
        kind = self.arguments.choice.dir_type
        arguments = self.surface_arguments(self.arguments.quantity, axes, x, y, dir_type=kind)
        return self.compute(arguments, self.arguments.output.file, projected.directions)

    def surface_of_chart(self, found: ChartedRun) -> Surface:
        """Compute the surface of the chart along the run."""
        arguments = self.arguments
        assert arguments.counts is not None
        x, y = found.axes(arguments.margin, arguments.width, arguments.counts)
        return self.charted_surface(found.chart, x, y, arguments.output.file)

    def in_own_planes(self, found: ChartedRun, surface: Surface) -> Surface:
        """Compute the losses of some cells of the chart in the planes of their nearest checkpoints."""
        file = self.arguments.output.file
        grid = own_plane_cells(surface.grid, found.chart.planes, self.arguments.own_planes)
        assert grid.y is not None
        return self.charted_surface(
            found.in_own_planes(), grid.x, grid.y, None if file is None else own_planes_file(file)
        )

    def charted_surface(self, chart: LocalChart, x: AxisLike, y: AxisLike, file: Path | None) -> Surface:
        """Compute a surface on a chart.

        Args:
            chart: The chart.
            x: Lengths of the path.
            y: Distances across it.
            file: The surface file; None to keep everything in memory.
        """
        axes = DirectionArguments(path=tuple(self.runs[0].checkpoints), chart=chart)
        return self.compute(self.surface_arguments(self.arguments.quantity, axes, x, y, dir_type=chart.dir_type), file)

    def compute(
        self, arguments: SurfaceArguments[Evaluator], file: Path | None, directions: Directions | None = None
    ) -> Surface:
        """Compute a surface.

        Args:
            arguments: The arguments of the surface.
            file: The surface file; None to keep everything in memory.
            directions: The axes as files store them; None for a path of checkpoints.
        """
        samples, output, net = self.arguments.samples, self.arguments.output, self.end

        def begin() -> SurfaceInputs:
            assert samples.data is not None  # see `has_surface`
            inputs = arguments.read(net, samples.data, samples.test, samples.loss)
            if directions is not None:
                request = {**inputs.request, "directions": directions.sha256}
                inputs = replace(inputs, points=replace(inputs.points, directions=directions), request=request)
            problem = Problem(shared_copy(net), inputs.plane, inputs.splits, inputs.loss, arguments.device)
            return replace(inputs, problem=replace(problem, reference=lambda: net))

        inputs = on_all(output.world, begin)
        return run_surface_job(
            output.world, net, arguments.quantity, inputs, file, force=output.force, progress=output.progress
        )


def plane_of(directions: GivenPlane, found: RunDifferences) -> FoundPlane:
    """Return the plane of a direction file, or of two directions.

    Args:
        directions: A direction or surface file, or two directions, each as for `lossatlas.surface`: 'FILE.h5:K', or
            tensors by name.
        found: The runs that are projected onto it.

    Raises:
        BadUsage: These are no two directions.
        BadInput: A file does not fit the network.
    """
    if isinstance(directions, str | Path):
        return given_plane(directions)
    if not isinstance(directions, Sequence) or len(directions) != 2:
        raise BadUsage(f"{named('directions')}: give the name of a direction file, or two directions")
    points, names = [], []
    for k, each in enumerate(directions):
        if isinstance(each, Mapping):
            points.append(given_direction(each, found.origin))
            names.append(f"direction {k + 1} of those given")
            continue
        axis = config.AxisConfig.parse(named("directions"), each, "", "") if isinstance(each, str) else None
        if axis is None or axis.kind != "file" or found.choice.dir_type != "weights":
            raise BadUsage(
                f"{named('directions')}: a direction of a given plane is 'FILE.h5:K' or a dict of tensors by name, not "
                f"{each!r:.60}"
            )
        points.append(given_direction(from_file(axis, found.net), found.origin))
        names.append(f"vector {axis.number} of {Path(axis.file).name}")
    x, y = (
        as_arrays({name: value.cpu() for name, value in point.items()}, found.net, found.choice.dir_type)
        for point in points
    )
    about = {"checkpoint": found.origin_hash, "dir_type": found.choice.dir_type, "x": names[0], "y": names[1]}
    return FoundPlane(directions=Directions(x, y, about), source="the given plane", own=False)


def at_checkpoint(net: nn.Module, checkpoint: Net) -> nn.Module:
    """Return a copy of a network with the tensors of a checkpoint.

    Raises:
        BadInput: As `state_for`, or the network cannot be copied.
    """
    try:
        end = evaluation_copy(net, {})
    except Exception as error:
        raise BadInput(
            f"{type(net).__name__} cannot be copied ({error}), and the surface lies around a copy with the last "
            "checkpoint"
        ) from error
    end.load_state_dict({**end.state_dict(), **state_for(net, checkpoint)})
    return end
