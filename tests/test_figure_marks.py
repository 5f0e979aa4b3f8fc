"""Ticks, legends, labels and clipped cells of flat figures: what a reader needs to read them without the text."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_plots import bowl, surface_of

from lossatlas import figures
from lossatlas.figures.axis_ticks import format_ticks, set_scale_ticks
from lossatlas.figures.clipped_parts import cells_outside, clipped_in_words, ends_of
from lossatlas.figures.contour_plots import draw_contours, draw_filled_contours, draw_heat_map, flat_figure
from lossatlas.figures.line_plots import AxisLimits, line_figure, lines_figure
from lossatlas.figures.minima_plots import minima_figure
from lossatlas.figures.palette import contrast_of, current_look, luminance
from lossatlas.figures.panels import ratio_scale, surface_panel
from lossatlas.figures.plotted_fields import mathtext
from lossatlas.figures.repeats_plots import repeats_figure
from lossatlas.io import Projection
from lossatlas.landscape.topology import minima

DRAW = {"contour": draw_contours, "filled": draw_filled_contours, "heat": draw_heat_map}


def labels_of(axis) -> list[str]:
    return [tick.get_text() for tick in axis.get_ticklabels()]


def legend_of(fig) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def inside(box, frame, slack=1.0) -> bool:
    return (
        frame.x0 - slack <= box.x0
        and box.x1 <= frame.x1 + slack
        and frame.y0 - slack <= box.y0
        and box.y1 <= frame.y1 + slack
    )


def test_the_ticks_of_a_percentage_are_round():
    p = surface_panel(surface_of(bowl), "train_loss", "one")
    accuracy = replace(p, values=np.linspace(3, 98.4, p.values.size).reshape(p.values.shape))
    scale = figures.choose_colour_scale([accuracy.values], linear=True)
    with figures.style() as plt:
        fig = flat_figure(plt, [accuracy], scale, "train_acc", draw_heat_map)
    assert labels_of(fig.axes[1].yaxis) == ["20", "40", "60", "80"]
    assert set(scale.levels % 10) == {0}


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.13), (-3.0, 0.2), (1e-7, 3e-7), (1.0, 1.001)])
def test_a_linear_bar_has_several_ticks_within_its_range(low, high):
    scale = figures.choose_colour_scale([np.linspace(low, high, 50)], linear=True)
    with figures.style() as plt:
        _, axis = plt.subplots()
        axis.set_ylim(*scale.limits)
        set_scale_ticks(axis.yaxis, scale)
        ticks = axis.get_yticks()
    assert 2 <= len(ticks) <= 8
    assert ((ticks >= low - 1e-12) & (ticks <= high + 1e-12)).all()
    assert len(set(labels_of(axis.yaxis))) == len(ticks)


def test_ticks_of_blended_colours_are_apart_on_the_bar():
    p = surface_panel(
        surface_of(lambda a, b: 3 + a if b > -0.9 else 0.01 + 200 * abs(a), "-1:1:41", "-1:1:41"), "train_loss", ""
    )
    scale = figures.choose_colour_scale([p.values], colours="blended")
    assert scale.ranks
    with figures.style() as plt:
        fig = flat_figure(plt, [p], scale, "train_loss", draw_heat_map)
        fig.draw_without_rendering()
    boxes = [label.get_window_extent() for label in fig.axes[1].get_yticklabels()]
    assert len(boxes) > 2
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize("letter", ["x", "y"])
@pytest.mark.parametrize("inches", [0.6, 1.2, 5.0])
@pytest.mark.parametrize("values", [np.geomspace(0.01, 200, 400), np.linspace(-1200, 300, 400)], ids=["log", "linear"])
def test_tick_labels_of_a_bar_never_meet(letter, inches, values):
    """Also of a slim one, such as that below rendered surfaces, and after the figure has another size."""
    scale = figures.choose_colour_scale([values], colours="blended" if values.min() > 0 else None)
    with figures.style(look="dark") as plt:
        fig, axis = plt.subplots(figsize=(5, 5))
        getattr(axis, f"set_{letter}lim")(*scale.limits)
        bar = getattr(axis, f"{letter}axis")
        set_scale_ticks(bar, scale, 10)
        axis.set_position((0.1, 0.1, *((inches / 5, 0.8) if letter == "x" else (0.8, inches / 5))))
        fig.draw_without_rendering()
        boxes = [each.label1.get_window_extent() for each in bar.get_major_ticks()]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert len(boxes) > 1
    if inches == 5:
        assert len(boxes) > 2
        assert {"0.1", "1", "10", "100"} <= set(labels_of(bar)) if scale.log else "0" in labels_of(bar)


def test_labels_of_one_axis_have_one_format():
    assert format_ticks([0.01, 1, 100]) == ["0.01", "1", "100"]
    assert format_ticks([0.01, 1, 1e6]) == ["$10^{-2}$", "$10^{0}$", "$10^{6}$"]
    assert format_ticks([-2e6, 0, 3e6]) == [r"$-2\times10^{6}$", "0", r"$3\times10^{6}$"]


@pytest.mark.parametrize("kind", DRAW)
def test_clipped_cells_are_hatched_and_counted(kind):
    p = surface_panel(surface_of(bowl), "train_loss", "one")
    scale = figures.choose_colour_scale([p.values], vmax=2.0)
    above = (p.values > 2).mean()
    assert 0 < above == cells_outside(p.values, *ends_of(scale))[1].mean()
    with figures.style() as plt:
        fig = flat_figure(plt, [p], scale, "train_loss", DRAW[kind])
        whole = flat_figure(plt, [p], figures.choose_colour_scale([p.values]), "train_loss", DRAW[kind])
    words = f"{100 * above:.0f} % of the cells above 2, up to {p.values.max():.3g}: hatched"
    assert words == clipped_in_words(p, *ends_of(scale), "hatched")
    assert words in fig.axes[0].get_title().replace("\n", " ")
    hatches = [each.get_hatch() or getattr(each, "hatches", None) for each in fig.axes[0].collections]
    assert any(hatch and "/" in str(hatch) for hatch in hatches)
    assert "hatched" not in whole.axes[0].get_title()
    assert not any("/" in str(getattr(each, "hatches", each.get_hatch())) for each in whole.axes[0].collections)


def test_a_ratio_fills_its_scale_and_an_outlier_is_counted():
    p = surface_panel(surface_of(bowl), "train_loss", "one")
    ratio = np.linspace(0, 0.2, p.values.size).reshape(p.values.shape)
    assert ratio_scale([replace(p, values=ratio)]).high == pytest.approx(0.2)
    ratio[0, 0] = 0.9
    scale = ratio_scale([replace(p, values=ratio)])
    assert (scale.low, scale.above) == (0, True)
    assert scale.high == pytest.approx(0.2)
    assert ratio_scale([replace(p, values=np.zeros_like(ratio))]).high == 1
    assert ratio_scale([replace(p, values=np.full_like(ratio, np.nan))]).limits == (0, 1)  # nothing is resolved


def test_marks_are_named_in_a_legend_outside_of_the_frame():
    p = surface_panel(surface_of(bowl), "train_loss", "one")
    scale = figures.choose_colour_scale([p.values])
    path = Projection(np.array([0.9, 0.5, 0.0]), np.array([0.9, 0.1, 0.0]), loss=np.array([3.0, 1.0, 0.2]))
    with figures.style() as plt:
        fig = flat_figure(plt, [p], scale, "train_loss", draw_contours, paths=[path])
        fig.draw_without_rendering()
    assert legend_of(fig) == ["lowest value", "the checkpoint's own loss"]
    assert not fig.legends[0].get_window_extent().overlaps(fig.axes[0].get_window_extent())
    star = next(line for line in fig.axes[0].lines if line.get_marker() == "*")
    dots = next(each for each in fig.axes[0].collections if each.get_label() == "the checkpoint's own loss")
    assert star.get_zorder() < dots.get_zorder()  # the star hides no checkpoint


def test_tick_labels_at_the_corners_of_neighbours_stay_apart():
    p = surface_panel(surface_of(bowl), "train_loss", "one")
    with figures.style() as plt:
        fig = flat_figure(plt, [p, p, p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours)
        fig.draw_without_rendering()
    for left, right in pairwise(fig.axes[:3]):
        last, first = (
            max((t.get_window_extent() for t in left.get_xticklabels()), key=lambda box: box.x1),
            min((t.get_window_extent() for t in right.get_xticklabels()), key=lambda box: box.x0),
        )
        assert last.x1 + 2 < first.x0


@pytest.mark.parametrize(("x", "y"), [("-4:4:17", "-1:1:5"), ("-1:1:9", "-1:1:9"), ("-1:1:5", "-3:3:13")])
def test_a_figure_has_the_shape_of_its_plane_and_its_bar_no_longer_label(x, y):
    p = surface_panel(surface_of(lambda a, b: 1e-3 + a * a + b * b, x, y), "train_loss", "one")
    scale = figures.choose_colour_scale([p.values])
    with figures.style() as plt:
        fig = flat_figure(plt, [p], scale, "train_loss", draw_contours)
        fig.draw_without_rendering()
    assert "scale ln(value" in fig.axes[1].get_ylabel()
    frame, whole = fig.axes[0].get_window_extent(), fig.bbox
    assert frame.width > 0.5 * whole.width
    assert frame.height > 0.5 * whole.height
    assert fig.axes[1].yaxis.label.get_window_extent().height <= 1.05 * fig.axes[1].get_window_extent().height


def test_a_figure_of_one_column_has_its_names_inside_and_no_gap_above_its_legend(tmp_path):
    """The width is fitted when the file is written, after everything is drawn."""
    p = surface_panel(surface_of(bowl, "-10:2:13", "-2:4:7"), "train_loss", "one")
    path = Projection(np.array([-9.2, -5.0, 0.0]), np.array([-1.4, 3.0, 0.0]), loss=np.array([3.0, 1.0, 0.2]))
    with figures.style(files=figures.FigureFiles(("png",), columns=1)) as plt:
        fig = flat_figure(
            plt, [p, p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours, paths=[path]
        )
        figures.save(fig, str(tmp_path / "f"))
        fig.draw_without_rendering()
    for axis in fig.axes[:2]:
        names = [text for text in axis.texts if text.get_text() in ("first", "last")]
        assert len(names) == 2
        assert all(inside(name.get_window_extent(), axis.get_window_extent(), slack=0) for name in names)
    lowest = fig.axes[1].xaxis.label.get_window_extent().y0
    assert lowest - fig.legends[0].get_window_extent().y1 < 0.25 * fig.dpi
    top, bottom = (axis.get_window_extent() for axis in fig.axes[:2])
    assert fig.axes[2].get_window_extent().height < 1.1 * (top.y1 - bottom.y0), "the bar is no longer than the panels"


@pytest.mark.parametrize("look", ["paper", "dark", "print"])
def test_labels_of_contours_can_be_read(look):
    p = surface_panel(
        surface_of(lambda a, b: 0.01 + 100 * (a * a + b * b) ** 2, "-1:1:41", "-1:1:41"), "train_loss", "one"
    )
    with figures.style(look=look) as plt:
        fig = flat_figure(plt, [p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours)
        ground = luminance(to_rgb(current_look().ground))
    contrasts = [contrast_of(luminance(to_rgb(text.get_color())), ground) for text in fig.axes[0].texts]
    assert len(contrasts) > 3
    assert min(contrasts) >= 4.49


def test_a_name_of_several_lines_gives_no_warning(caplog):
    assert mathtext("ResNet-56\nwithout shortcuts") == "ResNet-56\nwithout shortcuts"
    assert mathtext("a$b\nc") == r"a\$b" + "\nc"
    assert not caplog.records


@pytest.mark.parametrize("dpi", [50, 200])
def test_names_of_networks_lie_inside_of_the_frame(dpi, tmp_path):
    command = "python plot_surface.py --model_file nets/a_rather_long_name.pt --model_file2 nets/another_long_name.pt"
    surface = replace(surface_of(bowl, "-0.1:1.1:9", "-0.5:0.5:9"), about={"command": command})
    p = surface_panel(surface, "train_loss", "one")
    with figures.style() as plt:
        fig = flat_figure(plt, [p, p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours)
        fig.savefig(tmp_path / "first.png", dpi=dpi)
        fig.set_dpi(dpi)
        fig.draw_without_rendering()
    frame = fig.axes[0].get_window_extent()
    names = [text for text in fig.axes[0].texts if "long_name" in text.get_text()]
    assert len(names) == 2
    assert all(inside(name.get_window_extent(), frame, slack=0) for name in names)


def test_a_name_leaves_the_mark_of_the_lowest_cell_free():
    surface = surface_of(lambda a, b: (a - 0.04) ** 2 + (b - 0.05) ** 2, "-0.24:1.2:37", "-0.2:1.2:29")
    marked = replace(surface, about={"command": "python plot_surface.py --model_file one.pt --model_file2 two.pt"})
    p = surface_panel(marked, "train_loss", "one")
    with figures.style() as plt:
        fig = flat_figure(plt, [p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours)
    fig.draw_without_rendering()
    axis = fig.axes[0]
    names = {each.get_text(): each.get_window_extent() for each in axis.texts}
    lowest, first, second = axis.transData.transform([(0.04, 0.05), (0, 0), (1, 0)])
    assert names["one"].y1 < first[1]  # below its point
    assert names["two"].y0 > second[1]
    assert not names["one"].padded(3).contains(*lowest)


def pixels_of(fig, artist) -> int:
    """Count the pixels of a figure that an artist changes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, pictures = FigureCanvasAgg(fig), []
    for shown in (True, False):
        artist.set_visible(shown)
        canvas.draw()
        pictures.append(np.array(canvas.buffer_rgba()))
    return int((pictures[0] != pictures[1]).any(-1).sum())


