"""Figures from saved files alone: not blank, not misleading, without torch."""

import re
import subprocess
import sys
from dataclasses import replace

import h5py
import matplotlib.image
import numpy as np
import pytest
from conftest import ROOT, statistics_row

from lossatlas import figures
from lossatlas.commands import flatness, h52vtp, plot_1D, plot_2D, plot_spectrum
from lossatlas.errors import BadUsage
from lossatlas.figures import matplotlib_style
from lossatlas.figures.contour_plots import draw_contours, draw_filled_contours, flat_figure
from lossatlas.figures.line_plots import AxisLimits, lines_figure
from lossatlas.figures.panels import surface_panel
from lossatlas.figures.solid_layout import corners_of, meet
from lossatlas.figures.surface_plots import solid_figure
from lossatlas.figures.surface_scene import SurfaceScene
from lossatlas.figures.surface_sheets import height_interpolant
from lossatlas.io import Projection, read_surface, write_surface
from lossatlas.landscape import Grid, Surface

pytestmark = pytest.mark.pictures

KINDS = ["2dcontour", "2dcontourf", "2dheat", "3dsurface"]


def surface_of(function, x="-1:1:9", y="-1:1:8", cells=None) -> Surface:
    grid = Grid.parse(x, y)
    values = np.array([function(*grid.point(k)) for k in range(grid.size)], float)
    with np.errstate(over="ignore"):
        rows = np.stack([[statistics_row([v] * 10, metrics=[5])] for v in values])
    chosen = grid.coarse_first()[:cells]
    return Surface.empty(grid, {"train": 10}, ("accuracy",)).with_cells(chosen, rows[chosen])


def bowl(a, b):
    return 0.1 + a * a + 3 * b * b


def diverging(a, b):
    return np.nan if a < -0.9 else np.inf if a > 0.9 else 0.1 + np.exp(12 * abs(a * b) ** 0.5)


def scene_of(panels, scale, zlim=None, camera=None, **keywords):
    """The axis and the scene of surfaces in one box."""
    with figures.style() as plt:
        fig = solid_figure(
            plt, panels, scale, "train_loss", zlim=zlim, camera=camera, overlay=len(panels) > 1, **keywords
        )
        fig.draw_without_rendering()
    (scene,) = (each for each in fig.axes[0].get_children() if isinstance(each, SurfaceScene))
    return fig.axes[0], scene


full = pytest.mark.full
PNG = ("--format", "png")  # the PDF is tested where it matters


def drawn(folder, *args) -> list[str]:
    assert plot_2D.main([*map(str, args)]) == 0
    return sorted(p.name for p in folder.iterdir() if p.suffix in {".png", ".pdf", ".svg"})


def assert_is_a_picture(path):
    pixels = matplotlib.image.imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 300 * matplotlib_style.DPI / 200
    assert pixels.std() > 0.02, f"{path} is blank"


def constant(a, b):
    return 3.0


def slope(a, b):
    return -a


def tiny(a, b):
    return 1e-9 * (1 + a)


ANY = (bowl, diverging, constant, slope, tiny)
FEW = {(bowl, None), (diverging, 30), (diverging, 1), (constant, 30), (slope, 1), (tiny, None)}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("function", "cells"),
    [pytest.param(f, n, marks=[full] * ((f, n) not in FEW)) for n in (None, 30, 1) for f in ANY],
)
def test_four_figures_of_any_surface(tmp_path, function, cells):
    write_surface(tmp_path / "s.h5", surface_of(function, cells=cells))
    if cells == 1 and not np.isfinite(function(-1, -1)):
        assert plot_2D.main(["-f", str(tmp_path / "s.h5")]) == 2
        return
    both = (function, cells) == (bowl, None) or (function, cells) not in FEW
    names = drawn(tmp_path, "-f", tmp_path / "s.h5", *(() if both else PNG))
    endings = ("pdf", "png") if both else ("png",)
    assert names == sorted(f"s.h5_train_loss_{kind}.{ext}" for kind in KINDS for ext in endings)
    for kind in KINDS:
        assert_is_a_picture(tmp_path / f"s.h5_train_loss_{kind}.png")


def test_what_is_not_finite_is_marked_in_every_figure():
    """In three dimensions too: at the top where it is plus infinity, otherwise at the bottom."""
    surface = surface_of(
        lambda a, b: np.nan if a < -0.9 else -np.inf if b < -0.9 else np.inf if a > 0.9 else bowl(a, b)
    )
    odd = int((~np.isfinite(surface.fields["train_loss"])).sum())
    panels = [surface_panel(surface, "train_loss", "one")]
    shared = figures.choose_colour_scale([surface.fields["train_loss"]])
    with figures.style() as plt:
        fig = solid_figure(plt, panels, shared, "train_loss")
    marks = [line for line in fig.axes[0].lines if line.get_label() == "not finite"]
    x, _, z = marks[0].get_data_3d()
    assert len(x) == odd
    assert set(np.asarray(z)[np.asarray(x) > 0.9]) >= {shared.limits[1]}
    assert set(np.asarray(z)[np.asarray(x) < -0.9]) == {fig.axes[0].get_zlim()[0]}
    assert fig.axes[0].get_legend() is not None


def test_infinite_values_are_holes_or_as_large_as_the_largest(tmp_path):
    odd = surface_of(diverging, y="-1:1:9")
    values = odd.fields["train_loss"]
    hole, lifted = (surface_panel(odd, "train_loss", "", infinite_as_largest=lift) for lift in (False, True))
    assert np.isinf(hole.values).sum() == 9
    assert (lifted.values[:, -1] == values[np.isfinite(values)].max()).all()
    assert np.isnan(lifted.values[:, 0]).all()  # is no infinity
    assert "9 infinite cells" in lifted.note
    write_surface(tmp_path / "s.h5", odd)
    assert plot_2D.draw([tmp_path / "s.h5"], infinite="largest", log=True, files_as=figures.FigureFiles(("png",)))


