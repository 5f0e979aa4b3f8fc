"""How far the loss rises within a distance: curves over the radius, and a table."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lossatlas.figures.style import narrow, plain
from lossatlas.io.spectrum_files import Findings

RADIUS, WORST, AVERAGE, ERROR = 0, 1, 3, 4  # columns of rises
TITLES = {
    "plain": "within a distance ρ",
    "adaptive": "by changes of length ρ\nrelative to each parameter",
}
LINEAR = 1e-4  # rises below this are on a linear scale, because an average may be below zero


def draw_rises(plt: Any, found: Sequence[Findings], names: Sequence[str]) -> Any:
    """A panel for balls, and one for relative changes. Solid: the largest rise found; dashed: the mean over random
    directions with two standard errors.
    """
    import seaborn as sns
    from matplotlib.ticker import FuncFormatter

    kinds = [kind for kind in TITLES if any(f"{kind}/rises" in f.arrays for f in found)]
    rows, size = ((len(kinds), 1), (4.6, 3.4 * len(kinds))) if narrow() else ((1, len(kinds)), (4.4 * len(kinds), 3.8))
    fig, axes = plt.subplots(*rows, figsize=size, layout="constrained", squeeze=False)
    for axis, kind in zip(axes.ravel(), kinds, strict=True):
        for findings, name, colour in zip(found, names, itertools.cycle(sns.color_palette("colorblind")), strict=False):
            if f"{kind}/rises" not in findings.arrays:
                continue
            rises = findings.arrays[f"{kind}/rises"]
            x, average, error = rises[:, RADIUS], rises[:, AVERAGE], np.nan_to_num(rises[:, ERROR])
            axis.plot(x, rises[:, WORST], "-o", color=colour, markersize=3, label=f"{name}, at worst".lstrip(", "))
            axis.plot(
                x, average, "--o", color=colour, markersize=2, linewidth=1, label=f"{name}, on average".lstrip(", ")
            )
            axis.fill_between(x, average - 2 * error, average + 2 * error, color=colour, alpha=0.15, linewidth=0)
            if len(x) == 1:
                axis.errorbar(x, average, 2 * error, color=colour, linewidth=1, capsize=2)
        axis.set_xscale("log")
        axis.set_yscale("symlog", linthresh=LINEAR)
        radii = sorted(
            {float(r) for f in found if f"{kind}/rises" in f.arrays for r in f.arrays[f"{kind}/rises"][:, 0]}
        )
        axis.set_xticks(radii[:: 1 + len(radii) // 8])
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter(FuncFormatter(plain))
        low, high = bounds([f.arrays[f"{kind}/rises"] for f in found if f"{kind}/rises" in f.arrays])
        axis.set_ylim(low, high)
        ticks = decades(low, high)
        axis.set_yticks(ticks, labels=[plain(tick) for tick in ticks])
        axis.set_yticks([], minor=True)
        axis.axhline(0, color="0.7", linewidth=0.7, zorder=0)
        axis.set_title(TITLES[kind], fontsize="medium")
        axis.set_xlabel("ρ")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"rise of the mean loss\n(linear below {plain(LINEAR)}, then logarithmic)", fontsize="small")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=1 if narrow() else 2,
        frameon=False,
        title="at worst: as far as ascent has found; on average: with two standard errors",
        title_fontsize="x-small",
    )
    return fig


def decades(low: float, high: float) -> list[float]:
    """Zero, and powers of ten on both sides, at most about seven in all."""
    first = round(np.log10(LINEAR))
    powers = [10.0**k for k in range(first, 1 + max(first, int(np.floor(np.log10(high)))))]
    up = powers[:: 1 + len(powers) // 7]
    return [*(-p for p in up[::-1] if -p >= low), 0.0, *up]


def bounds(rises: Sequence[np.ndarray]) -> tuple[float, float]:
    """From below the lowest average to above the highest rise."""
    every = np.concatenate(rises)
    low = float(np.nanmin(every[:, AVERAGE] - 2 * np.nan_to_num(every[:, ERROR])))
    return min(2 * low, -LINEAR / 3), 2 * float(max(np.nanmax(every[:, WORST]), LINEAR))


def table(found: Sequence[Findings], names: Sequence[str]) -> list[str]:
    """What the files hold, as lines with columns of one width."""
    rows = [["", *names]] if any(names) else []
    for kind, what in (("plain", "rho"), ("adaptive", "adaptive rho")):
        radii = sorted({float(row[0]) for f in found for row in f.arrays.get(f"{kind}/rises", np.zeros((0, 5)))})
        for radius in radii:
            own = [[row for row in f.arrays.get(f"{kind}/rises", []) if row[0] == radius] for f in found]
            worst = [f">= {row[0][WORST]:.4g}" if row else "" for row in own]
            mean = [f"{row[0][AVERAGE]:.3g} +- {row[0][ERROR]:.2g}" if row else "" for row in own]
            rows += [[f"{what} {radius:g}, at worst", *worst], [f"{what} {radius:g}, on average", *mean]]
    rows.append(
        ["critical sharpness", *(f"{float(f.arrays['critical']):.4g}" if "critical" in f.arrays else "" for f in found)]
    )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
