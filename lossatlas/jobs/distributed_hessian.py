"""Losses, gradients and products with a Hessian, whose samples are spread over the ranks.

job = Job(trained, loss, hessian, run, samples, None, "output")   # on rank 0; travels to the others
calls, hessian = calls_of(job, world)                             # on every rank, see scheduler.lead and answer
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas import config
from lossatlas.errors import BadInput, BadUsage, say
from lossatlas.io.lock import Lock, holder
from lossatlas.io.progress import Log
from lossatlas.jobs.inputs import LoadedInputs, PackedInputs, device_of, loss_of
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import answer
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import numpy as np
    from torch import Tensor

    from lossatlas.hessian import Hessian

Calls = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class HessianJob:
    """What every rank needs; travels from rank 0 to the others."""

    trained: PackedInputs
    loss: str | UserFunction
    hessian: config.HessianConfig
    run: config.RunConfig
    samples: int
    activations: Sequence[str] | None
    at: str


def collective_calls(job: HessianJob, world: World) -> "tuple[Calls, Hessian]":
    """On every rank: products with its share of the samples, summed over the ranks."""
    import torch

    from lossatlas.hessian import Activations, Hessian

    torch.set_num_threads(job.run.threads)
    device = device_of(job.run.cuda, world.local_rank)
    net, splits = job.trained.unpack()
    data = next(iter(splits.values()))
    data = data.share(world.rank, world.size)

    def reduce(vector: "Tensor") -> "Tensor":
        if world.size == 1:
            return vector
        return torch.from_numpy(world.total(vector.detach().cpu().numpy())).to(vector.device, vector.dtype)

    def total_everywhere(vector: "Tensor") -> "Tensor":
        return torch.from_numpy(world.share(reduce(vector).numpy() if world.root else world.total(vector.numpy())))

    common: dict[str, Any] = {
        "batch_size": job.run.batch_size,
        "device": device,
        "reduce": total_everywhere,
        "precision": job.run.precision,
    }
    hessian = Hessian(
        net,
        data,
        loss_of(job.loss),
        parameters=job.hessian.parameters,
        without=job.hessian.without,
        matrices_only=job.hessian.matrices_only,
        compiled=job.hessian.compiled,
        **common,
    )
    hessian.reduce = reduce  # from here on rank 0 alone uses the sums

    def change(vector: "np.ndarray | None") -> "Tensor | None":
        return None if vector is None else torch.from_numpy(vector)

    calls: dict[str, Callable[..., Any]] = {
        "product": lambda vector, names: hessian(torch.from_numpy(vector), names),
        "loss": lambda vector: hessian.loss_at(change(vector)),
        "gradient": lambda vector: hessian.gradient_at(change(vector)),
    }
    if job.activations is not None:
        activations = Activations(net, data, loss_of(job.loss), patterns=job.activations, at=job.at, **common)
        activations.reduce = reduce
        calls["activations"] = lambda seed: activations(seed * world.size + world.rank)
        calls["layers"] = lambda: activations.layers

    def fitting(call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except torch.cuda.OutOfMemoryError as error:
                raise BadUsage(
                    f"a batch of {job.run.batch_size} does not fit into the memory of {device}: "
                    "use a smaller --batch_size"
                ) from error

        return guarded

    return {name: fitting(call) for name, call in calls.items()}, hessian


def run_collective(world: World, lead: Callable[[], int]) -> int:
    """On rank 0 what leads; on the others answers to what it calls."""
    if world.root:
        if world.note:
            say(f"note: {world.note}")
        return lead()
    import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

    job = world.share(None)
    if job is not None:
        answer(world, lambda: collective_calls(job, world)[0])
    return 0


def output_lock(what: str, path: Path, dry: bool, log: Log, held: ExitStack) -> Lock:
    """The lock on a file that is to be written; held unless nothing is. Raises BadInput where it has no folder, CannotWrite."""
    if not path.resolve().parent.is_dir():
        raise BadInput(f"no folder {path.parent} for the {what} file: make it first")
    if not dry:
        log.beside(path)
    lock = Lock(path)
    if not dry:
        held.enter_context(lock)
        if lock.previous_run:
            log.line(lock.previous_run)
    elif somebody := holder(path):
        say(f"note: {path} is being written by {somebody}")
    return lock


def check_enough_samples(loaded: LoadedInputs, world: World) -> None:
    """Raise BadUsage where there is not a sample for each rank."""
    samples = loaded.first
    if samples.parts < world.size:
        what = "samples" if samples.parts == len(samples) else "batches that stay as they are"
        raise BadUsage(f"{samples.parts} {what} cannot be spread over {world.size} ranks: start fewer")
