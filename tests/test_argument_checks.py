"""Checks of words and numbers, one rule for every function."""

import numpy as np
import pytest

import lossatlas
from lossatlas import figures
from lossatlas.argument_checks import checked_number, checked_word
from lossatlas.errors import BadUsage

SURFACE = "docs/surfaces/resnet56_fashion.h5"


@pytest.mark.parametrize(
    ("limits", "good", "wrong"),
    [
        ({}, (0, -2.5, np.float32(3), np.int64(4)), ("5", None, True, float("nan"), float("inf"), [1])),
        ({"least": 0}, (0, 0.0, 7), (-1e-9, float("-inf"))),
        ({"above": 0, "most": 1}, (1e-9, 1), (0, -1, 1.1)),
    ],
)
def test_numbers_within_limits(limits, good, wrong):
    for value in good:
        assert checked_number("it", value, **limits) == value
    for value in wrong:
        with pytest.raises(BadUsage, match=r"^it=.*: give a number|^it: give a number"):
            checked_number("it", value, **limits)


def test_words():
    assert checked_word("it", None, ("a", "b")) is None
    assert checked_word("it", "b", ("a", "b")) == "b"
    for wrong in ("c", "", 1, ["a"]):
        with pytest.raises(BadUsage, match=r"^it=.*: choose from 'a', 'b'$"):
            checked_word("it", wrong, ("a", "b"))


@pytest.mark.parametrize("wrong", [-1, float("nan"), "0.5", True, [1.0]])
def test_numeric_arguments_of_methods(wrong):
    surface = lossatlas.read(SURFACE)
    with pytest.raises(BadUsage, match=r"^depth=.*: give a number, at least 0$"):
        surface.minima(depth=wrong)
    with pytest.raises(BadUsage, match=r"^within=.*: give a number, above 0$"):
        surface.flatness(within=wrong)
    with pytest.raises(BadUsage, match=r"^vmin="):
        figures.contour(surface, vmin=wrong if not isinstance(wrong, int) or wrong is True else "x")
