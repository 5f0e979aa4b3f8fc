"""Hands blocks of work to ranks and their results to rank 0: the only module that knows MPI.

    mpirun -n 4 python scheduler.py --mpi [--cuda]         as a command: what every rank sees

    world = connect(mpi=True)
    if world.root:
        for item in serve(world, blocks, make_work): ...    # rank 0, which computes as well
    else:
        follow(world, make_work)                            # every other rank

`make_work()` is called once on every rank, where it will compute, and gives the function from a block to a result.
Where all ranks work on one thing at a time, such as a sum over data that they share, rank 0 leads and the others answer.

Rank 0 computes in a thread of its own while its main thread talks to the other ranks and hands results on. Each
rank holds a block or two more than the one it computes, so nobody waits for an answer. One process without
MPI takes the same path.
"""

import guard

import argparse
import atexit
import math
import os
import queue
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.errors import BUG, BadUsage, Signalled, Stop, as_line, code_of, exit_code, say
from lossatlas.launchers import launched, other_family
from lossatlas.record.supply import Supply

BLOCK, RESULT, ERROR, GONE = 1, 2, 3, 4
POLL = 0.0005  # seconds between looks at the mailbox; a blocking wait of MPI would burn a core
EAR = 0.2  # seconds between looks for errors of other ranks
PATIENCE = 8.0  # seconds that a rank which failed gives rank 0 to save and to end everyone

Work = Callable[[Any], Any]
MakeWork = Callable[[], Work]


class WorkFailed(Stop):
    """Another rank could not go on; `code` and the message are that rank's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class World:
    """The ranks of this run. comm is the MPI communicator, None for one process without MPI.

    computing: rank 0's one thread for numerical work. A second thread that used OpenMP would have a second team of
    threads, and with more threads than cores OpenMP puts them to sleep between operations, which costs up to half of
    the speed.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    cores: int = 1
    comm: Any = None
    note: str = ""
    computing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), compare=False)

    @property
    def root(self) -> bool:
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """What rank 0 passes in, on every rank. Large numpy arrays travel without being copied into a pickle.

        Nobody sends before all are there. Raises WorkFailed on rank 0 when another rank reports an error instead.
        """
        if self.comm is None or self.size == 1:
            return value
        self.wait(self.comm.Ibarrier())
        return large(self.comm).bcast(value, root=0)

    def total(self, values: np.ndarray) -> np.ndarray:
        """On rank 0 the sum of every rank's values, in float64; what comes back elsewhere is not to be used.

        Raises WorkFailed on rank 0 when another rank reports an error instead.
        """
        if self.comm is None or self.size == 1:
            return values
        own = np.ascontiguousarray(values, dtype=np.float64)
        result = np.empty_like(own)
        self.wait(self.comm.Ireduce(own, result if self.root else None, root=0))
        return result

    def wait(self, request: Any) -> None:
        """For a collective operation, without burning a core; on rank 0 with an ear for errors."""
        while not request.Test():
            if self.root:
                raise_reported(self)
            time.sleep(POLL)

    def abort(self, code: int) -> None:
        """End every rank with this exit code; does nothing for a single rank."""
        if self.size > 1:
            time.sleep(0.3)  # the launcher loses what it has not forwarded when it ends the ranks
            self.comm.Abort(code)


def large(comm: Any) -> Any:
    from mpi4py.util import pkl5

    return pkl5.Intracomm(comm)


def connect(mpi: bool) -> World:
    """Join the ranks of the launcher, or run alone. Raises BadUsage when launcher and library do not fit.

    That they do not is found before MPI starts where their names tell, because MPI would end the process in its own words.
    """
    expected = launched()
    if not mpi:
        if expected > 1:
            raise BadUsage(f"a launcher started {expected} processes, but --mpi is missing: each would do all the work")
        return World(cores=core_share([cores()], core_limit()))
    try:
        library = mpi_library()
        if family := other_family(library):
            raise BadUsage(
                f"--mpi: {family}'s launcher started {expected} processes, but mpi4py uses {library}: "
                "use the mpirun that belongs to this library"
            )
        comm = world_communicator()
    except (ImportError, RuntimeError) as error:
        if expected > 1:
            raise BadUsage(
                f"--mpi: a launcher started {expected} processes, but mpi4py finds no MPI library "
                f"({' '.join(str(error).split())[:120]}): install mpi4py against the launcher's MPI"
            ) from error
        return World(
            cores=core_share([cores()], core_limit()), note="--mpi: no MPI library here, running as one process"
        )
    if comm.size != expected and expected > 1:
        raise BadUsage(
            f"--mpi: the launcher started {expected} processes, but the MPI library sees {comm.size} "
            f"({library}): use the mpirun that belongs to this library"
        )
    guard.apart()
    guard.listen_again()
    node = split_by_node(comm)
    neighbours = node.allgather(cores())
    own = [neighbours[node.rank], *neighbours[: node.rank], *neighbours[node.rank + 1 :]]
    return World(comm.rank, comm.size, node.rank, core_share(own, core_limit()), comm)


