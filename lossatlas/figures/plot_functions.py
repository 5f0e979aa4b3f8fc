"""Figures of a surface in memory: each function takes an axis, or makes a figure with pyplot, and returns the figure.

    contour(surface); filled(surface, ax); heat(surface, name="train_acc"); solid(surface); curve(line)

Nothing here chooses or changes matplotlib's backend, and nothing is shown or saved.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures import contour_plots, spectrum_plots
from lossatlas.figures.line_plots import BLUE, AxisLimits, loss_names, note_unfinished, steep
from lossatlas.figures.line_plots import curve as line
from lossatlas.figures.style import house_style, is_share, pick, scale, title_of
from lossatlas.figures.surface_plots import draw_solid
from lossatlas.io.spectrum_files import Findings
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface


def plot(surface: Surface, ax: Any = None, kind: str = "", **options: Any) -> Any:
    """A curve for a line; for a plane contours, or `kind`: 'contour', 'filled', 'heat' or 'solid'."""
    kinds: dict[str, Callable[..., Any]] = {
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


def contour(surface: Surface, ax: Any = None, **options: Any) -> Any:
    """Contour lines with their values. options: name (of the field), vmin, vmax, vlevel, log."""
    return flat(surface, ax, contour_plots.contour, **options)


def filled(surface: Surface, ax: Any = None, **options: Any) -> Any:
    """Filled contours. options: as for `contour`."""
    return flat(surface, ax, contour_plots.filled, **options)


def heat(surface: Surface, ax: Any = None, **options: Any) -> Any:
    """A coloured cell for each point. options: as for `contour`."""
    return flat(surface, ax, contour_plots.heat, **options)


def flat(surface: Surface, ax: Any, draw: Callable[..., Any], *, name: str | None = None, **limits: Any) -> Any:
    if surface.grid.y is None:
        raise BadUsage("a line has no contours: draw it with curve()")
    name = pick(surface, name)
    panel = contour_plots.panel(surface, name, title_of(name))
    levels = scale([panel.values], linear=is_share(name), **limits)
    with house_style():
        fig, ax = given_or_new(ax)
        contour_plots.draw_flat(fig, [ax], [panel], levels, name, draw, ())
    return fig


def solid(
    surface: Surface, ax: Any = None, *, name: str | None = None, zlim: float | None = None, **limits: Any
) -> Any:
    """The surface in three dimensions, on an axis with projection='3d'. options: as for `contour`; zlim cuts it off."""
    if surface.grid.y is None:
        raise BadUsage("a line is no solid: draw it with curve()")
    name = pick(surface, name)
    panel = contour_plots.panel(surface, name, title_of(name))
    with house_style():
        fig, ax = given_or_new(ax, projection="3d")
        draw_solid(ax, [panel], scale([panel.values], linear=is_share(name), **limits), name, zlim)
    return fig


def curve(surface: Surface, ax: Any = None, *, name: str | None = None, log: bool | None = None, **looks: Any) -> Any:
    """A field, or all losses, along a line; a band shows two standard errors where they are known."""
    if surface.grid.y is not None:
        raise BadUsage("a plane is no curve: draw it with contour(), heat() or solid()")
    both = [each for each in ("max_eig", "min_eig") if each in surface.fields]
    names = [name] if name else loss_names(surface) or both or [pick(surface, None)]
    values = np.concatenate([surface.fields[pick(surface, each)] for each in names])
    with house_style():
        fig, ax = given_or_new(ax)
        for each, dash in zip(names, ("-", "--", "-.", ":"), strict=False):
            line(ax, surface, each, **{"color": BLUE, "linestyle": dash, "label": title_of(each), **looks})
        AxisLimits(log=steep(values) if log is None else log).apply(ax)
        several = "eigenvalue of the Hessian" if names == both else "loss"
        ax.set(xlabel="coordinate along the direction", ylabel=several if len(names) > 1 else title_of(names[0]))
        if len(names) > 1:
            ax.legend(frameon=False)
        note_unfinished(ax, surface)
    return fig


def path(coordinates: np.ndarray, explained: Sequence[float] | np.ndarray = (), ax: Any = None) -> Any:
    """A trajectory (checkpoints, 2) in its plane; the last checkpoint has a star."""
    with house_style():
        fig, ax = given_or_new(ax)
        contour_plots.draw_trajectory(ax, Projection(coordinates[:, 0], coordinates[:, 1], explained=tuple(explained)))
    return fig


def spectrum(findings: Findings, kind: str = "density") -> Any:
    """Of a Hessian: 'density', 'layers' or 'activations', where they are computed."""
    import matplotlib.pyplot as plt

    kinds: dict[str, tuple[str, Callable[..., Any]]] = {
        "density": ("density/grid", spectrum_plots.draw_density),
        "layers": ("layers/trace", spectrum_plots.draw_layers),
        "activations": ("activations/trace", spectrum_plots.draw_activations),
    }
    if kind not in kinds or kinds[kind][0] not in findings.arrays:
        there = [name for name, (needed, _) in kinds.items() if needed in findings.arrays]
        raise BadUsage(f"no figure of '{kind}': there are {', '.join(there) or 'none yet'}")
    with house_style():
        return kinds[kind][1](plt, findings)


def given_or_new(ax: Any, **options: Any) -> tuple[Any, Any]:
    """The axis and its figure, or a new one that pyplot knows, so that plt.show() shows it."""
    if ax is not None:
        return ax.figure, ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.8, 4.0), layout="constrained", subplot_kw=options or None)
