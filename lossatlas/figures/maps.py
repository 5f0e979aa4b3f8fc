"""Surfaces seen from above: contours, filled contours, heat maps, and paths on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossatlas.figures.style import Scale, number, title_of
from lossatlas.landscape.surface import Surface

MAP = "viridis"
NOT_DONE, NOT_FINITE = "0.85", "#c0392b"


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

    @property
    def part(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and values of the finest complete sub-grid."""
        return self.x[self.columns], self.y[self.rows], self.values[np.ix_(self.rows, self.columns)]

    @property
    def note(self) -> str:
        return "" if self.done.all() else f"unfinished: {self.done.sum()} of {self.done.size} cells"


def panel(surface: Surface, name: str, label: str) -> Panel:
    assert surface.grid.y is not None
    rows, columns = surface.complete_part()
    return Panel(label, surface.grid.x, surface.grid.y, surface.fields[name], surface.done, rows, columns)


def flat_figure(
    plt: Any, panels: Sequence[Panel], scale: Scale, name: str, one: Callable[..., Any], trajectory: Any
) -> Any:
    """Panels side by side with one scale, and a colour bar where colours carry the value."""
    fig, axes = plt.subplots(
        1, len(panels), figsize=(3.9 * len(panels) + 0.7, 3.9), squeeze=False, sharey=True, layout="compressed"
    )
    draw_flat(fig, axes[0].tolist(), panels, scale, name, one, trajectory)
    return fig


def draw_flat(
    fig: Any,
    axes: Sequence[Any],
    panels: Sequence[Panel],
    scale: Scale,
    name: str,
    one: Callable[..., Any],
    trajectory: Any,
) -> None:
    """A panel on each axis, and the colour bar beside them. one: contour, filled or heat."""
    axes[0].set_ylabel("y")
    for axis, p in zip(axes, panels, strict=True):
        mappable = one(axis, p, scale)
        mark_cells(axis, p)
        axis.set(xlabel="x", aspect="equal", xlim=(p.x[0], p.x[-1]), ylim=(p.y[0], p.y[-1]))
        axis.set_box_aspect(1 if np.ptp(p.y) / np.ptp(p.x) > 4 or np.ptp(p.x) / np.ptp(p.y) > 4 else None)
        title = p.label if len(panels) > 1 else title_of(name)
        axis.set_title(f"{title}\n{p.note}" if p.note else title)
        if trajectory is not None:
            draw_trajectory(axis, trajectory)
    low = min(np.ptp(p.y) / np.ptp(p.x) for p in panels)  # of a wide plane: the equal aspect leaves height unused
    shrink = float(low) if 1 / 4 <= low < 1 else 1.0
    bar = fig.colorbar(
        mappable, ax=list(axes), extend=scale.extend, label=title_of(name), pad=0.02, shrink=shrink, aspect=20 * shrink
    )
    plain_ticks(bar.ax.yaxis, scale)


def contour(axis: Any, p: Panel, scale: Scale) -> Any:
    from matplotlib import cm
    from matplotlib.colors import Normalize

    x, y, z = p.part
    lines = axis.contour(
        x,
        y,
        scale.height(z),
        levels=scale.height(scale.levels),
        cmap=MAP,
        vmin=scale.limits[0],
        vmax=scale.limits[1],
        linewidths=1.1,
    )
    axis.clabel(lines, lines.levels[::2], fontsize=7, fmt=scale.text, inline_spacing=2)
    return cm.ScalarMappable(Normalize(*scale.limits), MAP)


def filled(axis: Any, p: Panel, scale: Scale) -> Any:
    x, y, z = p.part
    bounds = np.union1d(scale.height(scale.levels), scale.limits)
    mesh = axis.contourf(
        x, y, scale.height(z), levels=bounds, cmap=MAP, extend=scale.extend, vmin=scale.limits[0], vmax=scale.limits[1]
    )
    axis.contour(x, y, scale.height(z), levels=scale.height(scale.levels), colors="white", linewidths=0.4, alpha=0.6)
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
    bad = p.done & ~np.isfinite(p.values)
    if bad.any():
        x, y = np.meshgrid(p.x, p.y)
        axis.plot(x[bad], y[bad], "x", color=NOT_FINITE, markersize=4, clip_on=False, label="not finite", zorder=5)
        axis.legend(loc="upper right", fontsize="small", framealpha=0.9)


def plain_ticks(axis: Any, scale: Scale) -> None:
    """Tick labels as plain numbers at the contour levels."""
    levels = scale.levels if len(scale.levels) < 12 else scale.levels[:: 1 + len(scale.levels) // 12]
    axis.set_ticks(scale.height(levels), labels=[number(level) for level in levels], minor=False)
    axis.set_ticks([], minor=True)


def draw_trajectory(axis: Any, trajectory: tuple[np.ndarray, np.ndarray, Sequence[float]]) -> None:
    x, y, explained = trajectory
    axis.plot(x, y, ".-", color="black", linewidth=1, markersize=4)
    axis.plot(x[-1:], y[-1:], "*", color="black", markersize=9)
    if len(explained) >= 2:
        axis.set_xlabel(f"1st principal component: {100 * explained[0]:.2f} %")
        axis.set_ylabel(f"2nd principal component: {100 * explained[1]:.2f} %")
