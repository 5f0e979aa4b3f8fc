"""Sharpness of mini-batches against loops over the network itself, on quadratic losses, and as a command."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded, write_checkpoint
from torch import nn

from lossatlas.commands import plot_sharpness
from lossatlas.commands import sharpness as command
from lossatlas.data import as_loss
from lossatlas.data.collect import as_dataset
from lossatlas.figures.sharpness_plots import minibatch_means, minibatch_table
from lossatlas.hessian import Hessian
from lossatlas.hessian.minibatch_sharpness import choose_minibatches, minibatch_rises
from lossatlas.io import read_findings

X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(3, (30,), generator=torch.Generator().manual_seed(1))
RADII, ADAPTIVE = [0.05, 0.5], [0.1, 1.0]


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()).requires_grad_(True)


def by_hand(net: nn.Module, numbers: list[int], radius: float, *, adaptive: bool) -> float:
    """SAM's own two passes over a mini-batch."""

    def loss() -> torch.Tensor:
        return F.cross_entropy(net(X[numbers]), LABELS[numbers])

    parameters = list(net.parameters())
    before = loss()
    gradients = torch.autograd.grad(before, parameters)
    sizes = [p.detach().abs() if adaptive else torch.ones_like(p) for p in parameters]
    length = sum(((t * g) ** 2).sum() for t, g in zip(sizes, gradients, strict=True)).sqrt()
    with torch.no_grad():
        kept = [p.clone() for p in parameters]
        for p, t, g in zip(parameters, sizes, gradients, strict=True):
            p += radius * t**2 * g / length
        after = loss()
        for p, value in zip(parameters, kept, strict=True):
            p.copy_(value)
    return float(after - before)


def test_against_the_two_passes_of_sam():
    net = network()
    operator = Hessian(net, as_dataset((X, LABELS)), as_loss("crossentropy"), batch_size=4)
    for numbers in choose_minibatches(30, 7, 10, 0):
        plain, adaptive = minibatch_rises(operator, operator.weights(), numbers, RADII, ADAPTIVE)
        expected = [by_hand(net, numbers, radius, adaptive=False) for radius in RADII]
        np.testing.assert_allclose(plain, expected, rtol=1e-9)
        expected = [by_hand(net, numbers, radius, adaptive=True) for radius in ADAPTIVE]
        np.testing.assert_allclose(adaptive, expected, rtol=1e-9)


def test_mini_batches_are_disjoint_and_depend_on_the_seed():
    found = choose_minibatches(30, 7, 10, 0)
    assert [len(each) for each in found] == [7] * 4
    assert len({number for each in found for number in each}) == 28
    assert found[:2] == choose_minibatches(30, 7, 2, 0)  # more of them begin with the same ones
    assert found != choose_minibatches(30, 7, 10, 1)
    assert choose_minibatches(5, 7, 3, 0) == [[0, 1, 2, 3, 4]]


def test_a_gradient_of_zero_gives_no_rise():
    net = nn.Linear(5, 3).double()
    nn.init.zeros_(net.weight)
    data = as_dataset((torch.zeros(6, 5, dtype=torch.float64), net(X[:6] * 0).detach()))
    operator = Hessian(net, data, as_loss(nn.MSELoss()))
    assert minibatch_rises(operator, operator.weights(), range(3), [0.1], [0.1]) == ([0.0], [0.0])


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("net") / "it.safetensors", "mlp", seed=0)


def arguments(net, out, *more: str) -> list[str]:
    own = "--model mlp --dataset fashion_mnist_mini --limit 60 --rho 0.02 0.1 --adaptive_rho 0.2 --steps 1"
    return [*own.split(), "--directions", "2", "--model_file", str(net), "--sharpness_file", str(out), *more]


@pytest.mark.commands
def test_the_command_its_table_and_its_figure(tmp_path, net, capsys):
    out = tmp_path / "s.h5"
    assert command.main(arguments(net, out, "--minibatch", "8", "--minibatches", "3")) == 0
    said = capsys.readouterr().out
    assert "rho 0.02, mini-batches of 8" in said
    assert "adaptive rho 0.2, mini-batches of 8" in said
    first = read_findings(out, "sharpness")
    assert first.arrays["plain/minibatches"].shape == (3, 2)
    assert first.arrays["adaptive/minibatches"].shape == (3, 1)
    means = minibatch_means(first, "plain")
    np.testing.assert_allclose(means[:, 0], [0.02, 0.1])
    rows = first.arrays["plain/minibatches"]
    np.testing.assert_allclose(means[:, 1], rows.mean(0))
    np.testing.assert_allclose(means[:, 2], rows.std(0, ddof=1) / 3**0.5)
    assert command.main(arguments(net, out, "--minibatch", "8", "--minibatches", "5", "--plot")) == 0
    more = read_findings(out, "sharpness").arrays["plain/minibatches"]
    assert more.shape == (5, 2)
    assert (more[:3] == rows).all()
    assert command.main(arguments(net, out, "--minibatch", "9")) != 0
    assert "minibatch = 8, now it is 9" in capsys.readouterr().err
    assert plot_sharpness.main(["--sharpness_file", str(out)]) == 0
    assert len(minibatch_table([first, first])) == 3
    assert command.main(arguments(net, tmp_path / "t.h5", "--minibatch", "61")) == 2
    assert "--minibatch 61: there are 60 samples" in capsys.readouterr().err
    assert minibatch_table([]) == []
