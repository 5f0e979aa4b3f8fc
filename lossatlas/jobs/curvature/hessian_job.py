"""Jobs that compute with a distributed Hessian: from inputs by name, or from Python objects, to a file of findings."""

import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lossatlas import config
from lossatlas.errors import BUG, BadUsage, Incomplete, counted, say
from lossatlas.io import Findings, write_findings
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Log
from lossatlas.jobs.curvature.distributed_hessian import (
    DistributedHessian,
    HessianInputs,
    HessianSettings,
    HessianShare,
    run_on_ranks,
)
from lossatlas.jobs.inputs.named_inputs import LoadedInputs, load_inputs, loss_of, provenance
from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of, threads_of, use_threads
from lossatlas.mpi.scheduler import report_error
from lossatlas.process import signals
from lossatlas.user_code import UserFunction, function_record

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn

    from lossatlas.data import AnyData, DataLike, LossLike

Task = TypeVar("Task")


@dataclass(frozen=True)
class HessianJob:
    """A distributed Hessian as rank 0 of a command sends it to the other ranks."""

    packed: PackedInputs
    loss: str | UserFunction
    settings: HessianSettings
    cuda: bool
    threads: int

    def share(self, world: World) -> HessianShare:
        """Unpack network and data, and return this rank's part. Every rank calls it at the same time."""

        use_threads(self.threads)
        net, splits = self.packed.unpack()
        inputs = HessianInputs(net, next(iter(splits.values())), loss_of(self.loss))
        return HessianShare(world, inputs, self.settings, device_of(self.cuda, local_rank=world.local_rank))


@dataclass(frozen=True, kw_only=True)
class NamedInputs:
    """Inputs of a job by name, as a command is told them.

    Attributes:
        model: The network's architecture.
        model_file: Its checkpoint; '' where a user's function gives a trained network.
        data: The samples.
        loss: The loss.
        hessian: The parameters that vary.
        run: Device, threads, batch size and precision.
        command: The line that started the command.
        resolved: All options by name, for the record.
    """

    model: config.ModelChoice
    model_file: str
    data: config.DataConfig
    loss: str | UserFunction
    hessian: config.HessianConfig
    run: config.RunConfig
    command: str
    resolved: Mapping[str, Any]


@dataclass(frozen=True)
class LoadedJob:
    """A job of a command whose inputs rank 0 has read.

    Attributes:
        loaded: The network and its data.
        packed: The job as the other ranks receive it.
        fresh: Findings without any result: request, plan and provenance of this run.
    """

    loaded: LoadedInputs
    packed: HessianJob
    fresh: Findings


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


def load_job(world: World, named: NamedInputs, settings: HessianSettings, seed: int) -> LoadedJob:
    """Read the inputs of a command on rank 0; writes nothing.

    Args:
        world: The ranks.
        named: The inputs.
        settings: The settings of the Hessian; a batch size of 0 is replaced by the usual one.
        seed: The seed of the random vectors, for the provenance.

    Raises:
        BadInput: A file, or what it holds, does not fit.
        BadUsage: A name is unknown, or there are more ranks than samples.
    """
    files = config.NetworkConfig(named.model, named.model_file, None, None)
    loaded = load_inputs(files, "weights", named.data, named.loss)
    samples = loaded.first
    check_enough_samples(samples, world)
    threads = threads_of(named.run.threads, world.cores)
    settings = with_batch_size(settings, len(samples), world, named.run.device, threads)
    description = {
        **{name: value for name, value in loaded.record.items() if name != "dir_type"},
        "dataset": samples.name,
        **function_record("loss", named.loss),
        "split": named.data.split,
    }
    inputs = HessianInputs(loaded.net, samples, loss_of(named.loss))
    about = provenance(world, named.command, threads, seed, named.resolved)
    fresh = new_findings(description, inputs, settings, world, named.run.device, about)
    packed = PackedInputs.of(loaded)
    return LoadedJob(loaded, HessianJob(packed, named.loss, settings, named.run.cuda, threads), fresh)


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


def announce(path: Path, command: str, operator: DistributedHessian, job: LoadedJob, log: Log) -> None:
    """Print the size of a job of a command, and log that it starts."""
    ranks, device = int(job.fresh.plan["ranks"]), job.fresh.plan["device"]
    say(
        f"{path}: {operator.size:,} parameters, {len(job.loaded.first)} samples; "
        f"{counted(ranks, 'rank', 'ranks')} x {job.packed.threads} threads on {device}"
    )
    log.line(f"started: {command}")


def run_command(
    world: World, order: Callable[[], Task], lead: Callable[[World, Task, Log, ExitStack], int], log: Log
) -> int:
    """Run a command on every rank: rank 0 leads and shares a HessianJob (None: a dry run); the others compute with it.

    Args:
        world: The ranks.
        order: Returns the configuration; called on rank 0 alone, which reports wrong usage.
        lead: The part of rank 0. The stack that it gets holds the lock on the output, which is released at the end.
        log: The log beside the output.

    Returns:
        The exit code.
    """
    if world.root:
        if world.note:
            say(f"note: {world.note}")
        with ExitStack() as releases:
            return lead(world, order(), log, releases)
    import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

    job: HessianJob | None = world.share(None)
    if job is not None:
        run_on_ranks(world, lambda: job.share(world), lambda operator: None)
    return 0


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
