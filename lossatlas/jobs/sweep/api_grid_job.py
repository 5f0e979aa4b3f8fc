"""From the arguments of a Python function to a finished surface."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lossatlas import config
from lossatlas.data import AnyData, Loss, as_dataset, as_loss
from lossatlas.io.lock import Lock
from lossatlas.jobs.inputs.api_arguments import Axis, check_values, device_for, dir_type_of, grid_of
from lossatlas.jobs.inputs.api_inputs import DirectionArguments, about_of, loss_name, request_of, statistics_differ
from lossatlas.jobs.inputs.input_check import check_inputs
from lossatlas.jobs.inputs.output_files import with_lock
from lossatlas.jobs.sweep.api_points import PointSource, ScriptPoints
from lossatlas.jobs.sweep.grid_job import Quantity, SurfaceOutput, continued, run_from_python
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.landscape import Surface
from lossatlas.mpi.agreement import check_same_request, on_first

if TYPE_CHECKING:
    from lossatlas.mpi.agreement import Ranks


@dataclass(frozen=True, kw_only=True)
class SurfaceArguments:
    """Arguments of `surface` or `eigenvalues`, checked before anything is read.

    Attributes:
        quantity: The quantity to compute at every point.
        axes: The arguments that define the axes.
        x: Coordinates along the first direction.
        y: Coordinates along the second direction; None for a line.
        device: Where it is computed.
        limit: The number of samples of each split; None for all.
        dir_type: 'weights' or 'states'; None where the networks decide.
    """

    quantity: Quantity
    axes: DirectionArguments
    x: Axis
    y: Axis | None
    device: torch.device
    limit: int | None
    dir_type: str | None

    @classmethod
    def checked(
        cls,
        net: nn.Module,
        *,
        quantity: Quantity,
        axes: DirectionArguments,
        x: Axis,
        y: Axis | None,
        device: str | torch.device | None,
        limit: int | None,
        dir_type: str | None,
    ) -> "SurfaceArguments":
        """Check the arguments that both functions have. Raises BadUsage."""
        only, without = axes.selection.only, axes.selection.without
        check_values(config.PlaneOptions, seed=axes.seed, only=only, without=without)
        check_values(config.DatasetOptions, limit=limit)
        axes.check(1 if y is None else 2, dir_type)
        place = device_for(device, net)
        return cls(quantity=quantity, axes=axes, x=x, y=y, device=place, limit=limit, dir_type=dir_type)

    def read(self, net: nn.Module, data: Any, test: Any, loss: Any) -> "SurfaceInputs":
        """Read the data, check them with network and loss, and make the points. Raises BadUsage, BadInput."""
        splits = {"train": as_dataset(data, limit=self.limit)}
        if test is not None:
            splits["test"] = as_dataset(test, split="test", limit=self.limit)
        loss_function, grid = as_loss(loss), grid_of(self.x, self.y)
        some_losses = check_inputs(net, loss_function, splits["train"], type(net).__name__)
        moved = dir_type_of(self.dir_type, states_differ=statistics_differ(net, self.axes.others))
        self.axes.check(1 if self.y is None else 2, moved)
        source = PointSource(
            arguments=self.axes,
            net=net,
            grid=grid,
            dir_type=moved,
            data=splits["train"],
            loss=loss_function,
            loss_name=loss_name(loss),
            device=self.device,
        )
        points = source.points()
        request = {**request_of(net, loss, splits, some_losses), **points.record}
        about = {**about_of(splits), **({} if self.axes.per_layer else self.axes.networks())}
        return SurfaceInputs(
            splits=splits, loss=loss_function, dir_type=moved, points=points, request=request, about=about
        )


@dataclass(frozen=True, kw_only=True)
class SurfaceInputs:
    """Inputs of `surface` and `eigenvalues`.

    Attributes:
        splits: The samples by split.
        loss: The loss.
        dir_type: 'weights' or 'states'.
        points: The points of the grid.
        request: The fields that identify the job, see `io.resume`.
        about: Provenance.
        problem: Network, points, data and loss together.
    """

    splits: dict[str, AnyData]
    loss: Loss
    dir_type: str
    points: ScriptPoints
    request: dict[str, Any]
    about: dict[str, Any]
    problem: Problem | None = None


def run_surface_job(
    ranks: "Ranks",
    net: nn.Module,
    quantity: Quantity,
    inputs: SurfaceInputs,
    file: str | Path | None,
    *,
    force: bool,
    progress: bool,
) -> Surface:
    """Compute the missing cells of a surface for a Python function, under the lock of its file.

    Args:
        ranks: A communicator of mpi4py, every rank of which calls this, or None.
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
    fresh = quantity.new_surface(
        net,
        inputs.splits,
        inputs.loss,
        points.grid,
        device=str(problem.device),
        request=inputs.request,
        about=inputs.about,
    )
    shared = {"grid": str(points.grid), "precision": fresh.plan.get("precision")}
    check_same_request(ranks, {**fresh.request, **shared, "curvature": points.curvature is not None})

    def with_second_derivatives(surface: Surface) -> Surface:
        if points.curvature is None or points.directions is None or "second_derivatives" in surface.about:
            return surface
        return replace(surface, about={**surface.about, **points.curvature.along(points.directions)})

    def finish(lock: Lock | None) -> Surface:
        known = continued(ranks, file, fresh)
        known = on_first(ranks, lambda: with_second_derivatives(known))
        output = SurfaceOutput(None if file is None else Path(file), embed=points.directions, lock=lock)
        return run_from_python(ranks, quantity, problem, known, output, progress=progress)

    return with_lock("surface", file, ranks, force=force, finish=finish)
