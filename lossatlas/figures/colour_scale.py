"""Colour scale of a figure: range, levels, and whether it is linear or logarithmic.

`choose_colour_scale` takes limits that the user gives and chooses the others from the data. Panels of one figure share
the scale, and the heights of 3-D surfaces follow it too. `ColourScale.norm` turns heights into colours.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.choices import Colours
from lossatlas.errors import BadUsage, named, note
from lossatlas.figures.matplotlib_style import is_single_column
from lossatlas.figures.palette import field_colour_map
from lossatlas.figures.plotted_fields import field_title

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

LOG_FROM = 20.0  # a positive field that spans a larger factor gets a logarithmic scale
LOG_SHIFT = 0.1  # added before the logarithm, as in the release of Li et al., where the loss of a basin is nearly zero
LARGEST_DRAWN = 1e300  # largest absolute value that can be drawn: sums and squares of a few must not overflow
SAME = 1e-12  # values are equal if they differ by less, relative to the largest
CROWDED = 0.7, 0.2  # colours are blended where this share of the cells lies in this share of the range
FEWEST, QUANTILES = 64, 257  # cells that can be crowded; ranks that are kept for blended colours
DECADES = 5.0  # a wider logarithmic range is cut at the top, to keep the basin readable


@dataclass(frozen=True)
class ColourScale:
    """Range and levels that all panels of a figure share.

    A value is drawn at its `height`: the value itself on a linear scale, log10(value + shift) on a logarithmic one.

    Attributes:
        low: Lowest value of the range.
        high: Highest value of the range.
        levels: (k,) values of the contours, ascending.
        log: The scale is logarithmic.
        above: Some values lie above `high`, and are drawn as such.
        shift: Constant that is added before the logarithm.
        below: Some values lie below `low`, and are drawn as such.
        colour_map: Colour map of the figure, a name or a map of matplotlib.
        ranks: (k,) heights at evenly spaced ranks among the cells within the range, ascending, for colours that blend
            value and rank; empty for colours in proportion to the height.
    """

    low: float
    high: float
    levels: np.ndarray
    log: bool
    above: bool
    shift: float = 0.0
    below: bool = False
    colour_map: "str | Colormap" = field(default_factory=field_colour_map)
    ranks: tuple[float, ...] = ()

    @property
    def extend(self) -> str:
        """Ends of the colour bar that point beyond the range, in matplotlib's words."""
        names = {(True, True): "both", (True, False): "max", (False, True): "min"}
        return names.get((self.above, self.below), "neither")

    def height(self, values: ArrayLike) -> np.ndarray:
        """Return the height at which values are drawn; a value far beyond the range is drawn just beyond it.

        Args:
            values: Values of the field, any shape.

        Returns:
            Their heights, of the same shape; NaN stays NaN.
        """
        values, span = np.asarray(values, float), self.high - self.low
        if not self.log:
            return np.clip(values, self.low - span, self.high + span)
        return np.log10(np.clip(values + self.shift, (self.low + self.shift) / 10, (self.high + self.shift) * 10))

    def unclipped_height(self, values: ArrayLike) -> np.ndarray:
        """Return the height without the limit beyond the range; for values without a logarithm, the drawn height."""
        values = np.asarray(values, float)
        if not self.log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values + self.shift > 0, np.log10(values + self.shift), self.height(values))

    def value_at(self, heights: ArrayLike) -> np.ndarray:
        """Return the values at heights: the inverse of `unclipped_height`."""
        heights = np.asarray(heights, float)
        return 10**heights - self.shift if self.log else heights

    @property
    def limits(self) -> tuple[float, float]:
        """Heights of the two ends of the range."""
        return float(self.height(self.low)), float(self.height(self.high))

    @property
    def norm(self) -> "Normalize":
        """Map of heights to shares of the colour map, with an exact inverse for the ticks of colour bars."""
        from matplotlib.colors import Normalize

        from lossatlas.figures.blended_norm import BlendedNorm  # loads matplotlib

        low, high = self.limits
        return BlendedNorm(low, high, self.ranks) if self.ranks else Normalize(low, high)

    def bar_title(self, name: str) -> str:
        """Return the title of the colour bar of a field, which says where colours do not follow the value alone."""
        if not self.ranks:
            return self.title(name)
        return f"{self.title(name)},\ncolours by value and rank"

    def label_at(self, height: float) -> str:
        """Label of a contour at a height."""
        return format_value(float(self.value_at(height)))

    def title(self, name: str) -> str:
        """Return the title of the axis or colour bar of a field; it names the shift where there is one."""
        separator = ",\n" if is_single_column() else ", "
        return f"{field_title(name)}{separator}scale ln(value + {self.shift:g})" if self.shift else field_title(name)

    def ticks(self, gap: float, top: float = np.inf) -> list[float]:
        """Choose levels that are at least `gap` apart in height, powers of ten first; none above the height `top`."""
        return _spread([level for level in self.levels if self.height(level) <= top], self.height, gap)

    def bar_ticks(self, most: int) -> list[float]:
        """Choose at most about `most` levels for a colour bar, powers of ten first, apart in the colours, ascending."""
        return sorted(_spread(self.levels, lambda level: float(self.norm(self.height(level))), 1 / most))


