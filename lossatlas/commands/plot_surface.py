"""Compute the loss of a network on a line or a plane through its parameters, and store it as HDF5.

    python plot_surface.py --model resnet56 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet56_fashion_mnist.safetensors \\
        --x=-1:1:21 --y=-1:1:21 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --plot

    mpirun -n 4 python plot_surface.py --mpi --cuda ...      one CUDA device for each rank of a node
    python plot_surface.py ... --x=-1:1:51 --repeat 10       curves along ten random directions, for the mean and its confidence
    python plot_surface.py ... --x=-1:1:51 --per_layer       one layer at a time: which layers carry the loss

Run the same command again to continue after an interruption.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lossatlas import config
from lossatlas.commands import options
from lossatlas.commands.loss_quantity import LossQuantity
from lossatlas.io.progress import Log
from lossatlas.jobs.grid_job import run_grid_job
from lossatlas.mpi import launch


@dataclass(frozen=True)
class SurfaceOptions(
    config.GridCommandOptions, config.SchemeOptions, config.BatchNormOptions, config.EvaluationOptions
):
    """The options of this command."""


def parser() -> options.Parser[SurfaceOptions]:
    return options.Parser(__doc__, SurfaceOptions)


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.surf_file)

    def order() -> tuple[config.GridConfig, LossQuantity]:
        task, losses = options.grid_task(args, ["plot_surface.py", *command]), LossQuantity.of(args)
        if task.data.stream == "auto" and not losses.tolerance.exact:  # what is not drawn is not read
            task = replace(task, data=replace(task.data, stream="always"))
        return task, losses

    return launch.launch(args.mpi, lambda world: run_grid_job(world, order, log), log.line)
