"""Training runs: their path in a plane, and the checkpoints' own losses beside the surface under the path."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.axis_ticks import set_log_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.inner_names import InnerName
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look, run_colour
from lossatlas.figures.panels import legend_name, surface_panel
from lossatlas.figures.plotted_fields import field_title, mathtext
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

NEARLY_ONE = 1.1  # a factor below it is given in percent
HALO = 0.7  # points of the ground on either side of a path
OWN_LOSS_LABEL = "the checkpoint's own loss"
LR_DROP_LABEL = "learning rate dropped"


def draw_trajectory(
    axis: "Axes", path: Projection, scale: ColourScale | None = None, colour: str | None = None
) -> None:
    """Draw the path of a training run on a plane.

    Args:
        axis: Axis of the plane.
        path: Checkpoints in the plane.
        scale: Colour scale of the surface. If given, each checkpoint has the colour of its own loss where the path
            records it.
        colour: Colour of the line; given where several runs are drawn, and the legend names them.
    """
    x, y, look = path.x, path.y, current_look()
    label, colour = None if colour in (None, look.ink) else legend_name(path.run), colour or look.ink
    axis.plot(x, y, "-", color=colour, linewidth=1.1, zorder=5, label=label, path_effects=halo(1.1))
    if scale is not None and path.loss is not None:
        looks: Looks = {
            "cmap": scale.colour_map,
            "norm": scale.norm,
            "edgecolors": colour,
        }
        known = [each.get_label() for each in axis.collections]
        label = None if OWN_LOSS_LABEL in known else OWN_LOSS_LABEL
        looks |= {"linewidths": 0.7, "path_effects": halo(0.7)}
        axis.scatter(x, y, c=scale.height(path.loss), s=18, zorder=6, label=label, **looks)
    else:
        axis.plot(x, y, ".", color=colour, markersize=4, zorder=5, path_effects=halo(0))
        axis.plot(x[:1], y[:1], "o", color=colour, markerfacecolor=look.ground, markersize=5, zorder=6)
    if len(drops := path.dropped()):
        drop_looks: Looks = {"color": current_look().drop, "markersize": 5, "linestyle": "none", "zorder": 7}
        drop_looks |= {"markeredgecolor": current_look().ground, "markeredgewidth": 0.6}
        axis.plot(x[drops], y[drops], "D", label=_lr_drop_label(axis), **drop_looks)
    for end, neighbour, text in ((0, 1, "first"), (-1, -2, "last")):
        away = np.array([x[end] - x[neighbour], y[end] - y[neighbour]]) if len(x) > 1 else np.ones(2)
        shift = 12 * away / max(float(np.hypot(*away)), 1e-300)  # away from the path
        looks = {"color": look.ink, "va": "center", "fontsize": "x-small", "zorder": 8, "clip_on": True}
        note = InnerName(axis, text, (x[end], y[end]), tuple(shift), turns=True, **looks)
        note.set_path_effects(halo(2 - 2 * HALO))
    draw_star(axis, path, colour, zorder=4.5)  # under the path, whose last checkpoints may lie close together
    for letter, name in zip("xy", path_axis_names(path), strict=True):
        axis.set(**{f"{letter}label": name})


def draw_star(axis: "Axes", path: Projection, colour: str, zorder: float) -> None:
    """Draw the star of the last checkpoint of a run on its plane.

    Args:
        axis: Axis with the coordinates of the plane.
        path: Training run in the plane.
        colour: Colour of the edge of the star; its inside has the colour of the ground.
        zorder: Drawing order of matplotlib: higher is in front.
    """
    star: Looks = {"color": colour, "markerfacecolor": current_look().ground, "markersize": 12, "markeredgewidth": 0.9}
    axis.plot(path.x[-1:], path.y[-1:], "*", zorder=zorder, path_effects=halo(0.9), **star)


def halo(width: float) -> "list[AbstractPathEffect]":
    """Return path effects that draw the ground around lines and marks of a width in points, to show on any colour."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width + 2 * HALO, foreground=current_look().ground)]


def _lr_drop_label(axis: "Axes") -> str | None:
    """Return the legend's entry for drops of the learning rate, once per axis."""
    return None if LR_DROP_LABEL in [line.get_label() for line in axis.get_lines()] else LR_DROP_LABEL


def path_axis_names(path: Projection) -> tuple[str, str]:
    """Return the names of the axes of a path's plane, with the shares of the variance where they are recorded."""
    if len(path.explained) >= 2:
        first, second = (f"{100 * share:.1f} %" for share in path.explained[:2])
        return f"1st principal component ({first})", f"2nd ({second})"
    names = [mathtext(re.sub(r" from .*", "", name)) for name in path.axes] or ["x", "y"]
    return names[0], names[1]


def path_figure(plt: FigureFactory, runs: Sequence[Projection]) -> "Figure":
    """Draw training runs in their plane, without a surface.

    Args:
        plt: Maker of figures, see `style`.
        runs: Checkpoints of each run in the plane.

    Returns:
        The figure.
    """
    fig, axis = plt.subplots(figsize=(4.2, 3.8), layout="constrained")
    axis.set(xlabel="x", ylabel="y")
    axis.grid(alpha=0.25)
    for k, path in enumerate(runs):
        draw_trajectory(axis, path, colour=run_colour(k, len(runs)))
    if len(runs) > 1:
        axis.legend(fontsize="x-small")
    axis.margins(0.08)
    return fig


