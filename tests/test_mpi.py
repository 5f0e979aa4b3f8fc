"""The main job under a real mpirun: the same bits for any number of ranks and kills, and an end for every error."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import MPIRUN, ROOT, python, surface_command, write_checkpoint
from torture.place import numbers

from lossatlas.commands import plot_surface
from lossatlas.io import read_surface

pytestmark = pytest.mark.mpi

GRID = ["--x=-1:1:5", "--y=-0.5:1:4", "--split", "both", "--threads", "1", "--batch_size", "16"]


@pytest.mark.parametrize("ranks", [2, *(pytest.param(each, marks=pytest.mark.full) for each in (1, 3))])
def test_what_holds_on_several_ranks_holds(tmp_path, ranks):
    """tests/mpi, all of it in one session."""
    quiet = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-o", "timeout=600"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    session = [MPIRUN, "-n", ranks, sys.executable, "-m", "pytest", "-q", "tests/mpi", *quiet]
    environment["PYTEST_DEBUG_TEMPROOT"] = str(tmp_path)
    result = subprocess.run(
        [*map(str, session)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    passed = re.findall(r"(\d+) passed", result.stdout)  # anywhere: a rank may write into the line of another
    assert len(passed) == ranks
    assert int(passed[0]) > 30


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The surface by one process without MPI."""
    folder = tmp_path_factory.mktemp("alone")
    checkpoint = write_checkpoint(folder / "net.safetensors", "resnet20")
    assert plot_surface.main(surface_command(checkpoint, folder / "surface.h5", *GRID, model="resnet20")) == 0
    return folder / "surface.h5"


@pytest.mark.parametrize("ranks", [1, 3, pytest.param(2, marks=pytest.mark.full)])  # tests/mpi runs on 2
def test_any_number_of_ranks_gives_the_same_bits(tmp_path, alone, ranks):
    checkpoint = write_checkpoint(tmp_path / "net.safetensors", "resnet20")
    command = surface_command(checkpoint, tmp_path / "surface.h5", *GRID, "--mpi", model="resnet20")
    result = python("plot_surface.py", *command, launcher=[MPIRUN, "-n", ranks])
    assert result.returncode == 0, result.stderr
    assert f"{ranks} rank" in result.stdout
    found, expected = numbers(tmp_path / "surface.h5"), numbers(alone)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert np.isfinite(read_surface(alone).fields["test_loss"]).all()


