"""Work that ranks do in step, as in a script of a user's: every rank calls the same functions, rank 0 gets the results.

ranks: a communicator of mpi4py, or None for one process. What fails on one rank fails on all of them.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lossatlas.errors import BadInput, note
from lossatlas.io.block_queue import BlockQueue
from lossatlas.io.resume import equal
from lossatlas.launchers import launched


class FailedRank(RuntimeError):
    """A rank failed; raised on all of them."""


def agreed(ranks: Any, function: Callable[[], Any]) -> Any:
    """What a function gives on each rank; where it fails on one, it fails on all of them."""
    if size_of(ranks) == 1:
        return function()
    failure, result = None, None
    try:
        result = function()
    except BaseException as error:
        failure = error
    failures = ranks.allgather(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, line in enumerate(failures):
        if line is not None:
            raise FailedRank(f"rank {rank}: {line}")
    return result


def agree_on(ranks: Any, request: Mapping[str, Any]) -> None:
    """Raise BadInput on every rank where they are asked for different things."""
    if size_of(ranks) == 1:
        return
    everyones = ranks.allgather(dict(request))
    for rank, other in enumerate(everyones):
        for name, value in everyones[0].items():
            if not equal(other.get(name), value):
                raise BadInput(
                    f"rank {rank} has {name} = {other.get(name)}, rank 0 {value}: give every rank the same network "
                    "and data (seed them)"
                )


def first_alone(ranks: Any, function: Callable[[], Any]) -> Any:
    """What a function gives on rank 0, on every rank."""
    return from_first(ranks, agreed(ranks, lambda: function() if leads(ranks) else None))


def end_all(ranks: Any, error: BaseException) -> None:
    """End every rank, because the others wait for this one: a communicator of mpi4py can."""
    traceback.print_exception(error)
    sys.stderr.flush()
    time.sleep(0.3)  # the launcher loses what it has not forwarded
    ranks.Abort(1)


def rounds(ranks: Any, blocks: BlockQueue | None, work: Any) -> Iterator[tuple[int, Any] | None]:
    """A block for each rank, then the next; rank 0 has the blocks and gets the results.

    An error on any rank is raised on all of them.
    """
    size = size_of(ranks)
    if size == 1:
        assert blocks is not None
        while (item := blocks.take()) is not None:
            yield item[0], work(item[1])
        return
    while True:
        items = [blocks.take() for _ in range(size)] if blocks is not None else None
        mine = ranks.scatter(items if items is None or any(items) else [END] * size, root=0)
        if mine == END:
            return
        result = agreed(ranks, lambda: work(mine[1]) if mine is not None else None)  # noqa: B023
        results = ranks.gather(result, root=0)
        for item, found in zip(items or (), results or (), strict=True):
            if item is not None:
                yield item[0], found


END = "no block is left"


def size_of(ranks: Any) -> int:
    return 1 if ranks is None else int(ranks.size)


def rank_of(ranks: Any) -> int:
    return 0 if ranks is None else int(ranks.rank)


def leads(ranks: Any) -> bool:
    return rank_of(ranks) == 0


def from_first(ranks: Any, value: Any) -> Any:
    """What rank 0 passes in, on every rank."""
    return value if ranks is None else ranks.bcast(value, root=0)


def warn_of_launcher(ranks: Any) -> None:
    if ranks is None and (started := launched()) > 1:
        note(
            f"a launcher started {started} processes, and each of them computes everything: share the work with "
            "ranks=MPI.COMM_WORLD (from mpi4py import MPI)"
        )
