"""The one family of errors whose message a user reads: one line, and the exit code of the program."""

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)

UNREADABLE = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ELOOP}
UNWRITABLE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}
OK, BUG, USAGE, INPUT, INCOMPLETE, OUTPUT = range(6)


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
    """Stopped before the end; the same command continues. partial: what there is."""

    code = INCOMPLETE
    partial: Any = None


class CannotWrite(Stop):
    """The output cannot be written."""

    code = OUTPUT


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
    """Run a command and turn its outcome into an exit code.

    A Stop prints its one line; a bug prints its traceback. `on_error` hears the line too, for a log.
    """
    try:
        with notes_as_lines():
            return function() or OK
    except Stop as error:
        return tell(" ".join(str(error).split()), error.code, on_error)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr, flush=True)
        return INCOMPLETE
    except BrokenPipeError:  # the reader of stdout, such as `head`, is gone
        mute()
        return INCOMPLETE
    except OSError as error:
        if error.errno not in {*UNREADABLE, *UNWRITABLE}:
            return bug(error, on_error)
        return tell(f"{error.filename}: {error.strerror}", OUTPUT if error.errno in UNWRITABLE else INPUT, on_error)
    except Exception as error:
        return bug(error, on_error)


def say(line: str) -> None:
    """Print a line at once, also into a pipe; a reader that has gone away is no reason to stop computing."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        mute()


def mute() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(line: str, code: int, on_error: Callable[[str], None]) -> int:
    print(f"error: {line}", file=sys.stderr, flush=True)
    on_error(line)
    return code


def bug(error: Exception, on_error: Callable[[str], None]) -> int:
    traceback.print_exception(error)
    on_error(f"bug: {type(error).__name__}: {error}")
    return BUG
