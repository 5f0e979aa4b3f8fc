"""Surfaces seen from above: contours, filled contours and heat maps."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.axis_ticks import set_few_ticks, set_scale_ticks
from lossatlas.figures.clipped_parts import clipped_in_words, ends_of
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.kinds import Kind
from lossatlas.figures.local_plane_plots import draw_distortion, strips_height
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column, letters
from lossatlas.figures.palette import current_look, inked, line_colour_map, run_colour
from lossatlas.figures.panels import Panel, cell_edges, same_extent
from lossatlas.figures.plane_marks import (
    draw_mark_legend,
    label_obstacles,
    mark_best,
    mark_cells,
    mark_clipped_cells,
    mark_clipped_regions,
    mark_networks,
)
from lossatlas.figures.plotted_fields import field_title, mathtext
from lossatlas.figures.solid_layout import meet, turned_box
from lossatlas.figures.trajectory_plots import draw_trajectory
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.contour import ContourSet
    from matplotlib.figure import Figure

    DrawPanel = Callable[[Axes, Panel, ColourScale], ScalarMappable]

MOST_SKEWED = 4.0  # a plane whose sides differ by a larger factor is drawn with sides that differ by SKEWED
SKEWED = 1.7
PANEL, LONGEST_SIDE = 3.2, 5.0  # inches: the shorter side of a panel, and the longer one at most
TEXT_CONTRAST = 4.5  # of the labels of contours, to the ground (WCAG 2)
NOTE_LETTERS = 36  # of a line above a panel
LABEL_SIZE = 0.1, 0.05  # width and height of a contour's label, as shares of the frame
LETTER, LABEL_ENDS = 0.2, 0.1  # of that width, for each letter and for the ends


def flat_figure(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    draw_panel: "DrawPanel",
    *,
    paths: Sequence[Projection] = (),
    colour_bar: bool = True,
) -> "Figure":
    """Draw panels side by side on one colour scale.

    Args:
        plt: Maker of figures, see `style`.
        panels: Surfaces to draw.
        scale: Their colour scale.
        name: Name of the field.
        draw_panel: `draw_contours`, `draw_filled_contours` or `draw_heat_map`.
        paths: Training runs to draw on each panel.
        colour_bar: Draw the colour bar.

    Returns:
        The figure.
    """
    rows, columns = (len(panels), 1) if is_single_column() else (1, len(panels))
    share = same_extent(panels)
    under = max(strips_height(p, paths[0] if paths else None) for p in panels)
    width, height = flat_size(panels, rows, columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, height * (1 + under)),
        squeeze=False,
        sharex=share,
        sharey=share,
        layout="compressed",
    )
    if columns > 1:
        fig.get_layout_engine().set(wspace=0.035)  # ticks at the corners of neighbours stay apart
    all_axes = axes.ravel().tolist()
    looks: Looks = {"draw_panel": draw_panel, "paths": paths, "colour_bar": colour_bar}
    draw_flat(fig, all_axes, panels, scale, name, own=True, **looks)
    return fig


def flat_size(panels: Sequence[Panel], rows: int = 1, columns: int = 1) -> tuple[float, float]:
    """Return width and height, in inches, of a figure whose panels have the shape of their planes."""
    aspect = _aspect(panels[0])
    width = min(PANEL * max(aspect, 1), LONGEST_SIDE)
    height = min(PANEL / min(aspect, 1), LONGEST_SIDE)
    width, height = min(width, height * aspect), min(height, width / aspect)
    return width * columns + 1.6, (height + 0.4) * rows + 0.6


def draw_flat(
    fig: "Figure",
    axes: "Sequence[Axes]",
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    *,
    draw_panel: "DrawPanel",
    paths: Sequence[Projection] = (),
    colour_bar: bool = True,
    title: str | None = None,
    own: bool = False,
) -> None:
    """Draw a panel on each axis, with one colour bar beside them.

    Args:
        fig: Figure of the axes.
        axes: One for each panel.
        panels: Surfaces to draw.
        scale: Their colour scale.
        name: Name of the field.
        draw_panel: `draw_contours`, `draw_filled_contours` or `draw_heat_map`.
        paths: Training runs to draw on each panel.
        colour_bar: Draw the colour bar.
        title: Title of a single panel; None names the field.
        own: The figure holds nothing else, so that its legend stands below all axes.
    """
    for axis in axes if is_single_column() else axes[:1]:
        axis.set_ylabel("y")
    for axis, p in zip(axes, panels, strict=True):
        mappable = draw_panel(axis, p, scale)
        mark_cells(axis, p)
        mark_networks(axis, p)
        ends = [cell_edges(each) if draw_panel is draw_heat_map else each for each in (p.x, p.y)]
        axis.set(xlabel="x", aspect="equal", xlim=(ends[0][0], ends[0][-1]), ylim=(ends[1][0], ends[1][-1]))
        set_few_ticks(axis.xaxis, axis.yaxis)
        first = p.label if len(panels) > 1 else field_title(name) if title is None else mathtext(title)
        notes = [first, *p.notes(" (dots: computed)")]
        if is_skewed(p):
            axis.set(aspect="auto", box_aspect=1 / SKEWED if np.ptp(p.x) > np.ptp(p.y) else SKEWED)
            notes.append("the axes have different scales")
        if draw_panel is draw_contours and (words := without_contours(p, scale)):
            notes.append(words)
        notes += broken_at_commas(clipped_in_words(p, *ends_of(scale), "hatched"))
        axis.set_title("\n".join(filter(None, notes)))
        for k, path in enumerate(paths):
            draw_trajectory(axis, path, scale, run_colour(k, len(paths)))
        if p.distortion is not None:
            draw_distortion(axis, p, paths[0] if paths else None)
    for axis in axes[:-1] if is_single_column() else ():
        axis.set_xlabel("")
    if colour_bar:
        _draw_colour_bar(fig, axes, panels, scale, name, mappable=mappable)
    draw_mark_legend(fig, axes, below=own)


def broken_at_commas(text: str, letters: int = NOTE_LETTERS) -> list[str]:
    """Break a text into lines at commas where it is longer than a line.

    Example:
        >>> broken_at_commas("2 % of the cells above 10, up to 21: hatched", 30)
        ['2 % of the cells above 10,', 'up to 21: hatched']
    """
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        lines = (
            [*lines[:-1], longer] if len(longer) <= letters or not lines[-1] else [*lines[:-1], f"{lines[-1]},", part]
        )
    return lines


def without_contours(p: Panel, scale: ColourScale) -> str:
    """Return the range of a panel's values in words where no level of the scale lies within it; '' otherwise."""
    finite = p.values[np.isfinite(p.values)]
    if not finite.size or ((scale.levels > finite.min()) & (scale.levels < finite.max())).any():
        return ""
    return f"between {finite.min():.3g} and {finite.max():.3g}: no contour"