def test_of_curves_that_are_alike_each_is_seen():
    line, same, other = (
        surface_of(f, y=None) for f in (bowl, lambda a, b: bowl(a, b) * 1.001, lambda a, b: bowl(a, b) + 1)
    )
    for curves, several in (([line, same], 2), ([line, other], 1)):
        with figures.style() as plt:
            fig = lines_figure(plt, curves, ["a", "b"], AxisLimits())
        assert len({drawn_line.get_linewidth() for drawn_line in fig.axes[0].lines}) == several


def test_several_surfaces_share_one_scale(tmp_path):
    for name, factor in (("a", 1), ("b", 10)):
        write_surface(tmp_path / f"{name}.h5", surface_of(lambda x, y, f=factor: f * bowl(x, y)))
    names = drawn(
        tmp_path, "-f", tmp_path / "a.h5", tmp_path / "b.h5", "--labels", "one", "ten", "--out", tmp_path / "both", *PNG
    )
    assert "both_train_loss_2dcontourf.png" in names
    assert_is_a_picture(tmp_path / "both_train_loss_3dsurface.png")


def test_the_scale_keeps_a_diverging_surface_readable():
    values = np.array([0.01, 0.5, 2, 3, 40, 1e12, np.inf, np.nan])
    found = figures.choose_colour_scale([values])
    assert found.log
    assert found.above
    assert found.low == 0.01
    assert found.high <= 1e5 * (0.01 + found.shift) * (1 + 1e-9)
    assert 6 <= len(found.levels) <= 20
    assert np.isfinite(found.height(values[:-1])).all()
    assert np.isnan(found.height(values[-1]))
    assert found.height(1e12) > found.limits[1]


def test_a_deep_basin_is_no_needle():
    """The height of the release of 2018, ln(loss + 0.1); --log takes the plain logarithm."""
    values = np.array([0.0006, 0.02, 0.5, 30.0])
    found = figures.choose_colour_scale([values])
    assert found.shift == 0.1
    np.testing.assert_allclose(found.height(values), np.log10(values + 0.1))
    assert found.label_at(float(found.height(0.5))) == "0.5"
    assert {0.1, 1, 10} <= set(found.levels)
    plain = figures.choose_colour_scale([values], log=True)
    assert plain.shift == 0
    np.testing.assert_allclose(plain.height(values), np.log10(values))
    assert (
        figures.choose_colour_scale([values * 1e-3]).shift == 0
    )  # small everywhere: there is no ground that it lies far below
    assert figures.choose_colour_scale([values + 1]).shift == 0


def test_contours_follow_the_interpolant_where_it_can_be_trusted_and_keep_the_cells():
    smooth = surface_panel(surface_of(bowl), "train_loss", "one")
    x, y, z = smooth.refined(figures.choose_colour_scale([smooth.values]))
    assert len(x) > 4 * len(smooth.x)
    np.testing.assert_allclose(z, bowl(*np.meshgrid(x, y)), rtol=1e-3)
    rng = np.random.default_rng(0)
    noise = surface_panel(surface_of(lambda a, b: rng.uniform(1, 2)), "train_loss", "two")
    x, y, z = noise.refined(figures.choose_colour_scale([noise.values]))
    assert z.max() == noise.values.max()  # straight between the cells: nothing is invented
    assert z.min() == noise.values.min()
    times = (len(x) - 1) // (len(noise.x) - 1)
    np.testing.assert_array_equal(z[::times, ::times], noise.values)


@pytest.mark.parametrize(("huge", "trusted"), [(1e3, True), (-50.0, True), (1e3, False)])
def test_no_figure_invents_pits_or_towers_beside_a_cell_that_differs_from_all_others(huge, trusted):
    rng = np.random.default_rng(0)
    odd, shape = (0.125, -0.375), ("-1:1:17", "-1:1:17")

    def values(a, b):
        return huge if (a, b) == odd else bowl(a, b) if trusted else rng.uniform(1, 5)

    p = surface_panel(surface_of(values, *shape), "train_loss", "one")
    assert (p._interpolant is not None) == trusted
    scale = figures.choose_colour_scale([p.values], linear=True)
    x, y, z = p.refined(scale)
    i, j = (np.clip(np.searchsorted(p.x, each, "right") - 1, 0, 15) for each in (x, y))
    corners = np.stack([p.values[j[:, None] + down, i + right] for down in (0, 1) for right in (0, 1)])
    slack = 0.01
    assert (z > corners.min(0) - slack).all()
    assert (z < corners.max(0) + slack).all()
    times = (len(x) - 1) // 16
    np.testing.assert_array_equal(z[::times, ::times], p.values)  # cells keep what was computed
    points = rng.uniform(-1, 1, (4000, 2))  # of a path that is rendered: on the surface, not beside it
    heights = height_interpolant(p, scale).at(*points.T)[0]
    i, j = (np.searchsorted(axis, each, "right") - 1 for axis, each in zip((x, y), points.T, strict=True))
    around = scale.height(np.stack([z[j + down, i + right] for down in (0, 1) for right in (0, 1)]))
    assert (heights > around.min(0) - slack).all()
    assert (heights < around.max(0) + slack).all()


def test_no_contour_is_dashed_and_no_label_is_cut_off_or_on_another():
    p = surface_panel(surface_of(lambda a, b: 1e-3 + a * a + b * b), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values], log=True)
    assert shared.height(shared.levels).min() < 0  # which matplotlib would draw dashed
    with figures.style() as plt:
        for draw_panel in (draw_contours, draw_filled_contours):
            fig = flat_figure(plt, [p], shared, "train_loss", draw_panel)
            axis = fig.axes[0]
            for lines in (each for each in axis.collections if hasattr(each, "levels")):
                assert all(dash[1] is None for dash in lines.get_linestyle())
            fig.canvas.draw()
            boxes = [t.get_window_extent() for t in axis.texts if t.get_visible()]
            frame = axis.get_window_extent()
            for k, box in enumerate(boxes):
                assert frame.x0 <= box.x0
                assert box.x1 <= frame.x1
                assert frame.y0 <= box.y0
                assert box.y1 <= frame.y1
                assert not any(box.overlaps(other) for other in boxes[:k])
            assert draw_panel is draw_filled_contours or len(boxes) >= 2


