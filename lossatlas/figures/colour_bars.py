"""Slim colour bars: below rendered surfaces, and below the frames of films."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.axis_ticks import set_scale_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.film_frames import Subject, figure_pixels
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_LETTERS = 36  # of a line below the colour bar of one column of a page
MOST_TICKS = 10
STRIP_HEIGHT, STRIP_TOP, STRIP_BAR = 0.6, 0.08, 0.09  # inches of a strip with a bar, above the bar, and of the bar
WIDEST_BAR = 0.7, 5.0  # share of the width of a strip, and inches
LEAST_DPI = 80  # of the letters of a strip, so that they can be read in small films


def draw_slim_colour_bar(fig: "Figure", scale: ColourScale, name: str, **place: Any) -> None:
    """Draw a colour bar without a frame, with its title below it.

    Args:
        fig: The figure.
        scale: Colour scale of the field.
        name: Name of the field.
        **place: ax, or cax, and other arguments of matplotlib's `Figure.colorbar`.
    """
    from matplotlib import cm

    title = scale.bar_title(name).replace("\n", " ")
    if is_single_column():
        title = textwrap.fill(title, BAR_LETTERS)
    mappable = cm.ScalarMappable(scale.norm, scale.colour_map)
    bar = fig.colorbar(mappable, label=title, extend=scale.extend, orientation="horizontal", **place)
    set_scale_ticks(bar.ax.xaxis, scale, MOST_TICKS)
    bar.outline.set_visible(False)


def draw_bar_below(fig: "Figure", axes: "Sequence[Axes]", scale: ColourScale, name: str) -> None:
    """Draw a slim colour bar below all axes of a figure with a layout engine.

    Args:
        fig: The figure.
        axes: Its axes.
        scale: Colour scale of the field.
        name: Name of the field.
    """
    looks: Looks = {"shrink": 0.6, "aspect": 60, "pad": 0.03, "location": "bottom"}
    draw_slim_colour_bar(fig, scale, name, ax=axes, **looks)


def bar_strip(plt: FigureFactory, subject: Subject, width: int, dpi: int) -> np.ndarray:
    """Draw the colour bar of a film, to stand below its frames.

    Args:
        plt: Maker of figures, see `style`.
        subject: What the film shows.
        width: Width of its frames, in pixels.
        dpi: Dots per inch of its frames.

    Returns:
        (height, width, 3) bytes, of an even height.
    """
    dpi = max(dpi, LEAST_DPI)
    inches = (width + 2) / dpi  # the sides of pictures are even
    fig = plt.figure(figsize=(inches, STRIP_HEIGHT))
    share = min(WIDEST_BAR[0], WIDEST_BAR[1] / inches)
    bottom = 1 - (STRIP_TOP + STRIP_BAR) / STRIP_HEIGHT
    place = fig.add_axes(((1 - share) / 2, bottom, share, STRIP_BAR / STRIP_HEIGHT))
    draw_slim_colour_bar(fig, subject.scale, subject.name, cax=place)
    place.tick_params(labelsize="small", length=2, pad=2)
    place.xaxis.label.set(fontsize="small")
    place.xaxis.labelpad = 2
    return figure_pixels(fig, dpi)[:, :width]


def with_bar_below(
    plt: FigureFactory, subject: Subject, frames: Iterable[np.ndarray], dpi: int
) -> Iterator[np.ndarray]:
    """Put the colour bar of a film below each of its frames.

    Args:
        plt: Maker of figures, see `style`.
        subject: What the film shows.
        frames: Frames of (height, width, 3) bytes, all of one size.
        dpi: Dots per inch of the frames.

    Yields:
        Higher frames.
    """
    strip: np.ndarray | None = None
    for frame in frames:
        strip = bar_strip(plt, subject, frame.shape[1], dpi) if strip is None else strip
        yield np.concatenate([frame, strip])
