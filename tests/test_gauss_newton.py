"""Gauss-Newton and Fisher matrices against dense ones, of Jacobians and of the losses' own formulas, and curvlinops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from curvlinops import GGNLinearOperator
from torch import nn
from torch.func import functional_call, jacrev

import lossatlas
from lossatlas.commands import hessian_spectrum
from lossatlas.data import LOSSES, Dataset, as_loss
from lossatlas.data.losses import Losses
from lossatlas.errors import BadInput, BadUsage
from lossatlas.hessian import GaussNewton, Hessian, lanczos
from lossatlas.io import read_findings
from lossatlas.models import build
from lossatlas.user_code import UserFunction

N, CLASSES = 30, 3
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(0, CLASSES, (N,), generator=torch.Generator().manual_seed(1))
NUMBERS = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def network() -> nn.Module:
    layers = nn.Linear(5, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, CLASSES)
    return seeded(lambda: nn.Sequential(*layers)).double().eval()


def dense(operator) -> np.ndarray:
    return torch.stack([operator(unit) for unit in torch.eye(operator.size, dtype=operator.dtype)]).numpy()


def jacobian(net: nn.Module) -> torch.Tensor:
    """(samples, outputs, parameters), sample by sample."""
    parameters = dict(net.named_parameters())

    def rows(x):
        found = jacrev(lambda p: functional_call(net, p, (x[None],))[0])(parameters)
        return torch.cat([found[name].flatten(1) for name in parameters], dim=1)

    return torch.stack([rows(x) for x in X]).detach()


def data(targets: torch.Tensor) -> Dataset:
    return Dataset("it", "train", (X, targets), CLASSES)


def softmax_curvature(z: torch.Tensor) -> torch.Tensor:
    p = z.softmax(1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


def outer(g: torch.Tensor) -> torch.Tensor:
    return g[:, :, None] * g[:, None, :]


def matrix_of(jacobians: torch.Tensor, of_outputs: torch.Tensor, weights: torch.Tensor | None = None) -> np.ndarray:
    w = torch.ones(N, dtype=torch.float64) if weights is None else weights
    return torch.einsum("n,nap,nab,nbq->pq", w / w.sum(), jacobians, of_outputs, jacobians).numpy()


@pytest.mark.few(2)
@pytest.mark.parametrize("batch_size", [7, 30])
@pytest.mark.parametrize("matrix", ["ggn", "fisher", "empirical_fisher"])
@pytest.mark.parametrize("name", ["crossentropy", "mse"])
def test_against_the_dense_matrix(matrix, name, batch_size):
    net, targets = network(), LABELS if name == "crossentropy" else NUMBERS
    with torch.no_grad():
        z = net(X)
    if matrix == "empirical_fisher":
        slopes = z.softmax(1) - F.one_hot(LABELS) if name == "crossentropy" else 2 * (z - NUMBERS) / CLASSES
        of_outputs = outer(slopes)
    elif name == "crossentropy":
        of_outputs = softmax_curvature(z)
    else:
        of_outputs = (2 / CLASSES * torch.eye(CLASSES, dtype=torch.float64)).expand(N, -1, -1)
    operator = GaussNewton(net, data(targets), LOSSES[name], matrix=matrix, batch_size=batch_size)
    expected = matrix_of(jacobian(net), of_outputs)
    np.testing.assert_allclose(dense(operator), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    assert np.linalg.eigvalsh(dense(operator))[0] > -1e-12


@pytest.mark.few(1)
@pytest.mark.parametrize("matrix", ["ggn", "fisher", "mc_fisher", "empirical_fisher"])
def test_no_eigenvalue_of_a_semidefinite_matrix_is_said_to_be_below_0(matrix):
    few = {"top": 1, "bottom": 0, "max_products": 8, "tolerance": 1e-12, "progress": False}
    found = lossatlas.spectrum(network(), (X, LABELS), matrix=matrix, **few)
    assert -1e-12 < found.bounds[0] <= 0
    assert found.bounds[1] >= found.eigenvalues[0]
    assert lossatlas.spectrum(network(), (X, LABELS), **few).bounds[0] < -1e-3  # of the Hessian


def folded_error(output, target):
    return 1 - torch.exp(-(output - target).square().sum(1))


def test_a_loss_that_is_not_convex_may_have_a_negative_eigenvalue():
    operator = GaussNewton(network(), data(NUMBERS), as_loss(folded_error), matrix="ggn")
    exact = np.linalg.eigvalsh(dense(operator))
    found = lossatlas.spectrum(network(), (X, NUMBERS), loss=folded_error, matrix="ggn", top=1, progress=False)
    assert exact[0] < -1e-3
    assert found.bounds[0] <= exact[0]
    assert not GaussNewton(network(), data(LABELS), LOSSES["mse"], matrix="ggn").semidefinite


def test_samples_with_negative_weights_may_have_a_negative_eigenvalue():
    def weighed(model, batch):
        inputs, labels = batch
        return Losses(F.cross_entropy(model(inputs), labels, reduction="none"), weights=labels.double() - 0.5)

    exact = np.linalg.eigvalsh(dense(GaussNewton(network(), data(LABELS), as_loss(weighed), matrix="empirical_fisher")))
    few = {"matrix": "empirical_fisher", "top": 1, "bottom": 0, "max_products": 8, "tolerance": 1e-12}
    found = lossatlas.spectrum(network(), (X, LABELS), loss=weighed, **few, progress=False)
    assert exact[0] < -1e-3
    assert found.bounds[0] <= exact[0]


def test_the_mean_over_drawn_targets_is_the_fisher_matrix():
    """The definition: gradients of targets that the network itself draws."""
    net = network()
    with torch.no_grad():
        p = net(X).softmax(1)
    slopes = p[:, None, :] - torch.eye(CLASSES, dtype=torch.float64)  # of each sample, for each target
    of_outputs = torch.einsum("nt,nta,ntb->nab", p, slopes, slopes)
    found = dense(GaussNewton(net, data(LABELS), LOSSES["crossentropy"], matrix="fisher"))
    np.testing.assert_allclose(found, matrix_of(jacobian(net), of_outputs), rtol=1e-8, atol=1e-12)


def test_ignored_labels_and_weights_count_as_in_the_mean_loss():
    net, labels = network(), LABELS.clone()
    labels[::4] = -100
    weights = (labels != -100).double()
    with torch.no_grad():
        of_outputs = softmax_curvature(net(X))
    found = dense(GaussNewton(net, data(labels), LOSSES["crossentropy"], matrix="ggn", batch_size=8))
    np.testing.assert_allclose(found, matrix_of(jacobian(net), of_outputs, weights), rtol=1e-8, atol=1e-12)


def test_of_a_linear_network_it_is_the_hessian():
    net = seeded(lambda: nn.Linear(5, CLASSES)).double()
    loss = LOSSES["crossentropy"]
    ggn, hessian = GaussNewton(net, data(LABELS), loss, matrix="ggn"), Hessian(net, data(LABELS), loss)
    np.testing.assert_allclose(dense(ggn), dense(hessian), rtol=1e-8, atol=1e-12)


def test_parts_of_a_network_and_blocks():
    net, loss = network(), LOSSES["crossentropy"]
    whole = GaussNewton(net, data(LABELS), loss, matrix="ggn")
    last = GaussNewton(net, data(LABELS), loss, matrix="ggn", parameters="3")
    block = whole.block(["3.weight", "3.bias"])
    assert last.size == block.size == 6 * 3 + 3
    np.testing.assert_allclose(dense(last), dense(whole)[-last.size :, -last.size :], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(dense(block), dense(last), rtol=1e-12, atol=1e-14)


class Decoder(nn.Module):
    """Tied weights, several positions, and an output with a name."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, input_ids):
        return {"logits": self.out(torch.tanh(self.embed(input_ids).cumsum(1))), "hidden": None}


