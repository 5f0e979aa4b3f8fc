"""From a command's first moment on: signals, exits of somebody else's code, and ranks that never join."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import MPIRUN, ROOT
from torture.place import Place, end_all, ended

from lossatlas.io import read_surface

pytestmark = pytest.mark.commands


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place.at(tmp_path_factory.mktemp("guard"))


MISSING = """
import os, sys
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "{rank}":
    sys.modules["{module}"] = None
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("module", "rank"),
    [
        ("mpi4py", 1),
        ("h5py", 0),
        pytest.param("mpi4py", 0, marks=pytest.mark.full),
        pytest.param("h5py", 1, marks=pytest.mark.full),
    ],
)
def test_a_rank_that_cannot_join_does_not_leave_the_others_waiting(place, tmp_path, module, rank):
    """It has no mpi4py, or its first import fails."""
    (tmp_path / "sitecustomize.py").write_text(MISSING.format(rank=rank, module=module))
    result = place.run(place.command("plot_surface.py", tmp_path / "s.h5", ranks=3), PYTHONPATH=str(tmp_path))
    assert result.code not in (0, None)  # it would wait for ever
    assert module in result.errors
    assert end_all(str(tmp_path / "s.h5"))
    if module == "mpi4py":
        assert result.code == 2
        assert len(result.lines) == 1


EARLY = """
import os, signal, sys
class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == "h5py":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGUSR1)
sys.meta_path.insert(0, Strike())
"""


