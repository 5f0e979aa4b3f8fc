"""Fills a surface file with the ranks there are: the way from options to a complete file, for every quantity over a grid.

A command brings what is special about it as a `Quantity`, which travels to every rank.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lossatlas import config
from lossatlas.errors import BadUsage, CannotWrite, Stop, say
from lossatlas.io.atomic_write import set_aside
from lossatlas.io.block_queue import BlockQueue
from lossatlas.io.progress import Log
from lossatlas.io.recorder import Timed, Work, fill, timed
from lossatlas.io.resume import CURE, resume
from lossatlas.jobs.dry_run import report_dry_run
from lossatlas.jobs.grid_inputs import GridInputs, PackedProblem, print_configuration, read_grid_inputs
from lossatlas.jobs.inputs import device_of, loss_of, provenance
from lossatlas.landscape import Surface
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import follow, run_in_compute_thread, serve
from lossatlas.user_code import UserFunction


class Quantity(Protocol):
    """What is computed at every cell of a grid. An operator is whatever computes it on a rank."""

    def file_name(self, dir_file: Path, task: config.GridConfig) -> Path:
        """The surface file's name when none is given."""
        ...

    def new_surface(self, inputs: GridInputs, task: config.GridConfig, about: dict[str, Any]) -> Surface:
        """A surface of which nothing is computed yet."""
        ...

    def pending(self, surface: Surface) -> np.ndarray: ...

    def finalize_plan(self, problem: Any, surface: Surface, cells: int) -> tuple[Surface, Any]:
        """On rank 0: the surface with a complete plan, and the operator."""
        ...

    def operator(self, problem: Any, surface: Surface) -> Any:
        """On the other ranks."""
        ...

    def estimate_seconds(self, problem: Any, surface: Surface) -> tuple[float, str]:
        """Seconds that a cell may take, and what has been measured."""
        ...

    def block_worker(self, surface: Surface, operator: Any) -> Work: ...

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int) -> BlockQueue:
        """The pending cells in blocks, which `work` takes."""
        ...

    def execution_mode(self, surface: Surface) -> str:
        """How a rank computes, for people."""
        ...

    def report(self, surface: Surface) -> None:
        """Say what a complete surface holds."""
        ...

    def draw(self, surf_file: Path, dir_file: Path | None, surface: Surface, looks: config.PlotConfig) -> None: ...


@dataclass(frozen=True)
class GridJob:
    """What every rank needs to compute cells; travels from rank 0 to the others."""

    quantity: Quantity
    problem: PackedProblem | None
    loss: str | UserFunction
    threads: int
    surface: Surface

    def on_device(self, world: World) -> Any:
        """The network, the plane and the data on this rank's device."""
        import torch

        from lossatlas.jobs.problem import Problem

        torch.set_num_threads(self.threads)
        assert self.problem is not None
        net, plane, data = self.problem.unpack()
        device = device_of(self.surface.plan["device"] == "cuda", world.local_rank)
        trained = self.problem.trained
        training = trained.training

        def reference() -> Any:
            """The user's own network, which may be moved in place; its plane shares memory with the other one."""
            from lossatlas.evaluation.parallel_batches import deep_copy

            own = (
                trained.network(next(iter(data.values())))
                if isinstance(trained.model, UserFunction)
                else deep_copy(net)
            )
            return own.to(device)

        return Problem(
            net,
            plane,
            data,
            loss_of(self.loss),
            device,
            training.unpack("train") if training is not None else data.get("train"),
            reference,
        )


def make_worker(job: GridJob, operator: Any, world: World) -> Timed:
    """The function from cells to rows, a note, and who computed them, in the thread that computes."""
    import torch

    from lossatlas.evaluation.memory_trim import trim_memory

    trim_memory()  # networks and directions that nobody needs any more
    torch.set_num_threads(job.threads)
    device = device_of(job.surface.plan["device"] == "cuda", world.local_rank)
    name = "" if device == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"
    return timed(job.quantity.block_worker(job.surface, operator), name)


def run_grid_job(world: World, order: Callable[[], tuple[config.GridConfig, Quantity]], log: Log) -> int:
    """order: gives what is asked for, on rank 0 alone, where wrong usage is said."""
    if not world.root:
        import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

        job = world.share(None)
        if job is not None:
            follow(world, lambda: make_worker(job, job.quantity.operator(job.on_device(world), job.surface), world))
        return 0
    if world.note:
        say(f"note: {world.note}")
    task, quantity = order()
    with ExitStack() as held:
        return lead_grid_job(world, task, quantity, log, held)


