"""Volumes seen as slices: planes side by side, as filled contours on one colour scale."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.clipped_parts import clipped_in_words, ends_of
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.contour_plots import draw_filled_contours, draw_flat, flat_size
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.panels import Panel, largest_error_of_field, surface_panel
from lossatlas.landscape import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SLICES = 12
SMALLER = 0.72  # size of a slice, relative to a plane that is drawn alone


def shown_planes(z: np.ndarray, most: int = MOST_SLICES) -> np.ndarray:
    """Choose planes of a volume in equal steps, with the one nearest to the origin; all of them where they are few.

    Args:
        z: (nz,) coordinates of the planes.
        most: Largest number of planes.

    Returns:
        Their numbers, ascending.

    Example:
        >>> shown_planes(np.linspace(-1, 1, 17)).tolist(), shown_planes(np.linspace(-1, 1, 15)).tolist()
        ([0, 2, 4, 6, 8, 10, 12, 14, 16], [1, 3, 5, 7, 9, 11, 13])
    """
    step = -(-len(z) // most)
    return np.arange(int(np.abs(z).argmin()) % step, len(z), step)


def plane_name(z: float) -> str:
    """Return the name of a plane of a volume in figures."""
    return f"z = {z:.4g}"


def slice_panels(surface: Surface, name: str) -> list[Panel]:
    """Prepare the planes of a volume that are shown.

    Args:
        surface: A volume.
        name: Name of the field.

    Returns:
        A panel for each plane, named by its z; planes of which nothing is known are left out.
    """
    assert surface.grid.z is not None
    planes = [surface.plane_at(float(z)) for z in surface.grid.z[shown_planes(surface.grid.z)]]
    return [
        surface_panel(plane, name, plane_name(plane.request["plane_of_volume"]))
        for plane in planes
        if plane.known.any()
    ]


def volume_notes(surface: Surface, name: str, scale: ColourScale, shown: int) -> list[str]:
    """List facts about a volume that a reader has to know.

    Args:
        surface: The volume.
        name: Name of the field.
        scale: Its colour scale.
        shown: The number of planes that are drawn.

    Returns:
        One text for each fact; none where nothing is unusual.
    """
    planes, rows, columns = surface.grid.shape
    flat = Panel(  # all planes below each other
        "",
        surface.grid.x,
        np.arange(float(planes * rows)),
        surface.fields[name].reshape(-1, columns),
        surface.known.reshape(-1, columns),
        np.arange(planes * rows),
        np.arange(columns),
        standard_errors=largest_error_of_field(surface, name),
        interpolated=surface.interpolated.reshape(-1, columns) if surface.interpolated.any() else None,
    )
    left_out = [f"{shown} of {planes} planes"] if shown < planes else []
    notes = [*left_out, *flat.notes(" (dots: computed)"), clipped_in_words(flat, *ends_of(scale), "hatched")]
    return [each for each in notes if each]


def _mark_origin(surface: Surface, axes: "Sequence[Axes]", panels: Sequence[Panel]) -> str:
    """Mark the network, which lies at the origin, on its plane; returns what the mark is, '' where it is not drawn."""
    if not all(axis[0] <= 0 <= axis[-1] for axis in surface.grid.point_axes):
        return ""
    for axis, p in zip(axes, panels, strict=True):
        if p.label == plane_name(0.0):
            looks: Looks = {"markerfacecolor": "#ffffff", "markeredgecolor": "#10131c", "markeredgewidth": 0.8}
            axis.plot(0, 0, "o", markersize=4.5, **looks)
            return "white dot: the network"
    return ""


def slices_figure(
    plt: FigureFactory, surface: Surface, scale: ColourScale, name: str, *, colour_bar: bool = True
) -> "Figure":
    """Draw planes of a volume side by side, in rows from the lowest z to the highest.

    Args:
        plt: Maker of figures, see `style`.
        surface: The volume.
        scale: The colour scale.
        name: Name of the field.
        colour_bar: Draw the colour bar.

    Returns:
        The figure.
    """
    panels = slice_panels(surface, name)
    columns = 2 if is_single_column() else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    size = [SMALLER * each for each in flat_size(panels, rows, columns)]
    fig, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="compressed")
    axes = grid.ravel().tolist()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    used = axes[: len(panels)]
    draw_flat(fig, used, panels, scale, name, draw_panel=draw_filled_contours, colour_bar=colour_bar, own=True)
    for k, (axis, p) in enumerate(zip(used, panels, strict=True)):
        is_lowest = k // columns == rows - 1
        axis.set(title=p.label, xlabel="x" if is_lowest else "", ylabel="" if k % columns else "y")
        axis.tick_params(labelbottom=is_lowest)
    notes = volume_notes(surface, name, scale, len(panels))
    if marked := _mark_origin(surface, used, panels):
        notes.append(marked)
    if notes:
        fig.supxlabel("\n".join(textwrap.wrap("; ".join(notes), 30 * columns)), fontsize="small")
    return fig
