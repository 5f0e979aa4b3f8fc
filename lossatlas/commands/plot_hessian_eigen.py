"""Compute the smallest and the largest Hessian eigenvalue of a network on a line or a plane through its parameters.

    python plot_hessian_eigen.py --model resnet20 --dataset fashion_mnist_mini --limit 96 \\
        --model_file trained_nets/resnet20_small_batch.safetensors \\
        --x=-0.5:0.5:21 --xnorm filter --xignore biasbn --surf_file eigen.h5 --plot

    mpirun -n 4 python plot_hessian_eigen.py --mpi --cuda ...      one CUDA device for each rank of a node

Run the same command again to continue after an interruption. The Hessian is that of the mean loss with respect to all
parameters; --matrices_only leaves out those with one axis (biases, BatchNorm), as the original release does.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.commands import options
from lossatlas.errors import say
from lossatlas.io.block_queue import BlockQueue
from lossatlas.io.progress import Log
from lossatlas.jobs import file_names
from lossatlas.jobs.grid_inputs import GridInputs
from lossatlas.jobs.grid_job import run_grid_job, say_ranges
from lossatlas.landscape import Surface, unresolved
from lossatlas.mpi import launch
from lossatlas.option_fields import changed

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.io.recorder import Work
    from lossatlas.jobs.eigenvalue_map import Operator
    from lossatlas.jobs.problem import Problem


@dataclass(frozen=True)
class EigenvalueOptions(config.GridCommandOptions, config.HessianOptions, config.LanczosOptions, config.ProductOptions):
    """The options of this command."""

    split: str = changed(config.DataOptions, "split", choices=("train", "test"))


def parser() -> options.Parser[EigenvalueOptions]:
    return options.Parser(__doc__, EigenvalueOptions)


@dataclass(frozen=True)
class EigenvalueQuantity:
    """The largest and the smallest eigenvalue at every cell. See filling.Quantity."""

    choice: config.HessianConfig

    def file_name(self, dir_file: Path, task: config.GridConfig) -> Path:
        chosen = self.choice
        own = chosen.parameters if chosen.parameters != task.directions.only else ()
        what = "_hessian_eigen" + "_matrices" * chosen.matrices_only + "".join(f"_{part}" for part in own)
        base = file_names.surface_name(dir_file, task)
        return file_names.shortened(base.with_name(f"{base.stem}{what.replace('/', '_')}.h5"))

    def new_surface(self, inputs: GridInputs, task: config.GridConfig, about: dict[str, Any]) -> Surface:
        from lossatlas.evaluation.precision import product_precision
        from lossatlas.jobs.eigenvalue_map import new_surface

        run, chosen = task.run, self.choice
        return new_surface(
            inputs.grid,
            device=run.device,
            parameters=chosen.parameters,
            without=chosen.without,
            matrices_only=chosen.matrices_only,
            tolerance=chosen.tolerance,
            most=chosen.max_products,
            precision=product_precision(run.precision, inputs.loaded.net),
            compiled=chosen.compiled,
            batch_size=run.batch_size,
            seed=task.directions.seed,
            request=inputs.record,
            about=about,
        )

    def pending(self, surface: Surface) -> np.ndarray:
        return surface.pending()

    def finalize_plan(self, problem: "Problem", surface: Surface, cells: int) -> "tuple[Surface, Operator]":
        from lossatlas.jobs.eigenvalue_map import finalize_plan

        return finalize_plan(problem, surface)

    def operator(self, problem: "Problem", surface: Surface) -> "Operator":
        from lossatlas.jobs.eigenvalue_map import operator_of

        return operator_of(problem, surface)

    def estimate_seconds(self, problem: "Problem", surface: Surface) -> tuple[float, str]:
        from lossatlas.jobs.eigenvalue_map import estimate_seconds

        return estimate_seconds(problem, surface)

    def block_worker(self, surface: Surface, operator: "Operator") -> "Work":
        from lossatlas.jobs.eigenvalue_map import block_worker

        return block_worker(surface, operator)

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int) -> BlockQueue:
        return BlockQueue.of(pending)

    def execution_mode(self, surface: Surface) -> str:
        return ""

    def report(self, surface: Surface) -> None:
        fields = surface.fields
        for name in ("max_eig", "min_eig"):
            say_ranges(surface, [name])
            if loose := int(unresolved(surface, name).sum()):
                say(
                    f"note: {name} is not resolved at {loose} of {surface.grid.size} cells: more products with "
                    "--max_products and --force"
                )
        say(f"{int(np.nansum(fields['products']))} products, {np.nanmean(fields['products']):.1f} a cell")

    def draw(self, surf_file: Path, dir_file: Path | None, surface: Surface, looks: config.PlotConfig) -> None:
        if surface.grid.y is None:
            from lossatlas.commands import plot_1D

            plot_1D.draw([surf_file], axes=plot_1D.AxisLimits(log=looks.log), show=looks.show)
            return
        from lossatlas.commands import plot_2D

        plot_2D.draw([surf_file], vmin=looks.vmin, vmax=looks.vmax, vlevel=looks.vlevel, log=looks.log, show=looks.show)


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.surf_file)

    def order() -> tuple[config.GridConfig, EigenvalueQuantity]:
        task = options.grid_task(args, ["plot_hessian_eigen.py", *command])
        return task, EigenvalueQuantity(options.hessian_choice(args))

    return launch.launch(args.mpi, lambda world: run_grid_job(world, order, log), log.line)
