"""Derivatives that are not those of the loss are refused, and the cause is named."""

import copy

import pytest
import torch
from oracles import explicit_hessian
from torch import nn
from torch.utils.checkpoint import checkpoint

from lossatlas.data import LOSSES, Dataset
from lossatlas.errors import BadInput
from lossatlas.hessian import Hessian
from lossatlas.hessian.chosen_parameters import ChosenParameters

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(1))
DATA = Dataset("d", "train", (X, Y), 3)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Net(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if self.kind == "detach":
            h = h.detach() + 0.3 * h
        elif self.kind == "no_grad":
            with torch.no_grad():
                gate = torch.sigmoid(self.b(h))
            h = h * gate
        elif self.kind == "rounded":
            h = Rounded.apply(h)
        elif self.kind == "reversed":
            h = Reversed.apply(h)
        elif self.kind == "reentrant":
            h = checkpoint(self.b, h, use_reentrant=True)
        else:
            h = checkpoint(self.b, h, use_reentrant=False)
        return self.c(torch.tanh(h))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("detach", "gradient is off"),
        ("no_grad", "gradient is off"),
        ("rounded", "uses Rounded, which defines a derivative of its own"),
        ("reversed", "uses Reversed"),
        ("reentrant", "use_reentrant=False"),
    ],
)
def test_cut_or_replaced_gradients_are_refused(kind, words):
    """Eigenvalues were printed as resolved: off by 22 %, and 0 in the place of -0.255."""
    torch.manual_seed(0)
    with pytest.raises(BadInput, match=words) as error:
        Hessian(Net(kind), DATA, LOSSES["crossentropy"])
    assert "\n" not in str(error.value)


def test_checkpoints_that_are_not_reentrant_have_the_right_products():
    torch.manual_seed(0)
    net = Net("plain").double()
    operator = Hessian(net, DATA, LOSSES["crossentropy"])
    v = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradient():
        value = nn.functional.cross_entropy(net(X.double()), Y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))])

    found, step = [], 1e-6
    for sign in (1, -1):
        with torch.no_grad():
            for p, piece in zip(net.parameters(), operator.unflatten(v), strict=True):
                p.add_(sign * step * piece)
        found.append(gradient())
        with torch.no_grad():
            for p, piece in zip(net.parameters(), operator.unflatten(v), strict=True):
                p.sub_(sign * step * piece)
    torch.testing.assert_close(operator(v), (found[0] - found[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_kinks_of_many_units_close_by_are_no_disagreement(monkeypatch):
    """A deep network has some within every step but the shortest ones."""
    monkeypatch.setattr(ChosenParameters, "small_step", lambda self: torch.zeros(self.size))
    torch.manual_seed(0)
    units, x = 600, X.double()
    net = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 3)).double()
    with torch.no_grad():
        weight, sample = net[0].weight, x[torch.arange(units) % 16]
        distance = 10 ** torch.linspace(-7.5, -3, units, dtype=torch.float64)
        net[0].bias.copy_(-(weight * sample).sum(1) + distance)
    hessian = Hessian(net, Dataset("d", "train", (x, Y), 3), LOSSES["crossentropy"])
    assert hessian(torch.ones(hessian.size, dtype=torch.float64)).isfinite().all()


class Padded(nn.Module):
    """A classifier of padded sequences whose padding reaches the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3, padding_idx=0), nn.Linear(3, 2)

    def forward(self, tokens):
        return self.head(torch.tanh(self.embed(tokens)).mean(1))


def test_the_padding_row_of_an_embedding_is_held_fixed_as_in_training():
    torch.manual_seed(0)
    net = Padded().double()
    tokens, labels = torch.randint(0, 5, (24, 6)), torch.randint(0, 2, (24,))
    operator = Hessian(net, Dataset("d", "train", (tokens, labels), 2), LOSSES["crossentropy"])
    free = copy.deepcopy(net)
    free.embed.padding_idx = None
    dense = explicit_hessian(free, lambda model: nn.functional.cross_entropy(model(tokens), labels))
    dense[:3], dense[:, :3] = 0, 0  # the row of the padding
    found = torch.stack([operator(row) for row in torch.eye(operator.size, dtype=torch.float64)])
    torch.testing.assert_close(found, dense, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(operator.block(["embed.weight"])(torch.ones(15).double()), dense[:15, :15].sum(1))
