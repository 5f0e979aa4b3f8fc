"""Volumes, the loss along three directions: numbers against loops of one's own, files, planes, minima and figures."""

import copy
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import seeded, surface_command, write_checkpoint
from scipy import ndimage
from torch import nn

import lossatlas
from lossatlas import figures
from lossatlas.commands import (
    flatness,
    h5_util,
    h52vtp,
    plot,
    plot_1D,
    plot_2D,
    plot_hessian_eigen,
    plot_minima,
    plot_surface,
    plot_volume,
)
from lossatlas.errors import BadInput, BadUsage
from lossatlas.figures import surface_renderer, volume_renderer
from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_scale import choose_colour_scale
from lossatlas.figures.volume_plots import shown_planes
from lossatlas.io import read_directions, read_surface, write_surface
from lossatlas.io.surface_files import split_plane
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.cell_prediction import Predictor
from lossatlas.landscape.grid import read_range, refinement
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.landscape.topology import array_minima
from lossatlas.parameter_space.normalization import inner

X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (X.prod(1) > 0).long()
SPACE = {"x": "-1:1:5", "y": "-0.5:1:4", "z": "-1:0.5:3", "seed": 3, "progress": False}


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))).double()


def losses_one_by_one(net: nn.Module, found) -> np.ndarray:
    """The mean loss of the network itself, moved to every cell along the stored directions."""
    result = np.empty(found.grid.shape)
    x, y, z = found.grid.x, found.grid.y, found.grid.z
    for k, j, i in np.ndindex(*result.shape):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for p, *steps in zip(
                moved.parameters(), found.directions.x, found.directions.y, found.directions.z, strict=True
            ):
                for at, step in zip((x[i], y[j], z[k]), steps, strict=True):
                    p += at * torch.as_tensor(step)
            result[k, j, i] = float(nn.functional.cross_entropy(moved(X), Y))
    return result


def volume_of(function, shape=(5, 6, 7)) -> Surface:
    """A finished volume of a function of x, y and z on axes from -1 to 1."""
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    values = function(x, y[:, None], z[:, None, None]) + np.zeros(shape)
    return Surface(Grid(x, y, z), np.ones(shape, bool), values={"train_loss": values})


def bowl(x, y, z):
    return 0.1 + (x - 0.3) ** 2 + 2 * y**2 + 3 * (z + 0.2) ** 2


