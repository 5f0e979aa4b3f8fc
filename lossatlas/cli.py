"""The program `lossatlas NAME ...`, also as `python -m lossatlas NAME ...`, and the scripts at the root of a clone.

All of them come through `start`: signals and exits are guarded from the first moment on, before anything heavy is
imported (see `process`), and the names in messages are those that the user typed (see `programs`).
"""

import sys
from importlib import import_module
from typing import NoReturn

from lossatlas import __version__, process
from lossatlas.errors import did_you_mean
from lossatlas.launchers import first_launched
from lossatlas.programs import COMMANDS, PROGRAM, SCRIPT, Started, find_command, register_local_rank


def script(module: str) -> NoReturn:
    """Run a command as the program, from a script at the root of a clone.

    Args:
        module: Its module in `lossatlas.commands`.
    """
    start(find_command(module), SCRIPT, sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1], sys.argv[1:])


def main(by: str = PROGRAM) -> NoReturn:
    """Run the command that the first argument names, as the program.

    Args:
        by: The words before the command's name: `programs.PROGRAM` or `programs.MODULE`.
    """
    words = sys.argv[1:]
    name = find_command(words[0]) if words else ""
    if not name:
        process.arm()
        process.run(lambda: without_command(words, by))
    start(name, by, [*sys.orig_argv[: len(sys.orig_argv) - len(words)], name], words[1:])


def start(name: str, by: str, prefix: list[str], arguments: list[str]) -> NoReturn:
    """Arm this process, and run a command in it to the end.

    Args:
        name: Of the command, in `programs.COMMANDS`.
        by: How the user started it: `programs.PROGRAM`, `MODULE` or `SCRIPT`.
        prefix: Words that start the same command again in another process.
        arguments: The words after the command's name.
    """
    process.arm()
    register_local_rank()
    Started.by, Started.name, Started.prefix = by, name, [sys.executable, *prefix[1:]]
    if by != SCRIPT:
        sys.argv = [f"{by} {name}", *arguments]
    command = COMMANDS[name]
    process.run(lambda: import_module(f"lossatlas.commands.{command.module}").main([*arguments, *command.options]))


def without_command(words: list[str], by: str) -> int:
    """Answer --help and --version, or say in one line what is wrong, on the launcher's first process alone.

    Args:
        words: The arguments, whose first one names no command.
        by: As of `main`.

    Returns:
        The exit code.
    """
    process.detach()
    if words[:1] in (["--help"], ["-h"], ["help"]):
        print(table_of_commands(by))
    elif words[:1] == ["--version"]:
        print(f"lossatlas {__version__}")
    else:
        if first_launched():
            print(f"error: {wrong(words)}; {by} --help lists the commands", file=sys.stderr)
        return 2
    return 0


def table_of_commands(by: str) -> str:
    """Return the help text: every command with one line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {by} NAME ...",
            "",
            "Loss landscapes of neural networks: surfaces, curvature, paths of training.",
            "",
            *lines,
            "",
            f"{by} NAME --help lists the options of a command; {by} --version prints the version.",
            "The file names of the scripts, such as plot_surface.py, are names too.",
        ]
    )


def wrong(words: list[str]) -> str:
    """Say what is wrong with arguments that name no command, with the nearest names."""
    if not words:
        return "name a command"
    known = {word: name for name, each in COMMANDS.items() for word in (each.module.lower(), name)}
    meant = did_you_mean(words[0].lower(), known, form=known.__getitem__, most=3, similarity=0.7)
    return f"'{words[0]}' is no command{meant}"
