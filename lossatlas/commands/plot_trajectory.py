"""Project the checkpoints of a training run onto a plane, and compute the loss surface under them.

    python plot_trajectory.py --model resnet20 --dataset fashion_mnist_mini --model_folder runs/MY_RUN

writes the plane of the two principal components, and where the checkpoints lie in it. With --surface it goes on: the
loss of every checkpoint itself, a grid that holds the path with a margin, the surface on it, and the figures:

    mpirun -n 4 python plot_trajectory.py --mpi --model resnet20 --dataset fashion_mnist_mini --limit 500 \\
        --model_folder runs/MY_RUN --surface 25

Several folders are several runs on one plane and one surface. --plane local follows one run instead: a chart along its
path, with a plane of its own at every checkpoint. Run the same command again to continue after an
interruption.
"""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas import config, programs
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.plot_surface import grid_command
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.commands.trajectory_options import TrajectoryOptions, trajectory_config
from lossatlas.errors import named, say
from lossatlas.io import Projection, read_surface
from lossatlas.io.progress import Log
from lossatlas.jobs.sweep import named_grid_job
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import run_in_compute_thread

if TYPE_CHECKING:
    from lossatlas.jobs.trajectory.named_trajectory import StoredChart, StoredRuns, TrajectoryConfig
    from lossatlas.landscape import Surface


def parser() -> options.Parser[TrajectoryOptions]:
    return options.Parser(__doc__, TrajectoryOptions)


def project_and_print(args: TrajectoryOptions, command: str) -> "tuple[TrajectoryConfig, StoredRuns]":
    """Find the plane of the runs, project them onto it, write both, and print how much of them the plane shows.

    Args:
        args: Command line.
        command: The same as text, which files record.

    Returns:
        The configuration, and the runs in their plane.

    Raises:
        BadUsage: Options contradict each other, or do not suit the runs.
        BadInput: A checkpoint is missing, damaged or of another architecture.
        CannotWrite: A file cannot be written.
    """
    from lossatlas.jobs.trajectory.named_trajectory import project_and_store

    task = trajectory_config(args, command)
    stored = project_and_store(task)
    say_plane(task, stored)
    return task, stored


def say_plane(task: "TrajectoryConfig", stored: "StoredRuns") -> None:
    """Print what the axes are, and how much of the runs the plane shows."""
    projected, first = stored.projected, task.runs[0]
    if stored.plane.own and task.plane.kind == "river" and stored.plane.stored is None:
        of = f" {first.name}" if first.name and len(task.runs) > 1 else ""
        say(f"x is the drift of the run{of}, y the top eigenvector of the Hessian at its end, at a right angle to x")
    if explained := projected.paths[0].explained:
        say(
            f"the plane explains {100 * explained[0]:.2f} % + {100 * explained[1]:.2f} % of the variance about the mean"
        )
    share = 100 * projected.share_in_plane()
    say(f"of the squared distances from the origin, the last checkpoint, {share:.2f} % lie in the plane")
    for run, path in zip(projected.runs, projected.paths, strict=True):
        assert path.distance is not None
        say(
            f"{f'{run.name}: ' if len(task.runs) > 1 else ''}farthest from the plane: "
            f"{run.at(int(path.distance.argmax()))}, by {path.distance.max():.4g} (the path begins "
            f"{float(np.hypot(path.x[0], path.y[0])):.4g} away from the origin, in the plane)"
        )
    (x0, x1), (y0, y1) = projected.extent
    say(f"x from {x0:.4g} to {x1:.4g}, y from {y0:.4g} to {y1:.4g}")
    files = ([stored.dir_file] if stored.plane.own else [], stored.proj_files)
    say(f"wrote {' and '.join(', '.join(map(str, each)) for each in files if each)}")


def chart_and_print(args: TrajectoryOptions, command: str) -> "tuple[TrajectoryConfig, StoredChart]":
    """Make the chart of local planes along the run, and print how long the run is and how much it turns.

    Args:
        args: Command line.
        command: The same as text, which files record.

    Returns:
        The configuration, and the run with its chart.

    Raises:
        BadUsage: Options contradict each other, or do not suit the run.
        BadInput: A checkpoint is missing, damaged or of another architecture, or there are no local planes.
    """
    from lossatlas.jobs.trajectory.named_trajectory import charted_run

    task = trajectory_config(args, command)
    stored = charted_run(task)
    say(stored.projected.describe())
    return task, stored


