"""Filling a file: what has arrived is saved, whatever goes wrong, and signals are obeyed between two blocks."""

import os
import signal
import threading
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest

from lossatlas.errors import SIGNALS, BadInput, CannotWrite, Incomplete, Note, option_names
from lossatlas.io import read_surface
from lossatlas.io.progress import LOGGER, SilentProgress
from lossatlas.jobs.curvature.distributed_hessian import check_signals
from lossatlas.jobs.curvature.spectrum_job import reporting
from lossatlas.jobs.sweep import cell_loop
from lossatlas.jobs.sweep.cell_loop import BlockNote, compute_cells, timed
from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.process import signals, stopped_by

GRID = Grid.parse("-1:1:4", "-1:1:3")
KNOWN = np.arange(12) ** 2 / 7  # the value of each cell


@pytest.fixture(autouse=True)
def handlers():
    """Signals as in a program that was started in the foreground, whatever the shell left; restored afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def of_cells(block):
    return BlockResult(KNOWN[block][:, None]), BlockNote()


def in_order(queue, make_work):
    """As a run without MPI hands out blocks."""
    work = make_work()
    while (one := queue.take()) is not None:
        yield one[0], work(one[1])


def filled(path, work=of_cells, *, serve=in_order, size=5, surface=None, cells=None, **more):
    surface = surface or Surface.of_values(GRID, ["train_loss"])
    queue = BlockQueue.of(np.arange(12) if cells is None else cells, size)
    return compute_cells(serve, path, surface, lambda: timed(work), queue=queue, progress=SilentProgress(12, 0), **more)


# Filling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("on_disk", [True, False])
def test_results_in_any_order_make_the_same_surface(tmp_path, order, on_disk):
    def serve(queue, make_work):
        done = list(in_order(queue, make_work))
        for k in order:
            yield done[k]
            yield None  # nothing has arrived for a while

    path = tmp_path / "s.h5" if on_disk else None
    found = filled(path, serve=serve)
    for surface in [found, read_surface(path)] if path else [found]:
        assert surface.done.all()
        np.testing.assert_array_equal(surface.fields["train_loss"].ravel(), KNOWN)
        assert surface.about["computing_seconds"] >= 0
        assert "finished" in surface.about
    assert os.listdir(tmp_path) == ["s.h5"] * on_disk


def test_the_file_exists_before_the_first_cell_and_grows_by_snapshots(tmp_path, monkeypatch):
    now, path, counts = [0.0], tmp_path / "s.h5", []
    monkeypatch.setattr(cell_loop.time, "monotonic", lambda: now[0])

    def work(block):
        counts.append(int(read_surface(path).done.sum()))
        now[0] += 2
        return of_cells(block)

    filled(path, work)
    assert counts == [0, 5, 10]


def test_a_snapshot_waits_for_a_second_and_for_twenty_times_what_it_takes(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(cell_loop.time, "monotonic", lambda: now[0])
    file = cell_loop.Snapshots(tmp_path / "s.h5", Surface.of_values(GRID, ["train_loss"]), None, None, None)
    now[0] = 100.0
    assert not file.save_if_due()  # there is nothing new
    file.add([0], of_cells([0])[0], BlockNote(), ("here", 1.0))
    assert file.save_if_due()
    file.add([1], of_cells([1])[0], BlockNote(), ("here", 1.0))
    now[0] += 0.9
    assert not file.save_if_due()
    now[0] += 0.2
    assert file.save_if_due()
    file.took = 1.0
    file.add([2], of_cells([2])[0], BlockNote(), ("here", 1.0))
    now[0] += 19.9
    assert not file.save_if_due()
    assert file.count == read_surface(tmp_path / "s.h5").done.sum() == 2
    now[0] += 0.2
    assert file.save_if_due()


def test_what_arrived_before_an_error_is_saved_and_the_rest_is_computed_later(tmp_path):
    def broken(block):
        if 10 in block:
            raise BadInput("the data end here")
        return of_cells(block)

    with pytest.raises(BadInput, match="the data end here"):
        filled(tmp_path / "s.h5", broken)
    part = read_surface(tmp_path / "s.h5")
    assert part.done.ravel().tolist() == [True] * 10 + [False] * 2
    asked = []

    def rest(block):
        asked.extend(block)
        return of_cells(block)

    whole = filled(tmp_path / "s.h5", rest, surface=part, cells=part.pending())
    assert asked == [10, 11]
    np.testing.assert_array_equal(whole.fields["train_loss"].ravel(), KNOWN)


def test_a_complete_file_stays_as_it_is_to_the_last_byte(tmp_path):
    whole = filled(tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    again = filled(tmp_path / "s.h5", lambda block: pytest.fail("computed"), surface=whole, cells=np.array([], int))
    assert again is whole
    assert (tmp_path / "s.h5").read_bytes() == before


def test_what_cannot_be_written_is_said_and_not_tried_again(tmp_path, monkeypatch):
    tried = []

    def full(*_):
        tried.append(1)
        if len(tried) > 1:
            raise CannotWrite("no space left")

    monkeypatch.setattr(cell_loop, "write_surface", full)
    with pytest.raises(CannotWrite, match="no space left"):
        filled(tmp_path / "s.h5")
    assert len(tried) == 2


def test_seconds_and_names_of_those_who_computed_are_recorded():
    found, remark, (who, seconds) = timed(of_cells, "a device")([3, 4])
    np.testing.assert_array_equal(found.rows.ravel(), KNOWN[3:5])
    assert remark == BlockNote()
    assert who.endswith(", a device")
    assert 0 <= seconds < 60
    surface = filled(None, size=6)
    assert surface.about["computed_by"] == [timed(of_cells)([0])[2][0]]
    assert (surface.provenance["seconds"] >= 0).all()
    assert (surface.provenance["computed_by"] == 0).all()


def test_a_network_that_changes_the_folder_does_not_move_the_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def goes_away(block):
        os.chdir(tmp_path / "elsewhere")
        return of_cells(block)

    filled(Path("s.h5"), goes_away)
    assert read_surface(tmp_path / "s.h5").done.all()
    assert os.listdir(tmp_path / "elsewhere") == []
    assert os.getcwd() == str(tmp_path / "elsewhere")


def test_remarks_are_notes_and_a_halved_batch_is_in_the_plan(tmp_path):
    """The same remark of several blocks is said once where it is a batch that did not fit."""

    def halved(block):
        found, _ = of_cells(block)
        return found, BlockNote("batches of 16", 16) if block[0] >= 5 else BlockNote()

    with pytest.warns(Note, match="batches of 16") as said:
        filled(tmp_path / "s.h5", halved, size=3)
    assert len(said) == 1
    surface = read_surface(tmp_path / "s.h5")
    assert surface.about["notes"] == ["batches of 16"]
    assert [(each["batch_size"], each["from_cell"]) for each in surface.plan["halved"]] == [(16, 6), (16, 9)]


def test_what_follows_from_all_cells_is_computed_at_the_end(tmp_path):
    class Doubling(BlockQueue):
        def finished(self, surface):
            rows = 2 * surface.fields["train_loss"].reshape(-1, 1)
            return surface.with_cells(range(12), rows)

    queue = Doubling([list(range(12))])
    surface = Surface.of_values(GRID, ["train_loss"])
    compute_cells(
        in_order, tmp_path / "s.h5", surface, lambda: timed(of_cells), queue=queue, progress=SilentProgress(12, 0)
    )
    np.testing.assert_array_equal(read_surface(tmp_path / "s.h5").fields["train_loss"].ravel(), 2 * KNOWN)


def test_the_lock_is_checked_before_every_snapshot(tmp_path):
    class Stolen:
        checks = 0

        def check(self):
            Stolen.checks += 1
            if Stolen.checks == 2:
                raise CannotWrite("another run has the file")

    with pytest.raises(CannotWrite, match="another run"):
        filled(tmp_path / "s.h5", lock=Stolen())
    assert not read_surface(tmp_path / "s.h5").done.any()


# Signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_after_the_block_and_nothing_is_lost(tmp_path, number):
    def interrupted(block):
        if 5 in block:
            os.kill(os.getpid(), number)
        return of_cells(block)

    with pytest.raises(
        Incomplete, match=rf"{number.name}: 10 of 12 cells are saved in .*run the same call again"
    ) as stop:
        filled(tmp_path / "s.h5", interrupted)
    assert stop.value.signal == number
    assert stop.value.partial.done.sum() == read_surface(tmp_path / "s.h5").done.sum() == 10
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_an_interrupt_in_the_midst_of_a_block_counts_what_arrived(tmp_path):
    def interrupted(block):
        if 5 in block:
            raise KeyboardInterrupt
        return of_cells(block)

    with pytest.raises(Incomplete, match="5 of 12 cells are saved"):
        filled(tmp_path / "s.h5", interrupted)
    assert read_surface(tmp_path / "s.h5").done.sum() == 5


def test_signals_are_collected_and_handlers_come_back():
    def own(*_):
        pytest.fail("called")

    signal.signal(signal.SIGUSR1, own)  # somebody's, such as a trainer's
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    with signals() as caught:
        assert signal.getsignal(signal.SIGUSR1) is own
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_come_back_after_an_error_and_a_handler_of_the_end_is_replaced():
    def own(*_):
        pytest.fail("called")

    signal.signal(signal.SIGTERM, own)  # what ends the process is collected, whoever handles it
    with suppress(ValueError), signals() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught == [signal.SIGTERM]
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is own


def test_in_another_thread_nothing_is_handled():
    seen = []

    def elsewhere():
        with signals() as caught:
            seen.append((caught, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(60)
    assert seen == [([], signal.SIG_DFL)]


def test_a_stop_says_which_signal_it_was():
    error = stopped_by(signal.SIGTERM, " in the midst")
    assert (str(error), error.signal, error.code) == ("stopped by SIGTERM in the midst", signal.SIGTERM, 4)


# Parts of a spectrum ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("trace", "trace: 7 products, standard error 0.025, 0:00"),
        ("activations", "activations: 7 probes, relative standard error 0.025, 0:00"),
        ("top", "top: 7 products, relative residual 0.025, 0:00"),
        ("density", "density: 7 products, 0:00"),
    ],
)
def test_a_part_reports_its_last_count_and_error_in_its_own_words(capsys, monkeypatch, part, said):
    monkeypatch.setattr(LOGGER, "hasHandlers", lambda: False)
    with reporting(part, []) as progress:
        progress(3, 0.5)
        progress(7, 0.0251)
    assert capsys.readouterr().err.splitlines() == [said]


def test_a_part_that_was_there_says_so_and_a_silent_one_nothing(capsys, monkeypatch):
    monkeypatch.setattr(LOGGER, "hasHandlers", lambda: False)
    with reporting("trace", []):
        pass
    assert capsys.readouterr().err == "trace: from what is there, 0:00\n"
    with reporting("trace", [], shown=False) as progress:
        progress(1, 1.0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("front_end", "saved", "words"),
    [
        (option_names, True, "saved, run the same command again to continue"),
        (nullcontext, True, "saved, run the same call again to continue"),
        (nullcontext, False, "computed"),
    ],
    ids=["a command", "Python", "Python without a file"],
)
def test_a_signal_ends_a_part_between_two_products(front_end, saved, words):
    caught = []
    with (
        front_end(),
        pytest.raises(Incomplete, match=f"SIGTERM in the part 'top'; the parts before it are {words}$"),
        reporting("top", caught, shown=False, saved=saved) as progress,
    ):
        progress(1, 0.5)
        caught.append(signal.SIGTERM)
        progress(2, 0.4)


def test_a_signal_between_two_products_says_in_the_words_of_the_front_end_how_to_continue():
    for front_end, words in ((option_names, "command"), (nullcontext, "call")):
        with front_end(), pytest.raises(Incomplete, match=f"SIGTERM: run the same {words} again to continue$"):
            check_signals([signal.SIGTERM])
    check_signals([])
