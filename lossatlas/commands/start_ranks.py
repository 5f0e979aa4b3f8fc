"""`--ranks`: run a command on several ranks of this machine, which it starts itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from lossatlas import process, programs
from lossatlas.errors import BadUsage, exit_code, named
from lossatlas.mpi.launch import once


class RankArguments(Protocol):
    """The options of a command that runs on several ranks: dataclasses that have config.RanksOptions."""

    @property
    def mpi(self) -> bool: ...

    @property
    def ranks(self) -> int | str | None: ...

    @property
    def cuda(self) -> bool: ...


Arguments = TypeVar("Arguments", bound=RankArguments)


def cuda_devices() -> int:
    """Return the number of CUDA devices that this process sees."""
    import torch

    return torch.cuda.device_count()


def on_local_ranks(module: str, args: Arguments, command: Sequence[str]) -> tuple[int | None, Arguments]:
    """Run a command on ranks of its own where --ranks asks for more than one.

    Args:
        module: The command's module in `lossatlas.commands`.
        args: Its options.
        command: Its arguments.

    Returns:
        The exit code of the ranks, None where this process is to do the work; and the options, with `cuda` where one
        device is used for each rank.
    """
    if args.ranks is None or programs.Started.typed:  # a rank that was started so does what every rank does
        return None, args
    count, cuda = 1, args.cuda or args.ranks == "gpus"

    def run() -> int:
        nonlocal count
        from lossatlas.mpi import local_ranks

        asked = named("ranks", args.ranks)
        if args.mpi:
            raise BadUsage(
                f"{asked} starts ranks of its own, {named('mpi')} joins those of a launcher: leave one of them out"
            )
        local_ranks.check_alone(asked)
        count = cuda_devices() if args.ranks == "gpus" else int(args.ranks or 1)
        if not count:
            raise BadUsage(f"{asked}: no CUDA device is visible here: give a number of ranks")
        if count == 1:
            return 0
        typed = programs.command_line(module, command)
        own = ["--mpi", *["--cuda"] * cuda, *without_ranks(command)]
        return local_ranks.run_local_ranks(
            count, [*programs.again(module), *own], typed, local_ranks.find_mpirun(asked)
        )

    once(BadUsage.code)  # under a launcher the first process says so
    code = exit_code(run)
    if code:
        process.end_waiting_ranks(code)
    if code or count > 1:
        return code, args
    return None, replace(args, cuda=cuda)  # type: ignore[type-var]


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
