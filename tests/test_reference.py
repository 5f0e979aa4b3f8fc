"""A network evaluated in place is restored bit for bit after any change; what cannot be moved is said in one line."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from conftest import python
from torch import nn

from lossatlas.errors import BadInput
from lossatlas.evaluation.reference import (
    check_modes,
    check_movable,
    evaluated_in_place,
    network_digest,
    restoring,
    untouched,
)


class Holder(nn.Module):
    """Weights in lists, a counter that every call moves, a cache, and something that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.held = [self.second.weight, torch.ones(2)]
        self.register_buffer("calls", torch.zeros(()))
        self.cache: dict[str, torch.Tensor] = {}
        self.lock = threading.Lock()

    def forward(self, x):
        self.calls += 1
        self.cache["mean"] = x.mean()
        self.last = x
        return F.linear(self.norm(self.first(x)), self.held[0]) * self.held[1]


class Adapter(nn.Linear):
    """Merges its adapter into its weight when it is switched to evaluation."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(4, 2)
        self.down, self.up, self.merged, self.gain = (
            nn.Parameter(torch.randn(1, 4)),
            nn.Parameter(torch.randn(2, 1)),
            False,
            gain,
        )

    def train(self, mode: bool = True):
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else self.gain) * self.up.data @ self.down.data
            self.merged = not mode
        return self

    def forward(self, x):
        return F.linear(x, self.weight if self.merged else self.weight + self.up @ self.down, self.bias)


def state_of(net):
    return (
        network_digest(net),
        [p.requires_grad for p in net.parameters()],
        [module.training for module in net.modules()],
        [sorted(vars(module)) for module in net.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()],
        list(getattr(net, "cache", ())),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_a_network_evaluated_in_place_is_restored(fails):
    net = Holder().train()
    net.second.requires_grad_(False)
    net.norm.eval()
    before = state_of(net)
    with pytest.raises(ValueError, match="on the way") if fails else torch.no_grad(), evaluated_in_place(net) as own:
        assert own is net
        assert not any(module.training for module in net.modules())
        with torch.no_grad():
            net.second.weight.add_(1.0)
        assert net(torch.randn(5, 3)).dtype == torch.float64
        net.held.append(torch.zeros(1))
        if fails:
            raise ValueError("on the way")
    assert state_of(net) == before


def test_a_network_that_is_changed_is_an_error():
    net = nn.Linear(2, 2)

    @restoring
    def careless(network, amount):
        with torch.no_grad():
            network.weight += amount
        return amount

    assert careless(net, 0.0) == 0.0
    with pytest.raises(BadInput, match="was changed while it was evaluated"):
        careless(net, 1e-7)
    with pytest.raises(BadInput, match="was changed"), untouched(net):
        net.train(False)


def test_a_digest_sees_tensors_wherever_a_module_holds_them():
    net = Holder()
    before = network_digest(net)
    net.held[1][0] = torch.nextafter(net.held[1][0], torch.tensor(9.0))
    assert network_digest(net) != before


def test_networks_without_anything_to_move_are_refused_in_a_line():
    for net, words in (
        (nn.LazyLinear(3), "call it once on a batch"),
        (nn.Linear(2, 2, device="meta"), "load its weights first"),
        (nn.ReLU(), "no floating-point parameters"),
    ):
        with pytest.raises(BadInput, match=words) as error:
            check_movable(net)
        assert "\n" not in str(error.value)


def test_an_eval_of_ones_own_has_to_compute_what_the_forward_pass_does():
    x = torch.randn(6, 4)

    def losses(net):
        return net(x).square().sum(1)

    good = Adapter()
    before = copy.deepcopy(good.state_dict())
    check_modes(good, losses)
    check_modes(Adapter(gain=3.0).eval(), losses)  # which is in evaluation mode already, as its owner wants it
    assert all(torch.equal(value, before[name]) for name, value in good.state_dict().items())
    with pytest.raises(BadInput, match=r"something else after its eval\(\)"):
        check_modes(Adapter(gain=3.0), losses)


def test_graphs_of_the_user_stay_usable():
    """A product with a graph that was kept from before failed: its weights were 'modified by an inplace operation'."""
    import lossatlas

    net, x, y = (
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
        torch.randn(20, 4),
        torch.randint(0, 3, (20,)),
    )
    gradient = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()), create_graph=True)
    versions = [p._version for p in net.parameters()]
    lossatlas.surface(net, (x, y), x="-1:1:3", progress=False)
    lossatlas.spectrum(net, (x, y), top=1, max_trace_products=2, steps=3, progress=False)
    assert [p._version for p in net.parameters()] == versions
    torch.autograd.grad(sum(g.square().sum() for g in gradient), list(net.parameters()))


SHARDED = """
import sys
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from lossatlas.errors import BadInput
from lossatlas.evaluation.reference import untouched

torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
with untouched(net):
    pass
fully_shard(net, mesh=init_device_mesh("cpu", (1,)))
try:
    with untouched(net):
        pass
except BadInput as error:
    print(error)
torch.distributed.destroy_process_group()
"""


@pytest.mark.commands
def test_parameters_that_are_spread_over_processes_are_refused(tmp_path):
    """In a process of its own: threads of torch.distributed stay, and other tests fork."""
    result = python("-c", SHARDED, tmp_path / "rendezvous")
    assert "Sequential has parameters spread over processes" in result.stdout, result.stderr
    assert "lossatlas surface --ranks_per_model N computes losses of such networks" in result.stdout
