"""Errors, notes and exit codes.

A `Stop` is a message for the user: one line, and an exit code of the program. Everything else is a bug, and shows its
traceback. Names of options and arguments in messages come from `named`.
"""

import errno
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

PACKAGE_FOLDER = str(Path(__file__).resolve().parent)  # the package

LONGEST = 1000  # characters of an error's line
UNREADABLE = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ELOOP}
UNWRITABLE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}
OK, BUG, USAGE, INPUT, INCOMPLETE, OUTPUT = range(6)
# Signals of users and batch systems that ask a process to end.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
]


class Stop(Exception):
    """A message to the user that ends a command with one line on stderr, and its exit code.

    Attributes:
        code: The exit code.
    """

    code = BUG


class BadUsage(Stop):
    """Options or arguments are wrong, or contradict each other."""

    code = USAGE


class BadInput(Stop):
    """A file, a shape or a recorded value is wrong, or does not fit the others."""

    code = INPUT


class Incomplete(Stop):
    """The work stopped before the end; the same command continues it.

    Attributes:
        partial: The results so far, None for none.
        signal: The signal that asked for it, 0 for none.
    """

    code = INCOMPLETE
    partial: Any = None
    signal = 0


class Signalled(KeyboardInterrupt):
    """A signal asks this process to end.

    Args:
        number: The signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class CannotWrite(Stop):
    """The output cannot be written."""

    code = OUTPUT


# Options of the commands, and the different names of the same keywords in Python.
KEYWORDS = {
    "surf_file": "file",
    "spectrum_file": "file",
    "sharpness_file": "file",
    "coefficient_file": "file",
    "loss_name": "loss",
    "surf_name": "field",
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
    """The front end that the user sees.

    Attributes:
        command: It is a command, not a Python function; set by `option_names`.
    """

    command = False


def named(field: str, value: object = None) -> str:
    """Name a field of the configuration as the user wrote it: `--limit 5` in a command, `limit=5` in Python.

    Args:
        field: Its name, which is the option without dashes.
        value: Its value, where the message gives it.

    Returns:
        The name, with the value if there is one.

    Example:
        >>> named("batch_size")
        'batch_size'
        >>> named("precision", "tf32")
        "precision='tf32'"
    """
    if FrontEnd.command:
        if value is None:
            return f"--{field}"
        word = shlex.quote(str(value))
        return f"--{field}={word}" if field in ("x", "y") or word.startswith("-") else f"--{field} {word}"
    keyword = KEYWORDS.get(field, field)
    return keyword if value is None else f"{keyword}={value!r}"


def did_you_mean(
    word: object, known: Iterable[str], *, form: Callable[[str], str] = str, most: int = 1, similarity: float = 0.6
) -> str:
    """Return a question that names the known words nearest to an unknown one.

    Args:
        word: The word that is not known.
        known: The words that are.
        form: Writes a known word as it stands in the question.
        most: The largest number of words that the question names.
        similarity: The least similarity of these, from 0 to 1, see `difflib.get_close_matches`.

    Returns:
        Text to append to a message; "" where none is near.

    Example:
        >>> did_you_mean("drk", ("paper", "dark"))
        ' (did you mean dark?)'
        >>> did_you_mean("limt", ("limit", "split"), form="--{}".format)
        ' (did you mean --limit?)'
    """
    near = dict.fromkeys(form(each) for each in get_close_matches(str(word), list(known), most, similarity))
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def counted(number: int, one: str, several: str) -> str:
    """Write a number with its noun, as in "1 page" and "2 pages"."""
    return f"{number} {one if number == 1 else several}"


@contextmanager
def option_names() -> Iterator[None]:
    """Let `named` give names of options within."""
    before, FrontEnd.command = FrontEnd.command, True
    try:
        yield
    finally:
        FrontEnd.command = before


class Note(UserWarning):
    """A warning to the user of the program, as opposed to warnings of Python and libraries."""


def note(line: str) -> None:
    """Warn the user by a `Note`, attributed to the line of code that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        level, frame = level + 1, frame.f_back
    warnings.warn(line, Note, stacklevel=level)


