"""Traces with respect to activations against explicit Hessians."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from binomial import least_hits
from conftest import MPIRUN, ROOT, ConvNet, seeded
from torch import Tensor, nn

from lossatlas.data import LOSSES, Dataset
from lossatlas.data.drawn_targets import TargetDraws
from lossatlas.errors import BadUsage
from lossatlas.hessian import Activations, traces
from lossatlas.io import read_findings

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


def dense_trace(matrix, rest, a, targets, kind):
    """The trace of J' B J with respect to the activations a of all samples, by explicit Jacobians, sample by sample."""
    trace = 0.0
    for x, y in zip(a, targets, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: rest(x[None])[0], x).reshape(-1, x.numel())
        z = rest(x[None])[0].detach()
        if kind == "mse":
            slope, curvature = 2 * (z - y) / len(z), 2 * torch.eye(len(z), dtype=z.dtype) / len(z)
        else:
            p = z.softmax(0)
            slope, curvature = p - F.one_hot(y, len(p)), p.diag() - torch.outer(p, p)
        b = torch.outer(slope, slope) if matrix == "empirical_fisher" else curvature
        trace += float((jacobian.T @ b @ jacobian).trace()) / len(a)
    return trace


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("matrix", "kind"),
    [
        ("ggn", "crossentropy"),
        ("fisher", "crossentropy"),
        pytest.param("mc_fisher", "crossentropy", marks=pytest.mark.full),
        ("empirical_fisher", "crossentropy"),
        ("ggn", "mse"),
    ],
)
def test_of_other_matrices_against_explicit_jacobians(matrix, kind):
    data = sample((5,))
    if kind == "mse":
        targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        data = Dataset("noise", "train", (data.inputs, targets), None)
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3)))
    net = net.double()
    for at in ("output", "input"):
        draws = TargetDraws(500) if matrix == "mc_fisher" else None
        probes = Activations(net, data, LOSSES[kind], at=at, batch_size=4, matrix=matrix, draws=draws)
        found = traces(probes, probes.layers, tolerance=1e-9, max_probes=40 if draws else 400)
        for k in range(5):
            a = net[: k + (at == "output")](data.inputs).detach()
            exact = dense_trace(matrix, net[k + (at == "output") :], a, data.targets, kind)
            off = abs(found.values[k] - exact)
            assert off <= 4 * found.errors[k] + (0.1 * exact if draws else 1e-12), (at, k, found.values[k], exact)
            assert found.errors[k] < 0.35 * exact


def test_a_matrix_of_the_outputs_leaves_the_curvature_of_layers_out():
    """With respect to what comes before a convex loss the Hessian and the Gauss-Newton matrix have one trace."""
    data, net = sample((5,), 40), seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))).double()
    found = {
        matrix: traces(
            probes := Activations(net, data, LOSS, matrix=matrix), probes.layers, tolerance=0.005, max_probes=3000
        )
        for matrix in ("hessian", "ggn")
    }
    off = np.abs(found["hessian"].values - found["ggn"].values)
    errors = np.hypot(found["hessian"].errors, found["ggn"].errors)
    assert (off[1:] <= 4 * errors[1:]).all()  # linear from there on
    assert off[0] > 6 * errors[0]


def test_a_loss_without_a_distribution_has_no_fisher_matrix_of_activations():
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 3))).double()
    with pytest.raises(BadUsage, match="mse of labels compares probabilities"):
        Activations(net, sample((5,)), LOSSES["mse"], matrix="fisher")


@pytest.mark.mpi
def test_ranks_estimate_the_traces_of_another_matrix(tmp_path):
    """Of the empirical Fisher matrix, by command and on two ranks, within the standard errors of explicit Jacobians."""
    own = tmp_path / "own.py"
    own.write_text(OWN)
    words = ["--model", f"{own}:make", "--dataset", f"{own}:samples", "--matrix", "empirical_fisher", "--top", "1"]
    words += ["--activations", "--activation_error", "0.03", "--max_activation_probes", "400", "--spectrum_file"]
    run = [
        MPIRUN,
        "-n",
        "2",
        sys.executable,
        str(ROOT / "hessian_spectrum.py"),
        "--mpi",
        *words,
        str(tmp_path / "s.h5"),
    ]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_findings(tmp_path / "s.h5", "spectrum").arrays
    scope: dict = {}
    exec(OWN, scope)
    net, data = scope["make"](), scope["samples"]("train")
    x, y = data.tensors
    for k in range(3):
        exact = dense_trace("empirical_fisher", net[k + 1 :], net[: k + 1](x).detach(), y, "crossentropy")
        assert abs(found["activations/trace"][k] - exact) <= 4 * found["activations/trace_se"][k]


OWN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def samples(split):
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TensorDataset(x, torch.arange(24) % 3)
"""
