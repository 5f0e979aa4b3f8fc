"""Networks whose weights a user's function spreads over groups of ranks, against the same networks on one rank."""

import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MPIRUN, ROOT, python, surface_command, write_checkpoint

from lossatlas.io import read_surface

pytestmark = pytest.mark.mpi

OWN = """
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils.data import TensorDataset


def plain():
    layers = nn.Linear(6, 9), nn.Tanh(), nn.BatchNorm1d(9), nn.Linear(9, 10), nn.ReLU(), nn.Linear(10, 2)
    return nn.Sequential(*layers).train()


def mesh():
    return init_device_mesh("cpu", (dist.get_world_size(),))


def tensor_parallel():
    return parallelize_module(plain(), mesh(), {"3": ColwiseParallel(), "5": RowwiseParallel()})


def sharded():
    net = plain()
    fully_shard(net[3], mesh=mesh())
    return fully_shard(net, mesh=mesh())


def fails_on_the_second():
    if dist.get_rank() == 1:
        raise ValueError("no such layer")
    return tensor_parallel()


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return Output(self.net(x))


@dataclass
class Output:
    logits: torch.Tensor


def named_output():
    net = Named()
    plan = {"net.3": ColwiseParallel(), "net.5": RowwiseParallel(use_local_output=False)}
    return parallelize_module(net, mesh(), plan)


def listed():
    net = tensor_parallel()
    net.extra = [net[3].weight]
    return net


def samples(split):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, (x[:, 0] > 0).long())


def slow_loss(output, target):
    import time

    time.sleep(0.15)
    return nn.functional.cross_entropy(output, target, reduction="none")
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("own") / "own.py"
    file.write_text(OWN)
    return file


def command(own: Path, model: str, surface: Path, *more: object) -> list[object]:
    axes = ["--x=-1:1:3", "--y=-1:1:3", "--xnorm", "filter", "--xignore", "biasbn", "--ynorm", "filter"]
    files = ["--surf_file", surface, "--dir_file", surface.with_name(f"{surface.stem}_directions.h5")]
    inputs = ["--model", f"{own}:{model}", "--dataset", f"{own}:samples", "--threads", "1", *axes, "--memory", "low"]
    return ["plot_surface.py", *inputs, *files, *more]


def on_ranks(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python(*arguments, "--mpi", launcher=[MPIRUN, "-n", ranks], timeout=300)


def losses(file: Path) -> np.ndarray:
    return read_surface(file).fields["train_loss"]


@pytest.fixture(scope="module")
def expected(own) -> np.ndarray:
    """The losses of the network on one rank, where it is not spread."""
    file = own.parent / "plain.h5"
    assert python(*command(own, "plain", file)).returncode == 0
    return losses(file)


@pytest.mark.parametrize("model", ["tensor_parallel", "sharded", pytest.param("named_output", marks=pytest.mark.full)])
def test_a_group_of_ranks_computes_the_losses_of_the_network_on_one_rank(tmp_path, own, expected, model):
    alone = on_ranks(2, *command(own, model, tmp_path / "one.h5", "--ranks_per_model", 2))
    assert alone.returncode == 0, alone.stderr
    found = losses(tmp_path / "one.h5")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(found) > 0.1
    if model == "sharded":  # the whole weights are gathered before a layer computes
        np.testing.assert_array_equal(found, expected)


def test_directions_in_files(tmp_path, own, expected):
    file, out = own.parent / "plain_directions.h5", tmp_path / "one.h5"
    more = ["--xdirection", f"{file}:1", "--ydirection", f"{file}:2", "--store_directions", "--ranks_per_model", 2]
    plain = [word for word in command(own, "sharded", out, *more) if word not in ("--xnorm", "--ynorm", "filter")]
    result = on_ranks(2, *[word for word in plain if word not in ("--xignore", "biasbn")])
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(losses(out), expected, rtol=1e-6)


def test_a_checkpoint_is_read_into_a_spread_network(tmp_path, own):
    """The leader writes into the file of the weights that the other ranks have just compared with theirs."""
    torch.manual_seed(5)
    torch.save(runpy.run_path(str(own))["plain"]().state_dict(), tmp_path / "it.pt")
    more = ["--model_file", tmp_path / "it.pt"]
    assert python(*command(own, "plain", tmp_path / "plain.h5", *more)).returncode == 0
    result = on_ranks(2, *command(own, "sharded", tmp_path / "one.h5", "--ranks_per_model", 2, *more))
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(losses(tmp_path / "one.h5"), losses(tmp_path / "plain.h5"))


@pytest.mark.full
@pytest.mark.parametrize("model", ["tensor_parallel", "sharded"])
def test_groups_share_the_grid_and_kills_change_no_bit(tmp_path, own, model):
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    loss = ["--loss_name", f"{own}:slow_loss", "--ranks_per_model", 2]
    assert on_ranks(2, *command(own, model, one, *loss)).returncode == 0
    arguments = [MPIRUN, "-n", 4, sys.executable, *command(own, model, two, *loss, "--mpi")]
    run = subprocess.Popen([*map(str, arguments)], cwd=ROOT, stdout=-3, stderr=-3)
    until = time.monotonic() + 120
    while not two.exists() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    run.kill()
    run.wait()
    result = on_ranks(4, *command(own, model, two, *loss))
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(losses(two), losses(one))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("ranks", "model", "more", "message"),
    [
        (3, "tensor_parallel", [], "--ranks_per_model 2: there are 3 ranks: start a multiple of 2"),
        (2, "plain", [], "a network whose parameters are not spread over its 2 ranks"),
        (2, "fails_on_the_second", [], "no such layer"),
        pytest.param(2, "listed", [], "'extra' holds a tensor that is spread over ranks", marks=pytest.mark.full),
        pytest.param(
            2,
            "tensor_parallel",
            ["--precision", "bfloat16"],
            "in their precision (float32): leave --precision out",
            marks=pytest.mark.full,
        ),
        pytest.param(2, "tensor_parallel", ["--xdirection", "gradient"], "no gradients", marks=pytest.mark.full),
        pytest.param(2, "tensor_parallel", ["--memory", "fast"], "weights on several ranks", marks=pytest.mark.full),
    ],
)
def test_what_a_group_cannot_compute_is_an_error_in_words(tmp_path, own, ranks, model, more, message):
    result = on_ranks(ranks, *command(own, model, tmp_path / "surface.h5", "--ranks_per_model", 2, *more))
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert lines, result.stderr
    assert all(message in line for line in lines), result.stderr
    assert not (tmp_path / "surface.h5").exists()


def test_networks_of_this_program_are_not_spread(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "net.safetensors", "mlp")
    inputs = surface_command(checkpoint, tmp_path / "s.h5", "--x=-1:1:3", model="mlp")
    result = on_ranks(2, "plot_surface.py", *inputs, "--ranks_per_model", 2)
    assert result.returncode != 0
    assert "--ranks_per_model 2 is for a function of yours" in result.stderr
