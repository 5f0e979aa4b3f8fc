"""Local learning coefficients along a run: against those of each checkpoint alone, continued, and drawn."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import MPIRUN
from test_learning_coefficient import OWN, drawn_chains

import lossatlas
from lossatlas import figures
from lossatlas.commands import learning_coefficient, plot_learning_coefficient
from lossatlas.errors import BadInput, BadUsage
from lossatlas.figures.learning_coefficient_plots import coefficients_figure, numbers_of
from lossatlas.io import read_findings
from lossatlas.jobs.curvature import learning_coefficient_job

SCOPE: dict = {}
exec(OWN, SCOPE)
DATA = SCOPE["samples"]("train")
FEW = {"chains": 2, "draws": 12, "burn_in": 4, "minibatch": 6, "progress": False}
EPOCHS = [1, 2, 10]


def networks(count: int = 3) -> list[torch.nn.Module]:
    nets = []
    for seed in range(count):
        nets.append(SCOPE["make"]())
        with torch.no_grad():
            for parameter in nets[-1].parameters():
                parameter.mul_(1 + 0.3 * seed)
    return nets


def alone(net: torch.nn.Module, **more) -> lossatlas.LearningCoefficient:
    return lossatlas.learning_coefficient(net, DATA, **{**FEW, **more})


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints of a run, and the file of the user's functions."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "run").mkdir()
    for epoch, net in zip(EPOCHS, networks(), strict=True):
        torch.save(net.state_dict(), tmp_path / "run" / f"model_{epoch}.pt")
    return tmp_path


def command(place, *more: object) -> list[str]:
    few = "--chains", 2, "--draws", 12, "--burn_in", 4, "--minibatch", 6
    words = "--model", f"{place / 'own.py'}:make", "--dataset", f"{place / 'own.py'}:samples", *few, *more
    return [*map(str, words)]


def test_of_a_run_they_are_those_of_each_checkpoint_alone(tmp_path):
    nets, file = networks(), tmp_path / "path.h5"
    before = [p.clone() for p in nets[0].parameters()]
    found = lossatlas.learning_coefficients(nets[0], nets, DATA, epochs=EPOCHS, file=file, **FEW)
    assert all(torch.equal(a, b) for a, b in zip(before, nets[0].parameters(), strict=True))
    assert found.epochs.tolist() == EPOCHS
    for k, net in enumerate(nets):
        own = alone(net)
        np.testing.assert_array_equal(found.coefficients[k].chains, own.chains)
        assert (found.values[k], found.errors[k], found.losses[k]) == (
            own.value,
            own.error,
            own.findings.arrays["loss"],
        )
    stored = read_findings(file, "learning_coefficients").arrays
    for name, values in (("epochs", EPOCHS), ("value", found.values), ("error", found.errors), ("loss", found.losses)):
        np.testing.assert_array_equal(stored[name], values)


def test_more_checkpoints_and_more_chains_are_added_to_a_file(tmp_path, monkeypatch):
    nets, file = networks(), tmp_path / "path.h5"
    lossatlas.learning_coefficients(nets[0], nets[1:], DATA, epochs=EPOCHS[1:], file=file, **FEW)
    started = []
    own = learning_coefficient_job.next_chains
    monkeypatch.setattr(learning_coefficient_job, "next_chains", lambda *a, **k: started.append(a[3]) or own(*a, **k))
    found = lossatlas.learning_coefficients(nets[0], nets, DATA, epochs=EPOCHS, file=file, **FEW)
    assert started == [0, 1]  # of the new checkpoint alone
    assert found.epochs.tolist() == EPOCHS
    found = lossatlas.learning_coefficients(nets[0], nets, DATA, epochs=EPOCHS, file=file, **{**FEW, "chains": 3})
    assert started == [0, 1, 2, 2, 2]
    np.testing.assert_array_equal(found.values, [alone(net, chains=3).value for net in nets])
    with pytest.raises(BadInput, match="draws = 12, now it is 13"):
        lossatlas.learning_coefficients(nets[0], nets, DATA, file=file, **{**FEW, "draws": 13})


def test_an_interrupted_run_continues(tmp_path, monkeypatch):
    nets, file = networks(), tmp_path / "path.h5"
    own, count = learning_coefficient_job.next_chains, []

    def interrupted(*arguments, **keywords):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return own(*arguments, **keywords)

    monkeypatch.setattr(learning_coefficient_job, "next_chains", interrupted)
    partly = lossatlas.learning_coefficients(nets[0], nets, DATA, epochs=EPOCHS, file=file, **FEW)
    assert partly.epochs.tolist() == EPOCHS[:1]
    found = lossatlas.learning_coefficients(nets[0], nets, DATA, epochs=EPOCHS, file=file, **FEW)
    assert len(count) == 4 + 3  # the fourth again, and those after it
    np.testing.assert_array_equal(found.values, [alone(net).value for net in nets])


@pytest.mark.commands
def test_the_command_takes_the_folder_of_a_run(run, capsys):
    out = run / "c.h5"
    words = command(run, "--model_folder", run / "run", "--coefficient_file", out)
    assert learning_coefficient.main([*words, "--max_epoch", "2"]) == 0
    assert len(read_findings(out, "learning_coefficients").arrays["value"]) == 2
    assert learning_coefficient.main([*words, "--dry_run"]) == 0
    assert "1 of 3 checkpoints are left" in capsys.readouterr().out
    assert learning_coefficient.main([*words, "--plot"]) == 0
    assert "model_10.pt" in capsys.readouterr().out
    arrays = read_findings(out, "learning_coefficients").arrays
    assert arrays["epochs"].tolist() == EPOCHS
    np.testing.assert_allclose(arrays["value"], [alone(net).value for net in networks()], rtol=1e-6)
    assert (run / "c.h5_coefficients.png").stat().st_size > 1000
    found = lossatlas.learning_coefficients(networks()[0], run / "run", DATA, file=out, **FEW)  # none is left
    np.testing.assert_array_equal(found.values, arrays["value"])


@pytest.mark.commands
def test_the_command_takes_checkpoints_one_by_one(run):
    files = [run / "run" / f"model_{epoch}.pt" for epoch in (10, 1)]
    words = command(run, "--checkpoints", *files)
    assert learning_coefficient.main([*words, "--limit", "12"]) == 0  # beside them
    arrays = read_findings(run / "run" / "learning_coefficients.h5", "learning_coefficients").arrays
    assert np.isnan(arrays["epochs"]).all()  # their numbers do not increase
    expected = [alone(networks()[k], limit=12).value for k in (2, 0)]
    np.testing.assert_allclose(arrays["value"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--checkpoints", "a.pt", "--model_file", "b.pt"], "--checkpoints and --model_file name different networks"),
        (["--model_folder", "nowhere"], "no folder nowhere"),
    ],
)
def test_networks_that_contradict_each_other_are_refused(run, capsys, more, message):
    assert learning_coefficient.main(command(run, *more)) == 2 + ("nowhere" in more)
    assert message in capsys.readouterr().err


def test_several_runs_are_refused():
    nets = networks()
    with pytest.raises(BadUsage, match="these are 2 runs"):
        lossatlas.learning_coefficients(nets[0], [nets, nets], DATA, **FEW)
    with pytest.raises(BadUsage, match="there is no checkpoint"):
        lossatlas.learning_coefficients(nets[0], [], DATA, **FEW)


@pytest.mark.full
@pytest.mark.mpi
def test_ranks_compute_the_coefficients_of_a_run(run):
    for count, name in ((1, "one.h5"), (2, "more.h5")):
        words = command(run, "--model_folder", run / "run", "--coefficient_file", run / name)
        words = [sys.executable, "-m", "lossatlas", "learning-coefficient", *words]
        words = [MPIRUN, "-n", str(count), *words, "--mpi"] if count > 1 else words
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    one, more = (read_findings(run / name, "learning_coefficients").arrays for name in ("one.h5", "more.h5"))
    assert one.keys() == more.keys()
    for name, values in one.items():
        np.testing.assert_allclose(more[name], values, rtol=1e-6, atol=1e-12, err_msg=name)


def test_the_figure_draws_estimates_and_losses_at_their_epochs():
    nets = networks()
    found = lossatlas.learning_coefficients(nets[0], nets, DATA, epochs=EPOCHS, **FEW)
    upper, lower = found.plot().axes
    bars = upper.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([bar[0, 0] for bar in bars], EPOCHS)
    np.testing.assert_allclose([bar[1, 1] - bar[0, 1] for bar in bars], 4 * found.errors)
    np.testing.assert_array_equal(upper.lines[0].get_xydata(), np.column_stack([EPOCHS, found.values]))
    np.testing.assert_array_equal(lower.lines[0].get_xydata(), np.column_stack([EPOCHS, found.losses]))
    assert (lower.get_xlabel(), lower.get_ylabel()) == ("epoch", "loss")
    assert found.table().splitlines()[1].split()[:4] == ["1", f"{found.values[0]:.5g}", "+-", f"{found.errors[0]:.2g}"]


def test_a_run_and_a_single_network_are_not_drawn_in_one_figure(tmp_path):
    nets = networks()
    lossatlas.learning_coefficients(nets[0], nets[:2], DATA, file=tmp_path / "run.h5", **FEW)
    alone(nets[0], file=tmp_path / "one.h5")
    with pytest.raises(BadUsage, match="holds the coefficients of a run"):
        plot_learning_coefficient.draw([tmp_path / "run.h5", tmp_path / "one.h5"])


def test_names_that_are_numbers_lie_where_they_belong():
    found, _ = drawn_chains()
    with figures.style() as plt:
        fig = coefficients_figure(plt, [found] * 3, ["10", "20", "80"])
        assert fig.axes[0].lines[0].get_xdata().tolist() == [10, 20, 80]
        fig.draw_without_rendering()
        for tick in fig.axes[0].get_xticklabels():  # each says where it is
            assert float(tick.get_text().replace("\u2212", "-")) == tick.get_position()[0]
        fig = coefficients_figure(plt, [found] * 3, ["10", "20", "last"])
        assert fig.axes[0].lines[0].get_xdata().tolist() == [0, 1, 2]
    assert numbers_of(["1", "1"]) is None