def surface_under_path(surface: Surface, name: str, path: Projection, scale: ColourScale) -> np.ndarray:
    """Interpolate a field at a path's coordinates, as the figure draws it on a scale.

    Args:
        surface: A surface over the path's plane.
        name: Name of the field.
        path: Checkpoints in the plane.
        scale: Colour scale of the figure.

    Returns:
        (checkpoints,) values; NaN off the surface.
    """
    from scipy.interpolate import RegularGridInterpolator

    x, y, values = surface_panel(surface, name, "").refined(scale)
    known = np.where(np.isfinite(values), values, np.nan)
    drawn = RegularGridInterpolator((y, x), known, bounds_error=False, fill_value=np.nan)
    return np.asarray(drawn(np.column_stack([path.y, path.x])))


def loss_ratio(path: Projection, under: np.ndarray) -> np.ndarray:
    """Divide the surface's value under each checkpoint by the checkpoint's own loss.

    Args:
        path: Checkpoints with their own losses.
        under: (checkpoints,) values of the surface, see `surface_under_path`.

    Returns:
        (checkpoints,) ratios; NaN where one of the two is not known.
    """
    if path.loss is None:
        return np.full(len(path.x), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = under / path.loss
    return np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)


def describe_loss_ratio(path: Projection, under: np.ndarray) -> str:
    """Describe the difference between checkpoints' own losses and the surface under them.

    Args:
        path: Checkpoints with their own losses.
        under: (checkpoints,) values of the surface, see `surface_under_path`.

    Returns:
        One sentence; "" where no checkpoint has both.
    """
    ratio = loss_ratio(path, under)
    known = np.flatnonzero(np.isfinite(ratio))
    if not len(known):
        return ""
    factors = np.exp(np.abs(np.log(ratio[known])))
    worst = known[factors.argmax()]
    some = f"; known of {len(known)} of {len(ratio)}" if len(known) < len(ratio) else ""
    return (
        f"the surface under the checkpoints and their own losses differ by {factor_words(float(np.median(factors)))} "
        f"(median), {factor_words(float(factors.max()))} at most ({path.at(int(worst))}){some}"
    )


def factor_words(factor: float) -> str:
    """Write a factor of at least 1; one near 1 as its difference from 1, which three digits would not show."""
    return f"a factor of {factor:.3g}" if factor >= NEARLY_ONE else f"{100 * (factor - 1):.2g} %"


def path_losses_figure(
    plt: FigureFactory, runs: Sequence[tuple[Projection, np.ndarray]], name: str, *, log: bool
) -> "Figure":
    """Draw the surface under each run, the checkpoints' own losses and their distances from the plane over the epochs.

    Args:
        plt: Maker of figures, see `style`.
        runs: Each run with the values of the surface under it, see `surface_under_path`.
        name: Name of the field.
        log: Make the axis of the loss logarithmic.

    Returns:
        The figure.
    """
    with_distance = any(path.distance is not None for path, _ in runs)
    fig, panels = plt.subplots(
        1 + with_distance,
        1,
        figsize=((3.4, 2.6 + 1.4 * with_distance) if is_single_column() else (5.4, 3.0 + 1.9 * with_distance)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    top, bottom = panels[0, 0], panels[-1, 0]
    for k, (path, under) in enumerate(runs):
        colour = run_colour(k, len(runs))
        epochs = np.arange(len(path.x)) + 1 if path.epochs is None else path.epochs
        run = f"{legend_name(path.run)}: " if len(runs) > 1 else ""
        looks: Looks = {"color": colour, "markersize": 3, "linewidth": 1.3}
        if path.loss is not None:
            shown = np.where(np.isfinite(path.loss), path.loss, np.nan)
            top.plot(epochs, shown, "o-", label=f"{run}{OWN_LOSS_LABEL}", **looks)
        top.plot(epochs, under, "--", color=colour, linewidth=1.2, label=f"{run}the surface under it")
        if path.distance is not None:
            bottom.plot(epochs, path.distance, "o-", **looks)
        for drop in path.dropped():
            for axis in panels[:, 0]:
                drop_looks: Looks = {"color": current_look().drop, "linewidth": 0.8, "linestyle": ":", "zorder": 0}
                axis.axvline(epochs[drop], label=_lr_drop_label(axis), **drop_looks)
    if log:
        top.set_yscale("log")
        set_log_ticks(top)
    top.set_ylabel(field_title(name))
    if is_single_column() or len(runs) > 1:  # below the panels, where no curve is
        fig.legend(*top.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize="small")
    else:
        top.legend(frameon=False, fontsize="small")
    if len(runs) == 1 and (said := describe_loss_ratio(*runs[0])):
        top.set_title(said.replace(" differ", "\ndiffer"), fontsize="small")
    if with_distance:
        bottom.set_ylabel("distance from the plane")
        bottom.set_ylim(0, None)
    bottom.set_xlabel(runs[0][0].axis)
    return fig
