"""The chart along a training run: local planes at its checkpoints, its grid, and losses in the planes themselves."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lossatlas.choices import OwnPlaneCells
from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.io import Projection
from lossatlas.io.trajectory_files import OwnPlaneLosses
from lossatlas.jobs.inputs.networks import state_of
from lossatlas.jobs.trajectory.checkpoint_projection import CheckpointDifferences, axis_around, rounding_of
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries
from lossatlas.jobs.trajectory.run_projection import PlaneChoice, RunDifferences
from lossatlas.landscape import Grid, Surface
from lossatlas.models.checkpoint import state_digest
from lossatlas.parameter_space.local_planes import FEWEST_IN_CHART, LocalChart, LocalPlanes, step_products

DEFINITION = "local planes 1"  # changes where a chart of the same checkpoints has other cells
AXES = "distance along the path", "distance across the path"
SAMPLED = 12, 5  # most columns and rows of the few cells whose losses are computed in their own planes too


@dataclass(frozen=True)
class Steps:
    """Differences of consecutive checkpoints as rows, each read on access.

    Attributes:
        checkpoints: The differences of the checkpoints from an origin, in their order.
    """

    checkpoints: CheckpointDifferences

    def __len__(self) -> int:
        return len(self.checkpoints) - 1

    def __getitem__(self, k: int) -> np.ndarray:
        return replace(self.checkpoints, origin=self.checkpoints.point(k))[k + 1]


@dataclass(frozen=True, kw_only=True)
class ChartedRun:
    """A training run with the chart along it.

    Attributes:
        run: The run.
        chart: The chart.
        origin_hash: Hash of the last checkpoint, around which the grid job's network is made.
    """

    run: CheckpointSeries
    chart: LocalChart
    origin_hash: str

    @property
    def plane_digest(self) -> str:
        """Identifies the chart, as the SHA-256 of its directions identifies a plane."""
        return self.chart.digest

    @property
    def runs(self) -> tuple[CheckpointSeries, ...]:
        """The run, as of several ones in a plane."""
        return (self.run,)

    @cached_property
    def paths(self) -> tuple[Projection, ...]:
        """The checkpoints in the chart, which all lie at t = 0."""
        at, run = self.chart.planes.at, self.run
        epochs = None if run.epochs is None else np.array(run.epochs, float)
        shown = Projection(
            at, np.zeros(len(at)), epochs=epochs, drops=run.drops, run=run.name, axes=AXES, counted=run.counted
        )
        return (shown,)

    def in_own_planes(self) -> LocalChart:
        """Return the chart whose cells lie in the planes of their nearest checkpoints."""
        return replace(self.chart, in_own_planes=True)

    def axes(self, margin: float, width: float, counts: Sequence[int]) -> tuple[str, str]:
        """Choose the axes of the grid.

        Args:
            margin: Margin before the first and after the last checkpoint, as a share of the path's length.
            width: Extent across the path, as a share of its length.
            counts: Points along x and along y.

        Returns:
            The axes as "first:last:count", that across the path symmetric.
        """
        whole = float(self.chart.planes.at[-1])
        half = width * whole / 2
        return (
            axis_around(0.0, whole, margin, counts[0], length=whole),
            axis_around(-half, half, 0.0, counts[1], length=2 * half),
        )

    def describe(self) -> str:
        """Say how long the path is, and how much it turns."""
        at, turns = self.chart.planes.at, np.degrees(self.chart.planes.turns)
        return (
            f"the path of {len(at)} checkpoints is {at[-1]:.4g} long; from one step to the next it turns by "
            f"{np.median(turns):.0f} degrees (median), {turns.max():.0f} at most"
        )


def charted(found: RunDifferences, choice: PlaneChoice) -> ChartedRun:
    """Return the chart along a run.

    Args:
        found: The differences of its checkpoints from the last one.
        choice: The tensors that count.

    Raises:
        BadUsage: There are several runs, or too few checkpoints.
        BadInput: The checkpoints have no local planes.
    """
    if len(found.runs) > 1:
        raise BadUsage(f"{named('plane', 'local')} follows one training run, not {len(found.runs)}")
    run = found.runs[0]
    digests = tuple(state_digest(state_of(each)) for each in run.checkpoints)
    moved = tuple(name for name, is_kept in found.rows.kept.items() if is_kept)
    if len(digests) < FEWEST_IN_CHART:
        raise BadUsage(
            f"{named('plane', 'local')} needs at least {FEWEST_IN_CHART} checkpoints, and the run has {len(digests)}"
        )
    try:
        planes = LocalPlanes.of(step_products(Steps(found.rows)), rounding_of(found.rows))
    except ValueError as error:
        raise BadInput(f"no local planes along the trajectory: {error}") from error
    record = json.dumps([DEFINITION, choice.dir_type, list(digests), list(moved)])
    chart = LocalChart(
        planes=planes,
        moved=moved,
        dir_type=choice.dir_type,
        digests=digests,
        digest=hashlib.sha256(record.encode()).hexdigest(),
    )
    return ChartedRun(run=run, chart=chart, origin_hash=found.origin_hash)


def own_plane_cells(grid: Grid, planes: LocalPlanes, cells: OwnPlaneCells) -> Grid:
    """Return the cells of a grid whose losses are computed in their own planes too.

    A few ones lie where they are farthest from these planes: in the columns nearest to the borders between two planes.

    Args:
        grid: The grid of the chart.
        planes: Its planes.
        cells: 'few' or 'all'.
    """
    if cells == "all":
        return grid
    assert grid.y is not None
    borders = (planes.at[1:] + planes.at[:-1]) / 2
    columns = np.unique(np.abs(np.subtract.outer(borders, grid.x)).argmin(1))
    x, y = (spread_evenly(axis, most) for axis, most in zip((grid.x[columns], grid.y), SAMPLED, strict=True))
    return Grid(x, y)


def spread_evenly(axis: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many entries of an axis, spread evenly, with the first and the last one.

    Example:
        >>> spread_evenly(np.arange(6.0), 3).tolist()
        [0.0, 2.0, 5.0]
    """
    return axis[np.linspace(0, len(axis) - 1, min(len(axis), most)).round().astype(int)]


def own_plane_losses(surface: Surface, own: Surface, field: str) -> OwnPlaneLosses:
    """Compare the losses of cells with those in the planes of their nearest checkpoints.

    Args:
        surface: The surface of the chart.
        own: The cells in their own planes, some or all of them.
        field: Name of the field.
    """
    assert own.grid.y is not None
    assert surface.grid.y is not None
    rows, columns = (
        np.abs(np.subtract.outer(part, whole)).argmin(1)
        for part, whole in ((own.grid.y, surface.grid.y), (own.grid.x, surface.grid.x))
    )
    loss = own.fields[field]
    return OwnPlaneLosses(own.grid.x, own.grid.y, loss, surface.fields[field][np.ix_(rows, columns)] - loss)
