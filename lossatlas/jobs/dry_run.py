"""What a dry run finds out before a job waits a night in the queue: places, space, and about how long it will take.

It writes nothing. Time comes from a few batches, or one product, on this machine.
"""

import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any, Protocol

from lossatlas.errors import CannotWrite, say
from lossatlas.io.hdf5 import size_of
from lossatlas.io.progress import format_duration
from lossatlas.io.surface_files import surface_writer
from lossatlas.jobs.grid_inputs import GridInputs
from lossatlas.landscape import Surface
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import run_in_compute_thread


class TimeEstimator(Protocol):
    def estimate_seconds(self, problem: Any, surface: Surface) -> tuple[float, str]:
        """Seconds for a cell, and what has been measured."""
        ...


def report_dry_run(
    world: World, inputs: GridInputs, surface: Surface, cells: int, guesses: TimeEstimator, problem: Any
) -> None:
    """Say what a job needs. scene: gives the network, the plane and the data. Raises CannotWrite where it could not write."""
    from lossatlas.data.memory import in_words

    embedded = sum(array.nbytes for axis in (inputs.directions.x, inputs.directions.y or ()) for array in axis)
    image = size_of(surface_writer(inputs.surf_file, surface, inputs.dir_file, None)) + embedded * inputs.embed
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
    seconds, what = run_in_compute_thread(world, lambda: guesses.estimate_seconds(problem(), surface))
    whole = seconds * cells
    say(
        f"time: about {seconds:.3g} s for a cell ({what}), {format_duration(whole)} for {cells} cells on one rank like this one, "
        f"{format_duration(whole / 16)} on 16 of them"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    say(f"memory: {in_words(peak)} for this rank" + device_memory(surface.plan["device"]))


def check_space(path: Path, size: int) -> None:
    """Raise CannotWrite where a file of this size would not get a place: it is written beside the one that is there."""
    from lossatlas.data.memory import in_words

    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):
        raise CannotWrite(f"cannot write {path}: the folder {folder} is not writable")
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise CannotWrite(f"cannot write {path}: it needs {in_words(2 * size)}, and {in_words(free)} are free there")


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def device_memory(device: str) -> str:
    import torch

    from lossatlas.data.memory import in_words

    return f", {in_words(torch.cuda.max_memory_allocated())} on its device" if device == "cuda" else ""
