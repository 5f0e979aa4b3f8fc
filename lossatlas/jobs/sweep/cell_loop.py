"""Loop that computes the missing cells of a surface, and saves snapshots of the results that have arrived."""

import math
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from lossatlas.errors import INCOMPLETE, CannotWrite, Incomplete, code_of, note
from lossatlas.io.direction_files import Directions, embeds_directions
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Progress
from lossatlas.io.surface_files import write_surface
from lossatlas.landscape.plan import HalvedBatch
from lossatlas.landscape.surface import Surface
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.process import how_to_continue, signals, stopped_by

SNAPSHOT_SECONDS = 1.0


class BlockNote(NamedTuple):
    """A remark about a block of cells, to be shown and recorded.

    Attributes:
        text: The remark; '' for none.
        batch_size: The batch size from this block on, where a batch did not fit into memory; otherwise 0.
    """

    text: str = ""
    batch_size: int = 0


BlockWork = Callable[[Any], tuple[BlockResult, BlockNote]]
Timed = Callable[[Any], tuple[BlockResult, BlockNote, tuple[str, float]]]
MakeWork = Callable[[], Timed]


class BlockResults(Protocol):
    """An iterator of (number of a block, result), or None while none arrives, which can be closed early."""

    def __iter__(self) -> Iterator[tuple[int, Any] | None]: ...

    def __next__(self) -> tuple[int, Any] | None: ...

    def close(self) -> None: ...


Serve = Callable[[BlockQueue, MakeWork], BlockResults]


def compute_cells(
    serve: Serve,
    path: Path | None,
    surface: Surface,
    make_work: MakeWork,
    *,
    dir_file: Path | None = None,
    embed: Directions | None = None,
    queue: BlockQueue,
    expected: float = math.inf,
    progress: Progress | None = None,
    lock: Lock | None = None,
) -> Surface:
    """Compute the cells of a queue, and save snapshots of the surface, also of the cells that arrived before an error.

    Args:
        serve: Distributes blocks and yields (number of the block, result) in any order, or None while none arrives.
            After the last result it ends the work of the ranks.
        path: The surface file; None to keep the surface in memory.
        surface: The surface with the cells computed so far.
        make_work: Returns the function from a block to (result, remark, (device, seconds)), see `timed`.
        dir_file: The direction file that the surface file links to.
        embed: Directions to copy into the surface file instead.
        queue: The blocks to compute.
        expected: Expected seconds for each cell; the progress line warns once where cells take much longer.
        progress: Shows progress; by default a line on stdout.
        lock: The lock on the surface file, checked before every snapshot.

    Returns:
        The complete surface.

    Raises:
        Incomplete: A signal ended the work; `partial` is the surface so far.
        CannotWrite: The file cannot be written.
    """
    if not queue.cells and path is not None and path.exists() and (embed is None or embeds_directions(path)):
        for _ in serve(queue, make_work):
            pass
        return surface  # a complete file is not rewritten
    before = surface.grid.size - queue.cells
    progress = progress or Progress(surface.grid.size, before, expected)
    with signals() as caught, closing(serve(queue, make_work)) as results:
        snapshots = Snapshots(path, surface, dir_file, embed, lock)
        try:
            for item in results:
                if item is not None:
                    k, (result, *rest) = item
                    snapshots.add(queue.blocks[k], result, *rest)
                    queue.arrived(k, result)
                if snapshots.save_if_due():
                    progress.total = before + queue.cells
                    progress.show(before + snapshots.count)
                if caught:
                    raise stopped_by(caught[0])
        except CannotWrite:
            raise
        except BaseException as error:
            snapshots.save()
            if code_of(error) == INCOMPLETE:
                raise stopped_with(snapshots, before + snapshots.count, error) from None
            raise
        snapshots.save(progress.provenance(surface.about), queue.finished)
    progress.total = before + queue.cells
    progress.show(before + snapshots.count, last=True)
    return snapshots.surface


def stopped_with(snapshots: "Snapshots", count: int, error: BaseException) -> Incomplete:
    """Return the error that says how many cells are saved, with the surface so far."""
    stopped = Incomplete(
        f"{str(error) or 'interrupted'}: {count} of {snapshots.surface.grid.size} cells are "
        + ("computed" if snapshots.path is None else f"saved in {snapshots.path}; {how_to_continue()}")
    )
    stopped.partial = snapshots.surface
    stopped.signal = getattr(error, "signal", 0)
    return stopped


