"""Print the host, the cores and the device of every rank of a launcher.

    mpirun -n 4 python scheduler.py --mpi [--cuda]

The functions that distribute work to the ranks are in `lossatlas.mpi.scheduler`.
"""

import argparse
import socket
from collections.abc import Sequence

from lossatlas.errors import exit_code, say
from lossatlas.mpi.communicator import World, connect, cores, mpi_library


def describe_rank(world: World, *, cuda: bool) -> str:
    """Describe this rank: its number, host, cores and device."""
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
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