@pytest.mark.parametrize("more", [{}, {"memory": "low"}, {"tolerance": 1e-9}, {"adaptive": 1e-6}], ids=str)
def test_every_cell_is_the_network_along_three_directions(more):
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    found = lossatlas.surface(net, (X, Y), **SPACE, **more)
    assert found.loss.shape == (3, 4, 5)
    assert found.done.all()
    np.testing.assert_allclose(found.loss, losses_one_by_one(net, found), rtol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_a_tolerance_holds_in_a_volume():
    net, data = network(), (X.repeat(20, 1) + 0.01, Y.repeat(20))
    exact = lossatlas.surface(net, data, **SPACE)
    found = lossatlas.surface(net, data, tolerance=(0.03, 0), **SPACE)
    assert (found.fields["train_loss_se"] <= 0.03 * found.loss * (1 + 1e-9)).all()
    off = np.abs(found.loss - exact.loss) / np.maximum(found.fields["train_loss_se"], 1e-12)
    assert (off <= 4.5).all()


def test_an_adaptive_volume_is_within_its_tolerance_and_computes_less():
    net = network()
    space = {**SPACE, "x": "-0.02:0.02:17", "y": "-0.02:0.02:17", "z": "-0.02:0.02:17"}
    exact = lossatlas.surface(net, (X, Y), **space)
    found = lossatlas.surface(net, (X, Y), adaptive=1e-3, **space)
    assert 0 < found.interpolated.sum() < found.done.size
    assert (np.abs(found.loss - exact.loss) <= 1e-3 * exact.loss).mean() > 0.95


def test_the_first_two_directions_of_a_volume_are_those_of_a_plane():
    net = network()
    volume = lossatlas.surface(net, (X, Y), **{**SPACE, "z": "-1:1:3"})
    plane = lossatlas.surface(net, (X, Y), **{**SPACE, "z": None})
    for a, b in zip(
        (*volume.directions.x, *volume.directions.y), (*plane.directions.x, *plane.directions.y), strict=True
    ):
        assert np.array_equal(a, b)
    np.testing.assert_allclose(volume.plane_at(0).loss, plane.loss, rtol=1e-13)


def test_orthogonal_directions_are_orthogonal_in_pairs():
    found = lossatlas.surface(network(), (X, Y), orthogonalize=True, **SPACE)
    axes = [{str(k): torch.as_tensor(a) for k, a in enumerate(axis)} for axis in found.directions.axes]
    for a, b in itertools.combinations(axes, 2):
        assert abs(inner(a, b)) <= 1e-6 * (inner(a, a) * inner(b, b)) ** 0.5


def test_a_direction_in_the_plane_of_the_others_is_named():
    net = network()
    a, b = ({name: torch.randn_like(p) for name, p in net.named_parameters()} for _ in range(2))
    with pytest.raises(BadInput, match="the z direction lies in the plane of the x and the y direction"):
        lossatlas.surface(
            network(), (X, Y), directions=[a, b, {n: a[n] + b[n] / 2 for n in a}], orthogonalize=True, **SPACE
        )


def test_directions_of_all_kinds_have_second_derivatives_along_them(tmp_path):
    net = network()
    found = lossatlas.surface(net, (X, Y), directions=["gradient", "eigenvector", "eigenvector:2"], ignore="", **SPACE)
    derivatives = found.about["second_derivatives"]
    assert set(derivatives) == {"xx", "xy", "xz", "yy", "yz", "zz"}
    assert derivatives["yz"] == pytest.approx(0, abs=1e-4)  # eigenvectors
    assert derivatives["yy"] >= derivatives["zz"]
    found.save(tmp_path / "v.h5")
    again = lossatlas.surface(net, (X, Y), x="-1:1:3", directions=f"{tmp_path / 'v.h5'}:3", progress=False)
    assert all(np.array_equal(a, b) for a, b in zip(again.directions.x, found.directions.z, strict=True))


def test_eigenvalues_in_a_volume_are_those_of_its_planes():
    net = network()
    volume = lossatlas.eigenvalues(net, (X, Y), x="-0.5:0.5:2", y="-0.5:0.5:2", z="0:1:2", progress=False)
    plane = lossatlas.eigenvalues(net, (X, Y), x="-0.5:0.5:2", y="-0.5:0.5:2", progress=False)
    np.testing.assert_allclose(volume.plane_at(0)["max_eig"], plane["max_eig"], rtol=1e-2)


def test_an_unfinished_volume_is_continued(tmp_path):
    net = network()
    expected = lossatlas.surface(net, (X, Y), file=tmp_path / "a.h5", **SPACE)
    part = read_surface(tmp_path / "a.h5")
    done = part.done.copy()
    done[1:, 2:, ::2] = False
    write_surface(tmp_path / "b.h5", Surface(**{**vars(part), "done": done}), embed=expected.directions)
    found = lossatlas.surface(net, (X, Y), file=tmp_path / "b.h5", **SPACE)
    assert found.loss.tobytes() == expected.loss.tobytes()
    with pytest.raises(BadInput, match=r"\[-1, 0.5\] in 3, this run asks for .* x \[-1, 1\] in 3"):
        lossatlas.surface(net, (X, Y), file=tmp_path / "b.h5", **{**SPACE, "z": "-1:1:3"})


def test_points_of_a_grid_are_numbered_plane_by_plane():
    grid = Grid(np.arange(4.0), np.arange(3.0) * 10, np.arange(2.0) * 100)
    assert grid.shape == (2, 3, 4)
    expected = [(x, y, z) for z in grid.z for y in grid.y for x in grid.x]
    assert [grid.point(cell) for cell in range(grid.size)] == expected
    levels = [
        max(refinement(n)[k] for n, k in zip(grid.shape, place, strict=True)) for place in np.ndindex(*grid.shape)
    ]
    assert sorted(levels) == [levels[cell] for cell in grid.coarse_first()]


def test_a_cell_has_the_corners_of_the_coarser_box_as_neighbours():
    hierarchy = Hierarchy(Grid(*[np.arange(5.0)] * 3))
    assert hierarchy.neighbours(0) == []
    middle = int(np.ravel_multi_index((1, 3, 1), hierarchy.shape))
    corners = [np.ravel_multi_index(each, hierarchy.shape) for each in itertools.product((0, 2), (2, 4), (0, 2))]
    assert sorted(hierarchy.neighbours(middle)) == sorted(corners)
    level = hierarchy.level[middle]
    assert all(hierarchy.level[each] < level for each in hierarchy.neighbours(middle))


def test_predictions_are_exact_for_cubic_polynomials_of_three_variables():
    grid = Grid(*(np.linspace(-1, 1, 17) for _ in range(3)))
    x, y, z = grid.x, grid.y[:, None], grid.z[:, None, None]
    values = (x**3 - y**2 * z + x * y * z**3 + 2).ravel()
    hierarchy = Hierarchy(grid)
    predict = Predictor(grid, hierarchy)
    cells = [cell for cell in range(grid.size) if hierarchy.level[cell] == hierarchy.count - 1][::37]
    inside = [cell for cell in cells if not np.isnan(predict(cell, values))]
    full = [cell for cell in inside if len(predict.cell_stencil(cell)[0]) == 64]
    assert full
    np.testing.assert_allclose([predict(cell, values) for cell in full], values[full], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": None}, "z: a third axis needs a second one: give y too"),
        ({"z": "1:0:3"}, "z='1:0:3'|needs min < max"),
        ({"x": "-1:1:999", "y": "-1:1:999", "z": "-1:1:99"}, "more than ten million"),
        ({"directions": ["random", "random"]}, "3 directions are needed"),
        ({"directions": ["random"] * 4}, "directions: 4 directions for 3 axes: leave out the others$"),
        ({"y": None, "z": None, "directions": ["random"] * 2}, "2 directions for 1 axis: .* or give y too"),
        ({"per_layer": True}, "per_layer computes several lines"),
        ({"repeat": 3}, "repeat computes several lines"),
        ({"towards": [network(), network(), network()]}, "towards: 3 networks, and axes lead to 2 at most"),
    ],
)
def test_what_no_volume_can_have_is_refused(arguments, message):
    with pytest.raises(BadUsage, match=message):
        lossatlas.surface(network(), (X, Y), **{**SPACE, **arguments})