@pytest.mark.parametrize("degrees", [0, 60, 90])
def test_labels_of_contours_leave_the_mark_of_the_lowest_cell_free(degrees):
    """Along a ravine they are turned."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    p = surface_panel(
        surface_of(lambda a, b: 0.02 + 2 * (c * a + s * b) ** 2 + 600 * (c * b - s * a) ** 2, "-1:1:33", "-1:1:33"),
        "train_loss",
        "one",
    )
    shared = figures.choose_colour_scale([p.values], log=True)
    with figures.style() as plt:
        fig = flat_figure(plt, [p], shared, "train_loss", draw_contours)
    axis = fig.axes[0]
    fig.canvas.draw()
    texts = [t for t in axis.texts if t.get_visible()]
    assert len(texts) > 1
    place = axis.transData.transform((0, 0))
    mark = 4 / 72 * fig.dpi  # half of its size
    around = place + mark * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    assert not any(meet(corners_of(text), around) for text in texts)


def test_the_colour_of_a_minimum_is_its_own():
    """A pixel has the colour of the height at its place, not that of a whole cell."""
    p = surface_panel(surface_of(lambda a, b: 1e-3 + 4 * (a * a + b * b)), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values], log=True)
    _, scene = scene_of([p], shared, camera=figures.Camera(89, -60))
    found = scene.sheets[0].colours(scene.sheets[0].heights)[..., :3]
    lowest = matplotlib.colormaps[shared.colour_map](0.0)[:3]
    assert np.abs(found - lowest).max(-1).min() < 0.02


def test_two_surfaces_over_each_other_and_other_files(tmp_path, capsys):
    for name, factor in (("a", 1), ("b", 3)):
        write_surface(tmp_path / f"{name}.h5", surface_of(lambda x, y, f=factor: f * bowl(x, y)))
    both = ["-f", tmp_path / "a.h5", tmp_path / "b.h5", "--out", tmp_path / "both", "--labels", "$\\foo$", "b"]
    looks = [
        "--layout",
        "overlay",
        "--format",
        "svg,png",
        "--dpi",
        "60",
        "--title",
        "a $x",
        "--elev",
        "20",
        "--azim",
        "-30",
    ]
    names = drawn(tmp_path, *both, *looks)
    assert sorted(n for n in names if n.startswith("both")) == sorted(
        f"both_train_loss_{kind}.{ending}"
        for kind in ("2dcontour", "2dcontourf", "2dheat", "3dsurface")
        for ending in ("svg", "png")
    )
    assert_is_a_picture(tmp_path / "both_train_loss_3dsurface.png")
    pixels = matplotlib.image.imread(tmp_path / "both_train_loss_2dheat.png").shape[0]
    drawn(tmp_path, *both, "--layout", "overlay", *PNG, "--dpi", "120", "--title", "a $x")
    assert matplotlib.image.imread(tmp_path / "both_train_loss_2dheat.png").shape[0] == pytest.approx(
        2 * pixels, rel=0.05
    )
    for argv, word in (
        (["--format", "gif"], "none of pdf, png, svg"),
        (["--layout", "overlay"], "at least two"),
        (["--dpi", "100000"], "at most 2400"),
        (["--dpi", "1"], "at least 20"),
    ):
        assert plot_2D.main(["-f", str(tmp_path / "a.h5"), *argv]) == 2
        assert word in capsys.readouterr().err


def test_a_contour_at_the_lowest_level_is_where_it_is(tmp_path):
    """Values below are not cut off at it before the line is drawn."""
    p = surface_panel(surface_of(lambda a, b: 2 + a), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values], vmin=1.5, vmax=2.6, vlevel=0.5)
    with figures.style() as plt:
        fig = flat_figure(plt, [p], shared, "train_loss", draw_contours)
    lines = next(each for each in fig.axes[0].collections if hasattr(each, "levels"))
    np.testing.assert_allclose([path.vertices[:, 0].mean() for path in lines.get_paths()], [-0.5, 0.0, 0.5], atol=1e-9)


def test_a_plateau_has_no_holes_and_no_contours_of_rounding():
    p = surface_panel(surface_of(lambda a, b: min(100.0, 130 - 60 * (a * a + b * b))), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values])
    assert np.nanmax(p.refined(shared)[2]) == 100
    _, scene = scene_of([p], shared, camera=figures.Camera(89.9, -90))
    picture = scene._view(1.0).picture
    inner = picture[len(picture) // 10 : -len(picture) // 10, len(picture[0]) // 10 : -len(picture[0]) // 10]
    assert (inner[..., 3] == 255).all()  # no face is missing
    flat = surface_panel(surface_of(lambda a, b: 0.1 if (a, b) == (0, 0) else 5.0), "train_loss", "two")
    assert len(np.unique(flat.refined(shared)[2][:3])) == 1


def test_surfaces_over_different_planes_are_not_drawn_over_each_other(tmp_path, capsys):
    write_surface(tmp_path / "a.h5", surface_of(bowl))
    write_surface(tmp_path / "b.h5", surface_of(bowl, "-2:2:9", "-2:2:9"))
    both = ["-f", str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), "--out", str(tmp_path / "c")]
    assert plot_2D.main([*both, "--layout", "overlay"]) == 2
    assert "same part of a plane" in capsys.readouterr().err
    panels = [
        surface_panel(surface_of(bowl, *ranges), "train_loss", "")
        for ranges in (("-1:1:9", "-1:1:8"), ("-2:2:9", "-2:2:9"))
    ]
    with figures.style() as plt:
        fig = flat_figure(
            plt, panels, figures.choose_colour_scale([p.values for p in panels]), "train_loss", draw_filled_contours
        )
    assert [axis.get_ylim() for axis in fig.axes[:2]] == [(-1, 1), (-2, 2)]


def test_an_axis_that_does_not_increase_is_refused(tmp_path, capsys):
    grid = Grid(np.linspace(1, -1, 5), np.linspace(-1, 1, 5))
    surface = Surface.of_values(grid, ["train_loss"]).with_cells(range(25), np.arange(25.0)[:, None])
    write_surface(tmp_path / "s.h5", surface)
    assert plot_2D.main(["-f", str(tmp_path / "s.h5")]) == 3
    assert "'xcoordinates' does not increase" in capsys.readouterr().err
    assert plot_2D.main(["-f", str(tmp_path / "t.h5")]) == 3
    capsys.readouterr()
    wide = Grid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5))
    huge = Surface.of_values(wide, ["train_loss"]).with_cells(range(25), np.linspace(-1e308, 1e308, 25)[:, None])
    write_surface(tmp_path / "t.h5", huge)
    assert plot_2D.main(["-f", str(tmp_path / "t.h5")]) == 2
    assert "wider than numbers go" in capsys.readouterr().err


def test_the_scale_of_an_ordinary_surface_is_linear_and_keeps_what_is_given():
    found = figures.choose_colour_scale([np.linspace(1, 5, 20)])
    assert not found.log
    assert not found.above
    given = figures.choose_colour_scale([np.linspace(0.01, 50, 20)], vmin=0.1, vmax=10, vlevel=0.5)
    np.testing.assert_allclose(given.levels, np.arange(0.1, 10, 0.5))
    assert given.above
    assert given.below
    assert given.extend == "both"
    for wrong in ({"vmin": 3, "vmax": 1}, {"vlevel": 0.0}, {"vlevel": 1e-9}):
        with pytest.raises(BadUsage):
            figures.choose_colour_scale([np.linspace(1, 5, 20)], **wrong)
    with pytest.raises(BadUsage, match="nothing to draw"):
        figures.choose_colour_scale([np.array([np.nan, np.inf])])


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e3), (0.5, 30), (1, 1e6), (2e-5, 1e-3), (3, 3.5)])
def test_logarithmic_levels_are_round_and_inside(low, high):
    levels = figures.choose_colour_scale([np.array([low, high])], log=True).levels
    assert (levels >= low * 0.999).all()
    assert (levels <= high * 1.001).all()
    assert len(levels) >= 2


def test_labels_have_no_exponent_up_to_a_million():
    assert [figures.format_value(v) for v in (0.001, 0.3, 3, 3000, 2e5, 1e7)] == [
        "0.001",
        "0.3",
        "3",
        "3000",
        "200000",
        "1e+07",
    ]


def test_another_field_and_a_trajectory(tmp_path):
    write_surface(tmp_path / "s.h5", surface_of(bowl))
    with h5py.File(tmp_path / "p.h5", "w") as f:
        f["proj_xcoord"], f["proj_ycoord"] = [0.9, 0.5, 0.0], [-0.5, 0.1, 0.0]
    with h5py.File(tmp_path / "d.h5", "w") as f:
        f["explained_variance_ratio_"] = [0.7, 0.2]
    names = drawn(
        tmp_path,
        "-f",
        tmp_path / "s.h5",
        "--surf_name",
        "train_acc",
        "--proj_file",
        tmp_path / "p.h5",
        "--dir_file",
        tmp_path / "d.h5",
        *PNG,
    )
    assert "s.h5_train_acc_2dcontour.png" in names


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--surf_name", "train_lss"], 2),
        (["--labels", "a", "b"], 2),
        (["--vmin", "9", "--vmax", "1"], 2),
        (["--zlim", "0"], 2),
        (["--log", "--vlevel", "1"], 2),
        (["--proj_file", "absent.h5"], 3),
        (["--out", "no/folder/x"], 5),
    ],
)
def test_bad_requests_are_one_line(tmp_path, capsys, args, code):
    write_surface(tmp_path / "s.h5", surface_of(bowl))
    try:
        ended = plot_2D.main(["-f", str(tmp_path / "s.h5"), *args])
    except SystemExit as error_of_options:  # found before the file is read
        ended = error_of_options.code
    assert ended == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_curves_and_surfaces_are_not_mixed_up(tmp_path, capsys):
    write_surface(tmp_path / "line.h5", surface_of(bowl, y=None))
    write_surface(tmp_path / "plane.h5", surface_of(bowl))
    assert plot_2D.main(["-f", str(tmp_path / "line.h5")]) == 3
    assert plot_1D.main(["-f", str(tmp_path / "plane.h5")]) == 3
    assert "draw it with lossatlas plot-1d\n" in capsys.readouterr().err


def test_commands_take_expressions_of_fields(tmp_path, capsys):
    line, plane, field = tmp_path / "line.h5", tmp_path / "plane.h5", "exp(train_loss / 2)"
    write_surface(line, surface_of(bowl, y=None))
    write_surface(plane, surface_of(bowl))
    name = "exp_train_loss_2"
    assert plot_1D.main(["-f", str(line), "--surf_name", field, *PNG]) == 0
    assert_is_a_picture(tmp_path / f"line.h5_1d_field_{name}.png")
    assert plot_1D.main(["-f", str(line), str(line), "--surf_name", "train_loss", *PNG]) == 0
    assert plot_2D.main(["-f", str(plane), "--surf_name", field, *PNG]) == 0
    assert_is_a_picture(tmp_path / f"plane.h5_{name}_2dcontour.png")
    capsys.readouterr()
    assert flatness.main(["-f", str(plane), "--surf_name", field]) == 0
    expected = np.exp(read_surface(plane).fields["train_loss"] / 2)
    lowest = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("lowest cell"))
    assert float(lowest.split()[-1]) == pytest.approx(expected.min(), rel=1e-3)
    assert h52vtp.main(["--surf_file", str(plane), "--surf_name", field]) == 0
    assert plot_1D.main(["-f", str(line), "--surf_name", "train_los"]) == 2
    assert "has no field 'train_los' (did you mean train_loss?)" in capsys.readouterr().err
    assert plot_1D.main(["-f", str(line), "--surf_name", "exp(other)"]) == 2
    assert "--surf_name 'exp(other)'" in (said := capsys.readouterr().err)
    assert "no field 'other'" in said
    assert plot_1D.main(["-f", str(line), "--surf_name", "log(train_loss - 99)"]) == 2
    assert "there is nothing to draw" in capsys.readouterr().err


@pytest.mark.parametrize("function", [bowl, diverging])
@pytest.mark.parametrize("log", [[], ["--log"]])
def test_curves(tmp_path, function, log):
    write_surface(tmp_path / "s.h5", surface_of(function, x="-1:1:30", y=None))
    write_surface(tmp_path / "t.h5", surface_of(bowl, y=None, cells=4))
    assert plot_1D.main(["-f", str(tmp_path / "s.h5"), "--loss_max", "5", "--xmin", "-0.8", *log, *PNG]) == 0
    assert plot_1D.main(["-f", str(tmp_path / "s.h5"), str(tmp_path / "t.h5"), "--labels", "s", "t", *log, *PNG]) == 0
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 4
    for picture in pictures:
        assert_is_a_picture(picture)


def test_repeats_are_a_mean_with_its_spread(tmp_path, capsys):
    for idx in (1, 2, 3):
        line = surface_of(lambda x, y, k=idx: bowl(x, y) * k, x="-1:1:12", y=None)
        write_surface(tmp_path / f"run_{idx}.h5", line)
    assert plot_1D.main(["--prefix", str(tmp_path / "run"), "--idx_max", "3", *PNG]) == 0
    assert_is_a_picture(tmp_path / "run_1d_loss_err_repeat.png")
    assert plot_1D.main(["--prefix", str(tmp_path / "run"), "--idx_max", "4"]) == 3
    assert "run_4.h5" in capsys.readouterr().err
    assert plot_1D.main(["--prefix", str(tmp_path / "run"), "--idx_max", "1"]) == 2
    write_surface(tmp_path / "run_4.h5", surface_of(bowl, x="-1:1:9", y=None))
    assert plot_1D.main(["--prefix", str(tmp_path / "run"), "--idx_max", "4"]) == 3


def test_the_band_is_the_confidence_of_the_mean(tmp_path, capsys):
    """Against scipy's own interval; in 95 % of draws it holds the true mean."""
    from scipy import stats

    from lossatlas.landscape.repeats import mean_and_confidence

    draws = np.random.default_rng(0).normal(3.0, 2.0, (5, 4000))
    mean, half = mean_and_confidence(draws)
    found = stats.ttest_1samp(draws[:, 0], 0).confidence_interval(0.95)
    np.testing.assert_allclose([mean[0] - half[0], mean[0] + half[0]], [found.low, found.high])
    assert (np.abs(mean - 3.0) <= half).mean() == pytest.approx(0.95, abs=0.015)
    for prefix, factor in (("a", 1), ("b", 3)):
        for idx in (1, 2, 3):
            line = surface_of(lambda x, y, k=idx * factor: bowl(x, y) * k, x="-1:1:12", y=None)
            write_surface(tmp_path / f"{prefix}_{idx}.h5", replace(line, request={"directions": f"{prefix}{idx}"}))
    both = ["--prefix", str(tmp_path / "a"), str(tmp_path / "b"), "--idx_max", "3", "--labels", "small", "large"]
    assert plot_1D.main(both) == 0
    assert_is_a_picture(tmp_path / "a_1d_loss_err_repeat.png")
    write_surface(tmp_path / "b_3.h5", replace(line, request={"directions": "b1"}))
    assert plot_1D.main(both) == 3
    assert "the same direction" in capsys.readouterr().err