def test_a_language_model_against_curvlinops():
    tokens = torch.randint(0, 9, (12, 6), generator=torch.Generator().manual_seed(3))
    net = seeded(Decoder).double()
    found = dense(GaussNewton(net, Dataset("it", "train", tokens, 9), LOSSES["next_token"], matrix="ggn", batch_size=5))

    def logits(x):
        return net(x)["logits"][:, :-1].flatten(0, 1)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return logits(x)

    batches = [(tokens, tokens[:, 1:].flatten())]
    flat = Flat()
    linear = GGNLinearOperator(flat, nn.CrossEntropyLoss(), list(flat.parameters()), batches, check_deterministic=False)
    expected = (linear @ torch.eye(linear.shape[1], dtype=torch.float64)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_top_eigenvalue_by_lanczos():
    operator = GaussNewton(network(), data(LABELS), LOSSES["crossentropy"], matrix="ggn")
    pairs = lanczos(operator, top=1, bottom=0, tolerance=1e-8)
    assert pairs.values[0] == pytest.approx(np.linalg.eigvalsh(dense(operator))[-1], rel=1e-7)


OWN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset


def make():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def samples(split):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 4, generator=generator, dtype=torch.float64)
    return TensorDataset(x, torch.randint(0, 3, (24,), generator=generator))
