"""Run a command that computes a quantity over a grid, on all ranks.

Rank 0 reads the inputs that a configuration names, sends them to the other ranks as a `GridJob`, and reports and draws
the result.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lossatlas import config
from lossatlas.errors import BadUsage, counted, say
from lossatlas.io.progress import Log
from lossatlas.io.resume import resume
from lossatlas.jobs.inputs.configured_data import load_splits, loss_of
from lossatlas.jobs.inputs.output_files import draw_if_possible, keep_aside
from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.jobs.inputs.records import provenance
from lossatlas.jobs.sweep.cell_loop import Timed
from lossatlas.jobs.sweep.dry_run import report_dry_run
from lossatlas.jobs.sweep.grid_inputs import GridInputs
from lossatlas.jobs.sweep.grid_job import (
    Quantity,
    SurfaceOutput,
    compute_surface,
    make_worker,
    note_without_values,
    with_second_derivatives,
)
from lossatlas.jobs.sweep.large_problem import LargeProblem
from lossatlas.jobs.sweep.named_grid_inputs import print_configuration, read_grid_inputs
from lossatlas.jobs.sweep.packed_problem import PackedProblem
from lossatlas.jobs.sweep.parametrization import MappedParametrization
from lossatlas.landscape import Surface
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of, threads_of, use_threads
from lossatlas.mpi.scheduler import follow, run_in_compute_thread

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch

    from lossatlas.jobs.sweep.problem import Problem

E = TypeVar("E")  # evaluates the quantity, see `Quantity`


@dataclass(frozen=True)
class GridJob(Generic[E]):
    """A grid job as rank 0 sends it to the other ranks.

    Attributes:
        quantity: The quantity to compute.
        inputs: The network, the points and the data; None once they are unpacked.
        loss: The loss's name, or the user's function.
        threads: CPU threads of each rank.
        surface: The surface so far, with its plan.
    """

    quantity: Quantity[E]
    inputs: PackedProblem | LargeProblem | None
    loss: config.LossChoice
    threads: int
    surface: Surface

    def on_ranks(self, world: World) -> "GridJob[E]":
        """Return the job with the parts that are not sent; all ranks call this.

        Raises:
            CannotWrite: As `LargeProblem.on_ranks`.
            WorkFailed: As `LargeProblem.on_ranks`.
        """
        return replace(self, inputs=self.inputs.on_ranks(world)) if isinstance(self.inputs, LargeProblem) else self

    def device(self, world: World) -> "torch.device":
        """Return the device of this rank."""
        return device_of(self.surface.plan["device"] == "cuda", local_rank=world.local_rank)

    def problem(self, world: World) -> "Problem":
        """Return the network, the plane and the data on this rank's device."""

        use_threads(self.threads)
        assert self.inputs is not None
        return self.inputs.unpack(loss_of(self.loss), self.device(world))

    def make_worker(self, world: World, evaluator: E) -> Timed:
        """Return the function from a block to its result, on this rank's device."""
        return make_worker(self.quantity, self.surface, evaluator, self.device(world), self.threads)


@dataclass(frozen=True)
class GridCommand(Generic[E]):
    """A command that computes a quantity over a grid.

    Attributes:
        task: Its configuration.
        quantity: The quantity to compute.
        file_name: Gives the name of the surface file, where the user names none, for a direction file.
        draw: Draws the finished file.
    """

    task: config.GridConfig
    quantity: Quantity[E]
    file_name: Callable[[Path], Path]
    draw: Callable[[Path, Path | None, Surface], None]


def run_grid_job(world: World, order: Callable[[], GridCommand[E]], log: Log) -> int:
    """Run a command on this rank.

    Args:
        world: The ranks.
        order: Returns the command; called on rank 0 alone, which reports wrong usage.
        log: The log beside the surface file.

    Returns:
        The exit code.
    """
    if not world.root:
        import lossatlas.hessian  # noqa: F401  takes seconds, while rank 0 reads the data

        job: GridJob[E] | None = world.share(None)
        if job is not None:
            received = job.on_ranks(world)
            follow(
                world,
                lambda: received.make_worker(
                    world, received.quantity.evaluator(received.problem(world), received.surface)
                ),
            )
        return 0
    if world.note:
        say(f"note: {world.note}")
    command = order()
    with ExitStack() as releases:
        return lead_grid_job(world, command, log, releases)


def lead_grid_job(world: World, command: GridCommand[E], log: Log, releases: ExitStack) -> int:
    """Run a command on rank 0, see `run_grid_job`.

    Args:
        world: The ranks.
        command: The command.
        log: The log beside the surface file.
        releases: Releases the lock on the output when it is closed.

    Returns:
        The exit code.
    """
    task, quantity = command.task, command.quantity
    inputs, job = run_in_compute_thread(world, partial(prepare_grid_job, world, command, log, releases))
    if task.output.dry_run:
        return dry_run(world, inputs, job)
    inputs.write_directions()
    job, evaluator = complete_job(world, job)
    if task.output.verbose:
        print_configuration(inputs, job.surface, job.threads, world)
    world.share(job)
    job = job.on_ranks(world)
    path, dir_file = inputs.surf_file, inputs.dir_file
    output = SurfaceOutput(path, dir_file, inputs.directions if inputs.embed else None, inputs.lock)
    job = replace(job, inputs=None)
    del inputs  # frees networks and data but those of the evaluator
    pending = quantity.pending(job.surface)
    log.line(f"started: {task.command}")
    say_start(world, job, path, len(pending))
    if task.output.force:
        keep_aside(path)

    def worker() -> Timed:
        assert evaluator is not None  # cells are pending
        return job.make_worker(world, evaluator)

    surface = compute_surface(world, quantity, job.surface, worker, pending=pending, output=output)
    log.line("complete")
    quantity.report(surface)
    note_without_values(surface, lambda: load_splits(task.data, task.networks.model))
    say(f"complete: {path}")
    if task.figures.plot:
        draw_if_possible(lambda: command.draw(path, dir_file, surface))
    return 0


