"""Symmetries of networks, and weight matching: hidden permutations found again, and nothing else changed."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import surface_command
from torch import nn

import plot_surface
from lossatlas.computing.alignment import aligned, matched, output
from lossatlas.errors import BadInput
from lossatlas.record import read_directions, read_surface
from lossatlas.space.symmetry import permuted, symmetries
from models import build, save_state

ZOO = ("mlp", "vgg9", "resnet20", "resnet20_noshort", "wrn56_2")
SHAPE = (1, 28, 28)


def trained_like(net: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state in which no two units are alike."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator).abs() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }


def shuffled(net: nn.Module, state, inputs, seed: int = 1):
    torch.manual_seed(seed)
    groups = symmetries(net, inputs)
    return groups, permuted(state, groups, [torch.randperm(group.count) for group in groups])


@pytest.mark.parametrize("name", [*ZOO[:3], *(pytest.param(name, marks=pytest.mark.full) for name in ZOO[3:])])
def test_a_hidden_permutation_is_recovered_exactly_and_changes_nothing(name):
    net, x = build(name, SHAPE, 10).eval(), torch.randn(4, *SHAPE)
    state = trained_like(net)
    groups, other = shuffled(net, state, x)
    assert len(groups) >= 2
    before, after = output(net, state, x), output(net, other, x)
    assert float((before - after).norm() / before.norm()) < 1e-6
    assert not all(torch.equal(state[each], other[each]) for each in state)
    found, moved = aligned(net, state, other, x)
    assert all(torch.equal(found[each], state[each]) for each in state)
    assert moved > 0


class Branches(nn.Module):
    """Everything that joins, cuts and reorders channels, and an operation that nobody knows."""

    def __init__(self, strange: bool = False) -> None:
        super().__init__()
        self.strange = strange
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.c, self.norm = nn.Conv2d(14, 8, 1), nn.BatchNorm2d(8)
        self.d, self.e = nn.Linear(8 * 16, 10), nn.LayerNorm(10)
        self.f = nn.Linear(10, 3)

    def forward(self, x):
        x = F.max_pool2d(F.silu(self.a(x)), 2)
        x = torch.cat([x, F.pad(F.relu(self.b(x)), (0, 0, 0, 0, 1, 1))], 1)
        x = F.relu(self.norm(self.c(x)), inplace=True)
        x = self.e(torch.tanh(self.d(x.flatten(1))))
        x = x.cumsum(1) if self.strange else x
        return self.f(x)


def test_joined_cut_and_reordered_channels():
    net, x = Branches().eval(), torch.randn(3, 2, 8, 8)
    groups, other = shuffled(net, trained_like(net), x)
    assert sorted(group.count for group in groups) == [6, 8, 10]
    before, after = output(net, trained_like(net), x), output(net, other, x)
    torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-9)


def test_what_an_unknown_operation_takes_in_stays_where_it_is():
    net, x = Branches(strange=True).eval(), torch.randn(3, 2, 8, 8)
    groups, other = shuffled(net, trained_like(net), x)
    assert sorted(group.count for group in groups) == [6, 8]
    torch.testing.assert_close(output(net, trained_like(net), x), output(net, other, x), rtol=1e-9, atol=1e-9)


class Texts(nn.Module):
    """Attention is no operation whose units are known to be free; the hidden units of the perceptron behind it are."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 11)

    def forward(self, x):
        x = self.table(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x + self.down(F.gelu(self.up(x))))


def test_texts_and_attention():
    net, x = Texts().eval(), torch.randint(11, (2, 5))
    groups, other = shuffled(net, trained_like(net), x)
    assert [group.count for group in groups] == [12]
    torch.testing.assert_close(output(net, trained_like(net), x), output(net, other, x), rtol=1e-9, atol=1e-9)


