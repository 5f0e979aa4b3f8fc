"""Compute the sharpness of a minimum: how far the loss rises within a distance, at worst and on average.

    lossatlas sharpness --model resnet20 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --sharpness_file sharp.h5 --plot
    mpirun -n 4 lossatlas sharpness --mpi ...           the samples are spread over the ranks
    lossatlas plot-sharpness --sharpness_file A.h5 B.h5 --labels small large

Worst case: the largest rise of the mean loss in a ball of radius rho around the parameters (Foret et al., SAM), and
among changes of that length relative to each parameter (Kwon et al., adaptive SAM), found by projected gradient ascent,
and the largest of all that were seen: what is printed is reached, and the maximum may be larger. Average case: the mean
over random directions of that length. Critical sharpness: 2 over the smallest rate at which a step against the gradient
does not lower the loss. The changes with the largest rises are written as directions, so that lossatlas surface can go
along them.

Run the same command again to continue after an interruption: what is finished is in the file.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from lossatlas import config, programs
from lossatlas.commands import job_choices, options
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.errors import BadUsage, named, say
from lossatlas.io import Directions, Findings, write_directions
from lossatlas.io.progress import Log
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian, HessianSettings, run_on_ranks
from lossatlas.jobs.curvature.hessian_job import (
    FindingsOutput,
    NamedInputs,
    announce,
    load_job,
    run_command,
)
from lossatlas.jobs.curvature.sharpness_job import (
    CRITICAL_LOSSES,
    SharpnessSettings,
    check_worst,
    compute_sharpness,
    new_sharpness,
    worst_changes,
    worst_file,
)
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.named_inputs import check_checkpoints, output_path
from lossatlas.jobs.inputs.output_files import draw_if_possible, keep_aside, lock_output
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of
from lossatlas.option_fields import above_zero, natural, option, positive, resolved
from lossatlas.process import signals

PLAIN, ADAPTIVE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class SharpnessOptions(
    config.NetworkOptions,
    config.OneSplitDataOptions,
    config.SelectionOptions,
    config.ProductOptions,
    config.ResultOptions,
    config.DrawOptions,
):
    """A network and its data, the radii, and the file of the result."""

    HEADING: ClassVar[str] = "sharpness"

    rho: tuple[float, ...] = option(PLAIN, "radii of the ball", kind=above_zero, many="*", metavar="R")
    adaptive_rho: tuple[float, ...] = option(
        ADAPTIVE, "radii for changes relative to each parameter", kind=above_zero, many="*", metavar="R"
    )
    steps: int = option(20, "largest number of gradients for each radius", kind=positive, metavar="N")
    directions: int = option(10, "number of random directions for the average", kind=positive, metavar="N")
    seed: int = option(0, "seed of the random directions", kind=natural)
    sharpness_file: str | None = option(
        None, "file to write, or to continue (default: beside the checkpoint)", metavar="OUT.h5"
    )


def parser() -> options.Parser[SharpnessOptions]:
    return options.Parser(__doc__, SharpnessOptions)


@dataclass(frozen=True)
class SharpnessTask:
    """The configuration of this command.

    Attributes:
        inputs: Network, data, loss and the parameters that change.
        settings: The radii, and how thoroughly to search.
        sharpness_file: The output; None for a file beside the checkpoint.
        force: Start over where the output exists.
        dry_run: Say what would be computed.
        plot: Draw the figure.
        show: Open a window too.
        look: Look of the figure; None for paper.
        cmap: Colour map of its lines; None for that of the look.
    """

    inputs: NamedInputs
    settings: SharpnessSettings
    sharpness_file: str | None
    force: bool
    dry_run: bool
    plot: bool
    show: bool
    look: str | None
    cmap: str | None

    @classmethod
    def of(cls, args: SharpnessOptions, command: Sequence[str]) -> "SharpnessTask":
        """Return the configuration that options give. Raises BadUsage."""
        if not args.rho and not args.adaptive_rho:
            raise BadUsage(f"{named('rho')} and {named('adaptive_rho')} are both empty: give a radius")
        selection = config.HessianConfig(
            parameters=tuple(args.only),
            without=tuple(args.without),
            matrices_only=False,
            tolerance=0.0,
            max_products=0,
            compiled=False,
        )
        inputs = NamedInputs(
            model=job_choices.model_choice(args),
            model_file=job_choices.model_file(args),
            data=job_choices.data_choice(args),
            loss=job_choices.loss_choice(args),
            hessian=selection,
            run=job_choices.run_choice(args),
            command=programs.command_line(command[0], command[1:]),
            resolved=resolved(args),
        )
        settings = SharpnessSettings(
            rho=sorted(set(args.rho)),
            adaptive_rho=sorted(set(args.adaptive_rho)),
            steps=args.steps,
            directions=args.directions,
            seed=args.seed,
        )
        own = ("sharpness_file", "force", "dry_run", "plot", "show", "look", "cmap")
        return cls(inputs, settings, **{name: getattr(args, name) for name in own})

    @property
    def hessian(self) -> HessianSettings:
        """The settings of the distributed Hessian; a batch size of 0 is chosen later."""
        selection, run = self.inputs.hessian, self.inputs.run
        return HessianSettings(
            parameters=selection.parameters,
            without=selection.without,
            matrices_only=False,
            batch_size=run.batch_size,
            precision=run.precision,
        )


def lead_sharpness(world: World, task: SharpnessTask, log: Log, releases: ExitStack) -> int:
    """Run the command on rank 0. releases: releases the lock on the output when it is closed."""
    inputs = task.inputs
    default = Path(f"{file_names.base_name(inputs.model, inputs.model_file)}_sharpness.h5")
    path = output_path(task.sharpness_file, default, None)
    with chdir("."):  # a user's code may change the working directory
        if not task.dry_run:
            device_of(inputs.run.cuda)
        check_checkpoints(inputs.model_file)
        lock = lock_output("sharpness", path, log, releases, dry_run=task.dry_run)
        check_worst(worst_file(path))
        job = load_job(world, inputs, task.hessian, task.settings.seed)
    findings = new_sharpness(job.fresh, task.settings)
    if not task.force:
        findings = resume_findings(path, findings, task.settings.seed)
    if task.dry_run:
        world.share(None)
        print_dry_run(findings, path, task)
        return 0
    world.share(job.packed)
    output = FindingsOutput(findings, Path(os.path.abspath(path)), lock)

    def compute(operator: DistributedHessian) -> Directions:
        announce(path, inputs.command, operator, job, log)
        if task.force:
            keep_aside(path)
        with signals() as caught:
            compute_sharpness(replace(operator, caught=caught), task.settings, output, say)
        return worst_changes(output.findings, operator, job.loaded.net)

    worst = run_on_ranks(world, lambda: job.packed.share(world), compute)
    assert worst is not None  # this is rank 0
    log.line("complete")
    finish(output.findings, worst, path, task)
    return 0


def print_dry_run(findings: Findings, path: Path, task: SharpnessTask) -> None:
    """Print the configuration and the limits of the work."""
    for name, value in {**findings.request, **findings.plan, "sharpness file": path}.items():
        say(f"{name} = {value}")
    gradients, losses = task.settings.cost
    say(
        f"at most {gradients} gradients and {losses} losses, and some {CRITICAL_LOSSES} losses for the critical "
        "sharpness"
    )


def finish(findings: Findings, changes: Directions, path: Path, task: SharpnessTask) -> None:
    """Print the result, write the changes with the largest rises as directions, and draw."""
    from lossatlas.figures.sharpness_plots import table

    say(table([findings], [""])[-1])  # the lines before it have been printed
    worst = worst_file(path)
    write_directions(worst, changes, new=not worst.exists())
    say(f"complete: {path}")
    for number, kind in enumerate(task.settings.kinds, 1):
        say(
            f"the worst {kind} change: {programs.program('plot_surface')} ... --xdirection {worst}:{number} "
            "(coordinate 1 is where it ends)"
        )
    if task.plot:
        from lossatlas.commands import plot_sharpness

        draw_if_possible(lambda: plot_sharpness.draw([path], show=task.show, look=task.look, cmap=task.cmap))


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("sharpness", args, command)
    if code is not None:
        return code
    log = Log(args.sharpness_file)
    return launch.launch(
        args.mpi,
        lambda world: run_command(world, lambda: SharpnessTask.of(args, ["sharpness", *command]), lead_sharpness, log),
        log.line,
    )
