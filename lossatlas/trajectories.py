"""The path of training runs in a plane, and the loss surface under it, by one function."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lossatlas import config
from lossatlas.argument_checks import checked_word
from lossatlas.choices import (
    DIR_TYPES,
    IGNORES,
    OWN_PLANE_CELLS,
    PLANE_KINDS,
    PRECISIONS,
    DirType,
    Ignore,
    OwnPlaneCells,
    PlaneKind,
    Precision,
)
from lossatlas.data import DataLike, LossLike
from lossatlas.errors import BadUsage, named
from lossatlas.evaluation.reference import restoring
from lossatlas.jobs.inputs.api_arguments import check_values, tolerance_of
from lossatlas.jobs.sweep.loss_quantity import LossQuantity
from lossatlas.jobs.trajectory.api_trajectory_job import (
    GivenPlane,
    PathOutput,
    PathSamples,
    TrajectoryArguments,
    TrajectoryJob,
)
from lossatlas.jobs.trajectory.given_runs import RunsLike, runs_given
from lossatlas.jobs.trajectory.run_files import with_losses, write_paths
from lossatlas.jobs.trajectory.run_projection import PlaneChoice, ProjectedRuns
from lossatlas.landscape import Surface
from lossatlas.mpi.agreement import check_same_request, on_all, on_first, script_world
from lossatlas.mpi.communicator import Ranks
from lossatlas.parameter_space import Selection
from lossatlas.results import Landscape, Trajectory


@restoring
def trajectory(
    net: nn.Module,
    checkpoints: RunsLike,
    data: DataLike | None = None,
    *,
    plane: PlaneKind | str = "pca",
    directions: GivenPlane | None = None,
    dir_type: DirType | str = "weights",
    ignore: Ignore | str = "",
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    epochs: Sequence[Any] | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    points: int | tuple[int, int] | None = 25,
    margin: float = 0.15,
    width: float | None = None,
    own_planes: OwnPlaneCells | str | None = None,
    test: DataLike | None = None,
    loss: LossLike = "crossentropy",
    limit: int | None = None,
    tolerance: float | tuple[float, float] | None = None,
    precision: Precision | str | None = None,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    dir_file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
    progress: bool = True,
) -> Trajectory:
    """Project the checkpoints of one or several training runs onto a plane, and compute the loss surface under them.

    The plane is spanned by the first two principal components of the differences from the last checkpoint, which is the
    origin, as in Li et al. 2018 (arXiv 1712.09913, Section 7); or another one, see `plane` and `directions`. With
    `data` the loss is computed too: on a grid in this plane that holds the path, and of every checkpoint itself, which
    lies off the plane. The command `plot_trajectory.py` does the same, and each continues the files of the other.

    Args:
        net: The network; it says which tensors are compared.
        checkpoints: At least three networks, state dicts or checkpoint files (as for `surface(towards=...)`) in the
            order of training, or the folder of a run. Files are read one at a time. A list of folders, or of such
            lists, is several runs, of which the first one ends in the origin.
        data: Training samples, for the surface and the checkpoints' own losses; None for the path alone.
        plane: 'pca' for the principal components of all checkpoints; 'river' for the drift of the first run, from its
            first checkpoint to its last, and the top eigenvector of the Hessian at the last, orthogonal to it, which
            takes data; 'local' for a chart along the path of one run, with a plane of velocity and acceleration at each
            checkpoint, blended between them, which takes data too.
        directions: A given plane instead: the name of a direction or surface file, or two directions, each tensors by
            name (such as the `plane` of another trajectory) or 'FILE.h5:K'.
        dir_type: 'weights' for parameters, 'states' for buffers too.
        ignore: 'biasbn' leaves out biases and normalization layers, '' does not.
        only: Regular expressions; tensors whose names match none of them are left out. Empty for all.
        without: Regular expressions; tensors whose names match one of them are left out.
        epochs: The epoch or step of each checkpoint, for figures; of several runs one sequence for each. By default the
            numbers in the names of a folder's files.
        labels: A name for each of several runs. By default the parts in which the names of their folders differ.
        points: Grid points along both axes, or (along x, along y); None for no surface.
        margin: Margin around the path, as a share of its extent.
        width: Extent across the path of a 'local' chart, as a share of the path's length; 0.2 by default.
        own_planes: Cells of a 'local' chart whose loss is computed in the plane of their nearest checkpoint too, which
            says how much the chart distorts: 'few' at the borders between planes, at most 60, the default, or 'all'.
        test: Further samples, evaluated as a second split.
        loss: The loss, as for `surface`.
        limit: Use the first `limit` samples of each split only.
        tolerance: As for `surface`; the checkpoints' own losses use all samples.
        precision: As for `surface`.
        batch_size: As for `surface`.
        device: Where losses are computed; by default on the network's device.
        file: Surface file to write or to continue. The checkpoints' losses and the path are written beside it, as
            NAME_checkpoints.h5 and NAME_path.h5, which `lossatlas plot NAME.h5 --proj_file NAME_path.h5` draws. Of
            further runs the path is in NAME_path_LABEL.h5.
        dir_file: Direction file of the plane, to write or to continue: an eigenvector that it holds for the same
            checkpoints is not computed again, and other directions in it are refused. The coordinates are written
            beside it, as NAME.h5_proj_cos.h5.
        force: Start over where the files exist; the earlier ones are kept under other names, which a warning gives.
        ranks: A communicator of mpi4py, as for `surface`.
        progress: Show a progress line.

    Returns:
        The trajectory: `coordinates` of shape (checkpoints, 2) and `distance` from the plane of shape (checkpoints,),
        both in units of the parameters, `explained` shares of the variance (2,), and the `plane` of two unit vectors by
        tensor name, which `surface(directions=...)` accepts. With data also `surface` and `losses` (checkpoints,). Of
        several runs it is that of the first one, and `others` are those of the others. On a 'local' chart,
        whose `surface["distortion"]` is a field, x is the length of the path, and there is no `plane`.

    Raises:
        BadUsage: There are too few checkpoints, or arguments are wrong.
        BadInput: A checkpoint does not fit the network, the checkpoints span no plane, or `dir_file` holds another one;
            with data as for `surface`.
        CannotWrite: A file cannot be written, or another run writes it.

    Example:
        >>> import torch, lossatlas
        >>> nets = [torch.nn.Linear(2, 2) for _ in range(4)]
        >>> lossatlas.trajectory(nets[-1], nets).coordinates.shape
        (4, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> run = lossatlas.trajectory(nets[-1], nets, data, points=5, progress=False)
        >>> run.surface.loss.shape, run.losses.shape
        ((5, 5), (4,))
        >>> both = lossatlas.trajectory(nets[-1], [nets, nets[:3]], data, plane="river", points=None, labels=["a", "b"])
        >>> both.name, both.coordinates.shape, both.others[0].name, both.others[0].coordinates.shape
        ('a', (4, 2), 'b', (3, 2))
    """

    world = script_world(ranks)

    def checked() -> TrajectoryArguments:
        moved, ignored = checked_word("dir_type", dir_type, DIR_TYPES), checked_word("ignore", ignore, IGNORES)
        own_precision = checked_word("precision", precision, PRECISIONS)
        check_values(config.BatchOptions, batch_size=batch_size)
        own = LossQuantity(precision=own_precision, batch_size=batch_size)
        cells = None if own_planes is None else checked_word("own_planes", own_planes, OWN_PLANE_CELLS)
        kind = checked_word("plane", plane, PLANE_KINDS)
        across, compared = config.chart_extent(kind, width, cells)
        made = TrajectoryArguments(
            choice=PlaneChoice(kind=kind, dir_type=moved, ignore=ignored, selection=Selection(only, without)),
            directions=directions,
            counts=None if points is None else counts_of(points),
            margin=margin,
            width=across,
            own_planes=compared,
            quantity=replace(own, tolerance=tolerance_of(tolerance)),
            own=own,
            device=device,
            limit=limit,
            samples=PathSamples(data=data, test=test, loss=loss),
            output=PathOutput(
                file=file_path("file", file),
                dir_file=file_path("dir_file", dir_file),
                world=world,
                force=force,
                progress=progress,
            ),
        )
        made.check()
        return made

    arguments = on_all(world, checked)
    same = {"data": data is not None, "points": arguments.counts, "margin": margin, "plane": plane}
    check_same_request(world, same | {"width": arguments.width, "own_planes": arguments.own_planes})
    runs = on_all(world, lambda: runs_given(checkpoints, labels, epochs))
    return computed(TrajectoryJob(net=net, runs=runs, arguments=arguments))


def computed(job: TrajectoryJob) -> Trajectory:
    """Compute a trajectory, see `trajectory`."""
    if job.arguments.choice.kind == "local":
        return computed_on_chart(job)
    projected, output = job.project(), job.arguments.output
    if not job.arguments.has_surface:
        return trajectory_of(projected)
    losses = job.losses()
    if not losses.done.all():  # stopped by Ctrl-C
        return trajectory_of(projected, losses=losses)
    surface = job.surface(projected)
    found = trajectory_of(projected, surface=Landscape.of(surface, projected.directions), losses=losses)
    file = output.file
    if file is not None:
        paths = with_losses(projected, surface, losses, "train_loss")
        plane = projected.directions.sha256
        on_first(output.world, lambda: write_paths(file, projected, paths, plane, force=output.force))
    return found


def computed_on_chart(job: TrajectoryJob) -> Trajectory:
    """Compute the trajectory on a chart of local planes."""
    found, output = job.charted(), job.arguments.output
    losses = job.losses()
    (path,) = found.paths
    result = Trajectory(
        coordinates=np.column_stack([path.x, path.y]),
        explained=np.zeros(0),
        distance=np.zeros(len(path.x)),
        plane=(),
        epochs=path.epochs,
        losses=losses.fields["train_loss"],
        name=path.run,
        drops=tuple(map(float, path.drops)),
        axes=path.axes,
        counted=path.counted,
    )
    if not losses.done.all():  # stopped by Ctrl-C
        return result
    surface = job.surface_of_chart(found)
    result = replace(result, surface=Landscape.of(surface, None))
    if not surface.done.all():
        return result
    cells = job.in_own_planes(found, surface)
    (path,) = with_losses(found, surface, losses, "train_loss", cells=cells)
    if (file := output.file) is not None:
        on_first(output.world, lambda: write_paths(file, found, [path], found.plane_digest, force=output.force))
    return replace(result, own_planes=path.own_planes)


def trajectory_of(
    projected: ProjectedRuns, surface: Landscape | None = None, losses: Surface | None = None
) -> Trajectory:
    """Return the trajectory of the first run, with the trajectories of the others.

    Args:
        projected: The runs in their plane.
        surface: The surface under them.
        losses: The losses of all checkpoints, run by run.
    """
    values = None if losses is None else losses.fields["train_loss"]
    made: list[Trajectory] = []
    start = 0
    for path in projected.paths:
        assert path.distance is not None
        end = start + len(path.x)
        each = Trajectory(
            coordinates=np.column_stack([path.x, path.y]),
            explained=np.array(path.explained),
            distance=path.distance,
            plane=projected.plane,
            epochs=path.epochs,
            surface=surface,
            losses=None if values is None else values[start:end],
            name=path.run,
            drops=tuple(map(float, path.drops)),
            axes=path.axes,
            counted=path.counted,
        )
        made.append(each)
        start = end
    return replace(made[0], others=tuple(made[1:]))


def file_path(field: str, file: str | Path | None) -> Path | None:
    """Return the path of a file.

    Raises:
        BadUsage: It is neither a text nor a path.
    """
    if file is not None and not isinstance(file, str | Path):
        raise BadUsage(f"{named(field, file)}: give the path of a file")
    return None if file is None else Path(file)


def counts_of(points: int | tuple[int, int]) -> tuple[int, int]:
    """Return the numbers of grid points along x and along y.

    Raises:
        BadUsage: These are not one or two whole numbers of at least 2.
    """
    counts = tuple(points) if isinstance(points, Sequence) else (points, points)
    if len(counts) != 2 or not all(isinstance(count, int | np.integer) and count >= 2 for count in counts):
        raise BadUsage(f"{named('points', points)}: give the number of grid points along each axis, at least 2")
    return int(counts[0]), int(counts[1])
