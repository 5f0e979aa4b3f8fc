"""Run the body of a command on every rank. An error on any rank prints one line and ends every rank with its code."""

import sys
import time
from collections.abc import Callable

from lossatlas import process
from lossatlas.errors import Incomplete, code_of, error_line, exit_code, underlying_signal
from lossatlas.io.lock import release_all
from lossatlas.launchers import first_launched, rank_launched
from lossatlas.mpi.communicator import World, connect
from lossatlas.mpi.scheduler import send_error


def once(code: int) -> None:
    """End every process but the launcher's first one, which returns, so that one process alone prints the error.

    Args:
        code: Exit code of the other processes, which wait two seconds for the message before they end.

    Raises:
        SystemExit: In the other processes.
    """
    if not first_launched():
        time.sleep(2)
        process.end_waiting_ranks(code)
        raise SystemExit(code)


def launch(
    mpi: bool,
    body: Callable[[World], int | None],
    log: Callable[[str], None] = lambda line: None,
    join: Callable[[World], World] = lambda world: world,
) -> int:
    """Run a command's body on every rank.

    Args:
        mpi: Join the ranks of a launcher.
        body: Called with the ranks; returns an exit code, or None for success.
        log: Called on rank 0 with the line of an error.
        join: Returns the ranks that this one works with, of all of them.

    Returns:
        The exit code. Where it is not 0 under a launcher, every rank has been ended with it.
    """
    world = World()

    def body_of_this_rank() -> int | None:
        nonlocal world
        world = joined_ranks(mpi)
        try:
            world = join(world)
            return body(world)
        except BaseException as raised:
            process.ignore_signals()
            error = underlying_signal(raised)
            if not world.root:
                send_error(world, error)
            if isinstance(error, KeyboardInterrupt):
                raise Incomplete(f"{str(error) or 'interrupted'}: {process.how_to_continue()}") from None
            raise

    code = exit_code(body_of_this_rank, lambda line: log(line) if world.root else None)
    process.ignore_signals()
    if code:
        release_all()
        world.abort(code)
        process.end_waiting_ranks(code)
    return code


def joined_ranks(mpi: bool) -> World:
    """Join the ranks. The first process prints an error that all find, any other one the process that finds it."""
    try:
        return connect(mpi)
    except BaseException as error:
        process.ignore_signals()
        if not first_launched():
            time.sleep(2)  # by then the first has ended everyone, if it found the same
            first = underlying_signal(error)
            print(f"error: rank {rank_launched()}: {error_line(first)}", file=sys.stderr, flush=True)
            process.end_waiting_ranks(code_of(first))
        raise
