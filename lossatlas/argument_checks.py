"""Checks of arguments that every package shares: a word out of a few, and a number within limits."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import TypeGuard, overload

from lossatlas.choices import Word, is_word
from lossatlas.errors import BadUsage, did_you_mean, named


@overload
def checked_word(name: str, word: None, words: Sequence[Word]) -> None: ...


@overload
def checked_word(name: str, word: object, words: Sequence[Word]) -> Word: ...


def checked_word(name: str, word: object, words: Sequence[Word]) -> Word | None:
    """Return an argument after a check that it is one of some words; None is always allowed.

    Args:
        name: The name of the argument, as `errors.named` takes it.
        word: Its value.
        words: The words.

    Raises:
        BadUsage: It is another word.

    Example:
        >>> checked_word("look", "drk", ("paper", "dark"))
        Traceback (most recent call last):
        lossatlas.errors.BadUsage: look='drk' (did you mean dark?): choose from 'paper', 'dark'
    """
    if word is None or is_word(word, tuple(words)):
        return word
    allowed = ", ".join(repr(each) for each in words)
    raise BadUsage(f"{named(name, word)}{did_you_mean(word, words)}: choose from {allowed}")


def checked_number(
    name: str, value: object, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> float:
    """Return an argument after a check that it is a finite number within limits.

    Args:
        name: The name of the argument, as `errors.named` takes it.
        value: Its value; a number of Python or numpy.
        least: The smallest number that is allowed.
        above: A number that it has to be above.
        most: The largest number that is allowed.

    Raises:
        BadUsage: It is no such number.

    Example:
        >>> checked_number("depth", float("nan"), least=0)
        Traceback (most recent call last):
        lossatlas.errors.BadUsage: depth=nan: give a number, at least 0
    """
    limits = [
        *([f"at least {least:g}"] if least > -math.inf else []),
        *([f"above {above:g}"] if above > -math.inf else []),
        *([f"at most {most:g}"] if most < math.inf else []),
    ]
    if is_finite_number(value) and least <= (number := float(value)) <= most and number > above:
        return number
    raise BadUsage(f"{named(name, value)}: give a number{', ' * bool(limits)}{' and '.join(limits)}")


def is_finite_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number of Python or numpy; texts and truth values are none.

    Example:
        >>> is_finite_number(2.5), is_finite_number(True), is_finite_number("2.5"), is_finite_number(float("inf"))
        (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
