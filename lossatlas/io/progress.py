"""What a long computation is at: progress on stdout, and the log beside the output."""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lossatlas.errors import say

PROGRESS_SECONDS = 5.0
SLOW = 3.0  # times as long as expected is worth a note, after
SLOW_SECONDS = 10.0


def is_terminal(stream: Any) -> bool:
    """Whether people look on; a stream may also be closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


class Progress:
    """Counts saved cells: one line that is rewritten in a terminal, a plain line every few seconds elsewhere.

    What is left is guessed from the later half of the time, because first cells may take longer, as with a tolerance.
    """

    def __init__(self, total: int, done: int, expected: float = math.inf) -> None:
        self.total, self.before, self.expected = total, done, expected
        self.started = time.monotonic()
        self.last, self.shown = self.started, done
        self.marks = deque([(self.started, done)])  # times and cells: the one that is measured from, and later ones
        self.terminal = is_terminal(sys.stdout)

    def show(self, done: int, last: bool = False) -> None:
        now = time.monotonic()
        if last and self.terminal and done == self.shown:
            print()
        if done == self.shown or not (last or self.terminal or now - self.last >= PROGRESS_SECONDS):
            return
        self.last, self.shown = now, done
        spent = now - self.started
        left = self.seconds_per_cell(now, done) * (self.total - done)
        line = f"{done}/{self.total} cells saved, {clock(spent)} spent, {clock(left)} left"
        if self.terminal:
            width = 24 * done // self.total
            print(f"\r[{'#' * width:<24}] {line} ", end="\n" if last else "", flush=True)
        else:
            say(line)
        if spent > SLOW_SECONDS and spent / (done - self.before) > SLOW * self.expected:
            say(
                f"note: a cell takes {spent / (done - self.before) / self.expected:.1f} times as long as measured at the start: "
                "other processes use these cores, or the measurement was lucky; fewer ranks or --threads 1 may be faster, "
                "and --force measures again"
            )
            self.expected = math.inf

    def seconds_per_cell(self, now: float, done: int) -> float:
        """Over the later half of the time."""
        while len(self.marks) > 1 and self.marks[1][0] <= (self.started + now) / 2:
            self.marks.popleft()
        since, before = self.marks[0]
        self.marks.append((now, done))
        return (now - since) / (done - before)

    def provenance(self, about: Mapping[str, Any]) -> dict[str, Any]:
        seconds = time.monotonic() - self.started + about.get("computing_seconds", 0.0)
        return {"computing_seconds": round(seconds, 2), "finished": datetime.now().isoformat(timespec="seconds")}


class Quiet(Progress):
    """Says nothing."""

    def show(self, done: int, last: bool = False) -> None:
        pass


class Bar(Progress):
    """A bar of tqdm, in a terminal or a notebook."""

    def __init__(self, total: int, done: int) -> None:
        from tqdm.auto import tqdm

        super().__init__(total, done)
        self.bar = tqdm(total=total, initial=done, unit="cell")

    def show(self, done: int, last: bool = False) -> None:
        self.bar.update(done - self.shown)
        self.shown = done
        if last:
            self.bar.close()


def make_progress(total: int, done: int, quiet: bool = False) -> Progress:
    """A bar where people look on, otherwise a line every few seconds."""
    if quiet:
        return Quiet(total, done)
    return Bar(total, done) if is_terminal(sys.stderr) or "ipykernel" in sys.modules else Progress(total, done)


class Line:
    """What a long computation is at: one line that is rewritten in a terminal, a plain line every few seconds elsewhere."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.terminal = is_terminal(sys.stdout)

    def show(self, text: str) -> None:
        now = time.monotonic()
        text = f"{text}, {clock(now - self.started)} spent"
        if self.terminal:
            print(f"\r{text:<79}", end="", flush=True)
        elif now - self.last >= PROGRESS_SECONDS:
            self.last = now
            say(text)

    def close(self) -> None:
        if self.terminal:
            print("\r" + " " * 79 + "\r", end="", flush=True)

    def end(self, text: str) -> None:
        self.close()
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
        self.path = Path(os.path.abspath(f"{path}.log"))

    def line(self, text: str) -> None:
        if self.path is not None and self.path.parent.is_dir() and os.access(self.path.parent, os.W_OK):
            with suppress(OSError), open(self.path, "a", errors="backslashreplace") as log:
                log.write(f"{datetime.now().isoformat(timespec='seconds')} {text}\n")
