"""Charts of local planes along a training run: the borders between the planes, and how much the chart distorts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.matplotlib_style import Looks, letters
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel, cell_edges
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.trajectory_plots import factor_words
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.chart_cells import CHART_FOLDS, DISTORTION
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP, GAP = 0.2, 0.07  # height of a strip and of the space above it, as shares of the map's height
MOST_BORDERS = 60  # between planes; more of them would hide the map
LIGHT, DARK = 0.3, 0.8  # opacity of the largest values of the columns, and of their medians
BAR = 3.0  # points, of the bars of some columns
ZERO_SHARE = 1e-9  # smaller shares are rounding
BORDER_LABEL = "border between two planes"
FOLD_LABEL, FOLD_HATCH = "the chart folds", "xxxx"
MEDIAN_LABEL, LARGEST_LABEL = "median of a column", "largest of a column"


@dataclass(frozen=True)
class Strip:
    """Values of the columns of a chart, for a strip under its map.

    Attributes:
        title: Their name.
        x: (n,), abscissae of the columns.
        median: (n,), medians.
        largest: (n,), largest values.
        whole: All columns of the chart are there.
    """

    title: str
    x: np.ndarray
    median: np.ndarray
    largest: np.ndarray
    whole: bool

    @classmethod
    def of(cls, title: str, x: np.ndarray, values: np.ndarray, *, whole: bool) -> "Strip":
        """Return the strip of some columns.

        Args:
            title: Their name.
            x: (nx,) abscissae of the columns.
            values: (ny, nx) values; columns without a finite one are left out.
            whole: All columns of the chart are there.
        """
        known = np.isfinite(values).any(0)
        shown = values[:, known]
        return cls(title, x[known], np.nanmedian(shown, 0), np.nanmax(shown, 0, initial=0.0), whole)


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
    look, panels = current_look(), [axis]
    if p.folded is not None and p.folded.any():
        mark_folds(axis, p, p.folded)
    for k, strip in enumerate(strips_of(p, path)):
        inset = axis.inset_axes((0, -(k + 1) * (STRIP + GAP), 1, STRIP), sharex=axis)
        draw_strip(inset, strip)
        panels.append(inset)
    borders = [] if path is None or len(path.x) > MOST_BORDERS else ((path.x[1:] + path.x[:-1]) / 2).tolist()
    looks: Looks = {"color": look.ink, "linewidth": 0.6, "linestyle": (0, (4, 3)), "alpha": 0.6}
    for each in panels:
        for k, border in enumerate(borders):
            each.axvline(border, zorder=3, label=BORDER_LABEL if k == 0 and each is axis else None, **looks)
    if len(panels) == 1:
        return
    for alpha, label in ((LIGHT, LARGEST_LABEL), (DARK, MEDIAN_LABEL)):
        axis.fill_between([], [], [], color=look.ink, linewidth=0, alpha=alpha, label=label)
    for each in panels[:-1]:
        each.tick_params(labelbottom=False)
    panels[-1].set_xlabel(axis.get_xlabel())
    axis.set_xlabel("")


def mark_folds(axis: "Axes", p: Panel, folded: np.ndarray) -> None:
    """Hatch the cells (ny, nx) at which a chart folds."""
    ink = current_look().ink
    looks: Looks = {"levels": [0.5, 1.5], "colors": "none", "hatches": [FOLD_HATCH], "zorder": 2}
    hatched = axis.contourf(p.x, p.y, folded.astype(float), **looks)
    hatched.set(edgecolor=ink, linewidth=0)
    axis.fill_between([], [], [], facecolor="none", edgecolor=ink, hatch=FOLD_HATCH, linewidth=0.5, label=FOLD_LABEL)


def draw_strip(axis: "Axes", strip: Strip) -> None:
    """Draw a strip under a chart: bars up to the median and up to the largest value of each column.

    Args:
        axis: Axis of the strip.
        strip: Its values.
    """
    colour = current_look().ink if strip.whole else current_look().drop
    for top, alpha in ((strip.largest, LIGHT), (strip.median, DARK)):
        if strip.whole:
            axis.bar(strip.x, top, np.diff(cell_edges(strip.x)), color=colour, alpha=alpha, linewidth=0)
        else:
            axis.vlines(strip.x, 0, top, color=colour, alpha=alpha, linewidth=BAR)
    highest = float(strip.largest.max(initial=0.0))
    axis.set_ylim(0, 1.15 * highest if highest > 0 else 1.0)
    axis.set_ylabel(strip.title, fontsize=letters(6), rotation=0, ha="right", va="center")
    axis.tick_params(axis="y", labelsize=letters(6))
    axis.locator_params(axis="y", nbins=2)


def strips_of(p: Panel, path: Projection | None) -> list[Strip]:
    """Return the strips under a chart: its distortion, and the changes of the loss where these are known."""
    if p.distortion is None:
        return []
    strips = [Strip.of("outside the\nplane (%)", p.x, 100 * p.distortion, whole=True)]
    if path is not None and (own := path.own_planes) is not None:
        changes = 100 * np.abs(own.ratio - 1)
        strips.append(Strip.of("change of\nthe loss (%)", own.x, changes, whole=len(own.x) == len(p.x)))
    return [strip for strip in strips if len(strip.x) > 1]


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
        median, most = (f"{100 * each if each > ZERO_SHARE else 0:.2g} %" for each in (np.median(known), known.max()))
        lines.append(f"{field_title(DISTORTION)}: {median} (median), {most} at most")
    if CHART_FOLDS in surface.fields and (count := int((surface.fields[CHART_FOLDS] > 0).sum())):
        lines.append(
            f"the chart folds at {count} of {surface.grid.size} cells: too far aside for the turns of the path, "
            "they go back along it"
        )
    if path.own_planes is None:
        return lines
    ratio = path.own_planes.ratio
    if (factors := np.exp(np.abs(np.log(ratio[np.isfinite(ratio)])))).size:
        median, most = (factor_words(float(factor)) for factor in (np.median(factors), factors.max()))
        lines.append(
            f"in the planes of their nearest checkpoints the losses of {factors.size} cells differ by {median} "
            f"(median), {most} at most"
        )
    return lines
