"""Run a command that computes with the Hessian at one point, from a configuration to a finished file, on all ranks.

`run_curvature_job` runs it on every rank. Rank 0 reads the inputs that a configuration names, sends them to the other
ranks as a `HessianJob`, and computes a `CurvatureQuantity` with the operator that all ranks share.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from lossatlas import config
from lossatlas.errors import counted, say
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Log
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.curvature_quantity import CurvatureQuantity, HessianJob, LoadedJob
from lossatlas.jobs.curvature.distributed_hessian import (
    DistributedHessian,
    HessianInputs,
    HessianSettings,
    run_on_ranks,
)
from lossatlas.jobs.curvature.hessian_job import (
    FindingsOutput,
    check_enough_samples,
    new_findings,
    with_batch_size,
)
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.configured_data import loss_of
from lossatlas.jobs.inputs.named_inputs import check_checkpoints, load_inputs
from lossatlas.jobs.inputs.output_files import draw_if_possible, keep_aside, lock_output, output_path
from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.jobs.inputs.records import provenance
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of, threads_of
from lossatlas.process import signals
from lossatlas.user_code import function_record

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class CommandInputs:
    """Inputs of a job by name, as a command is told them.

    Attributes:
        model: The network's architecture.
        model_file: Its checkpoint; '' where a user's function gives a trained network.
        data: The samples.
        loss: The loss.
        hessian: The settings of the Hessian; a batch size of 0 is replaced by the usual one.
        run: Device and threads.
        command: The line that started the command.
        resolved: All options by name, for the record.
    """

    model: config.ModelChoice
    model_file: str
    data: config.DataConfig
    loss: config.LossChoice
    hessian: HessianSettings
    run: config.RunConfig
    command: str
    resolved: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CurvatureCommand(Generic[Result]):
    """A command that computes a quantity with the Hessian at one point.

    Attributes:
        inputs: Network, data, loss and Hessian.
        quantity: The quantity to compute.
        file: The output; None for a file beside the checkpoint.
        force: Start over where the output exists.
        dry_run: Say what would be computed.
        plot: Draw the finished file.
        report: Prints the result, and writes what belongs beside the file.
        draw: Draws the finished file.
    """

    inputs: CommandInputs
    quantity: CurvatureQuantity[Result]
    file: str | None
    force: bool
    dry_run: bool
    plot: bool
    report: Callable[[Path, Result], None]
    draw: Callable[[Path], object]

    @property
    def path(self) -> Path:
        """The output: the file that the user names, or one beside the checkpoint."""
        base = file_names.checkpoint_name(self.inputs.model, self.inputs.model_file)
        return output_path(self.file, Path(f"{base}_{self.quantity.kind}.h5"), None)


def run_curvature_job(world: World, order: Callable[[], CurvatureCommand[Any]], log: Log) -> int:
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
            return lead_curvature_job(world, order(), log, releases)
    import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

    job: HessianJob | None = world.share(None)
    if job is not None:
        run_on_ranks(world, lambda: job.share(world), lambda operator: None)
    return 0


def lead_curvature_job(world: World, command: CurvatureCommand[Result], log: Log, releases: ExitStack) -> int:
    """Run a command on rank 0, see `run_curvature_job`.

    Args:
        world: The ranks.
        command: The command.
        log: The log beside the output.
        releases: Releases the lock on the output when it is closed.

    Returns:
        The exit code.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: A file is missing, or does not fit the others.
        CannotWrite: The output cannot be written.
    """
    quantity, path = command.quantity, command.path
    job, lock = prepare_curvature_job(world, command, log, releases)
    findings = quantity.new_findings(job.fresh)
    if not command.force:
        findings = resume_findings(path, findings, quantity.seed)
    if command.dry_run:
        world.share(None)
        for name, value in {**findings.request, **findings.plan, f"{quantity.kind} file": path}.items():
            say(f"{name} = {value}")
        quantity.say_cost(job, path)
        return 0
    world.share(job.packed)
    output = FindingsOutput(findings, Path(os.path.abspath(path)), lock)

    def compute(operator: DistributedHessian) -> Result:
        announce(path, command.inputs.command, operator, job, log)
        if command.force:
            keep_aside(path)
        with signals() as caught:
            quantity.compute(replace(operator, caught=caught), output)
        return quantity.result(operator, output.findings, job.loaded.net)

    result = run_on_ranks(world, lambda: job.packed.share(world), compute)
    assert result is not None  # this is rank 0
    log.line("complete")
    command.report(path, result)
    if command.plot:
        draw_if_possible(lambda: command.draw(path))
    return 0


def prepare_curvature_job(
    world: World, command: CurvatureCommand[Any], log: Log, releases: ExitStack
) -> tuple[LoadedJob, Lock | None]:
    """Lock the output and read the inputs, on rank 0. Writes nothing but the lock.

    Args:
        world: The ranks.
        command: The command.
        log: The log beside the output.
        releases: Releases the lock when it is closed.

    Returns:
        The job, and the lock; None in a dry run.

    Raises:
        BadUsage: A name is unknown, a device is missing, or there are more ranks than samples.
        BadInput: An input is missing or does not fit.
        CannotWrite: Another run writes the output.
    """
    inputs, quantity = command.inputs, command.quantity
    with chdir("."):  # a user's code may change the working directory
        if not command.dry_run:
            device_of(inputs.run.cuda)
        check_checkpoints(inputs.model_file)
        lock = lock_output(quantity.kind, command.path, log, releases, dry_run=command.dry_run)
        quantity.check_files(command.path)
        return load_job(world, inputs, quantity.seed), lock


def load_job(world: World, chosen: CommandInputs, seed: int) -> LoadedJob:
    """Read the inputs of a command on rank 0; writes nothing.

    Args:
        world: The ranks.
        chosen: The inputs.
        seed: The seed of the random vectors, for the provenance.

    Raises:
        BadInput: A file, or what it holds, does not fit.
        BadUsage: A name is unknown, or there are more ranks than samples.
    """
    files = config.NetworkConfig(chosen.model, chosen.model_file, None, None)
    loaded = load_inputs(files, "weights", chosen.data, chosen.loss)
    samples = loaded.first
    check_enough_samples(samples, world)
    threads = threads_of(chosen.run.threads, world.cores)
    settings = with_batch_size(chosen.hessian, len(samples), world, chosen.run.device, threads)
    description = {
        **{name: value for name, value in loaded.record.items() if name != "dir_type"},
        "dataset": samples.name,
        **function_record("loss", chosen.loss),
        "split": chosen.data.split,
    }
    inputs = HessianInputs(loaded.net, samples, loss_of(chosen.loss))
    about = provenance(world, chosen.command, threads, seed, chosen.resolved)
    fresh = new_findings(description, inputs, settings, world, device=chosen.run.device, about=about)
    packed = PackedInputs.of(loaded)
    return LoadedJob(loaded, HessianJob(packed, chosen.loss, settings, chosen.run.cuda, threads), fresh)


def announce(path: Path, command: str, operator: DistributedHessian, job: LoadedJob, log: Log) -> None:
    """Print the size of a job, and log that it starts.

    Args:
        path: The output file.
        command: The line that started it, for the log.
        operator: The Hessian, which knows the number of parameters.
        job: Inputs and plan of the job.
        log: The log beside the output.
    """
    ranks, device = int(job.fresh.plan["ranks"]), job.fresh.plan["device"]
    say(
        f"{path}: {operator.size:,} parameters, {len(job.loaded.first)} samples; "
        f"{counted(ranks, 'rank', 'ranks')} x {job.packed.threads} threads on {device}"
    )
    log.line(f"started: {command}")
