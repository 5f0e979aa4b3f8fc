"""The ranks of this session. Every rank runs every test; a failure on one ends all, because the others may wait."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lossatlas import launchers
from lossatlas.mpi.communicator import World, connect

WORLD = connect(True)
Main = Callable[[Sequence[str]], int]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    end_where_it_failed(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    end_where_it_failed(report)


def end_where_it_failed(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.failed and WORLD.size > 1:
        what = f"rank {WORLD.rank}: {report.nodeid}\n{report.longrepr}\n{report.capstdout}{report.capstderr}"
        print(what, file=sys.stderr, flush=True)
        WORLD.abort(1)


def wait_for_all() -> None:
    """Without burning a core, which another rank may need."""
    if WORLD.size > 1:
        WORLD.wait(WORLD.comm.Ibarrier())


@pytest.fixture(autouse=True)
def in_step() -> Iterator[None]:
    wait_for_all()
    yield
    wait_for_all()


@pytest.fixture
def world() -> World:
    return WORLD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same on all ranks."""
    return Path(WORLD.share(str(tmp_path)))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Calls a function on rank 0, as in a process that no launcher started; the others wait."""

    def call(function: Callable[[], object]) -> None:
        if WORLD.root:
            with monkeypatch.context() as patch:
                for name in launchers.SIZES:
                    patch.delenv(name, raising=False)
                function()
        wait_for_all()

    return call


@pytest.fixture
def both_ways(folder: Path, alone: Callable[[Callable[[], object]], None]) -> Callable[..., tuple[Path, Path]]:
    """Runs a command in one process and on all ranks; the two outputs. `before` prepares, on rank 0."""

    def run(
        main: Main, command: Callable[[Path], Sequence[str]], before: Callable[[], object] = lambda: None
    ) -> tuple[Path, Path]:
        one, all_ranks = folder / "one.h5", folder / "all.h5"

        def first() -> None:
            before()
            assert main([*map(str, command(one))]) == 0

        alone(first)
        assert main([*map(str, command(all_ranks)), "--mpi"]) == 0
        wait_for_all()
        return one, all_ranks

    return run