def test_eigenvalues_get_a_figure_of_their_ratio(tmp_path):
    for name, y in (("line", None), ("plane", "-1:1:7")):
        surface = surface_of(bowl, y=y)
        largest = np.where(surface.fields["train_loss"] > 1, -1.0, 5.0)
        values = {"min_eig": -surface.fields["train_loss"], "max_eig": largest}
        write_surface(tmp_path / f"{name}.h5", replace(surface, values=values))
    ratio = figures.eigen_ratio(replace(surface, values=values))
    assert np.isnan(ratio[largest < 0]).all()
    np.testing.assert_allclose(ratio[largest > 0], surface.fields["train_loss"][largest > 0] / 5)
    assert plot_1D.main(["-f", str(tmp_path / "line.h5"), *PNG]) == 0
    assert plot_2D.main(["-f", str(tmp_path / "plane.h5"), *PNG]) == 0
    assert_is_a_picture(tmp_path / "line.h5_1d_eig_ratio.png")
    assert_is_a_picture(tmp_path / "plane.h5_min_eig_max_eig_abs_ratio_heat_sns.png")


def test_more_files_than_colours_are_all_drawn(tmp_path, monkeypatch):
    files = []
    for k in range(12):
        files.append(str(tmp_path / f"{k}.h5"))
        write_surface(files[-1], surface_of(lambda x, y, k=k: bowl(x, y) + k, y=None))
    drawn = []
    monkeypatch.setattr(
        "lossatlas.figures.line_plots.draw_curve", lambda axis, surface, name, **style: drawn.append(name)
    )
    assert plot_1D.main(["-f", *files]) == 0
    assert len(drawn) == 24