def test_networks_lie_at_the_ends_of_the_first_two_axes():
    net, other = network(), seeded(network, 5)
    found = lossatlas.surface(net, (X, Y), x="0:1:2", y="0:1:2", z="0:1:2", towards=[other, network()], progress=False)
    expected = float(nn.functional.cross_entropy(other(X), Y))
    assert found.loss[0, 0, 1] == pytest.approx(expected, rel=1e-9)


def test_a_file_keeps_a_volume_and_gives_its_planes(tmp_path):
    found = lossatlas.surface(network(), (X, Y), **SPACE)
    file = tmp_path / "v.h5"
    found.save(file)
    again = lossatlas.read(file)
    assert again.loss.tobytes() == found.loss.tobytes()
    assert np.array_equal(again.z, read_range_axis(SPACE["z"]))
    assert len(read_directions(file).axes) == 3
    plane = lossatlas.read(f"{file}:z=-0.25")
    assert np.array_equal(plane.loss, found.loss[1])
    assert len(plane.directions.axes) == 2
    assert read_surface(f"{file}:z=0.5").request["plane_of_volume"] == 0.5
    with pytest.raises(BadUsage, match=r"z = 0\.3: the volume has no plane there; the nearest is at 0\.5"):
        lossatlas.read(f"{file}:z=0.3")
    with pytest.raises(BadInput, match="'middle' is no number"):
        lossatlas.read(f"{file}:z=middle")
    with pytest.raises(BadUsage, match="this is no volume"):
        plane.plane_at(0)
    assert h5_util.main(["--check", str(file)]) == 0
    odd = tmp_path / "w.h5:z=0"
    odd.write_bytes(file.read_bytes())
    assert split_plane(odd) == (str(odd), None)  # a file of that name comes first


def read_range_axis(text):
    return np.linspace(*read_range("z", text))


def test_networks_are_marked_on_the_plane_through_the_origin_alone():
    volume = volume_of(bowl)
    marked = Surface(**{**vars(volume), "about": {"networks": [["net", 0.0, 0.0]], "command": "c"}})
    assert marked.plane_at(0).about == marked.about
    assert marked.plane_at(1).about == {"command": "c"}


