"""Surfaces seen from above: contours, filled contours, heat maps, and paths on them."""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from lossatlas.figures.network_marks import Network, bent, curve_of, networks_of
from lossatlas.figures.style import Scale, is_power_of_ten, narrow, number, plain, scaled_title, title_of, words
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.interpolant import Interpolant, clip_for_drawing, cross_validate
from lossatlas.landscape.surface import Surface

MAP = "viridis"
PATHS = ("#d81b60", "#e69f00", "#1e88e5", "#009e73", "#7b3fa0")  # of several runs
DROP = "#e4312b"
OWN = "the checkpoint's own loss"
DROPPED = "learning rate dropped"
NOT_DONE, NOT_FINITE = "0.85", "#c0392b"
TRUSTED = 0.05  # an interpolant that is off by less, see `cross_validate`, is drawn; otherwise straight lines between the cells
FINE = 240
MOST_SKEWED, SKEWED = 4.0, 1.7  # one axis against the other: beyond the first they are drawn like the second
LABEL = 0.1, 0.05  # width and height of a label, as shares of the frame


@dataclass(frozen=True)
class Panel:
    """One surface to draw: the part of the grid that is complete for contours, all of it for the heat map."""

    label: str
    x: np.ndarray  # (nx,)
    y: np.ndarray  # (ny,)
    values: np.ndarray  # (ny, nx); NaN where not done, or where the value is not a number
    done: np.ndarray  # (ny, nx)
    rows: np.ndarray
    columns: np.ndarray
    detail: int = FINE  # points along an axis of what is drawn, about
    networks: tuple[Network, ...] = ()
    scheme: str = ""  # where it is no plane
    curve: str = ""  # between the first two networks, whose bend the third one is
    lifted: int = 0  # infinite values that are drawn as the largest finite one
    more_is_better: bool = False  # as of an accuracy
    uncertain: str = ""  # how large the standard errors are, in words
    interpolated: np.ndarray | None = None  # (ny, nx): which values are not computed; None where all are

    @property
    def part(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and values of the finest complete sub-grid."""
        return self.x[self.columns], self.y[self.rows], self.values[np.ix_(self.rows, self.columns)]

    def fine(self, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same on a finer grid that holds its cells: through the interpolant where it can be trusted.

        Otherwise lines between the cells are straight in the height that the scale draws: linear in a value that grows tenfold
        from cell to cell, contours would crowd at the upper cell, as stars and squares.
        """
        smooth = self.smooth
        return self.straight(scale) if smooth is None else smooth

    @cached_property
    def finer(self) -> tuple[list[np.ndarray], list[int]]:
        """Axes with more points, and how many times as many intervals they have."""
        x, y, _ = self.part
        times = [max(1, min(24, self.detail // max(1, len(axis) - 1))) for axis in (x, y)]
        axes = [
            np.interp(np.arange(n * (len(a) - 1) + 1) / n, np.arange(len(a)), a)
            for n, a in zip(times, (x, y), strict=True)
        ]
        return axes, times

    @cached_property
    def smooth(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Values of the interpolant on a finer grid; None if it cannot be trusted."""
        x, y, z = self.part
        if min(len(x), len(y)) < 2:
            return x, y, z
        log, error = cross_validate(x, y, z)
        if not error < TRUSTED:
            return None
        return self.on_finer(Interpolant.of(x, y, z, log=log).at(*np.meshgrid(*self.finer[0]))[0])

    def straight(self, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y, z = self.part
        finer, _ = self.finer
        heights = scale.unbounded(z)
        rows = np.stack([np.interp(finer[0], x, row) for row in heights])
        between = np.stack([np.interp(finer[1], y, column) for column in rows.T], axis=1)
        return self.on_finer(scale.values_of(between))

    def on_finer(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, _, z = self.part
        axes, times = self.finer
        values = clip_for_drawing(values, z)
        values[:: times[1], :: times[0]] = z  # infinite ones too
        return axes[0], axes[1], values

    @property
    def note(self) -> str:
        return "; ".join(self.notes())

    def notes(self, dots: str = "") -> list[str]:
        """dots: what is said of the interpolated cells, where dots mark the others."""
        notes = [] if self.done.all() else [f"unfinished: {self.done.sum()} of {self.done.size} cells"]
        if self.interpolated is not None:
            notes.append(f"{self.interpolated.sum()} of {self.done.size} cells interpolated{dots}")
        notes += [f"standard errors up to {self.uncertain}"] if self.uncertain else []
        notes += [f"scheme: {self.scheme}"] if self.scheme else []
        notes += [f"{self.lifted} infinite cells at the largest value"] if self.lifted else []
        return notes


def panel(surface: Surface, name: str, label: str, lift: bool = False) -> Panel:
    """lift: draw infinite values as the largest finite one, which the note says."""
    assert surface.grid.y is not None
    rows, columns = surface.complete_part()
    grid, known = surface.grid, tuple(networks_of(surface))
    values, above = surface.fields[name], np.isposinf(surface.fields[name])
    if lift and np.isfinite(values).any():
        values = np.where(above, values[np.isfinite(values)].max(), values)
    lifted, scheme = int(above.sum()) if lift else 0, str(surface.request.get("scheme", ""))
    accuracy = name.endswith("_acc")
    own: dict[str, Any] = {
        "more_is_better": accuracy,
        "networks": known,
        "scheme": scheme,
        "lifted": lifted,
        "curve": curve_of(surface),
    }
    error = surface.fields.get(f"{name}_se")
    if error is not None and (error > 0).any():
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(np.isfinite(error), error / np.abs(surface.fields[name]), 0)
        relative = name.endswith("_loss") and share.max() < 1
        own["uncertain"] = f"{100 * share.max():.2g} %" if relative else f"{np.nanmax(error):.2g}{' points' * accuracy}"
    if surface.interpolated.any():
        own["interpolated"] = surface.interpolated
    return Panel(label, grid.x, surface.grid.y, values, surface.known, rows, columns, **own)


def flat_figure(
    plt: Any, panels: Sequence[Panel], scale: Scale, name: str, one: Callable[..., Any], paths: Sequence[Projection]
) -> Any:
    """Panels side by side with one scale, and a colour bar where colours carry the value."""
    rows, columns = (len(panels), 1) if narrow() else (1, len(panels))
    size = 3.9 * widening(panels) * columns + 0.7, 3.9 * rows
    fig, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, sharex=alike(panels), sharey=alike(panels), layout="compressed"
    )
    draw_flat(fig, axes.ravel().tolist(), panels, scale, name, one, paths)
    return fig


def alike(panels: Sequence[Panel]) -> bool:
    """Whether they cover the same part of a plane."""
    return all(
        np.allclose([p.x[0], p.x[-1], p.y[0], p.y[-1]], [q.x[0], q.x[-1], q.y[0], q.y[-1]]) for p, q in pairwise(panels)
    )


def draw_flat(
    fig: Any,
    axes: Sequence[Any],
    panels: Sequence[Panel],
    scale: Scale,
    name: str,
    one: Callable[..., Any],
    paths: Sequence[Projection],
    bar: bool = True,
) -> None:
    """A panel on each axis, and the colour bar beside them. one: contour, filled or heat."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis in axes if narrow() else axes[:1]:
        axis.set_ylabel("y")
    for axis, p in zip(axes, panels, strict=True):
        mappable = one(axis, p, scale)
        mark_cells(axis, p)
        mark_networks(axis, p)
        ends = [edges(each) if one is heat else each for each in (p.x, p.y)]
        axis.set(xlabel="x", aspect="equal", xlim=(ends[0][0], ends[0][-1]), ylim=(ends[1][0], ends[1][-1]))
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            each.set_major_formatter(FuncFormatter(plain))
        several = len(panels) > 1  # narrow ones
        notes = [p.label if several else title_of(name), *p.notes(" (dots: computed)")]
        if skewed(p):
            axis.set(aspect="auto", box_aspect=1 / SKEWED if np.ptp(p.x) > np.ptp(p.y) else SKEWED)
            notes.append("the axes have different scales")
        axis.set_title("\n".join(filter(None, notes)))
        for k, path in enumerate(paths):
            draw_trajectory(axis, path, scale, PATHS[k % len(PATHS)] if len(paths) > 1 else "black")
        if paths and axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize="x-small", framealpha=0.9)
    for axis in axes[:-1] if narrow() else ():
        axis.set_xlabel("")
    if not bar:
        return
    low = min(1 / SKEWED if skewed(p) and np.ptp(p.x) > np.ptp(p.y) else np.ptp(p.y) / np.ptp(p.x) for p in panels)
    shrink = min(1.0, float(low) * widening(panels)) if low < 1 else 1.0  # of a wide plane, whose height is not used
    colours = fig.colorbar(
        mappable,
        ax=list(axes),
        extend=scale.extend,
        label=scaled_title(name, scale),
        pad=0.02,
        shrink=shrink,
        aspect=20 * shrink,
    )
    plain_ticks(colours.ax.yaxis, scale, max(3, int((6 * len(axes) if narrow() else 12) * shrink)))


def skewed(p: Panel) -> bool:
    """Whether one axis is so much longer that with equal scales nothing could be seen."""
    return not 1 / MOST_SKEWED <= np.ptp(p.y) / np.ptp(p.x) <= MOST_SKEWED


def widening(panels: Sequence[Panel]) -> float:
    """How much wider than high a panel is made."""
    return max(1.0, min(1.7, float(np.ptp(panels[0].x) / np.ptp(panels[0].y))))


def contour(axis: Any, p: Panel, scale: Scale) -> Any:
    from matplotlib import cm
    from matplotlib.colors import Normalize

    x, y, z = p.fine(scale)
    lines = axis.contour(
        x,
        y,
        scale.height(z),
        levels=scale.height(scale.levels),
        cmap=MAP,
        vmin=scale.limits[0],
        vmax=scale.limits[1],
        linewidths=1.1,
        linestyles="solid",
    )
    label(axis, lines, scale)
    mark_best(axis, p)
    return cm.ScalarMappable(Normalize(*scale.limits), MAP)


def label(axis: Any, lines: Any, scale: Scale) -> None:
    """Values on every second contour; none that would be cut off by the frame or lie on another one."""
    wide, high = (1.7 * each for each in LABEL) if narrow() else LABEL
    texts = axis.clabel(lines, lines.levels[::2], fontsize=6 if narrow() else 7, fmt=scale.text, inline=False)
    taken: list[tuple[float, float]] = []
    for text in texts:
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.4})
        text.set_clip_on(True)
        (x0, x1), (y0, y1) = axis.get_xlim(), axis.get_ylim()
        share = (text.get_position()[0] - x0) / (x1 - x0), (text.get_position()[1] - y0) / (y1 - y0)
        free = all(abs(share[0] - a) > wide or abs(share[1] - b) > high for a, b in taken)
        if free and wide / 2 < share[0] < 1 - wide / 2 and high / 2 < share[1] < 1 - high / 2:
            taken.append(share)
        else:
            text.set_visible(False)


def distinct(bounds: np.ndarray) -> np.ndarray:
    """Sorted values without those that rounding has doubled."""
    gap = 1e-6 * (bounds[-1] - bounds[0])
    return bounds[np.append(True, np.diff(bounds) > gap)]


def mark_best(axis: Any, p: Panel) -> None:
    """A small cross at the lowest computed cell, or the highest where more is better; of equal ones nearest to the origin."""
    known = np.isfinite(p.values) if p.interpolated is None else np.isfinite(p.values) & ~p.interpolated
    if known.any():
        values = np.where(known, -p.values if p.more_is_better else p.values, np.inf)
        distance = np.hypot(*np.meshgrid(p.x, p.y))
        j, i = np.unravel_index(np.argmin(np.where(values == values.min(), distance, np.inf)), values.shape)
        axis.plot(p.x[i], p.y[j], "+", color="black", markersize=6, markeredgewidth=0.9, zorder=4, clip_on=False)


def filled(axis: Any, p: Panel, scale: Scale) -> Any:
    x, y, z = p.fine(scale)
    z = np.clip(z, None if scale.under else scale.low, None if scale.cut else scale.high)  # a bicubic may swing beyond
    bounds = distinct(np.union1d(scale.height(scale.levels), scale.limits))
    mesh = axis.contourf(
        x, y, scale.height(z), levels=bounds, cmap=MAP, extend=scale.extend, vmin=scale.limits[0], vmax=scale.limits[1]
    )
    thin: dict[str, Any] = {"colors": "white", "linewidths": 0.4, "alpha": 0.6, "linestyles": "solid"}
    axis.contour(x, y, scale.height(z), levels=scale.height(scale.levels), **thin)
    return mesh


def heat(axis: Any, p: Panel, scale: Scale) -> Any:
    return axis.pcolormesh(
        edges(p.x),
        edges(p.y),
        np.ma.masked_invalid(scale.height(p.values)),
        cmap=MAP,
        vmin=scale.limits[0],
        vmax=scale.limits[1],
        rasterized=True,
    )


def edges(centres: np.ndarray) -> np.ndarray:
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def mark_cells(axis: Any, p: Panel) -> None:
    """Grey cells where nothing is computed, red crosses where the value is not finite; never mistaken for a colour."""
    from matplotlib.colors import ListedColormap

    if not p.done.all():
        grey = np.ma.masked_where(p.done, np.ones(p.done.shape))
        axis.pcolormesh(edges(p.x), edges(p.y), grey, cmap=ListedColormap([NOT_DONE]), zorder=0.5)
    x, y = np.meshgrid(p.x, p.y)
    if p.interpolated is not None:
        computed = p.done & ~p.interpolated
        axis.plot(x[computed], y[computed], ".", color="black", alpha=0.5, markersize=1.2, zorder=3.5)
    bad = p.done & ~np.isfinite(p.values)
    if bad.any():
        axis.plot(x[bad], y[bad], "x", color=NOT_FINITE, markersize=4, clip_on=False, label="not finite", zorder=5)
        axis.legend(loc="upper right", fontsize="small", framealpha=0.9)


def mark_networks(axis: Any, p: Panel) -> None:
    """Points with the names of the networks that the plane goes through."""
    from matplotlib.patheffects import withStroke

    if p.curve:
        axis.plot(*bent(p.curve, p.networks), "--", color="black", linewidth=1.2, zorder=5)
    for each in p.networks:
        axis.plot(
            each.x, each.y, "o", color="black", markersize=4, markeredgecolor="white", markeredgewidth=0.7, zorder=6
        )
        at = {"textcoords": "offset points", "ha": "center", "fontsize": "x-small", "zorder": 7}
        note = axis.annotate(short(each.name), (each.x, each.y), (0, 5), **at)
        note.set_path_effects([withStroke(linewidth=2, foreground="white")])


def plain_ticks(axis: Any, scale: Scale, most: int = 12) -> None:
    """Tick labels as plain numbers at the contour levels."""
    gap = (scale.limits[1] - scale.limits[0]) / (2 * most)
    levels: list[float] = []
    for level in sorted(scale.levels, key=lambda value: not is_power_of_ten(value)):  # rounder ones first
        if all(abs(scale.height(level) - scale.height(other)) >= gap for other in levels):
            levels.append(level)
    levels.sort()
    levels = levels if len(levels) <= most else levels[:: 1 + len(levels) // most]
    axis.set_ticks(scale.height(levels), labels=[number(level) for level in levels], minor=False)
    axis.set_ticks([], minor=True)


def draw_trajectory(axis: Any, path: Projection, scale: Scale | None = None, colour: str = "black") -> None:
    """The path of a training; with a scale each checkpoint has the colour of its own loss, where that is known."""
    from matplotlib.patheffects import withStroke

    x, y = path.x, path.y
    several, own = colour != "black", scale is not None and path.loss is not None
    axis.plot(x, y, "-", color=colour, linewidth=1.1, zorder=5, label=short(path.run) if several else None)
    if own and scale is not None:
        looks = {"cmap": MAP, "vmin": scale.limits[0], "vmax": scale.limits[1], "edgecolors": colour, "linewidths": 0.7}
        known = [each.get_label() for each in axis.collections]
        axis.scatter(x, y, c=scale.height(path.loss), s=18, zorder=6, label=None if OWN in known else OWN, **looks)
    else:
        axis.plot(x, y, ".", color=colour, markersize=4, zorder=5)
        axis.plot(x[:1], y[:1], "o", color=colour, markerfacecolor="white", markersize=5, zorder=6)
    if len(low := path.dropped()):
        known = [each.get_label() for each in axis.get_lines()]
        label = None if DROPPED in known else DROPPED
        axis.plot(x[low], y[low], "D", color=DROP, markersize=4, linestyle="none", zorder=7, label=label)
    for where, beside, text in ((0, 1, "first"), (-1, -2, "last")):
        away = np.array([x[where] - x[beside], y[where] - y[beside]]) if len(x) > 1 else np.ones(2)
        shift = 12 * away / max(float(np.hypot(*away)), 1e-300)  # where the path is not
        at = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": "x-small"}
        note = axis.annotate(text, (x[where], y[where]), tuple(shift), zorder=8, clip_on=True, color="black", **at)
        note.set_path_effects([withStroke(linewidth=2, foreground="white")])
    axis.plot(x[-1:], y[-1:], "*", color=colour, markersize=9, zorder=7)
    for letter, name in zip("xy", axis_names(path), strict=True):
        axis.set(**{f"{letter}label": name})


def axis_names(path: Projection) -> tuple[str, str]:
    """What the axes of its plane are."""
    if len(path.explained) >= 2:
        first, second = (f"{100 * share:.1f} %" for share in path.explained[:2])
        return f"1st principal component ({first})", f"2nd ({second})"
    names = [words(re.sub(r" from .*", "", name)) for name in path.axes] or ["x", "y"]
    return names[0], names[1]


def short(name: str, width: int = 28) -> str:
    """A name for a legend: a long one takes several lines, at most three."""
    lines = textwrap.wrap(name, width, break_on_hyphens=False) or [name]
    return words("\n".join(lines[:3]) + "…" * (len(lines) > 3))
