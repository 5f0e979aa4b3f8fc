"""Collective steps of the ranks of a user's script: an error on one rank is raised on all of them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lossatlas.errors import BadInput, named, note
from lossatlas.landscape.plan import nearly_equal
from lossatlas.launchers import launched
from lossatlas.mpi.communicator import Ranks, World

T = TypeVar("T")


class FailedRank(RuntimeError):
    """Failure of another rank; the message names the rank and gives its error."""


def on_all(world: World, function: Callable[[], T]) -> T:
    """Call a function on every rank; where it fails on one rank, fail on all.

    Args:
        world: The ranks of the script.
        function: Called without arguments.

    Returns:
        The result of this rank.

    Raises:
        FailedRank: It failed on another rank. On the rank that failed its own error is raised.
    """
    if world.comm is None:
        return function()
    failure: BaseException | None = None
    try:
        result = function()
    except BaseException as error:
        failure = error
    failures = world.comm.allgather(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, line in enumerate(failures):
        if line is not None:
            raise FailedRank(f"rank {rank}: {line}")
    return result


def on_first(world: World, function: Callable[[], T]) -> T:
    """Call a function on rank 0 alone and return its result on every rank.

    Raises:
        FailedRank: As `on_all`.
    """
    result = on_all(world, lambda: function() if world.root else None)
    return from_first(world, result)


def from_first(world: World, value: Any) -> Any:
    """Return on every rank the value that rank 0 passes in."""
    return value if world.comm is None else world.comm.bcast(value, root=0)


def check_same_request(world: World, request: Mapping[str, Any]) -> None:
    """Compare the requests of all ranks.

    Args:
        world: The ranks of the script.
        request: The fields that identify the job, see `io.resume`.

    Raises:
        BadInput: On every rank, where the ranks were given different networks, data or options.
    """
    if world.comm is None:
        return
    requests = world.comm.allgather(dict(request))
    for rank, other in enumerate(requests):
        for name in dict.fromkeys((*requests[0], *other)):  # some names are there on one of the ranks alone
            mine, theirs = requests[0].get(name), other.get(name)
            if not nearly_equal(theirs, mine):
                raise BadInput(
                    f"rank {rank} has {name} = {theirs}, rank 0 {mine}: give every rank the same network, data (seed "
                    "them) and arguments"
                )


def script_world(ranks: Ranks) -> World:
    """Return the ranks of a script; warn where a launcher started several processes and there is no communicator.

    Args:
        ranks: A communicator of mpi4py, such as MPI.COMM_WORLD, or None for one process.

    Raises:
        BadUsage: It is no communicator.
    """
    if ranks is None and (started := launched()) > 1:
        note(
            f"a launcher started {started} processes, and each of them computes everything: share the work with "
            f"{named('ranks')}=MPI.COMM_WORLD (from mpi4py import MPI)"
        )
    return World.of_communicator(ranks)