@contextmanager
def notes_as_lines() -> Iterator[None]:
    """Print each note as a line on stdout within; other warnings are shown as usual."""
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
    """Run a command, and turn every outcome into an exit code.

    A `Stop` prints its line; a bug, or a call of sys.exit, its traceback and a line.

    Args:
        function: The command; returns an exit code or None.
        on_error: Called with the line, for a log.

    Returns:
        The exit code.

    Example:
        >>> exit_code(lambda: None)
        0
    """
    try:
        with notes_as_lines(), option_names():
            code = function() or OK
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except BaseException as error:
        return report_error(error, on_error)


def report_error(error: BaseException, on_error: Callable[[str], None]) -> int:
    """Print the reason why a command ends, and return its exit code.

    Args:
        error: The reason.
        on_error: Called with the line of the error.
    """
    error = underlying_signal(error)
    if isinstance(error, BrokenPipeError):  # the reader of stdout, such as `head`, is gone
        silence()
        return INCOMPLETE
    line, code = error_line(error), code_of(error)
    if isinstance(error, OSError) and code == OUTPUT and not error.filename:  # the disk of stdout is full
        line = f"cannot print: {line}"
        silence()
    if code == BUG:
        try:
            traceback.print_exception(error)
        except OSError:
            silence(sys.stderr)
    print_error(line)
    on_error(line)
    return code


def underlying_signal(error: BaseException) -> BaseException:
    """Return the signal whose exception other code has turned into another one; otherwise the error itself."""
    earlier: BaseException | None = error
    while code_of(error) in (BUG, USAGE, INPUT) and earlier is not None:
        if isinstance(earlier, Signalled):
            return earlier
        earlier = earlier.__cause__ or earlier.__context__
    return error


def code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, Stop):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return INCOMPLETE
    if isinstance(error, OSError) and error.errno in UNWRITABLE | UNREADABLE:
        return OUTPUT if error.errno in UNWRITABLE else INPUT
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's
        return INPUT
    return BUG


def error_line(error: BaseException) -> str:
    """Return the line about an error that the user reads."""
    if isinstance(error, Stop):
        text = str(error)
    elif isinstance(error, KeyboardInterrupt):
        text = str(error) or "interrupted"
    elif isinstance(error, OSError) and code_of(error) != BUG:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error.strerror)
    elif code_of(error) == INPUT:
        text = str(error)
    elif isinstance(error, SystemExit):
        where = error_location(error, [f"{PACKAGE_FOLDER}/process"])
        text = f"{where}{exit_call(error)} was called before the work was done"
    else:
        text = f"{error_location(error)}{type(error).__name__}: {error}"
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def exit_call(error: SystemExit) -> str:
    """Return the call by which other code ended the program."""
    return error.code if isinstance(error.code, str) else f"sys.exit({'' if error.code is None else error.code})"


def error_location(error: BaseException, skip: Sequence[str] = ()) -> str:
    """Return the line that an error comes from, outside of installed packages.

    Args:
        error: The error.
        skip: Beginnings of paths of files that are skipped.

    Returns:
        A text such as 'file.py, line 7: ', '' where there is no such line.
    """
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(("<frozen", *skip)) and "site-packages" not in f.filename
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""


def first_line(error: BaseException, width: int = 150) -> str:
    """Return the first line of an error's message, cut to a width.

    The name of its type is there where it has no message, or only a key.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:width]
    return f"{type(error).__name__}: {line}" if isinstance(error, KeyError) and error.args else line


def printable(text: str) -> str:
    """Escape characters that control a terminal, such as escape sequences in a file's name; line ends stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def say(line: str) -> None:
    """Print a line at once, also into a pipe; a failure to print does not stop a computation."""
    try:
        print(printable(line), flush=True)
    except (OSError, ValueError):  # its reader is gone, its disk is full, it is closed
        silence()


def silence(stream: TextIO | None = None) -> None:
    """Discard everything that is printed to a stream from now on, by default to stdout."""
    stream = stream or sys.stdout
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or none at all
        name = "stderr" if stream is sys.stderr else "stdout"
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def print_error(line: str) -> None:
    """Print the line of an error to stderr."""
    try:
        print(f"error: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence(sys.stderr)
