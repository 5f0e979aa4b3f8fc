"""Run the body of a command on every rank: an error anywhere prints one line and ends every rank with its code."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossatlas import process
from lossatlas.errors import Incomplete, code_of, error_line, exit_code, underlying_signal
from lossatlas.io.lock import release_all
from lossatlas.launchers import first_launched, rank_launched
from lossatlas.mpi.communicator import World, connect
from lossatlas.mpi.scheduler import report_error

if TYPE_CHECKING:
    pass


def once(code: int) -> None:
    """Go on in the launcher's first process alone, which says what is wrong; the others end after it has."""
    if not first_launched():
        time.sleep(2)
        process.end_waiting_ranks(code)
        raise SystemExit(code)


def launch(mpi: bool, body: Callable[[World], int | None], log: Callable[[str], None] = lambda line: None) -> int:
    """Run a command's body on every rank. Whatever ends it anywhere prints one line and ends every rank with its code."""
    world = World()

    def body_of_this_rank() -> int | None:
        nonlocal world
        world = joined_ranks(mpi)
        try:
            return body(world)
        except BaseException as what:
            process.ignore_signals()
            error = underlying_signal(what)
            if not world.root:
                report_error(world, error)
            if isinstance(error, KeyboardInterrupt):
                raise Incomplete(f"{str(error) or 'interrupted'}: run the same command again to continue") from None
            raise

    code = exit_code(body_of_this_rank, lambda line: log(line) if world.root else None)
    process.ignore_signals()
    if code:
        release_all()
        world.abort(code)
        process.end_waiting_ranks(code)
    return code


def joined_ranks(mpi: bool) -> World:
    """The ranks, joined. Where every process finds the same error the first one says it, otherwise the one that cannot."""
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
