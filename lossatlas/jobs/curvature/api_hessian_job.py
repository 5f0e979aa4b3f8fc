"""Jobs of Python functions that compute with a distributed Hessian."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.errors import BUG, Incomplete, note
from lossatlas.io import Findings
from lossatlas.io.lock import Lock
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.distributed_hessian import (
    DistributedHessian,
    HessianInputs,
    HessianSettings,
    HessianShare,
    run_on_ranks,
)
from lossatlas.jobs.curvature.hessian_job import FindingsOutput, check_enough_samples, new_findings, with_batch_size
from lossatlas.jobs.inputs.output_files import with_lock
from lossatlas.jobs.inputs.records import provenance
from lossatlas.jobs.sweep.grid_job import obey_signal
from lossatlas.mpi.agreement import check_same_request, on_first
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import send_error
from lossatlas.process import signals

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn

    from lossatlas.data import DataLike, LossLike


@dataclass(frozen=True)
class ObjectsJob:
    """A job of a user's script, as every rank of it has it.

    Attributes:
        inputs: The network, all samples and the loss.
        settings: The settings of the Hessian.
        device: The device of this rank.
        fresh: Findings without any result: request, plan and provenance of this run.
    """

    inputs: HessianInputs
    settings: HessianSettings
    device: "torch.device"
    fresh: Findings


def of_objects(
    world: World,
    net: "nn.Module",
    data: "DataLike",
    loss: "LossLike",
    *,
    settings: HessianSettings,
    device: "torch.device",
    command: str,
    seed: int,
) -> ObjectsJob:
    """Return the job of a user's script. Every rank calls this.

    Args:
        world: The ranks.
        net: The network.
        data: The samples, see `lossatlas.data.as_dataset`.
        loss: The loss, see `lossatlas.data.as_loss`.
        settings: The settings of the Hessian; a batch size of 0 is replaced by the usual one.
        device: The device of this rank.
        command: The name of the function, for the provenance.
        seed: The seed of the random vectors, for the provenance.

    Raises:
        BadInput: The network cannot take the samples, or the loss cannot be computed.
        BadUsage: There are more ranks than samples.
    """
    import torch

    from lossatlas.data import as_dataset, as_loss
    from lossatlas.jobs.inputs.input_check import check_inputs
    from lossatlas.jobs.inputs.records import request_of

    inputs = HessianInputs(net, as_dataset(data), as_loss(loss))
    found = check_inputs(net, inputs.loss, inputs.samples, type(net).__name__)
    description = request_of(net, loss, {}, found)
    check_enough_samples(inputs.samples, world)
    threads = torch.get_num_threads()
    settings = with_batch_size(settings, len(inputs.samples), world, device.type, threads)
    about = provenance(world, command, threads, seed)
    fresh = new_findings(description, inputs, settings, world, device=device.type, about=about)
    return ObjectsJob(inputs, settings, device, fresh)


def run_objects_job(
    world: World,
    job: ObjectsJob,
    compute: Callable[[DistributedHessian], Any],
    output: FindingsOutput,
) -> Findings:
    """Compute in a user's script, in which every rank calls this function.

    Args:
        world: The ranks of the script.
        job: The job; the settings of rank 0 are used.
        compute: Computes on rank 0 with an operator, and saves to the output.
        output: The findings so far; the findings of rank 0 are used.

    Returns:
        The findings of rank 0, on every rank.

    Raises:
        Incomplete: A signal came; the finished parts are in the output. With several ranks an error of one of them ends
            all, because the others wait for its part of a sum.
    """
    try:
        with signals() as caught:
            settings = world.share(job.settings)
            run_on_ranks(world, lambda: HessianShare(world, job.inputs, settings, job.device), compute, caught)
        found: Findings = world.share(output.findings)
    except BaseException as error:
        end_ranks(world, error)
        raise
    return found


def run_function_job(
    world: World,
    job: ObjectsJob,
    compute: Callable[[DistributedHessian, FindingsOutput], object],
    *,
    parts: str,
    seed: int,
    file: str | Path | None,
    force: bool,
) -> Findings:
    """Compute the missing parts of findings for a Python function, under the lock of its file.

    Args:
        world: The ranks of the script, every one of which calls this.
        job: The job, with fresh findings.
        compute: Computes on rank 0 what the output lacks, and saves it.
        parts: The parts in words, for a note.
        seed: The seed of the random numbers.
        file: The file to write or to continue; None to keep everything in memory.
        force: Start over where `file` exists.

    Returns:
        The findings; after Ctrl-C the parts that are finished.

    Raises:
        BadInput: The job and the file do not fit each other, or ranks have different arguments.
        CannotWrite: The file cannot be written, or another run writes it.
    """
    check_same_request(world, job.fresh.request)

    def finish(lock: Lock | None) -> Findings:
        known = on_first(world, lambda: job.fresh if file is None else resume_findings(Path(file), job.fresh, seed))
        output = FindingsOutput(known, None if file is None else Path(file).absolute(), lock)
        try:
            return run_objects_job(world, job, lambda operator: compute(operator, output), output)
        except (KeyboardInterrupt, Incomplete) as error:
            if isinstance(error, Incomplete):
                obey_signal(error)
            note(f"stopped: {parts} that were finished are there")
            return output.findings

    return with_lock(job.fresh.kind, file, world, force=force, finish=finish)


def end_ranks(world: World, error: BaseException) -> None:
    """End every rank of a script after an error on this one; does nothing for one process."""
    if world.size == 1:
        return
    if not world.root:
        send_error(world, error)
    traceback.print_exception(Incomplete("interrupted") if isinstance(error, KeyboardInterrupt) else error)
    sys.stderr.flush()
    world.abort(BUG)
