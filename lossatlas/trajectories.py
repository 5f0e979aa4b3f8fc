"""The path of a training run in its plane, and the loss surface under it, by one function."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lossatlas import config
from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.evaluation.parallel_batches import evaluation_copy
from lossatlas.evaluation.reference import restoring
from lossatlas.io import read_projection, write_projection
from lossatlas.io.trajectory_files import projection_plane
from lossatlas.jobs.inputs.api_arguments import Axis, check_values, check_words, tolerance_of
from lossatlas.jobs.inputs.api_inputs import (
    DirectionArguments,
    Net,
    checkpoint_list,
    point_of,
    shared_copy,
    state_for,
    state_of,
)
from lossatlas.jobs.inputs.output_files import keep_aside
from lossatlas.jobs.sweep.api_grid_job import SurfaceArguments, run_surface_job
from lossatlas.jobs.sweep.loss_quantity import LossQuantity
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.jobs.trajectory.checkpoint_projection import coordinates, differences, grid_around, principal_plane
from lossatlas.models.checkpoint import digest
from lossatlas.mpi.agreement import check_same_request, on_all, on_first, warn_of_launcher
from lossatlas.parameter_space import Selection
from lossatlas.results import Landscape, Trajectory

if TYPE_CHECKING:
    from lossatlas.mpi.agreement import Ranks


@restoring
def trajectory(
    net: nn.Module,
    checkpoints: Sequence[Net] | str | Path,
    data: Any = None,
    *,
    dir_type: str = "weights",
    ignore: str = "",
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    epochs: Sequence[float] | None = None,
    points: int | tuple[int, int] = 25,
    margin: float = 0.15,
    test: Any = None,
    loss: Any = "crossentropy",
    limit: int | None = None,
    tolerance: float | tuple[float, float] | None = None,
    precision: str | None = None,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: "Ranks" = None,
    progress: bool = True,
) -> Trajectory:
    """Project checkpoints of a training run onto the plane of their first two principal components.

    The components are those of the differences from the last checkpoint, which is the origin, as in Li et al. 2018
    (arXiv 1712.09913, Section 7). With `data` the loss is computed too: on a grid in this plane that holds the path, and of
    every checkpoint itself, which lies off the plane.

    Args:
        net: The network; it says which tensors are compared.
        checkpoints: At least three networks, state dicts or checkpoint files (as for `surface(towards=...)`) in the order of
            training, or the folder of a run. Files are read one at a time.
        data: Training samples, for the surface and the checkpoints' own losses; None for the path alone.
        dir_type: 'weights' for parameters, 'states' for buffers too.
        ignore: 'biasbn' leaves out biases and normalization layers, '' does not.
        only: Regular expressions; tensors whose names match none of them are left out. Empty for all.
        without: Regular expressions; tensors whose names match one of them are left out.
        epochs: The epoch or step of each checkpoint, for figures.
        points: Grid points along both axes, or (along x, along y).
        margin: Margin around the path, as a share of its extent.
        test: Further samples, evaluated as a second split.
        loss: The loss, as for `surface`.
        limit: Use the first `limit` samples of each split only.
        tolerance: As for `surface`; the checkpoints' own losses use all samples.
        precision: As for `surface`.
        batch_size: As for `surface`.
        device: Where losses are computed; by default on the network's device.
        file: Surface file to write or to continue. The checkpoints' losses and the path are written beside it, as
            NAME_checkpoints.h5 and NAME_path.h5, which `lossatlas plot NAME.h5 --proj_file NAME_path.h5` draws.
        force: Start over where the files exist; the earlier ones are kept under other names, which a warning gives.
        ranks: A communicator of mpi4py, as for `surface`.
        progress: Show a progress line.

    Returns:
        The trajectory: `coordinates` of shape (checkpoints, 2) and `distance` from the plane of shape (checkpoints,), both
        in units of the parameters, `explained` shares of the variance (2,), and the `plane` of two unit vectors by tensor
        name, which `surface(directions=...)` accepts. With data also `surface` and `losses` (checkpoints,).

    Raises:
        BadUsage: There are fewer than three checkpoints, or arguments are wrong.
        BadInput: A checkpoint does not fit the network, or the checkpoints span no plane; with data as for `surface`.
        CannotWrite: `file` cannot be written, or another run writes it.

    Example:
        >>> import torch, lossatlas
        >>> nets = [torch.nn.Linear(2, 2) for _ in range(4)]
        >>> lossatlas.trajectory(nets[-1], nets).coordinates.shape
        (4, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> run = lossatlas.trajectory(nets[-1], nets, data, points=5, progress=False)
        >>> run.surface.loss.shape, run.losses.shape
        ((5, 5), (4,))
    """

    def checked() -> PathArguments:
        check_words(dir_type=dir_type, ignore=ignore, precision=precision)
        check_values(config.BatchOptions, batch_size=batch_size)
        check_path(data, file, test, margin)
        own = LossQuantity(precision=precision, batch_size=batch_size)
        return PathArguments(
            counts=counts_of(points),
            margin=margin,
            quantity=replace(own, tolerance=tolerance_of(tolerance)),
            own=own,
            dir_type=dir_type,
            device=device,
            limit=limit,
        )

    warn_of_launcher(ranks)
    arguments = on_all(ranks, checked)
    same = {
        "data": data is not None,
        "points": arguments.counts,
        "margin": margin,
    }
    check_same_request(ranks, same)

    def projected() -> tuple[Sequence[Net], Trajectory]:
        series = checkpoint_list(checkpoints)
        return series, project(net, series, dir_type, ignore, Selection(only, without), epochs)

    series, path = on_all(ranks, projected)
    if data is None:
        return path
    output = PathOutput(None if file is None else Path(file), ranks, force=force, progress=progress)
    end = on_all(ranks, lambda: at_checkpoint(net, series[-1]))
    own = arguments.compute(end, arguments.losses_of(end, series), (data, test, loss), output.beside("checkpoints"))
    if not own.done.all():  # stopped by Ctrl-C
        return replace(path, losses=own.loss)
    surface = arguments.compute(end, arguments.under(end, path), (data, test, loss), output)
    found = replace(path, surface=surface, losses=own.loss)
    on_first(ranks, lambda: output.write_path(found, digest(state_of(end))))
    return found


def project(
    net: nn.Module,
    series: Sequence[Net],
    dir_type: str,
    ignore: str,
    selection: Selection,
    epochs: Sequence[float] | None,
) -> Trajectory:
    """Project checkpoints onto their principal plane, see `trajectory`. Raises BadUsage, BadInput."""
    if len(series) < 3:
        raise BadUsage(f"{len(series)} checkpoints span no plane: give at least 3")
    if epochs is not None and len(epochs) != len(series):
        raise BadUsage(f"{named('epochs')} names {len(epochs)} epochs of {len(series)} checkpoints: give one for each")
    origin = point_of(net, series[-1], dir_type)
    rows = differences(lambda k: point_of(net, series[k], dir_type), len(series), origin, net, ignore, selection)
    components, plane = principal_plane(rows, origin)
    where, distance = coordinates(rows, plane, "the trajectory")
    try:
        numbers = None if epochs is None else np.asarray(epochs, float)
    except (TypeError, ValueError) as error:
        raise BadUsage(f"{named('epochs')}: give a number for each checkpoint") from error
    return Trajectory(where, components.explained_variance_ratio, distance, plane, epochs=numbers)


@dataclass(frozen=True, kw_only=True)
class PathArguments:
    """Arguments of `trajectory` about losses, checked before anything is read.

    Attributes:
        counts: Grid points along x and along y.
        margin: Margin around the path, as a share of its extent.
        quantity: Computed on the grid.
        own: Computed of every checkpoint.
        dir_type: 'weights' or 'states'.
        device: The device; None for the network's.
        limit: The number of samples of each split; None for all.
    """

    counts: tuple[int, int]
    margin: float
    quantity: LossQuantity
    own: LossQuantity
    dir_type: str
    device: str | torch.device | None
    limit: int | None

    def arguments(
        self, net: nn.Module, quantity: LossQuantity, axes: DirectionArguments, x: Axis, y: Axis | None, dir_type: str
    ) -> SurfaceArguments:
        """Return the arguments of a surface."""
        return SurfaceArguments.checked(
            net, quantity=quantity, axes=axes, x=x, y=y, device=self.device, limit=self.limit, dir_type=dir_type
        )

    def under(self, net: nn.Module, path: Trajectory) -> SurfaceArguments:
        """Return the arguments of the surface under a path."""
        low, high = path.coordinates.min(0), path.coordinates.max(0)
        extent = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
        x, y = grid_around(extent, self.margin, self.counts)
        axes = DirectionArguments(directions=list(path.plane))
        return self.arguments(net, self.quantity, axes, x, y, self.dir_type)

    def losses_of(self, net: nn.Module, series: Sequence[Net]) -> SurfaceArguments:
        """Return the arguments of the checkpoints' own losses, with their BatchNorm statistics."""
        axes = DirectionArguments(path=tuple(series))
        x = np.arange(float(len(series)))
        return self.arguments(net, self.own, axes, x, None, "states")

    def compute(
        self, net: nn.Module, arguments: SurfaceArguments, samples: tuple[Any, Any, Any], output: "PathOutput"
    ) -> Landscape:
        """Compute a surface; samples: training data, test data and the loss."""
        data, test, loss = samples

        def begin() -> Any:
            inputs = arguments.read(net, data, test, loss)
            problem = Problem(shared_copy(net), inputs.plane, inputs.splits, inputs.loss, arguments.device)
            return replace(inputs, problem=replace(problem, reference=lambda: net))

        inputs = on_all(output.ranks, begin)
        found = run_surface_job(
            output.ranks, net, arguments.quantity, inputs, output.file, force=output.force, progress=output.progress
        )
        return Landscape.of(found, inputs.points.directions)


@dataclass(frozen=True)
class PathOutput:
    """The files of `trajectory`.

    Attributes:
        file: The surface file; None to keep everything in memory.
        ranks: A communicator of mpi4py, or None.
        force: Start over.
        progress: Show a progress line.
    """

    file: Path | None
    ranks: "Ranks"
    force: bool
    progress: bool

    def beside(self, suffix: str) -> "PathOutput":
        """Return the same for a file that belongs to the surface: NAME_suffix.h5."""
        if self.file is None:
            return self
        return replace(self, file=self.file.with_name(f"{self.file.name.removesuffix('.h5')}_{suffix}.h5"))

    def write_path(self, found: Trajectory, checkpoint: str) -> None:
        """Write the path beside the surface; checkpoint: the digest of its last network. Raises CannotWrite."""
        if self.file is None or found.surface is None or found.surface.directions is None:
            return
        path = self.beside("path").file
        assert path is not None
        if path.exists() and (self.force or not is_path_in(path, found.surface.directions.sha256)):
            keep_aside(path)
        write_projection(path, found.projection, found.surface.directions.sha256, checkpoint)


def is_path_in(file: Path, plane: str) -> bool:
    """Return whether a file holds a path in the plane with this SHA-256 of its directions."""
    try:
        read_projection(file)
        return projection_plane(file).get("directions") == plane
    except BadInput:
        return False


def check_path(data: Any, file: str | Path | None, test: Any, margin: float) -> None:
    """Raise BadUsage where arguments need data that are not given, or have a value without meaning."""
    if data is None and (file is not None or test is not None):
        raise BadUsage(
            f"{named('file' if file is not None else 'test')} belongs to the surface under the path: give data too"
        )
    if not isinstance(margin, int | float | np.number) or not 0 <= margin <= config.MOST_MARGIN:
        raise BadUsage(f"{named('margin', margin)}: give 0 to {config.MOST_MARGIN:g} times the path's extent")


def counts_of(points: int | tuple[int, int]) -> tuple[int, int]:
    """Return the numbers of grid points along x and along y. Raises BadUsage."""
    counts = tuple(points) if isinstance(points, Sequence) else (points, points)
    if len(counts) != 2 or not all(isinstance(count, int | np.integer) and count >= 2 for count in counts):
        raise BadUsage(f"{named('points', points)}: give the number of grid points along each axis, at least 2")
    return int(counts[0]), int(counts[1])


def at_checkpoint(net: nn.Module, checkpoint: Net) -> nn.Module:
    """Return a copy of a network with the tensors of a checkpoint. Raises BadInput."""
    try:
        end = evaluation_copy(net, {})
    except Exception as error:
        raise BadInput(
            f"{type(net).__name__} cannot be copied ({error}), and the surface lies around a copy with the last checkpoint"
        ) from error
    end.load_state_dict({**end.state_dict(), **state_for(net, checkpoint)})
    return end
