"""Distribute blocks of work to the ranks, and collect their results on rank 0.

    world = connect(mpi=True)
    if world.root:
        for item in serve(world, blocks, make_work): ...    # rank 0, which computes as well
    else:
        follow(world, make_work)                            # every other rank

`make_work()` is called once on every rank, where it will compute, and returns the function from a block to a result.
Where all ranks take part in one operation at a time, such as a sum over distributed data, rank 0 calls `lead` and the
others `answer`.

Rank 0 computes in a thread of its own while its main thread exchanges messages with the other ranks. Each rank has one
or two blocks queued besides the one it computes, so that no rank waits for an answer. One process without MPI takes the
same path; a user's script on one process computes in the thread that calls.
"""

import queue
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import chdir
from typing import Any, TypeVar

from lossatlas import process
from lossatlas.errors import BUG, Signalled, code_of, error_line
from lossatlas.mpi.block_queue import BlockQueue
from lossatlas.mpi.communicator import (
    BLOCK_TAG,
    ERROR_POLL,
    ERROR_TAG,
    GONE_TAG,
    MESSAGE_POLL,
    RESULT_TAG,
    WorkFailed,
    World,
    raise_reported,
)

PATIENCE = 8.0  # seconds that rank 0 has to save and to end all ranks, before a failed rank does it
Work = Callable[[Any], Any]
T = TypeVar("T")
MakeWork = Callable[[], Work]


