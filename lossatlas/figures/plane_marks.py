"""Marks on planes seen from above: best cell, cells without a value, clipped regions, networks; and their legend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.clipped_parts import cells_outside, ends_of
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.inner_names import KEPT_CLEAR, InnerName
from lossatlas.figures.matplotlib_style import Looks, is_single_column
from lossatlas.figures.network_marks import curve_points
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel, cell_edges, legend_name
from lossatlas.figures.solid_layout import turned_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLIPPED_HATCH = "////"
BEST_ORDER = 6.5  # drawing order: above a training run and its star, below networks and names
BEST_LABELS = {False: "lowest value", True: "highest value"}
CURVE_NAMES = {"bezier": "Bézier curve", "polygonal": "polygonal chain"}


def mark_best(axis: "Axes", p: Panel) -> None:
    """Mark the best computed cell with a hollow cross; of equal cells the one nearest to the origin.

    Args:
        axis: Axis of the panel.
        p: The panel; the best cell is the highest one if `p.more_is_better`, otherwise the lowest one.
    """
    if (best := p.best_cell()) is not None:
        j, i = best
        looks: Looks = {
            "markerfacecolor": current_look().ground,
            "markeredgecolor": current_look().ink,
            "markeredgewidth": 0.8,
        }
        looks |= {"linestyle": "none", "markersize": 7, "zorder": BEST_ORDER, "clip_on": False}
        axis.plot(p.x[i], p.y[j], "P", label=BEST_LABELS[p.more_is_better], gid=KEPT_CLEAR, **looks)


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
        axis.plot(x[bad], y[bad], "x", linestyle="none", label="not finite", **looks)


def mark_clipped_cells(axis: "Axes", p: Panel, scale: ColourScale) -> None:
    """Hatch the cells of a heat map whose values lie beyond the range of the scale."""
    from matplotlib.collections import PolyCollection

    x, y = cell_edges(p.x), cell_edges(p.y)
    cells = [
        ((x[i], y[j]), (x[i + 1], y[j]), (x[i + 1], y[j + 1]), (x[i], y[j + 1]))
        for j, i in np.argwhere(np.logical_or(*cells_outside(p.values, *ends_of(scale))))
    ]
    if cells:
        looks: Looks = {"facecolor": "none", "edgecolor": current_look().muted, "hatch": CLIPPED_HATCH, "linewidth": 0}
        axis.add_collection(PolyCollection(cells, zorder=1.5, label="_clipped", **looks), autolim=False)


def mark_clipped_regions(axis: "Axes", x: np.ndarray, y: np.ndarray, heights: np.ndarray, scale: ColourScale) -> None:
    """Hatch what lies beyond the range of the scale on a plane of contours.

    Args:
        axis: Axis of the panel.
        x: (nx,) coordinates.
        y: (ny,) coordinates.
        heights: (ny, nx) heights on the scale.
        scale: Colour scale of the figure.
    """
    low, high = scale.limits
    span = high - low
    ends = [(high, high + 10 * span)] * scale.above + [(low - 10 * span, low)] * scale.below
    for bounds in ends:
        inside = (heights > bounds[0]) & (heights < bounds[1])
        if inside.any():
            hatched = axis.contourf(x, y, heights, levels=bounds, colors="none", hatches=[CLIPPED_HATCH], zorder=1.5)
            hatched.set(edgecolor=current_look().muted, linewidth=0)


def mark_networks(axis: "Axes", p: Panel) -> None:
    """Mark the networks in the plane with their names, and the curve between them."""
    from matplotlib.patheffects import withStroke

    if p.curve:
        looks: Looks = {"color": current_look().ink, "linewidth": 1.2, "zorder": 5, "label": CURVE_NAMES[p.curve]}
        axis.plot(*curve_points(p.curve, p.networks), "--", **looks)
    dot: Looks = {"color": current_look().ink, "markeredgecolor": current_look().ground, "markeredgewidth": 0.7}
    for each in p.networks:
        axis.plot(each.x, each.y, "o", markersize=4, zorder=6.8, **dot)
        looks = {"fontsize": "x-small", "zorder": 7}
        note = InnerName(axis, legend_name(each.name), (each.x, each.y), (0, 5), turns=False, **looks)
        note.set_path_effects([withStroke(linewidth=2, foreground=current_look().ground)])


def label_obstacles(axis: "Axes", p: Panel, size: tuple[float, float]) -> list[np.ndarray]:
    """List where networks, their names and the mark of the best cell stand, which labels of contours should leave free.

    Args:
        axis: Axis of the panel.
        p: The panel.
        size: Width and height of a contour's label, as shares of the frame.

    Returns:
        Corners (4, 2) of boxes, as shares of the frame.
    """
    (x0, x1), (y0, y1) = axis.get_xlim(), axis.get_ylim()
    wide, high = size
    taken = []
    for each in p.networks:
        x, y = (each.x - x0) / (x1 - x0), (each.y - y0) / (y1 - y0)
        name = 0.26 * wide * min(len(each.name), 28)
        taken += [turned_box((x, y), (wide, high)), turned_box((x, y + 0.8 * high), (name, high))]
    if (best := p.best_cell()) is not None:
        place = (p.x[best[1]] - x0) / (x1 - x0), (p.y[best[0]] - y0) / (y1 - y0)
        taken.append(turned_box(place, (0.8 * high, 0.8 * high)))
    return taken


def draw_mark_legend(fig: "Figure", axes: "Sequence[Axes]", *, below: bool) -> None:
    """Say in a legend what the marks mean.

    Args:
        fig: Figure of the axes.
        axes: Axes whose labelled artists the legend names, each label once.
        below: Draw one legend below all axes; otherwise, on an axis of the user's, one on each axis that needs it.
    """
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if not below:
        for axis in axes:
            if set(axis.get_legend_handles_labels()[1]) - set(BEST_LABELS.values()):
                axis.legend(loc="best", fontsize="x-small", framealpha=0.9)
        return
    if found:
        columns = min(len(found), 2 if is_single_column() or len(axes) == 1 else 4)
        looks: Looks = {"frameon": False, "fontsize": "small", "ncols": columns, "handletextpad": 0.4}
        fig.legend(list(found.values()), list(found), loc="outside lower center", **looks)
