"""The examples run, and the notebook from top to bottom."""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import matplotlib
import pytest
from conftest import MPIRUN, ROOT
from matplotlib.contour import ContourSet
from torture.place import Place, ended, processes

from lossatlas import figures
from lossatlas.io import read_surface

pytestmark = pytest.mark.commands

SIZES = [(w, d) for d in (1, 2, 3) for w in (4, 8, 16)]
NOTEBOOK = json.loads((ROOT / "examples" / "own_network.ipynb").read_text())


@pytest.mark.filterwarnings("ignore:the DataLoader shuffles")
def test_the_notebook_runs_and_draws(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    assert matplotlib.get_backend().lower() == "agg"
    plt.close("all")
    names: dict = {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "own_network.ipynb", "exec"), names)
    assert len(plt.get_fignums()) == 4
    plt.close("all")
    assert names["surface"].done.all()
    assert names["found"].resolved.all()
    assert names["path"].explained.sum() > 0.6
    assert not list(tmp_path.iterdir())  # no file unless asked


def test_examples_run(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [""])
    for name in ("from_python", "curvature_of_a_matrix"):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    plt.close("all")
    assert (tmp_path / "own.h5_own.png").exists()


FAKE = {
    # As SLURM starts the tasks of a step, here by a local mpirun.
    "srun": """#!/bin/bash
while [[ "$1" == --* ]]; do echo "$1" >> "$FAKE/options"; shift; done
export SLURM_STEP_NUM_TASKS=2
exec mpirun -n 2 "$@"
""",
    "scontrol": """#!/bin/bash
echo "$@" >> "$FAKE/requeued"
""",
}


SMALL = ["--x=-1:1:5", "--y=-1:1:5"]


def test_lines_and_numbers_of_effective_dimensions_have_the_halo_of_the_legend():
    from examples.effective_dimension.story import panels

    records = [
        {"width": w, "depth": d, "parameters": 60 * w * d, "train_loss": 1 / w, "test_loss": 1.0 * d} for w, d in SIZES
    ]
    with figures.style() as plt:
        fig = panels(plt, {"perceptrons: units": [each | {"effective_dimension": 2.0} for each in records]})
    (line,) = fig.legends[0].get_lines()
    assert line.get_path_effects()
    for axis in fig.axes[:3]:
        (contours,) = (each for each in axis.collections if isinstance(each, ContourSet))
        assert contours.labelTexts
        for each in (contours, *contours.labelTexts):
            assert each.get_path_effects() == line.get_path_effects()


@pytest.mark.full
@pytest.mark.mpi
def test_the_script_for_slurm_goes_into_the_queue_again_until_it_is_complete(tmp_path):
    """Stopped by the signal before the time is over, then killed, then complete; and not again after wrong usage."""
    place = Place.at(tmp_path)
    for name, text in FAKE.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{Path(MPIRUN).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {"PATH": path, "FAKE": str(tmp_path), "SLURM_JOB_ID": "77", "SLEEP": "0.03", "SLURM_RESTART_COUNT": "1"}
    file = tmp_path / "s.h5"
    script = ["bash", str(ROOT / "examples" / "slurm.sh")]
    command = [*script, *place.command("plot_surface.py", file, *SMALL)[1:]]
    requeued = tmp_path / "requeued"
    cells = []
    for ending in (signal.SIGUSR1, signal.SIGKILL):
        process = place.start(command, **given)
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and not (file.exists() and read_surface(file).done.sum() > sum(cells[-1:])):
            time.sleep(0.1)
        for pid in processes(str(file)):
            os.kill(pid, ending)
        result = ended(process, 600, time.monotonic())
        assert result.code not in (0, None), result.errors
        assert (result.code == 4) == (ending == signal.SIGUSR1)
        cells.append(int(read_surface(file).done.sum()))
    assert requeued.read_text().split("\n")[0] == "requeue 77"
    assert 0 < cells[0] <= cells[1]
    before = requeued.read_text()
    last = place.run(command, **{**given, "SLEEP": "0"})
    assert last.code == 0, last.errors
    assert read_surface(file).done.all()
    wrong = place.run([*command, "--x=1:0:3"], **given)
    assert wrong.code == 2
    assert requeued.read_text() == before
    assert "--kill-on-bad-exit=1" in (tmp_path / "options").read_text()


@pytest.mark.full
@pytest.mark.mpi
def test_the_script_for_mpirun_starts_again_what_was_stopped(tmp_path):
    place = Place.at(tmp_path)
    path = f"{Path(MPIRUN).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {"PATH": path, "PAUSE": "0", "SLEEP": "0.03"}
    file = tmp_path / "s.h5"
    process = place.start(
        ["bash", str(ROOT / "examples" / "mpirun.sh"), *place.command("plot_surface.py", file, *SMALL)[1:]], **given
    )
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and not file.exists():
        time.sleep(0.1)
    for pid in processes(str(file)):
        os.kill(pid, signal.SIGTERM)
    result = ended(process, 600, time.monotonic())
    assert result.code == 0, result.errors
    assert "attempt 1 ended with 4" in result.errors
    assert read_surface(file).done.all()
