"""Minima of a surface on its contours, and the depth of each as a bar."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.axis_ticks import set_scale_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.contour_plots import draw_filled_contours, draw_flat
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.landscape.topology import Minimum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 25


def minima_figure(
    plt: FigureFactory, p: Panel, scale: ColourScale, name: str, minima: Sequence[Minimum], depth: float
) -> "Figure":
    """Draw the minima of a surface on its contours, and a bar from the bottom of each to its pass.

    Deep minima have numbers, and the pass into a deeper minimum a cross. A thin line shows how far the height of a pass
    may be off because cells are interpolated.

    Args:
        plt: Maker of figures, see `style`.
        p: The surface.
        scale: Its colour scale.
        name: Name of the field.
        minima: Minima, the deepest first.
        depth: A minimum that is deeper counts as deep, in units of the field.

    Returns:
        The figure.
    """
    rows, size = ((2, 1), (4.2, 7.4)) if is_single_column() else ((1, 2), (9.0, 4.0))
    fig, (left, right) = plt.subplots(*rows, figsize=size, layout="constrained")
    draw_flat(fig, [left], [p], scale, name, draw_filled_contours, colour_bar=False)
    deep = [each for each in minima if each.depth > depth]
    _mark_minima(left, p, minima, deep)
    shown = minima[:MOST_BARS]
    _draw_bars(right, scale, shown, depth)
    bottom, top = scale.limits
    right.set(ylim=(len(shown) - 0.4, -0.6), yticks=[], xlim=(bottom - 0.06 * (top - bottom), top))
    set_scale_ticks(right.xaxis, replace(scale, ranks=()), 7)
    right.set_xlabel(field_title(name))
    more = f", {len(minima) - len(shown)} not drawn" if len(minima) > len(shown) else ""
    right.set_title(f"{len(minima)} minima, {len(deep)} deeper than {depth:g}{more}", fontsize="medium")
    return fig


def _mark_minima(axis: "Axes", p: Panel, minima: Sequence[Minimum], deep: Sequence[Minimum]) -> None:
    """A dot at each minimum; a number, and a cross at the pass, of deep ones."""
    nx = len(p.x)
    dot: Looks = {
        "color": current_look().ground,
        "markersize": 4,
        "markeredgecolor": current_look().ink,
        "markeredgewidth": 0.4,
        "zorder": 4,
    }
    for each in minima:
        j, i = divmod(each.cell, nx)
        axis.plot(p.x[i], p.y[j], ".", **dot)
    for number, each in enumerate(deep[:MOST_BARS], 1):
        j, i = divmod(each.cell, nx)
        axis.annotate(
            str(number),
            (p.x[i], p.y[j]),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize="x-small",
            color=current_look().ink,
            bbox={"facecolor": current_look().ground, "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            zorder=5,
        )
        if each.saddle is not None:
            j, i = divmod(each.saddle, nx)
            axis.plot(p.x[i], p.y[j], "x", color=current_look().accent, markersize=5, zorder=4)


def _draw_bars(axis: "Axes", scale: ColourScale, minima: Sequence[Minimum], depth: float) -> None:
    """A bar for each minimum; an arrow where it runs into no deeper one."""
    for row, each in enumerate(minima):
        start = float(scale.height(each.value))
        end = float(scale.height(each.end)) if np.isfinite(each.end) else scale.limits[1]
        colour = current_look().accent if each.depth > depth else current_look().muted
        axis.plot([start, end], [row, row], "-", color=colour, linewidth=3, solid_capstyle="butt")
        if each.error > 0:
            ends = max(each.value, each.end - each.error), each.end + each.error
            axis.plot([float(scale.height(e)) for e in ends], [row, row], "-", color=current_look().ink, linewidth=0.8)
        if not np.isfinite(each.end):
            axis.plot([end], [row], ">", color=colour, markersize=6, clip_on=False)
        if each.depth > depth:
            at: Looks = {"textcoords": "offset points", "ha": "right", "va": "center", "fontsize": "x-small"}
            axis.annotate(str(row + 1), (start, row), (-4, 0), **at)
