"""Symmetries of networks, and weight matching: hidden permutations found again, and nothing else changed."""

import itertools
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import surface_command
from torch import nn

from lossatlas.commands import plot_surface
from lossatlas.errors import BadInput, Note
from lossatlas.io import read_directions, read_surface
from lossatlas.jobs.inputs.alignment import aligned, matched, output_in_double
from lossatlas.models import build, save_state
from lossatlas.parameter_space.symmetry import permuted, symmetries

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


@pytest.mark.few(1)
@pytest.mark.parametrize("name", [*ZOO[:3], *(pytest.param(name, marks=pytest.mark.full) for name in ZOO[3:])])
def test_a_hidden_permutation_is_recovered_exactly_and_changes_nothing(name):
    net, x = build(name, SHAPE, 10).eval(), torch.randn(4, *SHAPE)
    state = trained_like(net)
    groups, other = shuffled(net, state, x)
    assert len(groups) >= 2
    before, after = output_in_double(net, state, x), output_in_double(net, other, x)
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
    before, after = output_in_double(net, trained_like(net), x), output_in_double(net, other, x)
    torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-9)


def test_what_an_unknown_operation_takes_in_stays_where_it_is():
    net, x = Branches(strange=True).eval(), torch.randn(3, 2, 8, 8)
    groups, other = shuffled(net, trained_like(net), x)
    assert sorted(group.count for group in groups) == [6, 8]
    torch.testing.assert_close(
        output_in_double(net, trained_like(net), x), output_in_double(net, other, x), rtol=1e-9, atol=1e-9
    )


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
    torch.testing.assert_close(
        output_in_double(net, trained_like(net), x), output_in_double(net, other, x), rtol=1e-9, atol=1e-9
    )


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


@pytest.mark.few(1)
@pytest.mark.slow
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


def place_by_hand(state, places, seed: int = 5):
    """A state with its units in another order, by what the author of a network knows: (tensor, axis, offset, inner)."""
    generator, result = torch.Generator().manual_seed(seed), {name: value.clone() for name, value in state.items()}
    for count, own in places:
        order = torch.randperm(count, generator=generator)
        for name, axis, offset, inner in ((*place, 0, 1)[:4] if len(place) < 4 else place for place in own):
            index = torch.arange(result[name].shape[axis])
            index[offset : offset + count * inner] = offset + (order[:, None] * inner + torch.arange(inner)).flatten()
            result[name] = result[name].index_select(axis, index)
    return result


def recovered(net, places, x):
    """Align a planted permutation, which has to be found exactly; what is moved is what was planted."""
    net = net.eval()
    state = trained_like(net)
    other = place_by_hand(state, places)
    torch.testing.assert_close(output_in_double(net, state, x), output_in_double(net, other, x), rtol=1e-9, atol=1e-9)
    assert not all(torch.equal(state[name], other[name]) for name in state)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        warnings.filterwarnings("ignore", r"\d+ units are permuted in blocks only", Note)
        found, _ = aligned(net, state, other, x)
    for name, value in state.items():
        assert torch.equal(found[name], value), name
        assert torch.equal(net.state_dict()[name], before[name]), name


class UNet(nn.Module):
    """Two levels, joined by concatenation, with every per-channel normalization."""

    def __init__(self, transposed: bool, mode: str = "nearest") -> None:
        super().__init__()
        self.a, self.an, self.aa = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.PReLU(6)
        self.b, self.bn = nn.Conv2d(6, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.c, self.cn = nn.Conv2d(8, 10, 3, padding=1), nn.GroupNorm(1, 10)
        self.u = nn.ConvTranspose2d(10, 7, 2, stride=2) if transposed else nn.Conv2d(10, 7, 1)
        self.d, self.dn = nn.Conv2d(15, 9, 3, padding=1), nn.GroupNorm(9, 9)
        self.v = nn.ConvTranspose2d(9, 5, 2, stride=2) if transposed else nn.Conv2d(9, 5, 1)
        self.e, self.en = nn.Conv2d(11, 4, 3, padding=1), nn.InstanceNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)
        up = {"scale_factor": 2, "mode": mode, **({} if mode == "nearest" else {"align_corners": True})}
        self.up = nn.Identity() if transposed else nn.Upsample(**up)

    def forward(self, x):
        a = self.aa(self.an(self.a(x)))
        b = F.hardswish(self.bn(self.b(F.max_pool2d(a, 2))))
        c = F.silu(self.cn(self.c(F.avg_pool2d(b, 2))))
        d = F.gelu(self.dn(self.d(torch.cat([self.up(self.u(c)), b], 1))))
        e = F.leaky_relu(self.en(self.e(torch.cat([a, self.up(self.v(d))], 1))))
        return self.head(e)


