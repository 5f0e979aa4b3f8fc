"""The examples run, and the notebook from top to bottom."""

import json
import subprocess
import sys

import matplotlib
import pytest
from conftest import ROOT

NOTEBOOK = json.loads((ROOT / "examples" / "own_network.ipynb").read_text())


@pytest.mark.slow
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


def test_examples_run(tmp_path):
    for name in ("from_python", "curvature_of_a_matrix"):
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "own.h5_own.png").exists()
