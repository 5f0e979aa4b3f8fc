"""Start a command on several ranks of this machine (`--ranks N`) with the mpirun of the MPI library in use."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from lossatlas.errors import SIGNALS, BadUsage, Incomplete, named, printable
from lossatlas.launchers import launched, under_launcher
from lossatlas.mpi.communicator import mpi_library
from lossatlas.programs import LOCAL_RANKS

ABORTS = (b"Abort(", b"application called MPI_Abort(")  # of MPICH; the exit code of a rank is in them
LAST_LINES = 5.0  # seconds in which the errors of ranks that have ended arrive
POLL = 0.05  # seconds between looks whether the ranks have ended
PATIENCE = 30.0  # seconds in which a rank that has been started has to register before it gets a signal all the same
CHECK = "import sys; from lossatlas.launchers import other_family; print('family:', other_family(sys.argv[1]))"
CURE = "pip install mpi4py mpich brings both"
# Open MPI starts no more ranks than cores, and none for root, unless it is told so. Who asks for N ranks here wants
# them.
PERMISSIONS = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def check_alone(asked: str) -> None:
    """Raise BadUsage under a launcher, whose ranks would each start ranks.

    Args:
        asked: The option as the user wrote it.
    """
    if launched() > 1 or under_launcher():
        raise BadUsage(
            f"{asked} starts ranks of its own, and a launcher started this process: leave it out and give "
            f"{named('mpi')}"
        )


def find_mpirun(asked: str) -> str:
    """Find the mpirun that belongs to the MPI library that mpi4py uses.

    Args:
        asked: The option as the user wrote it.

    Returns:
        Its path: beside this Python, or on PATH.

    Raises:
        BadUsage: There is no MPI library, or no mpirun that starts ranks of it.
    """
    try:
        library = mpi_library()
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadUsage(f"{asked} needs mpi4py and an MPI library ({reason}): {CURE}") from error
    beside = Path(sys.executable).parent
    found = [str(beside / name) for name in ("mpirun", "mpiexec", "mpiexec.exe") if (beside / name).exists()]
    found += [path for name in ("mpirun", "mpiexec") if (path := shutil.which(name)) and path not in found]
    reasons = []
    for mpirun in found:
        reason = unusable(mpirun, library)
        if not reason:
            return mpirun
        reasons.append(f"{mpirun}: {reason}")
    tried = "; ".join(reasons) or "none is beside this Python or on PATH"
    raise BadUsage(f"{asked} finds no mpirun that belongs to {library} ({tried}): {CURE}")


def unusable(mpirun: str, library: str) -> str:
    """Return why a launcher starts no ranks of an MPI library, '' if it does, by starting one process with it."""
    try:
        result = subprocess.run(
            [mpirun, "-n", "1", sys.executable, "-c", CHECK, library],
            env={**os.environ, **PERMISSIONS, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())[:120]
    answers = [line for line in result.stdout.splitlines() if line.startswith("family:")]
    if result.returncode or not answers:
        return printable(" ".join(result.stderr.split())[:120]) or f"it ends with code {result.returncode}"
    family = answers[0].removeprefix("family:").strip()
    return f"it belongs to {family}" if family else ""


def run_local_ranks(count: int, command: Sequence[str], typed: str, mpirun: str) -> int:
    """Run a command on ranks of this machine to the end; signals that arrive here reach rank 0.

    Args:
        count: The number of ranks.
        command: The words that each rank runs.
        typed: The command line of the user, which the ranks record in files.
        mpirun: As `find_mpirun` returns it.

    Returns:
        The exit code of the ranks.

    Raises:
        Incomplete: A signal arrived before there was a rank to receive it.
    """
    with tempfile.TemporaryDirectory(prefix="lossatlas_ranks_") as name, kept_signals() as arrived:
        folder = Path(name)
        (folder / "command").write_text(typed)
        process = subprocess.Popen(
            [mpirun, "-n", str(count), *command],
            env={**os.environ, **PERMISSIONS, LOCAL_RANKS: name},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C arrives here alone, and is forwarded once
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - it calls one function of the kernel
        )
        copier = threading.Thread(target=copy_without_aborts, args=(process.stderr,), daemon=True)
        copier.start()
        forwarded: list[int] = []
        began = 0.0
        while process.poll() is None:
            time.sleep(POLL)
            if arrived and not forwarded:
                began = began or time.monotonic()
                if rank := rank_0(folder):
                    forwarded.append(arrived[0])
                    with suppress(ProcessLookupError):
                        os.kill(rank, arrived[0])
                elif time.monotonic() - began > PATIENCE:
                    process.terminate()
                    process.wait()
        copier.join(LAST_LINES)
        if arrived and not forwarded and process.returncode != 0:
            raise Incomplete(f"stopped by {signal.Signals(arrived[0]).name} before a rank had started")
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


def copy_without_aborts(source: IO[bytes] | None) -> None:
    """Copy the errors of ranks, except MPI's lines that a rank has ended all of them, whose cause is printed before.

    Args:
        source: Where the errors of all ranks arrive.
    """
    assert source is not None
    for line in source:
        if not line.startswith(ABORTS):
            with suppress(OSError, ValueError):  # nobody reads it any more
                os.write(2, line)


def rank_0(folder: Path) -> int:
    """Return the process id that rank 0 has registered, 0 before it has."""
    return next((int(path.suffix[1:]) for path in folder.glob("0*.*") if set(path.stem) == {"0"}), 0)


@contextmanager
def kept_signals() -> Iterator[list[int]]:
    """Collect signals instead of ending by them; one that this process ignores stays ignored."""
    arrived: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, keep)
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> Callable[[], object] | None:
    """Return a function that the launcher calls first; None on another system than Linux.

    With it the launcher gets SIGTERM when this process is killed, and then the ranks save and end.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
