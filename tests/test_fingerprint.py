"""Digests of settings and data: equal for equal ones, different for each kind of change."""

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lossatlas.data import Dataset
from lossatlas.jobs.inputs.fingerprint import (
    data_record,
    data_sketches,
    identity_of,
    recalibration_record,
    settings_digest,
    user_loss_name,
    without_classes,
)


def sha(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, b"3;"),
        (True, b"True;"),
        ("a", b"'a';"),
        (None, b"None;"),
        (torch.float32, b"torch.float32;"),
        ({"b": 1, "a": 2.5}, b"a:;2.5;b:;1;"),
        ([1, (2, 3)], b"1;2;3;"),
        ({8, 1}, b"1;8;"),
        ([[[[[[[1]]]]]]], b"list;"),  # deeper than it looks
        (torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8), b"(2, 2) torch.uint8;\x01\x02\x03\x04;"),
        (torch.tensor([1, 2], dtype=torch.uint8), b"(2,) torch.uint8;\x01\x02;"),
        (np.zeros((0, 2), np.float32), b"(0, 2) torch.float32;;"),
        (functools.partial(max, 1, key=2), b"partial;builtins.max;1;key:;2;"),
    ],
)
def test_files_record_these_digests(value, text):
    """A file of an earlier version is continued only where the digest is the same text for ever."""
    assert settings_digest(value) == sha(text)


def small_net(hidden: int = 4, slope: float = 0.1) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(slope), nn.Dropout(0.5), nn.Linear(hidden, 2)
    )


def moved(net: nn.Module) -> nn.Module:
    for tensor in net.state_dict().values():
        tensor.add_(1)
    return net


def squared(output: Tensor, target: Tensor, scale: float = 1.0, *, power: int = 2) -> Tensor:
    return (scale * (output - target) ** power).mean()


def scaled_by(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda output: factor * output


class Weighted:
    """A loss with attributes, as an object and by its method."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def loss(self, output: Tensor) -> Tensor:
        return self.weight * output.mean()


def nested(depth: int, inner: int) -> Any:
    return inner if depth == 0 else [nested(depth - 1, inner)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (small_net(), small_net()),  # other weights
        (small_net(), moved(small_net())),  # other statistics of BatchNorm too
        (small_net().train(), small_net().eval()),
        (small_net(), small_net().requires_grad_(False)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (scaled_by(2.0), scaled_by(2.0)),
        (functools.partial(squared, scale=2.0), functools.partial(squared, scale=2.0)),
        (Weighted(1.0), Weighted(1.0)),
        (Weighted(1.0).loss, Weighted(1.0).loss),
        (torch.arange(6).reshape(2, 3).T, torch.arange(6).reshape(2, 3).T.contiguous()),  # other memory
        (np.arange(3.0), torch.arange(3.0, dtype=torch.float64)),
        (nn.CrossEntropyLoss(weight=torch.ones(2)), nn.CrossEntropyLoss(weight=torch.ones(2))),
        (nested(7, 1), nested(7, 2)),  # deeper than it looks
    ],
)
def test_equal_settings_have_equal_digests(first, second):
    assert settings_digest(first) == settings_digest(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (small_net(4), small_net(5)),
        (small_net(slope=0.1), small_net(slope=0.2)),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())),
        (nn.Sequential(nn.ReLU()), nn.ModuleList([nn.ReLU()])),
        (nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sequential(nn.Tanh(), nn.ReLU())),
        (nn.ModuleDict({"a": nn.ReLU()}), nn.ModuleDict({"b": nn.ReLU()})),
        (nn.Conv2d(1, 2, 3, stride=1), nn.Conv2d(1, 2, 3, stride=2)),
        (nn.Conv2d(1, 2, 3, padding="same"), nn.Conv2d(1, 2, 3, padding="valid")),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (nn.CrossEntropyLoss(weight=torch.ones(2)), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))),
        (nn.MSELoss(), nn.L1Loss()),
        (nn.functional.mse_loss, nn.functional.l1_loss),
        (scaled_by(2.0), scaled_by(3.0)),
        (functools.partial(squared, scale=2.0), functools.partial(squared, scale=3.0)),
        (functools.partial(squared, power=2), functools.partial(squared, scale=2)),
        (functools.partial(squared), squared),
        (Weighted(1.0), Weighted(2.0)),
        (Weighted(1.0).loss, Weighted(2.0).loss),
        (1, 1.0),
        (1, True),
        (1, "1"),
        ("1", b"1"),
        (None, "None"),
        (torch.float32, torch.float64),
        (torch.arange(4), torch.arange(4).reshape(2, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2), torch.tensor([0.0, 1e-30])),
        ({"a": 1}, {"b": 1}),
        (["a", "b"], ["b", "a"]),
        (nested(6, 1), nested(6, 2)),
        (max, min),
    ],
)
def test_each_kind_of_change_has_its_own_digest(first, second):
    assert settings_digest(first) != settings_digest(second)


def test_an_object_that_holds_itself_has_a_digest():
    loop: dict[str, Any] = {"a": 1}
    loop["self"] = loop
    assert len(settings_digest(loop)) == 16


SOURCE = """
from torch import nn

class Base(nn.Module):
    def forward(self, x):
        return 2 * x

class Net(Base):
    def __init__(self):
        super().__init__()
        self.gain = 1.0

def loss(output, target, scale=1.0, *, power=2):
    return (scale * (output - target) ** power).mean()
"""


def written(folder: Path, source: str, name: str = "mine") -> ModuleType:
    """A module of the user's with this source."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digests(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The digests of its network and its loss, as long as Python finds the module."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        return settings_digest(module.Net()), settings_digest(module.loss)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("", "", (False, False)),
        ("from torch import nn\n", "from torch import nn\nUNUSED = 1\n", (False, False)),
        ("2 * x", "3 * x", (True, False)),  # of a base class
        ("self.gain = 1.0", "self.gain = 2.0", (True, False)),
        ("scale * (output", "scale + (output", (False, True)),
        ("scale=1.0", "scale=2.0", (False, True)),
    ],
)
def test_code_of_the_user_counts(tmp_path, monkeypatch, old, new, changed):
    before = digests(written(tmp_path / "a", SOURCE), monkeypatch)
    after = digests(written(tmp_path / "b", SOURCE.replace(old, new, 1)), monkeypatch)
    assert tuple(one != other for one, other in zip(before, after, strict=True)) == changed


