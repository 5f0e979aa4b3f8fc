"""The trajectory of a command: its network and plane, and the configurations of the surface and the losses under it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from lossatlas import config
from lossatlas.choices import OwnPlaneCells
from lossatlas.jobs.inputs.configured_data import load_data
from lossatlas.jobs.inputs.file_names import surface_name
from lossatlas.jobs.inputs.named_inputs import load_inputs, network_for
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
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
from lossatlas.models import build, read_state
from lossatlas.models.checkpoint import state_digest
from lossatlas.mpi.rank_resources import device_of
from lossatlas.user_code import UserFunction, function_record


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """The configuration of a command that projects training runs.

    Attributes:
        runs: The runs.
        plane: The plane.
        dir_file: A direction file whose plane is used instead; None for the runs' own.
        plane_file: The direction file of the runs' own plane.
        model: The network's name, or the user's function that makes it.
        data, loss, run, output: See `config.GridConfig`.
        counts: Grid points of the surface along x and y; None for no surface.
        margin: Margin around the paths, as a share of their extent.
        width: Extent of a chart across the path, as a share of its length.
        own_planes: The cells of a chart whose losses are computed in their own planes too.
        figures: Looks of the figures.
        command: The line that started it.
        resolved: All options of the command by name, for the record.
    """

    runs: tuple[CheckpointSeries, ...]
    plane: PlaneChoice
    dir_file: Path | None
    plane_file: Path
    model: config.ModelChoice
    data: config.DataConfig
    loss: config.LossChoice
    run: config.RunConfig
    output: config.OutputConfig
    counts: tuple[int, int] | None
    margin: float
    width: float
    own_planes: OwnPlaneCells
    figures: config.PlotConfig
    command: str
    resolved: Mapping[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> config.NetworkConfig:
        """The network at the end of the first run, which is the origin of the plane."""
        return config.NetworkConfig(self.model, str(self.runs[0].files[-1]), None, None)


@dataclass(frozen=True, kw_only=True)
class StoredRuns:
    """Training runs in their plane, and the files that hold plane and coordinates.

    Attributes:
        projected: The runs.
        plane: Their plane.
        dir_file: Its direction file.
        proj_files: The file with the coordinates of each run.
    """

    projected: ProjectedRuns
    plane: FoundPlane
    dir_file: Path
    proj_files: Sequence[Path]

    def surf_file(self, task: TrajectoryConfig) -> Path:
        """Name the file of the surface under the runs."""
        return Path(task.output.surf_file or surface_name(self.dir_file, surface_config(task, self)))


@dataclass(frozen=True, kw_only=True)
class StoredChart:
    """A training run with the chart along it, of which no file is needed beside those of its surface.

    Attributes:
        projected: The run.
        dir_file: The name of a direction file of this run, from which the surface takes its own.
    """

    projected: ChartedRun
    dir_file: Path

    def surf_file(self, task: TrajectoryConfig) -> Path:
        """Name the file of the surface of the chart."""
        return Path(task.output.surf_file or surface_name(self.dir_file, chart_config(task, self)))


def charted_run(task: TrajectoryConfig) -> StoredChart:
    """Make the chart along the run.

    Raises:
        BadUsage: Options do not suit the run.
        BadInput: A checkpoint is missing, damaged or of another architecture, or there are no local planes.
    """
    return StoredChart(projected=charted(differences_of(task), task.plane), dir_file=task.plane_file)


def differences_of(task: TrajectoryConfig) -> RunDifferences:
    """Return the differences of all checkpoints from the last one of the first run.

    Raises:
        BadInput: A checkpoint is missing, damaged or of another architecture.
    """
    origin_hash = state_digest(read_state(task.runs[0].files[-1]))
    return RunDifferences.of(network_of(task), task.runs, task.plane, origin_hash, complete=True)


def project_and_store(task: TrajectoryConfig) -> StoredRuns:
    """Find the plane of the runs, project them onto it, and write both.

    Args:
        task: The configuration.

    Returns:
        The runs in their plane.

    Raises:
        BadUsage: Options do not suit the runs.
        BadInput: A checkpoint is missing, damaged or of another architecture.
        CannotWrite: A file cannot be written.
    """
    found = differences_of(task)
    if task.dir_file is not None:
        dir_file, plane = task.dir_file, given_plane(task.dir_file)
    else:
        dir_file, plane = task.plane_file, own_plane(task, found)
        store_plane(dir_file, plane, task.resolved, force=task.output.force)
    projected = project_runs(found, plane.directions, str(dir_file), own=plane.own)
    beside_own = plane.own or task.runs[0].folder.resolve() in dir_file.resolve().parents
    proj_files = write_projections(dir_file, projected, own=beside_own)
    return StoredRuns(projected=projected, plane=plane, dir_file=dir_file, proj_files=proj_files)


def own_plane(task: TrajectoryConfig, found: RunDifferences) -> FoundPlane:
    """Return the plane of the runs: new, or as an earlier run has stored it.

    Raises:
        BadUsage: As `end_curvature`.
        BadInput: As `end_curvature` or `PlaneSource.plane`.
    """
    river = task.plane.kind == "river"
    files = [task.plane_file, *([Path(task.output.surf_file)] if task.output.surf_file else [])]
    source = PlaneSource(
        found=found,
        model=str(task.model),
        curvature=end_curvature(task) if river else None,
        stored=() if task.output.force else files,
    )
    return source.plane()


def network_of(task: TrajectoryConfig) -> nn.Module:
    """Return a network of the checkpoints' architecture; data are read only if its shape, or a surface, needs them."""
    from lossatlas.datasets.registry import SOURCES

    model, dataset = task.model, task.data.dataset
    if not isinstance(model, str):
        return build(model).eval()
    if task.counts or task.plane.kind == "river" or not isinstance(dataset, str) or dataset not in SOURCES:
        data = load_data(task.data, read_state(task.runs[0].files[-1]), model)
        return network_for(model, next(iter(data.values())))
    source = SOURCES[dataset]
    return build(model, (3, 32, 32) if len(source.mean) == 3 else (1, 28, 28), source.classes)


