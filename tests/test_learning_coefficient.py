"""Local learning coefficients against exact values: quadratic losses, a degenerate one, and statistics of chains."""

import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MPIRUN, ROOT, python
from torch import nn

import lossatlas
from lossatlas import figures
from lossatlas.commands import learning_coefficient, plot_learning_coefficient
from lossatlas.data import LOSSES, Dataset
from lossatlas.errors import BadInput, BadUsage
from lossatlas.figures.learning_coefficient_plots import chains_figure, coefficients_figure
from lossatlas.hessian import Hessian
from lossatlas.hessian.langevin import usual_learning_rate
from lossatlas.io import read_findings, write_findings
from lossatlas.landscape.chain_statistics import estimate_coefficient

N = 64
QUIET = {"progress": False}


class Quadratic(nn.Module):
    """Outputs whose mean square is sum h w^2 / 2 with known curvatures h, at its minimum."""

    def __init__(self, curvatures) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(curvatures), dtype=torch.float64))
        self.register_buffer("factor", torch.tensor(curvatures, dtype=torch.float64).sqrt())

    def forward(self, x):
        return (self.factor * self.w).expand(len(x), -1)


def half_square(output, target):
    return output.square().sum(1) / 2


DATA = torch.randn(N, 2, dtype=torch.float64), torch.zeros(N, dtype=torch.long)


def exact_coefficient(curvatures, beta, localization, rate) -> float:
    """Of the dynamics with full batches, whose stationary variance along each axis is 1 / (a (1 - epsilon a / 4))."""
    a = beta * np.array(curvatures) + localization
    return float((beta * np.array(curvatures) / (a * (1 - rate * a / 4))).sum() / 2)


@pytest.mark.few(1)
@pytest.mark.parametrize(("localization", "rate"), [(0.01, None), (100.0, None), (20.0, 2e-3)])
def test_of_a_quadratic_loss_it_is_exact(localization, rate):
    curvatures = [4.0, 2.0, 1.0, 0.5]
    settings = {"chains": 6, "draws": 500, "burn_in": 100, "localization": localization, "learning_rate": rate}
    found = lossatlas.learning_coefficient(
        Quadratic(curvatures), DATA, loss=half_square, inverse_temperature=200.0, minibatch=N, **settings, **QUIET
    )
    used = float(found.findings.arrays["learning_rate"])
    if rate is None:
        assert used == pytest.approx(usual_learning_rate(4.0, 0.0, 200.0, localization), rel=0.1)
    expected = exact_coefficient(curvatures, 200.0, localization, used)
    assert abs(found.value - expected) < 4 * found.error
    assert found.error < 0.15 * expected


