"""Surfaces seen from above: contours, filled contours and heat maps."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.axis_ticks import set_few_ticks, set_scale_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column, letters
from lossatlas.figures.network_marks import curve_points
from lossatlas.figures.palette import current_look, line_colour_map, run_colour
from lossatlas.figures.panels import Panel, legend_name, same_extent
from lossatlas.figures.plotted_fields import field_title, mathtext
from lossatlas.figures.trajectory_plots import draw_trajectory, keep_names_inside
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.contour import ContourSet
    from matplotlib.figure import Figure

    DrawPanel = Callable[[Axes, Panel, ColourScale], ScalarMappable]

MOST_SKEWED = 4.0  # a plane whose sides differ by a larger factor is drawn with sides that differ by SKEWED
SKEWED = 1.7
LABEL_SIZE = 0.1, 0.05  # width and height of a contour's label, as shares of the frame


def flat_figure(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    draw_panel: "DrawPanel",
    paths: Sequence[Projection] = (),
    *,
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
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.9 * _aspect(panels) * columns + 0.7, 3.9 * rows),
        squeeze=False,
        sharex=share,
        sharey=share,
        layout="compressed",
    )
    draw_flat(fig, axes.ravel().tolist(), panels, scale, name, draw_panel, paths, colour_bar=colour_bar)
    return fig


def draw_flat(
    fig: "Figure",
    axes: "Sequence[Axes]",
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    draw_panel: "DrawPanel",
    paths: Sequence[Projection] = (),
    *,
    colour_bar: bool = True,
    title: str | None = None,
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
        axis.set_title("\n".join(filter(None, notes)))
        for k, path in enumerate(paths):
            draw_trajectory(axis, path, scale, run_colour(k, len(paths)))
        if paths and axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize="x-small", framealpha=0.9)
    for axis in axes[:-1] if is_single_column() else ():
        axis.set_xlabel("")
    if colour_bar:
        _draw_colour_bar(fig, axes, panels, scale, name, mappable)
    for axis in axes if paths else ():
        keep_names_inside(axis)


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
    mappable: "ScalarMappable",
) -> None:
    """A colour bar that is no higher than the panels."""
    low = min(1 / SKEWED if is_skewed(p) and np.ptp(p.x) > np.ptp(p.y) else np.ptp(p.y) / np.ptp(p.x) for p in panels)
    shrink = min(1.0, float(low) * _aspect(panels)) if low < 1 else 1.0  # a wide plane does not use its height
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


def is_skewed(p: Panel) -> bool:
    """Tell whether the sides of a plane differ so much that equal scales would show nothing."""
    return not 1 / MOST_SKEWED <= np.ptp(p.y) / np.ptp(p.x) <= MOST_SKEWED


def _aspect(panels: Sequence[Panel]) -> float:
    """Width of a panel divided by its height."""
    return max(1.0, min(1.7, float(np.ptp(panels[0].x) / np.ptp(panels[0].y))))


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
    _label_contours(axis, lines, scale)
    mark_best(axis, p)
    return cm.ScalarMappable(scale.norm, colour_map)


def _label_contours(axis: "Axes", lines: "ContourSet", scale: ColourScale) -> None:
    """Label every second contour; no label is cut off by the frame or lies on another one."""
    wide, high = (1.7 * each for each in LABEL_SIZE) if is_single_column() else LABEL_SIZE
    size = letters(6 if is_single_column() else 7)
    texts = axis.clabel(lines, np.asarray(lines.levels)[::2], fontsize=size, fmt=scale.label_at, inline=False)
    taken: list[tuple[float, float]] = []
    for text in texts:
        text.set_bbox({"facecolor": current_look().ground, "edgecolor": "none", "pad": 0.4})
        text.set_clip_on(True)
        (x0, x1), (y0, y1) = axis.get_xlim(), axis.get_ylim()
        share = (text.get_position()[0] - x0) / (x1 - x0), (text.get_position()[1] - y0) / (y1 - y0)
        free = all(abs(share[0] - a) > wide or abs(share[1] - b) > high for a, b in taken)
        if free and wide / 2 < share[0] < 1 - wide / 2 and high / 2 < share[1] < 1 - high / 2:
            taken.append(share)
        else:
            text.set_visible(False)


def mark_best(axis: "Axes", p: Panel) -> None:
    """Mark the best computed cell with a cross; of equal cells the one nearest to the origin.

    Args:
        axis: Axis of the panel.
        p: The panel; the best cell is the highest one if `p.more_is_better`, otherwise the lowest one.
    """
    if (best := p.best_cell()) is not None:
        j, i = best
        axis.plot(
            p.x[i], p.y[j], "+", color=current_look().ink, markersize=6, markeredgewidth=0.9, zorder=4, clip_on=False
        )


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
    return filled


def _without_duplicates(bounds: np.ndarray) -> np.ndarray:
    """Sorted values without those that rounding has doubled."""
    gap = 1e-6 * (bounds[-1] - bounds[0])
    return bounds[np.append(True, np.diff(bounds) > gap)]


def draw_heat_map(axis: "Axes", p: Panel, scale: ColourScale) -> "ScalarMappable":
    """Draw a coloured rectangle for each cell; arguments and result as for `draw_contours`."""
    return draw_cells(axis, cell_edges(p.x), cell_edges(p.y), p.values, scale)


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


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Compute the edges (n + 1,) of cells from their centres (n,)."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def mark_cells(axis: "Axes", p: Panel) -> None:
    """Mark cells without a colour: grey where nothing is computed, a red cross where the value is not finite.

    Computed cells get a dot where others are interpolated.
    """
    from matplotlib.colors import ListedColormap

    if not p.done.all():
        grey = np.ma.masked_where(p.done, np.ones(p.done.shape))
        axis.pcolormesh(
            cell_edges(p.x), cell_edges(p.y), grey, cmap=ListedColormap([current_look().not_done]), zorder=0.5
        )
    x, y = np.meshgrid(p.x, p.y)
    if p.interpolated is not None:
        computed = p.done & ~p.interpolated
        axis.plot(x[computed], y[computed], ".", color=current_look().ink, alpha=0.5, markersize=1.2, zorder=3.5)
    bad = p.not_finite
    if bad.any():
        looks: Looks = {"color": current_look().accent, "markersize": 4, "clip_on": False, "zorder": 5}
        axis.plot(x[bad], y[bad], "x", label="not finite", **looks)
        axis.legend(loc="upper right", fontsize="small", framealpha=0.9)


def mark_networks(axis: "Axes", p: Panel) -> None:
    """Mark the networks in the plane with their names, and the curve between them."""
    from matplotlib.patheffects import withStroke

    if p.curve:
        axis.plot(*curve_points(p.curve, p.networks), "--", color=current_look().ink, linewidth=1.2, zorder=5)
    for each in p.networks:
        axis.plot(
            each.x,
            each.y,
            "o",
            color=current_look().ink,
            markersize=4,
            markeredgecolor=current_look().ground,
            markeredgewidth=0.7,
            zorder=6,
        )
        at: Looks = {"textcoords": "offset points", "ha": "center", "fontsize": "x-small", "zorder": 7}
        note = axis.annotate(legend_name(each.name), (each.x, each.y), (0, 5), **at)
        note.set_path_effects([withStroke(linewidth=2, foreground=current_look().ground)])
