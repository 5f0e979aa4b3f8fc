"""Surfaces in three dimensions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures.maps import MAP, NOT_FINITE, Panel
from lossatlas.figures.style import Scale, title_of


def solid_figure(plt: Any, panels: Sequence[Panel], scale: Scale, name: str, zlim: float | None) -> Any:
    """3-D surfaces side by side, with the same heights and colours."""
    fig = plt.figure(figsize=(5.2 * len(panels), 4.6))
    for k, p in enumerate(panels):
        axis = fig.add_subplot(1, len(panels), k + 1, projection="3d", computed_zorder=False)
        draw_solid(axis, p, scale, name, zlim)
        if len(panels) > 1:
            axis.set_title(p.label)
    fig.subplots_adjust(left=0, right=0.96, bottom=0.02, top=0.96, wspace=0.08)
    return fig


def draw_solid(axis: Any, p: Panel, scale: Scale, name: str, zlim: float | None) -> None:
    """A surface on an axis with three dimensions, cut off at `zlim`. Raises BadUsage where nothing is left."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    floor, ceiling = scale.limits
    if zlim is not None:
        if zlim <= scale.low:
            raise BadUsage(f"--zlim {zlim:g} is not above the lowest value, {scale.low:g}")
        ceiling = float(np.log10(zlim) if scale.log else zlim)
    x, y, z = p.part
    axis.plot_surface(
        *np.meshgrid(x, y),
        np.minimum(scale.height(z), ceiling),
        cmap=MAP,
        vmin=floor,
        vmax=scale.limits[1],
        rstride=1,
        cstride=1,
        linewidth=0.15,
        edgecolor=(1, 1, 1, 0.25),
        antialiased=True,
    )
    mark_in_space(axis, p, floor, ceiling)
    axis.set_zlim(floor, ceiling)
    axis.zaxis.set_major_locator(MaxNLocator(5, integer=scale.log and ceiling - floor > 2))
    axis.zaxis.set_major_formatter(FuncFormatter(lambda height, _: scale.text(height)))
    for flat in (axis.xaxis, axis.yaxis):
        flat.set_major_locator(MaxNLocator(5))
    axis.tick_params(labelsize="small", pad=1)
    axis.set(xlabel="x", ylabel="y")
    axis.set_zlabel(title_of(name), labelpad=6)
    axis.view_init(elev=32, azim=-60)
    axis.set_box_aspect((1, 1, 0.75), zoom=0.88)
    for pane in (axis.xaxis, axis.yaxis, axis.zaxis):
        pane.set_pane_color((1, 1, 1, 0))
        pane._axinfo["grid"].update(color=(0, 0, 0, 0.12), linewidth=0.5)
    if p.note:
        axis.text2D(0.02, 0.02, p.note, transform=axis.transAxes, fontsize="small")


def mark_in_space(axis: Any, p: Panel, floor: float, ceiling: float) -> None:
    """Red crosses where a value is not finite: at the top where it is plus infinity, otherwise at the bottom."""
    bad = p.done & ~np.isfinite(p.values)
    if not bad.any():
        return
    x, y = np.meshgrid(p.x, p.y)
    heights = np.where(np.isposinf(p.values[bad]), ceiling, floor)
    axis.plot(x[bad], y[bad], heights, "x", color=NOT_FINITE, markersize=4, label="not finite", zorder=5)
    axis.legend(loc="upper right", fontsize="small", framealpha=0.9)
