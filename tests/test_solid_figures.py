"""Surfaces in three dimensions: hidden parts against rays, overlays that are cut open, checkpoints, shares, labels."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from test_plots import bowl, scene_of, surface_of

from lossatlas import figures
from lossatlas.figures.camera import Camera
from lossatlas.figures.clipped_parts import cells_outside, clipped_in_words, percent
from lossatlas.figures.depth_buffer import NO_TRIANGLE, nearest_triangles
from lossatlas.figures.panels import surface_panel
from lossatlas.figures.solid_layout import NOTES, corners_of, fit_height, meet, place_for_film
from lossatlas.figures.surface_light import BRIGHTNESS, DARKEST, brightness, open_sky
from lossatlas.figures.surface_plots import HATCH, solid_figure
from lossatlas.figures.surface_scene import SurfaceScene
from lossatlas.io import Projection

pytestmark = pytest.mark.pictures


def panel(function, label="one", side="-1:1:9"):
    return surface_panel(surface_of(function, side, side), "train_loss", label)


def figure_of(panels, **keywords):
    scale = figures.choose_colour_scale([p.values for p in panels], log=False)
    with figures.style() as plt:
        fig = solid_figure(plt, panels, scale, "train_loss", **keywords)
        fig.draw_without_rendering()
    return fig


def first_hit(corners, triangles, point, levels, within):
    """The nearest triangle under a point of the picture, by one linear system for each triangle."""
    best, found = np.inf, NO_TRIANGLE
    for k, three in enumerate(triangles):
        system = np.vstack([corners[three, :2].T, np.ones(3)])
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        weights = np.linalg.solve(system, [*point, 1])
        level = weights @ levels[three]
        if (weights >= 0).all() and within[0] <= level <= within[1] and weights @ corners[three, 2] < best:
            best, found = weights @ corners[three, 2], k
    return found


@pytest.mark.parametrize("pieces", [1, 37, 10**6])
def test_each_pixel_shows_the_nearest_triangle(monkeypatch, pieces):
    monkeypatch.setattr("lossatlas.figures.depth_buffer.FRAGMENTS", pieces)
    random = np.random.default_rng(0)
    corners = np.column_stack([random.uniform(-4, 24, 40), random.uniform(-4, 18, 40), random.uniform(0, 1, 40)])
    triangles, levels = random.integers(0, 40, (50, 3)), random.uniform(0, 1, 40)
    corners[3] = np.nan  # no surface there
    found = nearest_triangles(corners, triangles, (14, 20), levels, (0.2, 0.9))
    known = np.array([three if 3 not in three else (0, 0, 0) for three in triangles])
    clean = np.nan_to_num(corners)
    for row in range(14):
        for column in range(20):
            expected = first_hit(clean, known, (column + 0.5, row + 0.5), levels, (0.2, 0.9))
            assert found.triangle[row, column] == expected, (row, column)


@pytest.mark.few(1)
@pytest.mark.parametrize("camera", [Camera(32, -60), Camera(10, 130), Camera(-25, 20)])
def test_surfaces_that_intersect_hide_each_other_as_rays_say(camera):
    """Along rays to the camera, in the coordinates of the plane, without any projection of triangles."""
    f, g = panel(lambda a, b: 2 + a * a + b * b), panel(lambda a, b: 2.4 + 0.5 * np.sin(5 * a) * np.cos(4 * b), "two")
    shared = figures.choose_colour_scale([f.values, g.values], log=False)
    axis, scene = scene_of([f, g], shared, camera=camera)
    size = axis.figure.bbox.height, axis.figure.bbox.width
    buffer, owner = scene.rasterized([scene.projected(each.corners) for each in scene.sheets], tuple(map(int, size)))
    rows, columns = np.nonzero(owner >= 0)
    chosen = np.random.default_rng(1).choice(len(rows), 150, replace=False)
    inverse, wrong = np.linalg.inv(axis.get_proj()), 0
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        place = axis.transData.inverted().transform((column + 0.5, row + 0.5))
        known = buffer.depth[np.isfinite(buffer.depth)]
        depths = np.linspace(known.min() - 0.02, known.max() + 0.02, 6001)
        ray = np.column_stack([np.tile(place, (len(depths), 1)), depths, np.ones(len(depths))]) @ inverse.T
        wrong += sheet_hit(scene, ray[:, :3] / ray[:, 3:]) != owner[row, column]
    assert wrong <= 1  # a ray along an edge


def sheet_hit(scene, ray):
    """Number of the sheet that a ray, from the camera away, crosses first."""
    from scipy.interpolate import RegularGridInterpolator

    first = {}
    for k, sheet in enumerate(scene.sheets):
        heights = RegularGridInterpolator((sheet.y, sheet.x), sheet.heights, bounds_error=False)
        above = ray[:, 2] - heights(ray[:, 1::-1])
        crossed = np.flatnonzero(np.diff(np.sign(above)) != 0)
        for at in crossed[np.isfinite(above[crossed]) & np.isfinite(above[crossed + 1])]:
            i, j = (np.searchsorted(a, ray[at, d]) - 1 for d, a in ((0, sheet.x), (1, sheet.y)))
            if not sheet.left_out[np.clip(j, 0, len(sheet.y) - 2), np.clip(i, 0, len(sheet.x) - 2)]:
                first[k] = at
                break
    return min(first, key=first.get) if first else -1


@pytest.mark.parametrize("azimuth", [-60, 30, 120, 210])
def test_the_quarter_next_to_the_camera_shows_the_lower_surface(azimuth):
    low, high = panel(bowl, "low"), panel(lambda a, b: bowl(a, b) + 2, "high")
    shared = figures.choose_colour_scale([low.values, high.values], log=False)
    axis, scene = scene_of([high, low], shared, camera=Camera(30, azimuth))
    upper, lower = scene.sheets
    assert not lower.left_out.any()
    rows, columns = np.nonzero(upper.left_out)
    assert len(rows) == pytest.approx(upper.left_out.size / 4, rel=0.02)
    direction = Camera(30, azimuth).direction
    assert np.sign(upper.x[columns].mean()) == np.sign(direction[0])
    assert np.sign(upper.y[rows].mean()) == np.sign(direction[1])
    assert len([line for line in upper.lines if line.width > 1]) == 2, "the edges of the cut"
    _, owner = scene.rasterized([scene.projected(each.corners) for each in scene.sheets], (440, 520))
    assert (owner == 1).sum() > 0.1 * (owner == 0).sum()
    (text,) = (each.get_text() for each in axis.texts if each.get_gid() == NOTES)
    assert text == "high: a quarter is left out to show what lies below"


@pytest.mark.parametrize("hidden", [(0,), (1,), (0, 1)])
def test_a_quarter_without_values_needs_no_cut(hidden):
    panels = [panel(bowl, "low"), panel(lambda a, b: bowl(a, b) + 2, "high")]
    for k in hidden:
        values = panels[k].values.copy()
        values[:5, 4:] = np.nan  # next to the camera at azimuth -60
        panels[k] = replace(panels[k], values=values)
    shared = figures.choose_colour_scale([p.values for p in panels], log=False)
    _, scene = scene_of(panels, shared, camera=Camera(30, -60))
    upper_is_cut = scene.sheets[1].left_out.sum() > scene.sheets[0].left_out.sum()
    assert upper_is_cut == (0 not in hidden or len(hidden) == 2)


def test_surfaces_on_different_grids_lie_over_each_other():
    fine, coarse = panel(lambda a, b: 1 + a, side="-1:1:13"), panel(lambda a, b: 2 + b, "two", "-1:1:8")
    shared = figures.choose_colour_scale([fine.values, coarse.values], log=False)
    _, scene = scene_of([fine, coarse], shared)
    x, y = np.meshgrid(scene.sheets[0].x, scene.sheets[0].y)
    for sheet, plane in zip(scene.sheets, (1 + x, 2 + y), strict=True):
        np.testing.assert_allclose(sheet.heights, plane, atol=1e-6)
    crossing = [line.points for line in scene.sheets[0].lines if line.width == 1.0]
    points = np.concatenate(crossing)
    np.testing.assert_allclose(points[:, 0], 1 + points[:, 1], atol=1e-6)  # where both are equal


def test_lines_on_a_surface_are_drawn_where_it_is_seen():
    """Seen along the plane, a ridge hides the contours behind it."""
    ridge = panel(lambda a, b: 1 + 4 * np.exp(-20 * a * a), side="-1:1:33")
    shared = figures.choose_colour_scale([ridge.values], log=False)
    _, scene = scene_of([ridge], shared, camera=Camera(8, 0))
    points = np.array([[x, 0.0, np.interp(x, scene.sheets[0].x, scene.sheets[0].heights[len(scene.sheets[0].y) // 2])]
                       for x in (-0.6, -0.4, 0.3, 0.6)])  # fmt: skip
    assert scene.seen(points).tolist() == [False, False, True, True]
    assert not scene.seen(points - [0, 0, 1]).any(), "what lies below the surface is not on it"
    assert not scene.seen(np.full((1, 3), np.nan)).any()


def test_checkpoints_are_drawn_on_the_surface_unless_it_hides_them():
    ridge = panel(lambda a, b: 1 + 5 * np.exp(-20 * a * a), side="-1:1:33")
    path = Projection(np.linspace(-0.6, 0.6, 7), np.zeros(7), loss=np.linspace(5, 1, 7))
    axis = figure_of([ridge], camera=Camera(15, 0), paths=[path]).axes[0]
    (marks,) = (each for each in axis.collections if hasattr(each, "_offsets3d"))
    x, _, z = (np.asarray(each) for each in marks._offsets3d)
    assert x.min() > -0.1
    assert x.max() == pytest.approx(0.6)
    np.testing.assert_allclose(z, 1 + 5 * np.exp(-20 * x * x), atol=0.02)
    assert len(np.unique(marks.get_facecolor(), axis=0)) == len(x), "each has the colour of its own loss"
    labels = [each.get_text() for each in axis.get_legend().get_texts()]
    assert labels == ["first checkpoint", "checkpoint, coloured by its own loss", "last checkpoint"]


def height_of(sheet):
    from scipy.interpolate import RegularGridInterpolator

    return RegularGridInterpolator((sheet.y, sheet.x), sheet.heights, bounds_error=False)


def seen_along_rays(axis, heights, points, share):
    """Whether the line from each point to the camera stays on one side of the surface; share: of it that counts."""
    camera, found = np.linalg.inv(axis.get_proj()) @ [0, 0, 1, 0], []
    for point in points:
        ray = point + np.linspace(1e-3, share, 8000)[:, None] * (camera[:3] / camera[3] - point)
        above = ray[:, 2] - heights(ray[:, 1::-1])
        above = above[np.isfinite(above)]
        found.append(bool((np.sign(above) == np.sign(above[:1])).all()))
    return np.array(found)


def test_what_is_hidden_of_a_path_is_what_rays_to_the_camera_say():
    """From each point straight to the camera, over a valley whose near wall is seen from outside."""
    valley = panel(lambda a, b: 2 + 3 * b * b - 2.5 * np.exp(-3 * ((a + 0.3) ** 2 + b * b)) + a, side="-1:1:41")
    axis = figure_of([valley], camera=Camera(15, -60)).axes[0]
    (scene,) = (each for each in axis.get_children() if isinstance(each, SurfaceScene))
    sheet, share = scene.sheets[0], np.linspace(0, 1, 200)
    x, y = 0.9 - 1.5 * share, 0.8 * np.cos(5 * share) - 0.1
    points = np.column_stack([x, y, height_of(sheet)(np.column_stack([y, x]))])
    expected = seen_along_rays(axis, height_of(sheet), points, 0.2)
    assert 20 < sum(expected) < 180, "both parts are long"
    assert (scene.seen(points) != expected).mean() < 0.05, "all but the points next to an outline"


@pytest.mark.parametrize(
    ("function", "camera"),
    [
        (lambda a, b: 2 + 0.5 * a + 0 * b, Camera(15, -60)),
        (lambda a, b: 1 + 6 * np.exp(-12 * (a * a + b * b)), Camera(3, 20)),
        (lambda a, b: 2 + 3 * b * b - 2.5 * np.exp(-3 * ((a + 0.3) ** 2 + b * b)) + a, Camera(3, 20)),
    ],
    ids=["plane", "hill", "valley"],
)
def test_points_on_faces_that_are_seen_edge_on_are_not_taken_for_hidden(function, camera):
    """A pixel of such a face spans much depth: half of the points at a grazing angle were called hidden."""
    axis = figure_of([panel(function, side="-1:1:41")], camera=camera).axes[0]
    (scene,) = (each for each in axis.get_children() if isinstance(each, SurfaceScene))
    sheet = scene.sheets[0]
    x, y = np.random.default_rng(0).uniform(-0.97, 0.97, (2, 150))
    points = np.column_stack([x, y, height_of(sheet)(np.column_stack([y, x]))])
    wrong = scene.seen(points) != seen_along_rays(axis, height_of(sheet), points, 0.6)
    assert wrong.mean() <= 0.02


def river(**keywords):
    names = ("drift", "top eigenvector, at a right angle")
    return Projection(np.linspace(0.8, 0, 5), np.zeros(5), loss=np.linspace(2, 1, 5), axes=names, **keywords)


@pytest.mark.few(1)
@pytest.mark.parametrize("width", [3.3, 5.2, 7.0])
def test_labels_of_axes_do_not_meet(width):
    flat = panel(lambda a, b: 1 + 9 * a * a + 0.2 * b)
    scale = figures.choose_colour_scale([flat.values])
    with figures.style(files=figures.FigureFiles(columns=1 if width < 4 else 0)) as plt:
        fig = solid_figure(plt, [flat], scale, "train_loss", paths=[river()])
        for size in (2.6, width):  # labels that were broken for a small figure are as before in a large one
            fig.set_size_inches(size, 0.8 * size)
            fig.draw_without_rendering()
    axis = fig.axes[0]
    sides = [axis.xaxis, axis.yaxis, axis.zaxis]
    for side in sides:
        others = [each.label for each in sides if each is not side]
        others += [tick.label1 for each in sides if each is not side for tick in each.get_major_ticks()]
        shown = [each for each in others if each.get_visible() and each.get_text()]
        assert not any(meet(corners_of(side.label), corners_of(each)) for each in shown)
        box = side.label.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= fig.bbox.x1 + 0.5
    if width == 7:
        assert axis.get_ylabel() == "top eigenvector, at a right angle"
        assert axis.yaxis.label.get_fontsize() == axis.xaxis.label.get_fontsize()


@pytest.mark.few(1)
@pytest.mark.parametrize("azimuth", [-60, -45, -15, 30, 75, 270])
def test_labels_of_a_turning_surface_lie_inside_and_do_not_meet(azimuth):
    flat = panel(lambda a, b: 1 + 9 * a * a + 0.2 * b)
    names = ("1st principal component", "2nd principal component")
    path = Projection(np.linspace(0.8, 0, 5), np.zeros(5), loss=np.linspace(2, 1, 5), axes=names)
    with figures.style() as plt:
        scale = figures.choose_colour_scale([flat.values])
        fig = solid_figure(plt, [flat], scale, "train_loss", camera=Camera(32, azimuth), paths=[path])
        fig.axes[0].set_zlabel("")
        place_for_film(fig, 1, 1)
        fig.draw_without_rendering()
    axis = fig.axes[0]
    sides = [axis.xaxis, axis.yaxis, axis.zaxis]
    texts = [each.label for each in sides if each.label.get_text()]
    for side in sides:
        low, high = sorted(side.get_view_interval())
        shown = [tick for tick in side.get_major_ticks() if low - 1e-9 <= tick.get_loc() <= high + 1e-9]
        texts += [tick.label1 for tick in shown if tick.label1.get_visible()]
    shapes = [corners_of(text) for text in texts]
    assert not any(meet(a, b) for k, a in enumerate(shapes) for b in shapes[:k])
    for box in [*(text.get_window_extent() for text in texts), axis.get_legend().get_window_extent()]:
        assert box.x0 >= 0
        assert box.x1 <= fig.bbox.x1
        assert box.y0 >= 0


def test_the_legend_of_two_runs_names_them_and_explains_the_marks():
    axis = figure_of([panel(bowl)], paths=[river(run="SGD"), river(run="Adam")]).axes[0]
    legend = axis.get_legend()
    marks = ["first checkpoint", "checkpoint, coloured by its own loss", "last checkpoint"]
    assert [each.get_text() for each in legend.get_texts()] == ["SGD", "Adam", *marks]
    first, second, *others = legend.legend_handles
    assert first.get_color() != second.get_color()
    assert [each.get_marker() for each in others] == ["o", "o", "*"]


def test_a_wide_figure_is_lowered_by_what_stays_empty():
    p = panel(lambda a, b: 1 + 0.01 * a)
    with figures.style() as plt:
        fig = solid_figure(plt, [p], figures.choose_colour_scale([p.values]), "train_loss", title="training loss")
        before = fig.get_figheight()
        fit_height(fig)
        fig.draw_without_rendering()
    axis = fig.axes[0]
    assert fig.get_figheight() < before
    assert fig.get_layout_engine().spare < 0.03
    assert axis.title.get_window_extent().y1 > 0.95 * fig.bbox.y1
    assert axis.yaxis.get_tightbbox(fig._get_renderer()).y0 >= -0.5


def test_what_is_left_out_is_stated_with_its_share_and_hatched():
    p = panel(lambda a, b: 1 + 2 * a * a, side="-1:1:21")
    share = float((p.values > 2).mean())
    with figures.style() as plt:
        fig = solid_figure(plt, [p], figures.choose_colour_scale([p.values], vmax=2.0, log=False), "train_loss")
        fig.draw_without_rendering()
    axis = fig.axes[0]
    (text,) = (each.get_text() for each in axis.texts if each.get_gid() == NOTES)
    assert text == f"{100 * share:.0f} % of the cells above 2, up to 3: left out (hatched floor)"
    hatches = [line for line in axis.lines if line.get_gid() == HATCH]
    x = np.concatenate([line.get_data_3d()[0] for line in hatches])
    assert np.abs(x[np.isfinite(x)]).min() == pytest.approx(0.5**0.5, abs=0.05)
    (scene,) = (each for each in axis.get_children() if isinstance(each, SurfaceScene))
    buffer, _ = scene.rasterized([scene.projected(each.corners) for each in scene.sheets], (440, 520))
    heights = scene.sheets[0].heights.ravel()[scene.sheets[0].triangles[buffer.triangle]]
    assert (buffer.weights * heights).sum(-1)[buffer.triangle >= 0].max() <= 2 + 1e-5, "no lid"


def test_shares_in_words():
    p = panel(lambda a, b: a, side="-1:1:201")
    assert [float(mask.mean()) for mask in cells_outside(p.values, -0.5, 0.5)] == pytest.approx([50 / 201, 50 / 201])
    assert clipped_in_words(p, -2, 2, "left out") == ""
    assert clipped_in_words(p, -0.98, 2, "left out") == "1 % of the cells below -0.98, down to -1: left out"
    assert (
        clipped_in_words(p, -0.98, 0.75, "hatched")
        == "1 % of the cells below -0.98, down to -1, and 12 % of the cells above 0.75, up to 1: hatched"
    )
    assert [percent(each) for each in (1e-6, 1e-4, 0.004, 0.123, 440 / 441, 1)] == [
        "<0.01 %",
        "0.01 %",
        "0.4 %",
        "12 %",
        ">99 %",
        "100 %",
    ]


def test_the_share_of_the_finite_cells_is_called_so():
    p = panel(lambda a, b: np.where(b < 0, np.nan, a), side="-1:1:201")
    assert clipped_in_words(p, -0.98, 2, "left out") == "1 % of the finite cells below -0.98, down to -1: left out"


@pytest.mark.parametrize("columns", [1, 2])
def test_titles_and_labels_are_apart_from_the_surface_and_each_other(columns):
    """At the widths of a paper's column and page, and with the label of the vertical axis on each panel."""
    panels = [panel(lambda a, b: 1 + 20 * (a * a + b * b), "a network"), panel(lambda a, b: 1 + 30 * a**2, "another")]
    scale = figures.choose_colour_scale([p.values for p in panels])
    with figures.style(files=figures.FigureFiles(columns=columns)) as plt:
        fig = solid_figure(plt, panels, scale, "train_loss")
        fig.set_size_inches({1: 3.3, 2: 7.0}[columns], {1: 5.6, 2: 3.0}[columns])
        fig.draw_without_rendering()
    sizes = []
    for axis in fig.axes:
        assert axis.get_zlabel().startswith("training loss")
        (scene,) = (each for each in axis.get_children() if isinstance(each, SurfaceScene))
        surface = scene.projected(scene.sheets[0].corners)
        sizes.append(np.ptp(surface[:, 0]))
        title = axis.title.get_window_extent()
        assert title.y0 > surface[:, 1].max(), "the title lies above the surface"
        assert title.y1 <= fig.bbox.y1 + 0.5
        texts = [axis.xaxis.label, axis.yaxis.label, axis.zaxis.label]
        shown = [
            tick.label1
            for each in (axis.xaxis, axis.yaxis, axis.zaxis)
            for tick in each.get_major_ticks()
            if each.get_view_interval()[0] - 1e-9 <= tick.get_loc() <= each.get_view_interval()[1] + 1e-9
            and tick.label1.get_visible()
        ]
        for text in [*texts, *shown]:
            box = text.get_window_extent()
            assert box.x0 >= -0.5
            assert box.x1 <= fig.bbox.x1 + 0.5
            assert box.y0 >= -0.5
        boxes = [each.get_window_extent() for each in shown]
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        assert len(shown) >= 6
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02), "both are drawn in one size"


