"""Sharpness: on quadratic losses, where algebra gives it, against random search, and as a command."""

import numpy as np
import pytest
import torch
from conftest import write_checkpoint
from torch import nn

import lossatlas
from lossatlas.commands import plot_sharpness, plot_surface
from lossatlas.commands import sharpness as command
from lossatlas.data import LOSSES, Dataset, as_loss
from lossatlas.data.collect import as_dataset
from lossatlas.errors import BadInput, BadUsage
from lossatlas.hessian import Hessian
from lossatlas.hessian.sharpness_measures import critical_sharpness, random_unit, rises_within
from lossatlas.io import read_directions, read_findings, read_surface, write_findings


def quadratic(seed: int = 0, minimum: bool = False) -> tuple[Hessian, np.ndarray, torch.Tensor]:
    """A linear network with a squared error: the operator, its Hessian, and its gradient."""
    torch.manual_seed(seed)
    net = nn.Linear(6, 1, bias=False).double()
    x = torch.randn(40, 6, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64)
    y = x @ net.weight.detach().T if minimum else torch.randn(40, 1, dtype=torch.float64)
    operator = Hessian(net, as_dataset((x, y)), as_loss(nn.MSELoss()))
    return operator, (2 * x.T @ x / 40).numpy(), operator.gradient()[1]


@pytest.mark.parametrize("adaptive", [False, True])
def test_at_a_minimum_it_is_the_largest_eigenvalue(adaptive):
    """Half of it times the square of the radius; of the Hessian in relative changes where these are meant."""
    operator, matrix, _ = quadratic(minimum=True)
    scale = np.diag(np.abs(operator.weights().numpy())) if adaptive else np.eye(6)
    top = np.linalg.eigvalsh(scale @ matrix @ scale)[-1]
    radii = [0.01, 0.1, 1.0]
    found = rises_within(operator, radii, adaptive=adaptive, steps=40, directions=200)
    for radius, rise in zip(radii, found, strict=True):
        assert rise.worst <= 0.5 * radius**2 * top * (1 + 1e-9)
        assert rise.worst == pytest.approx(0.5 * radius**2 * top, rel=0.02)
        mean = radius**2 * np.trace(scale @ matrix @ scale) / 12
        assert abs(rise.average - mean) < 4 * rise.average_se
        inside = rise.change.numpy() / np.where(adaptive, np.diag(scale), 1)
        assert np.linalg.norm(inside) <= radius * (1 + 1e-9)


def test_away_from_a_minimum_against_the_exact_maximum():
    """Of a convex quadratic in a ball: the secular equation, solved by bisection."""
    operator, matrix, gradient = quadratic(3)
    g, (values, vectors) = gradient.numpy(), np.linalg.eigh(matrix)
    for rise in rises_within(operator, [0.05, 0.5, 2.0], steps=60):
        c, low, high = vectors.T @ g, values[-1], values[-1] + 1e6
        for _ in range(300):
            middle = (low + high) / 2
            low, high = (middle, high) if np.linalg.norm(c / (middle - values)) > rise.radius else (low, middle)
        v = vectors @ (c / (high - values))
        exact = g @ v + 0.5 * v @ matrix @ v
        assert exact * 0.98 <= rise.worst <= exact * (1 + 1e-6)


def test_the_rise_is_that_of_the_change_and_no_search_does_better():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randint(3, (30,))
    operator = Hessian(net, as_dataset((x, y)), as_loss("crossentropy"))
    before = operator.weights().clone()
    found = rises_within(operator, [0.2, 0.5, 1.0])
    assert torch.equal(operator.weights(), before)
    bottom = operator.loss_at(None)
    reached = -np.inf
    for rise in found:
        assert operator.loss_at(rise.change) - bottom == pytest.approx(rise.worst, rel=1e-9)
        assert rise.worst >= reached  # it does not fall with the radius
        reached = rise.worst
        best = max(operator.loss_at(rise.radius * random_unit(operator.size, 1000 + k, before)) for k in range(500))
        assert best - bottom < rise.worst


def test_critical_sharpness_of_a_quadratic_is_the_second_derivative_along_the_gradient():
    operator, matrix, gradient = quadratic(5)
    g = gradient.numpy()
    found, losses = critical_sharpness(operator)
    assert found == pytest.approx(g @ matrix @ g / (g @ g), rel=1e-3)
    assert losses < 40
    assert np.isnan(critical_sharpness(quadratic(minimum=True)[0])[0])  # there is no update


def test_seeds_beside_each_other_share_no_direction():
    operator, _, _ = quadratic(3)
    found = [rises_within(operator, [0.5], steps=1, directions=1, seed=seed)[0].average for seed in range(6)]
    shifted = [
        rises_within(operator, [0.5], steps=1, directions=2, seed=seed)[0].average * 2 - found[seed]
        for seed in range(5)
    ]
    assert len({round(value, 12) for value in found + shifted}) == 11


class Walls:
    """A loss that is finite at the network alone."""

    size = 3

    def weights(self):
        return torch.ones(3)

    def loss_at(self, change):
        return 1.0 if change is None else float("inf")

    def gradient_at(self, change):
        return self.loss_at(change), torch.tensor([1.0, 0.0, 0.0])


