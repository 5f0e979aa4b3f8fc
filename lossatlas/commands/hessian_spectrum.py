"""The spectrum of the Hessian of a network's mean loss: eigenvalues, trace, density, effective dimension, layers.

--matrix ggn, fisher, mc_fisher or empirical_fisher takes another matrix of second order.

    python hessian_spectrum.py --model resnet20 --dataset fashion_mnist_mini --limit 256 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --top 5 --spectrum_file spectrum.h5 --plot
    python hessian_spectrum.py ... --probes 8 --layers --activations Conv2d Linear     more of it, into the same file

    mpirun -n 4 python hessian_spectrum.py --mpi ...      the samples are spread over the ranks

Run the same command again to continue after an interruption: what is finished is in the file. Everything refers to the
Hessian of the mean loss over the samples, with the network in eval mode.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lossatlas import config, programs
from lossatlas.commands import figure_keywords, job_choices, options
from lossatlas.commands.curvature_inputs import command_inputs
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.config.option_fields import option, part
from lossatlas.errors import BadUsage, named, say
from lossatlas.io import Findings
from lossatlas.io.atomic_write import write_file
from lossatlas.io.progress import Log
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.named_curvature_job import CurvatureCommand, run_curvature_job
from lossatlas.mpi import launch


@dataclass(frozen=True)
class SpectrumOptions(
    config.NetworkOptions,
    config.OneSplitDataOptions,
    config.SelectionOptions,
    config.HessianOptions,
    config.MatrixOptions,
    config.SpectrumSettings,
    config.ProductOptions,
    config.ResultOptions,
    config.DrawOptions,
):
    """A network and its data, the parts of the spectrum, and the files of the result."""

    HEADING: ClassVar[str] = "output"

    spectrum_file: str | None = option(
        None, "file to write, or to continue (default: beside the checkpoint)", metavar="OUT.h5"
    )
    npz: str | None = option(None, "write the eigenvalues as pos_evals and neg_evals as well", metavar="OUT.npz")


def parser() -> options.Parser[SpectrumOptions]:
    return options.Parser(__doc__, SpectrumOptions)


def hessian_settings(args: SpectrumOptions) -> HessianSettings:
    """Return the settings of the Hessian that the options choose."""
    chosen = job_choices.hessian_choice(args)
    return HessianSettings(
        parameters=chosen.parameters,
        without=chosen.without,
        matrices_only=chosen.matrices_only,
        batch_size=args.batch_size,
        precision=args.precision,
        compiled=chosen.compiled,
        activations=args.activations,
        activation_site=args.activation_site,
        matrix=args.matrix,
        fisher_draws=args.fisher_draws,
        target_seed=args.seed,
    )


def spectrum_command(args: SpectrumOptions, command: Sequence[str]) -> CurvatureCommand[Findings]:
    """Return the command that options describe.

    Args:
        args: The options.
        command: The line of the command in words, for the record.

    Raises:
        BadUsage: The options contradict each other, or the name of the file of eigenvalues does not end in .npz.
    """
    from lossatlas.jobs.curvature.spectrum_job import SpectrumQuantity

    if args.npz and not args.npz.endswith(".npz"):
        raise BadUsage(f"{named('npz', args.npz)}: the name has to end in .npz")
    return CurvatureCommand(
        inputs=command_inputs(args, command, hessian_settings(args)),
        quantity=SpectrumQuantity(part(config.SpectrumSettings, args).of_matrix(args.matrix)),
        file=args.spectrum_file,
        force=args.force,
        dry_run=args.dry_run,
        plot=args.plot,
        report=lambda path, findings: report(path, findings, args.npz),
        draw=lambda path: draw(path, args),
    )


def report(path: Path, findings: Findings, npz: str | None) -> None:
    """Print the findings, and write the eigenvalues where they are asked for.

    Raises:
        CannotWrite: The file of eigenvalues cannot be written.
    """
    from lossatlas.figures.spectrum_table import spectrum_table

    for line in spectrum_table(findings):
        say(line)
    say(f"complete: {path}")
    if npz:
        write_eigenvalues(npz, findings)
    say(
        f"surfaces along eigenvectors: {programs.program('plot_surface')} ... --xdirection {path}:1 --ydirection "
        f"{path}:2"
    )


def draw(path: Path, args: SpectrumOptions) -> None:
    """Draw a finished file."""
    from lossatlas.commands import plot_spectrum

    plot_spectrum.draw(path, **figure_keywords.look_keywords(args))


def write_eigenvalues(name: str, findings: Findings) -> None:
    """Write the eigenvalues as pos_evals and neg_evals.

    Raises:
        CannotWrite: The file cannot be written.
    """
    values, _, resolved = findings.eigenpairs()
    if loose := int((~resolved).sum()):
        say(f"note: {loose} of the {len(values)} eigenvalues in {name} are not resolved")
    write_file(name, lambda file: np.savez(file, pos_evals=values[values > 0], neg_evals=values[values < 0]))
    say(f"wrote {name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("hessian_spectrum", args, command)
    if code is not None:
        return code
    log = Log(args.spectrum_file)

    def order() -> CurvatureCommand[Findings]:
        return spectrum_command(args, ["hessian_spectrum", *command])

    return launch.launch(args.mpi, lambda world: run_curvature_job(world, order, log), log.line)
