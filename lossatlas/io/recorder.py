"""Fills a surface file: blocks to the ranks, and snapshots of what has arrived."""

import math
import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import chdir, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lossatlas.errors import INCOMPLETE, SIGNALS, CannotWrite, Incomplete, code_of, note
from lossatlas.io.block_queue import BlockQueue, BlockResult
from lossatlas.io.direction_files import Directions, embeds_directions
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Progress, StatusLine
from lossatlas.io.surface_files import write_surface
from lossatlas.landscape.surface import Surface

SNAPSHOT_SECONDS = 1.0


class BlockNote(NamedTuple):
    """What is to be said and recorded about a block of cells."""

    text: str = ""
    batch_size: int = 0  # from this block on, where a batch did not fit into memory


Work = Callable[[Any], tuple[BlockResult, BlockNote]]
Timed = Callable[[Any], tuple[BlockResult, BlockNote, tuple[str, float]]]
MakeWork = Callable[[], Timed]
Serve = Callable[[BlockQueue, MakeWork], Generator[tuple[int, Any] | None, None, None]]


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect what asks this process to end instead of obeying at once, so that what is done is saved first.

    SIGTERM, SIGINT, and what batch systems send besides; not what is ignored, as under nohup, nor what somebody else
    handles, such as a trainer of the caller's.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # nothing else may set handlers
        yield caught
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if ends_process(number, handler)]
    for number in ours:
        signal.signal(number, lambda n, _: caught.append(n))
    try:
        yield caught
    finally:
        for number in ours:
            signal.signal(number, before[number])


def stopped_by(number: int, more: str = "") -> Incomplete:
    error = Incomplete(f"stopped by {signal.Signals(number).name}{more}")
    error.signal = number
    return error


def ends_process(number: int, handler: Any) -> bool:
    """Whether this handler of a signal is one that ends the process."""
    if handler in (signal.SIG_IGN, None):
        return False
    usual = (
        handler in (signal.SIG_DFL, signal.default_int_handler)
        or getattr(handler, "__module__", "") == "lossatlas.process"
    )
    return usual or number in (signal.SIGTERM, signal.SIGINT)


def fill(
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
    """Compute the cells of a supply, with snapshots where there is a file; returns the complete surface.

    serve: whatever hands blocks to those who compute, and yields (number of the block, result) in any order, or now and then
    None; after the last result it takes leave of them.
    `make_work()` gives a function from the content of a block to (what was found, a remark about it, who
    computed it and in how many seconds), see `timed`. Whatever goes wrong, the cells that arrived are
    saved before the error goes on. expected: seconds that a cell should take; that they take much longer is said once.
    lock: checked before every snapshot.
    """
    if not queue.cells and path is not None and path.exists() and (embed is None or embeds_directions(path)):
        for _ in serve(queue, make_work):
            pass
        return surface  # a complete file stays as it is
    before = surface.grid.size - queue.cells
    progress = progress or Progress(surface.grid.size, before, expected)
    file = Snapshots(path, surface, dir_file, embed, lock)
    with signals() as caught, closing(serve(queue, make_work)) as results:
        try:
            for item in results:
                if item is not None:
                    k, (found, *rest) = item
                    file.add(queue.blocks[k], found, *rest)
                    queue.arrived(k, found)
                if file.save_if_due():
                    progress.total = before + queue.cells
                    progress.show(before + file.count)
                if caught:
                    raise stopped_by(caught[0])
        except CannotWrite:
            raise
        except BaseException as error:
            file.save()
            if code_of(error) == INCOMPLETE:
                stopped = Incomplete(
                    f"{str(error) or 'interrupted'}: {before + file.count} of {surface.grid.size} cells are saved in {path}; "
                    "run the same command again to continue"
                )
                stopped.partial = file.surface
                stopped.signal = getattr(error, "signal", 0)
                raise stopped from None
            raise
        file.save(progress.provenance(surface.about), queue.finished)
    progress.total = before + queue.cells
    progress.show(before + file.count, last=True)
    return file.surface


def timed(work: Work, device: str = "") -> Timed:
    """The same work, with who does it and how long it takes; device: what it is done on."""
    who = f"{socket.gethostname()}, {device or processor()}"

    def run(block: Any) -> tuple[BlockResult, BlockNote, tuple[str, float]]:
        began = time.perf_counter()
        found, remark = work(block)
        return found, remark, (who, time.perf_counter() - began)

    return run


def processor() -> str:
    """What the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Snapshots:
    """The surface file on disk, and the cells and notes that are not in it yet."""

    def __init__(
        self,
        path: Path | None,
        surface: Surface,
        dir_file: Path | None,
        embed: Directions | None,
        lock: Lock | None,
    ) -> None:
        self.lock = lock
        self.folder = os.getcwd()  # names are relative to it, wherever a user's network goes
        self.path, self.surface, self.dir_file, self.embed = path, surface, dir_file, embed
        self.cells: list[int] = []
        self.found: list[BlockResult] = []
        self.spent: list[tuple[list[int], str, float]] = []
        self.notes: list[str] = []
        self.halved: list[dict[str, Any]] = list(surface.plan.get("halved", []))
        self.count = 0  # cells saved by this run
        self.save({})

    def add(self, cells: list[int], found: BlockResult, remark: BlockNote, spent: tuple[str, float]) -> None:
        self.cells += cells
        self.found.append(found)
        self.spent.append((cells, *spent))
        said = False
        if remark.batch_size:
            said = any(remark.batch_size == known["batch_size"] for known in self.halved)
            self.halved = [*self.halved, {"batch_size": remark.batch_size, "from_cell": cells[0], "by": spent[0]}]
        if remark.text and not said:
            note(remark.text)
            self.notes.append(remark.text)

    def save_if_due(self) -> bool:
        """Save when there is something new and the last snapshot is a second ago (or 20 times what it took)."""
        due = bool(self.cells) and time.monotonic() - self.saved >= max(SNAPSHOT_SECONDS, 20 * self.took)
        if due:
            self.save()
        return due

    def save(
        self, about: Mapping[str, Any] | None = None, finished: Callable[[Surface], Surface] | None = None
    ) -> None:
        """finished: gives what follows from all cells."""
        if self.cells:
            rows, samples = zip(*self.found, strict=True)
            self.surface = self.surface.with_cells(
                self.cells, np.concatenate(rows), [s for each in samples for s in each]
            )
            self.surface = self.surface.computed(self.spent)
            if self.halved:
                self.surface = replace(self.surface, plan={**self.surface.plan, "halved": self.halved})
        elif about is None:
            return
        self.count += len(self.cells)
        self.cells, self.found, self.spent = [], [], []
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


@contextmanager
def reporting(part: str, caught: list[int], shown: bool = True) -> Iterator[Callable[[int, float], None]]:
    """What a part of a spectrum is at. Raises Incomplete between two products after a signal, see `signals`."""
    line, last = StatusLine(), (0, 0.0)
    what = {"trace": "standard error", "activations": "relative standard error"}.get(part, "relative residual")
    unit = "probes" if part == "activations" else "products"

    def progress(count: int, error: float) -> None:
        nonlocal last
        last = count, error
        if caught:
            raise stopped_by(
                caught[0],
                f" in the part '{part}'; the parts before it are saved, run the same command again to continue",
            )
        if shown:
            line.show(f"{part}: {count} {unit}, {what} {error:.2g}")

    yield progress
    if shown:
        line.end(f"{part}: {last[0]} {unit}, {what} {last[1]:.2g}" if last[0] else f"{part}: from what is there")