def end_curvature(task: TrajectoryConfig) -> EndCurvature:
    """Return the Hessian at the end of the first run.

    Raises:
        BadUsage: As `load_inputs`.
        BadInput: As `load_inputs`.
    """
    loaded = load_inputs(task.end, "weights", task.data, task.loss)
    loss = task.loss.function if isinstance(task.loss, UserFunction) else task.loss
    record = EndCurvature.record_of(loaded.net, loaded.first, loss, function_record("loss", task.loss))
    return EndCurvature(
        record=record, make=lambda selection: OriginCurvature.of(loaded, selection, device_of(task.run.cuda))
    )


def surface_config(task: TrajectoryConfig, stored: StoredRuns) -> config.GridConfig:
    """Return the configuration of the surface under the runs."""
    choice = direction_config(task, stored.dir_file)
    assert task.counts is not None
    return grid_config(task, choice, grid_around(stored.projected.extent, task.margin, task.counts))


def grid_config(task: TrajectoryConfig, choice: config.DirectionConfig, axes: tuple[str, str]) -> config.GridConfig:
    """Return the configuration of a surface around the end of the first run.

    Args:
        task: The configuration.
        choice: The directions of the surface.
        axes: Its axes as MIN:MAX:NUM.
    """
    return config.GridConfig(
        networks=task.end,
        directions=choice,
        data=task.data,
        loss=task.loss,
        x=axes[0],
        y=axes[1],
        run=task.run,
        output=task.output,
        figures=task.figures,
        command=task.command,
        resolved=task.resolved,
    )


def direction_config(task: TrajectoryConfig, dir_file: Path) -> config.DirectionConfig:
    """Return the configuration of the directions of a surface under the runs."""
    axis = config.AxisConfig("", "")
    return config.DirectionConfig(
        dir_type=task.plane.dir_type,
        x=axis,
        y=axis,
        same_dir=False,
        seed=config.DIRECTION_SEED,
        idx=0,
        dir_file=str(dir_file),
    )


def losses_config(task: TrajectoryConfig, surface: config.GridConfig, surf_file: Path) -> config.GridConfig:
    """Return the configuration of the losses of the checkpoints themselves.

    Args:
        task: The configuration.
        surface: The configuration of the surface under them.
        surf_file: The file of the surface.
    """
    files = tuple(str(file) for run in task.runs for file in run.files)
    own = replace(surface, path=files, chart=None, x=f"0:{len(files) - 1}:{len(files)}", y=None)
    return replace(own, output=replace(own.output, surf_file=str(checkpoints_file(surf_file))))


def chart_config(task: TrajectoryConfig, stored: StoredChart) -> config.GridConfig:
    """Return the configuration of the surface of the chart along the run."""
    assert task.counts is not None
    axes = stored.projected.axes(task.margin, task.width, task.counts)
    files = tuple(str(file) for file in stored.projected.run.files)
    choice = direction_config(task, stored.dir_file)
    return replace(grid_config(task, choice, axes), path=files, chart=stored.projected.chart)


def chart_configs(task: TrajectoryConfig, stored: StoredChart) -> list[config.GridConfig]:
    """Return the configurations of the checkpoints' losses, of the surface of the chart, and of its own planes."""
    surface, file = chart_config(task, stored), stored.surf_file(task)
    surface = replace(surface, output=replace(surface.output, surf_file=str(file)))
    cells = own_plane_cells(surface.grid, stored.projected.chart.planes, task.own_planes)
    own = replace(surface, chart=stored.projected.in_own_planes(), cells=cells)
    own = replace(own, output=replace(own.output, surf_file=str(own_planes_file(file))))
    return [losses_config(task, surface, file), surface, own]
