"""Panels: one field of one surface, prepared for drawing, with a finer grid through its cells."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from lossatlas.choices import CurveOrNone
from lossatlas.figures.colour_scale import ColourScale, choose_colour_scale
from lossatlas.figures.network_marks import NetworkMark, curve_kind, network_marks
from lossatlas.figures.plotted_fields import is_accuracy, mathtext
from lossatlas.landscape.chart_cells import CHART_FOLDS, DISTORTION
from lossatlas.landscape.interpolant import Interpolant, clip_for_drawing, cross_validate
from lossatlas.landscape.surface import Surface

# An interpolant with a smaller error, see `cross_validate`, is drawn; otherwise lines between the cells are straight.
TRUSTED = 0.05
FINE = 240  # points along an axis of the finer grid, about
FEW_OUTLIERS = 0.02  # share of the cells that a scale may leave above its end
MOST_TIMES = 24  # points of the finer grid for each cell, at most


@dataclass(frozen=True)
class Panel:
    """One field of a surface to draw: its finest complete sub-grid as contours, all of it as a heat map.

    Attributes:
        label: Name of the surface.
        x: (nx,) coordinates along the first direction.
        y: (ny,) coordinates along the second direction.
        values: (ny, nx) values; NaN where not done, or where the value is not a number.
        done: (ny, nx) mask of the cells that have a value.
        rows: Indices of the rows of the finest complete sub-grid.
        columns: Indices of its columns.
        detail: Points along an axis of the finer grid, about.
        networks: Networks in the plane, which are marked.
        scheme: Name of a scheme other than an affine plane; "" for a plane.
        curve: Kind of the curve between the first two networks whose control point is the third; "" for none.
        infinite_cells: Number of infinite cells that are drawn as the largest finite value.
        more_is_better: The best cell is the highest one, as of an accuracy.
        standard_errors: Size of the standard errors in words; "" where there are none.
        interpolated: (ny, nx) mask of interpolated cells; None where all cells are computed.
        distortion: (ny, nx) distortion of a chart of local planes; None for a plane.
        folded: (ny, nx) mask of the cells at which a chart folds; None for a plane.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    done: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    detail: int = FINE
    networks: tuple[NetworkMark, ...] = ()
    scheme: str = ""
    curve: CurveOrNone = ""
    infinite_cells: int = 0
    more_is_better: bool = False
    standard_errors: str = ""
    interpolated: np.ndarray | None = None
    distortion: np.ndarray | None = None
    folded: np.ndarray | None = None

    @property
    def complete_part(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axes x (nx,) and y (ny,) and values (ny, nx) of the finest complete sub-grid."""
        return self.x[self.columns], self.y[self.rows], self.values[np.ix_(self.rows, self.columns)]

    def refined(self, scale: ColourScale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the complete part on a finer grid that contains its cells.

        The interpolant gives the values where its error is below `TRUSTED`. Otherwise lines between the cells are
        straight in the height that the scale draws: if they were straight in the value, contours of a value that
        grows tenfold from cell to cell would crowd at the upper cell, as stars and squares.

        Args:
            scale: Colour scale of the figure.

        Returns:
            Axes x (nx',) and y (ny',) and values (ny', nx').
        """
        return self._piecewise_linear(scale) if self._interpolant is None else self._interpolant

    @cached_property
    def _finer_axes(self) -> tuple[list[np.ndarray], list[int]]:
        """Axes with more points, and the factor by which intervals are divided."""
        x, y, _ = self.complete_part
        times = [max(1, min(MOST_TIMES, self.detail // max(1, len(axis) - 1))) for axis in (x, y)]
        axes = [
            np.interp(np.arange(n * (len(a) - 1) + 1) / n, np.arange(len(a)), a)
            for n, a in zip(times, (x, y), strict=True)
        ]
        return axes, times

    @cached_property
    def _interpolant(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Values of the interpolant on the finer grid; None where its error is too large."""
        x, y, z = self.complete_part
        if min(len(x), len(y)) < 2:
            return x, y, z
        log, error = cross_validate(x, y, z)
        if not error < TRUSTED:
            return None
        found = Interpolant.for_drawing(x, y, z, log=log)
        return self._with_cells(found.at(*np.meshgrid(*self._finer_axes[0]))[0])

    def _piecewise_linear(self, scale: ColourScale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y, z = self.complete_part
        finer, _ = self._finer_axes
        heights = scale.unclipped_height(z)
        rows = np.stack([np.interp(finer[0], x, row) for row in heights])
        between = np.stack([np.interp(finer[1], y, column) for column in rows.T], axis=1)
        return self._with_cells(scale.value_at(between))

    def _with_cells(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the finer grid, with the exact values of the cells at the cells."""
        _, _, z = self.complete_part
        axes, times = self._finer_axes
        values = clip_for_drawing(values, z)
        values[:: times[1], :: times[0]] = z  # infinite ones too
        return axes[0], axes[1], values

    def best_cell(self) -> tuple[int, int] | None:
        """Return row and column of the best computed cell, of equal ones the nearest to the origin, or None."""
        known = np.isfinite(self.values) if self.interpolated is None else np.isfinite(self.values) & ~self.interpolated
        if not known.any():
            return None
        values = np.where(known, -self.values if self.more_is_better else self.values, np.inf)
        distance = np.hypot(*np.meshgrid(self.x, self.y))
        j, i = np.unravel_index(np.argmin(np.where(values == values.min(), distance, np.inf)), values.shape)
        return int(j), int(i)

    @property
    def note(self) -> str:
        """Facts that a reader has to know, in one line."""
        return "; ".join(self.notes())

    def notes(self, interpolated_suffix: str = "") -> list[str]:
        """List facts that a reader has to know.

        Args:
            interpolated_suffix: Words after the number of interpolated cells.

        Returns:
            One text for each fact; none where nothing is unusual.
        """
        notes = [] if self.done.all() else [f"unfinished: {self.done.sum()} of {self.done.size} cells"]
        if self.interpolated is not None:
            notes.append(f"{self.interpolated.sum()} of {self.done.size} cells interpolated{interpolated_suffix}")
        notes += [f"standard errors up to {self.standard_errors}"] if self.standard_errors else []
        notes += [f"scheme: {self.scheme}"] if self.scheme else []
        notes += [f"{self.infinite_cells} infinite cells at the largest value"] if self.infinite_cells else []
        return notes

    @property
    def not_finite(self) -> np.ndarray:
        """(ny, nx) mask of the cells whose value is NaN or infinite."""
        return self.done & ~np.isfinite(self.values)


def surface_panel(surface: Surface, name: str, label: str, *, infinite_as_largest: bool = False) -> Panel:
    """Prepare a field of a surface for drawing.

    Args:
        surface: A surface over a plane.
        name: Name of the field.
        label: Name of the surface.
        infinite_as_largest: Draw infinite values as the largest finite one, which the notes say.

    Returns:
        The panel.
    """
    assert surface.grid.y is not None
    values, infinite_cells = surface.fields[name], 0
    if infinite_as_largest:
        infinite = np.isposinf(values)
        infinite_cells = int(infinite.sum())
        if np.isfinite(values).any():
            values = np.where(infinite, values[np.isfinite(values)].max(), values)
    rows, columns = surface.complete_part()
    return Panel(
        label,
        surface.grid.x,
        surface.grid.y,
        values,
        surface.known,
        rows,
        columns,
        networks=tuple(network_marks(surface)),
        scheme=str(surface.request.get("scheme", "")),
        curve=curve_kind(surface),
        infinite_cells=infinite_cells,
        more_is_better=is_accuracy(name),
        standard_errors=largest_error_of_field(surface, name),
        interpolated=surface.interpolated if surface.interpolated.any() else None,
        distortion=surface.fields.get(DISTORTION) if surface.is_chart else None,
        folded=surface.fields[CHART_FOLDS] > 0 if surface.is_chart and CHART_FOLDS in surface.fields else None,
    )


def largest_error_of_field(surface: Surface, name: str) -> str:
    """Write the largest standard error of a field: relative of a loss, in percentage points of an accuracy."""
    error = surface.fields.get(f"{name}_se")
    if error is None or not (error > 0).any():
        return ""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.isfinite(error), error / np.abs(surface.fields[name]), 0)
    if name.endswith("_loss") and share.max() < 1:
        return f"{100 * share.max():.2g} %"
    return f"{np.nanmax(error):.2g}{' points' * is_accuracy(name)}"


def panels_scale(panels: Sequence[Panel], name: str, **limits: Any) -> ColourScale:
    """Choose the colour scale that panels of one field share.

    Args:
        panels: Panels of one field.
        name: Name of the field.
        **limits: vmin, vmax, vlevel, log and colours, see `choose_colour_scale`.

    Returns:
        The scale; linear for an accuracy unless `log` is given.

    Raises:
        BadUsage: See `choose_colour_scale`.
    """
    return choose_colour_scale([p.values for p in panels], linear=is_accuracy(name), **{"colours": None, **limits})


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Compute the edges (n + 1,) of cells from their centres (n,)."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def ratio_scale(panels: Sequence[Panel]) -> ColourScale:
    """Choose the colour scale of |smallest / largest| eigenvalue: from 0 to the largest value.

    Where at most `FEW_OUTLIERS` of the cells reach more than twice as far as all others, the scale ends at the others.

    Args:
        panels: Panels of the ratio.

    Returns:
        A linear scale; from 0 to 1 where no value is finite, as where no eigenvalue is resolved: all cells are grey
        then.
    """
    values = np.concatenate([p.values[np.isfinite(p.values)] for p in panels])
    if values.size == 0:
        return choose_colour_scale([np.array([0.0, 1.0])], vmin=0.0, vmax=1.0, linear=True)
    top = None
    if values.size > 1:
        others, most = np.sort(values)[-1 - max(1, int(FEW_OUTLIERS * values.size))], values.max()
        top = float(others if 0 < others < most / 2 else most)
    return choose_colour_scale([values], vmin=0.0, vmax=top if top and top > 0 else 1.0, linear=True)


def same_extent(panels: Sequence[Panel]) -> bool:
    """Tell whether panels cover the same part of a plane."""
    return all(
        np.allclose([p.x[0], p.x[-1], p.y[0], p.y[-1]], [q.x[0], q.x[-1], q.y[0], q.y[-1]]) for p, q in pairwise(panels)
    )


def legend_name(name: str, width: int = 28) -> str:
    """Wrap a name for a legend: a long one takes several lines, at most three."""
    lines = textwrap.wrap(name, width, break_on_hyphens=False) or [name]
    return mathtext("\n".join(lines[:3]) + "…" * (len(lines) > 3))
