"""Options as a command line and as configuration files.

class ViewOptions(config.ShowOptions): ...          # a command inherits the groups of options that it takes
args = Parser(__doc__, ViewOptions).parse_args()    # a ViewOptions, from the command line and --config files
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from lossatlas import process, programs
from lossatlas.commands.config_files import read_config, written_config
from lossatlas.commands.figure_keywords import check_figures
from lossatlas.config.option_fields import Option, definitions
from lossatlas.errors import BadUsage, did_you_mean, option_names, printable
from lossatlas.mpi.launch import once

T = TypeVar("T")
ABOUT_CONFIG = (
    "read options from this YAML or JSON file, by their names without dashes; a later file overrides an earlier one, "
    "and the command line overrides all files (--no_NAME turns off a flag that a file turns on)"
)


class Parser(argparse.ArgumentParser, Generic[T]):
    """The command line of a dataclass of options. Wrong usage is printed once, not once per rank, as one line.

    Args:
        doc: The text above the list of options.
        options: The dataclass, of which `parse_args` makes an instance.
    """

    def __init__(self, doc: str | None, options: type[T]) -> None:
        super().__init__(
            programs.program(),
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self.options = options
        groups: dict[str, argparse._ArgumentGroup] = {}
        for each in definitions(options):
            if each.heading not in groups:
                groups[each.heading] = self.add_argument_group(each.heading)
            add_option(groups[each.heading], each)
        group = self.add_argument_group("configuration")
        group.add_argument("--config", action="append", metavar="FILE.yaml", help=ABOUT_CONFIG)
        group.add_argument(
            "--print_config", action="store_true", help="print all options as YAML, which --config accepts, and stop"
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> T:  # type: ignore[override]
        """Read the options from configuration files and from the command line, which overrides the files."""
        given = vars(super().parse_args(args))
        files, shown = given.pop("config", []), given.pop("print_config", False)
        known = definitions(self.options)
        try:
            with option_names():
                values: dict[str, Any] = {}
                for file in files:
                    values |= read_config(file, known)
                values |= {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
                if missing := [each for each in known if each.required and not values.get(each.field)]:
                    names = ", ".join("/".join(filter(None, (each.spelling, each.short))) for each in missing)
                    self.error(f"the following arguments are required: {names}")
                options = self.options(**values)
                check_figures(options)
        except BadUsage as error:
            self.refuse(printable(str(error)))
        if shown:
            once(0)
            process.detach()
            print(written_config(options), end="", flush=True)
            raise SystemExit(0)
        return options

    def error(self, message: str) -> NoReturn:
        """Refuse a command line with argparse's message, in one line and with a proposal for a misspelt word."""
        line = " ".join(message.encode(errors="backslashreplace").decode().split())
        if line.startswith("unrecognized arguments: --"):
            word = line.split()[2].partition("=")[0]
            names = [name.removeprefix("--") for name in self._option_string_actions]
            line += did_you_mean(word.removeprefix("--"), names, form="--{}".format)
        if chosen := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", line):
            line += did_you_mean(chosen[1], re.findall(r"[^', ]+", chosen[2]))
        if line.endswith("expected one argument"):  # argparse takes -1:1:51 for an option
            line += "; what begins with a minus is written with =, as in --x=-1:1:51"
        self.refuse(f"{line}; {programs.shell()} --help lists the options")

    def refuse(self, line: str) -> NoReturn:
        """Print why the command does not run, and end all ranks."""
        once(BadUsage.code)
        print(f"error: {line}", file=sys.stderr, flush=True)
        process.end_waiting_ranks(BadUsage.code)
        raise SystemExit(BadUsage.code)

    def format_help(self) -> str:
        return programs.in_own_words(super().format_help())

    def print_help(self, file: Any = None) -> None:
        process.detach()
        super().print_help(file)


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    """Render the definition of an option into argparse; earlier names, and --no_NAME, are valid but not listed."""
    text = option.explanation.replace("%", "%%")
    if option.positional:  # argparse reads and checks argparse.SUPPRESS where it is left out
        kind = typed(lambda given: given if given == argparse.SUPPRESS else option.one_of(given))
        metavar = option.metavar or option.field
        number = "*" if option.many else "?"  # a configuration file may give the values
        group.add_argument(option.field, nargs=number, metavar=metavar, help=text, type=kind)
        return
    settings: dict[str, Any] = {"dest": option.field, "action": "store_true"}
    reading: dict[str, Any] = {} if option.kind is str else {"type": typed(option.kind)}
    if not option.flag:
        settings = {"dest": option.field, "metavar": option.metavar or None, **reading}
        settings |= {"choices": option.choices} if option.choices else {}
        settings |= {"nargs": option.many} if option.many else {}
    group.add_argument(option.spelling, *([option.short] if option.short else []), help=text, **settings)
    for name in option.old:
        group.add_argument(f"--{name}", help=argparse.SUPPRESS, **settings)
    if option.flag:
        group.add_argument(f"--no_{option.name}", dest=option.field, action="store_false", help=argparse.SUPPRESS)


def typed(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the kind of a value, with errors as argparse prints them."""

    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
