"""The package as it is installed: built as a wheel, and used where there is no clone."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import MPIRUN, ROOT

from lossatlas.io import read_surface

pytestmark = pytest.mark.commands

USE = """
import sys, torch
import models, options, surface                       # the user's own
from torch import nn
import lossatlas
assert "site" in lossatlas.__file__, lossatlas.__file__
others = {"mpi4py", "lossatlas.commands", "matplotlib.pyplot"} & set(sys.modules)
assert not others, f"not the library's business: {others}"
net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
x = torch.randn(40, 2)
found = lossatlas.surface(net, (x, (x[:, 0] > 0).long()), x="-1:1:5", progress=False, file="s.h5")
assert abs(found.loss[2] - nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long()).item()) < 1e-5
found.plot().savefig("s.png")
assert lossatlas.read("s.h5").done.all()
print(lossatlas.__version__)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where a wheel of this project is installed, alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "lossatlas", source / "lossatlas", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"lossatlas"}
    assert "lossatlas/py.typed" in zipfile.ZipFile(wheel).namelist()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site-packages"), str(wheel)], check=True)
    return folder / "site-packages"


def test_it_works_without_the_clone(site, tmp_path):
    for name in ("models", "options", "surface"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "use.py").write_text(USE)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, "use.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    import lossatlas

    assert result.stdout.strip().endswith(lossatlas.__version__)


def test_its_own_tests_pass_there(site, tmp_path):
    """The tests in tests/wheel, which the workflow runs on Linux, macOS and Windows."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", str(ROOT / "tests" / "wheel")]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_one_version():
    import tomllib

    import lossatlas

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "lossatlas.__version__"}
    assert f"\nversion: {lossatlas.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {lossatlas.__version__} (20" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_is_small(site):
    (wheel,) = site.parent.glob("*.whl")
    assert wheel.stat().st_size < 3e6
    assert "lossatlas/datasets/fashion_mnist_mini.npz" in zipfile.ZipFile(wheel).namelist()


def test_the_program_computes_on_ranks_that_it_starts_without_the_clone(site, tmp_path):
    """An own network, by the installed program, on two ranks where there is an MPI library."""
    (tmp_path / "nets.py").write_text(
        "import torch\ndef make():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        command = [str(site / "bin" / "lossatlas"), *words]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    data = ["--model", "nets.py:make", *"--dataset fashion_mnist_mini --limit 50 --batch_size 50".split()]
    run("surface", *data, "--x=-1:1:3", "--y=-1:1:3", "--surf_file", "s.h5", *["--ranks", "2"] * bool(MPIRUN))
    assert read_surface(tmp_path / "s.h5").done.all()
    assert "about.command: lossatlas surface --model nets.py:make" in run("info", "s.h5")
