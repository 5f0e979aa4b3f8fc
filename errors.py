"""The one family of errors whose message a user reads: one line, and the exit code of the program."""

import os
import sys
import traceback
from collections.abc import Callable

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
    """Stopped before the end; the same command continues."""

    code = INCOMPLETE


class CannotWrite(Stop):
    """The output cannot be written."""

    code = OUTPUT


def exit_code(function: Callable[[], int | None], on_error: Callable[[str], None] = lambda line: None) -> int:
    """Run a command and turn its outcome into an exit code.

    A Stop prints its one line; a bug prints its traceback. `on_error` hears the line too, for a log.
    """
    try:
        return function() or OK
    except Stop as error:
        line = " ".join(str(error).split())
        print(f"error: {line}", file=sys.stderr, flush=True)
        on_error(line)
        return error.code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr, flush=True)
        return INCOMPLETE
    except BrokenPipeError:  # the reader of stdout, such as `head`, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        traceback.print_exc()
        on_error(f"bug: {type(error).__name__}: {error}")
        return BUG
