"""Charts of local planes along a training path: geometry, cells, distortion, files and figures."""

import h5py
import numpy as np
import pytest
import torch
from conftest import cut, seeded
from test_trajectories import QUIET, X, Y, at_state, normalized, trained
from torch import nn

import lossatlas
from lossatlas.commands import flatness, plot_2D, plot_trajectory
from lossatlas.datasets.registry import load
from lossatlas.errors import BadInput, BadUsage
from lossatlas.figures.local_plane_plots import describe_distortion
from lossatlas.io import Projection, read_projection, read_surface
from lossatlas.io.contents import slim
from lossatlas.jobs.sweep.grid_points import points_of_chart
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries, FolderSelection
from lossatlas.jobs.trajectory.local_chart import charted, own_plane_cells
from lossatlas.jobs.trajectory.run_projection import PlaneChoice, RunDifferences
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.chart_cells import CHART_SOURCES
from lossatlas.models import build
from lossatlas.parameter_space import Selection
from lossatlas.parameter_space.local_planes import LocalChart, LocalPlanes, combined
from lossatlas.viewer.axis_words import axes_in_words

CHOICE = PlaneChoice(kind="local")
LOCAL = {"plane": "local", **QUIET}


def planes_of(path, rounding=0.0):
    """Local planes of points (checkpoints, coordinates)."""
    steps = np.diff(np.asarray(path, float), axis=0)
    return LocalPlanes.of(steps @ steps.T, rounding)


def frames(path):
    """Tangents and normals of a path as vectors, by the library."""
    planes, steps = planes_of(path), np.diff(np.asarray(path, float), axis=0)
    return planes.tangents @ steps, planes.normals @ steps


def chart_of(path, **more):
    planes = planes_of(path)
    digests = tuple(map(str, range(len(path))))
    return LocalChart(planes=planes, moved=("w",), dir_type="weights", digests=digests, digest="", **more)


def cell(path, s, t, **more):
    """Coordinates of a cell, by the library."""
    point = combined(chart_of(path, **more).column(s), t, lambda k: {"w": torch.from_numpy(path[k])}, {"w"})
    return point["w"].numpy()


