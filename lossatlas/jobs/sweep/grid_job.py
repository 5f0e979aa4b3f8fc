"""Compute a quantity at every point of a grid on all ranks, for the commands and for the Python functions.

`compute_surface` does it on rank 0, while the other ranks `follow`. `run_grid_job` runs a command: it reads the inputs
that a configuration names, sends them to the other ranks, and reports and draws the result. `run_from_python` runs a
Python function, whose ranks have their own network and data.
"""

import math
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossatlas import config
from lossatlas.errors import BadUsage, Incomplete, counted, note, say
from lossatlas.io.direction_files import Directions
from lossatlas.io.lock import Lock, release_all
from lossatlas.io.progress import Log, Progress, make_progress
from lossatlas.io.resume import resume
from lossatlas.jobs.inputs.named_inputs import loss_of, provenance
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.output_files import draw_if_possible, keep_aside
from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.jobs.sweep.cell_loop import Timed, Work, compute_cells, timed
from lossatlas.jobs.sweep.dry_run import report_dry_run
from lossatlas.jobs.sweep.grid_inputs import GridInputs, print_configuration, read_grid_inputs
from lossatlas.jobs.sweep.large_problem import LargeProblem
from lossatlas.jobs.sweep.packed_problem import PackedProblem
from lossatlas.jobs.sweep.parametrization import MappedParametrization
from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.agreement import from_first, on_all, on_first
from lossatlas.mpi.block_queue import BlockQueue
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of, threads_of, use_threads
from lossatlas.mpi.scheduler import follow, run_in_compute_thread, serve
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.jobs.sweep.problem import Problem
    from lossatlas.mpi.agreement import Ranks


class Quantity(Protocol):
    """A quantity that is evaluated at every grid point. Its `evaluator` evaluates it on one rank."""

    def new_surface(
        self,
        net: "nn.Module",
        data: Mapping[str, "AnyData"],
        loss: "Loss",
        grid: Grid,
        *,
        device: str,
        request: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> Surface:
        """Return a surface without computed cells, whose plan may be incomplete.

        Args:
            net: The network at the origin.
            data: The samples by split.
            loss: The loss.
            grid: The grid.
            device: 'cpu' or 'cuda'.
            request: The fields that identify the job, see `io.resume`.
            about: Provenance.
        """
        ...

    def pending(self, surface: Surface) -> np.ndarray:
        """Return the indices of the cells that are still to be computed."""
        ...

    def finalize_plan(self, problem: "Problem", surface: Surface, cells: int) -> tuple[Surface, Any]:
        """On rank 0: return the surface with a complete plan, and the evaluator."""
        ...

    def evaluator(self, problem: "Problem", surface: Surface) -> Any:
        """On the other ranks: return the evaluator."""
        ...

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        """Describe what `finalize_plan` measured that the user should know."""
        ...

    def estimate_seconds(self, problem: "Problem", surface: Surface) -> tuple[float, str]:
        """Return the seconds that a cell may take, and what was measured."""
        ...

    def block_worker(self, surface: Surface, evaluator: Any) -> Work:
        """Return the function from a block of `block_queue` to its result."""
        ...

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int) -> BlockQueue:
        """Return the pending cells in blocks."""
        ...

    def execution_mode(self, surface: Surface) -> str:
        """Describe how a rank computes."""
        ...

    def report(self, surface: Surface) -> None:
        """Print what a complete surface holds."""
        ...


@dataclass(frozen=True)
class SurfaceOutput:
    """The file of a surface.

    Attributes:
        path: The surface file; None to keep it in memory.
        dir_file: The direction file that the surface file links to.
        embed: Directions to copy into the surface file instead.
        lock: The lock on the surface file.
        progress: Shows progress; None for a line on stdout.
    """

    path: Path | None
    dir_file: Path | None = None
    embed: Directions | None = None
    lock: Lock | None = None
    progress: Progress | None = None


def compute_surface(
    world: World,
    quantity: Quantity,
    surface: Surface,
    make_work: Callable[[], Timed],
    pending: np.ndarray,
    output: SurfaceOutput,
) -> Surface:
    """On rank 0: compute the pending cells on all ranks, of which the others call `follow`.

    Args:
        world: The ranks.
        quantity: The quantity to compute.
        surface: The surface so far, with a complete plan.
        make_work: See `make_worker`.
        pending: The indices of the cells to compute.
        output: The file of the surface.

    Returns:
        The complete surface.

    Raises:
        Incomplete: A signal ended it; the cells that arrived are saved, and in its `partial`.
        WorkFailed: Another rank failed; the cells that arrived are saved.
        CannotWrite: The file cannot be written.
    """
    with chdir("."):  # restored afterwards: a user's network may change the folder
        return compute_cells(
            partial(serve, world),
            output.path,
            surface,
            make_work,
            dir_file=output.dir_file,
            embed=output.embed,
            queue=quantity.block_queue(surface, pending, world.size),
            expected=math.inf if surface.samples else surface.about.get("seconds_per_cell", math.inf) / world.size,
            progress=output.progress,
            lock=output.lock,
        )


