"""Run the command that estimates the local learning coefficients of the checkpoints of a run, on all ranks."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path

from lossatlas.config import LangevinSettings
from lossatlas.errors import BadInput, say
from lossatlas.io import Findings
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Log
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.curvature_quantity import HessianJob, LoadedJob
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian, run_on_ranks
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.learning_coefficient_job import chain_steps
from lossatlas.jobs.curvature.named_curvature_job import CommandInputs, announce, load_job
from lossatlas.jobs.inputs.output_files import draw_if_possible, keep_aside, lock_output, output_path
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries
from lossatlas.jobs.trajectory.run_coefficients import (
    checkpoints_of,
    compute_checkpoint,
    is_finished,
    key_of,
    path_findings,
    with_checkpoints,
)
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of
from lossatlas.process import signals


@dataclass(frozen=True, kw_only=True)
class PathCommand:
    """A command that estimates the coefficients of the checkpoints of a run.

    Attributes:
        inputs: Data, loss and parameters; the checkpoint in it is not used.
        run: The checkpoints, which are files.
        settings: The chains.
        file: The output; None for a file beside the checkpoints.
        force: Start over where the output exists.
        dry_run: Say what would be computed.
        plot: Draw the finished file.
        report: Prints the result.
        draw: Draws the finished file.
    """

    inputs: CommandInputs
    run: CheckpointSeries
    settings: LangevinSettings
    file: str | None
    force: bool
    dry_run: bool
    plot: bool
    report: Callable[[Path, Findings], None]
    draw: Callable[[Path], object]

    @property
    def path(self) -> Path:
        """The output: the file that the user names, or one in the folder of the checkpoints."""
        return output_path(self.file, self.run.folder / "learning_coefficients.h5", None)

    def load(self, world: World, k: int) -> LoadedJob:
        """Read the k-th checkpoint and the data."""
        inputs = replace(self.inputs, model_file=self.run.source(k))
        return load_job(world, inputs, self.settings.seed)


def run_path_job(world: World, order: Callable[[], PathCommand], log: Log) -> int:
    """Run a command on this rank.

    Args:
        world: The ranks.
        order: Returns the command; called on rank 0 alone, which reports wrong usage.
        log: The log beside the output.

    Returns:
        The exit code.
    """
    if world.root:
        if world.note:
            say(f"note: {world.note}")
        with ExitStack() as releases:
            return lead_path_job(world, order(), log, releases)
    import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

    job: HessianJob | None
    while (job := world.share(None)) is not None:
        run_on_ranks(world, lambda job=job: job.share(world), lambda operator: None)  # type: ignore[misc]
    return 0


def lead_path_job(world: World, command: PathCommand, log: Log, releases: ExitStack) -> int:
    """Run a command on rank 0, see `run_path_job`.

    Args:
        world: The ranks.
        command: The command.
        log: The log beside the output.
        releases: Releases the lock on the output when it is closed.

    Returns:
        The exit code.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: A checkpoint is damaged, or does not fit the others.
        CannotWrite: The output cannot be written.
    """
    path = command.path
    with chdir("."):  # a user's code may change the working directory
        if not command.dry_run:
            device_of(command.inputs.run.cuda)
        lock = lock_output("learning_coefficients", path, log, releases, dry_run=command.dry_run)
        digests, first = digests_of(command.run), command.load(world, 0)
        fresh = path_findings(first.fresh, command.settings, command.run)
        known = fresh if command.force else resume_findings(path, fresh, command.settings.seed)
        findings = with_checkpoints(known, checkpoints_of(command.run, digests))
    left = [k for k, each in enumerate(digests) if not is_finished(findings, key_of(each), command.settings)]
    if command.dry_run:
        world.share(None)
        say_plan(path, command, findings, len(left))
        return 0
    if command.force:
        keep_aside(path)
    found = compute_left(world, command, findings, Unfinished(left, digests, first), lock=lock, log=log)
    log.line("complete")
    command.report(path, found)
    if command.plot:
        draw_if_possible(lambda: command.draw(path))
    return 0


def digests_of(run: CheckpointSeries) -> list[str]:
    """Read the checkpoints of a run for their digests.

    Raises:
        BadInput: A checkpoint cannot be read.
    """
    from lossatlas.models import read_state
    from lossatlas.models.adapters import is_adapter
    from lossatlas.models.checkpoint import state_digest

    for file in run.files:
        if is_adapter(file):
            raise BadInput(f"{file} holds adapters alone: give checkpoints of the whole network")
    return [state_digest(read_state(run.source(k))) for k in range(len(run.files))]


@dataclass(frozen=True)
class Unfinished:
    """The checkpoints of a run that are not finished.

    Attributes:
        numbers: The numbers of the checkpoints.
        digests: The digests of all checkpoints.
        first: The first checkpoint and the data, as they were read.
    """

    numbers: Sequence[int]
    digests: Sequence[str]
    first: LoadedJob


def compute_left(
    world: World, command: PathCommand, findings: Findings, left: Unfinished, *, lock: Lock | None, log: Log
) -> Findings:
    """Compute the checkpoints that are left, one after the other, with all ranks.

    Args:
        world: The ranks.
        command: The command.
        findings: The findings so far.
        left: The checkpoints that are left.
        lock: The lock on the output.
        log: The log beside it.

    Returns:
        The findings.

    Raises:
        Incomplete: A signal came; the finished chains are saved.
        BadInput: A checkpoint does not fit the others, or its loss is not finite.
    """
    path = command.path
    output = FindingsOutput(findings, Path(os.path.abspath(path)), lock)
    for k in left.numbers:
        with chdir("."):
            job = left.first if k == 0 else command.load(world, k)
        world.share(job.packed)

        def compute(operator: DistributedHessian, job: LoadedJob = job, k: int = k) -> bool:
            if k == left.numbers[0]:
                announce(path, command.inputs.command, operator, job, log)
            with signals() as caught:
                own = replace(operator, caught=caught)
                compute_checkpoint(own, command.settings, output, key_of(left.digests[k]), shown=True)
            return True

        run_on_ranks(world, lambda job=job: job.packed.share(world), compute)  # type: ignore[misc]
    world.share(None)
    output.save(output.findings)
    return output.findings


def say_plan(path: Path, command: PathCommand, findings: Findings, left: int) -> None:
    """Print what a dry run would compute.

    Args:
        path: The output.
        command: The command.
        findings: The findings so far.
        left: The number of checkpoints that are left.
    """
    for name, value in {**findings.request, **findings.plan, "learning_coefficients file": path}.items():
        say(f"{name} = {value}")
    s = command.settings
    say(
        f"{left} of {len(command.run.files)} checkpoints are left, each with {s.chains} chains of {chain_steps(s)} "
        f"gradients and {s.draws} losses"
    )
