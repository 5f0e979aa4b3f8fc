"""Fills a surface file: what may be continued, blocks to the ranks, snapshots, progress, and the log beside it."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from errors import BadInput, CannotWrite, Incomplete, say
from h5_util import Directions, added_by_others, embeds_directions, read_surface, write_surface
from scheduler import MakeWork, World, dismiss, serve
from surface import Surface

SNAPSHOT_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
SLOW = 3.0  # times as long as expected is worth a note, after
SLOW_SECONDS = 10.0
NOT_COMPUTED = "not computed in a dry run"


def resume(path: Path, fresh: Surface, dir_file: Path) -> Surface:
    """The surface to go on with: `fresh`, or what an earlier run left under this name.

    Raises BadInput, naming the field and both values, when the file is of something else.
    """
    if not path.exists():
        return fresh
    found = read_surface(path)
    cure = "give another --surf_file, or --force to start over"
    if not found.grid.matches(fresh.grid):
        raise BadInput(f"{path} has the grid {found.grid}, this run asks for {fresh.grid}: {cure}")
    if not found.request:
        return adopt(path, found, fresh, dir_file)
    compare(path, found.request, fresh.request, cure)
    if others := added_by_others(path):
        raise BadInput(f"{path} holds {', '.join(others)}, which this program did not write and would lose: {cure}")
    compare(path, {"device": found.plan["device"]}, {"device": fresh.plan["device"]}, cure)
    for split, arrays in found.statistics.items():
        if (found.done & (arrays["n"] < found.populations[split]) & np.isnan(arrays["weight4_loss4"])).any():
            raise BadInput(f"{path} was begun with --tolerance by an earlier version, whose standard errors could be far too "
                           f"small: {cure}")  # fmt: skip
    for name in fresh.values:
        if name not in found.values:
            raise BadInput(f"{path} lacks {name}: an earlier version made it, which did not say whether an eigenvalue is the "
                           f"extreme one: {cure}")  # fmt: skip
    return found


def compare(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any], cure: str) -> None:
    """Raise BadInput at the first field in which what a file records differs from what is asked for."""
    for name in {**asked, **found}:
        if asked.get(name) != NOT_COMPUTED and found.get(name) != asked.get(name):
            raise BadInput(f"{path} was made with {name} = {found.get(name)}, now it is {asked.get(name)}: {cure}")


def adopt(path: Path, found: Surface, fresh: Surface, dir_file: Path) -> Surface:
    """Go on with a file of the original release: its cells are kept, marked as of unknown provenance."""
    if not fresh.populations:
        raise BadInput(f"{path} was written by another program, and its eigenvalues may be of another Hessian (that release "
                       "sums over batches and leaves out parameters with one axis): give another --surf_file")  # fmt: skip
    if Path(found.about.get("dir_file", "")).name != dir_file.name:
        raise BadInput(f"{path} was made with the directions {found.about.get('dir_file')}, now they are {dir_file}: "
                       "give another --surf_file")  # fmt: skip
    wanted = sorted(set(fresh.fields) & {f"{split}_{name}" for split in fresh.populations for name in ("loss", "acc")})
    if missing := [name for name in wanted if name not in found.values]:
        raise BadInput(f"{path} was written by another program and lacks {missing[0]}: give another --surf_file")
    if others := found.about.get("others"):
        raise BadInput(f"{path} was written by another program and holds {', '.join(others)}, which would be lost: "
                       "give another --surf_file")  # fmt: skip
    done = np.logical_and.reduce([~np.isnan(found.values[name]) for name in wanted])
    say(f"note: {path} does not record checkpoint, data and loss; its {int(done.sum())} cells are kept as they are, marked as "
        "of unknown provenance")  # fmt: skip
    # Fields that this run does not compute are carried along.
    return replace(fresh, done=done, values=found.values, foreign=done, about={**fresh.about, **found.about})


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of obeying them at once, so that no file is left half written."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: caught.append(n)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fill(
    world: World,
    path: Path,
    surface: Surface,
    make_work: MakeWork,
    *,
    dir_file: Path | None = None,
    embed: Directions | None = None,
    pending: np.ndarray,
    cells_per_block: int = 1,
    expected: float = math.inf,
) -> Surface:
    """On rank 0: compute the pending cells, with snapshots; returns the complete surface.

    `make_work()` gives a function from a list of cells to (rows for `Surface.with_cells`, what is to be recorded about
    them or ''). Whatever goes wrong, the cells that arrived are saved before the error goes on. expected: seconds that a
    cell should take; that they take much longer is said once.
    """
    blocks = [pending[k : k + cells_per_block].tolist() for k in range(0, len(pending), cells_per_block)]
    if not blocks and path.exists() and (embed is None or embeds_directions(path)):
        for _ in dismiss(world):
            pass
        return surface  # a complete file stays as it is
    before = surface.grid.size - len(pending)
    progress = Progress(surface.grid.size, before, expected)
    file = Snapshots(path, surface, dir_file, embed)
    with signals() as caught:
        try:
            for item in serve(world, blocks, make_work):
                if item is not None:
                    file.add(blocks[item[0]], *item[1])
                if file.save_if_due():
                    progress.show(before + file.count)
                if caught:
                    raise Incomplete(f"stopped by {signal.Signals(caught[0]).name}")
        except CannotWrite:
            raise
        except BaseException as error:
            file.save()
            if isinstance(error, Incomplete):
                raise Incomplete(f"{error}: {before + file.count} of {surface.grid.size} cells are saved in {path}; "
                                 "run the same command again to continue") from None  # fmt: skip
            raise
        file.save(progress.provenance(surface.about))
    progress.show(before + file.count, last=True)
    return file.surface


class Snapshots:
    """The surface file on disk, and the cells and notes that are not in it yet."""

    def __init__(self, path: Path, surface: Surface, dir_file: Path | None, embed: Directions | None) -> None:
        self.path, self.surface, self.dir_file, self.embed = path, surface, dir_file, embed
        self.cells: list[int] = []
        self.rows: list[np.ndarray] = []
        self.notes: list[str] = []
        self.count = 0  # cells saved by this run
        self.save({})

    def add(self, cells: list[int], rows: np.ndarray, note: str) -> None:
        self.cells += cells
        self.rows.append(rows)
        if note:
            say(f"note: {note}")
            self.notes.append(note)

    def save_if_due(self) -> bool:
        """Save when there is something new and the last snapshot is a second ago (or 20 times what it took)."""
        due = bool(self.cells) and time.monotonic() - self.saved >= max(SNAPSHOT_SECONDS, 20 * self.took)
        if due:
            self.save()
        return due

    def save(self, about: Mapping[str, Any] | None = None) -> None:
        if self.cells:
            self.surface = self.surface.with_cells(self.cells, np.concatenate(self.rows))
        elif about is None:
            return
        self.count += len(self.cells)
        self.cells, self.rows = [], []
        if self.notes:
            about = {**(about or {}), "notes": [*self.surface.about.get("notes", []), *self.notes]}
            self.notes = []
        if about:
            self.surface = replace(self.surface, about={**self.surface.about, **about})
        started = time.monotonic()
        write_surface(self.path, self.surface, self.dir_file, self.embed)
        self.saved = time.monotonic()
        self.took = self.saved - started


class Progress:
    """Counts saved cells: one line that is rewritten in a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, total: int, done: int, expected: float = math.inf) -> None:
        self.total, self.before, self.expected = total, done, expected
        self.started = time.monotonic()
        self.last, self.shown = self.started, done
        self.terminal = sys.stdout.isatty()

    def show(self, done: int, last: bool = False) -> None:
        now = time.monotonic()
        if last and self.terminal and done == self.shown:
            print()
        if done == self.shown or not (last or self.terminal or now - self.last >= PROGRESS_SECONDS):
            return
        self.last, self.shown = now, done
        spent = now - self.started
        left = spent / (done - self.before) * (self.total - done)
        line = f"{done}/{self.total} cells saved, {clock(spent)} spent, {clock(left)} left"
        if self.terminal:
            width = 24 * done // self.total
            print(f"\r[{'#' * width:<24}] {line} ", end="\n" if last else "", flush=True)
        else:
            say(line)
        if spent > SLOW_SECONDS and spent / (done - self.before) > SLOW * self.expected:
            say(f"note: a cell takes {spent / (done - self.before) / self.expected:.1f} times as long as measured at the start: "
                "other processes use these cores, or the measurement was lucky; fewer ranks or --threads 1 may be faster, "
                "and --force measures again")  # fmt: skip
            self.expected = math.inf

    def provenance(self, about: Mapping[str, Any]) -> dict[str, Any]:
        seconds = time.monotonic() - self.started + about.get("computing_seconds", 0.0)
        return {"computing_seconds": round(seconds, 2), "finished": datetime.now().isoformat(timespec="seconds")}


class Line:
    """What a long computation is at: one line that is rewritten in a terminal, a plain line every few seconds elsewhere."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def show(self, text: str) -> None:
        now = time.monotonic()
        text = f"{text}, {clock(now - self.started)} spent"
        if self.terminal:
            print(f"\r{text:<79}", end="", flush=True)
        elif now - self.last >= PROGRESS_SECONDS:
            self.last = now
            say(text)

    def end(self, text: str) -> None:
        if self.terminal:
            print("\r" + " " * 79 + "\r", end="")
        say(f"{text}, {clock(time.monotonic() - self.started)}")


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Log:
    """Lines beside an output file: what was started, how it ended. Best effort: it must not hide what it would say."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path: Path | None = None
        if path:
            self.beside(path)

    def beside(self, path: str | Path) -> None:
        self.path = Path(f"{path}.log")

    def line(self, text: str) -> None:
        if self.path is not None and self.path.parent.is_dir() and os.access(self.path.parent, os.W_OK):
            with suppress(OSError), open(self.path, "a") as log:
                log.write(f"{datetime.now().isoformat(timespec='seconds')} {text}\n")
