"""The ranks of a run and their communicator. No other module starts MPI."""

import atexit
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossatlas import process
from lossatlas.errors import BadUsage, Stop, named
from lossatlas.launchers import launched, other_family
from lossatlas.mpi.rank_resources import core_limit, core_share, cores

if TYPE_CHECKING:
    from mpi4py import MPI

BLOCK_TAG, RESULT_TAG, ERROR_TAG, GONE_TAG = 1, 2, 3, 4  # tags of messages
MESSAGE_POLL = 0.0005  # seconds between checks for messages; a blocking wait of MPI would keep a core busy
ERROR_POLL = 0.2  # seconds between checks for errors of other ranks


class Communicator(Protocol):
    """A communicator of mpi4py, such as MPI.COMM_WORLD."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...


Ranks = Communicator | None  # of a script, every rank of which calls a function; None for one process


class WorkFailed(Stop):
    """Failure of another rank.

    Args:
        message: The message of that rank.
        code: Its exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class World:
    """The ranks of this run.

    Attributes:
        rank: The number of this process.
        size: The number of processes.
        local_rank: The number of this process among those on its host, which chooses its CUDA device.
        cores: The number of cores that belong to this process.
        comm: The MPI communicator; None for one process without MPI, and for one process of a script.
        everyone: The communicator of all processes of the launcher, where these ranks are some of them.
        note: A line for the user about how the ranks were joined.
        from_python: A user calls Python functions on the ranks, instead of a command. An error is then raised on every
            rank; the ranks of a command are ended.
        computing: The one thread of rank 0 for numerical work. A second thread that used OpenMP would have a second
            team of threads, and with more threads than cores OpenMP puts them to sleep between operations, which costs
            up to half of the speed. One process of a script computes in the thread that called.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    cores: int = 1
    comm: Any = None  # MPI.Comm | None
    everyone: Any = None  # MPI.Comm | None
    note: str = ""
    from_python: bool = False
    computing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), compare=False)

    @classmethod
    def of_communicator(cls, ranks: Ranks) -> "World":
        """Return the ranks of a user's communicator of mpi4py; one process for None.

        Raises:
            BadUsage: It is no communicator.
        """
        if ranks is None:
            return cls(from_python=True)
        try:
            rank, size = int(ranks.rank), int(ranks.size)
        except (AttributeError, TypeError):
            raise BadUsage(f"{named('ranks', ranks)}: give a communicator of mpi4py, such as MPI.COMM_WORLD") from None
        return cls(rank, size, comm=ranks if size > 1 else None, from_python=True)

    @property
    def root(self) -> bool:
        """True on rank 0, which reads, writes and hands out work."""
        return self.rank == 0

    @property
    def calling_thread(self) -> bool:
        """True where rank 0 computes in the thread that calls, see `computing`."""
        return self.from_python and self.size == 1

    def share(self, value: Any) -> Any:
        """Broadcast a value of rank 0 once every rank has called this. Data of numpy arrays are not pickled.

        Args:
            value: The value on rank 0; ignored on the others.

        Returns:
            The value of rank 0.

        Raises:
            WorkFailed: On rank 0, when another rank reports an error instead.
        """
        if self.comm is None or self.size == 1:
            return value
        self.wait(self.comm.Ibarrier())
        return pickle5_communicator(self.comm).bcast(value, root=0)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum the values of all ranks in float64.

        Args:
            values: An array of the same shape on every rank.

        Returns:
            The sum on rank 0; an undefined array on the others.

        Raises:
            WorkFailed: On rank 0, when another rank reports an error instead.
        """
        if self.comm is None or self.size == 1:
            return values
        own = np.ascontiguousarray(values, dtype=np.float64)
        result = np.empty_like(own)
        self.wait(self.comm.Ireduce(own, result if self.root else None, root=0))
        return result

    def wait(self, request: "MPI.Request") -> None:
        """Wait for a collective operation without keeping a core busy; rank 0 raises other ranks' errors meanwhile."""
        while not request.Test():
            if self.root:
                raise_reported(self)
            time.sleep(MESSAGE_POLL)

    def abort(self, code: int) -> None:
        """End every process of the launcher with this exit code; does nothing for a single one."""
        if self.size > 1 or self.everyone is not None:
            time.sleep(0.3)  # the launcher loses what it has not forwarded when it ends the ranks
            (self.everyone or self.comm).Abort(code)


