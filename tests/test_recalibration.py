"""Statistics of BatchNorm estimated again at every point: against torch's own update_bn on a network moved by hand."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import surface_command, write_checkpoint
from torch import nn
from torch.optim.swa_utils import update_bn

import lossatlas
from lossatlas.commands import plot_surface
from lossatlas.data.dataset import Dataset
from lossatlas.datasets.registry import load
from lossatlas.errors import BadUsage
from lossatlas.evaluation.recalibration import RECALIBRATION_BATCH
from lossatlas.evaluation.sample_storage import shuffled_order
from lossatlas.io import read_directions, read_surface
from lossatlas.models import load_network

LINE = ("--x=-0.6:1:3", "--bn", "recalibrate", "--bn_samples", "250")


@pytest.fixture
def net(tmp_path) -> Path:
    return write_checkpoint(tmp_path / "net.safetensors", "resnet20")


def run(net, file, *more, limit=300):
    return plot_surface.main(surface_command(net, file, *more, model="resnet20", limit=limit))


def stream(data: Dataset, count: int) -> list[torch.Tensor]:
    order = shuffled_order(len(data))[: min(count, len(data))]
    return [data.inputs[part].float() for part in order.split(RECALIBRATION_BATCH)]


def expected(net: Path, directions, x, train: Dataset, shown: Dataset, count: int) -> list[float]:
    """Losses along a line, the network being moved, and recalibrated by torch, by hand."""
    found = []
    for a in x:
        model = load_network("resnet20", net, (1, 28, 28))
        with torch.no_grad():
            for p, d in zip(model.parameters(), directions.x, strict=True):
                p += float(a) * torch.from_numpy(d)
        update_bn(stream(train, count), model)
        with torch.no_grad():
            found.append(float(F.cross_entropy(model.eval()(shown.inputs.float()).double(), shown.targets)))
    return found


@pytest.mark.parametrize("split", ["train", "test"])
def test_against_update_bn(tmp_path, net, split):
    """The samples they are estimated from are training samples, whichever the loss is of."""
    file = tmp_path / "s.h5"
    assert run(net, file, *LINE, "--split", split, "--dir_file", str(tmp_path / "d.h5")) == 0
    surface = read_surface(file)
    assert surface.plan["recalibrated"] == 250
    train, shown = (load("fashion_mnist_mini", each, limit=300) for each in ("train", split))
    wanted = expected(net, read_directions(tmp_path / "d.h5"), surface.grid.x, train, shown, 250)
    np.testing.assert_allclose(surface.fields[f"{split}_loss"], wanted, rtol=2e-5)


def test_it_differs_from_what_is_kept_and_says_so_in_the_record(tmp_path, net, capsys):
    assert run(net, tmp_path / "r.h5", *LINE) == 0
    assert run(net, tmp_path / "k.h5", LINE[0]) == 0
    one, other = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in "rk")
    assert (np.abs(one - other) > 1e-3).all()
    assert run(net, tmp_path / "r.h5", LINE[0]) == 3  # not continued as something else
    assert "bn" in capsys.readouterr().err


class Counting(nn.Module):
    """BatchNorm over single numbers, and a module that must stay in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("count", [250, 251, 1000])  # a last batch of one sample has no variance, and is left out
def test_from_python_the_network_keeps_its_own_statistics(count):
    torch.manual_seed(0)
    net, x, y = Counting(), torch.randn(300, 6) * 3 + 1, torch.randint(3, (300,))
    before = copy.deepcopy(net.state_dict())
    line = lossatlas.surface(
        net, (x, y), x="0:1:2", bn="recalibrate", bn_samples=count, progress=False, precision="float64"
    )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    twin, order = copy.deepcopy(net).double().eval(), shuffled_order(300)[:count]
    norm = twin.layers[1]
    norm.reset_running_stats()
    norm.momentum = None
    norm.train()
    with torch.no_grad():
        for part in order.split(RECALIBRATION_BATCH):
            if len(part) > 1:
                twin(x[part].double())
        norm.eval()
        assert line.loss[0] == pytest.approx(float(F.cross_entropy(twin(x.double()), y)), rel=1e-10)


def test_states_that_move_are_recalibrated_too(tmp_path, net):
    other = write_checkpoint(tmp_path / "other.safetensors", "resnet20", seed=1)
    more = ("--dir_type", "states", "--model_file2", str(other))
    assert run(net, tmp_path / "s.h5", "--x=0:1:2", *LINE[1:], *more) == 0
    assert run(net, tmp_path / "w.h5", "--x=0:1:2", *LINE[1:], "--model_file2", str(other)) == 0
    states, weights = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in "sw")
    np.testing.assert_allclose(states, weights, rtol=1e-5)


def test_what_cannot_be_recalibrated_is_refused(tmp_path, net, capsys):
    plain = write_checkpoint(tmp_path / "mlp.safetensors", "mlp")
    assert plot_surface.main(surface_command(plain, tmp_path / "s.h5", *LINE)) == 2
    assert "no BatchNorm" in capsys.readouterr().err
    assert run(net, tmp_path / "s.h5", *LINE, "--precision", "bfloat16") == 2
    assert "bfloat16" in capsys.readouterr().err
    with pytest.raises(BadUsage, match="bn"):
        lossatlas.surface(Counting(), (torch.randn(4, 6), torch.zeros(4, dtype=torch.long)), x="0:1:2", bn="reset")


@pytest.mark.parametrize("count", [1, 0, -3, 2.5])
def test_so_few_samples_have_no_variance(tmp_path, net, capsys, count):
    with pytest.raises(BadUsage, match=r"two training samples|no positive whole number"):
        lossatlas.surface(
            Counting(),
            (torch.randn(9, 6), torch.zeros(9, dtype=torch.long)),
            x="0:1:2",
            bn="recalibrate",
            bn_samples=count,
        )
    if count == 1:
        assert run(net, tmp_path / "s.h5", LINE[0], "--bn", "recalibrate", "--bn_samples", "1") == 2
        assert run(net, tmp_path / "s.h5", LINE[0], "--bn_samples", "100") == 2
        assert "belongs to --bn recalibrate" in capsys.readouterr().err