def make_worker(
    quantity: Quantity, surface: Surface, evaluator: Any, device: "str | torch.device", threads: int = 0
) -> Timed:
    """Return the function from a block to its result, in the thread that computes.

    Args:
        quantity: The quantity to compute.
        surface: The surface with its complete plan.
        evaluator: Evaluates the quantity.
        device: The device of this rank.
        threads: CPU threads of this rank; 0 leaves them as they are.
    """
    import torch

    from lossatlas.evaluation.memory_trim import trim_memory

    trim_memory()  # networks and directions of the set-up
    use_threads(threads)
    name = "" if torch.device(device).type == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"
    return timed(quantity.block_worker(surface, evaluator), name)


def run_from_python(
    ranks: "Ranks",
    quantity: Quantity,
    problem: "Problem",
    known: Surface,
    output: SurfaceOutput,
    *,
    progress: bool,
) -> Surface:
    """Compute a surface for a Python function, which every rank calls with its own network and data.

    Args:
        ranks: A communicator of mpi4py, or None.
        quantity: The quantity to compute.
        problem: The network, the plane and the data.
        known: The surface to continue; the same on every rank.
        output: The file of the surface.
        progress: Show a progress line.

    Returns:
        The complete surface, on every rank; after Ctrl-C on a single process the surface so far.

    Raises:
        FailedRank: Another rank failed.
        Incomplete: A signal ended it on several ranks.
    """
    if not len(quantity.pending(known)):
        return known
    world, device = World.of_communicator(ranks), str(problem.device)

    def finalize() -> tuple[Surface, Any]:
        return quantity.finalize_plan(problem, known, len(quantity.pending(known))) if world.root else (known, None)

    known, evaluator = on_all(ranks, finalize)
    known = from_first(ranks, known)
    evaluator = on_all(ranks, lambda: evaluator or quantity.evaluator(problem, known))

    def compute() -> Surface | None:
        if not world.root:
            follow(world, lambda: make_worker(quantity, known, evaluator, device))
            return None
        pending = quantity.pending(known)
        shown = make_progress(known.grid.size, known.grid.size - len(pending), quiet=not progress)
        return compute_surface(
            world,
            quantity,
            known,
            lambda: make_worker(quantity, known, evaluator, device),
            pending,
            replace(output, progress=shown),
        )

    try:
        surface = on_all(ranks, compute)
    except Incomplete as error:
        obey_signal(error)
        if world.size > 1:
            raise
        note(f"stopped with {error.partial.done.sum()} of {known.grid.size} cells")
        surface = error.partial
    return from_first(ranks, surface)


def obey_signal(error: Incomplete) -> None:
    """Let a signal end the process, now that everything is saved. SIGINT (Ctrl-C) does not end it."""
    if error.signal not in (0, signal.SIGINT):
        release_all()
        signal.raise_signal(error.signal)


def continued(ranks: "Ranks", file: str | Path | None, fresh: Surface) -> Surface:
    """Return the surface to continue on every rank, see `io.resume.resume`; `fresh` without a file. Raises BadInput."""
    return on_first(ranks, lambda: fresh if file is None else resume(Path(file), fresh, Path(file)))


@dataclass(frozen=True)
class GridJob:
    """A grid job as rank 0 sends it to the other ranks.

    Attributes:
        quantity: The quantity to compute.
        inputs: The network, the points and the data; None once they are unpacked.
        loss: The loss's name, or the user's function.
        threads: CPU threads of each rank.
        surface: The surface so far, with its plan.
    """

    quantity: Quantity
    inputs: PackedProblem | LargeProblem | None
    loss: str | UserFunction
    threads: int
    surface: Surface

    def on_ranks(self, world: World) -> "GridJob":
        """Return the job with the parts that are not sent; all ranks call this. Raises CannotWrite, WorkFailed."""
        return replace(self, inputs=self.inputs.on_ranks(world)) if isinstance(self.inputs, LargeProblem) else self

    def device(self, world: World) -> "torch.device":
        """Return the device of this rank."""
        return device_of(self.surface.plan["device"] == "cuda", local_rank=world.local_rank)

    def problem(self, world: World) -> "Problem":
        """Return the network, the plane and the data on this rank's device."""

        use_threads(self.threads)
        assert self.inputs is not None
        return self.inputs.unpack(loss_of(self.loss), self.device(world))

    def make_worker(self, world: World, evaluator: Any) -> Timed:
        """Return the function from a block to its result, on this rank's device."""
        return make_worker(self.quantity, self.surface, evaluator, self.device(world), self.threads)


