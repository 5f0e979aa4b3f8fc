"""Compute a quantity at every point of a grid on all ranks, for the commands and for the Python functions.

`compute_surface` does it on rank 0, while the other ranks `follow`. `run_from_python` runs a Python function, whose
ranks have their own network and data; `named_grid_job.run_grid_job` runs a command.
"""

import math
import signal
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from lossatlas.errors import Incomplete, note, say
from lossatlas.io.direction_files import Directions
from lossatlas.io.lock import Lock, release_all
from lossatlas.io.progress import Progress, make_progress
from lossatlas.io.resume import resume
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.sweep.cell_loop import BlockWork, Timed, compute_cells, timed
from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.agreement import from_first, on_all, on_first
from lossatlas.mpi.block_queue import BlockQueue
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import use_threads
from lossatlas.mpi.scheduler import follow, serve

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.jobs.sweep.problem import Problem

E = TypeVar("E")  # evaluates a quantity on one rank


class Quantity(Protocol[E]):
    """A quantity that is evaluated at every grid point. Its `evaluator`, an E, evaluates it on one rank."""

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

    def finalize_plan(self, problem: "Problem", surface: Surface, cells: int) -> tuple[Surface, E]:
        """Return the surface with a complete plan, and the evaluator; called on rank 0."""
        ...

    def evaluator(self, problem: "Problem", surface: Surface) -> E:
        """Return the evaluator; called on the other ranks."""
        ...

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        """Describe what `finalize_plan` measured that the user should know."""
        ...

    def estimate_seconds(self, problem: "Problem", surface: Surface) -> tuple[float, str]:
        """Return the seconds that a cell may take, and what was measured."""
        ...

    def block_worker(self, surface: Surface, evaluator: E) -> BlockWork:
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
    quantity: Quantity[E],
    surface: Surface,
    make_work: Callable[[], Timed],
    *,
    pending: np.ndarray,
    output: SurfaceOutput,
) -> Surface:
    """Compute the pending cells with all ranks; called on rank 0, while the others call `follow`.

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
    quantity: Quantity[E], surface: Surface, evaluator: E, device: "str | torch.device", threads: int = 0
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
    world: World,
    quantity: Quantity[E],
    problem: "Problem",
    known: Surface,
    output: SurfaceOutput,
    *,
    progress: bool,
) -> Surface:
    """Compute a surface for a Python function, which every rank calls with its own network and data.

    Args:
        world: The ranks of the script.
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
    device = str(problem.device)

    def finalize() -> tuple[Surface, E | None]:
        return quantity.finalize_plan(problem, known, len(quantity.pending(known))) if world.root else (known, None)

    known, of_root = on_all(world, finalize)
    known = from_first(world, known)
    evaluator = on_all(world, lambda: quantity.evaluator(problem, known) if of_root is None else of_root)

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
            pending=pending,
            output=replace(output, progress=shown),
        )

    try:
        surface = on_all(world, compute)
    except Incomplete as error:
        obey_signal(error)
        if world.size > 1:
            raise
        note(f"stopped with {error.partial.done.sum()} of {known.grid.size} cells")
        surface = error.partial
    if world.root and surface is not None:
        note_without_values(surface, lambda: problem.data)
    return from_first(world, surface)


def obey_signal(error: Incomplete) -> None:
    """Let a signal end the process, now that everything is saved. SIGINT (Ctrl-C) does not end it."""
    if error.signal not in (0, signal.SIGINT):
        release_all()
        signal.raise_signal(error.signal)


def continued(world: World, file: str | Path | None, fresh: Surface) -> Surface:
    """Return the surface to continue on every rank.

    Args:
        world: The ranks of the script.
        file: The surface file; None to begin with `fresh`.
        fresh: The surface without computed cells that this run would begin.

    Raises:
        BadInput: As `io.resume.resume`.
        FailedRank: As `on_all`.
    """
    return on_first(world, lambda: fresh if file is None else resume(Path(file), fresh, Path(file)))


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


def note_without_values(surface: Surface, data: "Callable[[], Mapping[str, AnyData]]") -> None:
    """Say why no loss of a split is finite, where none is: the data contain NaN or infinite values, or not.

    Args:
        surface: The surface, with the cells that are computed.
        data: Returns the samples by split; called only where no loss is finite.
    """
    from lossatlas.data.finite_check import first_not_finite

    for split in surface.splits:
        losses = surface.fields.get(f"{split}_loss", np.zeros(surface.known.shape))[surface.known]
        if losses.size and not np.isfinite(losses).any():
            cause = first_not_finite(data()[split]) or "the data are finite, so the network or the loss overflows"
            note(f"{split}_loss is finite at no cell: {cause}")


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