def test_the_lowest_cell_is_seen_above_a_training_run():
    p = surface_panel(surface_of(bowl, "-1:1:21", "-1:1:21"), "train_loss", "one")
    rest = np.linspace(1, 0, 30)
    path = Projection(x=rest, y=0.5 * rest, loss=rest + 0.1)
    counts = []
    for paths in ((), (path,)):
        with figures.style() as plt:
            fig = flat_figure(
                plt, [p], figures.choose_colour_scale([p.values]), "train_loss", draw_contours, paths=paths
            )
        mark = next(each for each in fig.axes[0].lines if each.get_marker() == "P")
        np.testing.assert_allclose(mark.get_xydata(), [[0, 0]], atol=1e-9)
        counts.append(pixels_of(fig, mark))
    assert counts[1] > counts[0] / 2  # pixels of the white inside stay white above the star


def test_minima_are_ordered_by_depth_and_their_numbers_lie_inside():
    surface = surface_of(lambda a, b: 2 + np.cos(7 * a) * np.cos(7 * b) + 0.3 * (a + b), "-1:1:21", "-1:1:21")
    p, found = surface_panel(surface, "train_loss", "one"), minima(surface, "train_loss")
    with figures.style() as plt:
        scale = figures.choose_colour_scale([p.values])
        fig = minima_figure(plt, p, scale, "train_loss", minima=found, depth=0.3)
        fig.draw_without_rendering()
    left, right = fig.axes[0], next(axis for axis in fig.axes if "depth" in axis.get_xlabel())
    assert right.get_xscale() == "log"
    dots = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    finite = [each.depth for each in found if np.isfinite(each.depth)]
    assert dots == finite[: len(dots)] == sorted(dots, reverse=True)
    boxes = [text.get_window_extent() for text in left.texts]
    assert len(boxes) == sum(each.depth > 0.3 for each in found) > 2
    assert all(inside(box, left.get_window_extent()) for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert {"minimum", "deep minimum, with its number"} <= set(legend_of(fig))
    (note,) = (text for text in right.texts if "no pass" in text.get_text())
    assert note.get_zorder() < min(line.get_zorder() for line in right.lines if line.get_marker() == "o"), (
        "it hides no dot"
    )


def test_loss_and_accuracy_have_a_panel_each_and_one_legend():
    line = surface_of(bowl, y=None)
    with figures.style() as plt:
        fig = line_figure(plt, line, AxisLimits())
        several = lines_figure(plt, [line, line, line], ["a", "b", "c"], AxisLimits())
    assert [axis.get_ylabel() for axis in fig.axes] == ["loss", "accuracy (%)"]
    assert legend_of(fig) == ["training"]
    assert legend_of(several) == ["a", "b", "c"]
    looks = {str(drawn.get_linestyle()) + str(drawn._dash_pattern) for drawn in several.axes[0].lines}
    assert len(looks) == 3  # told apart in grey too


def test_a_title_and_the_legend_stay_apart():
    line = surface_of(bowl, y=None)
    with figures.style() as plt:
        fig = lines_figure(plt, [line, line], ["a", "b"], AxisLimits())
        title = fig.suptitle("A title")
        fig.draw_without_rendering()
    legend = fig.legends[0].get_window_extent()
    assert not legend.overlaps(title.get_window_extent())
    assert not any(legend.overlaps(axis.get_tightbbox()) for axis in fig.axes)


def test_repeats_over_decades_have_a_logarithmic_axis_and_a_legend_of_their_band():
    runs = [surface_of(lambda a, b, k=k: 0.01 + k * a * a, y=None) for k in (1, 2, 3)]
    with figures.style() as plt:
        wide = repeats_figure(plt, [runs], ["one"], AxisLimits())
        narrow = repeats_figure(plt, [[surface_of(bowl, y=None)] * 2], ["one"], AxisLimits())
    assert wide.axes[0].get_yscale() == "log"
    assert narrow.axes[0].get_yscale() == "linear"
    names = legend_of(wide)
    assert names[:2] == ["mean of 3 directions", "each direction"]
    assert "95 % confidence of the mean" in names[2]
