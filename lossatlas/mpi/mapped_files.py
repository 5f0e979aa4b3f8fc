"""Temporary files of rank 0 on every rank: mapped by the ranks of its host, one copy for the ranks of another host."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossatlas.io.scratch_files import MappedFile, new_file, open_file, temporary_folder
from lossatlas.mpi.communicator import World, split_by_node

if TYPE_CHECKING:
    from mpi4py import MPI

CHUNK = 1 << 26  # bytes of a message


def shared_files(world: World, files: Sequence[MappedFile], sizes: Sequence[int]) -> list[MappedFile]:
    """Return the files of rank 0 on every rank, all of which call this together.

    Args:
        world: The ranks.
        files: The files on rank 0; ignored on the others.
        sizes: The bytes of each file, the same on every rank.

    Raises:
        CannotWrite: The disk of another host lacks the space for a copy.
        WorkFailed: On rank 0, where another rank failed.
    """
    if world.comm is None or world.size == 1:
        return list(files)
    node = split_by_node(world.comm)
    leader = node.rank == 0
    held = list(files) if world.root else []
    leaders = world.comm.Split(0 if leader else 1, world.rank)
    held = copied(world, leaders, held, sizes) if leader else held
    places = node.bcast([file.place for file in held] if leader else None, root=0)
    if not leader:
        held = opened_files(places, sizes)
    node.Barrier()  # so that the first rank of this host keeps its files open until the others have opened them
    alone = not held and bool(sizes)  # a rank that cannot reach them, as in a container of its own
    if any(world.comm.allgather(alone)):
        senders = world.comm.Split(0 if world.root or alone else 1, world.rank)
        held = copied(world, senders, held, sizes, needed=alone)
    return held


def opened_files(places: Sequence[str], sizes: Sequence[int]) -> list[MappedFile]:
    """Map files of another process of this host; none of them where one cannot be reached."""
    try:
        return [open_file(place, size) for place, size in zip(places, sizes, strict=True)]
    except OSError:
        return []


def copied(
    world: World, comm: "MPI.Comm", files: Sequence[MappedFile], sizes: Sequence[int], *, needed: bool = True
) -> list[MappedFile]:
    """Return the files of the first rank of a communicator on all of its ranks.

    Args:
        world: The ranks.
        comm: The ranks that send and receive.
        files: The files of this rank so far.
        sizes: The bytes of each file.
        needed: This rank has no files yet; False returns those that it has.
    """
    held = list(files)
    if comm.size == 1 or (world.rank and not needed):
        return held
    for k, size in enumerate(sizes):
        own = held[k] if comm.rank == 0 else new_file(size, temporary_folder())
        for start in range(0, size, CHUNK):
            world.wait(comm.Ibcast(own.bytes[start : start + CHUNK], root=0))
        if comm.rank:
            held.append(own)
    return held