def pickle5_communicator(comm: "MPI.Comm") -> "MPI.Comm":
    """Return a communicator that sends large arrays outside of the pickle."""
    from mpi4py.util import pkl5

    return pkl5.Intracomm(comm)


def connect(mpi: bool) -> World:
    """Join the ranks of the launcher, or run as one process.

    Launcher and library are compared by name before MPI starts, because MPI would end the process with a message of its
    own.

    Args:
        mpi: Join the ranks of a launcher.

    Returns:
        The ranks.

    Raises:
        BadUsage: Launcher and MPI library do not fit, or a launcher is there and `mpi` is not set.
    """
    expected = launched()
    if not mpi:
        if expected > 1:
            raise BadUsage(
                f"a launcher started {expected} processes, but {named('mpi')} is missing: each would do all the work"
            )
        return World(cores=core_share([cores()], core_limit()))
    try:
        library = mpi_library()
        if family := other_family(library):
            raise BadUsage(
                f"{named('mpi')}: {family}'s launcher started {expected} processes, but mpi4py uses {library}: "
                "use the mpirun that belongs to this library"
            )
        comm = world_communicator()
    except (ImportError, RuntimeError) as error:
        if expected > 1:
            raise BadUsage(
                f"{named('mpi')}: a launcher started {expected} processes, but mpi4py finds no MPI library "
                f"({' '.join(str(error).split())[:120]}): install mpi4py against the launcher's MPI"
            ) from error
        return World(
            cores=core_share([cores()], core_limit()),
            note=f"{named('mpi')}: no MPI library here, running as one process",
        )
    if comm.size != expected and expected > 1:
        raise BadUsage(
            f"{named('mpi')}: the launcher started {expected} processes, but the MPI library sees {comm.size} "
            f"({library}): use the mpirun that belongs to this library"
        )
    process.detach()
    process.rearm_signals()
    node = split_by_node(comm)
    neighbours = node.allgather(cores())
    own = [neighbours[node.rank], *neighbours[: node.rank], *neighbours[node.rank + 1 :]]
    return World(comm.rank, comm.size, node.rank, core_share(own, core_limit()), comm)


def mpi_library() -> str:
    """Load the MPI library without starting it, and return its name.

    Raises:
        ImportError: mpi4py is not installed.
        RuntimeError: mpi4py finds no library.
    """
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.initialize = False
    from mpi4py import MPI

    return MPI.Get_library_version().splitlines()[0][:60].strip()


def world_communicator() -> "MPI.Comm":
    """Start MPI unless it is running, to be ended with this process; return COMM_WORLD."""
    from mpi4py import MPI

    if not MPI.Is_initialized():
        process.allow_library_exit()
        MPI.Init_thread()
        atexit.register(finalize)
    return MPI.COMM_WORLD


def finalize() -> None:
    """End MPI, if it is still running."""
    from mpi4py import MPI

    if not MPI.Is_finalized():
        MPI.Finalize()


def split_by_node(comm: "MPI.Comm") -> "MPI.Comm":
    """Return the communicator of the ranks on this host."""
    from mpi4py import MPI

    return comm.Split_type(MPI.COMM_TYPE_SHARED)


def raise_reported(world: World) -> None:
    """Raise the error that another rank has sent, if any; called on rank 0.

    Raises:
        WorkFailed: With the message and the exit code of that rank.
    """
    if world.size == 1:
        return
    from mpi4py import MPI

    status = MPI.Status()
    if world.comm.Iprobe(MPI.ANY_SOURCE, ERROR_TAG, status):
        line, code = world.comm.recv(source=status.Get_source(), tag=ERROR_TAG)
        raise WorkFailed(f"rank {status.Get_source()}: {line}", code)