@pytest.mark.parametrize(
    "command",
    [
        "plot_surface.py",
        pytest.param("plot_hessian_eigen.py", marks=pytest.mark.full),
        pytest.param("hessian_spectrum.py", marks=pytest.mark.full),
    ],
)
def test_a_signal_while_modules_are_imported_is_a_line_and_code_4(place, tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text(EARLY)
    ranks = 2 if MPIRUN else 0
    result = place.run(place.command(command, tmp_path / "s.h5", ranks=ranks), PYTHONPATH=str(tmp_path))
    assert result.code == 4
    assert "stopped by SIGUSR1" in result.errors
    assert "Traceback" not in result.errors


STARTS = {
    "script": ([str(ROOT / "plot_surface.py")], "python plot_surface.py"),
    "module": (["-m", "lossatlas", "surface"], "python -m lossatlas surface"),
    "program": (["-c", "from lossatlas.cli import main; main()", "surface"], "lossatlas surface"),
}


def started(place: Place, way: str, *words: str, file: Path | None = None) -> list[str]:
    """plot_surface, started in this way."""
    own = place.command("plot_surface.py", file)[2:] if file else []
    return [place.python, *STARTS[way][0], *own, *words]


@pytest.mark.parametrize("way", STARTS)
def test_a_signal_and_a_wrong_option_have_the_same_code_and_line_however_a_command_is_started(place, tmp_path, way):
    wrong = place.run(started(place, way, "--nonsense"), PYTHONPATH=str(ROOT))
    assert wrong.code == 2
    assert wrong.errors == f"error: unrecognized arguments: --nonsense; {STARTS[way][1]} --help lists the options\n"
    (tmp_path / "sitecustomize.py").write_text(EARLY)  # a signal while the first heavy module is imported
    early = place.run(started(place, way, file=tmp_path / "s.h5"), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert early.code == 4
    assert early.errors.startswith("error: stopped by SIGUSR1")  # whether it can be continued depends on how far it was
    assert len(early.errors.splitlines()) == 1


@pytest.mark.parametrize(
    "way", ["script", *(pytest.param(way, marks=pytest.mark.full) for way in ("module", "program"))]
)
def test_every_exit_has_its_code_and_line(place, tmp_path, way):
    given = {"PYTHONPATH": str(ROOT)}
    missing = place.run(started(place, way, "--model_file", "nowhere.pt", file=tmp_path / "m.h5"), **given)
    assert missing.code == 3
    assert missing.errors == "error: no checkpoint at nowhere.pt\n"
    left = place.run(started(place, way, file=tmp_path / "l.h5"), **given, WAY="_exit0", RANK="0", STAGE="first")
    assert left.code == 1
    assert left.lines[-1].endswith("os._exit(0) was called before the work was done")


@pytest.mark.parametrize("way", STARTS)
def test_nothing_heavy_is_imported_before_signals_are_guarded(place, way):
    code = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numpy", "h5py", "scipy", "matplotlib", "mpi4py", "argparse"):
            from lossatlas import process
            assert process.ProcessState.armed, name
sys.meta_path.insert(0, Watch())
"""
    (place.folder / "sitecustomize.py").write_text(code)
    result = place.run(started(place, way, "--help"), PYTHONPATH=f"{place.folder}{os.pathsep}{ROOT}")
    assert result.code == 0, result.errors
    assert result.out.startswith("usage: ")


def in_the_background(place: Place, file: Path, *before: str, **environment: str):
    command = [*before, *place.command("plot_surface.py", file)]
    process = place.start(command, SLEEP="0.02", **environment)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (file.exists() and read_surface(file).done.sum() > 1):
        time.sleep(0.1)
    return process


@pytest.mark.full
def test_under_nohup_a_hangup_is_ignored_and_other_signals_are_not(place, tmp_path):
    file = tmp_path / "s.h5"
    process = in_the_background(place, file, "nohup")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGUSR2)
    result = ended(process, 300, time.monotonic())
    assert result.code == 4
    assert "stopped by SIGUSR2" in result.errors


@pytest.mark.parametrize(
    "where",
    [">&- 2>&-", *(pytest.param(each, marks=pytest.mark.full) for each in ("> /dev/full", ">&-", "> /dev/full 2>&1"))],
)
def test_what_is_printed_may_go_nowhere(place, tmp_path, where):
    """stdout on a full device, or closed: the surface is computed all the same, and so is its picture."""
    file = tmp_path / "s.h5"
    line = [word for word in place.command("plot_surface.py", file, "--x=-1:1:3") if not word.startswith("--y")]
    result = place.run(["bash", "-c", f"{shlex.join([*line, '--plot'])} {where}"])
    assert result.code == 0, result.errors
    assert read_surface(file).done.all()
    assert len(list(tmp_path.glob("*.png"))) == 3  # loss and accuracy, and each of them alone


def test_a_command_that_only_prints_says_that_it_cannot(place):
    shown = f"'{place.python}' '{ROOT / 'h5_util.py'}' '{ROOT / 'docs' / 'surfaces' / 'layers.h5'}' > /dev/full"
    result = place.run(["bash", "-c", shown])
    assert result.code == 5
    assert result.lines == ["error: cannot print: No space left on device"]


PEACEFUL = """
import os, subprocess, sys
import torch
def make():
    torch.manual_seed(0)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    subprocess.run([sys.executable, "-c", "import os; os._exit(3)"])
    import multiprocessing
    process = multiprocessing.get_context("spawn").Process(target=print, args=("hello",))
    process.start()
    process.join()
    assert process.exitcode == 0
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
"""


@pytest.mark.mpi
def test_processes_that_somebodys_code_starts_are_no_ranks(place, tmp_path):
    (tmp_path / "peaceful.py").write_text(PEACEFUL)
    more = ["--model", f"{tmp_path / 'peaceful.py'}:make", "--x=-1:1:3", "--y=-1:1:3"]
    result = place.run(place.command("plot_surface.py", tmp_path / "s.h5", *more, ranks=2))
    assert result.code == 0, result.errors
    assert result.out.count("hello") >= 2


COMES_BACK = """
import os, sys, time
import torch
def make():
    torch.manual_seed(0)
    if os.fork() == 0:
        time.sleep(0.5)
        {end}
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    "end",
    [
        pytest.param("sys.exit(0)", id="exits", marks=pytest.mark.full),
        pytest.param("pass", id="returns"),
        pytest.param("raise OSError", id="fails", marks=pytest.mark.full),
    ],
)
def test_a_forked_process_that_comes_back_ends_and_speaks_for_no_rank(place, tmp_path, end):
    (tmp_path / "comes.py").write_text(COMES_BACK.format(end=end))
    more = ["--model", f"{tmp_path / 'comes.py'}:make", "--x=-1:1:3", "--y=-1:1:3"]
    result = place.run(place.command("plot_surface.py", tmp_path / "s.h5", *more, ranks=2))
    assert result.code == 0, result.errors
    assert "error" not in result.errors
    assert result.out.count("complete") == 1


SWALLOWED = """
import os, signal, time
class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
def make():
    import torch
    one = Swallows()
    del one
    time.sleep(300)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
"""


def test_a_signal_that_arrives_where_python_swallows_exceptions_is_raised_again(place, tmp_path):
    (tmp_path / "swallowed.py").write_text(SWALLOWED)
    more = ["--model", f"{tmp_path / 'swallowed.py'}:make"]
    result = place.run(place.command("plot_surface.py", tmp_path / "s.h5", *more))
    assert result.code == 4
    assert "stopped by SIGTERM" in result.lines[-1]


IMPORTED = """
import os, signal, sys, time
os.kill(os.getpid(), signal.SIGTERM)
end = time.monotonic() + {seconds}
try:
    while time.monotonic() < end:
        time.sleep(0.01)
except BaseException:
    raise ImportError("initialization failed")
print("whole")
"""


@pytest.mark.parametrize(("seconds", "whole"), [(0.1, True), (600, False)])
def test_an_import_ends_before_a_signal_does_unless_it_takes_long(tmp_path, seconds, whole):
    """Code of C++ that starts a library takes an exception for a reason to abort, or turns it into another."""
    (tmp_path / "imported.py").write_text(IMPORTED.format(seconds=seconds))
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
from lossatlas import process
process.arm()
import imported
while True: time.sleep(0.01)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 4
    assert result.stderr.splitlines()[-1] == "error: stopped by SIGTERM"
    assert result.stdout.splitlines() == ["whole"] * whole


@pytest.mark.mpi
def test_the_mpi_library_does_not_swallow_a_signal_while_it_starts(place):
    """UCX, in MPICH's wheel, made SIGHUP a switch for its own messages."""
    code = f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from lossatlas import process
process.arm()
from lossatlas.mpi import communicator
communicator.mpi_library()
from mpi4py import MPI
MPI.Init_thread()
os.kill(os.getpid(), signal.SIGHUP)
while True: time.sleep(0.01)
"""
    result = place.run([place.mpirun, "-n", "1", place.python, "-c", code])
    assert result.code == 4
    assert "stopped by SIGHUP" in result.errors


@pytest.mark.mpi
def test_every_rank_says_goodbye_to_its_launcher(place):
    """MPICH's kills the ranks that are a moment later than one that does not, and a whole run has failed at its end."""
    command = [place.python, "scheduler.py", "--mpi"]
    result = subprocess.run(
        [place.mpirun, "-verbose", "-n", "3", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "cmd=" not in result.stdout + result.stderr:
        pytest.skip("another launcher than MPICH's")
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).count("cmd=finalize_ack") == 3


@pytest.mark.parametrize(
    ("before", "after", "code", "printed"),
    [
        ("", "libc.__cxa_atexit(libc.perror, b'goodbye', None)", 0, "goodbye"),
        ("", "libc.__cxa_atexit(libc.pause, None, None)", 0, ""),
        ("libc.__cxa_atexit(libc.perror, b'goodbye', None)", "", 0, ""),
        ("", "libc.exit(0)", 1, ""),
    ],
    ids=["tidies up", "does not come to an end", "came before", "gives up"],
)
def test_libraries_tidy_up_after_success_alone(before, after, code, printed):
    program = f"""
import ctypes, sys
sys.path.insert(0, {str(ROOT)!r})
from lossatlas import process
libc = ctypes.CDLL(None)
process.arm()
process.LIBRARY_SECONDS = 0.5
{before}
process.allow_library_exit()
{after}
process.leave(0)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr[: len("goodbye")]) == (code, printed), result.stderr


def test_importing_it_changes_nothing_in_somebody_elses_program():
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
before = os._exit, [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
import lossatlas, plot_surface
from lossatlas import cli, process
from lossatlas.commands import plot_surface
assert before == (os._exit, [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["plot_surface", "plot_2D", "train"])
def test_programs_keep_their_exit_codes(place, command):
    """Where C's own exit would have another code."""
    assert place.run([place.python, str(ROOT / f"{command}.py"), "--help"]).code == 0
    wrong = place.run([place.python, str(ROOT / f"{command}.py"), "--nonsense"])
    assert wrong.code == 2
    assert len(wrong.lines) == 1
    assert "Traceback" not in wrong.errors