def naive_frames(path):
    """Tangent and normal at each point, by derivatives of parabolas through three points and explicit vectors."""
    path = np.asarray(path, float)
    at = np.append(0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
    tangents, normals, before = [], [], None
    for k in range(len(path)):
        j = min(max(k, 1), len(path) - 2)
        three = slice(j - 1, j + 2)
        powers = np.polyfit(at[three] - at[k], path[three], 2)  # exact through three points
        tangent = powers[1] / np.linalg.norm(powers[1])
        normal = powers[0] - (powers[0] @ tangent) * tangent
        normal /= np.linalg.norm(normal)
        if before is not None:
            e, n = before
            axis = tangent - (tangent @ e) * e  # rotation in the plane of both tangents
            carried = n.copy()
            if np.linalg.norm(axis) > 1e-12:
                axis /= np.linalg.norm(axis)
                angle = np.arccos(np.clip(tangent @ e, -1, 1))
                carried = n - (n @ axis) * axis + (n @ axis) * (np.cos(angle) * axis - np.sin(angle) * e)
            normal = normal if normal @ carried >= 0 else -normal
        before = tangent, normal
        tangents.append(tangent)
        normals.append(normal)
    return at, np.array(tangents), np.array(normals)


def naive_cell(path, s, t):
    """Coordinates of a cell, its distortion, and its place in the plane of its nearest checkpoint."""
    path = np.asarray(path, float)
    at, tangents, normals = naive_frames(path)
    k = min(max(int(np.sum(at <= s)) - 1, 0), len(at) - 2)
    r = min(max((s - at[k]) / (at[k + 1] - at[k]), 0), 1)
    w = 3 * r**2 - 2 * r**3
    one, two = (path[j] + (s - at[j]) * tangents[j] + t * normals[j] for j in (k, k + 1))
    place = (1 - w) * one + w * two
    near = k + (w > 0.5)
    away = place - path[near]
    inside = (away @ tangents[near]) * tangents[near] + (away @ normals[near]) * normals[near]
    length = np.linalg.norm(away)
    return place, np.linalg.norm(away - inside) / length if length else 0.0, path[near] + inside


def random_walk(count, size, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).cumsum(0)


def test_frames_and_cells_are_those_of_explicit_vectors():
    path = random_walk(7, 20)
    at, tangents, normals = naive_frames(path)
    planes = planes_of(path)
    np.testing.assert_allclose(planes.at, at, rtol=1e-12)
    for found, expected in zip(frames(path), (tangents, normals), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)
    for s in np.linspace(-0.3, at[-1] + 0.3, 23):
        for t in (-2.0, 0.0, 0.7):
            place, distortion, inside = naive_cell(path, s, t)
            np.testing.assert_allclose(cell(path, s, t), place, atol=1e-10)
            np.testing.assert_allclose(planes.distortion(s, np.array([t])), distortion, atol=1e-7)
            np.testing.assert_allclose(cell(path, s, t, in_own_planes=True), inside, atol=1e-10)


def test_a_checkpoint_is_hit_to_the_last_bit_and_its_column_lies_in_its_plane():
    path = random_walk(6, 9).astype(np.float32)
    planes, (tangents, normals) = planes_of(path), frames(path)
    for k, s in enumerate(planes.at):
        np.testing.assert_array_equal(cell(path, float(s), 0.0), path[k])
        np.testing.assert_allclose(planes.distortion(s, np.array([-1.0, 0.0, 2.0])), 0, atol=1e-7)
        np.testing.assert_allclose(cell(path, float(s), 1.5), path[k] + 1.5 * normals[k], atol=1e-5)
    assert np.abs((tangents * normals).sum(1)).max() < 1e-12


def test_on_a_circle_the_normal_points_to_the_centre_and_the_chart_has_no_distortion():
    radius, angles = 3.0, np.linspace(0, 2.2, 12)
    path = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    tangents, normals = frames(path)
    inner = slice(1, -1)
    np.testing.assert_allclose(normals[inner], -path[inner] / radius, atol=1e-12)
    np.testing.assert_allclose(tangents[inner], np.stack([-path[inner, 1], path[inner, 0]], 1) / radius, atol=1e-12)
    step = np.linalg.norm(path[1] - path[0])
    turn = np.diff(np.diff(path, axis=0) / step, axis=0) / step  # acceleration at unit speed
    np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1 / radius, rtol=1e-12)
    planes = planes_of(path)
    for s in np.linspace(-1, planes.at[-1] + 1, 40):
        np.testing.assert_allclose(planes.distortion(s, np.linspace(-1, 1, 5)), 0, atol=1e-6)
    np.testing.assert_allclose(cell(path, float(planes.at[5]), 1.0), path[5] * (2 / 3), atol=1e-12)
    np.testing.assert_allclose(planes.turns, angles[1], rtol=1e-9)


def test_a_chart_folds_where_its_cells_go_back_along_the_path():
    """Within two thirds of the radius of a circle nowhere: between checkpoints the blend turns 1.5 times as fast."""
    radius, angles = 3.0, np.linspace(0, 2.2, 12)
    planes = planes_of(radius * np.stack([np.cos(angles), np.sin(angles)], 1))
    t = np.array([-6.0, 1.95, 2.05, 6.0])
    for columns in (4, 30):  # whatever the grid: some columns hold several checkpoints, others none
        folded = planes.folded(Grid(np.linspace(0.7, planes.at[-1] - 0.7, columns), t))
        assert folded.any(1).tolist() == [False, False, True, True]
    assert folded[3].all()


def test_the_derivatives_of_a_chart_are_those_of_its_cells():
    path = np.random.default_rng(0).normal(size=(6, 5)).cumsum(0)
    planes, steps, h = planes_of(path), np.diff(path, axis=0), 1e-6
    for s in (-0.5, 0.3 * planes.at[1], planes.at[3] + 0.2, planes.at[-1] + 0.4):
        along, across = planes.derivatives(float(s))
        for t in (0.0, 1.5):
            numeric = (cell(path, s + h, t) - cell(path, s - h, t)) / (2 * h)
            np.testing.assert_allclose((along + t * across) @ steps, numeric, atol=1e-6)