def test_a_legend_and_notes_stand_above_the_surface():
    low, high = (
        panel(bowl, "with a rather long name of a network"),
        panel(lambda a, b: bowl(a, b) + 2, "another long one"),
    )
    fig = figure_of([low, high], overlay=True)
    (axis,) = fig.axes
    (scene,) = (each for each in axis.get_children() if isinstance(each, SurfaceScene))
    top = max(scene.projected(each.corners)[:, 1].max() for each in scene.sheets)
    (note,) = (each for each in axis.texts if each.get_gid() == NOTES)
    legend = axis.get_legend().get_window_extent()
    assert top < legend.y0 < legend.y1 < note.get_window_extent().y0
    assert 0 <= legend.x0 < legend.x1 <= fig.bbox.x1


def test_a_note_is_as_wide_as_its_figure_and_the_surface_fills_it(tmp_path):
    p = panel(lambda a, b: 1 + 1e4 * (a * a + b * b) ** 4, "a network")
    scale = figures.choose_colour_scale([p.values], vmax=100.0)
    with figures.style(files=figures.FigureFiles(("png",), columns=1)) as plt:
        fig = solid_figure(plt, [p], scale, "train_loss")
        axis = fig.axes[0]
        (note,) = (each for each in axis.texts if each.get_gid() == NOTES)
        whole = note.get_text()
        assert len(whole) > 50
        lines = []
        for width in (3.4, 9.0, 2.4, 3.4):
            fig.set_size_inches(width, 0.9 * width)
            fig.draw_without_rendering()
            box = note.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= fig.bbox.x1
            assert note.get_text().split() == whole.split()
            lines.append(note.get_text().count("\n") + 1)
        assert lines[1] == 1
        assert lines[0] == lines[3]
        assert lines[2] > 1
        figures.save(fig, str(tmp_path / "one"))
    (scene,) = (each for each in axis.get_children() if isinstance(each, SurfaceScene))
    assert fig.get_figwidth() == pytest.approx(3.4, abs=0.1)
    fig.draw_without_rendering()
    assert np.ptp(scene.projected(scene.sheets[0].corners)[:, 0]) > 0.5 * fig.bbox.width


