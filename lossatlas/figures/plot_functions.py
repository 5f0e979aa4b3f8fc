"""Figures of a surface in memory: each function takes an axis, or makes a figure with pyplot, and returns the figure.

    contour(surface); filled(surface, ax); heat(surface, name="train_acc"); solid(surface); curve(line)

No function chooses or changes matplotlib's backend, and none shows or saves a figure.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures import contour_plots, spectrum_plots
from lossatlas.figures.line_plots import X_LABEL, AxisLimits, draw_curve, needs_log_axis, note_incomplete
from lossatlas.figures.matplotlib_style import house_style
from lossatlas.figures.palette import BLUE
from lossatlas.figures.panels import Panel, panels_scale, surface_panel
from lossatlas.figures.plotted_fields import choose_field, field_title, loss_names
from lossatlas.figures.surface_plots import draw_solid
from lossatlas.figures.trajectory_plots import draw_trajectory
from lossatlas.io.spectrum_files import Findings
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot(surface: Surface, ax: "Axes | None" = None, kind: str = "", **options: Any) -> "Figure":
    """Draw a surface as a curve, as contours or in another way.

    Args:
        surface: A curve or a plane.
        ax: Axis to draw on; None makes a figure.
        kind: "curve", "contour", "filled", "heat" or "solid"; by default a curve, or contours of a plane.
        **options: Options of the function of that name.

    Returns:
        The figure.

    Raises:
        BadUsage: The kind is unknown, or does not suit the surface.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = plot(read_surface("docs/surfaces/resnet56_cifar10.h5"), kind="filled", vmax=10)
    """
    kinds: dict[str, Callable[..., Figure]] = {
        "contour": contour,
        "filled": filled,
        "heat": heat,
        "solid": solid,
        "curve": curve,
    }
    kind = kind or ("curve" if surface.grid.y is None else "contour")
    if kind not in kinds:
        raise BadUsage(f"unknown kind of figure '{kind}': choose from {', '.join(kinds)}")
    return kinds[kind](surface, ax, **options)


def contour(surface: Surface, ax: "Axes | None" = None, *, name: str | None = None, **limits: Any) -> "Figure":
    """Draw contour lines with their values.

    Args:
        surface: A surface over a plane.
        ax: Axis to draw on; None makes a figure.
        name: Field to draw; by default train_loss, or the first one.
        **limits: vmin, vmax, vlevel and log, see `lossatlas.figures.choose_colour_scale`.

    Returns:
        The figure.

    Raises:
        BadUsage: The surface is a curve, has no such field, or nothing of it is finite.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = contour(read_surface("docs/surfaces/resnet56_cifar10.h5"))
    """
    return _draw_plane(surface, ax, contour_plots.draw_contours, name, limits)


def filled(surface: Surface, ax: "Axes | None" = None, *, name: str | None = None, **limits: Any) -> "Figure":
    """Draw filled contours; arguments, result and errors as for `contour`."""
    return _draw_plane(surface, ax, contour_plots.draw_filled_contours, name, limits)


def heat(surface: Surface, ax: "Axes | None" = None, *, name: str | None = None, **limits: Any) -> "Figure":
    """Draw a coloured rectangle for each cell; arguments, result and errors as for `contour`."""
    return _draw_plane(surface, ax, contour_plots.draw_heat_map, name, limits)


def _draw_plane(
    surface: Surface,
    ax: "Axes | None",
    draw_panel: "contour_plots.DrawPanel",
    name: str | None,
    limits: dict[str, Any],
) -> "Figure":
    name, panel = _plane_panel(surface, name, "a line has no contours: draw it with curve()")
    scale = panels_scale([panel], name, **limits)
    with house_style():
        fig, ax = _axis_or_new(ax)
        contour_plots.draw_flat(fig, [ax], [panel], scale, name, draw_panel)
    return fig


def _plane_panel(surface: Surface, name: str | None, refusal: str) -> tuple[str, Panel]:
    if surface.grid.y is None:
        raise BadUsage(refusal)
    name = choose_field(surface, name)
    return name, surface_panel(surface, name, field_title(name))


def solid(
    surface: Surface,
    ax: "Axes | None" = None,
    *,
    name: str | None = None,
    zlim: float | None = None,
    **limits: Any,
) -> "Figure":
    """Draw a surface in three dimensions.

    Args:
        surface: A surface over a plane.
        ax: Axis to draw on, made with projection="3d"; None makes a figure.
        name: Field to draw; by default train_loss, or the first one.
        zlim: Value at which the surface is cut off.
        **limits: vmin, vmax, vlevel and log, see `lossatlas.figures.choose_colour_scale`.

    Returns:
        The figure.

    Raises:
        BadUsage: As for `contour`, or the whole surface lies above zlim.
    """
    name, panel = _plane_panel(surface, name, "a line is no solid: draw it with curve()")
    with house_style():
        fig, ax = _axis_or_new(ax, projection="3d")
        draw_solid(ax, [panel], panels_scale([panel], name, **limits), name, zlim)
    return fig


def curve(
    surface: Surface, ax: "Axes | None" = None, *, name: str | None = None, log: bool | None = None, **looks: Any
) -> "Figure":
    """Draw a field along a line, with a band of two standard errors where they are known.

    Args:
        surface: A curve.
        ax: Axis to draw on; None makes a figure.
        name: Field to draw; by default all losses, or the eigenvalues.
        log: Make the vertical axis logarithmic; None decides by the data.
        **looks: Keywords of matplotlib's `plot`.

    Returns:
        The figure.

    Raises:
        BadUsage: The surface is a plane, or has no such field.
    """
    if surface.grid.y is not None:
        raise BadUsage("a plane is no curve: draw it with contour(), heat() or solid()")
    eigenvalues = [each for each in ("max_eig", "min_eig") if each in surface.fields]
    names = [name] if name else loss_names(surface) or eigenvalues or [choose_field(surface, None)]
    values = np.concatenate([surface.fields[choose_field(surface, each)] for each in names])
    with house_style():
        fig, ax = _axis_or_new(ax)
        for each, dash in zip(names, ("-", "--", "-.", ":"), strict=False):
            draw_curve(ax, surface, each, **{"color": BLUE, "linestyle": dash, "label": field_title(each), **looks})
        AxisLimits(log=needs_log_axis(values) if log is None else log).apply(ax)
        several = "eigenvalue of the Hessian" if names == eigenvalues else "loss"
        ax.set(xlabel=X_LABEL, ylabel=several if len(names) > 1 else field_title(names[0]))
        if len(names) > 1:
            ax.legend(frameon=False)
        note_incomplete(ax, surface)
    return fig


def path(coordinates: np.ndarray, explained: Sequence[float] | np.ndarray = (), ax: "Axes | None" = None) -> "Figure":
    """Draw a trajectory in its plane, with a star at the last checkpoint.

    Args:
        coordinates: (checkpoints, 2) coordinates in the plane.
        explained: Shares of the variance that the two axes explain, from 0 to 1; empty where they are not known.
        ax: Axis to draw on; None makes a figure.

    Returns:
        The figure.
    """
    with house_style():
        fig, ax = _axis_or_new(ax)
        draw_trajectory(ax, Projection(coordinates[:, 0], coordinates[:, 1], explained=tuple(explained)))
    return fig


def spectrum(findings: Findings, kind: str = "density") -> "Figure":
    """Draw the spectrum of a Hessian.

    Args:
        findings: Content of a spectrum file.
        kind: "density", "layers" or "activations".

    Returns:
        The figure.

    Raises:
        BadUsage: The kind is unknown, or not computed yet.
    """
    import matplotlib.pyplot as plt

    kinds: dict[str, tuple[str, Callable[..., Figure]]] = {
        "density": ("density/grid", spectrum_plots.density_figure),
        "layers": ("layers/trace", spectrum_plots.layers_figure),
        "activations": ("activations/trace", spectrum_plots.activations_figure),
    }
    if kind not in kinds or kinds[kind][0] not in findings.arrays:
        there = [name for name, (needed, _) in kinds.items() if needed in findings.arrays]
        raise BadUsage(f"no figure of '{kind}': there are {', '.join(there) or 'none yet'}")
    with house_style():
        return kinds[kind][1](plt, findings)


def _axis_or_new(ax: "Axes | None", **options: Any) -> "tuple[Figure, Axes]":
    """The axis and its figure, or a new one that pyplot knows, so that plt.show() shows it."""
    if ax is not None:
        return cast("Figure", ax.figure), ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.8, 4.0), layout="constrained", subplot_kw=options or None)