def test_a_loss_without_accuracy_has_no_figure_of_errors(tmp_path, recwarn):
    grid = Grid.parse("-1:1:5")
    surface = Surface.empty(grid, {"train": 10}, ()).with_cells(
        range(5), np.array([[statistics_row([k] * 10)] for k in range(1, 6)])
    )
    write_surface(tmp_path / "s.h5", surface)
    assert plot_1D.main(["-f", str(tmp_path / "s.h5")]) == 0
    assert {p.name for p in tmp_path.glob("*.png")} == {"s.h5_1d_loss_acc.png", "s.h5_1d_train_loss.png"}
    assert not recwarn.list


def test_a_density_contains_what_is_known_exactly():
    """The number of larger eigenvalues is exact where all are resolved, and never less than what is resolved."""
    from lossatlas.figures.spectrum_plots import spectrum_curves
    from lossatlas.hessian import density, lanczos, of_matrix
    from lossatlas.io.spectrum_files import Findings

    rng = np.random.default_rng(0)
    values = np.sort(np.concatenate([[100.0, 60, 45, 30, 20], rng.exponential(0.3, 392) - 0.1, [-2.0, -3, -4]]))[::-1]
    rotation = np.linalg.qr(rng.normal(size=(400, 400)))[0]
    operator = of_matrix((rotation * values) @ rotation.T)
    pairs = lanczos(operator, top=5, bottom=2, tolerance=1e-4)
    assert pairs.converged.all()
    curves = density(operator, probes=3, steps=30)
    arrays = {f"density/{name}": getattr(curves, name) for name in ("nodes", "weights", "sigma")}
    arrays |= {"eigenvalues": pairs.values[:5], "residuals": pairs.residuals[:5], "converged": pairs.converged[:5]}
    arrays |= {
        "smallest": pairs.values[5:][::-1],
        "smallest_residuals": pairs.residuals[5:][::-1],
        "smallest_converged": pairs.converged[5:][::-1],
    }
    found = spectrum_curves(Findings(arrays, {}), 400)
    assert found.known == 7
    exact = np.array([(values > g * (1 + 1e-9) if g > 0 else values > g).sum() for g in found.grid])
    clear = np.abs(found.grid[:, None] - values).min(1) > 1e-3
    above = (found.grid > 20.1) & clear
    np.testing.assert_allclose(found.larger[above], exact[above], atol=1e-9)
    below = (found.grid < -3.1) & clear
    np.testing.assert_allclose(found.larger[below], exact[below], atol=1e-9)
    assert found.larger[found.grid < 19.9].min() >= 5 - 1e-9
    assert found.larger[0] == pytest.approx(400)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=0.01)
    inner = found.grid[(found.grid > 0.3) & (found.grid < 1.0)]
    at = np.isin(found.grid, inner)
    assert (np.abs(found.larger[at] - exact[at]) <= 4 * found.larger_se[at] + 12).all()
    unknown = spectrum_curves(Findings({**arrays, "converged": np.array([False] * 5)}, {}), 400)
    assert unknown.known == 2


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("command", "columns"),
    [("plane", 1), ("line", 2), ("spectrum", 1)]
    + [pytest.param(*each, marks=full) for each in (("plane", 2), ("line", 1), ("spectrum", 2))],
)
def test_a_figure_has_the_width_of_a_paper_s_column(tmp_path, command, columns):
    """The page of the PDF, in points."""
    argv = ["--format", "pdf", "--columns", str(columns), "--title", "one"]
    if command == "plane":
        write_surface(tmp_path / "s.h5", surface_of(bowl))
        assert plot_2D.main(["-f", str(tmp_path / "s.h5"), *argv]) == 0
    elif command == "line":
        write_surface(tmp_path / "s.h5", surface_of(bowl, y=None))
        assert plot_1D.main(["-f", str(tmp_path / "s.h5"), *argv]) == 0
    else:
        file = ROOT / "docs" / "surfaces" / "spectrum.h5"
        assert plot_spectrum.main(["-f", str(file), "--out", str(tmp_path / "s"), *argv]) == 0
    pages = list(tmp_path.glob("*.pdf"))
    assert len(pages) >= 3
    for page in pages:
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", page.read_bytes())
        assert float(box.group(1)) / 72 == pytest.approx({1: 3.4, 2: 7.0}[columns], rel=0.005), page.name