def _draw_colour_bar(
    fig: "Figure",
    axes: "Sequence[Axes]",
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    *,
    mappable: "ScalarMappable",
) -> None:
    """Draw a colour bar that is no higher than the panels."""
    # Of panels of different shapes, the flattest one does not use its height.
    shrink = min(1.0, min(map(_aspect, panels)) ** -1 / _aspect(panels[0]) ** -1) if len(axes) > 1 else 1.0
    bar = fig.colorbar(
        mappable,
        ax=list(axes),
        extend=scale.extend,
        label=scale.bar_title(name),
        pad=0.02,
        shrink=shrink,
        aspect=20 * shrink,
    )
    most = max(3, int((6 * len(axes) if is_single_column() else 12) * shrink))
    set_scale_ticks(bar.ax.yaxis, scale, most)
    _fit_bar_label(fig, bar)


def _fit_bar_label(fig: "Figure", bar: "Colorbar") -> None:
    """Wrap the label of a colour bar that is longer than the bar; shrink its letters where that is not enough."""
    label = bar.ax.yaxis.label
    fig.draw_without_rendering()
    room = bar.ax.get_window_extent().height
    if label.get_window_extent().height > room:
        label.set_text(label.get_text().replace(", ", ",\n"))
        excess = label.get_window_extent().height / room
        label.set_fontsize(float(label.get_fontsize()) * max(0.7, min(1.0, 1 / excess)))


def is_skewed(p: Panel) -> bool:
    """Tell whether the sides of a plane differ so much that equal scales would show nothing."""
    return not 1 / MOST_SKEWED <= np.ptp(p.y) / np.ptp(p.x) <= MOST_SKEWED


def _aspect(p: Panel) -> float:
    """Return the width of a panel as it is drawn, divided by its height."""
    wide = float(np.ptp(p.x) / np.ptp(p.y))
    return wide if not is_skewed(p) else SKEWED if wide > 1 else 1 / SKEWED


