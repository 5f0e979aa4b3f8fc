"""The spectrum of the Hessian of a network's mean loss: eigenvalues, trace, density, effective dimension, layers.

    python hessian_spectrum.py --model resnet20 --dataset fashion_mnist_mini --limit 256 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --top 5 --spectrum_file spectrum.h5 --plot
    python hessian_spectrum.py ... --probes 8 --layers --activations Conv2d Linear     more of it, into the same file

    mpirun -n 4 python hessian_spectrum.py --mpi ...      the samples are spread over the ranks

Run the same command again to continue after an interruption: what is finished is in the file. Everything refers to the
Hessian of the mean loss over the samples, with the network in eval mode.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from lossatlas import config, programs
from lossatlas.commands import job_choices, options
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.errors import BadUsage, named, say
from lossatlas.io import Findings
from lossatlas.io.atomic_write import write_file
from lossatlas.io.progress import Log, format_duration
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian, HessianSettings, run_on_ranks
from lossatlas.jobs.curvature.hessian_job import (
    FindingsOutput,
    LoadedJob,
    NamedInputs,
    announce,
    load_job,
    run_command,
)
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.named_inputs import check_checkpoints, output_path
from lossatlas.jobs.inputs.output_files import draw_if_possible, keep_aside, lock_output
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of
from lossatlas.option_fields import option, part, resolved
from lossatlas.process import signals


@dataclass(frozen=True)
class SpectrumOptions(
    config.NetworkOptions,
    config.OneSplitDataOptions,
    config.SelectionOptions,
    config.HessianOptions,
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


@dataclass(frozen=True)
class SpectrumTask:
    """The configuration of this command.

    Attributes:
        inputs: Network, data, loss and Hessian.
        settings: The parts of the spectrum.
        spectrum_file: The output; None for a file beside the checkpoint.
        npz: A further file for the eigenvalues.
        force: Start over where the output exists.
        dry_run: Say what would be computed.
        plot: Draw the figures.
        show: Open windows too.
        look: Look of the figures; None for paper.
        cmap: Colour map of their lines; None for that of the look.
    """

    inputs: NamedInputs
    settings: config.SpectrumSettings
    spectrum_file: str | None
    npz: str | None
    force: bool
    dry_run: bool
    plot: bool
    show: bool
    look: str | None
    cmap: str | None

    @classmethod
    def of(cls, args: SpectrumOptions, command: Sequence[str]) -> "SpectrumTask":
        """Return the configuration that options give. Raises BadUsage."""
        if args.npz and not args.npz.endswith(".npz"):
            raise BadUsage(f"{named('npz', args.npz)}: the name has to end in .npz")
        inputs = NamedInputs(
            model=job_choices.model_choice(args),
            model_file=job_choices.model_file(args),
            data=job_choices.data_choice(args),
            loss=job_choices.loss_choice(args),
            hessian=job_choices.hessian_choice(args),
            run=job_choices.run_choice(args),
            command=programs.command_line(command[0], command[1:]),
            resolved=resolved(args),
        )
        settings = part(config.SpectrumSettings, args)
        own = ("spectrum_file", "npz", "force", "dry_run", "plot", "show", "look", "cmap")
        return cls(inputs, settings, **{name: getattr(args, name) for name in own})

    @property
    def hessian(self) -> HessianSettings:
        """The settings of the distributed Hessian; a batch size of 0 is chosen later."""
        chosen, run = self.inputs.hessian, self.inputs.run
        return HessianSettings(
            parameters=chosen.parameters,
            without=chosen.without,
            matrices_only=chosen.matrices_only,
            batch_size=run.batch_size,
            precision=run.precision,
            compiled=chosen.compiled,
            activations=self.settings.activations,
            activation_site=self.settings.activation_site,
        )


def lead_spectrum(world: World, task: SpectrumTask, log: Log, releases: ExitStack) -> int:
    """Run the command on rank 0. releases: releases the lock on the output when it is closed."""
    from lossatlas.jobs.curvature.spectrum_job import compute_spectrum

    inputs = task.inputs
    default = Path(f"{file_names.base_name(inputs.model, inputs.model_file)}_spectrum.h5")
    path = output_path(task.spectrum_file, default, None)
    with chdir("."):  # a user's code may change the working directory
        if not task.dry_run:
            device_of(inputs.run.cuda)
        check_checkpoints(inputs.model_file)
        lock = lock_output("spectrum", path, log, releases, dry_run=task.dry_run)
        job = load_job(world, inputs, task.hessian, task.settings.seed)
    findings = job.fresh if task.force else resume_findings(path, job.fresh, task.settings.seed)
    if task.dry_run:
        world.share(None)
        print_dry_run(job, findings, path, task)
        return 0
    world.share(job.packed)
    output = FindingsOutput(findings, Path(os.path.abspath(path)), lock)

    def compute(operator: DistributedHessian) -> Findings:
        announce(path, inputs.command, operator, job, log)
        if task.force:
            keep_aside(path)
        with signals() as caught:
            own = replace(operator, caught=caught)
            return compute_spectrum(own, task.settings, output, known=lambda part: say(f"{part}: in the file already"))

    run_on_ranks(world, lambda: job.packed.share(world), compute)
    log.line("complete")
    finish(output.findings, path, task)
    return 0


def print_dry_run(job: LoadedJob, findings: Findings, path: Path, task: SpectrumTask) -> None:
    """Print the configuration, and time and memory of the job, from one product with all samples, by one rank."""
    import torch

    from lossatlas.data.memory import in_words
    from lossatlas.jobs.sweep.dry_run import check_space, has_cuda

    for name, value in {**findings.request, **findings.plan, "spectrum file": path}.items():
        say(f"{name} = {value}")
    if task.inputs.run.cuda and not has_cuda():
        say("time: not measured, because there is no CUDA device here")
        return
    hessian, wanted = job.packed.share(World()).hessian, task.settings
    own = hessian.size * hessian.dtype.itemsize
    check_space(path, own * (wanted.top + wanted.bottom))
    began = time.perf_counter()
    hessian(torch.ones(hessian.size, dtype=hessian.dtype, device=hessian.device)).sum().item()
    seconds = time.perf_counter() - began
    most = wanted.max_products + wanted.max_trace_products + (wanted.probes - 1) * wanted.steps
    say(f"spectrum file: about {in_words(own * (wanted.top + wanted.bottom))}")
    say(
        f"time: about {seconds:.3g} s for a product on one rank, and at most {most} products for eigenvalues, trace "
        f"and density: up to {format_duration(most * seconds)}"
        + ", and more for layers and activations"
        * (wanted.layers or wanted.activations is not None)
    )
    say(
        f"memory: up to {in_words(own * wanted.max_products)} for the vectors of a run of Lanczos, beside the network "
        "and the data"
    )


def finish(findings: Findings, path: Path, task: SpectrumTask) -> None:
    """Print the findings, and write and draw what is asked for."""
    from lossatlas.figures.spectrum_table import spectrum_table

    for line in spectrum_table(findings):
        say(line)
    say(f"complete: {path}")
    if task.npz:
        write_npz(task.npz, findings)
    say(
        f"surfaces along eigenvectors: {programs.program('plot_surface')} ... --xdirection {path}:1 --ydirection "
        f"{path}:2"
    )
    if task.plot:
        from lossatlas.commands import plot_spectrum

        draw_if_possible(lambda: plot_spectrum.draw(path, show=task.show, look=task.look, cmap=task.cmap))


def write_npz(name: str, findings: Findings) -> None:
    """Write the eigenvalues as pos_evals and neg_evals. Raises CannotWrite."""
    values, _, resolved = findings.eigenpairs()
    if loose := int((~resolved).sum()):
        say(f"note: {loose} of the {len(values)} eigenvalues in {name} are not resolved")
    write_file(name, lambda file: np.savez(file, pos_evals=values[values > 0], neg_evals=values[values < 0]))
    say(f"wrote {name}")


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("hessian_spectrum", args, command)
    if code is not None:
        return code
    log = Log(args.spectrum_file)
    return launch.launch(
        args.mpi,
        lambda world: run_command(
            world, lambda: SpectrumTask.of(args, ["hessian_spectrum", *command]), lead_spectrum, log
        ),
        log.line,
    )
