"""What holds from a command's first moment on, on every rank: no signal ends it without a word, and no way out of a rank
leaves the others waiting.

Commands that ranks run import it before anything else; it is armed where one of them is the program that runs.

- A signal that a user or a batch system sends raises `Signalled`; a second one changes nothing. One that is ignored, as
  under nohup, stays ignored. While a module is imported it waits for a moment, and while code of C++ is loaded to the end,
  because some takes an exception for a reason to abort.
- `os._exit` and `os.exec*` raise `Left`, and `exit` of C has the exit code 1, so that somebody else's code cannot end a rank
  without a word and with exit code 0.
- Only at the end of a rank, after success, what libraries have registered with C's `exit` since it joined the others is
  done: MPICH says goodbye to its launcher there, who would kill the ranks that are a moment later.
- A process that ends before it has joined the ranks takes those with it that wait for it. Afterwards MPI does that.
"""

import atexit
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn

from lossatlas.errors import SIGNALS, Signalled, ended, mute
from lossatlas.launchers import launched

AGAIN = 2.0  # seconds after which a signal that nothing came of is raised once more, or that came during an import
FAREWELL = 5.0  # seconds that libraries have to tidy up at the end
SOON = 0.05  # seconds between looks whether an import has ended
EXITS = [(module, name) for module in (os, sys.modules[os.name]) for name in ("_exit", "execv", "execve")]
ORIGINALS = [getattr(module, name) for module, name in EXITS]
really_exit = os._exit


class ForcedExit(SystemExit):
    """Somebody's code called os._exit or os.exec*; the message says which."""


class ProcessState:
    """Of this process. armed: it is guarded. awaited: others wait for it to join them. forked: from a rank, by somebody.
    caught: the signal that asks it to end, 0 for none. since: when. ending: it is on its way out. succeeded: and all that
    is left is for libraries to tidy up. farewell: what C's `exit` calls after those of them that came later.
    """

    armed = False
    awaited = False
    forked = False
    caught = 0
    since = 0.0
    ending = False
    succeeded = False
    farewell: Callable[[int], None] | None = None


def arm() -> None:
    """Begin to guard this process."""
    ProcessState.armed, ProcessState.awaited = True, launched() > 1
    os.environ.setdefault("UCX_DEBUG_SIGNO", "0")  # or UCX, which MPICH uses, takes SIGHUP for its own messages
    for standard in range(3):  # one that is closed would be the number of the next file that is opened
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is not None:
        faulthandler.enable()
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, raise_signalled)
    signal.signal(signal.SIGALRM, raise_again)
    for module, name in EXITS:
        setattr(module, name, refusing(name))
    refuse_exit_of_libc()
    sys.excepthook = report_uncaught
    os.register_at_fork(after_in_child=disarm)
    atexit.register(end_waiting_ranks)


def disarm() -> None:
    """In a process that somebody forked: it is not a rank."""
    ProcessState.armed, ProcessState.awaited, ProcessState.forked = False, False, True
    for (module, name), original in zip(EXITS, ORIGINALS, strict=True):
        setattr(module, name, original)
    for number in SIGNALS:
        if signal.getsignal(number) is raise_signalled:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def rearm_signals() -> None:
    """Take the signals back from a library, such as MPI, that wanted them."""
    for number in SIGNALS:
        if signal.getsignal(number) is raise_signalled:
            signal.signal(number, raise_signalled)


def raise_signalled(number: int, frame: FrameType | None) -> None:
    if not ProcessState.caught and not ProcessState.ending:
        ProcessState.caught, ProcessState.since = number, time.monotonic()
        raise_again(number, frame)


def raise_again(number: int, frame: FrameType | None) -> None:
    """What asks this process to end, unless it imports something; and once more where somebody's code swallowed it, such as
    a destructor, in which Python does.
    """
    if not ProcessState.caught or ProcessState.ending:
        return
    long = time.monotonic() - ProcessState.since > AGAIN
    if importing(frame, "ExtensionFileLoader." if long else ""):
        signal.setitimer(signal.ITIMER_REAL, SOON)
        return
    signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    raise Signalled(ProcessState.caught)


def importing(frame: FrameType | None, by: str = "") -> bool:
    """Whether a module is imported, by a function of importlib whose name begins so."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") and code.co_qualname.startswith(by):
            return True
        frame = frame.f_back
    return False


def report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of what nobody has caught, such as a signal while modules are imported: a line, and its exit code."""
    ignore_signals()
    code = ended(error.with_traceback(trace), lambda line: None)
    end_waiting_ranks(code)
    really_exit(code)


def refusing(name: str) -> Callable[..., NoReturn]:
    def refused(*arguments: object) -> NoReturn:
        raise ForcedExit(f"os.{name}({', '.join(map(repr, arguments))[:60]})")

    return refused


def refuse_exit_of_libc() -> None:
    """Let `exit` of C, as of a library that gives up, be an error: a command itself always leaves through `_exit`."""
    try:
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit(ctypes.cast(libc._exit, ctypes.c_void_p), ctypes.c_void_p(1), None)
    except (OSError, AttributeError):  # another system
        pass


def allow_library_exit() -> None:
    """Libraries that start from now on may tidy up when this process ends after success."""
    if not ProcessState.armed or ProcessState.farewell:
        return

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def farewell(_: int) -> None:
        if ProcessState.succeeded:
            really_exit(0)

    try:
        ctypes.CDLL(None).__cxa_atexit(farewell, None, None)
        ProcessState.farewell = farewell
    except (OSError, AttributeError):  # another system
        pass


def end_if_forked(error: BaseException) -> None:
    """End a process that somebody forked, and that came back to where a rank goes on."""
    if ProcessState.forked:
        really_exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def ignore_signals() -> None:
    """From now on signals change nothing: this process is on its way out."""
    ProcessState.ending = True
    if ProcessState.caught:
        signal.setitimer(signal.ITIMER_REAL, 0)


def detach() -> None:
    """The end of this process leaves nobody waiting: it has joined the ranks, and MPI sees to that, or it only gives help."""
    ProcessState.awaited = False


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command as the program; what it raises to end at once, as argparse does, is its exit code."""
    try:
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    leave(code)


def leave(code: int) -> NoReturn:
    """End this process: after success once everybody has tidied up, after an error at once, because a thread may still run."""
    ignore_signals()
    if ProcessState.forked:  # MPI is another's
        really_exit(code)
    if not code:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a full disk, a reader that is gone
            mute(stream)
    if not code and ProcessState.farewell:
        ProcessState.succeeded = True
        late = threading.Timer(FAREWELL, really_exit, [0])  # where a library does not come to an end
        late.daemon = True
        with suppress(RuntimeError):  # no thread is to be had
            late.start()
        ctypes.CDLL(None).exit(0)
    really_exit(code)


def end_waiting_ranks(code: int = 1) -> None:
    """End the ranks that wait for this one, which never joined them: MPICH's launcher would let them wait for ever."""
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
