"""Compute the smallest and the largest Hessian eigenvalue of a network on a line or a plane through its parameters.

    python plot_hessian_eigen.py --model resnet20 --dataset fashion_mnist_mini --limit 96 \\
        --model_file trained_nets/resnet20_small_batch.safetensors \\
        --x=-0.5:0.5:21 --xnorm filter --xignore biasbn --surf_file eigen.h5 --plot

    mpirun -n 4 python plot_hessian_eigen.py --mpi --cuda ...      one CUDA device for each rank of a node

Run the same command again to continue after an interruption. --matrix ggn, fisher, mc_fisher or empirical_fisher gives
the largest eigenvalue of another matrix of second order. The Hessian is that of the mean loss with respect to all
parameters; --matrices_only leaves out those with one axis (biases, BatchNorm), as the original release does.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lossatlas import config
from lossatlas.choices import CurvatureMatrix, ProductPrecision
from lossatlas.commands import figure_keywords, job_choices, options
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.config.option_fields import changed
from lossatlas.io.progress import Log
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.sweep.named_grid_job import GridCommand, run_grid_job
from lossatlas.landscape import Surface
from lossatlas.mpi import launch

if TYPE_CHECKING:  # it imports torch, which takes seconds, and --help needs none of it
    from lossatlas.jobs.sweep.eigenvalue_quantity import MovedMatrix


@dataclass(frozen=True)
class EigenvalueOptions(config.GridCommandOptions, config.HessianOptions, config.MatrixOptions, config.LanczosOptions):
    """A line or a plane, and the accuracy of the eigenvalues at its points."""

    split: Literal["train", "test"] = changed(config.DataOptions, "split")
    batch_size: int = changed(config.ProductOptions, "batch_size")
    precision: ProductPrecision | None = changed(config.ProductOptions, "precision")


def parser() -> options.Parser[EigenvalueOptions]:
    return options.Parser(__doc__, EigenvalueOptions)


def file_name(dir_file: Path, task: config.GridConfig, chosen: config.HessianConfig, matrix: CurvatureMatrix) -> Path:
    """Return the name of the surface file for a direction file, where the user names none.

    Args:
        dir_file: The direction file.
        task: The line or plane.
        chosen: The parameters.
        matrix: The matrix whose eigenvalues are computed.
    """
    own = chosen.parameters if chosen.parameters != task.directions.only else ()
    suffix = f"_{matrix}_eigen" + "_matrices" * chosen.matrices_only + "".join(f"_{part}" for part in own)
    base = file_names.surface_name(dir_file, task)
    return file_names.shortened_name(base.with_name(f"{base.stem}{suffix.replace('/', '_')}.h5"))


def draw(surf_file: Path, surface: Surface, figures: config.PlotConfig) -> None:
    """Draw a finished file: curves, contours, or slices of a volume."""
    if surface.grid.y is None:
        from lossatlas.commands import plot_1D

        plot_1D.draw([surf_file], axes=plot_1D.AxisLimits(log=figures.log), **figure_keywords.look_keywords(figures))
        return
    if surface.grid.z is not None:
        from lossatlas.commands import plot_volume

        plot_volume.draw(surf_file, **figure_keywords.scale_keywords(figures), **figure_keywords.look_keywords(figures))
        return
    from lossatlas.commands import plot_2D

    plot_2D.draw([surf_file], **figure_keywords.scale_keywords(figures), **figure_keywords.look_keywords(figures))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command on this rank and return its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("plot_hessian_eigen", args, command)
    if code is not None:
        return code
    log = Log(args.surf_file)

    def order() -> "GridCommand[MovedMatrix]":
        from lossatlas.jobs.sweep.eigenvalue_quantity import EigenvalueQuantity

        task = job_choices.grid_task(args, ["plot_hessian_eigen", *command])
        chosen = job_choices.hessian_choice(args)
        quantity = EigenvalueQuantity(
            parameters=chosen.parameters,
            without=chosen.without,
            matrices_only=chosen.matrices_only,
            tolerance=chosen.tolerance,
            max_products=chosen.max_products,
            precision=args.precision,
            compiled=chosen.compiled,
            batch_size=task.run.batch_size,
            seed=task.directions.seed,
            matrix=args.matrix,
            fisher_draws=args.fisher_draws,
        )
        return GridCommand(
            task,
            quantity,
            lambda dir_file: file_name(dir_file, task, chosen, args.matrix),
            lambda surf_file, _, surface: draw(surf_file, surface, task.figures),
        )

    return launch.launch(args.mpi, lambda world: run_grid_job(world, order, log), log.line)
