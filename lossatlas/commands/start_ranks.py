"""`--ranks`: run a command on several ranks of this machine, which it starts itself."""

import argparse
from collections.abc import Sequence

from lossatlas import process, programs
from lossatlas.errors import BadUsage, exit_code
from lossatlas.mpi.launch import once


def ranks(text: str) -> int | str:
    """Parse the value of --ranks: a number, or 'gpus'."""
    if text == "gpus":
        return text
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of ranks from 1 to 4096, and not gpus")
    return int(text)


def add_local_ranks(g: argparse._ActionsContainer) -> None:
    """Add --ranks to a command that has --mpi and --cuda."""
    g.add_argument(
        "--ranks",
        type=ranks,
        metavar="N",
        help="start N ranks on this machine; gpus: one for each CUDA device, with --cuda (instead of mpirun and --mpi)",
    )


def cuda_devices() -> int:
    """Return the number of CUDA devices that this process sees."""
    import torch

    return torch.cuda.device_count()


def on_local_ranks(module: str, args: argparse.Namespace, command: Sequence[str]) -> int | None:
    """Run a command on ranks of its own where --ranks asks for more than one.

    Args:
        module: The command's module in `lossatlas.commands`.
        args: What its parser made of the command; `cuda` is set where one device is used for each rank.
        command: Its arguments.

    Returns:
        The exit code of the ranks; None where this process is to do the work.
    """
    if args.ranks is None or programs.Started.typed:  # a rank that was started so does what every rank does
        return None
    count = 1

    def run() -> int:
        nonlocal count
        from lossatlas.mpi import local_ranks

        asked = f"--ranks {args.ranks}"
        if args.mpi:
            raise BadUsage(f"{asked} starts ranks of its own, --mpi joins those of a launcher: leave one of them out")
        local_ranks.check_alone(asked)
        count = cuda_devices() if args.ranks == "gpus" else args.ranks
        if not count:
            raise BadUsage(f"{asked}: no CUDA device is visible here: give a number of ranks")
        args.cuda = args.cuda or args.ranks == "gpus"
        if count == 1:
            return 0
        typed = programs.command_line(module, command)
        own = ["--mpi", *["--cuda"] * args.cuda, *without_ranks(command)]
        return local_ranks.run_local_ranks(
            count, [*programs.again(module), *own], typed, local_ranks.find_mpirun(asked)
        )

    once(BadUsage.code)  # under a launcher the first process says so
    code = exit_code(run)
    if code:
        process.end_waiting_ranks(code)
    return code if code or count > 1 else None


def without_ranks(command: Sequence[str]) -> list[str]:
    """Return the arguments without --ranks and its value."""
    left: list[str] = []
    words = iter(command)
    for word in words:
        if word == "--ranks":
            next(words, None)
        elif not word.startswith("--ranks="):
            left.append(word)
    return left
