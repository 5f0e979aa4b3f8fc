"""What is printed of a long computation, by a clock that the test moves."""

import io
import math
import os
import re
import sys

import pytest

from lossatlas.io import progress
from lossatlas.io.progress import Log, Progress, ProgressBar, SilentProgress, StatusLine, format_duration, make_progress


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """Test the output of commands; `test_api.py` tests that of Python functions."""
    monkeypatch.setattr(progress.FrontEnd, "command", True)


@pytest.fixture
def now(monkeypatch):
    """A clock: `now[0]` is the time in seconds."""
    time = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.6, "0:01"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.6, "1:00:00"),
        (90061, "25:01:01"),
    ],
)
def test_a_clock_rounds_to_seconds(seconds, text):
    assert format_duration(seconds) == text


def test_a_line_every_five_seconds_and_one_at_the_end(now, capsys):
    shown = Progress(total=100, done=10)
    for second in range(1, 13):
        now[0] += 1
        shown.show(10 + 2 * second)
    shown.show(34)  # nothing new
    shown.show(36, last=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["20/100 cells saved", "30/100 cells saved", "36/100 cells saved"]
    assert [re.search(r"([\d:]+) spent", line)[1] for line in lines] == ["0:05", "0:10", "0:12"]
    assert re.search(r"([\d:]+) left", lines[0])[1] == "0:40"  # 80 cells, two a second


def test_what_is_left_follows_the_later_half_of_the_time(now, capsys):
    """Ten cells in 100 s, then ten in each 10 s: the mean of everything would guess more than twice as much."""
    shown = Progress(total=200, done=0)
    now[0] += 100
    shown.show(10)
    for k in range(2, 12):
        now[0] += 10
        shown.show(10 * k)
    left = [re.search(r"([\d:]+) left", line)[1] for line in capsys.readouterr().out.splitlines()]
    assert left[0] == "31:40"  # 190 cells, 10 s each
    assert left[-1] == "1:30"  # 90 cells, 1 s each


def test_a_run_that_is_much_slower_than_expected_says_so_once(now, capsys):
    for expected in (0.5, 2.0):  # what a cell should take; it takes 2 seconds
        shown = Progress(100, 0, expected)
        for k in range(1, 6):
            now[0] += 20
            shown.show(10 * k)
    said = capsys.readouterr().out
    assert said.count("note: a cell takes 4.0 times as long as measured") == said.count("note:") == 1
    early = Progress(100, 0, expected=1e-3)  # the first seconds say nothing yet
    now[0] += 6
    early.show(1)
    assert "note:" not in capsys.readouterr().out


def test_in_a_terminal_one_line_is_rewritten_at_once(now, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    shown = Progress(total=4, done=0)
    for done in (1, 2, 2, 4):
        now[0] += 0.1
        shown.show(done, last=done == 4)
    text = terminal.getvalue()
    assert text.count("\r") == 3
    assert text.count("\n") == 1
    assert text.endswith("\n")
    bars = re.findall(r"\[([# ]{24})\]", text)
    assert [bar.count("#") for bar in bars] == [6, 12, 24]
    shown.show(4, last=True)  # there is nothing new, and the line still ends
    assert terminal.getvalue() == text + "\n"


def test_computing_time_adds_up_over_runs(now):
    shown = Progress(10, 0)
    now[0] += 7.25
    assert shown.provenance({})["computing_seconds"] == 7.25
    found = shown.provenance({"computing_seconds": 100.5})
    assert found["computing_seconds"] == 107.75
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", found["finished"])


def test_who_looks_on_decides_what_is_shown(monkeypatch, capsys):
    assert type(make_progress(5, 0, quiet=True)) is SilentProgress
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(make_progress(5, 0)) is Progress
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = make_progress(5, 2)
    assert type(bar) is ProgressBar
    bar.show(4)
    assert (bar.bar.total, bar.bar.n) == (5, 4)
    bar.show(5, last=True)
    assert (bar.bar.n, bar.bar.disable) == (5, True)  # it is closed
    SilentProgress(5, 0).show(5, last=True)
    assert capsys.readouterr().out == ""


def test_a_closed_stream_is_no_terminal():
    stream = io.StringIO()
    assert not progress.is_terminal(stream)
    stream.close()
    assert not progress.is_terminal(stream)
    assert not progress.is_terminal(None)
    assert progress.is_terminal(Terminal())


def test_a_part_s_line_comes_now_and_then_and_its_end_always(now, capsys):
    line = StatusLine()
    for second in range(1, 12):
        now[0] += 1
        line.show(f"product {second}")
    line.end("converged")
    assert capsys.readouterr().out.splitlines() == [
        "product 5, 0:05 spent",
        "product 10, 0:10 spent",
        "converged, 0:11",
    ]


def test_a_part_s_line_is_wiped_in_a_terminal(now, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    line = StatusLine()
    line.show("product 1")
    line.end("converged")
    assert terminal.getvalue() == f"\r{'product 1, 0:00 spent':<79}\r{'':79}\rconverged, 0:00\n"


def test_a_log_is_written_beside_the_output_and_hides_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = Log("s.h5")
    monkeypatch.chdir("/")  # a name is relative to where it was given
    log.line("started")
    log.line("ended \udcff")  # no text that can be encoded
    lines = (tmp_path / "s.h5.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["started", "ended \\udcff"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ", line) for line in lines)
    Log(tmp_path / "no" / "s.h5").line("nowhere")
    Log().line("nowhere")
    (tmp_path / "t.h5.log").mkdir()
    Log(tmp_path / "t.h5").line("a folder has the name")
    assert sorted(os.listdir(tmp_path)) == ["s.h5.log", "t.h5.log"]


def test_without_an_expectation_nothing_is_slow(now, capsys):
    assert math.isinf(Progress(5, 0).expected)
    shown = Progress(5, 0)
    now[0] += 1e6
    shown.show(1)
    assert "note:" not in capsys.readouterr().out
