"""Cells beyond the range of a three-dimensional figure: left out, hatched on the floor, and their share stated."""

import numpy as np

from lossatlas.figures.colour_scale import format_value
from lossatlas.figures.panels import Panel


def share_outside(p: Panel, low: float, high: float) -> tuple[float, float]:
    """Compute which shares of the finite cells lie below and above a range.

    Args:
        p: The surface.
        low: Lowest value of the range.
        high: Highest value of the range.

    Returns:
        Two shares from 0 to 1; 0 where no cell is finite.
    """
    finite = p.values[np.isfinite(p.values)]
    if not finite.size:
        return 0.0, 0.0
    rounding = 1e-9 * max(abs(each) for each in (low, high) if np.isfinite(each))
    return float((finite < low - rounding).mean()), float((finite > high + rounding).mean())


def left_out_in_words(p: Panel, low: float, high: float, what: str = "left out") -> str:
    """Describe the cells beyond a range.

    Args:
        p: The surface.
        low: Lowest value of the range.
        high: Highest value of the range.
        what: What the figure does with them.

    Returns:
        One line; "" where no cell lies beyond the range.
    """
    which = "cells" if np.isfinite(p.values).all() else "finite cells"
    parts = [
        f"{percent(share)} of the {which} {side} {format_value(value)}"
        for share, side, value in zip(share_outside(p, low, high), ("below", "above"), (low, high), strict=True)
        if share
    ]
    return f"{' and '.join(parts)}: {what}" if parts else ""


def percent(share: float) -> str:
    """Format a share above 0 in percent, with two digits; "<0.01 %" below that, and ">99 %" up to all."""
    value = 100 * share
    if value < 0.01:
        return "<0.01 %"
    digits = f"{value:.0f}" if 10 <= value < 99.5 or share == 1 else f"{value:.2g}" if value < 10 else ">99"
    return f"{digits} %"