"""


@pytest.mark.parametrize("matrix", ["ggn", "empirical_fisher"])
def test_the_command_and_the_python_function(tmp_path, monkeypatch, capsys, matrix):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    command = ["--model", "own.py:make", "--dataset", "own.py:samples", "--top", "2", "--bottom", "0", "--layers"]
    file = ["--spectrum_file", "it.h5"]
    assert hessian_spectrum.main([*command, *file, "--matrix", matrix]) == 0
    name = {"ggn": "Gauss-Newton matrix", "empirical_fisher": "empirical Fisher matrix"}[matrix]
    assert f"{name} of the mean loss (crossentropy, train)" in capsys.readouterr().out
    found = lossatlas.Curvature(read_findings("it.h5"))
    net = build(UserFunction.parse("model", "own.py:make"))
    x, labels = UserFunction.parse("dataset", "own.py:samples").function("train").tensors
    assert hessian_spectrum.main([*command, *file]) != 0
    assert f"was made with matrix = {matrix}, now it is hessian" in capsys.readouterr().err
    python = lossatlas.spectrum(net, (x, labels), matrix=matrix, top=2, progress=False)
    np.testing.assert_allclose(found.eigenvalues, python.eigenvalues, rtol=1e-6)
    own = Dataset("it", "train", (x, labels), 3)
    values = np.linalg.eigvalsh(dense(GaussNewton(net, own, LOSSES["crossentropy"], matrix=matrix)))
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:2], rtol=1e-5)
    assert found.trace.value == pytest.approx(values.sum(), abs=3 * found.trace.error + 1e-9)
    assert name in found.plot("density").axes[0].get_title()


def test_what_is_for_the_hessian_alone_is_refused():
    with pytest.raises(BadUsage, match="is for the Hessian: leave it or matrix='ggn' out"):
        lossatlas.spectrum(network(), (X, LABELS), matrix="ggn", progress=False, compiled=True)


def with_penalty(model, batch):
    losses = LOSSES["crossentropy"](model, batch)
    return Losses(losses.per_sample, penalty=torch.tensor(1.0))


def two_calls(model, batch):
    return F.cross_entropy(model(batch[0]) + model(batch[0]), batch[1], reduction="none")


def mean_alone(output, target):
    return F.cross_entropy(output, target)


@pytest.mark.parametrize(
    ("loss", "matrix", "targets", "error", "message"),
    [
        (with_penalty, "ggn", LABELS, BadInput, "term of the parameters"),
        (two_calls, "ggn", LABELS, BadInput, "calls the network more than once"),
        (mean_alone, "empirical_fisher", LABELS, BadInput, "the mean of a batch alone"),
        (mean_alone, "fisher", LABELS, BadUsage, "needs the distribution of the targets"),
        ("mse", "fisher", LABELS, BadUsage, "mse of labels compares probabilities"),
    ],
)
def test_what_has_no_such_matrix_is_refused(loss, matrix, targets, error, message):
    with pytest.raises(error, match=message):
        GaussNewton(network(), data(targets), as_loss(loss), matrix=matrix)


class Cut(nn.Module):
    """A gradient that is cut within the network."""

    def forward(self, x):
        return x + x.detach() ** 2


class OnceOnly(torch.autograd.Function):
    """A square whose backward pass hides what it multiplies from autograd."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient + (2 * x.detach() * gradient.detach() - gradient.detach())


class Hidden(nn.Module):
    def forward(self, x):
        return OnceOnly.apply(x)


@pytest.mark.parametrize(
    ("layer", "message"), [(Cut, "disagrees with finite differences"), (Hidden, "cannot be differentiated again")]
)
def test_derivatives_that_are_not_those_of_the_network_are_refused(layer, message):
    net = nn.Sequential(nn.Linear(5, 6), layer(), nn.Linear(6, CLASSES)).double()
    with pytest.raises(BadInput, match=message):
        GaussNewton(net, data(LABELS), LOSSES["crossentropy"], matrix="ggn")


