"""Estimate the local learning coefficient of a minimum: how degenerate it is, by Langevin dynamics around it.

    lossatlas learning-coefficient --model resnet20 --dataset fashion_mnist_mini \\
        --model_file trained_nets/resnet20_small_batch.safetensors --coefficient_file llc.h5 --plot
    mpirun -n 4 lossatlas learning-coefficient --mpi ...           each rank computes whole chains
    lossatlas learning-coefficient --model_folder runs/MY_RUN ...  every checkpoint of a run, into one file
    lossatlas plot-learning-coefficient --coefficient_file epoch_1.h5 epoch_2.h5 epoch_3.h5

Half the number of parameters at a minimum with a regular Hessian, less at a degenerate one. It is n beta times the mean
rise of the loss over draws from exp(-n beta L(w) - localization/2 |w - w*|^2), with the standard error over chains.
What speaks against the estimate is printed: chains that drift or disagree, and negative values.

Run the same command again to continue after an interruption: finished chains are in the file, and more --chains are
added to it, as are the checkpoints of a run that has gone on.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from lossatlas import config
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.checkpoint_options import SeriesOptions, folder_selection
from lossatlas.commands.curvature_inputs import command_inputs
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.config.option_fields import changed, option, part
from lossatlas.errors import BadUsage, named, say
from lossatlas.io import Findings
from lossatlas.io.progress import Log
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.learning_coefficient_job import CoefficientQuantity, without_second_derivatives
from lossatlas.jobs.curvature.named_curvature_job import CurvatureCommand, run_curvature_job
from lossatlas.jobs.trajectory.checkpoint_series import series_of_files
from lossatlas.jobs.trajectory.named_run_coefficients import PathCommand, run_path_job
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World


@dataclass(frozen=True)
class CoefficientNetworkOptions(config.NetworkOptions):
    """The network at the minimum, or the folder of a run."""

    HEADING: ClassVar[str] = "network"

    model_folder: str = changed(
        config.NetworkOptions,
        "model_folder",
        help="folder of the checkpoint; without --model_file, the folder of a run, whose checkpoints are all taken",
    )


@dataclass(frozen=True)
class RunSeriesOptions(SeriesOptions):
    """The checkpoints of a run."""

    HEADING: ClassVar[str] = "checkpoints"

    checkpoints: tuple[str, ...] = changed(
        SeriesOptions, "checkpoints", help="checkpoint files in order, instead of --model_folder"
    )


@dataclass(frozen=True)
class CoefficientOptions(
    CoefficientNetworkOptions,
    RunSeriesOptions,
    config.OneSplitDataOptions,
    config.SelectionOptions,
    config.LangevinSettings,
    config.ProductOptions,
    config.ResultOptions,
    config.DrawOptions,
):
    """A network and its data, the chains, and the file of the result."""

    HEADING: ClassVar[str] = "output"

    coefficient_file: str | None = option(
        None, "file to write, or to continue (default: beside the checkpoint)", metavar="OUT.h5"
    )


def parser() -> options.Parser[CoefficientOptions]:
    return options.Parser(__doc__, CoefficientOptions)


def hessian_settings(args: CoefficientOptions) -> HessianSettings:
    """Return the parameters and the precision that options choose."""
    return HessianSettings(
        parameters=args.only,
        without=args.without,
        matrices_only=False,
        batch_size=args.batch_size,
        precision=args.precision,
        products=args.learning_rate is None,
        without_products=without_second_derivatives(),
    )


def names_run(args: CoefficientOptions) -> bool:
    """Return whether options name the checkpoints of a run, not one network."""
    return bool(args.checkpoints) or bool(args.model_folder and not args.model_file)


def path_command(args: CoefficientOptions, command: Sequence[str]) -> PathCommand:
    """Return the command for the checkpoints of a run that options describe.

    Args:
        args: The options.
        command: The line of the command in words, for the record.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: There is no such folder, or a checkpoint is missing.
    """
    if args.checkpoints and (args.model_folder or args.model_file):
        other = named("model_file") if args.model_file else named("model_folder")
        raise BadUsage(f"{named('checkpoints')} and {other} name different networks: leave one of them out")
    if args.checkpoints:
        run = series_of_files(args.checkpoints)
    else:
        run = folder_selection(args).series(Path(args.model_folder))
    return PathCommand(
        inputs=command_inputs(
            replace(args, model_file=run.source(0), model_folder=""), command, hessian_settings(args)
        ),
        run=run,
        settings=part(config.LangevinSettings, args),
        file=args.coefficient_file,
        force=args.force,
        dry_run=args.dry_run,
        plot=args.plot,
        report=report_path,
        draw=lambda path: draw(path, args),
    )


def coefficient_command(args: CoefficientOptions, command: Sequence[str]) -> CurvatureCommand[Findings]:
    """Return the command for one network that options describe.

    Args:
        args: The options.
        command: The line of the command in words, for the record.

    Raises:
        BadUsage: The options contradict each other.
    """
    settings = hessian_settings(args)
    return CurvatureCommand(
        inputs=command_inputs(args, command, settings),
        quantity=CoefficientQuantity(part(config.LangevinSettings, args)),
        file=args.coefficient_file,
        force=args.force,
        dry_run=args.dry_run,
        plot=args.plot,
        report=report,
        draw=lambda path: draw(path, args),
    )


def report(path: Path, findings: Findings) -> None:
    """Print the estimate."""
    from lossatlas.figures.learning_coefficient_plots import coefficient_table

    for line in coefficient_table([findings], [""]):
        say(line)
    say(f"complete: {path}")


def report_path(path: Path, findings: Findings) -> None:
    """Print the estimates of the checkpoints of a run."""
    from lossatlas.figures.coefficient_path_plots import path_table

    for line in path_table(findings):
        say(line)
    say(f"complete: {path}")


def draw(path: Path, args: CoefficientOptions) -> None:
    """Draw a finished file."""
    from lossatlas.commands import plot_learning_coefficient

    plot_learning_coefficient.draw([path], **figure_keywords.look_keywords(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("learning-coefficient", args, command)
    if code is not None:
        return code
    log, line = Log(args.coefficient_file), ["learning_coefficient", *command]

    def run(world: World) -> int:
        if names_run(args):
            return run_path_job(world, lambda: path_command(args, line), log)
        return run_curvature_job(world, lambda: coefficient_command(args, line), log)

    return launch.launch(args.mpi, run, log.line)