def test_a_file_has_several_module_names(tmp_path, monkeypatch):
    """A command imports FILE.py by another name than a script that imports it."""
    module, other = written(tmp_path, SOURCE), written(tmp_path, SOURCE, "otherwise")
    assert digests(module, monkeypatch) == digests(other, monkeypatch)


def typed(text: str) -> Callable[..., Any]:
    """A function that was typed into an interpreter, so that no file has its source."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(text, names)
    function: Callable[..., Any] = names["f"]
    return function


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def f(x, a=1):\n    return 2 * x", True),
        ("def f(x, a=1):\n    return 3 * x", False),  # a constant
        ("def f(x, a=1):\n    return 2 + x", False),  # an operation
        ("def f(x, a=2):\n    return 2 * x", False),  # a default
        ("def f(x, *, a=1):\n    return 2 * x", False),
    ],
)
def test_functions_without_a_source_are_told_apart_by_their_code(text, same):
    first = typed("def f(x, a=1):\n    return 2 * x")
    assert (settings_digest(first) == settings_digest(typed(text))) is same


def test_defaults_of_keywords_count():
    first, second = (typed(f"def f(x, *, a={value}):\n    return 2 * x") for value in (1, 2))
    assert settings_digest(first) != settings_digest(second)


def test_functions_of_libraries_have_their_module_in_the_name():
    assert identity_of(nn.Linear) == "torch.nn.modules.linear.Linear"
    assert identity_of(Dataset) == "lossatlas.data.dataset.Dataset"
    assert identity_of(Weighted) == "Weighted"
    assert identity_of(Weighted.loss) == "Weighted.loss"


def test_losses_are_named_for_the_record():
    assert user_loss_name(nn.L1Loss()) == "L1Loss()"
    assert user_loss_name(squared).endswith(".squared")
    assert user_loss_name(functools.partial(squared, scale=2.0)) == f"partial of {user_loss_name(squared)}"
    assert user_loss_name(Weighted(1.0)).endswith(".Weighted")


def samples(classes: int = 0, shift: float = 0.0) -> Dataset:
    return Dataset("moons", "train", (torch.arange(6.0).reshape(3, 2) + shift, torch.tensor([0, 1, 0])), classes)


def test_data_are_recorded_with_their_classes_and_without():
    declared, plain, other = (data_record({"train": each}) for each in (samples(2), samples(), samples(shift=1.0)))
    assert declared.keys() == {"train_data", "train_samples"}
    assert declared["train_data"] != declared["train_samples"]
    assert declared["train_samples"] == plain["train_samples"] == plain["train_data"]
    assert plain["train_samples"] != other["train_samples"]
    assert without_classes(samples(2)).classes == 0
    assert list(data_record({"train": samples(), "test": samples(2)})) == [
        *("train_data", "train_samples"),
        *("test_data", "test_samples"),
    ]


def test_sketches_have_the_names_of_the_digests():
    declared, plain, other = (data_sketches({"train": each}) for each in (samples(2), samples(), samples(shift=1.0)))
    assert declared.keys() == data_record({"train": samples()}).keys()
    assert declared["train_samples"] == plain["train_samples"] == plain["train_data"]
    assert declared["train_data"] != declared["train_samples"]
    assert plain["train_samples"] != other["train_samples"]


def test_recalibration_is_recorded_with_its_samples():
    assert recalibration_record(20, samples()) == f"recalibrated on 20 samples of {samples().digest}"