def test_normals_stay_on_one_side_where_the_path_turns_the_other_way():
    x = np.linspace(0, 6, 25)
    _, normals = frames(np.stack([x, np.sin(x)], 1))
    assert (normals[:, 1] < 0).all()  # towards the first turn, also where the path turns back


def test_a_straight_stretch_takes_the_normal_of_its_neighbour_and_a_straight_path_is_refused():
    bent = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 1, 0], [5, 2, 0], [6, 3, 0]], float)
    tangents, normals = frames(bent)
    np.testing.assert_allclose(normals[:3], [[0, 1, 0]] * 3, atol=1e-12)
    np.testing.assert_allclose(normals[-2], np.array([-1, 1, 0]) / np.sqrt(2), atol=1e-12)
    np.testing.assert_allclose((tangents * normals).sum(1), 0, atol=1e-12)
    with pytest.raises(ValueError, match="the path is straight"):
        planes_of(bent[:4])
    nearly = bent[:4] + 1e-7 * np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError, match="the path is straight"):
        planes_of(nearly, rounding=1e-7)
    with pytest.raises(ValueError, match="checkpoints 2 and 3 are the same network"):
        planes_of([[0, 0], [1, 0], [1, 0], [1, 1]])


def test_a_path_that_goes_back_the_way_that_it_came_has_frames():
    path = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    tangents, normals = frames(path)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    np.testing.assert_allclose((tangents * normals).sum(1), 0, atol=1e-12)


def net_and_states(count=6, double=False):
    net = seeded(lambda: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)))
    states = trained(net, count)
    if double:
        return net.double(), [{name: value.double() for name, value in state.items()} for state in states]
    return net, states


def flat(state):
    return np.concatenate([value.double().numpy().ravel() for value in state.values()])


def unflat(vector, like):
    parts = torch.from_numpy(vector).split([value.numel() for value in like.values()])
    return {name: part.view(value.shape) for part, (name, value) in zip(parts, like.items(), strict=True)}


def test_cells_have_the_losses_of_networks_that_are_made_one_by_one(tmp_path):
    net, states = net_and_states(double=True)
    data, path = (X.double(), Y), np.stack([flat(state) for state in states])
    run = lossatlas.trajectory(
        net, states, data, points=(9, 5), own_planes="all", file=tmp_path / "s.h5", batch_size=60, **LOCAL
    )
    own = run.own_planes
    for j, t in enumerate(run.surface.y):
        for i, s in enumerate(run.surface.x):
            place, distortion, inside = naive_cell(path, s, t)
            expected = [naive_double(net, states[0], vector, data) for vector in (place, inside)]
            assert run.surface.loss[j, i] == pytest.approx(expected[0], rel=1e-9)
            assert run.surface["distortion"][j, i] == pytest.approx(distortion, abs=1e-6)
            assert own.loss[j, i] == pytest.approx(expected[1], rel=1e-9)
            assert own.difference[j, i] == pytest.approx(expected[0] - expected[1], abs=1e-9)
    at = naive_frames(path)[0]
    np.testing.assert_allclose(run.coordinates, np.stack([at, 0 * at], 1), rtol=1e-9)
    with h5py.File(tmp_path / "s.h5") as f:
        first, second, weight = (f[f"provenance/{name}"][()] for name in CHART_SOURCES)
        x = f["xcoordinates"][()]
    expected = np.clip(np.searchsorted(at, x, "right") - 1, 0, len(at) - 2)
    part = np.clip((x - at[expected]) / np.diff(at)[expected], 0, 1)
    np.testing.assert_array_equal(first, np.broadcast_to(expected, first.shape))
    np.testing.assert_array_equal(second, first + 1)
    np.testing.assert_allclose(weight, np.broadcast_to(part**2 * (3 - 2 * part), weight.shape), atol=1e-9)
    slim(tmp_path / "s.h5", tmp_path / "slim.h5")
    kept = read_surface(tmp_path / "slim.h5").provenance
    for name, array in zip(CHART_SOURCES, (first, second, weight), strict=True):
        np.testing.assert_array_equal(kept[name], array)
    path_file = read_projection(tmp_path / "s_path.h5")
    for name in ("x", "y", "loss", "difference"):
        np.testing.assert_array_equal(getattr(path_file.own_planes, name), getattr(own, name))


