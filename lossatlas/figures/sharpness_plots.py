"""Rise of the loss within a distance: curves over the radius, and a table."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.colour_scale import format_tick
from lossatlas.figures.matplotlib_style import FigureFactory, is_single_column
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.figures.text_tables import align_columns
from lossatlas.io.spectrum_files import Findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RADIUS, WORST, AVERAGE, ERROR = 0, 1, 3, 4  # columns of the arrays of rises
TITLES = {
    "plain": "within a distance ρ\nin the space of the parameters",
    "adaptive": "by changes of length ρ\nrelative to each parameter",
}
LINEAR = 1e-4  # rises below it are on a linear scale, because an average may be below zero
MARKERS = ("o", "^", "s", "D", "v")  # of several networks, for print in grey
NO_RISES = np.zeros((0, 5))
RADII_WORDS = (("plain", "rho"), ("adaptive", "adaptive rho"))


def rises_figure(plt: FigureFactory, files: Sequence[Findings], names: Sequence[str]) -> "Figure":
    """Draw the rise of the mean loss over the radius: a panel for balls, one for changes relative to each parameter.

    Solid lines are the largest rise found, dashed ones the mean over random directions with two standard errors, dotted
    ones that over mini-batches.

    Args:
        plt: Maker of figures, see `style`.
        files: Contents of sharpness files.
        names: Name of each in the legend; "" for none.

    Returns:
        The figure.
    """
    kinds = [kind for kind in TITLES if any(f"{kind}/rises" in f.arrays for f in files)]
    rows, size = ((len(kinds), 1), (4.6, 3.4 * len(kinds)))
    if not is_single_column():
        rows, size = ((1, len(kinds)), (4.4 * len(kinds), 3.8))
    fig, axes = plt.subplots(*rows, figsize=size, layout="constrained", squeeze=False)
    for axis, kind in zip(axes.ravel(), kinds, strict=True):
        rises = [f.arrays.get(f"{kind}/rises", NO_RISES) for f in files]
        looks = zip(curve_colours(), itertools.cycle(MARKERS), strict=False)
        for each, own, name, (colour, marker) in zip(rises, files, names, looks, strict=False):
            if len(each):
                _draw_rises(axis, each, name, colour, marker)
            if f"{kind}/minibatches" in own.arrays:
                _draw_minibatches(axis, minibatch_means(own, kind), f"{name}, {minibatch_words(own)}", colour, marker)
        _set_rise_axes(axis, np.concatenate(rises))
        axis.set_title(TITLES[kind], fontsize="medium")
    for axis in axes[:, 0]:
        label = f"rise of the mean loss\n(linear below {format_tick(LINEAR)}, then logarithmic)"
        axis.set_ylabel(label, fontsize="small")
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=1 if is_single_column() else 2,
        frameon=False,
        title="at worst: as far as ascent has found; means: with two standard errors",
        title_fontsize="x-small",
    )
    return fig


def _draw_rises(axis: "Axes", rises: np.ndarray, name: str, colour: Any, marker: str) -> None:
    x, average, error = rises[:, RADIUS], rises[:, AVERAGE], np.nan_to_num(rises[:, ERROR])
    axis.plot(x, rises[:, WORST], f"-{marker}", color=colour, markersize=4, label=f"{name}, at worst".lstrip(", "))
    axis.plot(
        x, average, f"--{marker}", color=colour, markersize=3, linewidth=1, label=f"{name}, on average".lstrip(", ")
    )
    axis.fill_between(x, average - 2 * error, average + 2 * error, color=colour, alpha=0.15, linewidth=0)
    if len(x) == 1:
        axis.errorbar(x, average, 2 * error, color=colour, linewidth=1, capsize=2)


def _draw_minibatches(axis: "Axes", means: np.ndarray, name: str, colour: Any, marker: str) -> None:
    x, mean, error = means.T
    axis.plot(x, mean, f":{marker}", color=colour, markersize=3, linewidth=1.4, label=name.lstrip(", "))
    axis.fill_between(x, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.15, linewidth=0)


def minibatch_means(findings: Findings, kind: str) -> np.ndarray:
    """Return (radii, 3): each radius, the mean rise of the loss of mini-batches, and its standard error.

    The error is NaN for one mini-batch.

    Args:
        findings: The content of a sharpness file.
        kind: 'plain' or 'adaptive'.
    """
    rows = findings.arrays[f"{kind}/minibatches"]
    radii = findings.arrays[f"{kind}/rises"][:, RADIUS] if f"{kind}/rises" in findings.arrays else np.zeros(0)
    error = rows.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else np.full(rows.shape[1], np.nan)
    return np.stack([radii, rows.mean(0), error], axis=1)


def mean_with_error(mean: float, error: float) -> str:
    """Return a mean with its standard error, which is NaN where there is none.

    Example:
        >>> mean_with_error(1.2345, 0.067), mean_with_error(1.2345, float("nan"))
        ('1.23 +- 0.067', '1.23')
    """
    return f"{mean:.3g}" if np.isnan(error) else f"{mean:.3g} +- {error:.2g}"


def minibatch_words(findings: Findings) -> str:
    """Return what the mini-batches of a sharpness file are, in words."""
    return f"mini-batches of {findings.request['minibatch']}"


def minibatch_table(files: Sequence[Findings]) -> list[str]:
    """Format the mean rises of mini-batches in lines; none where no file has them.

    Args:
        files: Contents of sharpness files.
    """
    return align_columns(minibatch_rows(files))


def minibatch_rows(files: Sequence[Findings]) -> list[list[str]]:
    """Return the rows of a table of the mean rises of mini-batches.

    Args:
        files: Contents of sharpness files, a column each.
    """
    rows: dict[tuple[str, float, str], list[str]] = {}
    for column, findings in enumerate(files):
        for kind, what in RADII_WORDS:
            if f"{kind}/minibatches" not in findings.arrays:
                continue
            for radius, mean, error in minibatch_means(findings, kind).tolist():
                row = rows.setdefault((what, radius, minibatch_words(findings)), [""] * len(files))
                row[column] = mean_with_error(mean, error)
    return [[f"{what} {radius:g}, {words}", *row] for (what, radius, words), row in rows.items()]


def _set_rise_axes(axis: "Axes", rises: np.ndarray) -> None:
    """Set scales, limits and ticks for rises (n, 5) of all files."""
    from matplotlib.ticker import FuncFormatter

    axis.set_xscale("log")
    axis.set_yscale("symlog", linthresh=LINEAR)
    radii = sorted(set(rises[:, RADIUS].tolist()))
    axis.set_xticks(radii[:: 1 + len(radii) // 8])
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter(FuncFormatter(format_tick))
    low, high = _rise_limits(rises)
    axis.set_ylim(low, high)
    ticks = _decades(low, high)
    axis.set_yticks(ticks, labels=[format_tick(tick) for tick in ticks])
    axis.set_yticks([], minor=True)
    axis.axhline(0, color=current_look().muted, linewidth=0.7, zorder=0)
    axis.set_xlabel("ρ")


def _decades(low: float, high: float) -> list[float]:
    """Return zero, and powers of ten on both sides, at most about seven in all."""
    first = round(np.log10(LINEAR))
    powers = [10.0**k for k in range(first, 1 + max(first, int(np.floor(np.log10(high)))))]
    up = powers[:: 1 + len(powers) // 7]
    return [*(-p for p in up[::-1] if -p >= low), 0.0, *up]


def _rise_limits(rises: np.ndarray) -> tuple[float, float]:
    """Return limits from below the lowest average to above the highest rise."""
    low = float(np.nanmin(rises[:, AVERAGE] - 2 * np.nan_to_num(rises[:, ERROR])))
    return min(2 * low, -LINEAR / 3), 2 * float(max(np.nanmax(rises[:, WORST]), LINEAR))


def table(files: Sequence[Findings], names: Sequence[str]) -> list[str]:
    """Format the content of sharpness files as a table.

    Args:
        files: Contents of sharpness files.
        names: Name of each; a heading is left out where all are "".

    Returns:
        Lines with columns of one width, a column for each file.
    """
    rows = [["", *names]] if any(names) else []
    for kind, what in RADII_WORDS:
        rises = [f.arrays.get(f"{kind}/rises", NO_RISES) for f in files]
        for radius in sorted({float(row[RADIUS]) for each in rises for row in each}):
            own = [[row for row in each if row[RADIUS] == radius] for each in rises]
            worst = [f">= {row[0][WORST]:.4g}" if row else "" for row in own]
            mean = [mean_with_error(row[0][AVERAGE], row[0][ERROR]) if row else "" for row in own]
            rows += [[f"{what} {radius:g}, at worst", *worst], [f"{what} {radius:g}, on average", *mean]]
    critical = [f"{float(f.arrays['critical']):.4g}" if "critical" in f.arrays else "" for f in files]
    return align_columns([*rows, *minibatch_rows(files), ["critical sharpness", *critical]])
