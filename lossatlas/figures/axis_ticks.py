"""Ticks of axes and colour bars: few, at round numbers, without trailing zeros, all of one axis in one format."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator

from lossatlas.figures.colour_scale import ColourScale, format_tick, format_value, is_power_of_ten, log_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_LOG_TICKS = 7
MOST_LINEAR_TICKS = 7
ROUND = (1, 2, 5, 10)  # steps between ticks, times a power of ten
GAP_BESIDE, GAP_ABOVE = 0.6, 0.2  # between tick labels beside and above each other, relative to their letters


def set_few_ticks(*axes: "Axis", most: int = 5) -> None:
    """Set at most about `most` ticks at round numbers on each axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(most, steps=ROUND))
        axis.set_major_formatter(FuncFormatter(format_tick))


def set_scale_ticks(axis: "Axis", scale: ColourScale, most: int = 12) -> None:
    """Set at most `most` ticks on an axis of a colour scale's heights: at its levels, at round numbers if linear."""
    if not scale.log:
        _set_linear_ticks(axis, scale, min(most, MOST_LINEAR_TICKS))
        return
    levels = scale.bar_ticks(most)
    first = sorted(range(len(levels)), key=lambda k: not is_power_of_ten(levels[k]))
    _set_ticks_with_room(axis, scale.height(levels), [format_value(level) for level in levels], first)


def _set_linear_ticks(axis: "Axis", scale: ColourScale, most: int) -> None:
    """Set ticks within the range of a linear scale: 0, 20, 40 of a percentage, not 8, 16, 24."""
    from matplotlib.ticker import MaxNLocator

    low, high = scale.limits
    for finer in range(most, 3 * most):  # of a range of 1 to 2 steps, the locator gives a single tick
        ticks = np.asarray(MaxNLocator(finer, steps=ROUND).tick_values(low, high))
        slack = 1e-9 * (high - low)
        ticks = ticks[(ticks >= low - slack) & (ticks <= high + slack)]
        if len(ticks) > 1:
            break
    _set_ticks_with_room(axis, ticks, format_ticks(ticks.tolist()))


def _set_ticks_with_room(axis: "Axis", places: np.ndarray, labels: Sequence[str], first: Sequence[int] = ()) -> None:
    """Set ticks of which those are drawn whose labels have room, whatever the size of the figure.

    Args:
        axis: The axis.
        places: Places of the ticks, ascending.
        labels: Their labels.
        first: Their numbers, the most important first; empty where they are evenly spaced, of which every second goes.
    """
    from matplotlib.ticker import FuncFormatter

    axis.set_major_locator(TicksWithRoom(places, labels, first))
    axis.set_major_formatter(FuncFormatter(lambda place, _: labels[int(np.abs(places - place).argmin())]))
    axis.set_ticks([], minor=True)


class TicksWithRoom(FixedLocator):
    """Ticks at given places, without those whose labels would meet others when the axis is drawn.

    Args:
        places: Places of the ticks, ascending.
        labels: Their labels.
        first: Their numbers, the most important first; empty where they are evenly spaced.
    """

    def __init__(self, places: np.ndarray, labels: Sequence[str], first: Sequence[int] = ()) -> None:
        super().__init__(places.tolist())
        self.places, self.labels, self.first = places, list(labels), list(first)

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the places of the ticks that are drawn, an array."""
        places = self.places
        if len(places) < 2 or self.axis is None:
            return places
        ends = self._label_ends()
        if not self.first:
            count = len(places)
            steps = (range(k % step, count, step) for step in range(1, count) for k in [self._origin()])
            return places[next((list(chosen) for chosen in steps if not _meeting(ends[chosen])), [0])]
        chosen: list[int] = []
        for k in self.first:
            if not _meeting(ends[sorted([*chosen, k])]):
                chosen.append(k)
        return places[sorted(chosen)]

    def _origin(self) -> int:
        """Return the index of the tick at zero; without one, the index of the first tick."""
        return int(np.abs(self.places).argmin()) if np.isclose(self.places, 0).any() else 0

    def _label_ends(self) -> np.ndarray:
        """Return the ends (n, 2) of the labels along the axis, widened by the gap between two labels, in pixels."""
        from matplotlib.textpath import text_to_path

        axis: Any = self.axis
        axes, is_x = axis.axes, axis.axis_name == "x"
        font = axis.get_major_ticks(1)[0].label1.get_fontproperties()
        pixels = axes.figure.dpi / 72
        sizes = np.array(
            [text_to_path.get_text_width_height_descent(each, font, "$" in each)[:2] for each in self.labels]
        )
        gap = (GAP_BESIDE if is_x else GAP_ABOVE) * font.get_size_in_points()
        half = (sizes[:, 0 if is_x else 1] + gap) * pixels / 2
        points = np.column_stack([self.places, np.zeros(len(self.places))])
        transform = axes.get_xaxis_transform() if is_x else axes.get_yaxis_transform()
        middle = transform.transform(points if is_x else points[:, ::-1])[:, 0 if is_x else 1]
        return np.column_stack([middle - half, middle + half])


def _meeting(ends: np.ndarray) -> bool:
    """Tell whether intervals (n, 2) in ascending order meet."""
    return bool((ends[1:, 0] < ends[:-1, 1]).any())


def format_ticks(ticks: Sequence[float]) -> list[str]:
    """Format the labels of one axis alike: all as powers of ten where one of them would need an exponent.

    Example:
        >>> format_ticks([0.01, 1, 100]), format_ticks([1, 1e6])
        (['0.01', '1', '100'], ['$10^{0}$', '$10^{6}$'])
    """
    labels = [format_tick(tick) for tick in ticks]
    if not any("e" in label for label in labels):
        return labels
    return [_with_power(tick) for tick in ticks]


def _with_power(value: float) -> str:
    """Write a number as a digit times a power of ten."""
    if value == 0:
        return "0"
    digits, exponent = f"{abs(value):.2e}".split("e")
    times = "" if float(digits) == 1 else rf"{float(digits):g}\times"
    return f"${'-' * (value < 0)}{times}10^{{{int(exponent)}}}$"


def set_log_ticks(axis: "Axes", letter: str = "y") -> None:
    """Set few ticks at round numbers on an axis whose scale is "log" or "symlog".

    Args:
        axis: Axes whose axis has its final limits.
        letter: The axis, "x" or "y".
    """
    chosen: Axis = getattr(axis, f"{letter}axis")
    low, high = chosen.get_view_interval()
    transform: Any = chosen.get_transform()
    log = chosen.get_scale() == "log"
    sides = []
    if high > 0:
        sides.append((1, max(low, high / 1e12), high))
    if low < 0:
        sides.append((-1, max(-high, -low / 1e12), -low))
    ticks = []
    for sign, near, far in sides:
        if near <= 0 or not log:
            near = max(near, transform.linthresh if chosen.get_scale() == "symlog" else far / 1e6)
        ticks += (sign * _few_log_levels(near, far)).tolist()
    if len(ticks) > 1:
        chosen.set_ticks(ticks, labels=format_ticks(ticks), minor=False)
        chosen.set_ticks([], minor=True)


def _few_log_levels(near: float, far: float) -> np.ndarray:
    """Return at most MOST_LOG_TICKS round numbers between two positive ones."""
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