def test_where_the_loss_overflows_the_rise_is_infinite_and_never_below_zero():
    found = rises_within(Walls(), [0.1], directions=2)[0]
    assert found.worst == float("inf")
    operator, _, _ = quadratic(1)
    assert rises_within(operator, [1e-12], steps=2)[0].worst >= 0


def line(net, file, *more):
    own = (
        "--model mlp --dataset fashion_mnist_mini --limit 60 --rho 0.1 0.5 --adaptive_rho 0.2 --steps 4 --directions 3"
    )
    return [*own.split(), "--model_file", str(net), "--sharpness_file", str(file), *more]


@pytest.fixture
def net(tmp_path):
    return write_checkpoint(tmp_path / "net.safetensors", "mlp")


def test_the_command_its_figure_and_its_direction(tmp_path, net, capsys):
    file = tmp_path / "s.h5"
    assert command.main(line(net, file)) == 0
    printed = capsys.readouterr().out
    assert "critical sharpness" in printed
    findings = read_findings(file, "sharpness")
    rises = findings.arrays["plain/rises"]
    assert rises[:, 0].tolist() == [0.1, 0.5]
    drawn = plot_sharpness.draw([file, file], labels=["a", "b"])
    assert all(path.stat().st_size > 1000 for path in drawn)
    worst = tmp_path / "s_worst.h5"
    norm = np.sqrt(sum(float((a.astype(float) ** 2).sum()) for a in read_directions(worst).x))
    assert norm <= 0.5 * (1 + 1e-5)
    along = "--model mlp --dataset fashion_mnist_mini --limit 60 --x=0:1:2".split()
    more = ["--model_file", str(net), "--surf_file", str(tmp_path / "c.h5"), "--xdirection", f"{worst}:1"]
    assert plot_surface.main([*along, *more, "--dir_file", str(tmp_path / "d.h5")]) == 0
    loss = read_surface(tmp_path / "c.h5").fields["train_loss"]
    assert loss[1] - loss[0] == pytest.approx(rises[1, 1], rel=1e-4)
    more = ["--model_file", str(net), "--surf_file", str(tmp_path / "a.h5"), "--xdirection", f"{worst}:2"]
    assert plot_surface.main([*along, *more, "--dir_file", str(tmp_path / "e.h5")]) == 0
    loss = read_surface(tmp_path / "a.h5").fields["train_loss"]
    assert loss[1] - loss[0] == pytest.approx(findings.arrays["adaptive/rises"][0, 1], rel=1e-4)


def test_it_goes_on_where_it_was(tmp_path, net, capsys):
    file, other = tmp_path / "s.h5", tmp_path / "t.h5"
    assert command.main(line(net, file)) == 0
    whole = read_findings(file, "sharpness")
    first = {name: array for name, array in whole.arrays.items() if name != "critical" and "adaptive" not in name}
    write_findings(other, whole.without("critical", *(n for n in whole.arrays if "adaptive" in n)))
    capsys.readouterr()
    assert command.main(line(net, other)) == 0
    assert "in the file already" in capsys.readouterr().out
    again = read_findings(other, "sharpness")
    assert first.keys() < again.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_allclose(again.arrays[name], array, rtol=1e-5, atol=1e-6)
    assert command.main(line(net, file, "--seed", "5")) == 3
    assert "seed" in capsys.readouterr().err


def test_files_of_another_kind_are_refused(tmp_path, net):
    file = tmp_path / "s.h5"
    command.main(line(net, file))
    with pytest.raises(BadInput, match="no spectrum file"):
        read_findings(file)
    (tmp_path / "t_worst.h5").write_bytes((tmp_path / "s.h5").read_bytes())
    assert command.main(line(net, tmp_path / "t.h5")) == 3  # nothing of a user's is replaced


def test_dry_run_says_what_it_would_take(tmp_path, net, capsys):
    assert command.main(line(net, tmp_path / "s.h5", "--dry_run")) == 0
    assert "at most 12 gradients" in capsys.readouterr().out
    assert not (tmp_path / "s.h5").exists()


class Waves:
    """The sum of 1 - cos 3x over the parameters x, and an offset; keeps every loss that was asked for."""

    def __init__(self, *at, offset=0.0):
        self.at, self.offset, self.size, self.seen = torch.tensor(at, dtype=torch.float64), offset, len(at), []

    def weights(self):
        return self.at

    def loss_at(self, change):
        here = self.at if change is None else self.at + change
        self.seen.append(float((1 - torch.cos(3 * here)).sum()) + self.offset)
        return self.seen[-1]

    def gradient_at(self, change):
        return self.loss_at(change), 3 * torch.sin(3 * (self.at if change is None else self.at + change))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("at", [(0.1,), (0.1, 0.1), (0.1, -0.4, 0.3), (0.0, 0.0)])
