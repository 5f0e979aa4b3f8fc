"""Traces with respect to activations against explicit Hessians."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from binomial import least_hits
from conftest import ConvNet, seeded
from torch import Tensor, nn

from lossatlas.data import LOSSES, Dataset
from lossatlas.errors import BadUsage
from lossatlas.hessian import Activations, traces

LOSS = LOSSES["crossentropy"]


def sample(shape: tuple[int, ...], n: int = 6) -> Dataset:
    g = torch.Generator().manual_seed(3)
    return Dataset(
        "noise",
        "train",
        (torch.randn(n, *shape, generator=g, dtype=torch.float64), torch.randint(0, 3, (n,), generator=g)),
        3,
    )


class Overwriting(nn.Module):
    """One layer is called twice, and its output is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.twice(self.twice(x).sigmoid_()).tanh_())


def test_against_the_explicit_hessian_of_outputs_and_inputs():
    data = sample((5,))
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))).double()
    n = len(data)
    for at in ("output", "input"):
        probes = Activations(net, data, LOSS, at=at, batch_size=4)
        assert [name for name, _, _ in probes.layers] == ["0", "1", "2"]
        found = traces(probes, probes.layers, tolerance=0.01, max_probes=100)
        for k in range(3):
            first = net[: k + (at == "output")]
            a = first(data.inputs).detach()
            rest = net[k + (at == "output") :]
            exact = torch.autograd.functional.hessian(lambda a, rest=rest: F.cross_entropy(rest(a), data.targets), a)
            trace = float(exact.reshape(a.numel(), a.numel()).trace())
            assert abs(found.values[k] - trace) <= 4 * found.errors[k] + 1e-12, (at, k, n)


@pytest.mark.slow
@pytest.mark.parametrize(("probed", "seeds"), [(1000, 40), pytest.param(3000, 200, marks=pytest.mark.full)])
def test_the_mean_does_not_depend_on_the_batches_and_errors_are_honest(probed, seeds):
    data = sample((5,), 12)
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))).double()
    probes = Activations(net, data, LOSS, patterns=["^0$"], batch_size=5)
    whole = np.mean([float(probes(seed)[0]) for seed in range(probed)])
    within = [
        abs(found.values[0] - whole) <= 2 * found.errors[0]
        for found in (traces(probes, probes.layers, tolerance=1e-9, max_probes=12, seed=13 * k) for k in range(seeds))
    ]
    assert sum(within) >= (0.88 * seeds if seeds == 200 else least_hits(seeds, 0.92))


def test_layers_by_type_by_name_and_by_call():
    data = sample((1, 8, 8))
    net = seeded(ConvNet).double()
    assert [n for n, _, _ in Activations(net, data, LOSS, patterns=["Conv2d", "linear"]).layers] == ["conv", "linear"]
    twice = Activations(seeded(Overwriting).double(), sample((8,)), LOSS)
    assert [name for name, _, _ in twice.layers] == ["twice (call 1)", "twice (call 2)", "last"]
    assert np.isfinite(twice(0).numpy()).all()
    with pytest.raises(BadUsage, match="no layer is called like nothing"):
        Activations(net, data, LOSS, patterns=["nothing"])
