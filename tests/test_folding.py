import pytest
import torch
from conftest import seeded
from torch import nn
from torch.nn.utils import parametrizations

from lossatlas.data import LOSSES, Dataset, Losses
from lossatlas.evaluation import Evaluator, choose_path
from lossatlas.evaluation.folding import Folded, NotFoldable
from lossatlas.hessian import Hessian
from lossatlas.models import MODELS, build
from lossatlas.parameter_space import AffinePlane, random_direction, tensors


def path_of(net, inputs):
    return choose_path(net, lambda model, batch: Losses(model(batch[0]).flatten(1).mean(1)), (inputs, inputs))


def same(net, x, tolerance=1e-5):
    folded = Folded(net)
    expected, found = net.double()(x.double()), None
    net.float()
    found = folded.net(x)
    assert (found - expected).norm() <= tolerance * expected.norm()
    with torch.no_grad():
        for p in [*net.parameters(), *net.buffers()]:
            if p.is_floating_point():
                p.mul_(1.1)
    assert not torch.allclose(folded.net(x), net(x), rtol=1e-3)
    with torch.no_grad():
        folded.update()
    torch.testing.assert_close(folded.net(x), net(x), rtol=1e-3, atol=1e-4)
    return folded


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["resnet20", "resnet56_noshort", "vgg9", "resnet18", "densenet121"])
def test_a_folded_network_computes_the_same(name):
    assert name in MODELS
    folded = same(seeded(lambda: build(name)), torch.randn(3, 3, 32, 32), 1e-4)
    called = {node.target for node in folded.net.graph.nodes if node.op == "call_module"}
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = [name for name, m in folded.net.named_modules() if isinstance(m, kinds) and name in called]
    if name == "densenet121":  # BatchNorm comes first there: the one behind a 1x1 convolution folds
        assert len(folded.pairs) == 58
    else:
        assert norms == []


def test_biases_and_norms_without_scale():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Linear(4, 3))

        def forward(self, x):
            return self.layers(x)

    net = Net().eval().requires_grad_(False)
    net.layers[1].running_mean.normal_()
    net.layers[1].running_var.uniform_(0.2, 3)
    same(net, torch.randn(6, 5))


class Shared(nn.Module):
    """One convolution in front of two norms: neither may be folded."""

    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.a(self.conv(x)) + self.b(self.conv(x))


class Twice(nn.Module):
    """A convolution whose output is used before the norm too."""

    def __init__(self):
        super().__init__()
        self.conv, self.a = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.a(y) + y


class Branching(nn.Module):
    """Its path depends on the data."""

    def __init__(self):
        super().__init__()
        self.conv, self.a = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.a(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("make", [Shared, Twice, Branching, lambda: build("mlp", (1, 8, 8))])
def test_what_cannot_be_folded_is_left_alone(make):
    with pytest.raises(NotFoldable):
        Folded(seeded(make))


def test_the_original_is_not_changed():
    net = seeded(lambda: build("resnet20"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    names = [name for name, _ in net.named_modules()]
    Folded(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [name for name, _ in net.named_modules()] == names
    assert isinstance(net.layer1[0].conv1, nn.Conv2d)
    assert net.layer1[0].conv1.bias is None


class Reused(nn.Module):
    """Outputs that are read twice, broadcast additions, activations as modules: what may not be overwritten."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.second, self.third = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)
        self.shift = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x):
        y = self.norm(self.conv(x))
        z = self.second(self.relu(y))
        total = self.shift + z + y
        return torch.relu(total + total) + y.relu() + self.relu(self.second(total) + self.shift)


class Broadcast(Reused):
    def forward(self, x):
        return self.third(y := self.norm(self.conv(x))) + y


def test_only_what_nobody_else_reads_is_overwritten():
    x = torch.randn(2, 3, 5, 5)
    kept = x.clone()
    same(seeded(Reused), x)
    assert torch.equal(x, kept)


def test_a_sum_larger_than_its_overwritten_operand_is_noticed():
    assert path_of(seeded(Reused), torch.randn(2, 3, 5, 5)) == (True, "")
    good, reason = path_of(seeded(Broadcast), torch.randn(2, 3, 5, 5))
    assert not good
    assert "shape" in reason


@pytest.mark.parametrize(
    "norm",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        torch.nn.utils.weight_norm,
        torch.nn.utils.spectral_norm,
    ],
    ids=["weight", "spectral", "old weight", "old spectral"],
)
@pytest.mark.filterwarnings("ignore")
def test_layers_whose_weight_is_computed_are_not_folded_and_nothing_more(norm):
    """They ended in a KeyError; the layers beside them are folded all the same."""
    torch.manual_seed(0)
    net = nn.Sequential(
        norm(nn.Conv2d(1, 4, 3)),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).eval()
    inputs, targets = torch.randn(12, 1, 8, 8), torch.randint(0, 3, (12,))
    expected = float(nn.functional.cross_entropy(net(inputs), targets))
    assert path_of(net, inputs[:4]) == (True, "")
    assert path_of(net[:3], inputs[:4]) == (False, "it has no BatchNorm behind a convolution or linear layer")
    data, at = Dataset("d", "train", (inputs, targets), 3), tensors(net)
    plane = AffinePlane(at, random_direction(at, "filter", "biasbn", 1))
    for folded in (False, True):
        evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], folded=folded)
        assert evaluator([(0.0, 0.0)])[0, 0, 2] / 12 == pytest.approx(expected, rel=1e-5)
    operator = Hessian(net, data, LOSSES["crossentropy"])
    loss, gradient = operator.gradient()
    assert loss == pytest.approx(expected, rel=1e-5)
    v = gradient / gradient.norm()
    double = Hessian(
        net.double(), Dataset("d", "train", (inputs.double(), targets), 3), LOSSES["crossentropy"], folded=False
    )
    torch.testing.assert_close(
        operator(v).double(), double(v.double()), rtol=1e-3, atol=1e-3 * float(double(v.double()).norm())
    )


@pytest.mark.parametrize("bias", [True, False])
def test_the_eps_of_a_norm_counts_where_variances_are_small(bias):
    """In float64, against the layers themselves; variances are a hundredth of eps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4, bias=bias), nn.BatchNorm1d(4, eps=0.01)).double().eval()
    net[1].running_var.uniform_(0, 2e-4)
    net[1].running_mean.normal_()
    x = torch.randn(6, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(Folded(net).net(x), net(x), rtol=1e-10, atol=1e-10)
