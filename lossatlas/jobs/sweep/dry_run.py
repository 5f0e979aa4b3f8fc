"""Check folders and disk space, and estimate the time of a job, without writing anything.

The time comes from some batches, or one Hessian-vector product, on this machine.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lossatlas.errors import say
from lossatlas.io.hdf5 import file_size
from lossatlas.io.progress import format_duration
from lossatlas.io.surface_files import surface_writer
from lossatlas.jobs.inputs.output_files import check_space
from lossatlas.jobs.sweep.grid_inputs import GridInputs
from lossatlas.landscape import Surface
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import has_cuda
from lossatlas.mpi.scheduler import run_in_compute_thread

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.jobs.sweep.problem import Problem


class TimeEstimator(Protocol):
    """A quantity that can estimate the time of a cell."""

    def estimate_seconds(self, problem: "Problem", surface: Surface) -> tuple[float, str]:
        """Return the seconds for a cell, and a description of the measurement."""
        ...


def report_dry_run(
    world: World,
    inputs: GridInputs,
    surface: Surface,
    cells: int,
    *,
    quantity: TimeEstimator,
    problem: Callable[[], "Problem"],
) -> None:
    """Print the disk space, the time and the memory that a job needs.

    Args:
        world: The ranks.
        inputs: The inputs of the job.
        surface: The surface so far.
        cells: The number of pending cells.
        quantity: The quantity to compute.
        problem: Returns the network, the plane and the data.

    Raises:
        CannotWrite: A folder is not writable, or its disk is too full.
    """
    from lossatlas.data.memory import in_words

    embedded = sum(array.nbytes for axis in inputs.directions.axes for array in axis)
    image = file_size(surface_writer(inputs.surf_file, surface, inputs.dir_file, None)) + embedded * inputs.embed
    needed = {inputs.surf_file: image}
    if inputs.dir_file is not None:
        needed[inputs.dir_file] = embedded * inputs.new_directions
    for path, size in needed.items():
        if size:
            check_space(path, size)
    say(
        f"surface file: about {in_words(image)}"
        + ", and 8 bytes for each sample that a cell draws" * bool(surface.samples)
        + f", directions: {in_words(embedded)}" * bool(embedded and inputs.new_directions)
    )
    if inputs.dir_file is not None and not inputs.directions.x:
        say("time: not measured, because the directions come from the curvature, which a dry run does not compute")
        return
    if surface.plan["device"] == "cuda" and not has_cuda():
        say("time: not measured, because there is no CUDA device here")
        return
    seconds, source = run_in_compute_thread(world, lambda: quantity.estimate_seconds(problem(), surface))
    whole = seconds * cells
    say(
        f"time: about {seconds:.3g} s for a cell ({source}), {format_duration(whole)} for {cells} cells on one rank "
        f"like this one, {format_duration(whole / 16)} on 16 of them"
    )
    if peak := peak_memory():
        say(f"memory: {in_words(peak)} for this rank" + device_memory(surface.plan["device"]))


def peak_memory() -> int:
    """Return the largest memory of this process so far in bytes; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_memory(device: str) -> str:
    """Describe the memory in use on the CUDA device; '' for the CPU."""
    import torch

    from lossatlas.data.memory import in_words

    return f", {in_words(torch.cuda.max_memory_allocated())} on its device" if device == "cuda" else ""