@dataclass(frozen=True)
class GridCommand:
    """A command that computes a quantity over a grid.

    Attributes:
        task: Its configuration.
        quantity: The quantity to compute.
        file_name: Gives the name of the surface file, where the user names none, from that of the direction file.
        draw: Draws the finished file.
    """

    task: config.GridConfig
    quantity: Quantity
    file_name: Callable[[Path], Path]
    draw: Callable[[Path, Path | None, Surface], None]


def run_grid_job(world: World, order: Callable[[], GridCommand], log: Log) -> int:
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

        job: GridJob | None = world.share(None)
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


def lead_grid_job(world: World, command: GridCommand, log: Log, releases: ExitStack) -> int:
    """Run a command on rank 0, see `run_grid_job`. releases: releases the lock on the output when it is closed."""
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
    surface = compute_surface(world, quantity, job.surface, lambda: job.make_worker(world, evaluator), pending, output)
    log.line("complete")
    quantity.report(surface)
    say(f"complete: {path}")
    if task.figures.plot:
        draw_if_possible(lambda: command.draw(path, dir_file, surface))
    return 0


def complete_job(world: World, job: GridJob) -> tuple[GridJob, Any]:
    """On rank 0: complete the plan where cells are pending, and print what was measured for it.

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


def dry_run(world: World, inputs: GridInputs, job: GridJob) -> int:
    """Print the configuration, end the other ranks, and estimate time and space."""
    cells = len(job.quantity.pending(job.surface))
    print_configuration(inputs, job.surface, job.threads, world)
    world.share(None)
    say(f"would compute {cells} of {job.surface.grid.size} cells")
    report_dry_run(world, inputs, job.surface, cells, job.quantity, lambda: job.problem(world))
    return 0


def say_start(world: World, job: GridJob, path: Path, pending: int) -> None:
    """Print the grid, the number of cells that are computed, the ranks, and the execution mode."""
    size, ranks = job.surface.grid.size, counted(world.size, "rank", "ranks")
    say(
        f"{path}: {job.surface.grid}, {size - pending} of {size} cells done; "
        f"{ranks} x {job.threads} threads on {job.surface.plan['device']}{job.quantity.execution_mode(job.surface)}"
    )


def prepare_grid_job(world: World, command: GridCommand, log: Log, releases: ExitStack) -> tuple[GridInputs, GridJob]:
    """On rank 0: read the inputs and the file to be continued. Writes nothing but the lock.

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
    surface = quantity.new_surface(
        loaded.net,
        loaded.data,
        loss_of(task.loss),
        inputs.points.grid,
        device=task.run.device,
        request=inputs.record,
        about=surface_provenance(world, task, inputs, threads),
    )
    if not task.output.force:
        surface = resume(inputs.surf_file, surface, inputs.dir_file)
    surface = with_second_derivatives(surface, inputs.curvature, inputs.points.directions)
    trim_memory()
    packed = packed_problem(inputs)
    return inputs, GridJob(quantity, packed, task.loss, threads, surface)


def packed_problem(inputs: GridInputs) -> PackedProblem | LargeProblem:
    """Return the problem as it is sent to other ranks; that of a large network stays in files. Raises CannotWrite."""
    points = inputs.points.parametrization
    if isinstance(points, MappedParametrization) and inputs.origin is not None:
        return LargeProblem.of(inputs.loaded, inputs.origin, points)
    return PackedProblem(PackedInputs.of(inputs.loaded), points)


def with_second_derivatives(
    surface: Surface, curvature: OriginCurvature | None, directions: Directions | None
) -> Surface:
    """Return a surface with the second derivatives at its origin.

    Args:
        surface: The surface; one that has them already is returned unchanged.
        curvature: The curvature at the origin; None where they are not asked for.
        directions: The directions of the axes.
    """
    if curvature is None or directions is None or "second_derivatives" in surface.about:
        return surface
    return replace(surface, about={**surface.about, **curvature.along(directions)})


def surface_provenance(world: World, task: config.GridConfig, inputs: GridInputs, threads: int) -> dict[str, Any]:
    """Return the provenance of a new surface."""
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


def finalize_job(job: GridJob, world: World, cells: int) -> tuple[GridJob, Any]:
    """On rank 0: return the job with a complete plan, and its evaluator."""
    surface, evaluator = job.quantity.finalize_plan(job.problem(world), job.surface, cells)
    return replace(job, surface=surface), evaluator


def say_ranges(surface: Surface, names: list[str]) -> None:
    """Print the range of each field over the computed cells, and its largest standard error."""
    for name in names:
        array = surface.fields[name][~surface.interpolated]
        finite = array[np.isfinite(array)]
        others = array.size - finite.size
        if finite.size:
            error = np.max(np.nan_to_num(surface.fields.get(f"{name}_se", np.zeros(1)), posinf=0.0))
            errors = f", standard errors up to {error:.2g}" * bool(error)
            missing = f", {others} cells not finite" * bool(others)
            say(f"{name}: {finite.min():.6g} to {finite.max():.6g}{errors}{missing}")
        else:
            say(f"{name}: no finite value")
