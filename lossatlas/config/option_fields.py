"""Definition of an option as a field of a dataclass: its value, how it is read, and the text that explains it.

    @dataclass(frozen=True)
    class GridOptions:
        HEADING: ClassVar[str] = "grid"
        x: str = option("-1:1:51", "the x axis", metavar="MIN:MAX:NUM")
        xnorm: NormOrNone = option("", "normalization of the x direction")  # its type lists the words

    definitions(GridOptions)    # from which the command line, configuration files and the reference page are made

Classes inherit the options of others; `changed` gives one of them another default or help.
"""

import math
import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from lossatlas.choices import LOSS_NAMES, is_word
from lossatlas.errors import did_you_mean
from lossatlas.landscape.grid import shown
from lossatlas.user_code import is_user_function

MOST_DIGITS, MOST_THREADS, MOST_RANKS = 15, 1024, 4096  # of a whole number; of a rank; on one machine


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        help: One or two sentences; the default is appended where they do not mention it.
        kind: Reads and checks the text of a value; it raises ValueError.
        metavar: Name of the value in help texts.
        short: A second spelling of one letter, such as '-f'.
        old: Earlier names, which stay valid.
        many: '+' for one or more values, '*' for any number, '' for one.
        flag: The option takes no value; it is true where it is given.
        required: There is no default.
        positional: The command line gives the value without the name.
        field, name, heading, default, choices: Filled in by `definitions`: the field of the dataclass, the name of the
            option without dashes, the heading of the group, and the allowed values where the type of the field is a
            list of them; empty where `kind` decides alone.
    """

    help: str
    kind: Callable[[str], Any]
    metavar: str
    short: str
    old: tuple[str, ...]
    many: str
    flag: bool
    required: bool
    positional: bool
    name: str
    field: str = ""
    heading: str = ""
    default: Any = None
    choices: tuple[Any, ...] = ()

    @property
    def spelling(self) -> str:
        """The option as the command line writes it."""
        return (self.metavar or self.name) if self.positional else f"--{self.name}"

    @property
    def explanation(self) -> str:
        """The help text with the default and the earlier names."""
        parts = [self.help]
        given = self.default is not None and self.default is not False and self.default not in ("", ())
        if given and "default" not in self.help:
            parts.append(f"(default: {written(self.default)})")
        if self.old:
            parts.append(f"[also {', '.join(f'--{name}' for name in self.old)}]")
        return " ".join(parts)

    def value_of(self, given: Any) -> Any:
        """Check a value from a configuration file, in which every number is still text.

        Raises:
            ValueError: As `one_of`, a flag is not true or false, or a list is empty and must not be.
        """
        if given is None and self.default is None and not self.required:
            return None
        if self.flag:
            if not isinstance(given, bool):
                raise ValueError("give true or false")
            return given
        if self.many and isinstance(given, list):
            if not given and self.many == "+" and self.default != ():
                raise ValueError("the list is empty")
            return tuple(self.one_of(each) for each in given)
        return (self.one_of(given),) if self.many else self.one_of(given)

    def one_of(self, given: Any) -> Any:
        """Convert one value to the type of the option.

        Raises:
            ValueError: The value is no text, cannot be converted, or is none of the choices.
        """
        if not isinstance(given, str):
            raise ValueError("give a list of values" if self.many else "give one number or text")
        value = self.kind(given)
        if self.choices and value not in self.choices:
            meant = did_you_mean(value, map(str, self.choices)).strip()
            raise ValueError(f"choose from {', '.join(map(repr, self.choices))}" + (f" {meant}" if meant else ""))
        return value


def option(
    default: Any,
    help: str,
    *,
    kind: Callable[[str], Any] = str,
    metavar: str = "",
    short: str = "",
    old: tuple[str, ...] = (),
    many: str = "",
    name: str = "",
    required: bool = False,
    positional: bool = False,
) -> Any:
    """Define an option as the default of a dataclass field, see `Option`.

    Args:
        default: The default; False makes a flag.
        help: One or two sentences; the default is appended where they do not mention it.
        kind: Reads and checks the text of a value; it raises ValueError.
        metavar: Name of the value in help texts.
        short: A second spelling of one letter, such as '-f'.
        old: Earlier names, which stay valid.
        many: '+' for one or more values, '*' for any number, '' for one.
        name: Name of the option without dashes; '' for the name of the field.
        required: There is no default.
        positional: The command line gives the value without the name.

    Returns:
        The field.
    """
    flag = default is False
    made = Option(help, kind, metavar, short, old, many, flag, required, positional, name)
    return field(default=default, metadata={"option": made})


def changed(group: type, name: str, **changes: Any) -> Any:
    """Define the option `name` of another class with some of its attributes changed, `default` among them."""
    before: Field[Any] = group.__dict__["__dataclass_fields__"][name]
    default = changes.pop("default", before.default)
    return field(default=default, metadata={"option": replace(before.metadata["option"], **changes)})


def definitions(group: type) -> tuple[Option, ...]:
    """Return the options of a dataclass in the order in which its bases, and then the class itself, name them."""
    known = {each.name: each for each in fields(group) if "option" in each.metadata}
    return tuple(
        replace(
            made,
            field=name,
            name=made.name or name,
            heading=heading,
            default=known[name].default,
            choices=values_of(known[name].type),
        )
        for name, heading in headings(group).items()
        if (made := known[name].metadata["option"])
    )


def values_of(annotation: Any) -> tuple[Any, ...]:
    """Return the values that a type lists.

    Example:
        >>> values_of(Literal["a", "b"] | None), values_of(str | None)
        (('a', 'b'), ())
    """
    others = [part for part in get_args(annotation) if part is not NoneType]
    if get_origin(annotation) is not Literal and len(others) == 1:
        annotation = others[0]
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def headings(group: type) -> dict[str, str]:
    """Return the heading of each option, from the first class that defines it."""
    found: dict[str, str] = {}
    for base in group.__bases__:
        if is_dataclass(base):
            found = {**found, **{name: heading for name, heading in headings(base).items() if name not in found}}
    own = [each.name for each in fields(group) if "option" in each.metadata and each.name in vars(group)]
    return {**found, **{name: getattr(group, "HEADING", "") for name in own if name not in found}}


def resolved_options(options: Any) -> dict[str, Any]:
    """Return all options by name, as JSON and YAML hold them."""
    values = {each.name: getattr(options, each.field) for each in definitions(type(options))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def part(group: type, options: Any) -> Any:
    """Return the options of one group out of all options of a command."""
    return group(**{each.field: getattr(options, each.field) for each in definitions(group)})


def written(value: Any) -> str:
    """Write a default as the command line does."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