class Run:
    """A run in the background that is slow enough to be killed, and its processes."""

    def __init__(self, folder: Path, ranks: int) -> None:
        self.folder, self.surface = folder, folder / "surface.h5"
        checkpoint = write_checkpoint(folder / "net.safetensors", "resnet20")
        command = surface_command(
            checkpoint,
            self.surface,
            "--mpi",
            "--x=-1:1:9",
            "--y=-1:1:8",
            "--threads",
            "1",
            "--batch_size",
            "50",
            "--split",
            "both",
            model="resnet20",
            limit=200,
        )
        self.command = [str(MPIRUN), "-n", str(ranks), sys.executable, "plot_surface.py", *command]
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def rank(self, number: int) -> int:
        """The process id of a rank, from its environment."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            mine = str(self.surface).encode() in words and f"PMI_RANK={number}".encode() in environment
            if mine and b"mpirun" not in words[0]:
                return int(folder.name)
        raise AssertionError(f"rank {number} is not running")

    def wait_for_cells(self, number: int) -> None:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            if self.surface.exists() and read_surface(self.surface).done.sum() >= number:
                return
            time.sleep(0.05)
        raise AssertionError("no cells were saved in time")

    def ends(self) -> int:
        try:
            self.process.communicate(timeout=600)
        finally:
            with_group = self.process.poll() is None
            if with_group:
                os.killpg(self.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:  # nobody of this run is left behind
            try:
                self.rank(0)
            except AssertionError:
                return self.process.returncode
            time.sleep(0.1)
        raise AssertionError("a rank is still running")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    run = Run(tmp_path_factory.mktemp("undisturbed"), 2)
    assert run.ends() == 0
    return numbers(run.surface)


@pytest.mark.full
def test_a_killed_run_continues_to_the_same_bits(tmp_path, undisturbed):
    """A network of the zoo; workers, launchers, other quantities and users' networks: test_torture.py."""
    run = Run(tmp_path, 2)
    run.wait_for_cells(1)
    os.kill(run.rank(0), signal.SIGKILL)
    assert run.ends() != 0
    saved = read_surface(run.surface)
    assert 0 < saved.done.sum() < saved.grid.size
    again = subprocess.run(run.command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{saved.done.sum()} of {saved.grid.size} cells done" in again.stdout  # and not computed again
    assert numbers(run.surface) == undisturbed


@pytest.mark.parametrize("targets", [[0], pytest.param([1, 0], marks=pytest.mark.full)])
def test_sigterm_saves_what_is_there_and_says_how_to_go_on(tmp_path, targets):
    """To rank 0 alone, and to every rank, as batch systems do it."""
    run = Run(tmp_path, 2)
    run.wait_for_cells(8)  # so that every rank has long joined
    for target in targets:
        os.kill(run.rank(target), signal.SIGTERM)
        time.sleep(0.2)
    _, errors = run.process.communicate(timeout=600)
    assert run.ends() == 4, errors
    assert "stopped by SIGTERM" in errors
    assert "run the same command again" in errors
    assert "stopped by SIGTERM" in Path(f"{run.surface}.log").read_text()


def changed(folder: Path, change: str) -> Path:
    """plot_surface.py as a script that changes something in it first."""
    script = folder / "changed.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from lossatlas import process
from lossatlas.commands import plot_surface
from lossatlas.jobs.sweep import named_grid_job
{change}
process.arm()
process.run(plot_surface.main)
""")
    return script


def test_an_error_on_a_worker_ends_every_rank_with_its_code(tmp_path):
    """Each rank but the first is told to fail; rank 0 saves, prints one line, keeps it in the log."""
    write_checkpoint(tmp_path / "net.safetensors", "mlp")
    script = changed(
        tmp_path,
        """
import os, time
from lossatlas.errors import BadInput
original = named_grid_job.make_worker
def make_work(*args):
    work = original(*args)
    def slow(cells):
        time.sleep(0.3)
        if os.environ["PMI_RANK"] != "0":
            raise BadInput("this rank is broken")
        return work(cells)
    return slow
named_grid_job.make_worker = make_work
""",
    )
    command = surface_command(tmp_path / "net.safetensors", tmp_path / "s.h5", *GRID, "--mpi")
    result = python(script, *command, launcher=[MPIRUN, "-n", 3])
    assert result.returncode == 3
    assert result.stderr.count("this rank is broken") == 1
    assert "Traceback" not in result.stderr
    assert "this rank is broken" in (tmp_path / "s.h5.log").read_text()


@pytest.mark.full
def test_a_worker_that_fails_after_the_last_block_is_heard(tmp_path):
    """Three ranks, two cells: the third fails late in setting up, when all results are in."""
    write_checkpoint(tmp_path / "net.safetensors", "mlp")
    script = changed(
        tmp_path,
        """
import os, time
from lossatlas.errors import BadInput
original = named_grid_job.make_worker
def make_work(*args):
    if os.environ["PMI_RANK"] == "2":
        time.sleep(4)
        raise BadInput("this rank is late and broken")
    return original(*args)
named_grid_job.make_worker = make_work
""",
    )
    command = surface_command(tmp_path / "net.safetensors", tmp_path / "s.h5", "--x=0:1:2", "--mpi")
    result = python(script, *command, launcher=[MPIRUN, "-n", 3])
    assert result.returncode == 3
    assert result.stderr.count("rank 2: this rank is late and broken") == 1
    log = (tmp_path / "s.h5.log").read_text()
    assert "rank 2: this rank is late and broken" in log
    assert "complete" not in log + result.stdout
    assert read_surface(tmp_path / "s.h5").done.all()  # what is computed is kept
    again = python("plot_surface.py", *command, launcher=[MPIRUN, "-n", 3])
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "where",
    [
        "before the sum",
        pytest.param("after the sum", marks=pytest.mark.full),
        pytest.param("at the start", marks=pytest.mark.full),
        "in an import",
    ],
)
def test_a_failing_rank_of_a_spectrum_is_in_the_log(tmp_path, where):
    write_checkpoint(tmp_path / "net.safetensors", "mlp")
    script = tmp_path / "broken.py"
    script.write_text(f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from lossatlas import process
from lossatlas.commands import hessian_spectrum
from lossatlas.mpi import communicator
from lossatlas import hessian
from lossatlas.errors import BadInput
def fail(where):
    if os.environ["PMI_RANK"] == "1" and where == {where!r}:
        raise BadInput("this device is gone")
class Broken(hessian.Hessian):
    def __init__(self, *args, **options):
        fail("at the start")
        super().__init__(*args, **options)
    def __call__(self, *args):
        fail("before the sum")
        result = super().__call__(*args)
        fail("after the sum")
        return result
hessian.Hessian = Broken
share = communicator.World.share
def shared(self, value):
    if not self.root:
        fail("in an import")
    return share(self, value)
communicator.World.share = shared
process.arm()
process.run(hessian_spectrum.main)
""")
    out = tmp_path / "spectrum.h5"
    line = [
        *"--model mlp --dataset fashion_mnist_mini --limit 40 --model_file".split(),
        tmp_path / "net.safetensors",
        "--spectrum_file",
        out,
        "--mpi",
    ]
    result = python(script, *line, launcher=[MPIRUN, "-n", 2])
    assert result.returncode == 3
    assert result.stderr.count("rank 1: this device is gone") == 1
    # otherwise the rank that failed has ended the others itself
    assert "rank 1: this device is gone" in Path(f"{out}.log").read_text()