def lead_grid_job(world: World, task: config.GridConfig, quantity: Quantity, log: Log, held: ExitStack) -> int:
    """On rank 0: see `run`. held: lets go of the lock on the output."""
    inputs, job = run_in_compute_thread(world, partial(prepare_grid_job, world, task, quantity, log, held))
    surf_file, dir_file, pending = inputs.surf_file, inputs.dir_file, quantity.pending(job.surface)
    if task.output.dry_run:
        print_configuration(inputs, job.surface, job.threads, world)
        world.share(None)
        say(f"would compute {len(pending)} of {job.surface.grid.size} cells")
        report_dry_run(world, inputs, job.surface, len(pending), quantity, lambda: job.on_device(world))
        return 0
    inputs.write_directions()
    operator = None
    if len(pending):
        job, operator = run_in_compute_thread(world, partial(finalize_job, job, world, len(pending)))
        pending = quantity.pending(job.surface)
    if task.output.verbose:
        print_configuration(inputs, job.surface, job.threads, world)
    world.share(job)
    embed, surface, lock = inputs.directions if inputs.embed else None, job.surface, inputs.lock
    job = replace(job, problem=None)
    del inputs  # from here on the operator alone holds networks and data
    log.line(f"started: {task.command}")
    size, ranks = surface.grid.size, f"{world.size} rank{'s' * (world.size > 1)}"
    say(
        f"{surf_file}: {surface.grid}, {size - len(pending)} of {size} cells done; "
        f"{ranks} x {job.threads} threads on {surface.plan['device']}{quantity.execution_mode(surface)}"
    )
    if task.output.force and (old := set_aside(surf_file)):
        say(f"note: the file that was there is now {old}")
    with chdir("."):  # a user's network may go elsewhere
        surface = fill(
            partial(serve, world),
            surf_file,
            surface,
            lambda: make_worker(job, operator, world),
            dir_file=dir_file,
            embed=embed,
            queue=quantity.block_queue(surface, pending, world.size),
            expected=math.inf if surface.samples else surface.about.get("seconds_per_cell", math.inf) / world.size,
            lock=lock,
        )
    log.line("complete")
    quantity.report(surface)
    say(f"complete: {surf_file}")
    if task.looks.plot:
        try:
            quantity.draw(surf_file, dir_file, surface, task.looks)
        except CannotWrite:
            raise
        except Stop as error:  # the surface is complete all the same
            say(f"note: not drawn: {error}")
    return 0


def prepare_grid_job(
    world: World, task: config.GridConfig, quantity: Quantity, log: Log, held: ExitStack
) -> tuple[GridInputs, GridJob]:
    """On rank 0: read everything once and say what is to be computed. Writes nothing but the lock."""
    import torch

    from lossatlas.evaluation.memory_trim import trim_memory

    check_device(task)
    task.grid  # noqa: B018  what is no grid is better said at once
    threads = task.run.threads or world.cores
    torch.set_num_threads(threads)
    inputs = read_grid_inputs(task, quantity.file_name, log, held)
    about = provenance(world, task.command, threads, task.directions.seed)
    about["sketches"] = {f"{split}_data": data.sketch for split, data in inputs.loaded.data.items()}
    if inputs.networks:
        about["networks"] = inputs.networks
    if inputs.curve:
        about["curve"] = inputs.curve
    surface = quantity.new_surface(inputs, task, about)
    if not task.output.force:
        surface = resume(inputs.surf_file, surface, inputs.dir_file, CURE.format("surf_file"))
    if inputs.curvature is not None and "second_derivatives" not in surface.about:
        surface = replace(surface, about={**surface.about, **inputs.curvature.along(inputs.used)})
    trim_memory()
    return inputs, GridJob(quantity, PackedProblem.of(inputs), task.loss, threads, surface)


def check_device(task: config.GridConfig) -> None:
    """Raise BadUsage where a device is missing; in a dry run, on a login node, that is said."""
    try:
        device_of(task.run.cuda)
    except BadUsage as error:
        if not task.output.dry_run:
            raise
        say(f"note: {error}; a dry run goes on without one")


def finalize_job(job: GridJob, world: World, cells: int) -> tuple[GridJob, Any]:
    """On rank 0: the job with a complete plan, and its operator."""
    surface, operator = job.quantity.finalize_plan(job.on_device(world), job.surface, cells)
    return replace(job, surface=surface), operator


def say_ranges(surface: Surface, names: list[str]) -> None:
    """Say between which values fields lie where they are computed, and how large their standard errors are."""
    for name in names:
        array = surface.fields[name][~surface.interpolated]
        known = array[np.isfinite(array)]
        odd = array.size - known.size
        if known.size:
            error = np.max(np.nan_to_num(surface.fields.get(f"{name}_se", np.zeros(1)), posinf=0.0))
            say(
                f"{name}: {known.min():.6g} to {known.max():.6g}{f', standard errors up to {error:.2g}' * bool(error)}"
                f"{f', {odd} cells not finite' * bool(odd)}"
            )
        else:
            say(f"{name}: no finite value")
