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

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lossatlas import config
from lossatlas.commands import options
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.errors import exit_code, say
from lossatlas.mpi.communicator import World, connect, cores, mpi_library
from lossatlas.option_fields import changed


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


@dataclass(frozen=True)
class RankOptions:
    """The options of this command."""

    HEADING: ClassVar[str] = "run"

    mpi: bool = changed(config.RanksOptions, "mpi", help="join the ranks of mpirun")
    ranks: int | str | None = changed(config.RanksOptions, "ranks")
    cuda: bool = changed(config.DeviceOptions, "cuda", help="print which CUDA device each rank would use")


def parser() -> options.Parser[RankOptions]:
    return options.Parser(__doc__, RankOptions)


def run(args: RankOptions) -> None:
    world = connect(args.mpi)
    lines = [seen(world, args.cuda)] if world.comm is None else world.comm.gather(seen(world, args.cuda), root=0)
    if world.root:
        say(f"MPI library: {mpi_library()}" if world.comm is not None else "no MPI: one process")
        if world.note:
            say(f"note: {world.note}")
        for line in lines:
            say(line)


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("ranks", args, command)
    if code is not None:
        return code
    return exit_code(lambda: run(args))