class Crossing(nn.Module):
    """w1 w2^2, whose square as a loss has the learning coefficient 1/4."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        return (self.w[0] * self.w[1] ** 2).expand(len(x), 1)


def posterior_mean(beta: float, localization: float) -> float:
    """beta times the mean of (w1 w2^2)^2 / 2 over its density, by sums over a fine grid."""
    w = np.linspace(-1.5, 1.5, 1501)
    a, b = np.meshgrid(w, w)
    loss = (a * b**2) ** 2 / 2
    density = np.exp(-beta * loss - localization / 2 * (a**2 + b**2))
    return float(beta * (loss * density).sum() / density.sum())


def test_of_a_normal_crossing_it_is_the_mean_over_the_density():
    settings = {"localization": 10.0, "inverse_temperature": 1000.0, "learning_rate": 2e-3, "minibatch": 1}
    found = lossatlas.learning_coefficient(
        Crossing(), (DATA[0][:2], DATA[1][:2]), loss=half_square, chains=6, draws=1500, burn_in=200, **settings, **QUIET
    )
    assert abs(found.value - posterior_mean(1000.0, 10.0)) < 4 * found.error
    assert found.error < 0.04


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_mini_batches_have_the_expected_loss_and_gradient_of_all_samples():
    net, data = network(), Dataset("it", "train", DATA, 2)
    operator = Hessian(net, data, LOSSES["crossentropy"])
    change = 0.1 * torch.randn(operator.size, dtype=torch.float64)
    loss, gradient = operator.gradient_at(change)
    quarters = [list(range(k, N, 4)) for k in range(4)]
    parts = [operator.gradient_of_parts(change, numbers) for numbers in quarters]
    assert np.mean([value for value, _ in parts]) == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(torch.stack([g for _, g in parts]).mean(0), gradient, rtol=1e-10, atol=1e-14)
    assert operator.loss_of_parts(change, quarters[0]) == pytest.approx(parts[0][0], rel=1e-12)


def test_the_weights_are_as_before_and_repeats_give_the_same_bits():
    net = network()
    before = [p.clone() for p in net.parameters()]
    few = {"chains": 2, "draws": 20, "burn_in": 5, "minibatch": 8, **QUIET}
    first, again = (lossatlas.learning_coefficient(net, DATA, **few) for _ in range(2))
    np.testing.assert_array_equal(first.findings.arrays["differences"], again.findings.arrays["differences"])
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    other = lossatlas.learning_coefficient(net, DATA, **few, seed=1)
    assert other.value != first.value


@pytest.mark.full
@pytest.mark.slow
def test_small_mini_batches_of_much_data_do_not_heat_the_chains_and_say_where_they_do():
    """The mean of 8000 squares at its minimum: with the step for full batches the value was twice too large."""
    n, d, beta = 8000, 6, 2000.0
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, dtype=torch.float64, generator=generator)
    y = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    net = nn.Linear(d, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    curvatures = torch.linalg.eigvalsh(2 * x.T @ x / n).numpy()
    common = {"loss": "mse", "inverse_temperature": beta, "localization": 100.0, "minibatch": 32, "chains": 6, **QUIET}
    found = lossatlas.learning_coefficient(net, (x, y), draws=1500, burn_in=1500, **common)
    assert found.value == pytest.approx(exact_coefficient(curvatures, beta, 100.0, 0.0), rel=0.15)
    rate = usual_learning_rate(float(curvatures[-1]), 0.0, beta, 100.0)
    hot = lossatlas.learning_coefficient(net, (x, y), draws=50, burn_in=50, learning_rate=rate, **common)
    assert "noise of the mini-batches" in " ".join(hot.doubts)


@pytest.mark.parametrize(
    ("settings", "doubt"),
    [
        ({"draws": 1, "burn_in": 0}, "did not move"),
        ({"draws": 20, "learning_rate": 1e-300}, "did not move"),
        ({"draws": 2}, "too few draws"),
    ],
)
def test_chains_that_show_nothing_are_doubted(settings, doubt):
    found = lossatlas.learning_coefficient(network_at(0), DATA, chains=2, **settings, **QUIET)
    assert doubt in " ".join(found.doubts)


def test_data_without_a_label_that_counts_are_refused():
    with pytest.raises(BadInput, match="no sample counts"):
        lossatlas.learning_coefficient(network_at(0), (DATA[0], torch.full((N,), -100)), **QUIET)


def test_chains_are_added_to_a_file(tmp_path):
    file, few = tmp_path / "c.h5", {"draws": 10, "burn_in": 5, "minibatch": 8, **QUIET}
    lossatlas.learning_coefficient(network_at(0), DATA, chains=2, file=file, **few)
    found = lossatlas.learning_coefficient(network_at(0), DATA, chains=3, file=file, **few)
    at_once = lossatlas.learning_coefficient(network_at(0), DATA, chains=3, **few)
    np.testing.assert_array_equal(found.findings.arrays["differences"], at_once.findings.arrays["differences"])
    assert read_findings(file, "learning_coefficient").arrays["value"] == at_once.value
    with pytest.raises(BadInput, match="draws"):
        lossatlas.learning_coefficient(network_at(0), DATA, file=file, **{**few, "draws": 11})


def network_at(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return network()


RANDOM = np.random.default_rng(0)
STILL = RANDOM.normal(0.01, 0.002, size=(4, 400))


@pytest.mark.parametrize(
    ("draws", "doubt"),
    [
        (STILL, None),
        (-STILL, "it is negative: the chains found lower losses"),
        (STILL - np.array([0.0, 0.005, 0.02, 0.02])[:, None], "it is 0 within two standard errors"),
        (STILL - np.array([-0.005, 0.005, 0.02, 0.01])[:, None], "it is 0 within two standard errors"),
        (STILL + np.array([0.0, 0.01, 0.02, 0.03])[:, None], "disagree"),
        (STILL + np.linspace(0, 0.02, 400), "still rise"),
        (STILL - np.linspace(0, 0.005, 400), "still fall"),
        (np.where(np.arange(400) < 300, STILL, np.nan), "4 of 4 chains left the finite numbers"),
        (STILL[:1], "single chain"),
    ],
)
def test_what_speaks_against_an_estimate(draws, doubt):
    found = estimate_coefficient(draws, 2 * np.abs(draws), 100.0)
    assert found.doubts == () if doubt is None else doubt in " ".join(found.doubts)
    assert found.value == pytest.approx(100 * draws.mean(), nan_ok=True)


@pytest.mark.few(1)
@pytest.mark.parametrize("away", [0.0, 0.005, 0.1])
def test_a_network_that_is_at_no_minimum_is_noticed(away):
    """The part of first order of a shifted Gaussian is known; it matters where it is a tenth of the estimate."""
    curvatures, beta, localization = np.array([4.0, 2.0, 1.0, 0.5]), 200.0, 20.0
    net = Quadratic(curvatures.tolist())
    with torch.no_grad():
        net.w += away
    settings = {"inverse_temperature": beta, "localization": localization, "learning_rate": 2e-3, "chains": 6}
    found = lossatlas.learning_coefficient(
        net, DATA, loss=half_square, minibatch=N, draws=400, burn_in=200, **settings, **QUIET
    )
    parts = beta * found.findings.arrays["first_order"].mean(axis=1)
    slope = curvatures * away
    expected = -(beta**2) * (slope**2 / (beta * curvatures + localization)).sum()
    assert abs(parts.mean() - expected) < 4 * parts.std(ddof=1) / np.sqrt(6) + 1e-9
    assert any("not at a minimum" in each for each in found.doubts) == (away == 0.1)


def test_chains_that_did_not_move_say_nothing_of_a_gradient():
    still = np.zeros((3, 20))
    found = estimate_coefficient(still, still, 100.0, first_order=np.full_like(still, 1e-16))
    assert found.doubts == ("the chains did not move: take a larger learning rate, or a longer burn-in",)


def test_chains_of_a_file_without_the_parts_of_first_order_are_continued(tmp_path):
    net, file = network(), tmp_path / "c.h5"
    few = {"draws": 20, "burn_in": 5, "minibatch": 8, "learning_rate": 1e-4, **QUIET}
    lossatlas.learning_coefficient(net, DATA, chains=2, file=file, **few)
    written = read_findings(file, "learning_coefficient")
    write_findings(file, replace(written, arrays={k: v for k, v in written.arrays.items() if k != "first_order"}))
    more = lossatlas.learning_coefficient(net, DATA, chains=3, file=file, **few)
    parts = more.findings.arrays["first_order"]
    assert np.isnan(parts[:2]).all()
    assert np.isfinite(parts[2]).all()
    assert np.isfinite(more.value)


class Saturating(Quadratic):
    """A valley that ends: beyond it the loss hardly rises."""

    def forward(self, x):
        return 1.5 * torch.tanh(super().forward(x) / 1.5)


@pytest.mark.few(1)
@pytest.mark.parametrize(("localization", "left"), [(500.0, False), (0.05, True)])
def test_chains_that_leave_the_valley_are_noticed(localization, left):
    settings = {"inverse_temperature": 5.0, "localization": localization, "learning_rate": 1.5e-3 if not left else 1.0}
    found = lossatlas.learning_coefficient(
        Saturating([4.0] * 20), DATA, loss=half_square, draws=600, burn_in=200, minibatch=N, **settings, **QUIET
    )
    assert ("left the valley" in " ".join(found.doubts)) == left
    if not left:
        assert found.estimate.growth == pytest.approx(2, abs=0.15)


def test_a_checkpoint_that_is_no_minimum_is_said_to_be_none():
    """Far from a minimum the loss falls along the chains."""
    net = Quadratic([4.0, 1.0])
    with torch.no_grad():
        net.w += 1.0
    found = lossatlas.learning_coefficient(net, DATA, loss=half_square, draws=200, burn_in=200, minibatch=N, **QUIET)
    assert found.value < 0
    assert any(each.startswith("the network is not at a minimum") for each in found.doubts)
    assert "negative" not in " ".join(found.doubts)


def test_a_chain_that_leaves_the_finite_numbers_ends():
    rate = {"learning_rate": 1e3, "localization": 1e-3}
    found = lossatlas.learning_coefficient(
        Quadratic([4.0]), DATA, loss=half_square, draws=400, burn_in=0, minibatch=N, **rate, **QUIET
    )
    assert math.isnan(found.value)
    assert "take a smaller learning rate" in found.doubts[0]


@pytest.mark.parametrize("wrong", [{"chains": 0}, {"localization": -1.0}, {"minibatch": 0}, {"precision": "half"}])
def test_arguments_without_a_meaning_are_refused(wrong):
    with pytest.raises(BadUsage):
        lossatlas.learning_coefficient(network(), DATA, **wrong, **QUIET)


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


def command(own: Path, out: Path, *more: object) -> list[str]:
    few = "--chains", 2, "--draws", 12, "--burn_in", 4, "--minibatch", 6
    words = "--model", f"{own}:make", "--dataset", f"{own}:samples", "--coefficient_file", out, *few, *more
    return [*map(str, words)]


ONCE = """

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Square(nn.Module):
    def forward(self, x):
        return Once.apply(x)


