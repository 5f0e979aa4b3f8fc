"""Subjects of films, and figures as frames of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.panels import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FRAME_DETAIL = 110  # points along an axis of a surface, about: a frame is seen for a moment


@dataclass(frozen=True)
class Subject:
    """Surfaces that an animation shows.

    Attributes:
        panels: The surfaces, with one colour scale.
        scale: Their colour scale.
        name: Name of the field.
    """

    panels: Sequence[Panel]
    scale: ColourScale
    name: str


def figure_pixels(fig: "Figure", dpi: int) -> np.ndarray:
    """Draw a figure as pixels.

    Args:
        fig: The figure.
        dpi: Dots per inch.

    Returns:
        (height, width, 3) bytes; both sides are even, as video formats need them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