class Cube(torch.autograd.Function):
    """x^3 with a derivative in reverse mode alone."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class WrongCube(Cube):
    """x^3 with a wrong derivative in forward mode."""

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


class CubeLayer(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class DoublesItsInput(nn.Module):
    def forward(self, x):
        return x.mul_(2)


def after_first(layer: nn.Module) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 6), layer, nn.Linear(6, CLASSES)).double())


@pytest.mark.parametrize("function", [Cube.apply, WrongCube.apply])
def test_layers_without_a_right_derivative_in_forward_mode_are_multiplied_in_reverse_mode(function):
    net, plain = after_first(CubeLayer(function)), after_first(CubeLayer(lambda x: x**3))
    plain.load_state_dict(net.state_dict())
    there = GaussNewton(plain, data(LABELS), LOSSES["crossentropy"], matrix="ggn")
    found = GaussNewton(net, data(LABELS), LOSSES["crossentropy"], matrix="ggn")
    assert there.forward_mode
    assert not found.forward_mode
    np.testing.assert_allclose(dense(found), dense(there), rtol=1e-10, atol=1e-14)


def test_a_network_that_overwrites_its_input():
    plain = network()
    net = nn.Sequential(DoublesItsInput(), plain)
    found = GaussNewton(net, data(LABELS), LOSSES["crossentropy"], matrix="ggn", batch_size=7)
    doubled = Dataset("it", "train", (2 * X, LABELS), CLASSES)
    expected = GaussNewton(plain, doubled, LOSSES["crossentropy"], matrix="ggn", batch_size=7)
    np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-10, atol=1e-14)


def test_usual_layers_have_a_forward_mode():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    net = seeded(lambda: nn.Sequential(encoder, nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, CLASSES)))
    tokens = Dataset("it", "train", (torch.randn(12, 3, 8), LABELS[:12]), CLASSES)
    assert GaussNewton(net, tokens, LOSSES["crossentropy"], matrix="ggn").forward_mode
    images = Dataset("it", "train", (torch.randn(12, 3, 8, 8), LABELS[:12]), CLASSES)
    assert GaussNewton(build("resnet20"), images, LOSSES["crossentropy"], matrix="ggn").forward_mode


class Padded(nn.Module):
    """Tied weights with a padding row, whose gradient is left out on the way in and not on the way out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight
        nn.init.normal_(self.embed.weight)

    def forward(self, tokens):
        return self.out(torch.tanh(self.middle(self.embed(tokens))))


def test_the_matrix_of_padded_embeddings_is_symmetric():
    tokens = torch.randint(1, 7, (200, 5), generator=torch.Generator().manual_seed(0))
    tokens[3:9, 2:] = 0  # none of the samples that are checked
    net = seeded(Padded).double()
    operator = GaussNewton(net, Dataset("it", "train", tokens, 7), LOSSES["next_token"], matrix="ggn", batch_size=50)
    found = dense(operator)
    np.testing.assert_allclose(found, found.T, atol=1e-12 * np.abs(found).max())


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(CLASSES, 5, dtype=torch.float64))

    def forward(self, x):
        return -torch.cdist(x, self.centres)


def test_a_layer_without_derivatives_is_refused_in_words():
    with pytest.raises(BadInput, match="torch has no second derivative"):
        GaussNewton(Distances(), data(LABELS), LOSSES["crossentropy"], matrix="ggn")


class SometimesCut(nn.Module):
    """A gradient that is cut for large inputs alone, which the samples that are checked do not hold."""

    def forward(self, x):
        return WrongAbove.apply(x)


class WrongAbove(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] < 50)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent.clone()


def test_a_batch_whose_derivatives_disagree_is_refused():
    x = X.repeat(10, 1)
    x[3:9] *= 100
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 6), SometimesCut(), nn.Linear(6, CLASSES)).double())
    few = Dataset("it", "train", (x, NUMBERS.repeat(10, 1)), CLASSES)
    operator = GaussNewton(net, few, LOSSES["mse"], matrix="ggn", batch_size=100)
    with pytest.raises(BadInput, match="disagree for a batch"):
        operator(torch.ones(operator.size, dtype=torch.float64))
