"""Small pictures of results for a notebook, which pyplot does not know."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures import spectrum_plots
from lossatlas.figures.matplotlib_style import OffscreenFigures, users_style
from lossatlas.figures.plot_functions import PATH_MARGIN, path, plot
from lossatlas.figures.plotted_fields import default_field, loss_names
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (3.6, 3.0), 150  # inches, and dots per inch


def surface_picture(surface: Surface) -> bytes | None:
    """Draw a plane as filled contours, or a line as a curve.

    Args:
        surface: The surface.

    Returns:
        PNG; None where nothing can be drawn: no finite value, values near the largest numbers, or one point along an axis
        of a plane.
    """
    is_plane = surface.grid.y is not None and not surface.rows_of
    names = [default_field(surface)] if is_plane else loss_names(surface) or [default_field(surface)]
    finite = any(np.isfinite(surface.fields[name][surface.known]).any() for name in names)
    if not finite or (is_plane and min(surface.grid.shape) < 2):
        return None
    try:
        return picture_of(lambda axis: plot(surface, axis, kind="filled" if is_plane else "curve"))
    except BadUsage:  # the values are too large to be drawn
        return None


def path_picture(coordinates: np.ndarray, explained: np.ndarray) -> bytes | None:
    """Draw a trajectory in its plane; None where no coordinate is finite."""
    if not np.isfinite(coordinates).any():
        return None

    def draw(axis: "Axes") -> None:
        path(coordinates, explained, axis)
        axis.margins(PATH_MARGIN)

    return picture_of(draw)


def spectrum_picture(findings: Findings) -> bytes | None:
    """Draw the density of a spectrum; None where it is not computed."""
    if "density/grid" not in findings.arrays:
        return None
    with users_style():
        return png_of(spectrum_plots.density_figure(OffscreenFigures(), findings))


def picture_of(draw: "Callable[[Axes], object]") -> bytes:
    """Draw on the Axes of a new figure that pyplot does not know. Returns PNG."""
    with users_style():
        fig, axis = OffscreenFigures().subplots(figsize=SIZE, layout="constrained")
        draw(axis)
        return png_of(fig)


def png_of(fig: "Figure") -> bytes:
    """Return a figure as PNG."""
    out = io.BytesIO()
    fig.savefig(out, format="png", dpi=DPI)
    return out.getvalue()