def make_once():
    return nn.Sequential(nn.Linear(4, 3), Square(), nn.Linear(3, 3)).double()
"""


@pytest.mark.commands
def test_the_command_names_its_option_for_a_network_without_second_derivatives(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN + ONCE)
    words = [*command(tmp_path / "own.py", tmp_path / "c.h5"), "--model", f"{tmp_path / 'own.py'}:make_once"]
    assert learning_coefficient.main(words) == 3
    assert "chains with a --learning_rate of your own need no second derivatives" in capsys.readouterr().err
    assert learning_coefficient.main([*words, "--learning_rate", "1e-4"]) == 0


@pytest.mark.commands
def test_the_command_writes_what_python_computes_and_draws_it(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    out = tmp_path / "c.h5"
    assert learning_coefficient.main(command(tmp_path / "own.py", out, "--plot")) == 0
    assert "local learning coefficient" in capsys.readouterr().out
    assert out.with_name("c.h5_chains.png").stat().st_size > 1000
    scope: dict = {}
    exec(OWN, scope)
    found = lossatlas.learning_coefficient(
        scope["make"](), scope["samples"]("train"), chains=2, draws=12, burn_in=4, minibatch=6, **QUIET
    )
    arrays = read_findings(out, "learning_coefficient").arrays
    np.testing.assert_allclose(arrays["differences"], found.findings.arrays["differences"], rtol=1e-6, atol=1e-12)
    assert learning_coefficient.main(command(tmp_path / "own.py", tmp_path / "d.h5", "--seed", 1)) == 0
    argv = ["-f", str(out), str(tmp_path / "d.h5"), "--labels", "one", "two", "--out", str(tmp_path / "both")]
    assert plot_learning_coefficient.main(argv) == 0
    assert "one" in capsys.readouterr().out
    assert (tmp_path / "both_coefficients.png").stat().st_size > 1000
    assert python("-m", "lossatlas", "info", out).stdout.startswith("local learning coefficient")


def drawn_chains(look=None, count=4):
    found = read_findings(ROOT / "docs" / "surfaces" / "spirals_coefficient.h5", "learning_coefficient")
    arrays = {
        name: np.resize(value, (count, 400)) if value.ndim == 2 else value for name, value in found.arrays.items()
    }
    found = replace(found, arrays=arrays)
    with figures.style(look=look) as plt:
        return found, chains_figure(plt, found)


@pytest.mark.parametrize("look", ["paper", "dark", "print"])
def test_each_chain_is_named_and_has_dashes_of_its_own_in_both_panels(look):
    found, fig = drawn_chains(look)
    left, right = fig.axes
    estimate = found.learning_coefficient()
    assert right.get_title() == f"local learning coefficient {estimate.value:.4g} \u00b1 {estimate.error:.2g}"
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names == [*(f"chain {k}" for k in (1, 2, 3, 4)), "mean of the chains", "\u00b1 2 standard errors"]
    values = float(found.request["inverse_temperature"]) * found.arrays["differences"]
    thick = left.lines[4:]
    for k, (line, mean) in enumerate(zip(thick, right.lines, strict=False)):
        assert (line.get_color(), line.get_linestyle()) == (mean.get_color(), mean.get_linestyle())
        expected = [values[k, start : start + 40].mean() for start in range(361)]
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert line.get_xdata()[0] == pytest.approx(left.lines[k].get_xdata()[:40].mean())
        assert mean.get_ydata()[-1] == pytest.approx(estimate.chains[k])
    assert len({(line._dash_pattern[0], str(line._dash_pattern[1])) for line in thick}) == 4
    assert right.lines[4].get_color() not in {line.get_color() for line in thick}


def test_many_chains_have_one_name():
    _, fig = drawn_chains(count=9)
    assert [text.get_text() for text in fig.legends[0].get_texts()][:2] == ["9 chains", "mean of the chains"]


def test_names_of_several_files_are_turned_where_they_have_no_room():
    found, _ = drawn_chains()
    with figures.style() as plt:
        for names, angle in ((("one", "two"), 0), (("a name that takes room", "another name that takes room"), 30)):
            fig = coefficients_figure(plt, [found, found], names)
            fig.draw_without_rendering()
            labels = fig.axes[0].get_xticklabels()
            assert [each.get_text() for each in labels] == list(names)
            assert {each.get_rotation() for each in labels} == {angle}
            assert not labels[0].get_window_extent().overlaps(labels[1].get_window_extent()) or angle
            assert all(each.get_window_extent().x0 >= 0 for each in labels)


def on_ranks(ranks: int, tmp_path: Path, name: str, *more: object) -> list[str]:
    words = ["-m", "lossatlas", "learning-coefficient", *command(tmp_path / "own.py", tmp_path / name, *more)]
    return [MPIRUN, "-n", str(ranks), sys.executable, *words, "--mpi"] if ranks > 1 else [sys.executable, *words]


def differences(file: Path) -> np.ndarray:
    return read_findings(file, "learning_coefficient").arrays["differences"]


@pytest.mark.few(1)
@pytest.mark.mpi
@pytest.mark.parametrize(
    ("ranks", "chains"), [(2, 1), (2, 3), pytest.param(3, 2, marks=pytest.mark.full)], ids=["shared", "both", "fewer"]
)
def test_ranks_run_whole_chains_or_share_the_samples_of_a_step(tmp_path, ranks, chains):
    (tmp_path / "own.py").write_text(OWN)
    for count, name in ((1, "one.h5"), (ranks, "more.h5")):
        words = on_ranks(count, tmp_path, name, "--chains", chains)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if name == "more.h5":
            assert done.stdout.count("chain 1 of") == 1
    one, more = differences(tmp_path / "one.h5"), differences(tmp_path / "more.h5")
    assert len(one) == chains
    np.testing.assert_allclose(more, one, rtol=1e-6, atol=1e-12)


@pytest.mark.mpi
def test_whole_chains_have_the_same_bits_on_any_number_of_ranks(tmp_path):
    """With a learning rate of one's own, so that no sum over ranks enters."""
    (tmp_path / "own.py").write_text(OWN)
    same = "--chains", 4, "--learning_rate", 1e-3, "--threads", 1, "--batch_size", 6
    for count, name in ((1, "one.h5"), (2, "more.h5")):
        done = subprocess.run(on_ranks(count, tmp_path, name, *same), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(differences(tmp_path / "one.h5"), differences(tmp_path / "more.h5"))


@pytest.mark.full
@pytest.mark.mpi
def test_whole_chains_continue_after_a_kill(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    long = "--chains", 4, "--draws", 1500, "--threads", 1
    words = on_ranks(2, tmp_path, "more.h5", *long)
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("chain 2 of 4"):
            break
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode != 0
    assert len(differences(tmp_path / "more.h5")) == 2
    for count, name in ((2, "more.h5"), (1, "one.h5")):
        done = subprocess.run(on_ranks(count, tmp_path, name, *long), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        differences(tmp_path / "more.h5"), differences(tmp_path / "one.h5"), rtol=1e-6, atol=1e-12
    )


BROKEN = """

class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.calls = make(), 0

    def forward(self, x):
        import traceback
        from mpi4py import MPI
        names = {frame.name for frame in traceback.extract_stack()}
        if MPI.COMM_WORLD.rank == 1 and "langevin_chain" in names:
            raise ValueError("it is broken here")
        return self.net(x)
"""


@pytest.mark.mpi
def test_an_error_within_a_chain_of_another_rank_ends_all(tmp_path):
    (tmp_path / "own.py").write_text(OWN + BROKEN)
    words = on_ranks(2, tmp_path, "more.h5", "--draws", 10**6, "--learning_rate", 1e-3, "--model")
    done = subprocess.run(
        [*words[:-1], f"{tmp_path / 'own.py'}:Failing", "--mpi"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode not in (0, None)
    assert "it is broken here" in done.stderr


class FirstOnly(torch.autograd.Function):
    """A square whose derivative torch cannot differentiate again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Square(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_a_network_without_second_derivatives_needs_a_learning_rate_alone():
    def make(function):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), Square(function), torch.nn.Linear(4, 1)).double()

    x = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    data, options = (x, x[:, :1]), {"loss": "mse", "chains": 2, "draws": 20, "burn_in": 5, "progress": False}
    with pytest.raises(
        BadInput, match=r"a product with the Hessian differs.*; chains with a learning_rate of your own"
    ):
        lossatlas.learning_coefficient(make(FirstOnly.apply), data, **options)
    found = lossatlas.learning_coefficient(make(FirstOnly.apply), data, learning_rate=1e-4, **options)
    expected = lossatlas.learning_coefficient(make(lambda z: z**2), data, learning_rate=1e-4, **options)
    np.testing.assert_allclose(found.chains, expected.chains, rtol=1e-9)


def test_a_network_without_gradients_is_not_told_to_take_a_learning_rate():
    class Detached(nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(BadInput) as caught:
        lossatlas.learning_coefficient(Detached(2, 2).double(), DATA, **QUIET)
    assert "learning_rate" not in str(caught.value)
