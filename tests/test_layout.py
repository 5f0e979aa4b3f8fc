"""Slices of weights that produce one output channel, against the layers' own outputs."""

import pytest
import torch
from test_parameter_space import naive
from torch import nn

from lossatlas.parameter_space import Layout, SchemePlane, normalize, other_network, random_direction, scale_to, tensors


class Conv1D(nn.Module):
    """The layer of GPT-2 in transformers: (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


LAYERS = {
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3), (4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5)),
    "ConvTranspose2d in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5)),
    "ConvTranspose2d depthwise": (lambda: nn.ConvTranspose2d(4, 8, 2, groups=4), (4, 5, 5)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 4, 2, groups=2), (2, 3, 3, 3)),
    "Conv1D": (lambda: Conv1D(5, 3), (3,)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    "Linear": (lambda: nn.Linear(4, 3), (4,)),
}


def producers(layer: nn.Module, weight: torch.Tensor, shape) -> torch.Tensor:
    """For each number of a weight, the one output channel that changes with it."""
    x = torch.randn(2, *shape)
    found = torch.empty(weight.shape, dtype=torch.long)
    with torch.no_grad():
        before = layer(x)
        for index in torch.cartesian_prod(*map(torch.arange, weight.shape)).tolist():
            old = weight[tuple(index)].clone()
            weight[tuple(index)] += 1
            changed = (layer(x) != before).movedim(1, 0).flatten(1).any(1).nonzero().flatten()
            weight[tuple(index)] = old
            assert len(changed) == 1
            found[tuple(index)] = changed[0]
    return found


def by_hand(d, w, channel, norm):
    result = torch.empty_like(d)
    for k in channel.unique():
        own = channel == k
        factor = w[own].norm() if norm == "filter" else 1.0
        result[own] = d[own] * factor / (d[own].norm() + 1e-10)
    return result


@pytest.mark.parametrize("norm", ["filter", "dfilter"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_slices_that_are_normalized_produce_one_output_channel(name, norm):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make().double()
    torch.set_default_dtype(torch.float64)
    try:
        channel = producers(layer, layer.weight, shape)
    finally:
        torch.set_default_dtype(torch.float32)
    at = tensors(layer)
    drawn = {key: torch.randn_like(value) for key, value in at.items()}
    expected = by_hand(drawn["weight"], at["weight"], channel, norm)
    for found in (normalize(drawn, at, norm, "", Layout.of(layer)), scale_to(drawn, at, norm, "", Layout.of(layer))):
        torch.testing.assert_close(found["weight"], expected, rtol=1e-12, atol=0)


def test_reparametrized_and_wrapped_weights_have_the_same_layout():
    made = {
        "old spectral_norm": nn.utils.spectral_norm(nn.ConvTranspose2d(4, 6, 3, groups=2)),
        "old weight_norm": nn.utils.weight_norm(nn.ConvTranspose2d(4, 6, 3)),
        "spectral_norm": nn.utils.parametrizations.spectral_norm(nn.ConvTranspose2d(4, 6, 3, groups=2)),
        "weight_norm": nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3)),
        "weight_norm over outputs": nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3, groups=2), dim=1),
        "Conv1D": nn.utils.parametrizations.weight_norm(Conv1D(5, 3)),
        "DataParallel": nn.DataParallel(nn.ConvTranspose2d(4, 6, 3)),
        "no transposed ones": nn.Sequential(
            nn.Conv1d(3, 4, 2), nn.Embedding(5, 4), nn.LSTM(4, 3), nn.Bilinear(2, 3, 4)
        ),
    }
    assert {name: dict(Layout.of(net).transposed) for name, net in made.items()} == {
        "old spectral_norm": {"weight_orig": 2},
        "old weight_norm": {"weight_g": 1, "weight_v": 1},
        "spectral_norm": {"parametrizations.weight.original": 2},
        "weight_norm": {"parametrizations.weight.original0": 1, "parametrizations.weight.original1": 1},
        "weight_norm over outputs": {"parametrizations.weight.original0": 1, "parametrizations.weight.original1": 2},
        "Conv1D": {"parametrizations.weight.original0": 1, "parametrizations.weight.original1": 1},
        "DataParallel": {"module.weight": 1},
        "no transposed ones": {},
    }


def test_a_tied_weight_has_the_layout_of_the_layer_that_names_it():
    net = nn.ModuleDict({"down": nn.Conv2d(2, 3, 2, bias=False), "up": nn.ConvTranspose2d(3, 2, 2, bias=False)})
    net["up"].weight = net["down"].weight
    direction = random_direction(tensors(net), "filter", "", 1, Layout.of(net))
    assert list(direction) == ["down.weight"]
    lengths = [value.flatten(1).norm(dim=1) for value in (direction["down.weight"], net["down"].weight)]
    torch.testing.assert_close(*lengths)


@pytest.mark.parametrize("norm", ["filter", "dfilter", "layer", "weight", "dlayer"])
@pytest.mark.parametrize("ignore", ["", "biasbn"])
def test_ordinary_layers_are_normalized_to_the_last_bit_as_before(networks, norm, ignore):
    for net in networks.values():
        at = tensors(net)
        drawn = {name: torch.randn_like(value) for name, value in at.items()}
        found = normalize(drawn, at, norm, ignore, Layout(Layout.of(net).norms))
        for name, value in normalize(drawn, at, norm, ignore, Layout.of(net)).items():
            assert torch.equal(value, found[name])
            if norm.endswith("filter") and value.dim() > 1:
                d, w = drawn[name], at[name]
                rows = d.flatten(1).norm(dim=1).view(-1, *[1] * (d.dim() - 1))
                of = w.flatten(1).norm(dim=1).view_as(rows)
                assert torch.equal(value, d * (of / (rows + 1e-10)) if norm == "filter" else d / (rows + 1e-10))
                torch.testing.assert_close(value, naive(d, w, norm, ignore))


def test_schemes_scale_filters_by_output_channel():
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(2, 4, 2, groups=2), nn.Flatten(), nn.Linear(4, 3)).double()
    first, layout = tensors(net), Layout.of(net)
    second, third = (other_network(first, seed, layout) for seed in (1, 2))
    channel = torch.tensor([[0, 1], [2, 3]])[:, :, None, None].expand(2, 2, 2, 2)
    name = "0.weight"
    for other in (second, third):
        for k in range(4):
            torch.testing.assert_close(other[name][channel == k].norm(), first[name][channel == k].norm())
    a, b = 0.3, -0.7
    found = SchemePlane("barycentric", first, second, third, list(first), layout).point(a, b)[name]
    p, q = (
        by_hand((1 - t) * first[name] + t * o[name], first[name], channel, "filter")
        for t, o in ((a, second), (b, third))
    )
    torch.testing.assert_close(found, a * p + (1 - b) * q)
    plain = SchemePlane("barycentric", first, second, third, list(first)).point(a, b)[name]
    assert not torch.allclose(found, plain)


def test_surfaces_of_the_library_are_along_filters_by_output_channel_and_say_it():
    """All three kinds of direction that are normalized, against a loop over output channels."""
    import lossatlas

    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(2, 4, 2, groups=2), nn.Flatten(), nn.Linear(36, 3))
    data = torch.randn(10, 2, 2, 2), torch.randint(3, (10,))
    given = {name: torch.randn_like(value) for name, value in tensors(net).items()}
    channel = torch.tensor([[0, 1], [2, 3]])[:, :, None, None].expand(2, 2, 2, 2)
    for what in ("random", "gradient", given):
        found = lossatlas.surface(net, data, x="0:1:2", directions=what, norm="filter", progress=False).directions
        direction, weight = torch.from_numpy(found.x[0]), net[0].weight.detach()
        assert "norm=filter by output channel" in found.about["x"]
        for k in range(4):
            torch.testing.assert_close(direction[channel == k].norm(), weight[channel == k].norm())