def naive_double(net, like, vector, data):
    twin = at_state(net, unflat(vector, like)).eval()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(twin(data[0]), data[1]))


def test_a_checkpoint_comes_with_its_own_batchnorm_statistics_and_those_between_are_mixed():
    net = seeded(normalized)
    states = trained(net, 5)
    found = charted(RunDifferences.of(net, (CheckpointSeries("", tuple(states)),), CHOICE, "", complete=True), CHOICE)
    chart, grid = found.chart, Grid(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    plane = points_of_chart(states, chart, grid).parametrization.plane(net)
    for s, state in zip(chart.planes.at, states, strict=True):
        point = plane.point(float(s), 0.0)
        assert all(torch.equal(point[name], value) for name, value in state.items() if value.is_floating_point())
    middle = float(chart.planes.at[1:3].mean())
    point = plane.point(middle, 0.3)
    mean = (states[1]["1.running_var"] + states[2]["1.running_var"]) / 2
    torch.testing.assert_close(point["1.running_var"], mean)
    assert "1.running_var" not in chart.moved


def test_tensors_that_are_left_out_are_mixed_by_the_weights_alone():
    net, states = net_and_states()
    choice = PlaneChoice(kind="local", selection=Selection("weight"))
    found = charted(RunDifferences.of(net, (CheckpointSeries("", tuple(states)),), choice, "", complete=True), choice)
    chart, grid = found.chart, Grid(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    steps = np.diff([np.concatenate([s[n].numpy().ravel() for n in s if "weight" in n]) for s in states], axis=0)
    np.testing.assert_allclose(chart.planes.at[1:], np.linalg.norm(steps, axis=1).cumsum(), rtol=1e-5)
    s = float(chart.planes.at[2] + 0.25 * (chart.planes.at[3] - chart.planes.at[2]))
    point = points_of_chart(states, chart, grid).parametrization.plane(net).point(s, 5.0)
    weight = 0.25**2 * 2.5
    torch.testing.assert_close(point["0.bias"], states[2]["0.bias"] * (1 - weight) + states[3]["0.bias"] * weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": None}, "plane='local' is a map of the loss along the path: give data and points"),
        ({"points": None}, "plane='local' is a map of the loss along the path: give data and points"),
        ({"dir_file": "d.h5"}, "plane='local' makes planes, and dir_file names one"),
        ({"directions": "d.h5"}, "plane='local' makes planes, and directions names one"),
        ({"width": 0}, "width=0: give a part of the path's length, above 0"),
        ({"plane": "pca", "width": 0.1}, "width=0.1 is for plane='local'"),
        ({"plane": "river", "own_planes": "all"}, "own_planes='all' is for plane='local'"),
        ({"own_planes": "some"}, "own_planes='some'"),
        ({"checkpoints": 2}, "needs at least 3 checkpoints, and the run has 2|2 checkpoints span no plane"),
        ({"checkpoints": "twice"}, "plane='local' follows one training run, not 2"),
    ],
    ids=str,
)
def test_wrong_arguments_of_a_chart_are_named(arguments, message):
    net, states = net_and_states(4)
    given = {None: states, 2: states[:2], "twice": [states, states]}[arguments.get("checkpoints")]
    more = {name: value for name, value in arguments.items() if name != "checkpoints"}
    with pytest.raises(BadUsage, match=message):
        lossatlas.trajectory(net, given, **{**LOCAL, "data": (X, Y), "points": 3, **more})


def test_a_few_cells_in_their_own_planes_lie_at_the_borders_between_planes():
    planes, grid = planes_of(random_walk(30, 40)), Grid(np.linspace(-2, 190, 200), np.linspace(-1, 1, 9))
    found = own_plane_cells(grid, planes, "few")
    assert (len(found.x), len(found.y)) == (12, 5)
    borders = (planes.at[1:] + planes.at[:-1]) / 2
    assert np.abs(np.subtract.outer(found.x, borders)).min(1).max() <= 0.5 * (grid.x[1] - grid.x[0]) + 1e-9
    assert set(found.y) <= set(grid.y)
    assert own_plane_cells(grid, planes, "all") is grid


def test_checkpoints_on_a_line_are_refused():
    net, states = net_and_states(4)
    line = [{n: v + k * torch.ones_like(v) for n, v in states[0].items()} for k in range(4)]
    with pytest.raises(BadInput, match="no local planes along the trajectory: the path is straight"):
        lossatlas.trajectory(net, line, (X, Y), points=3, **LOCAL)
    with pytest.raises(BadInput, match="checkpoints 1 and 2 are the same network up to rounding"):
        lossatlas.trajectory(net, [states[0], *states], (X, Y), points=3, **LOCAL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--plane local is a map of the loss along the path: add --surface 25"),
        (["--surface", "5", "--dir_file", "d.h5"], "--plane local makes planes, and --dir_file names one"),
        (["--surface", "5", "--width", "0"], "--width 0.0: give a part of the path's length, above 0"),
        (["--plane", "pca", "--width", "0.1"], "--width 0.1 is for --plane local"),
        (["--surface", "5", "--model_folder", "a", "b"], "--plane local follows one training run, not 2"),
    ],
    ids=str,
)
def test_wrong_options_of_a_chart_are_named(options, message, capsys):
    assert plot_trajectory.main(["--model", "mlp", "--plane", "local", *options]) == 2
    assert message in capsys.readouterr().err