@pytest.mark.parametrize("radius", [0.3, 1.0, 2.05, 2.8])
def test_the_worst_rise_is_the_largest_that_was_seen(at, radius, adaptive):
    """For (0.1,) within 2.05 it was 0, with an average of 0.016 and a largest rise of 1.95; mostly below others."""
    around = Waves(*at)
    (found,) = rises_within(around, [radius], adaptive=adaptive)
    bottom = around.loss_at(None)
    assert found.worst == pytest.approx(max(around.seen) - bottom, abs=1e-12)
    assert found.worst >= found.average
    assert around.loss_at(found.change) - bottom == pytest.approx(found.worst, abs=1e-9)
    inside = [c / abs(w) if adaptive and w else c for c, w in zip(found.change.tolist(), at, strict=True)]
    assert np.linalg.norm(inside) <= radius * (1 + 1e-9)


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0, 2.8, 5.0])
def test_where_the_loss_falls_again_beyond_a_ridge_the_ridge_is_found(radius):
    """Against all changes of one parameter and of two; a radius of 2 gave 0 where 1.95 is the largest rise."""
    for at in ([0.1], [-0.5], [0.1, 0.1]):
        (found,) = rises_within(Waves(*at), [radius])
        grid = np.linspace(-radius, radius, 401)
        changes = np.stack(np.meshgrid(*[grid] * len(at)), -1).reshape(-1, len(at))
        inside = changes[np.linalg.norm(changes, axis=1) <= radius]
        rises = (np.cos(3 * np.array(at)) - np.cos(3 * (np.array(at) + inside))).sum(1)
        assert found.worst >= 0.97 * rises.max()


@pytest.mark.parametrize("offset", [0.0, 0.5, 5.0, 500.0, -500.0])
def test_critical_sharpness_is_of_the_smallest_rate_that_does_not_lower_the_loss(offset):
    """At 0.1 that is the one that leads to -0.1: 8.866; with an offset of 500 it was 0.77, of a rate far beyond."""
    found, losses = critical_sharpness(Waves(0.1, offset=offset))
    assert found == pytest.approx(2 * 3 * np.sin(0.3) / 0.2, rel=1e-3)
    assert losses < 40


def test_critical_sharpness_where_no_step_helps_or_every_one():
    class Line(Waves):
        def loss_at(self, change):
            return 0.0 if change is None else float(self.sign * change.sum())

        def gradient_at(self, change):
            return self.loss_at(change), torch.ones(1, dtype=torch.float64)

    line = Line(0.1)
    line.sign = 1.0
    assert critical_sharpness(line)[0] == 0
    line.sign = -1.0  # its gradient is wrong, as at a kink
    assert np.isnan(critical_sharpness(line)[0])


def test_the_function_computes_what_the_operator_and_the_command_do(tmp_path, capsys):
    x, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(40) % 2
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    radii = {"rho": [0.2, 0.1], "adaptive_rho": [0.3], "steps": 5, "directions": 3}
    file = tmp_path / "s.h5"
    found = lossatlas.sharpness(net, (x, y), minibatch=8, minibatches=3, file=file, progress=False, **radii)
    operator = Hessian(net, Dataset("it", "train", (x, y), 2), LOSSES["crossentropy"])
    for adaptive, own in ((False, [0.1, 0.2]), (True, [0.3])):
        rises = rises_within(operator, own, adaptive=adaptive, steps=5, directions=3)
        assert found.radii(adaptive=adaptive).tolist() == own
        np.testing.assert_allclose(found.worst(adaptive=adaptive), [rise.worst for rise in rises], rtol=1e-8)
        np.testing.assert_allclose(found.average(adaptive=adaptive)[:, 0], [rise.average for rise in rises], rtol=1e-8)
        assert found.minibatches(adaptive=adaptive).shape == (3, len(own))
        change = torch.cat([piece.flatten() for piece in found.change(adaptive=adaptive).values()])
        assert operator.loss_at(change) - operator.loss_at(None) == pytest.approx(rises[-1].worst, rel=1e-4)
    along = lossatlas.surface(net, (x, y), directions=[found.change()], x=[0.0, 1.0], norm=None, progress=False)
    assert along.loss[1] - along.loss[0] == pytest.approx(found.worst()[-1], rel=1e-4)
    assert found.critical == pytest.approx(critical_sharpness(operator)[0], rel=1e-6)
    assert capsys.readouterr().out == ""
    again = lossatlas.sharpness(net, (x, y), minibatch=8, minibatches=3, file=file, progress=False, **radii)
    np.testing.assert_array_equal(again.worst(), found.worst())
    assert "critical" in found.table()
    with pytest.raises(BadInput, match="rho"):
        lossatlas.sharpness(net, (x, y), file=file, progress=False, **{**radii, "rho": [0.3]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rho": 0.1}, r"rho=0\.1: give a list of numbers"),
        ({"rho": [0.1, -1.0]}, "rho: "),
        ({"rho": [float("nan")]}, "rho: "),
        ({"rho": [], "adaptive_rho": []}, "both empty: give a radius"),
        ({"steps": 0}, "steps: "),
        ({"precision": "half"}, "precision='half'"),
    ],
)
def test_arguments_of_the_function_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(BadUsage, match=message):
        lossatlas.sharpness(torch.nn.Linear(3, 2), (torch.randn(8, 3), torch.arange(8) % 2), progress=False, **wrong)
