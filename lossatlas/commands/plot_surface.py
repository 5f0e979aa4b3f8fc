"""Compute the loss of a network on a line, a plane or a volume through its parameters, and store it as HDF5.

    python plot_surface.py --model resnet56 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet56_fashion_mnist.safetensors \\
        --x=-1:1:21 --y=-1:1:21 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --plot

    mpirun -n 4 python plot_surface.py --mpi --cuda ...      one CUDA device for each rank of a node
    python plot_surface.py ... --x=-1:1:51 --repeat 10       curves along ten random directions: mean and confidence
    python plot_surface.py ... --x=-1:1:51 --per_layer       one layer at a time: which layers carry the loss
    python plot_surface.py ... --x=-1:1:15 --y=-1:1:15 --z=-1:1:15    a volume along three directions

Run the same command again to continue after an interruption.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossatlas import config
from lossatlas.choices import Memory
from lossatlas.commands import figure_keywords, job_choices, options
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.errors import BadUsage, named
from lossatlas.io.progress import Log
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.sweep.named_grid_job import GridCommand, run_grid_job
from lossatlas.landscape import Surface, Tolerance
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.model_groups import ModelGroup, join_group

if TYPE_CHECKING:  # it imports torch, which takes seconds, and --help needs none of it
    from lossatlas.evaluation.evaluator import Evaluator
    from lossatlas.jobs.sweep.loss_quantity import LossQuantity


@dataclass(frozen=True)
class SurfaceOptions(
    config.GridCommandOptions,
    config.SchemeOptions,
    config.BatchNormOptions,
    config.EvaluationOptions,
    config.ModelGroupOptions,
):
    """A line or a plane, by directions or by a scheme, and how its losses are evaluated."""


def parser() -> options.Parser[SurfaceOptions]:
    return options.Parser(__doc__, SurfaceOptions)


def tolerances(args: config.EvaluationOptions) -> tuple[Tolerance, Tolerance | None]:
    """Return the tolerances of a cell and of interpolation.

    Raises:
        BadUsage: As `Tolerance.parse`, or TF32 is chosen without a CUDA device.
    """
    if args.precision == "tf32" and not args.cuda:
        raise BadUsage(
            f"{named('precision', 'tf32')}: TF32 is a mode of CUDA devices: add {named('cuda')}, or choose another "
            "precision"
        )
    return (
        Tolerance.parse(args.tolerance) if args.tolerance else Tolerance(),
        Tolerance.parse(args.adaptive, "adaptive") if args.adaptive else None,
    )


def loss_quantity(
    args: config.EvaluationOptions, run: config.RunConfig, recalibrated: int, memory: Memory | None = "fast"
) -> "LossQuantity":
    """Return the quantity that the options describe.

    Args:
        args: Options of the evaluation.
        run: Precision and batch size.
        recalibrated: Training samples for the BatchNorm statistics of every point; 0 keeps the statistics.
        memory: 'low', 'fast', or None to choose by the size of the network.

    Raises:
        BadUsage: A tolerance cannot be read, or a precision needs a CUDA device.
    """
    tolerance, adaptive = tolerances(args)

    from lossatlas.jobs.sweep.loss_quantity import LossQuantity

    return LossQuantity(tolerance, adaptive, run.precision, run.batch_size, recalibrated, memory)


def draw(surf_file: Path, dir_file: Path | None, surface: Surface, figures: config.PlotConfig) -> None:
    """Draw a finished file: bars of layers, a curve, slices of a volume, or contours.

    Args:
        surf_file: The surface file.
        dir_file: The direction file, for the axes of a path; None if there is none.
        surface: The surface.
        figures: Limits, look and colours of the figures.
    """
    if surface.rows_of == "layers":
        from lossatlas.commands import plot_layers

        plot_layers.draw(surf_file, **figure_keywords.look_keywords(figures))
        return
    if surface.grid.y is None or surface.rows_of:
        from lossatlas.commands import plot_1D

        plot_1D.draw(
            [surf_file],
            axes=plot_1D.AxisLimits(log=figures.log, loss_max=figures.loss_max),
            **figure_keywords.look_keywords(figures),
        )
        return
    if surface.grid.z is not None:
        from lossatlas.commands import plot_volume

        plot_volume.draw(surf_file, **figure_keywords.scale_keywords(figures), **figure_keywords.look_keywords(figures))
        return
    from lossatlas.commands import plot_2D

    plot_2D.draw(
        [surf_file],
        proj_file=figures.proj_file,
        dir_file=str(dir_file) if dir_file else None,
        **figure_keywords.scale_keywords(figures),
        **figure_keywords.look_keywords(figures),
    )


def grid_command(args: config.EvaluationOptions, task: config.GridConfig) -> "GridCommand[Evaluator]":
    """Return the command that computes losses over a grid.

    Raises:
        BadUsage: As `loss_quantity`.
    """
    quantity = loss_quantity(args, task.run, task.recalibrated, task.memory)
    if task.data.stream == "auto" and not quantity.tolerance.exact:  # samples that are not drawn are not read
        task = replace(task, data=replace(task.data, stream="always"))
    return GridCommand(
        task,
        quantity,
        lambda dir_file: file_names.surface_name(dir_file, task),
        lambda surf_file, dir_file, surface: draw(surf_file, dir_file, surface, task.figures),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command on this rank and return its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("plot_surface", args, command)
    if code is not None:
        return code
    log = Log(args.surf_file)

    def order() -> "GridCommand[Evaluator]":
        return grid_command(args, job_choices.grid_task(args, ["plot_surface", *command]))

    def join(world: World) -> World:
        if args.ranks_per_model == 1:
            return world
        return join_group(world, args.ranks_per_model, cuda=args.cuda, threads=args.threads)

    return launch.launch(args.mpi, lambda world: on_rank(world, order, log), log.line, join)


def on_rank(world: World, order: Callable[[], GridCommand], log: Log) -> int:
    """Run the command on this rank, or serve the leader of its group; return the exit code.

    Args:
        world: The ranks that take blocks of the grid, or the group of a rank that does not lead one.
        order: Returns the command; called on rank 0 alone.
        log: The log beside the surface file.
    """
    group = ModelGroup.current
    if group is None:
        return run_grid_job(world, order, log)
    from lossatlas.models.spread_networks import end_group, serve_group

    if not group.ranks.root:
        serve_group(group)
        return 0
    code = run_grid_job(world, order, log)
    end_group(group)
    return code
