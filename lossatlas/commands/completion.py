"""Print a script with which a shell completes the names of commands, their options and their choices.

lossatlas completion bash > ~/.local/share/bash-completion/completions/lossatlas
lossatlas completion zsh > ~/.zfunc/_lossatlas                                       a folder in $fpath
lossatlas completion fish > ~/.config/fish/completions/lossatlas.fish

Print it again after an update. shtab writes it: pip install lossatlas[completion].
"""

# shtab, because its script is static: a TAB starts no Python (argcomplete: 0.2 to 0.4 s for each), and the program
# itself has nothing to do with it.

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar, Literal

from lossatlas import programs
from lossatlas.commands import options
from lossatlas.config.option_fields import definitions, option
from lossatlas.errors import BadUsage, exit_code

Shell = Literal["bash", "zsh", "fish"]


@dataclass(frozen=True)
class CompletionOptions:
    """The shell whose script is printed."""

    HEADING: ClassVar[str] = "output"

    shell: Shell = option("", "the shell that reads the script", positional=True, required=True)


def parser() -> options.Parser[CompletionOptions]:
    return options.Parser(__doc__, CompletionOptions)


def whole_parser() -> argparse.ArgumentParser:
    """Return a parser of the whole program, with every command as a subparser."""
    whole = argparse.ArgumentParser(programs.PROGRAM)
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(dest="command")
    for name, command in programs.COMMANDS.items():
        own = import_module(f"lossatlas.commands.{command.module}").parser()
        choices = {each.field: each.choices for each in definitions(own.options) if each.positional and each.choices}
        for action in own._actions:  # argparse checks these by their type, which shtab cannot see
            action.choices = choices.get(action.dest, action.choices)
        commands.add_parser(name, parents=[own], add_help=False, help=command.summary)
    return whole


def completion_script(shell: Shell) -> str:
    """Return the completion script of a shell.

    Raises:
        BadUsage: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise BadUsage("shtab writes these scripts, and is not installed: pip install lossatlas[completion]") from error
    whole = whole_parser()
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for each in commands.choices.values():
        for action in each._actions:
            if action.nargs != 0 and action.choices is None and action.type is None:  # may be a file's name
                action.complete = shtab.FILE
    return str(shtab.complete(whole, shell))


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: print(completion_script(args.shell)))
