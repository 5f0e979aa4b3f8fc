"""Messages about losses that are not finite: the data, where they are the cause, and the weights otherwise."""

import numpy as np
import pytest
import torch

import lossatlas
from lossatlas.data import Dataset
from lossatlas.data.finite_check import first_not_finite
from lossatlas.errors import BadInput

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
