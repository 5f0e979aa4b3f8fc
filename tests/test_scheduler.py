import math
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest
import torch
from conftest import MPIRUN, ROOT

from lossatlas import launchers
from lossatlas.commands import ranks
from lossatlas.errors import BadInput, BadUsage
from lossatlas.launchers import launched
from lossatlas.mpi import communicator
from lossatlas.mpi.block_queue import BlockQueue
from lossatlas.mpi.communicator import World, connect
from lossatlas.mpi.rank_resources import core_limit, core_share, device_of, threads_of
from lossatlas.mpi.scheduler import serve, wait_for


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in launchers.SIZES:
        monkeypatch.delenv(name, raising=False)


def test_one_process_takes_the_path_of_many():
    blocks = [[k] for k in range(20)]
    items = [item for item in serve(World(), BlockQueue(blocks), lambda: lambda block: [v * v for v in block]) if item]
    assert sorted(items) == [(k, [k * k]) for k in range(20)]


class DoneAfterTheTimeout(Future):
    """A future that ends between the end of a wait and the next look at it."""

    def result(self, timeout=None):
        if timeout is not None and not self.done():
            self.set_result("found")
            raise TimeoutError
        return super().result(timeout)


def test_a_result_that_comes_at_the_end_of_a_wait_is_taken():
    assert wait_for(World(), DoneAfterTheTimeout()) == "found"


def test_an_error_of_the_function_is_its_own():
    failed: Future = Future()
    failed.set_exception(TimeoutError("of the function"))
    with pytest.raises(TimeoutError, match="of the function"):
        wait_for(World(), failed)


def test_nothing_to_do():
    assert [item for item in serve(World(), BlockQueue([]), lambda: lambda block: block) if item] == []


def test_an_idle_scheduler_gives_its_caller_a_turn():
    def slow(block):
        time.sleep(0.5)
        return block

    items = list(serve(World(), BlockQueue([1]), lambda: slow))
    assert None in items
    assert (0, 1) in items


@pytest.mark.parametrize("where", ["preparing", "computing"])
def test_an_error_in_the_computing_thread_arrives(where):
    def fail(*_):
        raise BadInput("not this one")

    with pytest.raises(BadInput, match="not this one"):
        list(serve(World(), BlockQueue([1, 2]), fail if where == "preparing" else lambda: fail))


def test_cores_are_shared_by_those_who_may_use_them():
    everything = frozenset(range(8))
    assert core_share([everything]) == 8
    assert core_share([everything] * 3) == 2  # rounded down: 8 cores, 3 ranks
    assert core_share([frozenset({0, 1}), frozenset({2, 3})]) == 2  # bound by the launcher
    assert core_share([frozenset({0})] * 4) == 1  # more ranks than cores
    assert core_share([everything, frozenset({0, 1, 2, 3})]) == 6


def test_a_containers_quota_counts(tmp_path):
    assert core_limit(str(tmp_path)) == math.inf
    for text, cores in (("max 100000", math.inf), ("250000 100000", 2.5)):
        (tmp_path / "cpu.max").write_text(text)
        assert core_limit(str(tmp_path)) == cores
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert core_limit(str(tmp_path)) == 4
    assert core_share([frozenset(range(64))] * 2, 4) == 2


@pytest.mark.parametrize("devices", [0, 2])
def test_the_device_of_a_rank_and_of_a_function(monkeypatch, devices):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    net = torch.nn.Linear(1, 1, device="meta")
    assert device_of(False, local_rank=3) == device_of(None) == torch.device("cpu")
    assert device_of(None, net=net) == torch.device("meta")
    assert device_of("cpu", net=net) == torch.device("cpu")
    with pytest.raises(BadUsage, match=r"device=.nowhere.: .*Expected one of cpu"):
        device_of("nowhere")
    if devices:
        assert [str(device_of(True, local_rank=k)) for k in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
        assert device_of("cuda:1", net=net) == torch.device("cuda:1")
        return
    for asked, advice in (
        (True, r"device: no CUDA device on .*leave the flag out"),
        ("cuda", "device=.cuda.: torch finds no"),
    ):
        with pytest.raises(BadUsage, match=advice):
            device_of(asked)


@pytest.mark.parametrize("name", launchers.SIZES)
def test_a_launcher_without_mpi_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "4")
    assert launched() == 4
    with pytest.raises(BadUsage, match="4 processes, but mpi is missing"):
        connect(False)


@pytest.mark.parametrize("name", launchers.SIZES)
def test_a_launcher_of_another_family_is_refused(monkeypatch, name):
    """Every process then believes that it is rank 0 of 1."""
    monkeypatch.setenv(name, "4")
    monkeypatch.setattr(communicator, "mpi_library", lambda: "Some MPI 1.0")
    monkeypatch.setattr(communicator, "world_communicator", FakeCommunicator)
    with pytest.raises(BadUsage, match=r"started 4 processes, but the MPI library sees 1 \(Some MPI 1.0"):
        connect(True)


@pytest.mark.parametrize(
    ("name", "library"), [("OMPI_COMM_WORLD_SIZE", "MPICH Version: 5.0.2"), ("HYDI_CONTROL_FD", "Open MPI v5.0.11")]
)
def test_another_family_is_refused_before_mpi_starts(monkeypatch, name, library):
    """It would end the process in its own words, or hang."""

    def started():
        raise AssertionError("MPI was started")

    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("PMI_SIZE", "3")
    monkeypatch.setattr(communicator, "mpi_library", lambda: library)
    monkeypatch.setattr(communicator, "world_communicator", started)
    with pytest.raises(BadUsage, match=f"launcher started 3 processes, but mpi4py uses {library}"):
        connect(True)


class FakeCommunicator:
    size, rank = 1, 0


def no_library():
    raise RuntimeError("cannot load MPI library")


def test_without_a_library_it_runs_alone_and_says_so(monkeypatch):
    monkeypatch.setattr(communicator, "mpi_library", no_library)
    world = connect(True)
    assert world.size == 1
    assert "no MPI library" in world.note
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(BadUsage, match="finds no MPI library"):
        connect(True)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_command_says_what_every_rank_sees(ranks):
    command = [MPIRUN, "-n", str(ranks), sys.executable, "scheduler.py", "--mpi"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    first, *lines = result.stdout.splitlines()
    assert first.startswith("MPI library: ")
    assert [line.split(" on ")[0] for line in lines] == [f"rank {k} of {ranks}" for k in range(ranks)]


def test_the_command_says_what_one_process_sees(capsys):
    assert ranks.main([]) == 0
    assert capsys.readouterr().out.startswith("no MPI: one process\nrank 0 of 1 on ")


@pytest.mark.parametrize(
    ("asked", "environment", "expected"), [(0, "", 4), (0, "1", 1), (0, "9", 4), (3, "1", 3), (0, "2,1", 4)]
)
def test_threads_of_a_rank(monkeypatch, asked, environment, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert threads_of(asked, 4) == expected