def test_other_formats_have_three_axes(tmp_path):
    pytest.importorskip("xarray")
    pytest.importorskip("pandas")
    found = lossatlas.surface(network(), (X, Y), **SPACE)
    data, table = found.to_xarray(), found.to_dataframe()
    assert data.train_loss.dims == ("z", "y", "x")
    assert float(data.train_loss.sel(x=0.5, y=0, z=-0.25)) == found.loss[1, 1, 3]
    row = table[(table.x == 0.5) & (table.y == 0) & (table.z == -0.25)]
    assert row.train_loss.tolist() == [found.loss[1, 1, 3]]
    found.save(tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz") as arrays:
        assert arrays["z"].tolist() == found.z.tolist()
    assert "5 x 4 x 3 points" in found.table()


@pytest.mark.parametrize("seed", range(4))
def test_at_every_level_of_a_volume_there_are_as_many_pools_as_bars(seed):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(8, 9, 10)), 1.0)
    values[2:6, 4, 3:8] = np.nan
    found = array_minima(values)
    for level in np.quantile(values[np.isfinite(values)], np.linspace(0.01, 1, 25)):
        _, count = ndimage.label(np.nan_to_num(values, nan=np.inf) <= level)
        assert sum(each.value <= level < each.end for each in found) == count


@pytest.mark.parametrize("seed", range(3))
def test_the_pairs_of_a_volume_are_those_of_gudhi(seed):
    gudhi = pytest.importorskip("gudhi", reason="gudhi is not installed")
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(7, 8, 9)), 1.0)
    complex_ = gudhi.CubicalComplex(vertices=values)
    complex_.compute_persistence()
    expected = complex_.persistence_intervals_in_dimension(0)
    found = [(each.value, each.end) for each in array_minima(values)]
    assert sorted(found) == sorted(map(tuple, expected.tolist()))


def test_minima_of_a_landscape_have_three_coordinates(tmp_path):
    write_surface(tmp_path / "v.h5", volume_of(bowl, (11, 11, 11)))
    (lowest,) = lossatlas.read(tmp_path / "v.h5").minima()
    assert (lowest.x, lowest.y, lowest.z) == pytest.approx((0.2, 0, -0.2), abs=0.11)


@pytest.mark.parametrize("count", [4, 12, 13, 24, 25, 50, 101])
def test_shown_planes_are_few_in_equal_steps_and_hold_the_origin(count):
    z = np.linspace(-1, 1.3, count)
    found = shown_planes(z)
    assert len(found) <= 12
    assert len(found) == count or len(found) >= 6
    assert len(set(np.diff(found))) == 1
    assert np.abs(z).argmin() in found


@pytest.mark.pictures
def test_slices_show_each_plane_on_one_scale():
    found = volume_of(bowl, (5, 9, 9))
    fig = figures.plot(found, vmax=4)
    titles = [axis.get_title() for axis in fig.axes if axis.get_visible() and axis.get_title()]
    assert titles == ["z = -1", "z = -0.5", "z = 0", "z = 0.5", "z = 1"]
    assert [len(axis.lines) for axis in fig.axes[:5]] == [0, 0, 1, 0, 0]
    assert "white dot: the network" in fig.get_supxlabel()
    share = 100 * (found.fields["train_loss"] > 4).mean()
    assert f"{share:.2g} % of the cells above 4" in fig.get_supxlabel().replace("\n", " ")
    filled = [c for axis in fig.axes for c in axis.collections if getattr(c, "filled", False) and c.colors is None]
    assert len(filled) == 5
    assert len({(c.norm.vmin, c.norm.vmax) for c in filled}) == 1
    with pytest.raises(BadUsage, match="slices are a figure of their own"):
        figures.slices(found, fig.axes[0])
    with pytest.raises(BadUsage, match=r"a volume is no plane: draw it with slices\(\), or .* \.plane_at\(0\)"):
        figures.plot(found, kind="filled")
    with pytest.raises(BadUsage, match="no volume, and has no slices"):
        figures.slices(found.plane_at(0))