def test_a_surface_is_cut_exactly_where_it_reaches_the_ceiling():
    p = surface_panel(surface_of(lambda a, b: 1 + a + 0.3 * b, "-1:1:9", "-1:1:9"), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values], log=False)
    _, scene = scene_of([p], shared, zlim=1.2, camera=figures.Camera(90, -90))
    x, y = (each.ravel() for each in np.meshgrid(*[np.linspace(-0.95, 0.95, 39)] * 2))
    heights = 1 + x + 0.3 * y
    seen = scene.seen(np.column_stack([x, y, heights]))
    assert seen[heights < 1.18].all()
    assert not seen[heights > 1.22].any()
    buffer, _ = scene.rasterized([scene.projected(each.corners) for each in scene.sheets], (400, 500))
    heights = scene.sheets[0].heights.ravel()[scene.sheets[0].triangles[buffer.triangle]]
    shown = (buffer.weights * heights).sum(-1)[buffer.triangle >= 0]
    assert 1.17 < shown.max() <= 1.2 + 1e-5


def test_a_path_on_a_surface_is_faint_where_the_surface_hides_it():
    """A ridge along y between the camera and one half of the path."""
    p = surface_panel(surface_of(lambda a, b: 1 + 5 * np.exp(-20 * a * a), "-1:1:33", "-1:1:33"), "train_loss", "one")
    path = Projection(np.linspace(-0.6, 0.6, 7), np.zeros(7))
    with figures.style() as plt:
        fig = solid_figure(
            plt,
            [p],
            figures.choose_colour_scale([p.values], log=False),
            "train_loss",
            camera=figures.Camera(15, 0),
            paths=[path],
        )
    faint, clear = (line.get_data_3d()[0] for line in fig.axes[0].lines[:2])  # seen from large x
    faint, clear = faint[np.isfinite(faint)], clear[np.isfinite(clear)]
    assert faint.max() < 0.05
    assert faint.min() < -0.35
    assert clear.max() > 0.55
    assert (np.diff(np.sort(np.concatenate([faint, clear]))) < 0.06).all(), "nothing of it is missing"


