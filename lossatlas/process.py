"""Process control: signals become reported exceptions, and any exit of one rank terminates all.

Commands that run on several ranks import this module before anything else; `arm` is called where one of them is the
program that runs.

- A signal of a user or a batch system raises `Signalled`; a second one has no effect. One that is ignored, as under
  nohup, stays ignored. While a module is imported the exception is delayed for a moment, and while a C++ extension is
  loaded until that is loaded, because some extensions abort on an exception.
- `os._exit` and `os.exec*` raise `ForcedExit`, and C's `exit` has the exit code 1, so that other code cannot end a rank
  unnoticed and with exit code 0.
- Exit handlers that libraries have registered with C's `exit` since MPI was initialized run only at the end of a rank
  after success: MPICH's tells the launcher that the rank is finished; without it the launcher kills ranks that end
  later.
- While results are computed, `signals` collects signals instead, so that these are saved first.
- A process that ends before it has initialized MPI terminates the ranks that wait for it. Afterwards MPI does that.
"""

import atexit
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

from lossatlas.errors import SIGNALS, FrontEnd, Incomplete, Signalled, report_error, silence
from lossatlas.launchers import launched

REPEAT_SECONDS = 2.0  # after which a signal without effect, or one during an import, is raised once more
LIBRARY_SECONDS = 5.0  # for exit handlers of libraries at the end
POLL_SECONDS = 0.05  # between checks whether an import has ended
EXITS = [(module, name) for module in (os, sys.modules[os.name]) for name in ("_exit", "execv", "execve")]
ORIGINALS = [getattr(module, name) for module, name in EXITS]
really_exit = os._exit
HAS_TIMER = hasattr(signal, "setitimer")


class ForcedExit(SystemExit):
    """Call of os._exit or os.exec* by other code; the message names the call."""


class ProcessState:
    """The state of this process.

    Attributes:
        armed: `arm` was called.
        awaited: Other ranks wait for it to initialize MPI.
        forked: Other code has forked it from a rank.
        caught: The signal that asks it to end, 0 for none.
        since: Time of the signal on the monotonic clock.
        ending: It ends, and signals have no effect.
        succeeded: It ends with exit code 0, and only exit handlers of libraries remain.
        library_exit: A function that C's `exit` calls after the handlers that libraries have registered later; None
            before `allow_library_exit`.
        skips_libraries: Exit handlers of libraries do not run.
    """

    armed = False
    awaited = False
    forked = False
    caught = 0
    since = 0.0
    ending = False
    succeeded = False
    library_exit: Callable[[int], None] | None = None
    skips_libraries = False


def arm() -> None:
    """Take control of signals and exits of this process."""
    ProcessState.armed, ProcessState.awaited = True, launched() > 1
    os.environ.setdefault("UCX_DEBUG_SIGNO", "0")  # otherwise UCX, which MPICH uses, handles SIGHUP
    for standard in range(3):  # a closed one would give its number to the next file that is opened
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is not None:
        faulthandler.enable()
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, raise_signalled)
    if HAS_TIMER:
        signal.signal(signal.SIGALRM, raise_again)
    for module, name in EXITS:
        setattr(module, name, refusing(name))
    refuse_exit_of_libc()
    sys.excepthook = report_uncaught
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=disarm)
    atexit.register(end_waiting_ranks)


def disarm() -> None:
    """Give up control in a process that other code has forked: it is not a rank."""
    ProcessState.armed, ProcessState.awaited, ProcessState.forked = False, False, True
    for (module, name), original in zip(EXITS, ORIGINALS, strict=True):
        setattr(module, name, original)
    for number in SIGNALS:
        if signal.getsignal(number) is raise_signalled:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def rearm_signals() -> None:
    """Restore the signal handlers after a library such as MPI has installed its own."""
    for number in SIGNALS:
        if signal.getsignal(number) is raise_signalled:
            signal.signal(number, raise_signalled)


def raise_signalled(number: int, frame: FrameType | None) -> None:
    """Handle a signal: raise `Signalled` for the first one."""
    if not ProcessState.caught and not ProcessState.ending:
        ProcessState.caught, ProcessState.since = number, time.monotonic()
        raise_again(number, frame)


def raise_again(number: int, frame: FrameType | None) -> None:
    """Raise `Signalled`, after a running import, and again where other code or a destructor has swallowed it."""
    if not ProcessState.caught or ProcessState.ending:
        return
    long = time.monotonic() - ProcessState.since > REPEAT_SECONDS
    if importing(frame, "ExtensionFileLoader." if long else ""):
        set_timer(POLL_SECONDS)
        if HAS_TIMER:
            return
    set_timer(REPEAT_SECONDS, REPEAT_SECONDS)
    raise Signalled(ProcessState.caught)