def draw_results(args: TrajectoryOptions, task: "TrajectoryConfig", stored: "StoredRuns | StoredChart") -> None:
    """Write the paths with the checkpoints' own losses, compare these with the surface, and draw.

    Args:
        args: Command line.
        task: The configuration.
        stored: The runs in their plane or chart.

    Raises:
        CannotWrite: A file cannot be written.
    """
    from lossatlas.commands import plot_2D
    from lossatlas.figures.local_plane_plots import describe_distortion
    from lossatlas.figures.plotted_fields import loss_names
    from lossatlas.jobs.trajectory.run_files import checkpoints_file, own_planes_file, with_losses, write_paths

    surf_file, projected = stored.surf_file(task), stored.projected
    surface = read_surface(surf_file)
    name = loss_names(surface)[0]
    cells = read_surface(own_planes_file(surf_file)) if surface.is_chart else None
    paths = with_losses(projected, surface, read_surface(checkpoints_file(surf_file)), name, cells=cells)
    plane = projected.plane_digest
    files = [str(file) for file in write_paths(surf_file, projected, paths, plane, force=task.output.force)]
    for line in loss_ratios(surface, name, paths):
        say(line)
    for line in describe_distortion(surface, paths[0]) if surface.is_chart else ():
        say(line)
    say(f"wrote {', '.join(files)}")
    plot_2D.draw([surf_file], proj_file=files, **figure_keywords.look_keywords(args))
    say(f"again: {programs.shell('plot_2D')} --surf_file {shlex.quote(str(surf_file))} --proj_file {shlex.join(files)}")
    of = f" (of {projected.runs[0].name})" if len(files) > 1 else ""
    say(
        f"a page{of}: {programs.shell('view_surface')} {shlex.quote(str(surf_file))} "
        f"--proj_file {shlex.quote(files[0])}"
    )


def loss_ratios(surface: "Surface", name: str, paths: Sequence[Projection]) -> list[str]:
    """Describe the differences between the checkpoints' own losses and the surface, a line for each run."""
    from lossatlas.figures import choose_colour_scale
    from lossatlas.figures.trajectory_plots import describe_loss_ratio, surface_under_path

    scale, lines = choose_colour_scale([surface.fields[name]]), []
    for path in paths:
        if words := describe_loss_ratio(path, surface_under_path(surface, name, path, scale)):
            lines.append(f"{path.run}: {words}" if len(paths) > 1 else words)
    return lines


def surface_tasks(task: "TrajectoryConfig", stored: "StoredRuns") -> list[config.GridConfig]:
    """Return the configurations of the checkpoints' own losses and of the surface."""
    from lossatlas.jobs.trajectory.named_trajectory import losses_config, surface_config

    surface = surface_config(task, stored)
    return [losses_config(task, surface, stored.surf_file(task)), surface]


def run_on_rank(world: World, args: TrajectoryOptions, command: Sequence[str], log: Log) -> int:
    """Run the command on one rank; the others take part in the grid jobs alone.

    Args:
        world: Communicator.
        args: Command line.
        command: Its words.
        log: Log beside the output.

    Returns:
        The exit code.

    Raises:
        BadUsage: Options contradict each other.
        BadInput: A file is missing, damaged or of another kind.
        CannotWrite: A file cannot be written.
    """
    line = programs.command_line("plot_trajectory", command)
    if args.plane == "local":
        return chart_on_rank(world, args, line, log)
    prepared = run_in_compute_thread(world, lambda: project_and_print(args, line)) if world.root else None
    if not args.surface:
        if prepared is not None:
            from lossatlas.commands import plot_2D

            plot_2D.draw_path([str(file) for file in prepared[1].proj_files], **figure_keywords.look_keywords(args))
            more = named("surface", 25)
            say(f"the loss of the checkpoints, and the surface under them: the same command with {more}")
        return 0

    tasks = [] if prepared is None else surface_tasks(*prepared)
    for k in range(2):  # rank 0 alone asks for the job
        named_grid_job.run_grid_job(world, lambda k=k: grid_command(args, tasks[k]), log)  # type: ignore[misc]
    if prepared is not None:
        draw_results(args, *prepared)
    return 0


def chart_on_rank(world: World, args: TrajectoryOptions, line: str, log: Log) -> int:
    """Compute a chart of local planes on one rank; the others take part in the grid jobs alone.

    Args:
        world: Communicator.
        args: Command line.
        line: The same as text, which files record.
        log: Log beside the output.

    Returns:
        The exit code.

    Raises:
        BadUsage: Options contradict each other, or do not suit the run.
        BadInput: A file is missing, damaged or of another kind, or there are no local planes.
        CannotWrite: A file cannot be written.
    """
    from lossatlas.jobs.trajectory.named_trajectory import chart_configs

    prepared = run_in_compute_thread(world, lambda: chart_and_print(args, line)) if world.root else None
    tasks = [] if prepared is None else chart_configs(*prepared)
    for k in range(3):  # rank 0 alone asks for the job
        named_grid_job.run_grid_job(world, lambda k=k: grid_command(args, tasks[k]), log)  # type: ignore[misc]
    if prepared is not None:
        draw_results(args, *prepared)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("plot_trajectory", args, command)
    if code is not None:
        return code
    log = Log(args.surf_file)
    return launch.launch(args.mpi, lambda world: run_on_rank(world, args, command, log), log.line)
