"""The installed package, away from the clone: run with `pytest tests/wheel` where the wheel is installed.

These tests use no MPI and no file of the clone, and run on Linux, macOS and Windows.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lossatlas

OWN = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

def data(split):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(len(split)))
    return x, (x.prod(1) > 0).long()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and data of one's own, which is the current one."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lossatlas", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)


def test_a_surface_of_ones_own_network_by_command_is_that_of_python(folder: Path) -> None:
    options = ["--model", "own.py:make", "--dataset", "own.py:data", "--xnorm", "filter", "--xignore", "biasbn"]
    result = program("surface", *options, "--x=-1:1:5", "--surf_file", "s.h5", "--dir_file", "d.h5", folder=folder)
    assert result.returncode == 0, result.stderr
    found = lossatlas.read(folder / "s.h5")
    sys.path.insert(0, str(folder))
    try:
        import own
    finally:
        sys.path.remove(str(folder))
    net, (x, y) = own.make(), own.data("train")
    surface = lossatlas.surface(net, (x, y), x="-1:1:5", progress=False)
    np.testing.assert_allclose(found.loss, surface.loss, rtol=1e-5)
    assert surface.loss[2] == pytest.approx(nn.functional.cross_entropy(net(x), y).item(), rel=1e-5)


def test_it_is_drawn_and_viewed(folder: Path) -> None:
    options = ["--model", "own.py:make", "--dataset", "own.py:data", "--x=-1:1:5", "--y=-1:1:5", "--surf_file", "s.h5"]
    assert program("surface", *options, folder=folder).returncode == 0
    for command in (["plot", "s.h5"], ["view", "s.h5"], ["info", "s.h5"], ["check", "s.h5"]):
        result = program(*command, folder=folder)
        assert result.returncode == 0, (command, result.stderr)
    assert list(folder.glob("s.h5*contour*.png"))
    assert list(folder.glob("s*.html"))


def test_wrong_usage_is_one_line(folder: Path) -> None:
    result = program("surface", "--nonsense", folder=folder)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert program("nothing", folder=folder).returncode == 2
    assert program("--version", folder=folder).stdout.split()[-1] == lossatlas.__version__


def test_bundled_data_come_with_the_package(folder: Path) -> None:
    result = program("data", "--dataset", "fashion_mnist_mini", folder=folder)
    assert result.returncode == 0, result.stderr
    assert "2000 images" in result.stdout


def test_a_file_of_the_clone_is_named_as_one(folder: Path) -> None:
    options = ["--model", "resnet20", "--dataset", "fashion_mnist_mini", "--x=-1:1:3"]
    result = program(
        "surface", *options, "--model_file", "trained_nets/resnet20_small_batch.safetensors", folder=folder
    )
    assert result.returncode == 3
    assert "come with the repository, not with the installed package" in result.stderr


def test_the_package_is_the_installed_one() -> None:
    assert "site-packages" in lossatlas.__file__ or "dist-packages" in lossatlas.__file__
    assert torch.__version__
