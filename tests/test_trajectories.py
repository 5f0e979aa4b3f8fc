"""`lossatlas.trajectory` with data: the surface under the path, the checkpoints' own losses, and their files."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from oracles import explicit_hessian, loss_at, mean_cross_entropy
from torch import nn

import lossatlas
from lossatlas.commands import plot_trajectory
from lossatlas.datasets.registry import load
from lossatlas.errors import BadInput, BadUsage, Note
from lossatlas.io import read_directions, read_projection
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
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


def naive_loss(net, state, moves=()):
    """The loss of a state, moved by (coefficient, direction by name), in float64."""
    return loss_at(at_state(net, state), mean_cross_entropy(X, Y), moves)


def at_state(net, state):
    twin = copy.deepcopy(net)
    twin.load_state_dict(state)
    return twin


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


COMMAND = "--model mlp --dataset fashion_mnist_mini --limit 40 --batch_size 40 --threads 1".split()
SAME = {"batch_size": 40, **QUIET}


def write_run(folder, count=4, seed=1):
    """The checkpoints of an mlp, which go along one direction and spread about it."""
    folder.mkdir(exist_ok=True)
    net = seeded(lambda: build("mlp", (1, 28, 28)))
    generator = torch.Generator().manual_seed(seed)
    for k in range(count):
        for parameter in net.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        torch.save(net.state_dict(), folder / f"model_{10 * k}.t7")
    return folder


def mlp_and_data():
    data = load("fashion_mnist_mini", "train", limit=40)
    return build("mlp", (1, 28, 28)), (data.inputs, data.targets)


def no_eigenvector(self, number):
    raise AssertionError("the eigenvector is stored and has not to be computed again")


def flat(point):
    return torch.cat([value.flatten() for value in point.values()]).double()


def test_the_river_plane_is_that_of_drift_and_eigenvector():
    from lossatlas.data import as_dataset, as_loss
    from lossatlas.hessian import Hessian, lanczos

    net = seeded(normalized)
    states = trained(net)
    run = lossatlas.trajectory(net, states, (X, Y), plane="river", points=None)
    assert run.surface is None
    assert run.losses is None
    x, y = map(flat, run.plane)
    torch.testing.assert_close(
        torch.stack([x @ x, y @ y, x @ y]), torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-5, rtol=0
    )
    drift = torch.cat([(states[-1][n] - states[0][n]).flatten().double() for n, _ in net.named_parameters()])
    assert float(x @ drift / drift.norm()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(run.coordinates[0], [-float(drift.norm()), 0], atol=1e-4)
    twin = normalized().eval()
    twin.load_state_dict(states[-1])
    top = lanczos(Hessian(twin, as_dataset((X, Y)), as_loss("crossentropy")), top=1, tolerance=1e-5, max_products=200)
    across = top.vectors[0].double()
    across -= (across @ x) * x
    assert abs(float(across @ y / across.norm())) == pytest.approx(1, abs=1e-3)
    assert "drift from checkpoint 1 to checkpoint 6" in repr(run)
    assert len(run.explained) == 0


def test_the_river_of_some_tensors_has_the_top_eigenvector_of_their_hessian():
    """The reference is the dense Hessian of the weights alone; biases do not move."""
    torch.manual_seed(0)
    net, data = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.randn(40, 3).double()
    labels, states = torch.randint(0, 2, (40,)), []
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    for step in range(40):
        if step % 10 == 0:
            states.append(copy.deepcopy(net.state_dict()))
        optimizer.zero_grad()
        F.cross_entropy(net(data), labels).backward()
        optimizer.step()
    run = lossatlas.trajectory(net, states, (data, labels), plane="river", ignore="biasbn", points=None)
    names = ["0.weight", "2.weight"]
    hessian = explicit_hessian(at_state(net, states[-1]), mean_cross_entropy(data, labels), names)
    top = torch.linalg.eigh(hessian)[1][:, -1]
    x, y = (torch.cat([axis[name].flatten() for name in names]).double() for axis in run.plane)
    across = top - (top @ x) * x / (x @ x)
    assert abs(float(across @ y)) / float(across.norm()) == pytest.approx(1, abs=1e-3)
    assert not any(axis[name].any() for axis in run.plane for name in ("0.bias", "2.bias"))


def wide(state):
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def test_a_plane_in_float64_keeps_its_digits(tmp_path):
    """The surface under a path in a stored plane, and that along the same directions: one record, the same bits."""
    net = seeded(normalized).double()
    states, data = [wide(state) for state in trained(seeded(normalized))], (X.double(), Y)
    plane = lossatlas.surface(net, data, x="-1:1:2", y="-1:1:2", file=tmp_path / "plane.h5", **QUIET)
    assert {array.dtype for array in read_directions(tmp_path / "plane.h5").x} == {np.dtype(np.float64)}
    net.load_state_dict(states[-1])
    run = lossatlas.trajectory(net, states, data, directions=tmp_path / "plane.h5", points=3, **QUIET)
    grid, given = run.surface.grid, [str(tmp_path / f"plane.h5:{k}") for k in (1, 2)]
    again = lossatlas.surface(net, data, x=grid.x, y=grid.y, directions=given, **QUIET)
    assert run.surface.request["directions"] == again.request["directions"] == plane.request["directions"]
    assert run.surface.loss.tobytes() == again.loss.tobytes()


def test_a_river_begun_by_the_command_is_continued_from_python(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    options = ["--plane", "river", "--surface", "3", "--surf_file", str(tmp_path / "s.h5")]
    assert plot_trajectory.main([*COMMAND, *options, "--model_folder", str(folder)]) == 0
    monkeypatch.setattr(OriginCurvature, "eigenvector", no_eigenvector)
    times = [(tmp_path / name).stat().st_mtime_ns for name in ("s.h5", "s_checkpoints.h5")]
    before = read_projection(tmp_path / "s_path.h5")
    net, data = mlp_and_data()
    run = lossatlas.trajectory(net, folder, data, plane="river", points=3, file=tmp_path / "s.h5", **SAME)
    assert times == [(tmp_path / name).stat().st_mtime_ns for name in ("s.h5", "s_checkpoints.h5")]
    after = read_projection(tmp_path / "s_path.h5")
    for field in ("x", "y", "epochs", "loss", "distance"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    assert (after.axes, after.losses_of, after.run) == (before.axes, before.losses_of, before.run)
    assert after.axes == ("drift from model_0.t7 to model_30.t7", "top eigenvector, at a right angle")
    np.testing.assert_array_equal(run.epochs, [0, 10, 20, 30])
    place = folder / "river_weights_save_epoch=10" / "directions.h5"
    sealed = place.read_bytes()
    plain = lossatlas.trajectory(net, folder, data, plane="river", points=None, dir_file=place, **SAME)
    assert place.read_bytes() == sealed
    np.testing.assert_array_equal(plain.coordinates, run.coordinates)


def test_a_river_begun_from_python_is_continued_by_the_command(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    net, data = mlp_and_data()
    lossatlas.trajectory(net, folder, data, plane="river", points=3, file=tmp_path / "s.h5", **SAME)
    monkeypatch.setattr(OriginCurvature, "eigenvector", no_eigenvector)
    before = (tmp_path / "s.h5").read_bytes()
    options = ["--plane", "river", "--surface", "3", "--surf_file", str(tmp_path / "s.h5")]
    assert plot_trajectory.main([*COMMAND, *options, "--model_folder", str(folder)]) == 0
    assert (tmp_path / "s.h5").read_bytes() == before
    place = folder / "river_weights_save_epoch=10" / "directions.h5"
    assert read_directions(place).sha256 == read_directions(tmp_path / "s.h5").sha256


def test_a_direction_file_of_another_plane_is_refused_and_set_aside_by_force(tmp_path):
    net = seeded(normalized)
    states = trained(net)
    file = tmp_path / "d.h5"
    run = lossatlas.trajectory(net, states, dir_file=file)
    path = read_projection(tmp_path / "d.h5_proj_cos.h5", file)
    np.testing.assert_array_equal(np.stack([path.x, path.y], 1), run.coordinates)
    assert path.explained == pytest.approx(run.explained)
    before = read_directions(file).sha256
    with pytest.raises(
        BadInput, match=r"d\.h5 holds other directions .*use them with directions='.*d\.h5', or replace"
    ):
        lossatlas.trajectory(net, states[:-1], dir_file=file)
    with pytest.warns(Note, match="the directions that were there are now in"):
        lossatlas.trajectory(net, states[:-1], dir_file=file, force=True)
    assert read_directions(file).sha256 != before
    (old,) = tmp_path.glob("d.old*.h5")
    assert read_directions(old).sha256 == before


def test_a_river_of_another_loss_or_start_is_not_taken_from_a_file(tmp_path):
    net = seeded(normalized)
    states = trained(net)
    options = {"plane": "river", "points": None, "dir_file": tmp_path / "d.h5"}
    lossatlas.trajectory(net, states, (X, Y), **options)
    for checkpoints, more in (
        (states[1:], {}),
        (states, {"loss": "mse"}),
        (states, {"limit": 30}),
        (states, {"without": r"0\.weight"}),
    ):
        with pytest.raises(BadInput, match="holds other directions"):
            lossatlas.trajectory(net, checkpoints, (X, Y), **options, **more)


def test_several_runs_in_one_plane_are_those_of_the_command(tmp_path):
    folders = [write_run(tmp_path / name, seed=seed) for name, seed in (("net_sgd", 1), ("net_adam", 2))]
    words = ["--surface", "3", "--surf_file", str(tmp_path / "s.h5"), "--model_folder", *map(str, folders)]
    assert plot_trajectory.main([*COMMAND, *words]) == 0
    times = [(tmp_path / name).stat().st_mtime_ns for name in ("s.h5", "s_checkpoints.h5")]
    paths = [read_projection(tmp_path / f"s_path{end}.h5") for end in ("", "_adam")]
    net, data = mlp_and_data()
    run = lossatlas.trajectory(net, folders, data, points=3, file=tmp_path / "s.h5", **SAME)
    assert times == [(tmp_path / name).stat().st_mtime_ns for name in ("s.h5", "s_checkpoints.h5")]
    assert [each.name for each in (run, *run.others)] == ["sgd", "adam"]
    for each, path in zip((run, *run.others), paths, strict=True):
        np.testing.assert_array_equal(each.coordinates, np.stack([path.x, path.y], 1))
        np.testing.assert_array_equal(each.losses, path.loss)
        assert each.surface is run.surface
    assert tuple(run.coordinates[-1]) == (0, 0), "the end of the first run is the origin"
    assert np.abs(run.others[0].coordinates[-1]).max() > 0.1
    names = {text.get_text() for text in run.plot(kind="filled").legends[0].get_texts()}
    assert {"sgd", "adam"} <= names
    lists = [[str(folder / f"model_{10 * k}.t7") for k in range(4)] for folder in folders]
    plain = lossatlas.trajectory(net, lists, labels=["A", "B"], epochs=[range(4), range(4)])
    np.testing.assert_array_equal(plain.others[0].coordinates, run.others[0].coordinates)
    assert next(line.get_label() for line in plain.plot().axes[0].get_lines()) == "A"
    assert plain.others[0].epochs.tolist() == [0, 1, 2, 3]


def test_checkpoints_are_projected_onto_a_given_plane(tmp_path):
    folders = [write_run(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    assert plot_trajectory.main([*COMMAND, "--model_folder", str(folders[0])]) == 0
    file = folders[0] / "PCA_weights_save_epoch=10" / "directions.h5"
    assert plot_trajectory.main([*COMMAND, "--model_folder", str(folders[1]), "--dir_file", str(file)]) == 0
    path = read_projection(f"{file}_b_proj_cos.h5")
    net, data = mlp_and_data()
    plane = lossatlas.trajectory(net, folders[0]).plane
    for given in (file, str(file), plane, [f"{file}:1", f"{file}:2"], [plane[0], f"{file}:2"]):
        run = lossatlas.trajectory(net, folders[1], directions=given)
        np.testing.assert_allclose(run.coordinates, np.stack([path.x, path.y], 1), rtol=1e-5, atol=1e-6)
        assert len(run.explained) == 0
    words = ["--surface", "3", "--surf_file", str(tmp_path / "s.h5"), "--dir_file", str(file)]
    assert plot_trajectory.main([*COMMAND, *words, "--model_folder", str(folders[1])]) == 0
    before = (tmp_path / "s.h5").stat().st_mtime_ns
    run = lossatlas.trajectory(net, folders[1], data, directions=file, points=3, file=tmp_path / "s.h5", **SAME)
    assert (tmp_path / "s.h5").stat().st_mtime_ns == before
    assert run.surface.done.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plane": "lake"}, "plane='lake': choose from 'pca', 'river'"),
        ({"plane": "river", "data": None}, "plane='river' takes an eigenvector of the Hessian: give data too"),
        ({"plane": "river", "dir_type": "states"}, "plane='river' has no eigenvector of statistics"),
        ({"plane": "river", "directions": "d.h5"}, "plane='river' makes a plane, and directions gives one"),
        ({"directions": "d.h5", "dir_file": "d.h5"}, "dir_file stores the plane of the checkpoints"),
        ({"directions": ["random", "random"]}, "a direction of a given plane is"),
        ({"directions": [{}]}, "give the name of a direction file, or two directions"),
        ({"file": "s.h5", "points": None}, "file belongs to the surface under the path: give points too"),
        ({"labels": ["a", "b"]}, "labels gives 2 names for 1 runs"),
        ({"labels": "a"}, "labels='a': give a list"),
        ({"dir_file": 3}, "dir_file=3: give the path of a file"),
    ],
    ids=str,
)
def test_wrong_arguments_of_the_plane_are_named(arguments, message):
    net = seeded(normalized)
    with pytest.raises(BadUsage, match=message):
        lossatlas.trajectory(net, trained(net), **{"data": (X, Y), **arguments}, **QUIET)


def test_wrong_lists_of_runs_are_named(tmp_path):
    net = seeded(normalized)
    states = trained(net)
    with pytest.raises(BadUsage, match="a list of runs holds folders of runs and lists of checkpoints, not dict"):
        lossatlas.trajectory(net, [states, dict(states[0])])
    with pytest.raises(BadUsage, match="epochs has 6 sequences for 2 runs"):
        lossatlas.trajectory(net, [states, states[:3]], epochs=range(6))
    with pytest.raises(BadUsage, match="there are no checkpoints of run 2"):
        lossatlas.trajectory(net, [states, []])
    with pytest.raises(BadUsage, match="1 checkpoints span no plane: give at least 2"):
        lossatlas.trajectory(net, states[:1], (X, Y), plane="river")
    with pytest.raises(BadInput, match="are the same network: there is no drift"):
        lossatlas.trajectory(net, [states[0], states[1], states[0]], (X, Y), plane="river", points=None)