def draw_contours(axis: "Axes", p: Panel, scale: ColourScale) -> "ScalarMappable":
    """Draw contour lines with their values, and a cross at the best cell.

    Args:
        axis: Axis to draw on.
        p: Surface to draw.
        scale: Its colour scale.

    Returns:
        The mapping of heights to colours, for a colour bar.
    """
    from matplotlib import cm

    x, y, z = p.refined(scale)
    colour_map = line_colour_map(scale.colour_map)
    lines = axis.contour(
        x,
        y,
        scale.height(z),
        levels=scale.height(scale.levels),
        cmap=colour_map,
        norm=scale.norm,
        linewidths=1.1,
        linestyles="solid",
    )
    mark_clipped_regions(axis, x, y, scale.height(z), scale)
    _label_contours(axis, lines, p, scale)
    mark_best(axis, p)
    return cm.ScalarMappable(scale.norm, colour_map)


def _label_contours(axis: "Axes", lines: "ContourSet", p: Panel, scale: ColourScale) -> None:
    """Label every second contour; no label is cut off by the frame or lies on another one."""
    from matplotlib.colors import to_rgb

    wide, high = (1.7 * each for each in LABEL_SIZE) if is_single_column() else LABEL_SIZE
    size = letters(6 if is_single_column() else 7)
    texts = axis.clabel(lines, np.asarray(lines.levels)[::2], fontsize=size, fmt=scale.label_at, inline=False)
    taken = label_obstacles(axis, p, (wide, high))
    for text in texts:
        red, green, blue = inked(to_rgb(text.get_color()), TEXT_CONTRAST)
        text.set_color((red, green, blue))
        text.set_bbox({"facecolor": current_look().ground, "edgecolor": "none", "pad": 0.4})
        text.set_clip_on(True)
        (x0, x1), (y0, y1) = axis.get_xlim(), axis.get_ylim()
        place = (text.get_position()[0] - x0) / (x1 - x0), (text.get_position()[1] - y0) / (y1 - y0)
        length = wide * (LABEL_ENDS + LETTER * len(text.get_text()))
        box = turned_box(place, (length, high), float(text.get_rotation()))
        if (box > 0).all() and (box < 1).all() and not any(meet(box, each) for each in taken):
            taken.append(box)
        else:
            text.set_visible(False)


def draw_filled_contours(axis: "Axes", p: Panel, scale: ColourScale) -> "ScalarMappable":
    """Draw filled contours; arguments and result as for `draw_contours`."""
    x, y, z = p.refined(scale)
    # The interpolant may overshoot the cells between which it runs.
    z = np.clip(z, None if scale.below else scale.low, None if scale.above else scale.high)
    bounds = _without_duplicates(np.union1d(scale.height(scale.levels), scale.limits))
    colours: Looks = {"cmap": scale.colour_map, "norm": scale.norm}
    filled = axis.contourf(x, y, scale.height(z), levels=bounds, extend=scale.extend, **colours)
    lines: Looks = {"colors": "white", "linewidths": 0.4, "alpha": 0.6, "linestyles": "solid"}
    axis.contour(x, y, scale.height(z), levels=scale.height(scale.levels), **lines)
    mark_clipped_regions(axis, x, y, scale.height(z), scale)
    return filled


def _without_duplicates(bounds: np.ndarray) -> np.ndarray:
    """Return sorted values without those that rounding has doubled."""
    gap = 1e-6 * (bounds[-1] - bounds[0])
    return bounds[np.append(True, np.diff(bounds) > gap)]


def draw_heat_map(axis: "Axes", p: Panel, scale: ColourScale) -> "ScalarMappable":
    """Draw a coloured rectangle for each cell; arguments and result as for `draw_contours`."""
    cells = draw_cells(axis, cell_edges(p.x), cell_edges(p.y), p.values, scale)
    mark_clipped_cells(axis, p, scale)
    return cells


def draw_cells(
    axis: "Axes", x_edges: np.ndarray, y_edges: np.ndarray, values: np.ndarray, scale: ColourScale
) -> "ScalarMappable":
    """Draw values as coloured rectangles.

    Args:
        axis: Axis to draw on.
        x_edges: (nx + 1,) edges of the columns.
        y_edges: (ny + 1,) edges of the rows.
        values: (ny, nx); a cell that is not finite stays empty.
        scale: Colour scale.

    Returns:
        The mapping of heights to colours, for a colour bar.
    """
    heights = np.ma.masked_invalid(scale.height(values))
    return axis.pcolormesh(x_edges, y_edges, heights, cmap=scale.colour_map, norm=scale.norm, rasterized=True)


DRAW_FLAT: "dict[Kind, DrawPanel]" = {
    Kind.CONTOUR: draw_contours,
    Kind.FILLED: draw_filled_contours,
    Kind.HEAT: draw_heat_map,
}