def mlp_files(folder, count=4):
    """Checkpoints of the zoo's small network, beside which the command computes."""
    net, files = seeded(lambda: build("mlp", (1, 28, 28))), []
    generator = torch.Generator().manual_seed(1)
    for k in range(count):
        for parameter in net.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        files.append(str(folder / f"model_{k}.pt"))
        torch.save(net.state_dict(), files[-1])
    return net, files


COMMAND = "--model mlp --dataset fashion_mnist_mini --limit 40 --batch_size 40 --threads 1 --plane local --surface 7x5"


@pytest.mark.full
def test_a_chart_of_the_command_is_continued_after_a_kill_and_from_python(tmp_path, capsys):
    net, files = mlp_files(tmp_path)
    file = tmp_path / "s.h5"
    command = [*COMMAND.split(), "--surf_file", str(file), "--checkpoints", *files]
    assert plot_trajectory.main(command) == 0
    said = capsys.readouterr().out
    assert "from one step to the next it turns by" in said
    assert "in the planes of their nearest checkpoints the losses of 15 cells differ by" in said
    whole = read_surface(file)
    cut(file, [3, 11, 20])
    assert plot_trajectory.main(command) == 0
    again = read_surface(file)
    for name, values in whole.fields.items():
        np.testing.assert_array_equal(again.fields[name], values)
    data = load("fashion_mnist_mini", "train", limit=40)
    options = {"points": (7, 5), "batch_size": 40, **LOCAL}
    before = file.stat().st_mtime_ns
    run = lossatlas.trajectory(net, files, (data.inputs, data.targets), file=file, **options)
    assert file.stat().st_mtime_ns == before
    alone = lossatlas.trajectory(net, files, (data.inputs, data.targets), **options)
    np.testing.assert_allclose(alone.surface.loss, whole.fields["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(run.own_planes.loss, alone.own_planes.loss, rtol=1e-5)
    with pytest.raises(BadInput, match="force=True"):
        lossatlas.trajectory(net, files[1:], (data.inputs, data.targets), file=file, **options)


def test_a_tolerance_and_an_adaptive_grid_compute_fewer_samples_and_cells_of_a_chart(tmp_path):
    _, files = mlp_files(tmp_path)
    file = tmp_path / "s.h5"
    command = [*COMMAND.split(), "--surf_file", str(file), "--checkpoints", *files]
    assert plot_trajectory.main([*command, "--tolerance", "0.2", "--adaptive", "0.5"]) == 0
    assert read_surface(file).known.all()


def test_figures_of_a_chart_show_borders_and_distortion_and_the_page_says_what_the_axes_are(tmp_path):
    net, states = net_and_states()
    run = lossatlas.trajectory(net, states, (X, Y), points=(13, 5), file=tmp_path / "s.h5", **LOCAL)
    axis = run.plot(kind="filled").axes[0]
    strips = axis.child_axes
    assert [strip.get_ylabel() for strip in strips] == ["outside the\nplane (%)", "change of\nthe loss (%)"]
    tops = [bar.get_height() for bar in strips[0].patches[:13]]
    np.testing.assert_allclose(tops, 100 * np.max(run.surface["distortion"], 0))
    assert strips[-1].get_xlabel() == "distance along the path"
    at = run.coordinates[:, 0]
    borders = [
        line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 2
    ]
    np.testing.assert_allclose(borders, (at[1:] + at[:-1]) / 2)
    drawn = plot_2D.draw([tmp_path / "s.h5"], proj_file=str(tmp_path / "s_path.h5"))
    assert len(drawn) >= 10
    assert plot_2D.draw([tmp_path / "s.h5"], surf_name="distortion")
    html = run.view(file=tmp_path / "page.html")
    assert html is not None
    assert "distance along the path of a training" in axes_in_words(run.surface, None, run.projection)
    assert "checkpoints" in repr(run)
    assert "own loss" in run._repr_html_()
    lines = describe_distortion(run.surface, run.projection)
    assert f"{100 * np.nanmax(run.surface['distortion']):.2g} % at most" in lines[0]
    factors = np.exp(np.abs(np.log(run.own_planes.ratio)))
    assert f"the losses of {factors.size} cells" in lines[1]


def test_a_chart_is_no_plane_for_flatness_directions_and_paths_of_other_planes(tmp_path, capsys):
    net, states = net_and_states()
    run = lossatlas.trajectory(net, states, (X, Y), points=5, file=tmp_path / "s.h5", **LOCAL)
    assert flatness.main(["--surf_file", str(tmp_path / "s.h5")]) == 2
    assert (
        "this is a chart along a training path, and flatness is measured on a line or a plane"
        in capsys.readouterr().err
    )
    with pytest.raises(BadUsage, match="measured on a line or a plane"):
        run.surface.flatness()
    plane = lossatlas.trajectory(net, states, (X, Y), points=3, file=tmp_path / "p.h5", **QUIET)
    with pytest.raises(BadInput, match="another directions"):
        plot_2D.draw([tmp_path / "s.h5"], proj_file=str(tmp_path / "p_path.h5"))
    assert not run.surface._holds_plane_of(plane)
    assert not plane.surface._holds_plane_of(run)
    with pytest.raises(BadUsage):
        lossatlas.surface(net, (X, Y), directions=run.plane, x="-1:1:3", y="-1:1:3", **QUIET)


def test_a_distortion_that_is_rounding_is_said_to_be_0():
    grid = Grid(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0]))
    shares = np.array([[0.0, 3e-16, 0.0], [1e-17, 2e-16, 0.25]])
    surface = Surface.of_values(grid, ["distortion"]).with_cells(range(6), shares.reshape(-1, 1))
    path = Projection(np.zeros(3), np.zeros(3), np.ones(2))
    assert describe_distortion(surface, path)[0].endswith("0 % (median), 25 % at most")


def test_a_folder_of_other_names_is_told_which_options_find_them(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "net_3_step20_ema.t7").touch()
    series = FolderSelection()
    with pytest.raises(BadInput, match=r"set prefix and suffix, as in prefix='net_3_step' suffix='_ema.t7' for net_3_"):
        series.numbered(tmp_path)
    found = FolderSelection(prefix="net_3_step", suffix="_ema.t7").numbered(tmp_path)
    assert list(found) == [20]
