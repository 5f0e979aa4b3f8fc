"""Jobs of Python functions that compute with a distributed Hessian.

They share findings and checks with the jobs of commands, see `command_job`.
"""

import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.errors import BUG, BadUsage, Incomplete
from lossatlas.io import Findings, write_findings
from lossatlas.io.lock import Lock
from lossatlas.jobs.curvature.distributed_hessian import (
    DistributedHessian,
    HessianInputs,
    HessianSettings,
    HessianShare,
    run_on_ranks,
)
from lossatlas.jobs.inputs.named_inputs import provenance
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import report_error
from lossatlas.process import signals

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn

    from lossatlas.data import AnyData, DataLike, LossLike


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


@dataclass
class FindingsOutput:
    """The findings of a job so far: in memory, and in a file where there is one.

    Attributes:
        findings: The newest ones.
        path: The file, absolute; None where they are kept in memory alone.
        lock: The lock on the file, which is checked before every write.
    """

    findings: Findings
    path: Path | None = None
    lock: Lock | None = None

    def save(self, findings: Findings) -> None:
        """Keep newer findings. Raises CannotWrite."""
        self.findings = findings
        if self.path is not None:
            if self.lock is not None:
                self.lock.check()
            write_findings(self.path, findings)

    def add(self, arrays: Mapping[str, Any]) -> None:
        """Add arrays to the findings and save them. Raises CannotWrite."""
        self.save(self.findings.with_arrays(arrays))


def of_objects(
    world: World,
    net: "nn.Module",
    data: "DataLike",
    loss: "LossLike",
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
    from lossatlas.jobs.inputs.api_inputs import request_of
    from lossatlas.jobs.inputs.input_check import check_inputs

    inputs = HessianInputs(net, as_dataset(data), as_loss(loss))
    found = check_inputs(net, inputs.loss, inputs.samples, type(net).__name__)
    description = request_of(net, loss, {}, found)
    check_enough_samples(inputs.samples, world)
    threads = torch.get_num_threads()
    settings = with_batch_size(settings, len(inputs.samples), world, device.type, threads)
    about = provenance(world, command, threads, seed)
    fresh = new_findings(description, inputs, settings, world, device.type, about)
    return ObjectsJob(inputs, settings, device, fresh)


def new_findings(
    description: Mapping[str, Any],
    inputs: HessianInputs,
    settings: HessianSettings,
    world: World,
    device: str,
    about: Mapping[str, Any],
) -> Findings:
    """Return findings without any result.

    Args:
        description: The fields of the request that identify network and loss.
        inputs: The network and the samples.
        settings: The settings of the Hessian.
        world: The ranks.
        device: The type of the device.
        about: Provenance.
    """
    from lossatlas.jobs.inputs.fingerprint import without_classes

    request = {**description, **settings.request(inputs)}
    plan: ExecutionPlan = {"device": device, "batch_size": settings.batch_size, "ranks": world.size}
    samples = inputs.samples
    sketches = {"data": samples.sketch, "samples": without_classes(samples).sketch}
    return Findings({}, request, plan, {**about, "samples": len(samples), "sketches": sketches})


def with_batch_size(
    settings: HessianSettings, samples: int, world: World, device: str, threads: int
) -> HessianSettings:
    """Return settings with the usual batch size where none is asked for.

    Args:
        settings: The settings.
        samples: The number of all samples, which are spread over the ranks.
        world: The ranks.
        device: The type of their device, 'cpu' or 'cuda'.
        threads: The number of threads of each rank.
    """
    from lossatlas.hessian import usual_batch_size

    size = settings.batch_size or usual_batch_size(-(-samples // world.size), device, threads)
    return replace(settings, batch_size=size)


def check_enough_samples(samples: "AnyData", world: World) -> None:
    """Raise BadUsage where there is not a sample, or a batch that stays as it is, for each rank."""
    if samples.parts < world.size:
        what = "samples" if samples.parts == len(samples) else "batches that stay as they are"
        raise BadUsage(f"{samples.parts} {what} cannot be spread over {world.size} ranks: start fewer")


def run_from_python(
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
        output: The findings so far; those of rank 0 are used.

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


def end_ranks(world: World, error: BaseException) -> None:
    """End every rank of a script after an error on this one; does nothing for one process."""
    if world.size == 1:
        return
    if not world.root:
        report_error(world, error)
    traceback.print_exception(Incomplete("interrupted") if isinstance(error, KeyboardInterrupt) else error)
    sys.stderr.flush()
    world.abort(BUG)