def _spread(levels: Iterable[float], place: Callable[[float], Any], gap: float) -> list[float]:
    """Choose levels whose places are at least `gap` apart, powers of ten first."""
    chosen: list[float] = []
    for level in sorted(levels, key=lambda value: not is_power_of_ten(value)):
        if all(abs(place(level) - place(other)) >= gap for other in chosen):
            chosen.append(level)
    return chosen


def choose_colour_scale(
    fields: Iterable[np.ndarray],
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    log: bool = False,
    linear: bool = False,
    colours: Colours | None = "value",
) -> ColourScale:
    """Choose the range and the levels of fields that share one colour scale.

    Without `log` and `linear` the scale is logarithmic where the field is positive and spans a factor of `LOG_FROM`.
    `LOG_SHIFT` is then added before the logarithm where the lowest value is far below it, because a plain logarithm
    would draw the basin as a needle.

    Args:
        fields: Values of each panel, any shape.
        vmin: Lowest value of the range; None takes the lowest value of the data.
        vmax: Highest value of the range; None takes the highest value of the data.
        vlevel: Distance of the contours, on a linear scale; None chooses round levels.
        log: Take the plain logarithm where all values are positive.
        linear: Take no logarithm unless `log` is given.
        colours: "value" for colours in proportion to the height, "blended" for a share of it and the rest by rank,
            see `blended_norm`; None blends where the cells are `CROWDED` and `linear` is not set.

    Returns:
        The scale.

    Raises:
        BadUsage: No value is finite, the range is empty or too wide, or `vlevel` does not suit it.

    Example:
        >>> choose_colour_scale([np.linspace(1, 5, 20)]).limits
        (1.0, 5.0)
    """
    values = np.concatenate([np.ravel(field) for field in fields])
    infinite = bool(np.isposinf(values).any())
    values = values[np.isfinite(values)]
    low, high = _checked_range(values, vmin, vmax)
    if log and low <= 0:
        note(f"values down to {low:g} have no logarithm: the scale is linear")
    if log and vlevel is not None:
        raise BadUsage(f"{named('vlevel')} is a distance on a linear scale: leave it or {named('log')} out")
    plain_log = log
    log = (log or not (vlevel is not None or linear)) and low > 0 and (log or high / low > LOG_FROM)
    shift = LOG_SHIFT if log and not plain_log and has_deep_basin(low, high) else 0.0
    if log and vmax is None and (high + shift) / (low + shift) > 10**DECADES:
        high = max((low + shift) * 10**DECADES, float(np.median(values)))
    if high - low <= SAME * max(abs(high), abs(low)):
        high, low = high + 0.5 * max(abs(high), 1e-12), low - 0.5 * max(abs(low), 1e-12)
        log = False
    levels = _choose_levels(low, high, vlevel, shift, log=log)
    below, above = bool((values < low).any()), infinite or bool((values > high).any())
    scale = ColourScale(low, high, levels, log, above, shift, below)
    heights = scale.height(values[(values >= low) & (values <= high)])
    if colours == "blended" or (colours is None and not linear and is_crowded(heights, scale.limits)):
        return replace(scale, ranks=_ranked(heights))
    return scale


def is_crowded(heights: np.ndarray, limits: tuple[float, float]) -> bool:
    """Tell whether most cells would have nearly the same colour, see `CROWDED`.

    Args:
        heights: (n,) heights of the cells within the range.
        limits: Heights of its ends.

    Returns:
        True where some part of the range as long as `CROWDED` says holds the share of the cells.
    """
    ordered = np.sort(heights)
    if len(ordered) < FEWEST:
        return False
    last = np.searchsorted(ordered, ordered + CROWDED[1] * (limits[1] - limits[0]), "right")
    return bool((last - np.arange(len(ordered))).max() >= CROWDED[0] * len(ordered))


