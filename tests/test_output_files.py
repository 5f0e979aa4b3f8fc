"""What a job does with its output files before and after it computes."""

import pytest

from lossatlas.errors import BadInput, CannotWrite
from lossatlas.jobs.inputs.output_files import draw_if_possible


def raising(error: Exception):
    def draw() -> None:
        raise error

    return draw


def test_a_file_that_cannot_be_drawn_is_reported_and_a_figure_that_cannot_be_written_is_an_error(capsys):
    drawn = []
    draw_if_possible(lambda: drawn.append(1))
    assert drawn == [1]
    assert capsys.readouterr().out == ""
    draw_if_possible(raising(BadInput("one cell has no contours")))
    assert capsys.readouterr().out == "note: not drawn: one cell has no contours\n"
    with pytest.raises(CannotWrite, match="disk is full"):
        draw_if_possible(raising(CannotWrite("the disk is full")))
    with pytest.raises(ZeroDivisionError):  # a bug is no note
        draw_if_possible(raising(ZeroDivisionError()))