def channels(*names: str):
    return [(name, 0) for name in names]


def unet_places(transposed: bool):
    out = 1 if transposed else 0
    return [
        (6, [*channels("a.weight", "a.bias", "an.weight", "an.bias", "an.running_mean", "an.running_var", "aa.weight"),
             ("b.weight", 1), ("e.weight", 1)]),
        (8, [*channels("b.weight", "b.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
             ("c.weight", 1), ("d.weight", 1, 7, 1)]),
        (10, [*channels("c.weight", "c.bias", "cn.weight", "cn.bias"), ("u.weight", 1 - out)]),
        (7, [("u.weight", out), ("u.bias", 0), ("d.weight", 1)]),
        (9, [*channels("d.weight", "d.bias", "dn.weight", "dn.bias"), ("v.weight", 1 - out)]),
        (5, [("v.weight", out), ("v.bias", 0), ("e.weight", 1, 6, 1)]),
        (4, [*channels("e.weight", "e.bias"), ("head.weight", 1)]),
    ]  # fmt: skip


@pytest.mark.parametrize(("transposed", "mode"), [(True, ""), (False, "nearest"), (False, "bilinear")])
def test_a_permutation_of_a_u_net_is_recovered(transposed, mode):
    net = UNet(transposed, mode or "nearest")
    recovered(net, unet_places(transposed), torch.randn(4, 2, 8, 8))
    assert sorted(g.count for g in symmetries(net.eval(), torch.randn(4, 2, 8, 8))) == [4, 5, 6, 7, 8, 9, 10]


FUNCTIONS = {
    "Hardswish": nn.Hardswish(), "Hardswish in place": nn.Hardswish(inplace=True), "SiLU": nn.SiLU(), "GELU": nn.GELU(),
    "GELU tanh": nn.GELU("tanh"), "Mish": nn.Mish(), "ELU": nn.ELU(), "CELU": nn.CELU(), "SELU": nn.SELU(),
    "Softplus": nn.Softplus(), "Softsign": nn.Softsign(), "LogSigmoid": nn.LogSigmoid(), "RReLU": nn.RReLU(),
    "Hardtanh": nn.Hardtanh(), "Hardsigmoid": nn.Hardsigmoid(), "Threshold": nn.Threshold(0.1, 0.2),
    "ReLU6": nn.ReLU6(), "Tanhshrink": nn.Tanhshrink(), "Softshrink": nn.Softshrink(0.1), "PReLU of one": nn.PReLU(),
    "Dropout": nn.Dropout(),
    "AlphaDropout": nn.AlphaDropout(), "GLU-like method": lambda x: x.sigmoid() * x, "erf": torch.erf,
    "method in place": lambda x: x.clone().tanh_().mul_(2).add_(x), "where": lambda x: torch.where(x > 0, x, 0.3 * x),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.1), "clamp": lambda x: x.clamp(-0.5, 0.8),
    "rsub": lambda x: 1 - x * x, "maximum": lambda x: torch.max(x, 0.1 * x), "softmax": lambda x: x.softmax(1),
    "normalize": lambda x: F.normalize(x, dim=1), "zeros": lambda x: x + torch.zeros_like(x).fill_(0.5),
    "standardized": lambda x: (x - x.mean(1, True)) / x.std(1, keepdim=True),
    "RMSNorm by hand": lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt(),
    "largest": lambda x: x / (x.abs().amax(1, keepdim=True) + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_units_behind_every_elementwise_function_move(name):
    f = FUNCTIONS[name]
    if isinstance(f, nn.Module):  # a part of the network, which its mode reaches
        net = Made(lambda s, x: s.o(s.f(s.h(x))), h=line(5, 12), f=f, o=line(12, 3))
    else:
        net = Made(lambda s, x: s.o(f(s.h(x))), h=line(5, 12), o=line(12, 3))
    recovered(net, [(12, [*channels("h.weight", "h.bias"), ("o.weight", 1)])], torch.randn(20, 5))


CHANNELS = channels("h.weight", "h.bias")
SCALED = channels("f.weight", "f.bias")
MOVING = {
    "PReLU by channel": (lambda s, x: s.o(s.f(s.h(x))), {"f": nn.PReLU(8)}, [("f.weight", 0)], 2),
    "InstanceNorm": (lambda s, x: s.o(s.f(s.h(x))), {"f": nn.InstanceNorm2d(8, affine=True)}, SCALED, 2),
    "circular padding": (lambda s, x: s.o(F.pad(s.h(x), (1, 1, 1, 1), mode="circular")), {}, [], 2),
    "reflection and flip": (lambda s, x: s.o(F.pad(s.h(x), (1, 1, 1, 1), mode="reflect").flip(-1)), {}, [], 2),
    "adaptive pooling": (lambda s, x: s.o(F.adaptive_avg_pool2d(F.adaptive_max_pool2d(s.h(x), 4), 2)), {}, [], 2),
    "excitation": (lambda s, x: s.o(s.h(x) * s.h(x).mean((2, 3), keepdim=True).sigmoid().expand_as(s.h(x))), {}, [], 2),
    "bicubic": (
        lambda s, x: s.o(F.dropout2d(F.interpolate(s.h(x), size=9, mode="bicubic"), 0.5, s.training)), {}, [], 2),
    "pooling in 1-D": (
        lambda s, x: s.o(F.avg_pool1d(F.max_pool1d(F.interpolate(s.h(x), scale_factor=2), 2), 2)), {}, [], 1),
    "pooling in 3-D": (
        lambda s, x: s.o(F.avg_pool3d(F.interpolate(s.h(x), scale_factor=2, mode="trilinear"), 2)), {}, [], 3),
    "LayerNorm over images": (lambda s, x: s.o(s.f(s.h(x))), {"f": nn.LayerNorm([8, 6, 6])}, SCALED, 2),
    "depthwise": (lambda s, x: s.o(s.f(s.h(x))), {"f": nn.Conv2d(8, 8, 3, groups=8)}, SCALED, 2),
    "depthwise transposed": (lambda s, x: s.o(s.f(s.h(x))), {"f": nn.ConvTranspose2d(8, 8, 3, groups=8)}, SCALED, 2),
    "a step by each channel": (lambda s, x: s.o(torch.stack([s.h(x), 2 * s.h(x)]).amax(0)), {}, [], 2),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVING)
def test_channels_behind_normalization_resampling_and_pooling_move(name):
    function, layers, places, n = MOVING[name]
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    net = Made(function, h=conv(2, 8, 1), o=conv(8, 3, 1), **layers)
    recovered(net, [(8, [*CHANNELS, *places, ("o.weight", 1)])], torch.randn(4, 2, *[6] * n))


def wide(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 1)


JOINED = {
    "depthwise of two results each": (
        lambda s, x: s.o(s.f(s.h(x))), {"h": wide(2, 6), "f": nn.Conv2d(6, 12, 1, groups=6), "o": wide(12, 3)},
        [(6, [*CHANNELS, ("f.weight", 0, 0, 2), ("f.bias", 0, 0, 2), ("o.weight", 1, 0, 2)])]),
    "transposed depthwise of two": (
        lambda s, x: s.o(s.f(s.h(x))), {"h": wide(2, 6), "f": nn.ConvTranspose2d(6, 12, 2, groups=6), "o": wide(12, 3)},
        [(6, [*CHANNELS, ("f.weight", 0), ("f.bias", 0, 0, 2), ("o.weight", 1, 0, 2)])]),
    "pixel shuffle": (
        lambda s, x: s.o(F.pixel_shuffle(s.h(x), 2)), {"h": wide(2, 20), "o": wide(5, 3)},
        [(5, [("h.weight", 0, 0, 4), ("h.bias", 0, 0, 4), ("o.weight", 1)])]),
    "pixel unshuffle": (
        lambda s, x: s.o(F.pixel_unshuffle(s.h(x), 2)), {"h": wide(2, 5), "o": wide(20, 3)},
        [(5, [*CHANNELS, ("o.weight", 1, 0, 4)])]),
    "gated": (
        lambda s, x: s.o(F.glu(s.h(x), 1)), {"h": wide(2, 14), "o": wide(7, 3)},
        [(7, [("h.weight", 0), ("h.weight", 0, 7, 1), ("h.bias", 0), ("h.bias", 0, 7, 1), ("o.weight", 1)])]),
    "gated by chunks": (
        lambda s, x: s.o(F.silu(s.h(x).chunk(2, 1)[0]) * s.h(x).chunk(2, 1)[1]), {"h": wide(2, 14), "o": wide(7, 3)},
        [(7, [("h.weight", 0), ("h.weight", 0, 7, 1), ("h.bias", 0), ("h.bias", 0, 7, 1), ("o.weight", 1)])]),
    "flattened": (
        lambda s, x: s.o(s.h(x).flatten(1)), {"h": wide(2, 7), "o": line(7 * 36, 3)},
        [(7, [*CHANNELS, ("o.weight", 1, 0, 36)])]),
    "unflattened": (
        lambda s, x: s.o(s.h(x.flatten(1)).view(-1, 7, 4, 4)), {"h": line(72, 7 * 16), "o": wide(7, 3)},
        [(7, [("h.weight", 0, 0, 16), ("h.bias", 0, 0, 16), ("o.weight", 1)])]),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_channels_that_are_split_and_joined_move_together(name):
    function, layers, places = JOINED[name]
    recovered(Made(function, **layers), places, torch.randn(4, 2, 6, 6))


def test_lengths_of_weight_norm_move_with_their_units():
    norm = nn.utils.parametrizations.weight_norm
    net = Made(lambda s, x: s.o(F.elu(s.h(x))), h=norm(line(5, 9)), o=norm(line(9, 3)))
    own = [f"h.parametrizations.weight.original{k}" for k in (0, 1)]
    recovered(net, [(9, [*channels(*own, "h.bias"), ("o.parametrizations.weight.original1", 1)])], torch.randn(20, 5))


BLOCKED = {
    "GroupNorm": ({"f": nn.GroupNorm(2, 8)}, lambda s, x: s.o(s.f(s.h(x))),
                  r"8 of 8 units .*: 8 because of GroupNorm in 2 groups"),
    "groups": (
        {"f": nn.Conv2d(8, 6, 1, groups=2)}, lambda s, x: s.p(F.relu(s.f(s.h(x)))),
        r"14 of 14 units .*: 14 because of a convolution in 2 groups"),
    "transposed groups": (
        {"f": nn.ConvTranspose2d(8, 6, 1, groups=2)}, lambda s, x: s.p(F.relu(s.f(s.h(x)))),
        r"14 of 14 units .*: 14 because of a convolution in 2 groups"),
    "cumsum": ({}, lambda s, x: s.o(s.h(x).cumsum(1)), r"8 of 8 units .*: 8 because of the operation cumsum"),
    "response norm": ({"f": nn.LocalResponseNorm(3)}, lambda s, x: s.o(s.f(s.h(x))), r"8 of 8 units .*avg_pool3d"),
    "a constant": ({}, lambda s, x: s.o(s.h(x) + torch.arange(8.0)[:, None, None]), r"8 of 8 units .*arange"),
    "a part": ({}, lambda s, x: s.p(s.h(x)[:, 2:]), r"8 of 8 units .*a part that is taken of them"),
    "recurrent": (
        {"f": nn.LSTM(36, 9, batch_first=True)}, lambda s, x: s.o(s.f(s.h(x).flatten(2))[0].view(-1, 8, 3, 3)),
        r"44 of 44 units .*(lstm|rnn|unsafe_split)"),
    "channel shuffle": ({"f": nn.ChannelShuffle(2)}, lambda s, x: s.o(s.f(s.h(x))), r"8 of 8 units .*channel_shuffle"),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKED)
def test_what_cannot_be_permuted_is_said_with_its_cause(name):
    layers, function, message = BLOCKED[name]
    net = Made(function, h=wide(2, 8), o=wide(8, 3), p=wide(6, 3), **layers).eval()
    x, state = torch.randn(4, 2, 6, 6), net.state_dict()
    with pytest.raises(BadInput, match=message):
        aligned(net, state, state, x)
    both = Made(lambda s, x: s.inner(F.relu(s.first(x))), first=wide(2, 5), second=wide(5, 2))
    both.inner = nn.Sequential(both.second, net)
    with pytest.warns(
        Note,
        match=message.replace("8 of 8", r"10 of 15|8 of 15")
        .replace("44 of 44", r"\d+ of \d+")
        .replace("14 of 14", r"14 of 2\d|1\d of 2\d"),
    ):
        aligned(both.eval(), both.state_dict(), both.state_dict(), x)


def test_units_that_change_places_in_blocks_only_are_said():
    """Shuffled by hand: which of a group is which is not followed any further."""

    def mixed(s, x):
        return s.o(F.relu(s.h(x)).view(-1, 2, 4, 6, 6).transpose(1, 2).reshape(-1, 8, 6, 6))

    net, x = Made(mixed, h=wide(2, 8), o=wide(8, 3)).eval(), torch.randn(4, 2, 6, 6)
    groups, other = shuffled(net, trained_like(net), x)
    assert [group.count for group in groups] == [2]
    torch.testing.assert_close(
        output_in_double(net, trained_like(net), x), output_in_double(net, other, x), rtol=1e-9, atol=1e-9
    )
    with pytest.warns(Note, match="8 units are permuted in blocks only"):
        aligned(net, trained_like(net), other, x)


def test_a_running_mean_of_a_network_is_not_touched_by_tracing():
    """InstanceNorm writes its statistics back, rounded, even in eval mode."""
    net = nn.Sequential(wide(2, 7), nn.InstanceNorm2d(7, affine=True, track_running_stats=True), wide(7, 3)).eval()
    net[1].running_mean.normal_()
    before = net[1].running_mean.clone()
    symmetries(net, torch.randn(7, 2, 5, 5))
    assert torch.equal(net[1].running_mean, before)


OWN = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 1), nn.GroupNorm(4, 8), nn.ReLU(),
                         nn.Conv2d(8, 3, 1), nn.Flatten(), nn.Linear(48, 3))

def data():
    g = torch.Generator().manual_seed(1)
    return torch.randn(12, 1, 4, 4, generator=g), torch.randint(3, (12,), generator=g)
"""


def test_both_front_ends_say_what_could_not_be_permuted(tmp_path, capsys, monkeypatch):
    import lossatlas

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    found: dict = {}
    exec(OWN, found)
    net = found["net"]()
    torch.save(net.state_dict(), "a.pt")
    torch.save(trained_like(net), "b.pt")
    message = "8 of 17 units could not be permuted: 8 because of GroupNorm in 4 groups"
    with pytest.warns(Note, match=message):
        lossatlas.align(net, trained_like(net), found["data"]()[0])
    command = "--model own.py:net --dataset own.py:data --model_file a.pt --model_file2 b.pt --align --x=0:1:3".split()
    assert plot_surface.main([*command, "--surf_file", "s.h5"]) == 0
    assert f"note: {message}" in capsys.readouterr().out