def test_checkpoints_have_the_colour_of_their_own_loss():
    p = surface_panel(surface_of(bowl), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values])
    path = Projection(np.array([0.5, 0.2, 0.0]), np.array([0.5, 0.1, 0.0]), loss=np.array([3.0, 1.0, 0.2]))
    with figures.style() as plt:
        fig = flat_figure(plt, [p], shared, "train_loss", draw_contours, paths=[path])
    dots = [each for each in fig.axes[0].collections if each.get_label() == "the checkpoint's own loss"]
    np.testing.assert_allclose(dots[0].get_array(), shared.height(path.loss))
    assert dots[0].get_clim() == shared.limits


def test_an_accuracy_has_a_linear_scale():
    values = np.array([[0.5, 3.0], [20.0, 99.0]])
    assert figures.choose_colour_scale([values]).log
    assert not figures.choose_colour_scale([values], linear=True).log
    assert figures.choose_colour_scale([values], log=True, linear=True).log


def test_a_long_title_and_long_names_fit_into_a_column(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", surface_of(bowl))
    words = "A long title about the loss surface of a very deep network indeed, on the images of CIFAR-10"
    argv = ["-f", str(tmp_path / "s.h5"), "--format", "pdf", "--columns", "1", "--title", words]
    assert plot_2D.main(argv) == 0
    for page in tmp_path.glob("*.pdf"):
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", page.read_bytes())
        assert float(box.group(1)) / 72 == pytest.approx(3.4, rel=0.005), page.name
        assert float(box.group(2)) / 72 > 2
    assert not capsys.readouterr().err


def test_an_elongated_plane_fills_its_figure():
    p = surface_panel(surface_of(lambda a, b: 1 + a * a + 100 * b * b, "-5:5:21", "-0.5:0.5:9"), "train_loss", "one")
    with figures.style() as plt:
        fig = flat_figure(plt, [p], figures.choose_colour_scale([p.values]), "train_loss", draw_filled_contours)
        fig.canvas.draw()
    axis = fig.axes[0]
    assert axis.get_ylim() == (-0.5, 0.5)
    box = axis.get_window_extent()
    assert 1.4 < box.width / box.height < 2
    assert "different scales" in axis.get_title()


def test_a_surface_above_the_scale_of_the_colours_is_as_high_as_it_is():
    p = surface_panel(surface_of(lambda a, b: 2 + 1.5 * a), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values], vmax=1.0)
    with figures.style() as plt:
        fig = solid_figure(plt, [p], shared, "train_loss", zlim=3.5)
    (scene,) = (each for each in fig.axes[0].get_children() if isinstance(each, SurfaceScene))
    assert scene.sheets[0].heights.max() == pytest.approx(3.5, abs=0.02)
    assert fig.axes[0].get_zlim()[1] == 3.5


def test_what_is_constant_but_for_rounding(tmp_path):
    write_surface(tmp_path / "s.h5", surface_of(lambda a, b: 1 + 1e-15 * a * a))
    assert plot_2D.main(["-f", str(tmp_path / "s.h5"), *PNG]) == 0


def test_the_surface_under_a_path_is_the_one_that_is_drawn():
    """Where the interpolant is not trusted, straight lines between the cells are."""
    from lossatlas.figures.trajectory_plots import describe_loss_ratio, surface_under_path

    rough = np.random.default_rng(0).uniform(1, 10, 81)
    surface = surface_of(lambda a, b: 1.0, "-1:1:9", "-1:1:9")
    values = iter(rough)
    surface = surface_of(lambda a, b: next(values), "-1:1:9", "-1:1:9")
    path = Projection(np.array([-1.0, -0.875, 5.0]), np.array([-1.0, -1.0, 0.0]), loss=np.array([1.0, 2.0, 3.0]))
    under = surface_under_path(surface, "train_loss", path, figures.choose_colour_scale([rough]))
    np.testing.assert_allclose(under[:2], [rough[0], (rough[0] + rough[1]) / 2], rtol=1e-6)
    assert np.isnan(under[2])
    assert "known of 2 of 3" in describe_loss_ratio(path, under)


def test_a_small_difference_of_losses_is_given_in_percent():
    from lossatlas.figures.trajectory_plots import describe_loss_ratio

    path = Projection(np.zeros(3), np.zeros(3), np.array([0.0, 4, 8]), np.ones(3), counted="step")
    words = describe_loss_ratio(path, np.array([1.0001, 1.0002, 1.0004]))
    assert words.endswith("differ by 0.02 % (median), 0.04 % at most (step 8)")
    assert describe_loss_ratio(path, np.array([2.0, 2, 3])).endswith(
        "by a factor of 2 (median), a factor of 3 at most (step 8)"
    )


