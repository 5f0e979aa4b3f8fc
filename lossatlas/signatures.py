"""Keywords of Python functions, checked against the signature: unknown names, and values of other types.

@checking_keywords
def f(x, *, count: int = 1, quick: bool = False): ...

f(1, cout=2)        # BadUsage: f() has no argument cout (did you mean count?)
f(1, count="2")     # BadUsage: count='2' is a text: give a whole number
f(1, quick="no")    # BadUsage: quick='no': give True or False
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np

from lossatlas.errors import KEYWORDS, BadUsage, did_you_mean, named

P = ParamSpec("P")
R = TypeVar("R")


def checking_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it checks its keywords, see `check_keywords`."""
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        check_keywords(function.__name__, parameters, keywords)
        return function(*arguments, **keywords)

    return checked


def check_keywords(function: str, parameters: Mapping[str, inspect.Parameter], keywords: Mapping[str, Any]) -> None:
    """Check that a function has keywords, and that their values are numbers, True or False where it takes these.

    Args:
        function: The name of the function.
        parameters: Its parameters.
        keywords: The keywords by name.

    Raises:
        BadUsage: A name is unknown, or a value is a text or anything else in the place of a number or a bool.
    """
    for name, value in keywords.items():
        if name not in parameters:
            raise BadUsage(f"{function}() has no argument {name}{suggestion(name, list(parameters))}")
        check_type(name, value, parameters[name].annotation)


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return a question for an argument of a similar name, or of the name of an option of the commands."""
    options = {**KEYWORDS, "xnorm": "norm", "ynorm": "norm", "xignore": "ignore", "yignore": "ignore"}
    meant = options[name] if options.get(name) in known else name
    return did_you_mean(meant, known) or f": it takes {', '.join(known)}"


def check_type(name: str, value: Any, annotation: Any) -> None:
    """Check a value whose type is a number or a bool; others are not checked.

    Args:
        name: The name of the argument.
        value: Its value.
        annotation: Its type.

    Raises:
        BadUsage: The value is none.
    """
    kinds = types_in(annotation)
    if (value is None and NoneType in kinds) or not any(kind in kinds for kind in (bool, int, float)):
        return
    what = f"{named(name)}=None" if value is None else named(name, value)
    if bool in kinds:
        if not isinstance(value, bool | np.bool_) and not (isinstance(value, Integral) and value in (0, 1)):
            raise BadUsage(f"{what}: give True or False")
        return
    several = next((get_args(kind) for kind in kinds if get_origin(kind) is tuple), ())
    each = value if several and isinstance(value, tuple | list) else (value,)
    if all(isinstance(one, Real) and not isinstance(one, bool) for one in each):
        return
    number = "a number" if float in kinds else "a whole number"
    more = f", or {len(several)} of them" if several else ""
    text = " is a text" if any(isinstance(one, str) for one in each) else ""
    raise BadUsage(f"{what}{text}: give {number}{more}")


def types_in(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union; another type alone.

    Example:
        >>> types_in(int | None), types_in(bool)
        ((<class 'int'>, <class 'NoneType'>), (<class 'bool'>,))
    """
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
