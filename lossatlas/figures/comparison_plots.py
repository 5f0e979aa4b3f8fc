"""Several landscapes in one figure: planes side by side on one scale, curves over each other."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.figures import contour_plots
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.contour_plots import flat_figure
from lossatlas.figures.curve_plots import Line, draw_lines
from lossatlas.figures.kinds import Kind
from lossatlas.figures.line_plots import DASHES, note_incomplete
from lossatlas.figures.matplotlib_style import FigureFactory, users_style
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.figures.panels import Panel
from lossatlas.figures.plot_functions import plane_panel
from lossatlas.figures.plot_options import FIGURE_SIZE, PlotOptions
from lossatlas.figures.plotted_fields import field_title, mathtext
from lossatlas.figures.solid_layout import SolidLayout
from lossatlas.figures.surface_plots import draw_solid, shape_of_solids
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

NO_CURVES = "these landscapes are lines: compare them as curves"


def comparison_figure(
    plt: FigureFactory, surfaces: Sequence[Surface], labels: Sequence[str], kind: Kind, options: PlotOptions
) -> "Figure":
    """Draw several landscapes.

    Args:
        plt: Maker of figures, see `style`.
        surfaces: Planes, or lines.
        labels: Name of each.
        kind: Any of `kinds.OF_SURFACE`; a curve of lines, the others of planes.
        options: Options of the figure.

    Returns:
        The figure.

    Raises:
        BadUsage: The kind or an option does not suit the landscapes.
    """
    labels = [mathtext(label) for label in labels]
    with users_style(options.columns, options.look):
        if kind is Kind.CURVE:
            return _curves(plt, surfaces, labels, options)
        found = [plane_panel(each, options, NO_CURVES, label) for each, label in zip(surfaces, labels, strict=True)]
        name, panels = found[0][0], [panel for _, panel in found]
        if kind is Kind.SOLID:
            return _solids(plt, panels, name, options)
        return _flat(plt, panels, name, kind, options)


def _flat(
    plt: FigureFactory,
    panels: Sequence[Panel],
    name: str,
    kind: Kind,
    options: PlotOptions,
) -> "Figure":
    scale, draw_panel = options.scale(panels, name), contour_plots.DRAW_FLAT[kind]
    fig = flat_figure(plt, panels, scale, name, draw_panel, colour_bar=options.colorbar is not False)
    if options.figsize is not None or options.columns:
        width, height = fig.get_size_inches()
        wanted = options.size
        fig.set_size_inches(*(wanted if options.figsize else (wanted[0], wanted[0] * height / width)))
    if options.title:
        fig.suptitle(mathtext(options.title), wrap=True)
    return fig


def _solids(plt: FigureFactory, panels: Sequence[Panel], name: str, options: PlotOptions) -> "Figure":
    scale, count = options.scale(panels, name), len(panels)
    rows, columns = shape_of_solids(count)
    width, height = options.size
    if options.figsize is None and not options.columns:
        width, height = FIGURE_SIZE[0] * columns, FIGURE_SIZE[1] * rows
    elif options.columns:
        height = width / columns * FIGURE_SIZE[1] / FIGURE_SIZE[0] * rows
    fig = plt.figure(figsize=(width, height))
    if options.title:
        fig.suptitle(mathtext(options.title), wrap=True)
    for k, panel in enumerate(panels):
        axis = cast("Axes3D", fig.add_subplot(rows, columns, k + 1, projection="3d", computed_zorder=False))
        draw_solid(axis, [panel], scale, name, zlim=options.zlim, camera=options.camera)
        axis.patch.set_visible(False)  # it would cover the labels of the neighbour
        axis.set_title(panel.label)
    fig.set_layout_engine(SolidLayout(rows, columns))
    return fig


def _curves(plt: FigureFactory, surfaces: Sequence[Surface], labels: Sequence[str], options: PlotOptions) -> "Figure":
    """Draw the curves of each landscape in one colour."""
    lines = []
    several = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
    for surface, label, (colour, dash) in zip(surfaces, labels, several, strict=False):
        if surface.rows_of or surface.grid.y is not None:
            raise BadUsage(f"{label} is no line: compare planes with {named('kind', 'contour')}")
        found, name = options.find(surface)
        lines.append(Line(found, name, {"color": colour, "linestyle": dash, "label": label}))
    fig, axis = plt.subplots(figsize=options.size, layout="constrained")
    draw_lines(axis, lines, options)
    for each in surfaces:
        note_incomplete(axis, each)
    return fig


def difference_figure(
    plt: FigureFactory,
    surface: Surface,
    name: str,
    label: str,
    options: PlotOptions,
) -> "Figure":
    """Draw a difference of two landscapes: a plane in colours from blue below zero to red above, a line with its band.

    Args:
        plt: Maker of figures, see `style`.
        surface: A surface with the difference as a field, and its standard errors where they are known.
        name: Name of the field.
        label: The difference in words.
        options: Options of the figure.

    Returns:
        The figure.

    Raises:
        BadUsage: Nothing is finite, or an option does not suit the difference.
    """
    label = mathtext(label)
    with users_style(options.columns, options.look):
        fig, axis = plt.subplots(figsize=options.size, layout="constrained")
        if surface.grid.y is None:
            draw_lines(axis, [Line(surface, name, {"color": next(curve_colours()), "label": label})], options)
            axis.axhline(0, color=current_look().muted, linewidth=0.8, zorder=0)
            axis.set_ylabel(label)
            return fig
        _, panel = plane_panel(surface, replace(options, field=name), NO_CURVES)
        scale = _around_zero(options, panel, name)
        title = label if options.title is None else options.title
        bar, words = options.colorbar is not False, f"difference of the {field_title(name)}"
        contour_plots.draw_flat(
            fig,
            [axis],
            [panel],
            scale,
            words,
            draw_panel=contour_plots.draw_heat_map,
            colour_bar=bar,
            title=title,
            own=True,
        )
    return fig


def _around_zero(options: PlotOptions, panel: Panel, name: str) -> ColourScale:
    """Return a linear scale whose colours are symmetric about zero, unless the user gives limits or a colour map."""
    finite = np.abs(panel.values[np.isfinite(panel.values)])
    most = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    cmap = options.cmap or current_look().difference_colour_map
    if options.vmin is None and options.vmax is None:
        options = replace(options, vmin=-most, vmax=most)
    return replace(options, log=bool(options.log), cmap=cmap, colours=options.colours or "value").scale([panel], name)