def set_timer(seconds: float, interval: float = 0.0) -> None:
    """Raise the signal again after some seconds, where the system has such a timer (Windows has none)."""
    if HAS_TIMER:
        signal.setitimer(signal.ITIMER_REAL, seconds, interval)


def importing(frame: FrameType | None, by: str = "") -> bool:
    """Test whether a module is being imported, by a function of importlib whose name begins with `by`."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") and code.co_qualname.startswith(by):
            return True
        frame = frame.f_back
    return False


def report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an uncaught exception, such as a signal during imports, and end with its exit code."""
    ignore_signals()
    code = report_error(error.with_traceback(trace), lambda line: None)
    end_waiting_ranks(code)
    really_exit(code)


def refusing(name: str) -> Callable[..., NoReturn]:
    """Return a replacement of a function of os that raises `ForcedExit`."""

    def refused(*arguments: object) -> NoReturn:
        raise ForcedExit(f"os.{name}({', '.join(map(repr, arguments))[:60]})")

    return refused


def refuse_exit_of_libc() -> None:
    """Give C's `exit`, called by a library, the exit code 1: commands themselves always end by `_exit`."""
    try:
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit(ctypes.cast(libc._exit, ctypes.c_void_p), ctypes.c_void_p(1), None)
    except (OSError, AttributeError, TypeError):  # another system
        pass


def allow_library_exit() -> None:
    """Run exit handlers that libraries register from now on when this process ends after success."""
    if not ProcessState.armed or ProcessState.library_exit:
        return

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def library_exit(_: int) -> None:
        if ProcessState.succeeded:
            really_exit(0)

    try:
        ctypes.CDLL(None).__cxa_atexit(library_exit, None, None)
        ProcessState.library_exit = library_exit
    except (OSError, AttributeError, TypeError):  # another system
        pass


def forbid_library_exit() -> None:
    """Skip the exit handlers of libraries when this process ends: some of torch.distributed need the interpreter."""
    ProcessState.skips_libraries = True


def end_if_forked(error: BaseException) -> None:
    """End a process that other code has forked, and that has returned into the code of a rank; error: its reason."""
    if ProcessState.forked:
        really_exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def ignore_signals() -> None:
    """Ignore signals from now on: this process ends."""
    ProcessState.ending = True
    if ProcessState.caught:
        set_timer(0)


def detach() -> None:
    """Note that no rank waits for this process: it has initialized MPI, or only prints help."""
    ProcessState.awaited = False


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command as the program, and end the process.

    Args:
        main: The command; returns its exit code, or raises SystemExit with it as argparse does.
    """
    try:
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    leave(code)


def leave(code: int) -> NoReturn:
    """End this process.

    After success exit handlers of Python and libraries run; after an error it ends at once, because threads may still
    run.

    Args:
        code: The exit code.
    """
    ignore_signals()
    if ProcessState.forked:  # MPI belongs to the rank
        really_exit(code)
    if not code:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a full disk, a reader that is gone
            silence(stream)
    if not code and ProcessState.library_exit and not ProcessState.skips_libraries:
        ProcessState.succeeded = True
        late = threading.Timer(LIBRARY_SECONDS, really_exit, [0])  # in case a library does not return
        late.daemon = True
        with suppress(RuntimeError):  # no thread can be started
            late.start()
        ctypes.CDLL(None).exit(0)
    really_exit(code)


def end_waiting_ranks(code: int = 1) -> None:
    """End the ranks that wait for this one to initialize MPI: MPICH's launcher would let them wait forever."""
    if not ProcessState.awaited:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(0.3)  # the launcher loses what it has not forwarded
    channel = os.environ.get("PMI_FD", "")
    if channel.isdecimal():
        try:
            os.write(int(channel), f"cmd=abort exitcode={code}\n".encode())
            time.sleep(1)
        except OSError:
            pass
    really_exit(code)


# While results are computed -----------------------------------------------------------------------------------------


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, so that results are saved first.

    These are SIGTERM, SIGINT and the signals of batch systems (`errors.SIGNALS`), except ignored ones, as under nohup,
    and signals for which the user, or a training framework, has installed a handler.

    Yields:
        The numbers of the signals received so far; empty outside of the main thread, which alone can install handlers.
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
    """Return the error for a signal; `more` is appended to its message."""
    error = Incomplete(f"stopped by {signal.Signals(number).name}{more}")
    error.signal = number
    return error


def how_to_continue() -> str:
    """Return what continues a file that an interrupted run has left, in the words of the front end."""
    return f"run the same {'command' if FrontEnd.command else 'call'} again to continue"


def ends_process(number: int, handler: Any) -> bool:
    """Return whether the handler of a signal ends the process."""
    if handler in (signal.SIG_IGN, None):
        return False
    usual = handler in (signal.SIG_DFL, signal.default_int_handler) or getattr(handler, "__module__", "") == __name__
    return usual or number in (signal.SIGTERM, signal.SIGINT)
