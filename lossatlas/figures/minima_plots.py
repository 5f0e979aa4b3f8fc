"""Minima of a surface on its filled contours, and the depth of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import counted
from lossatlas.figures.axis_ticks import set_log_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.contour_plots import draw_filled_contours, draw_flat, flat_size
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.merge_tree_plots import draw_merge_tree
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.landscape.topology import Minimum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

MOST_ROWS = 25
AROUND, BELOW = (90, 270, 0, 180, 45, 135, 225, 315), (270, 225, 315, 180, 0)  # degrees
OFF_AXIS = 0.06  # share of the frame by which the lowest minimum, whose depth has no end, stands inside its edge


def minima_figure(
    plt: FigureFactory,
    p: Panel,
    scale: ColourScale,
    name: str,
    *,
    minima: Sequence[Minimum],
    depth: float,
    tree: bool = False,
) -> "Figure":
    """Draw the minima of a surface on its contours, and beside them the depth of each on a logarithmic axis.

    The depth is the height of the lowest pass into a deeper minimum above the bottom, also called persistence. Deep
    minima have numbers and filled dots, and the pass of each has a cross. A thin line shows how far a depth may be off
    because cells are interpolated.

    Args:
        plt: Maker of figures, see `style`.
        p: The surface.
        scale: Its colour scale.
        name: Name of the field.
        minima: Minima, the deepest first.
        depth: A minimum that is deeper counts as deep, in units of the field.
        tree: Draw the merge tree of the minima instead of their depths.

    Returns:
        The figure.
    """
    width, height = flat_size([p])
    rows, size = ((2, 1), (width, 2 * height)) if is_single_column() else ((1, 2), (width + 4.2, height + 0.3))
    fig, (left, right) = plt.subplots(*rows, figsize=size, layout="constrained")
    draw_flat(fig, [left], [p], scale, name, draw_panel=draw_filled_contours)
    deep = [each for each in minima if each.depth > depth]
    _mark_minima(left, p, minima, deep)
    _draw_minima(right, minima, depth, field_title(name), tree=tree, log=scale.log)
    handles, labels = left.get_legend_handles_labels()
    columns = 1 if is_single_column() else 4
    fig.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    fig.draw_without_rendering()
    _keep_numbers_inside(left)
    if tree:
        _keep_numbers_inside(right, BELOW)
    return fig


def volume_minima_figure(
    plt: FigureFactory, scale: ColourScale, name: str, *, minima: Sequence[Minimum], depth: float, tree: bool = False
) -> "Figure":
    """Draw the depths of the minima of a volume, or their merge tree.

    Args:
        plt: Maker of figures, see `style`.
        scale: Colour scale of the field.
        name: Name of the field.
        minima: Minima, the deepest first.
        depth: A minimum that is deeper counts as deep, in units of the field.
        tree: Draw the merge tree of the minima instead of their depths.

    Returns:
        The figure.
    """
    fig, axis = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
    _draw_minima(axis, minima, depth, field_title(name), tree=tree, log=scale.log)
    fig.draw_without_rendering()
    if tree:
        _keep_numbers_inside(axis, BELOW)
    return fig


def _draw_minima(axis: "Axes", minima: Sequence[Minimum], depth: float, title: str, *, tree: bool, log: bool) -> None:
    """Draw the merge tree of minima, or their depths, with their numbers as a title."""
    if tree:
        draw_merge_tree(axis, minima, depth, title, log=log)
    else:
        _list_depths(axis, minima, depth, title)
    deep = sum(each.depth > depth for each in minima)
    axis.set_title(f"{counted(len(minima), 'minimum', 'minima')}, {deep} deeper than {depth:g}", fontsize="medium")


def _list_depths(axis: "Axes", minima: Sequence[Minimum], depth: float, title: str) -> None:
    """Draw the depths of the deepest minima, and say how many are left out."""
    shown = minima[:MOST_ROWS]
    _draw_depths(axis, shown, depth)
    axis.set_xlabel(f"depth: height of the pass above the minimum,\nin units of the {title}")
    if len(minima) > len(shown):
        where: Looks = {"transform": axis.transAxes, "ha": "right", "va": "bottom", "fontsize": "x-small"}
        axis.text(0.98, 0.02, f"{len(minima) - len(shown)} shallower ones not listed", **where)


def _mark_minima(axis: "Axes", p: Panel, minima: Sequence[Minimum], deep: Sequence[Minimum]) -> None:
    """Draw a dot at each minimum, a filled one with a number at a deep one, and a cross at the pass of a deep one."""
    nx = len(p.x)

    def draw(cells: Sequence[int], marker: str, label: str, **looks: Any) -> None:
        if cells:
            j, i = np.divmod(cells, nx)
            axis.plot(p.x[i], p.y[j], marker, linestyle="none", label=label, **looks)

    shallow = [each.cell for each in minima if each not in deep]
    look = current_look()
    dot: Looks = {"color": look.ground, "markeredgecolor": look.ink, "markeredgewidth": 0.5, "clip_on": False}
    draw(shallow, "o", "minimum", markersize=2.6, zorder=4, **dot)
    passes = [each.saddle for each in deep[:MOST_ROWS] if each.saddle is not None]
    draw(passes, "X", "pass of a deep minimum into a deeper one", markersize=5, zorder=4.5, **dot)
    deep_looks: Looks = {"color": look.accent, "markeredgecolor": look.ground, "markeredgewidth": 0.7, "clip_on": False}
    draw([each.cell for each in deep], "o", "deep minimum, with its number", markersize=5.5, zorder=5, **deep_looks)
    for number, each in enumerate(deep[:MOST_ROWS], 1):
        j, i = divmod(each.cell, nx)
        at: Looks = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": "x-small", "zorder": 6}
        box = {"facecolor": look.ground, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        axis.annotate(str(number), (p.x[i], p.y[j]), (0, 8), color=look.ink, bbox=box, **at)


def _keep_numbers_inside(axis: "Axes", angles: Sequence[int] = AROUND) -> None:
    """Move the numbers of minima to that side of their dots where they lie in the frame and on no other number.

    Args:
        axis: The axis with the numbers.
        angles: The sides in degrees, in the order of preference.
    """
    from matplotlib.text import Annotation

    frame = axis.get_window_extent()
    taken: list[Bbox] = []
    for note in axis.texts:
        if not isinstance(note, Annotation):
            continue
        for angle in np.deg2rad(angles):
            note.xyann = (8.5 * np.cos(angle), 8.5 * np.sin(angle))
            box = note.get_window_extent().padded(1)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(note.get_window_extent().padded(1))


def _draw_depths(axis: "Axes", minima: Sequence[Minimum], depth: float) -> None:
    """Draw a dot at the depth of each minimum, one row each; the lowest one, without a deeper one, has an arrow."""
    look = current_look()
    finite = [each.depth for each in minima if np.isfinite(each.depth) and each.depth > 0]
    low, high = (
        (min([*finite, depth]), max([*finite, depth]))
        if depth > 0
        else (min(finite, default=1), max(finite, default=10))
    )
    low, high = low / 1.5, high * 2.2
    axis.set(xscale="log", xlim=(low, high), ylim=(len(minima) - 0.4, -0.6))
    for row, each in enumerate(minima):
        is_deep = each.depth > depth
        colour = look.accent if is_deep else look.muted
        end = each.depth if np.isfinite(each.depth) else high
        axis.plot([low, end], [row, row], ":", color=colour, linewidth=0.8, zorder=1)
        if not np.isfinite(each.depth):
            axis.plot([1 - OFF_AXIS / 2], [row], ">", color=colour, markersize=6, transform=axis.get_yaxis_transform())
            where: Looks = {
                "transform": axis.get_yaxis_transform(),
                "ha": "right",
                "va": "center",
                "fontsize": "x-small",
                "zorder": 1.5,  # below the dots of the next rows
            }
            box = {"facecolor": axis.get_facecolor(), "edgecolor": "none", "pad": 1}
            axis.text(1 - OFF_AXIS, row, f"the lowest, {each.value:.3g}: no pass", bbox=box, **where)
            continue
        if each.error > 0:
            axis.plot([max(low, end - each.error), end + each.error], [row, row], "-", color=look.ink, linewidth=0.8)
        axis.plot([end], [row], "o", color=colour, markersize=5, markerfacecolor=colour if is_deep else look.ground)
    if low < depth < high:
        axis.axvline(depth, color=look.muted, linestyle="--", linewidth=0.9, zorder=0)
    numbers = range(sum(each.depth > depth for each in minima))
    axis.set_yticks(list(numbers), labels=[str(k + 1) for k in numbers], fontsize="x-small")
    axis.tick_params(axis="y", length=0)
    axis.set_ylabel("number of the minimum", fontsize="small")
    set_log_ticks(axis, "x")
