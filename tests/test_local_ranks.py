"""`--ranks`: a command starts its own ranks, and whatever happens to it happens as under mpirun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import MPIRUN, ROOT
from torture.place import Place, end_all, ended, numbers, processes, rank_of

from lossatlas import launchers
from lossatlas.commands import (
    hessian_spectrum,
    plot_hessian_eigen,
    plot_surface,
    plot_trajectory,
    sharpness,
    start_ranks,
)
from lossatlas.errors import BadUsage
from lossatlas.io import read_surface
from lossatlas.mpi import local_ranks

MODULE = [sys.executable, "-m", "lossatlas", "surface"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place.at(tmp_path_factory.mktemp("local"))


def surface(place: Place, file: Path, *more: str, start: list[str] | None = None, ranks: str = "2") -> list[str]:
    return [*(start or MODULE), *place.command("plot_surface.py", file)[2:], *["--ranks", ranks] * bool(ranks), *more]


@pytest.fixture
def whole(place) -> dict[str, bytes]:
    """The numbers of a surface that one process has computed without being stopped."""
    file = place.folder / "whole.h5"
    if not file.exists():
        assert place.run(surface(place, file, ranks=""), PYTHONPATH=str(ROOT)).code == 0
    return numbers(file)


def interrupted(place: Place, command: list[str], file: Path, cells: int = 3) -> "subprocess.Popen[str]":
    """A command that has saved a few cells of its surface."""
    process = place.start(command, SLEEP="0.02", PYTHONPATH=str(ROOT))
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (file.exists() and read_surface(file).done.sum() >= cells):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def members(file: Path) -> list[int]:
    """The process ids of the ranks that compute this file, in their order, without the process that started them."""
    return sorted((pid for pid in processes(str(file)) if b"--ranks" not in arguments(pid)), key=rank_of)


def arguments(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("SIGTERM", MODULE),
        pytest.param("SIGINT", [sys.executable, "plot_surface.py"], marks=pytest.mark.full),
        pytest.param("SIGHUP", MODULE, marks=pytest.mark.full),
        pytest.param("SIGUSR1", [sys.executable, str(ROOT / "plot_surface.py")], marks=pytest.mark.full),
        pytest.param("SIGUSR2", MODULE, marks=pytest.mark.full),
        pytest.param("SIGXCPU", MODULE, marks=pytest.mark.full),
    ],
)
def test_a_signal_to_the_parent_saves_what_is_computed_and_the_command_continues(place, whole, tmp_path, name, start):
    file = tmp_path / "s.h5"
    if start[1] == "plot_surface.py":
        start = [start[0], str(ROOT / start[1])]
    command = surface(place, file, start=start)
    process = interrupted(place, command, file)
    assert len(members(file)) == 2
    process.send_signal(getattr(signal, name))
    result = ended(process, 300, time.monotonic())
    assert result.code == 4
    assert end_all(str(file))
    before = int(read_surface(file).done.sum())
    assert 3 <= before < 49
    assert result.lines == [
        f"error: stopped by {name}: {before} of 49 cells are saved in {file}; run the same command again to continue"
    ]
    again = place.run(command, PYTHONPATH=str(ROOT))
    assert again.code == 0, again.errors
    assert f"{before} of 49 cells done" in again.out
    assert numbers(file) == whole
    typed = "python -m lossatlas surface" if start is MODULE else "python plot_surface.py"
    recorded = str(read_surface(file).about["command"])
    assert recorded.startswith(f"{typed} --model ")
    assert recorded.endswith("--ranks 2")
    assert "--mpi" not in recorded


@pytest.mark.mpi
def test_ranks_end_when_their_parent_is_killed_or_one_of_them_is(place, whole, tmp_path):
    file = tmp_path / "s.h5"
    command = surface(place, file)
    process = interrupted(place, command, file)
    process.kill()
    process.wait()
    assert end_all(str(file))
    process = interrupted(place, command, file, cells=int(read_surface(file).done.sum()) + 2)
    os.kill(members(file)[1], signal.SIGKILL)
    result = ended(process, 300, time.monotonic())
    assert result.code not in (0, None)
    assert end_all(str(file))
    assert place.run(command, PYTHONPATH=str(ROOT)).code == 0
    assert numbers(file) == whole


@pytest.mark.mpi
def test_a_signal_before_there_are_ranks_is_code_4_too(place, tmp_path):
    file = tmp_path / "s.h5"
    process = place.start(surface(place, file), PYTHONPATH=str(ROOT))
    while b"surface" not in arguments(process.pid) or not signals_are_caught(process.pid):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    result = ended(process, 300, time.monotonic())
    assert result.code == 4
    assert "stopped by SIGTERM" in result.errors
    assert end_all(str(file))


def signals_are_caught(pid: int) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.full
@pytest.mark.mpi
def test_the_ranks_exit_code_is_that_of_the_command(place, tmp_path):
    wrong = place.run(surface(place, tmp_path / "s.h5", "--model_file", "nowhere.pt"), PYTHONPATH=str(ROOT))
    assert wrong.code == 3
    assert len(wrong.lines) == 1
    wrong = place.run(surface(place, tmp_path / "s.h5", "--x=1:0:3"), PYTHONPATH=str(ROOT))
    assert (wrong.code, len(wrong.lines)) == (2, 1)


@pytest.mark.mpi
def test_every_command_with_mpi_has_it(place):
    seen = place.run([sys.executable, "-m", "lossatlas", "ranks", "--ranks", "2"], PYTHONPATH=str(ROOT))
    assert seen.code == 0, seen.errors
    assert "rank 1 of 2" in seen.out
    for module in (plot_surface, plot_hessian_eigen, hessian_spectrum, sharpness, plot_trajectory):
        usage = module.parser().format_help()
        assert "--ranks N" in usage
        assert "--mpi" in usage


@pytest.mark.commands
def test_one_rank_is_this_process(place, tmp_path):
    result = place.run([sys.executable, "-m", "lossatlas", "ranks", "--ranks", "1"], PYTHONPATH=str(ROOT))
    assert (result.code, result.out.splitlines()[0]) == (0, "no MPI: one process")


REFUSED = [
    (["--ranks", "2", "--mpi"], {}, "--mpi joins those of a launcher: leave one of them out"),
    (["--ranks", "0"], {}, "'0' is no number of ranks from 1 to 4096, and not gpus"),
    (["--ranks", "many"], {}, "'many' is no number of ranks"),
    (["--ranks", "gpus"], {"CUDA_VISIBLE_DEVICES": ""}, "no CUDA device is visible here"),
    (["--ranks", "2"], {"PMI_SIZE": "3", "PMI_RANK": "0"}, "leave it out and give --mpi"),
    (["--ranks", "2"], {"OMPI_COMM_WORLD_SIZE": "1"}, "leave it out and give --mpi"),
]


@pytest.mark.few(1)
@pytest.mark.commands
@pytest.mark.parametrize(("words", "environment", "line"), REFUSED)
def test_what_makes_no_sense_is_one_line_and_code_2(place, words, environment, line):
    command = [sys.executable, "-m", "lossatlas", "surface", "--model_file", "m.pt", *words]
    result = place.run(command, PYTHONPATH=str(ROOT), **environment)
    assert (result.code, len(result.lines)) == (2, 1), result.errors
    assert line in result.lines[0]


WITHOUT = "import sys; sys.modules['mpi4py'] = None; from lossatlas.cli import main; main()"


@pytest.mark.commands
def test_without_an_mpi_library_the_line_names_the_cure(place):
    result = place.run([sys.executable, "-c", WITHOUT, "ranks", "--ranks", "2"], PYTHONPATH=str(ROOT))
    assert result.code == 2
    assert result.lines[0].startswith("error: --ranks 2 needs mpi4py and an MPI library (")
    assert result.lines[0].endswith("pip install mpi4py mpich brings both")


@pytest.mark.mpi
def test_an_mpirun_of_another_library_is_left_out(tmp_path, monkeypatch):
    """A launcher that behaves as Open MPI's, beside Python; and one that does not run."""
    library = local_ranks.mpi_library()
    foreign = tmp_path / "mpirun"
    theirs = "OMPI_COMM_WORLD_SIZE" if "Open MPI" not in library else "HYDI_CONTROL_FD"
    foreign.write_text(f'#!/bin/sh\nshift 2\n{theirs}=1 exec "$@"\n')
    foreign.chmod(0o755)
    assert local_ranks.unusable(str(foreign), library) in ("it belongs to Open MPI", "it belongs to MPICH")
    assert local_ranks.unusable(str(MPIRUN), library) == ""
    assert local_ranks.unusable("/bin/false", library) == "it ends with code 1"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(Path(MPIRUN).parent))
    os.symlink(Path(MPIRUN).parent / "python", tmp_path / "python")
    assert local_ranks.find_mpirun("--ranks 2") == str(MPIRUN)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BadUsage, match=r"--ranks 2 finds no mpirun that belongs to .*: it belongs to .*mpi4py mpich brings both"
    ):
        local_ranks.find_mpirun("--ranks 2")


def test_arguments_reach_the_ranks_without_the_option():
    assert start_ranks.without_ranks(["--x", "1", "--ranks", "2", "--y=2", "--ranks=gpus"]) == ["--x", "1", "--y=2"]


def test_a_batch_jobs_shell_is_no_launcher(monkeypatch):
    for name in launchers.SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert not launchers.under_launcher()
    local_ranks.check_alone("--ranks 2")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(BadUsage, match="--ranks 2 starts ranks of its own"):
        local_ranks.check_alone("--ranks 2")


def test_one_rank_for_each_device_with_cuda(monkeypatch):
    started = []
    monkeypatch.setattr(start_ranks, "cuda_devices", lambda: 3)
    monkeypatch.setattr(local_ranks, "find_mpirun", lambda asked: "mpirun")
    monkeypatch.setattr(local_ranks, "run_local_ranks", lambda *given: started.append(given) or 0)
    assert plot_surface.main(["--ranks", "gpus", "--limit", "5"]) == 0
    (count, command, typed, mpirun), *_ = started
    assert (count, mpirun) == (3, "mpirun")
    assert command[-4:] == ["--mpi", "--cuda", "--limit", "5"]
    assert typed == "lossatlas surface --ranks gpus --limit 5"
