"""`lossatlas.trajectory` with data: the surface under the path, the checkpoints' own losses, and their files."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn

import lossatlas
from lossatlas.commands import plot_trajectory
from lossatlas.datasets.registry import load
from lossatlas.errors import BadInput, BadUsage, Note
from lossatlas.io import read_projection
from lossatlas.models import build

QUIET = {"progress": False}
X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
Y = (X.prod(1) > 0).long()


def normalized():
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def trained(net, count=6):
    """States of a training run."""
    net.requires_grad_(True).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.3)
    states = []
    for _ in range(count):
        states.append(copy.deepcopy(net.state_dict()))
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            optimizer.step()
    return states


@torch.no_grad()
def naive_loss(net, state, change=()):
    """The loss of a state, moved by (coefficient, direction by name), in float64."""
    twin = copy.deepcopy(net).eval()
    twin.load_state_dict(state)
    twin.double()
    for coefficient, direction in change:
        for name, parameter in twin.named_parameters():
            parameter += coefficient * direction[name].double()
    return float(F.cross_entropy(twin(X.double()), Y))


def test_losses_are_those_of_the_checkpoints_and_the_surface_that_of_the_plane_around_the_last(tmp_path):
    net = seeded(normalized)
    states = trained(net)
    before, mode = copy.deepcopy(net.state_dict()), net.training
    run = lossatlas.trajectory(net, states, (X, Y), points=(4, 3), epochs=range(6), **QUIET)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training == mode
    np.testing.assert_allclose(run.losses, [naive_loss(net, state) for state in states], rtol=1e-5)
    assert run.surface.loss.shape == (3, 4)
    for j, b in enumerate(run.surface.y):
        for k, a in enumerate(run.surface.x):
            expected = naive_loss(net, states[-1], ((a, run.plane[0]), (b, run.plane[1])))
            assert run.surface.loss[j, k] == pytest.approx(expected, rel=1e-5)
    for axis, place in ((run.surface.x, run.coordinates[:, 0]), (run.surface.y, run.coordinates[:, 1])):
        assert axis.min() < place.min()
        assert axis.max() > place.max()


def test_files_are_continued_and_hold_the_path(tmp_path):
    net = seeded(normalized)
    states = trained(net)
    run = lossatlas.trajectory(net, states, (X, Y), points=3, file=tmp_path / "s.h5", epochs=range(6), **QUIET)
    path = read_projection(tmp_path / "s_path.h5")
    np.testing.assert_array_equal(path.x, run.coordinates[:, 0])
    np.testing.assert_array_equal(path.loss, run.losses)
    np.testing.assert_array_equal(path.epochs, np.arange(6))
    times = [(tmp_path / name).stat().st_mtime_ns for name in ("s.h5", "s_checkpoints.h5")]
    again = lossatlas.trajectory(net, states, (X, Y), points=3, file=tmp_path / "s.h5", **QUIET)
    assert times == [(tmp_path / name).stat().st_mtime_ns for name in ("s.h5", "s_checkpoints.h5")]
    np.testing.assert_array_equal(again.surface.loss, run.surface.loss)
    with pytest.raises(BadInput, match="force=True"):
        lossatlas.trajectory(net, states[:-1], (X, Y), points=3, file=tmp_path / "s.h5", **QUIET)


def test_numbers_are_those_of_the_command(tmp_path):
    net = seeded(lambda: build("mlp", (1, 28, 28)))
    generator = torch.Generator().manual_seed(1)
    for k in range(4):
        for parameter in net.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        torch.save(net.state_dict(), tmp_path / f"model_{k}.pt")
    files = [str(tmp_path / f"model_{k}.pt") for k in range(4)]
    command = "--model mlp --dataset fashion_mnist_mini --limit 40 --batch_size 40 --threads 1 --surface 3 --surf_file"
    assert plot_trajectory.main([*command.split(), str(tmp_path / "s.h5"), "--checkpoints", *files]) == 0
    data = load("fashion_mnist_mini", "train", limit=40)
    options = {"points": 3, "batch_size": 40, "file": tmp_path / "s.h5", **QUIET}
    run = lossatlas.trajectory(net, files, (data.inputs, data.targets), **options)
    np.testing.assert_array_equal(run.surface.loss, lossatlas.read(tmp_path / "s.h5").loss)
    np.testing.assert_array_equal(run.losses, read_projection(tmp_path / "s_path.h5").loss)
    alone = lossatlas.trajectory(net, files, (data.inputs, data.targets), **{**options, "file": None})
    np.testing.assert_allclose(alone.surface.loss, run.surface.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file": "s.h5", "data": None}, "file belongs to the surface under the path: give data too"),
        ({"points": 1}, "points=1: give the number of grid points along each axis, at least 2"),
        ({"margin": -0.1}, "margin=-0.1: give 0 to 100 times the path's extent"),
        ({"epochs": [1, 2]}, "epochs names 2 epochs of 6 checkpoints"),
        ({"limit": 0}, "limit: "),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments, message):
    net = seeded(normalized)
    states = trained(net)
    with pytest.raises(BadUsage, match=message):
        lossatlas.trajectory(net, states, **{"data": (X, Y), **arguments}, **QUIET)


def test_the_figure_shows_the_path_on_the_surface_and_the_page_has_it(tmp_path):
    net = seeded(normalized)
    run = lossatlas.trajectory(net, trained(net), (X, Y), points=5, epochs=range(6), **QUIET)
    axis = run.plot(kind="filled", title="a run").axes[0]
    drawn = next(line for line in axis.get_lines() if len(line.get_xdata()) == 6)
    np.testing.assert_array_equal(drawn.get_xydata(), run.coordinates)
    marks = axis.collections[-1]
    np.testing.assert_allclose(np.asarray(marks.get_offsets()), run.coordinates)
    assert "1st principal component" in axis.get_xlabel()
    assert axis.get_title().startswith("a run")
    page = run.view(file=tmp_path / "run.html")
    assert "srcdoc" in page._repr_html_()
    assert (tmp_path / "run.html").stat().st_size > 10_000
    assert "own loss" in run._repr_html_()
    alone = lossatlas.trajectory(net, trained(net))
    with pytest.raises(BadUsage, match="cmap: there is no surface under this path"):
        alone.plot(cmap="magma")
    with pytest.raises(BadUsage, match="there is no surface under this path"):
        alone.view()
    with pytest.raises(BadUsage, match="kind='solid' shows no path: choose from contour, filled, heat"):
        run.plot(kind="solid")


def test_repeats_are_drawn_with_their_mean_and_its_confidence():
    from scipy.stats import t

    net = seeded(normalized)
    lines = lossatlas.surface(net, (X, Y), x="-1:1:5", repeat=4, **QUIET)
    axis = lines.plot().axes[0]
    mean = next(line for line in axis.get_lines() if line.get_label() == "mean of 4 directions")
    np.testing.assert_allclose(mean.get_ydata(), lines.loss.mean(0))
    low, high = t.interval(0.95, 3, lines.loss.mean(0), lines.loss.std(0, ddof=1) / 2)
    corners = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(np.nanmin(low))
    assert corners.max() == pytest.approx(np.nanmax(high))


def test_a_file_of_the_path_is_never_overwritten_silently(tmp_path, capsys):
    net = seeded(normalized)
    states = trained(net)
    (tmp_path / "s_path.h5").write_text("precious")
    with pytest.warns(Note, match=r"is now .*s_path\.old1\.h5"):
        lossatlas.trajectory(net, states, (X, Y), points=3, file=tmp_path / "s.h5", **QUIET)
    assert (tmp_path / "s_path.old1.h5").read_text() == "precious"
    before = (tmp_path / "s_path.h5").read_bytes()
    with pytest.warns(Note):
        lossatlas.trajectory(net, states, (X, 1 - Y), points=3, file=tmp_path / "s.h5", force=True, **QUIET)
    assert (tmp_path / "s_path.old2.h5").read_bytes() == before


def test_a_film_of_a_path_needs_the_plane_of_that_path(tmp_path):
    net = seeded(normalized)
    states = trained(net)
    run = lossatlas.trajectory(net, states, (X, Y), points=4, **QUIET)
    other = lossatlas.trajectory(net, states[:4], (X, Y), points=4, **QUIET)
    with pytest.raises(BadUsage, match="the trajectory is in another plane"):
        run.surface.film(tmp_path / "w.gif", "path", trajectory=other, frames=2)
    alone = lossatlas.trajectory(net, states)
    net.load_state_dict(states[-1])
    own = lossatlas.surface(net, (X, Y), x="-1:1:4", y="-1:1:4", norm="", directions=list(alone.plane), **QUIET)
    assert own.film(tmp_path / "w.gif", "path", trajectory=alone, frames=2).exists()


@pytest.mark.parametrize("wrong", [None, 5, [1, 2, 3], [None] * 4])
def test_things_that_are_no_checkpoints_are_named(wrong):
    with pytest.raises(BadUsage, match="checkpoint"):
        lossatlas.trajectory(seeded(normalized), wrong)


def test_checkpoints_may_come_from_a_generator_and_points_from_numpy():
    net = seeded(normalized)
    states = trained(net)
    run = lossatlas.trajectory(net, (state for state in states), (X, Y), points=np.int64(3), **QUIET)
    assert run.surface.loss.shape == (3, 3)


def test_the_names_of_the_ends_lie_within_the_frame():
    net = seeded(normalized)
    run = lossatlas.trajectory(net, trained(net), (X, Y), points=5, margin=0.0, **QUIET)
    fig = run.plot(kind="filled")
    fig.draw_without_rendering()
    frame = fig.axes[0].get_window_extent()
    names = {text.get_text(): text.get_window_extent() for text in fig.axes[0].texts}
    for end in ("first", "last"):
        assert frame.x0 <= names[end].x0
        assert names[end].x1 <= frame.x1
        assert frame.y0 <= names[end].y0
        assert names[end].y1 <= frame.y1