class Dismissal:
    """End of the work of the other ranks: each receives one None instead of a block, and says once that it is gone.

    Args:
        world: The ranks.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.announced = False
        self.waiting = set(range(1, world.size))

    def announce(self) -> None:
        """Tell the other ranks that there are no more blocks."""
        if not self.announced:
            self.announced = True
            for rank in self.waiting:
                self.world.comm.send(None, dest=rank, tag=BLOCK_TAG)

    def wait(self) -> Iterator[None]:
        """Wait until each rank is gone; yield None now and then. A rank without a block may still be setting up.

        Raises:
            WorkFailed: Another rank reports an error instead.
        """
        self.announce()
        while self.waiting:
            raise_reported(self.world)
            here = {rank for rank in self.waiting if self.world.comm.Iprobe(source=rank, tag=GONE_TAG)}
            for rank in here:
                self.world.comm.recv(source=rank, tag=GONE_TAG)
            self.waiting -= here
            if self.waiting:
                time.sleep(MESSAGE_POLL)
                yield None

    def after_an_error(self) -> None:
        """Let the other ranks finish their blocks and leave; results and errors that still arrive are dropped."""
        from mpi4py import MPI

        self.announce()
        status = MPI.Status()
        while self.waiting:
            if not self.world.comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
                time.sleep(MESSAGE_POLL)
                continue
            rank, tag = status.Get_source(), status.Get_tag()
            self.world.comm.recv(source=rank, tag=tag)
            if tag == GONE_TAG:
                self.waiting.discard(rank)


class Results:
    """The results of `serve`. Closing it ends the work of the other ranks of a script, even before the first result."""

    def __init__(self, dismissal: Dismissal, results: Generator[tuple[int, Any] | None, None, None]) -> None:
        self.dismissal, self.results = dismissal, results
        self.started = False

    def __iter__(self) -> "Results":
        return self

    def __next__(self) -> tuple[int, Any] | None:
        self.started = True
        return next(self.results)

    def close(self) -> None:
        """Stop early; nothing happens after the last result."""
        world = self.dismissal.world
        if not self.started and world.from_python and world.size > 1:
            self.dismissal.after_an_error()
        self.results.close()


def serve(world: World, blocks: BlockQueue, make_work: MakeWork) -> Results:
    """Compute all blocks, with all ranks; called on rank 0.

    Args:
        world: The ranks; the others call `follow`.
        blocks: The blocks. One that depends on a result is available once the caller, who has received that result,
            asks for the next.
        make_work: Gives the function from a block to its result.

    Returns:
        An iterator of (number of the block, result) as results arrive, in no particular order, and None now and then
        while none does.

    Raises:
        WorkFailed: Another rank failed. An error of this rank's own work is raised as it is. The ranks of a script have
            then left `follow`; those of a command wait to be ended.
    """
    dismissal = Dismissal(world)
    results = serve_alone(blocks, make_work) if world.calling_thread else served(world, blocks, make_work, dismissal)
    return Results(dismissal, results)


def served(
    world: World, blocks: BlockQueue, make_work: MakeWork, dismissal: Dismissal
) -> Generator[tuple[int, Any] | None, None, None]:
    """Yield the results of all ranks, and end the work of the other ranks.

    Args:
        world: The ranks; the others call `follow`.
        blocks: The blocks, see `serve`.
        make_work: Gives the function from a block to its result.
        dismissal: The end of the other ranks' work.

    Yields:
        (number of the block, result), and None now and then while no result arrives.

    Raises:
        WorkFailed: Another rank failed.
    """
    try:
        if len(blocks):
            yield from hand_out(world, blocks, make_work)
        yield from dismissal.wait()
    except BaseException:
        if world.from_python and world.size > 1:
            dismissal.after_an_error()
        raise


def serve_alone(blocks: BlockQueue, make_work: MakeWork) -> Generator[tuple[int, Any] | None, None, None]:
    """Compute all blocks in the calling thread."""
    if not len(blocks):
        return
    work = make_work()
    while (item := blocks.take()) is not None:
        yield item[0], work(item[1])


def hand_out(world: World, blocks: BlockQueue, make_work: MakeWork) -> Iterator[tuple[int, Any] | None]:
    """Exchange blocks for results, see `serve`, until every block that was handed out is back."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    thread = world.computing.submit(compute_blocks, outbox, inbox, make_work)
    outstanding, in_transit = [0] * world.size, list[Any]()

    def post(item: Any, rank: int) -> Any:
        return world.comm.isend(item, dest=rank, tag=BLOCK_TAG)

    def refill() -> None:
        # Several blocks for each rank cover the time that rank 0 takes to write a file. Near the end it is one, because
        # a queued block would wait for the current one of a slow rank.
        while True:
            ahead = 3 if blocks.left > 4 * world.size else 2 if blocks.left > 2 * world.size else 1
            rank = outstanding.index(min(outstanding))
            if outstanding[rank] >= ahead or (item := blocks.take()) is None:
                return
            outstanding[rank] += 1
            if rank == 0:
                outbox.put(item)
            else:  # not a blocking send: the receiver may be waiting for this rank to receive a large result
                in_transit[:] = [*(sent for sent in in_transit if not sent.test()[0]), post(item, rank)]

    try:
        refill()
        while any(outstanding):
            message = receive(world, inbox)
            if message is None:
                yield None
                continue
            rank, k, result = message
            outstanding[rank] -= 1
            refill()  # before the caller, who may write a file
            yield k, result
            refill()
        for sent in in_transit:  # complete: their results are here
            sent.wait()
    finally:
        outbox.put(None)
    thread.result()


def run_in_compute_thread(world: World, function: Callable[[], T]) -> T:
    """Run a function in the thread that computes; called on rank 0.

    Args:
        world: The ranks.
        function: Called without arguments.

    Returns:
        The result of the function.

    Raises:
        WorkFailed: Another rank fails meanwhile.
    """
    with chdir("."):  # a user's code may go elsewhere
        return function() if world.calling_thread else wait_for(world, world.computing.submit(function))


def wait_for(world: World, future: "Future[T]") -> T:
    """Return the result of the computing thread; raise WorkFailed when another rank fails meanwhile."""
    while True:
        try:
            return future.result(timeout=ERROR_POLL)
        except TimeoutError:
            if future.done():  # just now, or the error is the function's own
                return future.result()
            raise_reported(world)