def test_light_shows_relief_and_no_part_is_blown_out():
    x = np.linspace(-1, 1, 81)
    flat = brightness(x, x, np.zeros((81, 81)), 2.0)
    np.testing.assert_allclose(flat, BRIGHTNESS)
    hollow = brightness(x, x, np.minimum(0, 8 * (np.add.outer(x**2, x**2) - 0.3)), 2.0)
    assert hollow.max() <= 1
    assert hollow.min() >= DARKEST
    assert np.ptp(hollow) > 0.3, "slopes toward and away from the light differ"
    sky = open_sky((x + 1) / 2, (x + 1) / 2, np.where(np.hypot(*np.meshgrid(x, x)) < 0.1, -0.5, 0.0))
    assert sky[40, 40] < 0.3
    assert sky[0, 0] > 0.95


def test_the_picture_in_a_pdf_and_in_pixels_is_the_same(tmp_path):
    """The scene follows the resolution of the file, and is as large in each."""
    fig = figure_of([panel(bowl)])
    pictures = []
    for dpi in (50, 100, 200):
        content = io.BytesIO()
        fig.savefig(content, format="png", dpi=dpi)
        size = (200, 160)
        pictures.append(np.asarray(Image.open(content).convert("RGB").resize(size, Image.Resampling.BOX), float))
    assert all(np.abs(a - b).mean() < 6 for a, b in pairwise(pictures))
    fig.savefig(tmp_path / "s.pdf", dpi=100)
    assert b"/Image" in (tmp_path / "s.pdf").read_bytes()
    assert (tmp_path / "s.pdf").stat().st_size < 400_000