def timed(work: BlockWork, device: str = "") -> Timed:
    """Add the device and the seconds to the results of a function.

    Args:
        work: The function from a block to (result, remark).
        device: The name of the device; by default the processor's name.

    Returns:
        The function from a block to (result, remark, (host and device, seconds)).
    """
    name = f"{socket.gethostname()}, {device or processor()}"

    def run(block: Any) -> tuple[BlockResult, BlockNote, tuple[str, float]]:
        began = time.perf_counter()
        result, remark = work(block)
        return result, remark, (name, time.perf_counter() - began)

    return run


def processor() -> str:
    """Return the model of the CPU, as the kernel or else the platform gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Snapshots:
    """A surface file, and the cells and notes that are not saved in it yet.

    Args:
        path: The surface file; None to keep the surface in memory.
        surface: The surface so far, which is written at once.
        dir_file: The direction file that the surface file links to.
        embed: Directions to copy into the surface file instead.
        lock: The lock on the surface file.
    """

    def __init__(
        self,
        path: Path | None,
        surface: Surface,
        dir_file: Path | None,
        embed: Directions | None,
        lock: Lock | None,
    ) -> None:
        self.lock = lock
        self.folder = os.getcwd()  # paths are relative to it, even after a user's network changes the folder
        self.path, self.surface, self.dir_file, self.embed = path, surface, dir_file, embed
        self.cells: list[int] = []
        self.results: list[BlockResult] = []
        self.spent: list[tuple[list[int], str, float]] = []
        self.notes: list[str] = []
        self.halved: list[HalvedBatch] = list(surface.plan.get("halved", []))
        self.count = 0  # cells saved by this run
        self.save({})

    def add(self, cells: list[int], result: BlockResult, remark: BlockNote, spent: tuple[str, float]) -> None:
        """Add the result of a block, which the next snapshot saves.

        Args:
            cells: Flat indices of the cells of the block.
            result: Their rows and samples.
            remark: Note of the block for the user, and a batch size that was halved for lack of memory.
            spent: Host and device that computed it, and the seconds.
        """
        self.cells += cells
        self.results.append(result)
        self.spent.append((cells, *spent))
        known_before = False
        if remark.batch_size:
            known_before = any(remark.batch_size == known["batch_size"] for known in self.halved)
            self.halved = [*self.halved, {"batch_size": remark.batch_size, "from_cell": cells[0], "by": spent[0]}]
        if remark.text and not known_before:
            note(remark.text)
            self.notes.append(remark.text)

    def save_if_due(self) -> bool:
        """Save new cells, if the last snapshot is older than a second and than 20 times its duration."""
        due = bool(self.cells) and time.monotonic() - self.saved >= max(SNAPSHOT_SECONDS, 20 * self.took)
        if due:
            self.save()
        return due

    def save(
        self, about: Mapping[str, Any] | None = None, finished: Callable[[Surface], Surface] | None = None
    ) -> None:
        """Save the cells that have arrived.

        Args:
            about: Provenance to add.
            finished: Derives values from the complete surface, where it is complete.

        Raises:
            CannotWrite: The file cannot be written, or the lock is lost.
        """
        if self.cells:
            rows, samples = zip(*self.results, strict=True)
            self.surface = self.surface.with_cells(
                self.cells, np.concatenate(rows), [s for each in samples for s in each]
            )
            self.surface = self.surface.computed(self.spent)
            if self.halved:
                self.surface = replace(self.surface, plan={**self.surface.plan, "halved": self.halved})
        elif about is None:
            return
        self.count += len(self.cells)
        self.cells, self.results, self.spent = [], [], []
        if self.notes:
            about = {**(about or {}), "notes": [*self.surface.about.get("notes", []), *self.notes]}
            self.notes = []
        if about:
            self.surface = replace(self.surface, about={**self.surface.about, **about})
        if finished is not None:
            self.surface = finished(self.surface)
        started = time.monotonic()
        if self.path is not None:
            if self.lock is not None:
                self.lock.check()
            with nullcontext() if os.getcwd() == self.folder else chdir(self.folder):
                write_surface(self.path, self.surface, self.dir_file, self.embed)
        self.saved = time.monotonic()
        self.took = self.saved - started
