"""Compute the sharpness of a minimum: how far the loss rises within a distance, at worst and on average.

    lossatlas sharpness --model resnet20 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --sharpness_file sharp.h5 --plot
    mpirun -n 4 lossatlas sharpness --mpi ...           the samples are spread over the ranks
    lossatlas plot-sharpness --sharpness_file A.h5 B.h5 --labels small large

Worst case: the largest rise of the mean loss in a ball of radius rho around the parameters (Foret et al., SAM), and
among changes of that length relative to each parameter (Kwon et al., adaptive SAM), found by projected gradient ascent,
and the largest of all that were seen: what is printed is reached, and the maximum may be larger. Average case: the mean
over random directions of that length. With --minibatch M, the mean over mini-batches of M samples of the rise of each
one's loss after the ascent step of SAM, which SAM minimizes. Critical sharpness: 2 over the smallest rate at which a
step against the gradient does not lower the loss. The changes with the largest rises are written as directions, so that
lossatlas surface can go along them.

Run the same command again to continue after an interruption: what is finished is in the file.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossatlas import config, programs
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.curvature_inputs import command_inputs
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.config.option_fields import option, part
from lossatlas.errors import say
from lossatlas.io.progress import Log
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.named_curvature_job import CurvatureCommand, run_curvature_job
from lossatlas.jobs.curvature.sharpness_job import SharpnessQuantity, SharpnessResult, SharpnessSettings, write_worst
from lossatlas.mpi import launch


@dataclass(frozen=True)
class SharpnessOptions(
    config.NetworkOptions,
    config.OneSplitDataOptions,
    config.SelectionOptions,
    config.ProductOptions,
    config.ResultOptions,
    config.DrawOptions,
    config.RiseOptions,
):
    """A network and its data, the radii, and the file of the result."""

    HEADING: ClassVar[str] = "sharpness"

    sharpness_file: str | None = option(
        None, "file to write, or to continue (default: beside the checkpoint)", metavar="OUT.h5"
    )


def parser() -> options.Parser[SharpnessOptions]:
    return options.Parser(__doc__, SharpnessOptions)


def hessian_settings(args: SharpnessOptions) -> HessianSettings:
    """Return the settings of the operator that gives losses and gradients: the parameters that change, and batches."""
    return HessianSettings(
        parameters=args.only,
        without=args.without,
        matrices_only=False,
        batch_size=args.batch_size,
        precision=args.precision,
        products=False,
    )


def sharpness_command(args: SharpnessOptions, command: Sequence[str]) -> CurvatureCommand[SharpnessResult]:
    """Return the command that options describe.

    Args:
        args: The options.
        command: The line of the command in words, for the record.

    Raises:
        BadUsage: The options contradict each other.
    """
    settings = SharpnessSettings.of(part(config.RiseOptions, args))
    return CurvatureCommand(
        inputs=command_inputs(args, command, hessian_settings(args)),
        quantity=SharpnessQuantity(settings),
        file=args.sharpness_file,
        force=args.force,
        dry_run=args.dry_run,
        plot=args.plot,
        report=lambda path, result: report(path, result, settings),
        draw=lambda path: draw(path, args),
    )


def report(path: Path, result: SharpnessResult, settings: SharpnessSettings) -> None:
    """Print the result, and write the changes with the largest rises as directions.

    Raises:
        BadInput: As `write_worst`.
        CannotWrite: As `write_worst`.
    """
    from lossatlas.figures.sharpness_plots import minibatch_table, table

    say(table([result.findings], [""])[-1])  # the worst and the average rises have been printed
    for line in minibatch_table([result.findings]):
        say(line)
    worst = write_worst(path, result.worst)
    say(f"complete: {path}")
    for number, kind in enumerate(settings.kinds, 1):
        say(
            f"the worst {kind} change: {programs.program('plot_surface')} ... --xdirection {worst}:{number} "
            "(coordinate 1 is where it ends)"
        )


def draw(path: Path, args: SharpnessOptions) -> None:
    """Draw a finished file."""
    from lossatlas.commands import plot_sharpness

    plot_sharpness.draw([path], **figure_keywords.look_keywords(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("sharpness", args, command)
    if code is not None:
        return code
    log = Log(args.sharpness_file)

    def order() -> CurvatureCommand[SharpnessResult]:
        return sharpness_command(args, ["sharpness", *command])

    return launch.launch(args.mpi, lambda world: run_curvature_job(world, order, log), log.line)
