"""A field along lines on one axis, with a legend: curves in memory, and the rows of a surface."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from lossatlas.figures.line_plots import X_LABEL, AxisLimits, draw_curve, needs_log_axis
from lossatlas.figures.matplotlib_style import Looks, changed_by_user
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.figures.plot_options import PlotOptions
from lossatlas.figures.plotted_fields import (
    default_field,
    extreme_eigenvalues,
    field_title,
    loss_names,
    mathtext,
    row_labels,
)
from lossatlas.figures.repeats_plots import draw_mean, spans_decades, spread_handles
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_NAMED = 10  # rows of a surface that the legend of a curve names


def fields_of_curve(surface: Surface, options: PlotOptions) -> "list[Line]":
    """Return the lines of the fields of a curve to draw, each in a style of its own."""
    if options.field is None:
        names = loss_names(surface) or list(extreme_eigenvalues(surface).values())
        found = [(surface, name) for name in names or [default_field(surface)]]
    else:
        found = [options.find(surface)]
    colour = "C0" if changed_by_user("axes.prop_cycle") else current_look().main
    dashes = itertools.cycle(("-", "--", "-.", ":"))
    return [
        Line(each, name, {"color": colour, "linestyle": dash, "label": field_title(name)})
        for (each, name), dash in zip(found, dashes, strict=False)
    ]


@dataclass(frozen=True)
class Line:
    """A field of a curve to draw.

    Attributes:
        surface: The curve.
        name: Name of the field.
        looks: Keywords of matplotlib's `plot`.
    """

    surface: Surface
    name: str
    looks: Looks


def draw_lines(axis: "Axes", lines: Sequence[Line], options: PlotOptions) -> None:
    """Draw fields along lines on one axis, with a legend where there are several.

    Args:
        axis: Axis to draw on.
        lines: The fields of each curve.
        options: Options of the figure.
    """
    values = np.concatenate([each.surface.fields[each.name] for each in lines])
    width: Looks = {"linewidth": matplotlib.rcParams["lines.linewidth"]} if changed_by_user("lines.linewidth") else {}
    for each in lines:
        draw_curve(axis, each.surface, each.name, **{**width, **each.looks, **(options.looks or {})})
    log = needs_log_axis(values) if options.log is None else options.log
    AxisLimits(log=log).apply(axis)
    limit_height(axis, options)
    names = list(dict.fromkeys(each.name for each in lines))
    several = "eigenvalue of the Hessian" if names == ["max_eig", "min_eig"] else "loss"
    axis.set(xlabel=X_LABEL, ylabel=several if len(names) > 1 else field_title(names[0]))
    if options.title is not None:
        axis.set_title(mathtext(options.title))
    if len(lines) > 1:
        axis.legend(frameon=False)


def limit_height(axis: "Axes", options: PlotOptions) -> None:
    """Set the limits of the vertical axis that the user gives; otherwise later curves on it still move them."""
    if options.vmin is not None or options.vmax is not None:
        axis.set_ylim(options.vmin, options.vmax)


def draw_rows(axis: "Axes", surface: Surface, name: str, options: PlotOptions) -> None:
    """Draw each row of a surface as a curve; the legend names them where they are few.

    Args:
        axis: Axis to draw on.
        surface: A surface whose rows are repeats or layers.
        name: Name of the field.
        options: Options of the figure.
    """
    if surface.rows_of == "repeats" and surface.done.all():
        draw_repeated_lines(axis, surface, name, options)
        return
    rows = [mathtext(each) for each in row_labels(surface)]
    few = len(rows) <= MOST_NAMED
    lines = [
        Line(surface.curve(k), name, {"color": colour, "label": row if few else None, "linewidth": 1.1})
        for k, (row, colour) in enumerate(zip(rows, curve_colours(), strict=False))
    ]
    draw_lines(axis, lines, options)
    if few:
        axis.legend(frameon=False, fontsize="x-small")
    elif legend := axis.get_legend():
        legend.remove()


def draw_repeated_lines(axis: "Axes", surface: Surface, name: str, options: PlotOptions) -> None:
    """Draw lines along random directions, their mean, and its confidence interval.

    Args:
        axis: Axis to draw on.
        surface: A complete surface whose rows are repeats.
        name: Name of the field.
        options: Options of the figure.
    """
    values, looks = surface.fields[name], dict(options.looks or {})
    colour, line = looks.get("color", current_look().main), looks.get("linestyle") or "-"
    label = looks.get("label") or f"mean of {len(values)} directions"
    draw_mean(axis, surface.grid.x, values, color=colour, linestyle=line, label=label)
    AxisLimits(log=spans_decades([values]) if options.log is None else options.log).apply(axis)
    limit_height(axis, options)
    axis.set(xlabel=X_LABEL, ylabel=field_title(name))
    if options.title is not None:
        axis.set_title(mathtext(options.title))
    spread = spread_handles(colour)
    axis.legend(handles=[*axis.get_legend_handles_labels()[0], *spread], frameon=False, fontsize="small")
