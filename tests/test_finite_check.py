"""Messages about losses that are not finite: the data, where they are the cause, and the weights otherwise."""

import warnings

import numpy as np
import pytest
import torch

import lossatlas
from lossatlas.commands import plot_surface
from lossatlas.data import Dataset
from lossatlas.data.finite_check import first_not_finite
from lossatlas.errors import BadInput, Note

CALLS = {
    "eigenvalues": {"x": "-1:1:3"},
    "spectrum": {"top": 1},
    "sharpness": {"rho": [0.1]},
    "learning_coefficient": {"chains": 1, "draws": 4},
    "surface": {"x": "-1:1:3", "directions": "eigenvector"},
}


def net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite values")])
def test_data_that_are_not_finite_are_named(name, value, word):
    x, y = torch.randn(300, 3), torch.arange(300) % 2
    x[280, 1] = value
    if name in ("sharpness", "learning_coefficient") and word != "NaN":
        pytest.skip("tanh of an infinite input is finite")
    with pytest.raises(BadInput, match=rf"the data contain {word}, first in sample 280 \(counted from 0\)"):
        getattr(lossatlas, name)(net(), (x, y), progress=False, **CALLS[name])


@pytest.mark.parametrize("name", CALLS)
def test_weights_that_are_not_finite_are_not_blamed_on_the_data(name):
    wrong = net()
    with torch.no_grad():
        wrong[0].weight[0, 0] = float("nan")
    with pytest.raises(BadInput) as caught:
        getattr(lossatlas, name)(wrong, (torch.randn(40, 3), torch.arange(40) % 2), progress=False, **CALLS[name])
    assert "the data" not in str(caught.value)


def test_the_first_sample_is_counted_over_batches_and_structures():
    x = {"a": torch.zeros(600, 2, 2), "b": torch.zeros(600), "names": ["n"] * 600}
    assert first_not_finite(Dataset("it", "train", (x, torch.arange(600)), 2)) == ""
    x["b"][599] = -np.inf
    assert "sample 599 " in first_not_finite(Dataset("it", "train", (x, torch.arange(600)), 2))
    x["a"][512, 0, 1] = np.nan
    assert "NaN, first in sample 512 " in first_not_finite(Dataset("it", "train", (x, torch.arange(600)), 2))


def test_a_surface_without_a_finite_loss_says_why():
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    own = {"x": "-1:1:3", "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lossatlas.surface(net(), (x, y), **own)
    with pytest.warns(Note, match=r"train_loss is finite at no cell: the data are finite, so the network or the loss"):
        lossatlas.surface(torch.nn.Sequential(net(), Infinite()), (x, y), **own)
    x[7, 2] = float("nan")
    with pytest.warns(Note, match=r"train_loss is finite at no cell: the data contain NaN, first in sample 7 "):
        lossatlas.surface(net(), (x, y), **own)


class Infinite(torch.nn.Module):
    def forward(self, x):
        return x + float("inf")


OWN = """
import torch

def make():
    return torch.nn.Linear(4, 3)

def samples(split):
    x = torch.randn(20, 4)
    x[3, 1] = float("nan")
    return x, torch.arange(20) % 3
"""


@pytest.mark.commands
def test_the_command_says_why_no_loss_is_finite(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "own.pt")
    own = ["--model", f"{tmp_path}/own.py:make", "--dataset", f"{tmp_path}/own.py:samples", "--x=-1:1:3"]
    assert plot_surface.main([*own, "--model_file", f"{tmp_path}/own.pt", "--surf_file", f"{tmp_path}/s.h5"]) == 0
    assert "train_loss is finite at no cell: the data contain NaN, first in sample 3 " in "".join(capsys.readouterr())
