"""Charts of local planes along a training run: the borders between the planes, and how much the chart distorts."""

from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.matplotlib_style import Looks, letters
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.trajectory_plots import in_words
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.chart_cells import DISTORTION
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP, GAP = 0.2, 0.07  # height of a strip and of the space above it, as shares of the map's height
MOST_BORDERS = 60  # between planes; more of them would hide the map
LIGHT = 0.35  # opacity of the largest values of a column, beside the median


def strips_height(p: Panel, path: Projection | None) -> float:
    """Return the height of the strips under a chart, as a share of the map's height; 0 for a plane."""
    return (STRIP + GAP) * len(strips_of(p, path))


def draw_distortion(axis: "Axes", p: Panel, path: Projection | None) -> None:
    """Draw the borders between the planes of a chart, and strips under it that show how much it distorts.

    Args:
        axis: Axis of the map.
        p: The chart.
        path: The training run along which it lies; None where only the file of the surface is at hand.
    """
    strips = strips_of(p, path)
    borders = [] if path is None or len(path.x) > MOST_BORDERS else ((path.x[1:] + path.x[:-1]) / 2).tolist()
    looks: Looks = {"color": current_look().ink, "linewidth": 0.5, "linestyle": (0, (4, 3)), "alpha": 0.5}
    panels = [axis]
    for k, (title, x, middle, most) in enumerate(strips):
        strip = axis.inset_axes((0, -(k + 1) * (STRIP + GAP), 1, STRIP), sharex=axis)
        colour = current_look().drop if k else current_look().ink
        style: Looks = {"color": colour, "linewidth": 0, "step": "mid" if k == 0 else None}
        strip.fill_between(x, 0, most, alpha=LIGHT, label="largest of the column", **style)
        strip.fill_between(x, 0, middle, alpha=0.8, label="median", **style)
        top = float(np.nanmax(most, initial=0.0))
        strip.set_ylim(0, 1.1 * top if top > 0 else 1)
        strip.set_ylabel(title, fontsize=letters(6), rotation=0, ha="right", va="center")
        strip.tick_params(axis="y", labelsize=letters(6))
        strip.locator_params(axis="y", nbins=2)
        panels.append(strip)
    for each in panels:
        for border in borders:
            each.axvline(border, zorder=3, **looks)
    for each in panels[:-1]:
        each.tick_params(labelbottom=False)
    panels[-1].set_xlabel(axis.get_xlabel())
    axis.set_xlabel("")


def strips_of(p: Panel, path: Projection | None) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Return title, abscissae, medians and largest values of the columns, in percent, of every strip under a chart."""
    if p.distortion is None:
        return []
    parts = [("outside its\nplane (%)", p.x, 100 * p.distortion)]
    if path is not None and path.own_planes is not None:
        changes = 100 * np.abs(path.own_planes.ratio - 1)
        parts.append(("change of\nloss (%)", path.own_planes.x, changes))
    strips = []
    for title, x, values in parts:
        known = np.isfinite(values).any(0)
        shown = values[:, known]
        strips.append((title, x[known], np.nanmedian(shown, 0), np.nanmax(shown, 0)))
    return [strip for strip in strips if len(strip[1]) > 1]


def describe_distortion(surface: Surface, path: Projection) -> list[str]:
    """Describe how much a chart distorts, in parameters and in losses.

    Args:
        surface: The surface of the chart.
        path: The training run, with the losses of cells in their own planes.

    Returns:
        One sentence for each; none where nothing is computed.
    """
    shares, lines = surface.fields[DISTORTION], []
    if (known := shares[np.isfinite(shares)]).size:
        lines.append(
            f"{field_title(DISTORTION)}: {100 * np.median(known):.2g} % (median), {100 * known.max():.2g} % at most"
        )
    if path.own_planes is None:
        return lines
    ratio = path.own_planes.ratio
    if (factors := np.exp(np.abs(np.log(ratio[np.isfinite(ratio)])))).size:
        median, most = (in_words(float(factor)) for factor in (np.median(factors), factors.max()))
        lines.append(
            f"in the planes of their nearest checkpoints the losses of {factors.size} cells differ by {median} "
            f"(median), {most} at most"
        )
    return lines