class Shift(nn.Module):
    """A residual stream of whose channels the first are cut off: only those of the branch are free."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(4, 2)

    def forward(self, x):
        x = self.a(x)
        x += F.gelu(self.b(x))
        return self.c(x[:, 2:])


def test_a_stream_of_which_a_part_is_taken_is_not_reordered():
    with pytest.raises(BadInput, match="nothing to align"):
        net = Shift().eval()
        aligned(net, net.state_dict(), net.state_dict(), torch.randn(2, 5))


def test_a_network_whose_way_depends_on_its_data_is_refused():
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x):
            return self.a(x) if bool(x.sum() > 0) else x

    net = Forked().eval()
    with pytest.raises(BadInput, match="cannot be traced"):
        aligned(net, net.state_dict(), net.state_dict(), torch.randn(2, 3))


def test_against_trying_every_permutation():
    """One hidden layer: the assignment is solved exactly."""
    net, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(2, 3)
    a, b = trained_like(net, 1), trained_like(net, 2)
    groups = symmetries(net, x)

    def likeness(order) -> float:
        other = permuted(b, groups, [torch.tensor(order)])
        return float(sum((a[name].double() * other[name].double()).sum() for name in a))

    best = max(itertools.permutations(range(5)), key=likeness)
    assert likeness(matched(a, b, groups)[0].tolist()) == pytest.approx(likeness(best), rel=1e-12)


def test_matching_never_makes_them_less_alike():
    net, x = build("resnet20", SHAPE, 10).eval(), torch.randn(2, *SHAPE)
    a, b = trained_like(net, 1), trained_like(build("resnet20", SHAPE, 10), 2)
    found, _ = aligned(net, a, b, x)
    names = [name for name, _ in net.named_parameters()]

    def distance(other) -> float:
        return float(sum((a[name] - other[name]).double().square().sum() for name in names))

    assert distance(found) < distance(b)


@pytest.mark.parametrize("model", ["mlp", "resnet20"])
def test_the_command_joins_a_network_and_its_own_permutation_without_a_barrier(tmp_path, capsys, model):
    net, x = build(model, SHAPE, 10).eval(), torch.randn(2, *SHAPE)
    state = trained_like(net)
    _, other = shuffled(net, state, x)
    for name, each in (("a", state), ("b", other)):
        net.load_state_dict(each)
        save_state(tmp_path / f"{name}.safetensors", net)

    def run(name: str, *more: str) -> int:
        command = surface_command(tmp_path / "a.safetensors", tmp_path / f"{name}.h5", "--x=0:1:5", *more, model=model)
        own = ("--model_file2", str(tmp_path / "b.safetensors"), "--dir_type", "states")
        return plot_surface.main([*command, *own, "--dir_file", str(tmp_path / f"{name}_d.h5")])

    assert run("naive") == 0
    assert run("aligned", "--align") == 0
    assert "hidden units change places" in capsys.readouterr().out
    naive, flat = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in ("naive", "aligned"))
    assert naive[-1] == pytest.approx(naive[0], rel=1e-5)  # the same function
    np.testing.assert_allclose(flat, flat[0], rtol=1e-5)
    assert np.ptp(naive) > 1e-3
    assert read_directions(tmp_path / "aligned_d.h5").about["x"].endswith(", aligned")
    own = ("--model_file2", str(tmp_path / "b.safetensors"), "--dir_type", "states", "--align")
    command = surface_command(tmp_path / "a.safetensors", tmp_path / "t.h5", "--x=0:1:5", *own, model=model)
    assert plot_surface.main([*command, "--dir_file", str(tmp_path / "naive_d.h5")]) == 3
    assert "--align" in capsys.readouterr().err


class Made(nn.Module):
    """Any function of layers by name."""

    def __init__(self, function, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


def line(a: int, b: int) -> nn.Linear:
    return nn.Linear(a, b)


def tied() -> nn.Module:
    one = line(5, 5)
    return Made(lambda s, x: s.o(F.relu(s.b(F.relu(s.a(x))))), a=one, b=one, o=line(5, 2))


ODD = {
    "joined twice": lambda: Made(
        lambda s, x: s.o(F.relu(torch.cat([s.h(x), s.h(x)], 1) + torch.cat([s.p(x), s.q(x)], 1))),
        h=line(5, 4),
        p=line(5, 4),
        q=line(5, 4),
        o=line(8, 2),
    ),
    "joined in turns": lambda: Made(
        lambda s, x: s.o(torch.cat([s.p(x), s.q(x)], 1) + torch.cat([s.q(x), s.p(x)], 1)),
        p=line(5, 4),
        q=line(5, 4),
        o=line(8, 2),
    ),
    "two joints": lambda: Made(
        lambda s, x: (
            s.o(torch.cat([s.a(x), s.a(x)], 1) + torch.cat([s.b(x), s.c(x)], 1)) + s.r(torch.cat([s.b(x), s.a(x)], 1))
        ),
        a=line(5, 4),
        b=line(5, 4),
        c=line(5, 4),
        o=line(8, 2),
        r=line(8, 2),
    ),
    "pooled over units": lambda: nn.Sequential(
        line(5, 8), nn.Unflatten(1, (8, 1)), nn.MaxPool2d((2, 1)), nn.Tanh(), nn.Flatten(), line(4, 3)
    ),
    "pooled beside each other": lambda: nn.Sequential(
        line(5, 8), nn.Unflatten(1, (8, 1)), nn.AvgPool2d((3, 1), stride=1, padding=(1, 0)), nn.Flatten(), line(8, 3)
    ),
    "tied": tied,
    "its own float32": lambda: Made(
        lambda s, x: s.o(torch.tanh(s.w(x) + s.h(torch.zeros(len(x), 6)))), w=line(5, 6), h=line(6, 6), o=line(6, 2)
    ),
    "an empty piece": lambda: Made(
        lambda s, x: s.o(torch.cat([torch.zeros(0), F.relu(s.w(x))], 1)), w=line(5, 6), o=line(6, 2)
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_are_aligned_rightly_or_refused(name):
    torch.manual_seed(0)
    net, x = ODD[name]().eval(), torch.randn(200, 5)
    first = {key: value.clone() for key, value in net.state_dict().items()}
    second = {key: torch.randn(value.shape) for key, value in first.items()}
    for alias, key in (("b.weight", "a.weight"), ("b.bias", "a.bias")) if name == "tied" else ():
        second[alias] = second[key]
    if not symmetries(net, x[:64]):
        with pytest.raises(BadInput, match="nothing to align"):
            aligned(net, first, second, x[:64])
        return
    found, _ = aligned(net, first, second, x[:64])  # which checks that it is a symmetry

    def given(state):
        net.load_state_dict(state)
        with torch.no_grad():
            return net(x)

    torch.testing.assert_close(given(found), given(second), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_where_a_layer_has_one_group_on_both_sides_no_step_makes_it_worse(seed):
    torch.manual_seed(seed)
    net = Made(
        lambda s, x: s.o(F.relu(F.relu(s.a(x)) + s.w(F.relu(s.a(x))))), a=line(4, 12), w=line(12, 12), o=line(12, 2)
    )
    a, b = ({k: torch.randn(v.shape) * (5 if "w." in k else 1) for k, v in net.state_dict().items()} for _ in range(2))
    found, _ = aligned(net.eval(), a, b, torch.randn(8, 4))
    assert sum((a[k] - found[k]).square().sum() for k in a) <= sum((a[k] - b[k]).square().sum() for k in a) * (1 + 1e-6)


def test_from_python():
    import lossatlas

    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(20, 5)
    _, other = shuffled(net, trained_like(net), x)
    net.load_state_dict(trained_like(net))
    found = lossatlas.align(net, other, x)
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())
    line = lossatlas.surface(net, (x, torch.zeros(20, dtype=torch.long)), x="0:1:3", towards=found, progress=False)
    np.testing.assert_allclose(line.loss, line.loss[0], rtol=1e-6)
    with pytest.raises(BadInput, match="has shape"):
        lossatlas.align(net, nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), x)


def test_align_needs_another_network(tmp_path, capsys):
    assert plot_surface.main(surface_command(tmp_path / "a.safetensors", tmp_path / "s.h5", "--align")) == 2
    assert "--model_file2" in capsys.readouterr().err