@pytest.mark.pictures
def test_the_commands_draw_a_volume_and_its_planes(tmp_path, capsys):
    file = tmp_path / "v.h5"
    write_surface(file, volume_of(bowl, (5, 9, 9)))
    assert plot.main([str(file), "--format", "png"]) == 0
    assert plot_2D.main(["--surf_file", f"{file}:z=0", "--format", "png"]) == 0
    assert plot_minima.main(["--surf_file", str(file), "--tree", "--format", "png"]) == 0
    printed = capsys.readouterr().out
    assert "1 minimum" in printed
    assert "at (0.25, 0, 0)" in printed
    made = {path.name for path in tmp_path.glob("*.png")}
    assert {"v.h5_train_loss_slices.png", "v.h5_z=0_train_loss_2dheat.png", "v.h5_train_loss_merge_tree.png"} <= made
    for command in (plot_1D, plot_2D, flatness):
        assert command.main(["--surf_file", str(file)]) == 3
        assert f"name one of its planes, as in {file}:z=0" in capsys.readouterr().err
    assert plot_volume.main(["--surf_file", f"{file}:z=0"]) == 3
    assert "holds a plane, and no volume" in capsys.readouterr().err


def test_paraview_gets_a_rectilinear_grid(tmp_path, capsys):
    pyvista = pytest.importorskip("pyvista")
    found = volume_of(bowl)
    found.values["train_loss"][1, 2, 3] = np.inf
    write_surface(tmp_path / "v.h5", found)
    assert h52vtp.main(["--surf_file", str(tmp_path / "v.h5")]) == 0
    grid = pyvista.read(tmp_path / "v.h5_train_loss.vtr")
    assert [grid.x.tolist(), grid.y.tolist(), grid.z.tolist()] == [a.tolist() for a in found.grid.point_axes]
    expected = np.where(np.isfinite(found.values["train_loss"]), found.values["train_loss"], np.nan)
    np.testing.assert_allclose(grid["train_loss"].reshape(found.grid.shape), expected, rtol=1e-6)
    assert "1 cells have no height" not in capsys.readouterr().out
    assert h52vtp.main(["--surf_file", str(tmp_path / "v.h5"), "--interp", "20"]) == 2
    assert "--interp is of the polygons of a plane" in capsys.readouterr().err


@pytest.fixture
def rendering():
    if reason := surface_renderer.rendering_problem():
        pytest.skip(f"pyvista does not render here: {reason}")


@pytest.mark.pictures
@pytest.mark.usefixtures("rendering")
@pytest.mark.parametrize("camera", [Camera(42, -62), Camera(-30, 130)], ids=["above", "below"])
def test_the_eighth_that_faces_the_camera_is_cut_away(camera):
    found = volume_of(bowl, (9, 9, 9))
    scale = choose_colour_scale([found.fields["train_loss"]])
    block, opening = volume_renderer.cut_open(found, found.fields["train_loss"], scale, camera)
    assert block.n_cells == 7 * opening.n_cells == 7 * 32**3
    towards = np.asarray(opening.cell_centers().points) * camera.direction
    assert (towards > 0).all()
    low, high = scale.limits
    numbers = (np.asarray(block.points).T + 1) * 4
    cells = (np.abs(numbers - np.round(numbers)) < 1e-6).all(axis=0)
    x, y, z = np.linspace(-1, 1, 9)[np.round(numbers[:, cells]).astype(int)]
    expected = (scale.height(bowl(x, y, z)) - low) / (high - low)
    np.testing.assert_allclose(np.asarray(block["height"])[cells], expected, atol=1e-6)
    assert cells.sum() == 9**3 - 4**3


@pytest.mark.pictures
@pytest.mark.usefixtures("rendering")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_boxes_beside_a_cell_without_a_finite_value_are_left_out(value):
    found = volume_of(bowl, (9, 9, 9))
    found.values["train_loss"][2, 3, 4] = value
    scale = choose_colour_scale([bowl(0.0, 0.0, np.linspace(0, 1, 9))])
    parts = volume_renderer.cut_open(found, found.fields["train_loss"], scale, Camera(42, -62))
    assert sum(part.n_cells for part in parts) == 8**3 - 8