def _ranked(heights: np.ndarray) -> tuple[float, ...]:
    """Return the heights at evenly spaced ranks."""
    if len(heights) < 2:
        return ()
    ordered = np.sort(heights)
    kept = np.linspace(0, len(ordered) - 1, min(QUANTILES, len(ordered))).round().astype(int)
    return tuple(ordered[kept].tolist())


def has_deep_basin(low: float, high: float) -> bool:
    """Tell whether a positive field reaches so far below `LOG_SHIFT` that a plain logarithm shows a needle."""
    return low < LOG_SHIFT and high > 10 * LOG_SHIFT


def _checked_range(values: np.ndarray, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    """Return the given range, completed from finite values."""
    if values.size == 0:
        raise BadUsage("there is nothing to draw: no cell of this field is finite")
    low = float(values.min()) if vmin is None else vmin
    high = float(values.max()) if vmax is None else vmax
    limits = named("vmin"), named("vmax")
    if high < low or (high == low and (vmin is not None or vmax is not None)):
        raise BadUsage(f"the range {low:g} to {high:g} is empty: change {' or '.join(limits)}")
    if not max(abs(low), abs(high)) < LARGEST_DRAWN:
        raise BadUsage(f"the range {low:g} to {high:g} is wider than numbers go: choose {' and '.join(limits)}")
    return low, high


def _choose_levels(low: float, high: float, vlevel: float | None, shift: float, *, log: bool) -> np.ndarray:
    """Choose at least two levels from low to high."""
    if vlevel is not None and not log:
        if vlevel <= 0 or (high - low) / vlevel > 1000:
            raise BadUsage(
                f"{named('vlevel')} {vlevel:g} gives no sensible number of contours from {low:g} to {high:g}"
            )
        levels: np.ndarray = np.arange(low, high + vlevel / 2, vlevel)
        levels = levels[levels <= high + 1e-9 * (high - low)]
    elif log:
        levels = shifted_log_levels(low, high) if shift else log_levels(low, high)
    else:
        levels = linear_levels(low, high)
    if len(levels) < 2:
        levels = np.geomspace(low, high, 8) if log else np.linspace(low, high, 8)
    return levels


def linear_levels(low: float, high: float) -> np.ndarray:
    """Choose about twelve round numbers from low to high.

    Returns:
        (k,) levels, ascending.
    """
    from matplotlib.ticker import MaxNLocator

    levels = np.asarray(MaxNLocator(12, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    return levels[(levels >= low) & (levels <= high)]


def log_levels(low: float, high: float) -> np.ndarray:
    """Choose round numbers for a logarithmic scale: 1, 2, 5 in each decade, or fewer when there are many decades.

    Args:
        low: Lowest value, positive.
        high: Highest value.

    Returns:
        (k,) levels, ascending.
    """
    decades = np.log10(high / low)
    steps: Sequence[float] = (1, 1.5, 2, 3, 5, 7) if decades < 1.6 else (1, 2, 5) if decades < 4 else (1, 3)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    levels: np.ndarray = np.outer(powers, steps).ravel()
    return levels[(levels >= low * (1 - 1e-9)) & (levels <= high * (1 + 1e-9))]


def shifted_log_levels(low: float, high: float) -> np.ndarray:
    """Choose round numbers for the logarithm of value + `LOG_SHIFT`, few below it, where they lie close together.

    Returns:
        (k,) levels, ascending.
    """
    below = np.array([LOG_SHIFT / 10, 3 * LOG_SHIFT / 10])
    above = log_levels(LOG_SHIFT, high) if high / LOG_SHIFT > 2 else [LOG_SHIFT]
    return np.concatenate([below[below > low], above])


def format_value(value: float) -> str:
    """Format the label of a contour: a few digits, without an exponent from 1000 up to a million."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def format_tick(value: float, _: int | None = None) -> str:
    """Format a tick label without trailing zeros; the second argument is the position that matplotlib gives."""
    return f"{value:.6g}".replace("-", "\u2212")


def is_power_of_ten(value: float) -> bool:
    """Tell whether a value is a power of ten, up to rounding."""
    return value > 0 and abs(np.log10(value) - round(np.log10(value))) < 1e-9