def test_bad_input_is_one_line_under_mpirun_too(tmp_path):
    write_checkpoint(tmp_path / "net.safetensors", "mlp")
    command = surface_command(tmp_path / "absent.safetensors", tmp_path / "s.h5", "--mpi")
    result = python("plot_surface.py", *command, launcher=[MPIRUN, "-n", 2])
    assert result.returncode == 3
    assert result.stderr.count("error:") == 1
    assert "no checkpoint at" in (tmp_path / "s.h5.log").read_text()
    assert not (tmp_path / "s.h5").exists()


@pytest.mark.parametrize(
    ("script", "more", "code", "line"),
    [
        ("plot_surface.py", ["--x=1:0:3"], 2, "--x=1:0:3"),
        pytest.param("plot_surface.py", ["--tolerance", "many"], 2, "--tolerance many", marks=pytest.mark.full),
        pytest.param(
            "plot_hessian_eigen.py",
            ["--parameters", "fc("],
            2,
            "'fc(' is no regular expression",
            marks=pytest.mark.full,
        ),
        ("plot_hessian_eigen.py", ["--parameters", "nothing"], 2, "no parameter is called like nothing"),
    ],
)
def test_wrong_options_are_one_line_from_all_ranks_together(tmp_path, script, more, code, line):
    command = surface_command(write_checkpoint(tmp_path / "net.safetensors", "mlp"), tmp_path / "s.h5", "--mpi", *more)
    result = python(script, *command, launcher=[MPIRUN, "-n", 3])
    assert result.returncode == code
    assert result.stderr.count("error:") == 1
    assert line in result.stderr
    assert "Traceback" not in result.stderr


def test_a_launcher_without_mpi_flag_is_refused(tmp_path):
    command = surface_command(write_checkpoint(tmp_path / "net.safetensors", "mlp"), tmp_path / "s.h5")
    result = python("plot_surface.py", *command, launcher=[MPIRUN, "-n", 2])
    assert result.returncode == 2
    assert result.stderr.count("--mpi is missing") == 1  # not a line for each rank