@pytest.mark.pictures
@pytest.mark.usefixtures("rendering")
def test_a_rendered_volume_says_what_it_shows(tmp_path):
    found = volume_of(bowl, (9, 9, 9))
    found.values["train_loss"][0, 0, 0] = np.nan
    write_surface(tmp_path / "v.h5", found)
    files = plot_volume.draw(tmp_path / "v.h5", render=True, files_as=figures.FigureFiles(("png",)))
    assert [Path(each).name for each in files] == ["v.h5_train_loss_slices.png", "v.h5_train_loss_cutaway.png"]
    with figures.style() as plt:
        scale = choose_colour_scale([found.fields["train_loss"]])
        fig = volume_renderer.cutaway_figure(plt, found, scale, "train_loss")
        words = fig.axes[0].get_xlabel()
    assert "surfaces of " in words
    assert "in the opening, of " in words
    assert "1 of 729 cells are not finite or not computed: left out" in words
    assert [text.get_text() for text in fig.axes[0].texts] == ["x: -1 to 1", "y: -1 to 1", "z: -1 to 1"]
    pixels = np.asarray(fig.axes[0].images[0].get_array()).astype(int)
    assert pixels.std() > 20


def rendered_levels(field: str, values: np.ndarray, vmax: float | None = None) -> list[float]:
    """The values of the outer and of the inner surface of a rendered volume, as its words say; none without them."""
    found = volume_of(bowl, (9, 9, 9))
    found.values[field] = values
    scale = choose_colour_scale([values], vmax=vmax)
    with figures.style() as plt:
        words = volume_renderer.cutaway_figure(plt, found, scale, field).axes[0].get_xlabel()
    return [float(each) for each in re.findall(r"of (-?[\d.]+)", words) if "in the opening" in words]


@pytest.mark.pictures
@pytest.mark.usefixtures("rendering")
def test_the_levels_of_a_rendered_volume_hold_their_shares_of_it():
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij")
    loss = 1 + 0 * x + y + 0 * z  # evenly distributed from 0 to 2
    outer, inner = rendered_levels("train_loss", loss)
    assert (outer, inner) == (pytest.approx(1.2, abs=0.05), pytest.approx(0.04, abs=0.03))
    inner_loss = inner
    outer, inner = rendered_levels("train_acc", 50 * loss)
    assert (outer, inner) == (pytest.approx(40, abs=2.5), pytest.approx(98, abs=1.5))
    assert rendered_levels("train_loss", np.ones_like(loss)) == []
    assert rendered_levels("train_loss", loss, vmax=1.0) == [inner_loss]  # the body is the whole block
    half = np.where(x + y - z > 0.3, np.nan, loss)  # nothing is known of the opening
    assert rendered_levels("train_loss", half)


@pytest.mark.commands
def test_the_command_computes_continues_and_draws_a_volume(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "net.safetensors", "resnet20")
    words = surface_command(checkpoint, tmp_path / "v.h5", "--z=-1:1:2", "--x=-1:1:3", "--y=-1:1:2", model="resnet20")
    assert plot_surface.main([*words, "--znorm", "filter", "--zignore", "biasbn", "--plot"]) == 0
    assert (tmp_path / "v.h5_train_loss_slices.png").exists()
    found, directions = read_surface(tmp_path / "v.h5"), read_directions(tmp_path / "v.h5")
    assert found.grid.shape == (2, 2, 3)
    assert directions.about["z"].startswith("random, norm=filter, ignore=biasbn")
    assert directions.extra["lengths"].shape[1] == 4
    capsys.readouterr()
    assert plot_surface.main([*words, "--znorm", "filter", "--zignore", "biasbn"]) == 0
    assert "12 of 12 cells" in capsys.readouterr().out
    assert plot_surface.main([*words, "--znorm", "layer"]) == 3
    assert "was made with other directions" in capsys.readouterr().err
    for more, line in (
        (["--proj_file", "p.h5"], "--proj_file is drawn on a plane, and --z makes a volume"),
        (["--same_dir"], "--same_dir takes the x direction for y, and a volume has three: leave out --z"),
    ):
        assert plot_surface.main([*words, *more]) == 2
        assert line in capsys.readouterr().err


@pytest.mark.commands
def test_a_volume_of_eigenvalues_is_drawn_too(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "net.safetensors", "mlp")
    axes = ["--x=-1:1:2", "--y=-1:1:2", "--z=-1:1:2", "--most", "4", "--plot"]
    assert plot_hessian_eigen.main(surface_command(checkpoint, tmp_path / "e.h5", *axes)) == 0
    assert (tmp_path / "e.h5_max_eig_slices.png").exists()
