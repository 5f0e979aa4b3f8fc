"""Groups of ranks that share one network, each with a part of its weights: `--ranks_per_model`.

The first rank of a group leads it: among the leaders it takes blocks of the grid as a rank with its own network does.
The others do what their leader asks for, see `models.spread_networks`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from lossatlas.errors import BadUsage, named
from lossatlas.mpi.communicator import World, split_by_node


@dataclass(frozen=True)
class ModelGroup:
    """The group of this rank.

    Attributes:
        ranks: Its ranks; the first leads.
        cuda: Each rank has a CUDA device.
        threads: CPU threads of each rank; 0 for its share of the cores.
        current: The group of this process; None where every rank has its own network.
    """

    ranks: World
    cuda: bool
    threads: int
    current: ClassVar["ModelGroup | None"] = None


def join_group(world: World, size: int, *, cuda: bool, threads: int) -> World:
    """Put this rank into a group, which is `ModelGroup.current` then.

    Args:
        world: All ranks.
        size: The ranks of each group.
        cuda: Each rank has a CUDA device.
        threads: CPU threads of each rank; 0 for its share of the cores.

    Returns:
        On a leader the leaders of all groups, on another rank its group.

    Raises:
        BadUsage: The ranks do not make whole groups, or a group would lie on several hosts.
    """
    asked = named("ranks_per_model", size)
    if world.comm is None or world.size % size:
        raise BadUsage(f"{asked}: there are {world.size} ranks: start a multiple of {size}")
    everyone = world.comm
    comm = everyone.Split(world.rank // size, world.rank)
    group = replace(world, rank=comm.rank, size=size, comm=comm, everyone=everyone)
    if any(everyone.allgather(split_by_node(comm).size != size)):
        raise BadUsage(f"{asked}: the ranks of a group have to be on one host: start a multiple of {size} on each host")
    ModelGroup.current = ModelGroup(group, cuda, threads)
    leaders = everyone.Split(0 if group.root else 1, world.rank)
    if not group.root:
        return group
    return replace(world, rank=leaders.rank, size=leaders.size, comm=leaders, everyone=everyone)
