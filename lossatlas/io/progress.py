"""Progress of a long computation: shown to the user, and in the log beside the output."""

import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from lossatlas.errors import FrontEnd, named, say

PROGRESS_SECONDS = 5.0
SLOW = 3.0  # times the expected seconds per cell from which a note is given, after
SLOW_SECONDS = 10.0


LOGGER = logging.getLogger("lossatlas")


def report_progress(line: str) -> None:
    """Report progress: a command prints a line, a Python function logs it, on stderr where no logging is set up."""
    if FrontEnd.command:
        say(line)
    elif LOGGER.hasHandlers():
        LOGGER.info(line)
    else:
        with suppress(OSError, ValueError):  # it is closed, or its reader is gone
            print(line, file=sys.stderr, flush=True)


def stream_of_front_end() -> TextIO | None:
    """Return the stream of progress: stdout of a command, stderr of a Python function."""
    return sys.stdout if FrontEnd.command else sys.stderr


def is_terminal(stream: TextIO | None) -> bool:
    """Test whether a stream is a terminal; it may also be closed."""
    try:
        return stream is not None and bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


class Progress:
    """Counter of saved cells: one line that is rewritten in a terminal, a plain line every few seconds elsewhere.

    The remaining time is extrapolated from the later half of the time, because the first cells may take longer, as with
    a tolerance.

    Args:
        total: Number of cells.
        done: Number of cells that are saved already.
        expected: Seconds per cell that were measured before the run.
    """

    def __init__(self, total: int, done: int, expected: float = math.inf) -> None:
        self.total, self.before, self.expected = total, done, expected
        self.started = time.monotonic()
        self.last, self.shown = self.started, done
        self.marks = deque([(self.started, done)])  # times and cells: the one that is measured from, and later ones
        self.terminal = is_terminal(stream_of_front_end())

    def show(self, done: int, *, last: bool = False) -> None:
        """Show the number of saved cells.

        Args:
            done: The number of saved cells.
            last: Nothing follows.
        """
        now = time.monotonic()
        if last and self.terminal and done == self.shown:
            print(file=stream_of_front_end())
        if done == self.shown or not (last or self.terminal or now - self.last >= PROGRESS_SECONDS):
            return
        self.last, self.shown = now, done
        spent = now - self.started
        left = self.seconds_per_cell(now, done) * (self.total - done)
        line = f"{done}/{self.total} cells saved, {format_duration(spent)} spent, {format_duration(left)} left"
        if self.terminal:
            width = 24 * done // self.total
            print(f"\r[{'#' * width:<24}] {line} ", end="\n" if last else "", file=stream_of_front_end(), flush=True)
        else:
            report_progress(line)
        if spent > SLOW_SECONDS:
            self.note_slow(spent / (done - self.before))

    def note_slow(self, seconds: float) -> None:
        """Give a note, once, where a cell takes much longer than measured before the run."""
        if seconds > SLOW * self.expected:
            report_progress(
                f"note: a cell takes {seconds / self.expected:.1f} times as long as measured at the start: other "
                "processes use these cores, or the measurement was too optimistic; fewer ranks or "
                f"{named('threads', 1)} may be faster, and {named('force')} measures again"
            )
            self.expected = math.inf

    def seconds_per_cell(self, now: float, done: int) -> float:
        """Average over the later half of the time."""
        while len(self.marks) > 1 and self.marks[1][0] <= (self.started + now) / 2:
            self.marks.popleft()
        since, before = self.marks[0]
        self.marks.append((now, done))
        return (now - since) / (done - before)

    def provenance(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return metadata about the time of this run, added to the time of earlier runs in `about`."""
        seconds = time.monotonic() - self.started + about.get("computing_seconds", 0.0)
        return {"computing_seconds": round(seconds, 2), "finished": datetime.now().isoformat(timespec="seconds")}


class SilentProgress(Progress):
    """Counter of saved cells that shows nothing."""

    def show(self, done: int, *, last: bool = False) -> None:
        pass


class ProgressBar(Progress):
    """A bar of tqdm, in a terminal or a notebook."""

    def __init__(self, total: int, done: int) -> None:
        from tqdm.auto import tqdm

        super().__init__(total, done)
        self.bar = tqdm(total=total, initial=done, unit="cell")

    def show(self, done: int, *, last: bool = False) -> None:
        """Show the number of saved cells.

        Args:
            done: The number of saved cells.
            last: Nothing follows.
        """
        self.bar.update(done - self.shown)
        self.shown = done
        if last:
            self.bar.close()


def make_progress(total: int, done: int, *, quiet: bool = False) -> Progress:
    """Choose a display: a bar in a terminal or a notebook, otherwise a line every few seconds.

    Args:
        total: Number of cells.
        done: Number of cells that are saved already.
        quiet: Show nothing.
    """
    if quiet:
        return SilentProgress(total, done)
    if is_terminal(sys.stderr) or "ipykernel" in sys.modules:
        return ProgressBar(total, done)
    return Progress(total, done)


class StatusLine:
    """A text about a computation: a line that is rewritten in a terminal, a plain one every few seconds elsewhere."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.terminal = is_terminal(stream_of_front_end())

    def show(self, text: str) -> None:
        """Show a text with the time spent."""
        now = time.monotonic()
        text = f"{text}, {format_duration(now - self.started)} spent"
        if self.terminal:
            print(f"\r{text:<79}", end="", file=stream_of_front_end(), flush=True)
        elif now - self.last >= PROGRESS_SECONDS:
            self.last = now
            report_progress(text)

    def close(self) -> None:
        """Erase the line in a terminal."""
        if self.terminal:
            print("\r" + " " * 79 + "\r", end="", file=stream_of_front_end(), flush=True)

    def end(self, text: str) -> None:
        """Replace the line by a last text with the time spent."""
        self.close()
        report_progress(f"{text}, {format_duration(time.monotonic() - self.started)}")


def format_duration(seconds: float) -> str:
    """Write seconds as minutes:seconds, or hours:minutes:seconds.

    Example:
        >>> format_duration(75)
        '1:15'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Log:
    """The log beside an output file: the start of each run, and how it ended.

    Errors in writing it are ignored, because they would hide the message that is written.

    Args:
        path: The output file; the log is `{path}.log`. None until `beside` names it.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path: Path | None = None
        if path:
            self.beside(path)

    def beside(self, path: str | Path) -> None:
        """Name the output file."""
        self.path = Path(os.path.abspath(f"{path}.log"))

    def line(self, text: str) -> None:
        """Append a line with the time."""
        if self.path is not None and self.path.parent.is_dir() and os.access(self.path.parent, os.W_OK):
            with suppress(OSError), open(self.path, "a", errors="backslashreplace") as log:
                log.write(f"{datetime.now().isoformat(timespec='seconds')} {text}\n")
