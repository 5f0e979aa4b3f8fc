"""Training runs on a surface in three dimensions: their path, its hidden part, their checkpoints and the legend."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import Looks
from lossatlas.figures.palette import (
    current_look,
    run_colour,
)
from lossatlas.figures.panels import legend_name
from lossatlas.figures.surface_scene import SurfaceScene
from lossatlas.figures.surface_sheets import colours_of_heights, lifted
from lossatlas.figures.trajectory_plots import halo, path_axis_names
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from mpl_toolkits.mplot3d import Axes3D


HIDDEN_OPACITY = 0.3  # of the part of a path that a surface hides


POINTS_PER_STEP = 24  # of a path between two checkpoints


def dense_path(path: Projection) -> np.ndarray:
    """Return points (n, 2) along a path in its plane, `POINTS_PER_STEP` from each checkpoint to the next."""
    knots = np.arange(len(path.x))
    between = np.linspace(0, len(path.x) - 1, POINTS_PER_STEP * (len(path.x) - 1) + 1)
    return np.column_stack([np.interp(between, knots, path.x), np.interp(between, knots, path.y)])


def draw_surface_path(scene: SurfaceScene, scale: ColourScale, path: Projection, colour: str) -> None:
    """Draw a trajectory on the first surface, faint where a surface hides it.

    Points off the surface, or where it is cut off, are not drawn.

    Args:
        scene: Surfaces whose axis is drawn on.
        scale: Colour scale of the surfaces, which also fills the marks of the checkpoints.
        path: Training run in the plane of the first surface.
        colour: Colour of its line.
    """
    axis: Any = scene.axes
    points = lifted(dense_path(path), scene.sheets[0])
    bottom, top = scene.sheets[0].ends
    with np.errstate(invalid="ignore"):
        points[~((points[:, 2] >= bottom) & (points[:, 2] <= top))] = np.nan
    hidden = ~scene.seen(points)
    axis.plot(*np.where(hidden[:, None], points, np.nan).T, color=colour, linewidth=0.9, alpha=HIDDEN_OPACITY, zorder=4)
    seen = np.where(hidden[:, None], np.nan, points)
    axis.plot(*seen.T, color=colour, linewidth=1.3, zorder=4, path_effects=halo(1.3))
    _mark_checkpoints(axis, path, seen[::POINTS_PER_STEP], points[[0, -1]], scale, colour=colour)


def _mark_checkpoints(
    axis: "Axes3D", path: Projection, seen: np.ndarray, ends: np.ndarray, scale: ColourScale, *, colour: str
) -> None:
    """Mark the checkpoints that no surface hides, with the colour of their own loss.

    Args:
        axis: Axis to draw on.
        path: Checkpoints in the plane.
        seen: (checkpoints, 3) places; NaN where hidden or off the surface.
        ends: (2, 3) places of the first and the last one, which are always marked.
        scale: Scale of the losses.
        colour: Colour of the run.
    """
    from matplotlib import colormaps

    shown = np.flatnonzero(np.isfinite(seen).all(1))
    fill: Any = current_look().ground
    if path.loss is not None:
        fill = colours_of_heights(scale, colormaps.get_cmap(scale.colour_map))(scale.height(path.loss[shown]))
    looks: Looks = {"c": fill, "edgecolors": colour, "linewidths": 0.8, "path_effects": halo(0.8)}
    axis.scatter(*seen[shown].T, s=13, depthshade=False, zorder=5, **looks)
    for point, k, shape in (ends[0], 0, "o"), (ends[1], -1, "*"):
        look = end_look(shape, colour)
        if not np.isfinite(seen[k]).all():
            look |= {"alpha": HIDDEN_OPACITY, "path_effects": None}  # a halo would be opaque
        axis.plot(*point[:, None], zorder=6, **look)


def end_look(shape: str, colour: str) -> "Looks":
    """Look of the mark of the first checkpoint, a circle "o", or of the last one, a star "*"."""
    ground = current_look().ground
    size, inside, edge = (8.5, colour, ground) if shape == "*" else (5.5, ground, colour)
    look: Looks = {"marker": shape, "markersize": size, "markerfacecolor": inside, "linestyle": "none"}
    look |= {"color": colour, "markeredgecolor": edge, "markeredgewidth": 0.7}
    return look | {"path_effects": halo(0.7)}


def path_handles(paths: Sequence[Projection], scale: ColourScale) -> "list[Artist]":
    """Return handles of the legend: the line of each of several runs, and the marks that all runs share."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    ink, count = current_look().ink, len(paths)
    runs = [
        Line2D([], [], color=run_colour(k, count), linewidth=1.3, label=legend_name(path.run))
        for k, path in enumerate(paths)
    ]
    coloured = any(path.loss is not None for path in paths)
    fill = colormaps.get_cmap(scale.colour_map)(0.5) if coloured else current_look().ground
    dot: Looks = {
        "marker": "o",
        "markersize": 3.6,
        "markerfacecolor": fill,
        "markeredgecolor": ink,
        "markeredgewidth": 0.8,
    }
    words = "checkpoint, coloured by its own loss" if coloured else "checkpoint"
    first, last = (end_look(shape, ink) for shape in "o*")
    marks = [(first, "first checkpoint"), (dot | {"linestyle": "none"}, words), (last, "last checkpoint")]
    return [*(runs if count > 1 else []), *(Line2D([], [], label=label, **look) for look, label in marks)]


def set_path_labels(axis: "Axes3D", path: Projection) -> None:
    """Name the axes of a path's plane, without the shares of variance, which the figures from above give."""
    for letter, name in zip("xy", path_axis_names(path), strict=True):
        shown = re.sub(r" \(.*", "", name)
        axis.set(**{f"{letter}label": f"{shown} principal component" if shown == "2nd" else shown})