def complete_job(world: World, job: GridJob[E]) -> tuple[GridJob[E], E | None]:
    """Complete the plan where cells are pending, and print what was measured for it; called on rank 0.

    Returns:
        The job with its complete plan, and the evaluator; None where no cell is pending.
    """
    if not (cells := len(job.quantity.pending(job.surface))):
        return job, None
    before = job.surface
    job, evaluator = run_in_compute_thread(world, partial(finalize_job, job, world, cells))
    for line in job.quantity.plan_lines(before, job.surface):
        say(line)
    return job, evaluator


def dry_run(world: World, inputs: GridInputs, job: GridJob[E]) -> int:
    """Print the configuration, end the other ranks, and estimate time and space."""
    cells = len(job.quantity.pending(job.surface))
    print_configuration(inputs, job.surface, job.threads, world)
    world.share(None)
    say(f"would compute {cells} of {job.surface.grid.size} cells")
    report_dry_run(world, inputs, job.surface, cells, quantity=job.quantity, problem=lambda: job.problem(world))
    return 0


def say_start(world: World, job: GridJob[E], path: Path, pending: int) -> None:
    """Print the grid, the number of cells that are computed, the ranks, and the execution mode.

    Args:
        world: The ranks.
        job: The job with its complete plan.
        path: The surface file.
        pending: Number of cells to compute.
    """
    size, ranks = job.surface.grid.size, counted(world.size, "rank", "ranks")
    say(
        f"{path}: {job.surface.grid}, {size - pending} of {size} cells done; "
        f"{ranks} x {job.threads} threads on {job.surface.plan['device']}{job.quantity.execution_mode(job.surface)}"
    )


def prepare_grid_job(
    world: World, command: GridCommand[E], log: Log, releases: ExitStack
) -> tuple[GridInputs, GridJob[E]]:
    """Read the inputs and the file to be continued, on rank 0. Writes nothing but the lock.

    Args:
        world: The ranks.
        command: The command.
        log: The log beside the surface file.
        releases: Releases the lock when it is closed.

    Returns:
        The inputs, and the job with the surface so far, whose plan may be incomplete.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: An input is missing or does not fit, or the file belongs to another job.
        CannotWrite: Another run writes the file.
    """

    from lossatlas.evaluation.memory_trim import trim_memory

    task, quantity = command.task, command.quantity
    check_device(task)
    task.grid  # noqa: B018  raises BadUsage before anything is read
    threads = threads_of(task.run.threads, world.cores)
    use_threads(threads)
    inputs = read_grid_inputs(task, command.file_name, log, releases)
    loaded = inputs.loaded
    surface = inputs.points.described(
        quantity.new_surface(
            loaded.net,
            loaded.data,
            loss_of(task.loss),
            inputs.points.grid,
            device=task.run.device,
            request=inputs.record,
            about=surface_provenance(world, task, inputs, threads),
        )
    )
    if not task.output.force:
        surface = resume(inputs.surf_file, surface, inputs.dir_file)
    surface = with_second_derivatives(surface, inputs.curvature, inputs.points.directions)
    trim_memory()
    packed = packed_problem(inputs)
    return inputs, GridJob(quantity, packed, task.loss, threads, surface)


def packed_problem(inputs: GridInputs) -> PackedProblem | LargeProblem:
    """Return the problem as it is sent to other ranks.

    A large network stays in files.

    Raises:
        CannotWrite: As `LargeProblem.of`.
    """
    points = inputs.points.parametrization
    if isinstance(points, MappedParametrization) and inputs.origin is not None:
        return LargeProblem.of(inputs.loaded, inputs.origin, points)
    return PackedProblem(PackedInputs.of(inputs.loaded), points)


def surface_provenance(world: World, task: config.GridConfig, inputs: GridInputs, threads: int) -> dict[str, Any]:
    """Return the provenance of a new surface.

    Args:
        world: The ranks.
        task: The configuration, with the command and the seed.
        inputs: The inputs, with the data and the metadata of the points.
        threads: CPU threads of each rank.
    """
    from lossatlas.jobs.inputs.fingerprint import data_sketches

    about = provenance(world, task.command, threads, task.directions.seed, task.resolved)
    about["sketches"] = data_sketches(inputs.loaded.data)
    return about | inputs.points.about


def check_device(task: config.GridConfig) -> None:
    """Raise BadUsage where a device is missing; a dry run, as on a login node, prints it and continues."""
    try:
        device_of(task.run.cuda)
    except BadUsage as error:
        if not task.output.dry_run:
            raise
        say(f"note: {error}; a dry run continues without one")


def finalize_job(job: GridJob[E], world: World, cells: int) -> tuple[GridJob[E], E]:
    """Return the job with a complete plan, and its evaluator; called on rank 0."""
    surface, evaluator = job.quantity.finalize_plan(job.problem(world), job.surface, cells)
    return replace(job, surface=surface), evaluator
