"""Ticks of axes and colour bars: few, at round numbers, without trailing zeros."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.colour_scale import ColourScale, format_tick, format_value, log_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_LOG_TICKS = 7


def set_few_ticks(*axes: "Axis", most: int = 5) -> None:
    """Set at most about `most` ticks at round numbers on each axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(format_tick))


def set_scale_ticks(axis: "Axis", scale: ColourScale, most: int = 12) -> None:
    """Set at most `most` ticks at the levels of a colour scale, on the axis of its colour bar."""
    levels = scale.bar_ticks(most)
    axis.set_ticks(scale.height(levels), labels=[format_value(level) for level in levels], minor=False)
    axis.set_ticks([], minor=True)


def set_log_ticks(axis: "Axes") -> None:
    """Set few ticks at round numbers on a y axis whose scale is "log" or "symlog".

    Args:
        axis: Axes whose y axis has its final limits.
    """
    low, high = axis.get_ylim()
    transform: Any = axis.yaxis.get_transform()
    sides = []
    if high > 0:
        sides.append((1, max(low, high / 1e12), high))
    if low < 0:
        sides.append((-1, max(-high, -low / 1e12), -low))
    ticks = []
    for sign, near, far in sides:
        if near <= 0 or axis.get_yscale() != "log":
            near = max(near, transform.linthresh if axis.get_yscale() == "symlog" else far / 1e6)
        ticks += (sign * _few_log_levels(near, far)).tolist()
    if len(ticks) > 1:
        axis.set_yticks(ticks, labels=[format_tick(tick) for tick in ticks], minor=False)
        axis.set_yticks([], minor=True)


def _few_log_levels(near: float, far: float) -> np.ndarray:
    """At most MOST_LOG_TICKS round numbers between two positive ones."""
    levels = log_levels(near, far) if far > near else np.array([])
    decades = np.log10(far / near) if far > near else 0
    if decades > 1.6:
        levels = np.array([v for v in levels if decades < 4 or f"{v:.0e}"[0] == "1"])
    else:
        round_ones = np.array([v for v in levels if f"{v:.0e}"[0] in "125" and np.isclose(v, float(f"{v:.0e}"))])
        levels = round_ones if len(round_ones) > 1 else levels
    while len(levels) > MOST_LOG_TICKS:
        levels = levels[::2]
    return levels
