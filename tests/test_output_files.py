"""A finished file is complete, whether or not it can be drawn."""

import pytest

from lossatlas.errors import BadUsage, CannotWrite
from lossatlas.jobs.inputs.output_files import draw_if_possible


def failing(error):
    def draw():
        raise error

    return draw


def test_a_file_that_cannot_be_drawn_is_a_note(capsys):
    draw_if_possible(failing(BadUsage("a grid of one point")))
    assert capsys.readouterr().out == "note: not drawn: a grid of one point\n"


def test_a_file_that_can_be_drawn_is_drawn_once():
    drawn = []
    draw_if_possible(lambda: drawn.append(1))
    assert drawn == [1]


@pytest.mark.parametrize("error", [CannotWrite("the disk is full"), ValueError("a bug")])
def test_other_errors_of_drawing_are_raised(error):
    with pytest.raises(type(error), match=str(error)):
        draw_if_possible(failing(error))
