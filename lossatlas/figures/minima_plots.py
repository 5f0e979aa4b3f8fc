"""The minima of a surface on its contours, and their bars."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lossatlas.figures.contour_plots import Panel, draw_flat, filled, plain_ticks
from lossatlas.figures.style import Scale, narrow, title_of
from lossatlas.landscape.topology import Minimum

MOST = 25  # bars
DEEP, SHALLOW = "#c0392b", "0.55"


def draw_minima(plt: Any, p: Panel, scale: Scale, name: str, found: Sequence[Minimum], depth: float) -> Any:
    """Deep ones have numbers, and the pass into the deeper one a cross; a bar reaches from the bottom to the pass.

    A thin line is how far the pass may be off because cells are interpolated.
    """
    rows, size = ((2, 1), (4.2, 7.4)) if narrow() else ((1, 2), (9.0, 4.0))
    fig, (left, right) = plt.subplots(*rows, figsize=size, layout="constrained")
    draw_flat(fig, [left], [p], scale, name, filled, (), bar=False)
    nx = len(p.x)
    deep = [each for each in found if each.depth > depth]
    for each in found:
        j, i = divmod(each.cell, nx)
        left.plot(
            p.x[i], p.y[j], ".", color="white", markersize=4, markeredgecolor="black", markeredgewidth=0.4, zorder=4
        )
    for number, each in enumerate(deep[:MOST], 1):
        j, i = divmod(each.cell, nx)
        left.annotate(
            str(number),
            (p.x[i], p.y[j]),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize="x-small",
            color="black",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            zorder=5,
        )
        if each.saddle is not None:
            j, i = divmod(each.saddle, nx)
            left.plot(p.x[i], p.y[j], "x", color=DEEP, markersize=5, zorder=4)
    top = scale.limits[1]
    shown = found[:MOST]
    for row, each in enumerate(shown):
        start, end = float(scale.height(each.value)), float(scale.height(each.end)) if np.isfinite(each.end) else top
        colour = DEEP if each.depth > depth else SHALLOW
        right.plot([start, end], [row, row], "-", color=colour, linewidth=3, solid_capstyle="butt")
        if each.error > 0:
            reach = [
                float(scale.height(max(each.value, each.end - each.error))),
                float(scale.height(each.end + each.error)),
            ]
            right.plot(reach, [row, row], "-", color="black", linewidth=0.8)
        if not np.isfinite(each.end):
            right.plot([end], [row], ">", color=colour, markersize=6, clip_on=False)
        if each.depth > depth:
            right.annotate(
                str(row + 1),
                (start, row),
                (-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize="x-small",
            )
    right.set(ylim=(len(shown) - 0.4, -0.6), yticks=[], xlim=(scale.limits[0] - 0.06 * (top - scale.limits[0]), top))
    plain_ticks(right.xaxis, scale, 7)
    right.set_xlabel(title_of(name))
    more = f", {len(found) - len(shown)} not drawn" if len(found) > len(shown) else ""
    right.set_title(f"{len(found)} minima, {len(deep)} deeper than {depth:g}{more}", fontsize="medium")
    return fig