def mpi_library() -> str:
    """The name of the MPI library, which is loaded but not started. ImportError or RuntimeError where there is none."""
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.initialize = False
    from mpi4py import MPI

    return MPI.Get_library_version().splitlines()[0][:60].strip()


def world_communicator() -> Any:
    """COMM_WORLD of an MPI that is started now, if it is not yet, and ended when this process ends."""
    from mpi4py import MPI

    if not MPI.Is_initialized():
        guard.let_libraries_end()
        MPI.Init_thread()
        atexit.register(finalize)
    return MPI.COMM_WORLD


def finalize() -> None:
    from mpi4py import MPI

    if not MPI.Is_finalized():
        MPI.Finalize()


def split_by_node(comm: Any) -> Any:
    from mpi4py import MPI

    return comm.Split_type(MPI.COMM_TYPE_SHARED)


def cores() -> frozenset[int]:
    """The cores this process may run on."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def core_share(masks: Sequence[frozenset[int]], limit: float = math.inf) -> int:
    """How many cores belong to the first of the processes with these masks: a core is split among its users.

    limit: how many cores' time all of them may use together, where a container sets one.
    """
    share = sum(1 / sum(core in mask for mask in masks) for core in masks[0])
    return max(1, int(min(share, limit / len(masks)) + 1e-9))


def core_limit(root: str = "/sys/fs/cgroup") -> float:
    """The CPU quota of the container this runs in, in cores; infinite where there is none."""
    with suppress(OSError, ValueError):
        quota, period = Path(root, "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (Path(root, "cpu", f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if int(quota) < 0 else int(quota) / int(period)
    return math.inf


def serve(world: World, blocks: Supply, make_work: MakeWork) -> Iterator[tuple[int, Any] | None]:
    """On rank 0: yields (number of the block, result) as results arrive, in no particular order.

    Yields None now and then while nothing arrives. A block that rests on a result is there once the caller, who has got
    that result, asks for the next. Raises what the work raised, here or elsewhere (WorkFailed).
    """
    if not len(blocks):
        yield from dismiss(world)
        return
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    thread = world.computing.submit(compute, outbox, inbox, make_work)
    held, on_the_way = [0] * world.size, list[Any]()

    def post(item: Any, rank: int) -> Any:
        return world.comm.isend(item, dest=rank, tag=BLOCK)

    def refill() -> None:
        # Enough in hand to outlast a snapshot; near the end nobody hoards, because a block would wait behind a slow
        # rank's current one.
        while True:
            ahead = 3 if blocks.left > 4 * world.size else 2 if blocks.left > 2 * world.size else 1
            rank = held.index(min(held))
            if held[rank] >= ahead or (item := blocks.take()) is None:
                return
            held[rank] += 1
            if rank == 0:
                outbox.put(item)
            else:  # a large block waits for its receiver, who may be waiting for this rank to take a large result
                on_the_way[:] = [*(sent for sent in on_the_way if not sent.test()[0]), post(item, rank)]

    try:
        refill()
        while any(held):
            message = receive(world, inbox)
            if message is None:
                yield None
                continue
            rank, k, result = message
            held[rank] -= 1
            refill()  # before the caller, who may write a file
            yield k, result
            refill()
        for sent in on_the_way:  # they have arrived: what they gave is here
            sent.wait()
    finally:
        outbox.put(None)
    thread.result()
    yield from dismiss(world)


def computed(world: World, function: Callable[[], Any]) -> Any:
    """On rank 0: what a function gives in its one thread that computes. Raises WorkFailed when another rank fails."""
    with chdir("."):  # a user's code may go elsewhere
        return heard(world, world.computing.submit(function))


def heard(world: World, future: "Future[Any]") -> Any:
    while True:
        try:
            return future.result(timeout=EAR)
        except TimeoutError:
            if future.done():  # the function's own
                raise
            raise_reported(world)


def lead(world: World, calls: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """On rank 0: a function that calls calls[name](*arguments) on every rank at once and gives rank 0's result.

    It raises WorkFailed when another rank does not take part, or did not get through the call before.
    """

    def together(name: str, *arguments: Any) -> Any:
        world.share((name, arguments))
        return calls[name](*arguments)

    return together


def answer(world: World, make_calls: Callable[[], Mapping[str, Callable[..., Any]]]) -> None:
    """On the other ranks: take part in what rank 0 calls, until it shares None."""
    calls = make_calls()
    while (request := world.share(None)) is not None:
        name, arguments = request
        calls[name](*arguments)


def dismiss(world: World) -> Iterator[None]:
    """On rank 0: tell the other ranks that there is nothing left, and wait until each of them has said that it goes.

    Yields None now and then while they do not; a rank that never got a block may still be setting up. Raises WorkFailed.
    """
    for rank in range(1, world.size):
        world.comm.send(None, dest=rank, tag=BLOCK)
    for rank in range(1, world.size):
        while not world.comm.Iprobe(source=rank, tag=GONE):
            raise_reported(world)
            time.sleep(POLL)
            yield None
        world.comm.recv(source=rank, tag=GONE)


def raise_reported(world: World) -> None:
    """On rank 0: raise the error that another rank has sent, if any."""
    if world.size == 1:
        return
    from mpi4py import MPI

    status = MPI.Status()
    if world.comm.Iprobe(MPI.ANY_SOURCE, ERROR, status):
        line, code = world.comm.recv(source=status.Get_source(), tag=ERROR)
        raise WorkFailed(f"rank {status.Get_source()}: {line}", code)


def receive(world: World, inbox: "queue.SimpleQueue[Any]", patience: float = 0.2) -> tuple[int, int, Any] | None:
    """The next (rank, index, result), or None after `patience` seconds. Raises what a worker raised."""
    if world.size == 1:
        try:
            return unpack(0, inbox.get(timeout=patience))
        except queue.Empty:
            return None
    from mpi4py import MPI

    deadline = time.monotonic() + patience
    status = MPI.Status()
    while time.monotonic() < deadline:
        if not inbox.empty():
            return unpack(0, inbox.get())
        if world.comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            rank, tag = status.Get_source(), status.Get_tag()
            message = world.comm.recv(source=rank, tag=tag)
            if tag == ERROR:
                raise WorkFailed(f"rank {rank}: {message[0]}", message[1])
            return rank, *message
        time.sleep(POLL)
    return None


def unpack(rank: int, message: Any) -> tuple[int, int, Any]:
    if isinstance(message, BaseException):
        raise message
    return rank, *message


def compute(blocks: "queue.SimpleQueue[Any]", results: "queue.SimpleQueue[Any]", make_work: MakeWork) -> None:
    """The computing thread of rank 0."""
    try:
        work = make_work()
        while (item := blocks.get()) is not None:
            results.put((item[0], work(item[1])))
    except BaseException as error:  # travels to the main thread
        guard.end_if_forked(error)
        results.put(error)


def follow(world: World, make_work: MakeWork) -> None:
    """On the other ranks: compute the blocks that arrive until there are no more."""
    work = make_work()
    while (item := next_block(world)) is not None:
        world.comm.send((item[0], work(item[1])), dest=0, tag=RESULT)
    world.comm.send(None, dest=0, tag=GONE)


def hand_over(world: World, error: BaseException) -> None:
    """On the other ranks: tell rank 0, which saves what it has, reports the error, and ends everyone.

    If it cannot, the sender does.
    """
    line, code = str(error) if isinstance(error, Signalled) else as_line(error), code_of(error)
    if code == BUG:
        traceback.print_exception(error)
    world.comm.send((line, code), dest=0, tag=ERROR)
    time.sleep(PATIENCE)
    print(f"error: rank {world.rank}: {line}", file=sys.stderr, flush=True)
    world.abort(code)


def next_block(world: World) -> Any:
    while not world.comm.Iprobe(source=0, tag=BLOCK):
        time.sleep(POLL)
    return world.comm.recv(source=0, tag=BLOCK)


def seen(world: World, cuda: bool) -> str:
    """What this rank sees: host, place among the ranks, cores, device."""
    device = "cpu"
    if cuda:
        import torch

        count = torch.cuda.device_count()
        device = (
            f"cuda:{world.local_rank % count} of {count} ({torch.cuda.get_device_name(world.local_rank % count)})"
            if count
            else "no CUDA device"
        )
    return (
        f"rank {world.rank} of {world.size} on {socket.gethostname()}, number {world.local_rank} there: "
        f"{world.cores} of {len(cores())} cores, {device}"
    )


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mpi", "-m", action="store_true", help="join the ranks of mpirun")
    p.add_argument("--cuda", "-c", action="store_true", help="say which CUDA device each rank would use")
    return p


def run(args: argparse.Namespace) -> None:
    world = connect(args.mpi)
    lines = [seen(world, args.cuda)] if world.comm is None else world.comm.gather(seen(world, args.cuda), root=0)
    if world.root:
        say(f"MPI library: {mpi_library()}" if world.comm is not None else "no MPI: one process")
        if world.note:
            say(f"note: {world.note}")
        for line in lines:
            say(line)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    guard.run(main)