def lead(world: World, calls: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Make functions callable on all ranks at once; called on rank 0.

    Args:
        world: The ranks; the others call `answer`.
        calls: The functions of this rank by name.

    Returns:
        A function of (name, *arguments) that calls calls[name](*arguments) on every rank and returns the result of rank
        0. It raises WorkFailed when another rank fails, or has failed in the call before.
    """

    def together(name: str, *arguments: Any) -> Any:
        world.share((name, arguments))
        return calls[name](*arguments)

    return together


def answer(world: World, make_calls: Callable[[], Mapping[str, Callable[..., Any]]]) -> None:
    """Call the functions that rank 0 names, until it shares None; called on the other ranks.

    Args:
        world: The ranks.
        make_calls: Returns the functions of this rank by name.
    """
    calls = make_calls()
    while (request := world.share(None)) is not None:
        name, arguments = request
        calls[name](*arguments)


def receive(world: World, inbox: "queue.SimpleQueue[Any]", patience: float = 0.2) -> tuple[int, int, Any] | None:
    """Receive the next result.

    Args:
        world: The ranks.
        inbox: Results of this rank's computing thread.
        patience: Seconds to wait.

    Returns:
        (rank, number of the block, result), or None where none has arrived in time.

    Raises:
        WorkFailed: Another rank failed. An error of this rank's thread is raised as it is.
    """
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
            if tag == ERROR_TAG:
                raise WorkFailed(f"rank {rank}: {message[0]}", message[1])
            return rank, *message
        time.sleep(MESSAGE_POLL)
    return None


def unpack(rank: int, message: Any) -> tuple[int, int, Any]:
    """Return (rank, number of the block, result), or raise the error that came instead."""
    if isinstance(message, BaseException):
        raise message
    return rank, *message


def compute_blocks(blocks: "queue.SimpleQueue[Any]", results: "queue.SimpleQueue[Any]", make_work: MakeWork) -> None:
    """Compute blocks until None arrives: the body of rank 0's computing thread."""
    try:
        work = make_work()
        while (item := blocks.get()) is not None:
            results.put((item[0], work(item[1])))
    except BaseException as error:  # travels to the main thread
        process.end_if_forked(error)
        results.put(error)


def follow(world: World, make_work: MakeWork) -> None:
    """Compute the blocks that arrive until there are no more, or rank 0 has failed; called on the other ranks.

    Args:
        world: The ranks; rank 0 calls `serve`.
        make_work: Gives the function from a block to its result.

    Raises:
        BaseException: The error of the work. In a script rank 0 has received it; in a command `send_error` sends it.
    """
    try:
        work = make_work()
        while (item := next_block(world)) is not None:
            world.comm.send((item[0], work(item[1])), dest=0, tag=RESULT_TAG)
    except BaseException as error:
        if world.from_python:
            world.comm.send((error_line(error), code_of(error)), dest=0, tag=ERROR_TAG)
            while next_block(world) is not None:
                pass
            world.comm.send(None, dest=0, tag=GONE_TAG)
        raise
    world.comm.send(None, dest=0, tag=GONE_TAG)


def send_error(world: World, error: BaseException) -> None:
    """Send an error to rank 0, which saves its results, prints the error and ends all ranks; called on the others.

    If rank 0 does not within PATIENCE seconds, this rank does.

    Args:
        world: The ranks.
        error: The error.
    """
    line, code = str(error) if isinstance(error, Signalled) else error_line(error), code_of(error)
    if code == BUG:
        traceback.print_exception(error)
    world.comm.send((line, code), dest=0, tag=ERROR_TAG)
    time.sleep(PATIENCE)
    print(f"error: rank {world.rank}: {line}", file=sys.stderr, flush=True)
    world.abort(code)


def next_block(world: World) -> Any:
    """Wait for the next block from rank 0; None when there are no more."""
    while not world.comm.Iprobe(source=0, tag=BLOCK_TAG):
        time.sleep(MESSAGE_POLL)
    return world.comm.recv(source=0, tag=BLOCK_TAG)
