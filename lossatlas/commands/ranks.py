"""Print the host, the cores and the device of every rank of a launcher.

    mpirun -n 4 python scheduler.py --mpi [--cuda]

The functions that distribute work to the ranks are in `lossatlas.mpi.scheduler`.
"""

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lossatlas import config
from lossatlas.commands import options
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.config.option_fields import changed
from lossatlas.errors import exit_code, say
from lossatlas.mpi.communicator import World, connect, mpi_library
from lossatlas.mpi.rank_resources import cores, device_of


def describe_rank(world: World, *, cuda: bool) -> str:
    """Describe this rank: its number, host, cores and device."""
    device = "cpu"
    if cuda:
        import torch

        count = torch.cuda.device_count()
        own = device_of(True, local_rank=world.local_rank) if count else ""
        device = f"{own} of {count} ({torch.cuda.get_device_name(own)})" if own else "no CUDA device"
    return (
        f"rank {world.rank} of {world.size} on {socket.gethostname()}, number {world.local_rank} there: "
        f"{world.cores} of {len(cores())} cores, {device}"
    )


@dataclass(frozen=True)
class RankOptions:
    """The ranks to start or to join, and whether each works on a CUDA device."""

    HEADING: ClassVar[str] = "run"

    mpi: bool = changed(config.RanksOptions, "mpi", help="join the ranks of mpirun")
    ranks: int | str | None = changed(config.RanksOptions, "ranks")
    cuda: bool = changed(config.DeviceOptions, "cuda", help="print which CUDA device each rank would use")


def parser() -> options.Parser[RankOptions]:
    return options.Parser(__doc__, RankOptions)


def run(args: RankOptions) -> None:
    """Print a line for each rank, on rank 0."""
    world = connect(args.mpi)
    own = describe_rank(world, cuda=args.cuda)
    lines = [own] if world.comm is None else world.comm.gather(own, root=0)
    if world.root:
        say(f"MPI library: {mpi_library()}" if world.comm is not None else "no MPI: one process")
        if world.note:
            say(f"note: {world.note}")
        for line in lines:
            say(line)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("ranks", args, command)
    if code is not None:
        return code
    return exit_code(lambda: run(args))
