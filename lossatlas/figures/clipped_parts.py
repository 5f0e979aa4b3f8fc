"""Cells beyond the range of a figure: which they are, and how a figure states their share."""

import numpy as np

from lossatlas.figures.colour_scale import ColourScale, format_value
from lossatlas.figures.panels import Panel

ROUNDING = 1e-9  # by which a value may lie beyond an end, relative to the larger end


def ends_of(scale: ColourScale) -> tuple[float, float]:
    """Return the lowest and the highest value that are drawn as they are; infinite where the scale holds all."""
    return scale.low if scale.below else -np.inf, scale.high if scale.above else np.inf


def cells_outside(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the finite values beyond a range.

    Args:
        values: Values of any shape.
        low: Lowest value of the range.
        high: Highest value of the range.

    Returns:
        Masks of the values below and of those above, of the same shape.
    """
    slack = ROUNDING * max((abs(each) for each in (low, high) if np.isfinite(each)), default=0.0)
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return finite & (values < low - slack), finite & (values > high + slack)


def clipped_in_words(p: Panel, low: float, high: float, fate: str) -> str:
    """State which share of the cells lies beyond a range, how far the values go, and what the figure does with them.

    Args:
        p: The surface.
        low: Lowest value of the range.
        high: Highest value of the range.
        fate: What the figure does with these cells.

    Returns:
        One line, such as "2 % of the cells above 10, up to 21: hatched"; "" where no cell lies beyond the range.
    """
    below, above = cells_outside(p.values, low, high)
    finite = np.isfinite(p.values)
    which = "cells" if finite.all() else "finite cells"
    sides = []
    if below.any():
        share, lowest = percent(below.sum() / finite.sum()), format_value(p.values[below].min())
        sides.append(f"{share} of the {which} below {format_value(low)}, down to {lowest}")
    if above.any():
        share, highest = percent(above.sum() / finite.sum()), format_value(p.values[above].max())
        sides.append(f"{share} of the {which} above {format_value(high)}, up to {highest}")
    return f"{', and '.join(sides)}: {fate}" if sides else ""


def percent(share: float) -> str:
    """Format a share above 0 in percent, with two digits; "<0.01 %" below that, and ">99 %" up to all."""
    value = 100 * share
    if value < 0.01:
        return "<0.01 %"
    digits = f"{value:.0f}" if 10 <= value < 99.5 or share == 1 else f"{value:.2g}" if value < 10 else ">99"
    return f"{digits} %"