# Kinds of values ------------------------------------------------------------------------------------------------------


def is_whole(text: str) -> bool:
    """Return whether a text is a whole number of 0 or more that an array can be as large as."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def number_of_ranks(text: str) -> int | str:
    """Read a number of ranks, or 'gpus'.

    Raises:
        ValueError: The text is neither 'gpus' nor a whole number from 1 to MOST_RANKS.
    """
    if text == "gpus":
        return text
    if not is_whole(text) or not 1 <= int(text) <= MOST_RANKS:
        raise ValueError(f"'{shown(text)}' is no number of ranks from 1 to {MOST_RANKS}, and not gpus")
    return int(text)


def positive(text: str) -> int:
    if not is_whole(text) or int(text) < 1:
        raise ValueError(f"'{shown(text)}' is no positive whole number")
    return int(text)


def natural(text: str) -> int:
    if not is_whole(text):
        raise ValueError(f"'{shown(text)}' is no whole number of 0 or more")
    return int(text)


def whole(text: str) -> int:
    if not is_whole(text.removeprefix("-")):
        raise ValueError(f"'{shown(text)}' is no whole number")
    return int(text)


def threads(text: str) -> int:
    if natural(text) > MOST_THREADS:
        raise ValueError(f"{text} threads are more than {MOST_THREADS}")
    return int(text)


def finite(text: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: The text is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is no finite number")
    return value


def not_negative(text: str) -> float:
    value = finite(text)
    if value < 0:
        raise ValueError(f"'{text}' is negative")
    return value


def above_zero(text: str) -> float:
    value = finite(text)
    if value <= 0:
        raise ValueError(f"'{text}' is not above 0")
    return value


def share(text: str) -> float:
    """Read a number from 0 to 1.

    Raises:
        ValueError: The text is no number from 0 to 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"'{text}' is no number from 0 to 1")
    return value


def pattern(text: str) -> str:
    """Check a regular expression, and return it.

    Raises:
        ValueError: The text is no regular expression.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"'{text}' is no regular expression: {error}") from None
    return text


def loss_name(text: str) -> str:
    if not is_user_function(text) and not is_word(text, LOSS_NAMES):
        raise ValueError(f"invalid choice: '{text}' (choose from {', '.join(LOSS_NAMES)}, or give FILE.py:FUNCTION)")
    return text
