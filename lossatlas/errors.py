"""The one family of errors whose message a user reads: one line, and the exit code of the program."""

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)

LONGEST = 1000  # characters of an error's line
UNREADABLE = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ELOOP}
UNWRITABLE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}
OK, BUG, USAGE, INPUT, INCOMPLETE, OUTPUT = range(6)
# What users and batch systems send before they kill.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
]


class Stop(Exception):
    """Ends a command with one line on stderr and `code`; never a traceback."""

    code = BUG


class BadUsage(Stop):
    """Options that make no sense, or do not fit together."""

    code = USAGE


class BadInput(Stop):
    """A file, a shape or a recorded value that does not fit."""

    code = INPUT


class Incomplete(Stop):
    """Stopped before the end; the same command continues. partial: what there is. signal: what asked for it, 0 for none."""

    code = INCOMPLETE
    partial: Any = None
    signal = 0


class Signalled(KeyboardInterrupt):
    """A signal asks this process to end; `number` is which."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class CannotWrite(Stop):
    """The output cannot be written."""

    code = OUTPUT


# Keywords of the Python functions that are called otherwise than the options of the commands.
KEYWORDS = {
    "surf_file": "file",
    "spectrum_file": "file",
    "sharpness_file": "file",
    "loss_name": "loss",
    "model_file": "net",
    "model_file2": "towards",
    "model_file3": "towards",
    "xdirection": "directions",
    "ydirection": "directions",
    "except": "without",
    "compile": "compiled",
    "cuda": "device",
    "trainloader": "data",
    "testloader": "test",
}


class FrontEnd:
    """Who is told of an error: the user of a command, or of a Python function. Set by `exit_code` alone."""

    command = False


def named(field: str, value: object = None) -> str:
    """Name a field of the configuration as the user wrote it: `--limit 5` in a command, `limit=5` in Python.

    Args:
        field: Its name, as that of the option without dashes.
        value: Its value, where the message gives it.

    Example:
        >>> named("batch_size")
        'batch_size'
        >>> named("precision", "tf32")
        "precision='tf32'"
    """
    if FrontEnd.command:
        return f"--{field}" if value is None else f"--{field} {value}"
    keyword = KEYWORDS.get(field, field)
    return keyword if value is None else f"{keyword}={value!r}"


@contextmanager
def option_names() -> Iterator[None]:
    """Let `named` give names of options, while a command runs."""
    before, FrontEnd.command = FrontEnd.command, True
    try:
        yield
    finally:
        FrontEnd.command = before


class Note(UserWarning):
    """Something that a user should know, and that is no error."""


def note(line: str) -> None:
    """Warn of something, at the line of the user's code that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(line, Note, stacklevel=level)


@contextmanager
def notes_as_lines() -> Iterator[None]:
    """For commands: each note is a line on stdout, other warnings are as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Note)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, Note):
                say(f"note: {message}")
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield


def exit_code(function: Callable[[], int | None], on_error: Callable[[str], None] = lambda line: None) -> int:
    """Run a command and turn its outcome, whatever it is, into an exit code.

    A Stop prints its one line; a bug, or somebody's sys.exit, its traceback and a line. `on_error` hears the line too,
    for a log.
    """
    try:
        with notes_as_lines(), option_names():
            code = function() or OK
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except BaseException as error:
        return ended(error, on_error)


def ended(error: BaseException, on_error: Callable[[str], None]) -> int:
    """Say why a command ends, and give its exit code."""
    error = first_of(error)
    if isinstance(error, BrokenPipeError):  # the reader of stdout, such as `head`, is gone
        mute()
        return INCOMPLETE
    line, code = as_line(error), code_of(error)
    if isinstance(error, OSError) and code == OUTPUT and not error.filename:  # what stdout goes to is full
        line = f"cannot print: {line}"
        mute()
    if code == BUG:
        try:
            traceback.print_exception(error)
        except OSError:
            mute(sys.stderr)
    return tell(line, code, on_error)


def first_of(error: BaseException) -> BaseException:
    """The signal, where somebody's code has turned its exception into another one; otherwise the error itself."""
    earlier: BaseException | None = error
    while code_of(error) in (BUG, USAGE, INPUT) and earlier is not None:
        if isinstance(earlier, Signalled):
            return earlier
        earlier = earlier.__cause__ or earlier.__context__
    return error


def code_of(error: BaseException) -> int:
    if isinstance(error, Stop):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return INCOMPLETE
    if isinstance(error, OSError) and error.errno in UNWRITABLE | UNREADABLE:
        return OUTPUT if error.errno in UNWRITABLE else INPUT
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's
        return INPUT
    return BUG


def as_line(error: BaseException) -> str:
    """What a user reads of it."""
    if isinstance(error, Stop):
        text = str(error)
    elif isinstance(error, KeyboardInterrupt):
        text = str(error) or "interrupted"
    elif isinstance(error, OSError) and code_of(error) != BUG:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error.strerror)
    elif code_of(error) == INPUT:
        text = str(error)
    elif isinstance(error, SystemExit):
        text = f"{place_of(error, [f'{HERE}/process'])}{call_of(error)} was called before the work was done"
    else:
        text = f"{place_of(error)}{type(error).__name__}: {error}"
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def call_of(error: SystemExit) -> str:
    """What somebody's code has called to end the program."""
    return error.code if isinstance(error.code, str) else f"sys.exit({'' if error.code is None else error.code})"


def place_of(error: BaseException, but: Sequence[str] = ()) -> str:
    """Which line an error comes from, 'file.py, line 7: ', outside of installed packages and of files that begin with `but`."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(("<frozen", *but)) and "site-packages" not in f.filename
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""


def printable(text: str) -> str:
    """Without what a terminal would obey, such as escape sequences in a name or a file; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def say(line: str) -> None:
    """Print a line at once, also into a pipe; what cannot be printed any more is no reason to stop computing."""
    try:
        print(printable(line), flush=True)
    except (OSError, ValueError):  # its reader is gone, its disk is full, it is closed
        mute()


def mute(stream: Any = None) -> None:
    """Let what is printed vanish from now on."""
    stream = stream or sys.stdout
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or none at all
        name = "stderr" if stream is sys.stderr else "stdout"
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def tell(line: str, code: int, on_error: Callable[[str], None]) -> int:
    try:
        print(f"error: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        mute(sys.stderr)
    on_error(line)
    return code
