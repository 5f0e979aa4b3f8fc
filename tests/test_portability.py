"""Systems without what POSIX alone has, as Windows: simulated, because the suite runs on Linux."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.commands

WITHOUT = """
import os, signal, sys
sys.path.insert(0, {root!r})
import subprocess, tempfile, asyncio, ctypes              # they use what is taken away, and choose at their import
import torch, h5py, matplotlib
for module, names in (
    (os, ("fchmod", "register_at_fork", "sched_getaffinity", "sysconf")),
    (signal, ("SIGALRM", "setitimer", "ITIMER_REAL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")),
):
    for name in names:
        delattr(module, name)
sys.modules["resource"] = sys.modules["fcntl"] = None               # their import fails
from importlib import import_module
from lossatlas import cli, process, programs
process.arm()
*earlier, last = (line.split() for line in sys.argv[1:])
for name, *words in earlier:                                        # the last one ends the process
    command = programs.COMMANDS[name]
    if code := import_module(f"lossatlas.commands.{{command.module}}").main([*words, *command.options]):
        process.leave(code)
sys.argv = ["lossatlas", *last]
cli.main()
"""


@pytest.mark.full
def test_a_surface_is_computed_continued_and_drawn_without_posix(tmp_path, perceptron):
    data = f"--model mlp --dataset fashion_mnist_mini --limit 40 --model_file {perceptron}"
    grid = "--x=-1:1:3 --y=-1:1:3 --surf_file s.h5 --dir_file d.h5"

    def run(*lines):
        command = [sys.executable, "-c", WITHOUT.format(root=str(ROOT)), *lines]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)

    surface = f"surface {data} {grid}"
    result = run(f"{surface} --dry_run", surface, surface, "check s.h5", "plot s.h5 --format png --dpi 50")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "s.h5_train_loss_2dcontour.png").exists()
    wrong = run("surface --nonsense")
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