def test_three_networks_and_their_average_are_marked(tmp_path):
    command = "python plot_surface.py --model_file nets/a.pt --model_file2 nets/b.pt --model_file3=nets/c.pt"
    surface = replace(surface_of(bowl, "-0.5:1.5:9", "-0.5:1.5:9"), about={"command": command})
    p = surface_panel(surface, "train_loss", "one")
    assert [(each.name, each.x, each.y) for each in p.networks] == [
        ("a", 0, 0),
        ("b", 1, 0),
        ("c", 0, 1),
        ("average of the three", 1 / 3, 1 / 3),
    ]
    with figures.style() as plt:
        fig = flat_figure(plt, [p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours)
    assert {"a", "b", "c", "average of the three"} <= {text.get_text() for text in fig.axes[0].texts}
    assert surface_panel(surface_of(bowl), "train_loss", "one").networks == ()


def test_a_marked_network_whose_path_has_spaces_has_its_whole_name():
    command = "python plot_surface.py --model_file 'my nets/first one.pt' --model_file2 nets/b.pt"
    surface = replace(surface_of(bowl, "-0.5:1.5:9", "-0.5:1.5:9"), about={"command": command})
    assert [each.name for each in surface_panel(surface, "train_loss", "one").networks] == ["first one", "b"]


@pytest.mark.parametrize("low", [-1.09, -0.02, -40.0])
def test_no_density_is_drawn_beyond_the_bounds_and_the_width_of_the_kernel(low):
    """A bulk near zero, a smallest eigenvalue and five large ones, as of a network, and the width that is stated."""
    from lossatlas.figures.matplotlib_style import OffscreenFigures
    from lossatlas.figures.spectrum_plots import density_figure
    from lossatlas.io.spectrum_files import Findings

    top = np.array([114.0, 80, 45, 29, 16])
    nodes = np.concatenate([[low], np.linspace(low / 10, 1, 40), top[::-1]])
    weights = np.full(len(nodes), 1e-5)
    weights[np.abs(nodes).argmin()] += 1 - weights.sum()
    arrays = {
        "density/nodes": np.stack([nodes] * 3),
        "density/weights": np.stack([weights] * 3),
        "density/sigma": np.array(0.01 * (top[0] - low)),
        "eigenvalues": top,
        "converged": np.ones(5, bool),
        "residuals": np.full(5, 1e-5),
        "smallest": np.array([low]),
        "smallest_converged": np.array([True]),
        "smallest_residuals": np.array([1e-5]),
    }
    fig = density_figure(OffscreenFigures(), Findings(arrays, {}, about={"parameters": [("w", (1000, 270))]}))
    left = fig.axes[0]
    stated = float(re.search(r"kernel ± (\S+) around", left.get_title()).group(1))
    line = left.get_lines()[0]
    x, y = line.get_xdata(), line.get_ydata()
    drawn = x[y > left.get_ylim()[0] * (1 + 1e-9)]
    assert low - 1.05 * stated <= drawn[0]
    assert drawn[-1] <= 114 + 1.05 * stated
    assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)
    bulk = x[y > 1e-3 * y.max()]  # no more than the kernel is added to it, and it does not hide the smallest eigenvalue
    assert bulk[0] >= low / 10 - 1.05 * stated
    assert stated <= 1.05 * max(abs(low) / 2, 0.004 * (114 - low))


@pytest.mark.parametrize("cells", [5, 7])
def test_contours_of_a_coarse_grid_are_round_where_the_surface_is(cells):
    """exp(14 r), of which no interpolant of so few cells can be trusted: straight lines between heights, not values."""
    p = surface_panel(surface_of(lambda a, b: np.exp(14 * np.hypot(a, b)), *[f"-1:1:{cells}"] * 2), "train_loss", "one")
    shared = figures.choose_colour_scale([p.values], log=True)
    with figures.style() as plt:
        fig = flat_figure(plt, [p], shared, "train_loss", draw_contours)
    lines = next(each for each in fig.axes[0].collections if hasattr(each, "levels"))
    found = 0
    for height, path in zip(lines.levels, lines.get_paths(), strict=True):
        expected = height * np.log(10) / 14
        if (
            not 2 / (cells - 1) < expected < 0.95
        ):  # not in the innermost cells, where there is one node, nor through the frame
            continue
        radius = np.hypot(*path.vertices.T)
        assert radius.max() / radius.min() < 1.12
        assert radius.mean() == pytest.approx(expected, rel=0.1)
        found += 1
    assert found >= 3


def test_heights_between_cells_hold_the_cells_and_leave_holes(tmp_path):
    """On a logarithmic scale with a shift too, and with a field that a given range cuts at both ends."""
    rng = np.random.default_rng(0)
    rough = surface_of(lambda a, b: 10 ** rng.uniform(-3, 3))
    p = surface_panel(rough, "train_loss", "one")
    for shared in (
        figures.choose_colour_scale([p.values]),
        figures.choose_colour_scale([p.values], vmin=0.5, vmax=40),
        figures.choose_colour_scale([p.values], linear=True),
    ):
        x, _, z = p.refined(shared)
        times = (len(x) - 1) // (len(p.x) - 1)
        np.testing.assert_array_equal(z[::times, ::times], p.values)
        middle = shared.value_at(shared.height((p.values[0, 0], p.values[0, 1])).mean())
        at = times // 2
        if times % 2 == 0 and shared.low <= p.values[0, :2].min() and p.values[0, :2].max() <= shared.high:
            assert z[0, at] == pytest.approx(float(middle), rel=1e-9)
        assert z.min() >= p.values.min() * (1 - 1e-9)
        assert z.max() <= p.values.max() * (1 + 1e-9)


@pytest.mark.commands
def test_figures_have_two_hundred_dots_per_inch_unless_others_are_asked_for(tmp_path, monkeypatch, capsys):
    """As the help says; tests draw coarser ones, see conftest."""
    with pytest.raises(SystemExit):
        plot_1D.main(["--help"])
    assert "--dpi DPI" in (told := " ".join(capsys.readouterr().out.split()))
    assert "of pictures (default: 200)" in told
    code = "import sys, lossatlas.figures; print(sys.modules['lossatlas.figures.matplotlib_style'].DPI)"
    usual = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert usual.stdout == "200\n"
    write_surface(tmp_path / "s.h5", surface_of(bowl, y=None))
    widths = []
    for dpi, argv in ((50, []), (100, []), (50, ["--dpi", "100"])):
        monkeypatch.setattr(matplotlib_style, "DPI", dpi)
        assert plot_1D.main(["-f", str(tmp_path / "s.h5"), *PNG, *argv]) == 0
        widths.append(matplotlib.image.imread(tmp_path / "s.h5_1d_loss_acc.png").shape[1])
    assert widths[1] == widths[2] == pytest.approx(2 * widths[0], rel=0.02)


def test_the_house_style_leaves_parameters_alone_that_a_backend_sets_within():
    """A notebook's backend becomes interactive when the first figure is made; otherwise later ones are not shown."""
    import matplotlib as mpl

    from lossatlas.figures.matplotlib_style import house_style, users_style

    for style in (house_style, users_style):
        before = {"interactive": mpl.rcParams["interactive"], "axes.grid": mpl.rcParams["axes.grid"]}
        try:
            mpl.rcParams["axes.grid"] = True
            with style():
                mpl.rcParams["interactive"] = True
            assert mpl.rcParams["interactive"]
            assert mpl.rcParams["axes.grid"]
        finally:
            mpl.rcParams.update(before)
