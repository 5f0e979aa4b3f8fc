"""Repeats along several random directions: each curve, their mean and its confidence interval."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.axis_ticks import set_log_ticks
from lossatlas.figures.colour_scale import LOG_FROM
from lossatlas.figures.line_plots import (
    DASHES,
    LINE_LABELS,
    SPLIT_NAMES,
    SPLIT_STYLES,
    X_LABEL,
    AxisLimits,
    draw_legend_below,
    set_percent_limits,
)
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.landscape.repeats import CONFIDENCE, mean_and_confidence
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def repeats_figure(
    plt: FigureFactory, groups: Sequence[Sequence[Surface]], names: Sequence[str], axes: AxisLimits
) -> "Figure":
    """Draw loss and error over repeats along different directions: each curve, their mean and its confidence.

    Args:
        plt: Maker of figures, see `style`.
        groups: Repeats of each network, at least two, all on one grid.
        names: Name of each network in the legend.
        axes: Limits of the axes.

    Returns:
        The figure.
    """
    held = [
        split for split in SPLIT_STYLES if all(f"{split}_loss" in each.fields for curves in groups for each in curves)
    ]
    kinds = [
        kind for kind in LINE_LABELS if all(f"{held[0]}_{kind}" in each.fields for curves in groups for each in curves)
    ]
    size = (3.3, 1.6 + 1.4 * len(kinds)) if is_single_column() else (1.2 + 2.6 * len(held), 1.4 + 1.9 * len(kinds))
    shape: Looks = {"sharex": True, "sharey": "row", "squeeze": False, "layout": "constrained"}
    fig, panels = plt.subplots(len(kinds), len(held), figsize=size, **shape)
    shown: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    looks = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
    for curves, name, (colour, dash) in zip(groups, names, looks, strict=False):
        for column, split in enumerate(held):
            for row, kind in enumerate(kinds):
                values = np.stack([each.fields[f"{split}_{kind}"] for each in curves])
                shown[kind].append(values if kind == "loss" else 100 - values)
                label = (
                    f"{name}: mean of {len(curves)} directions"
                    if len(groups) > 1
                    else f"mean of {len(curves)} directions"
                )
                draw_mean(
                    panels[row, column], curves[0].grid.x, shown[kind][-1], color=colour, linestyle=dash, label=label
                )
    log = axes.log or spans_decades(shown["loss"])
    for axis, split in zip(panels[0], held, strict=True):
        replace(axes, log=log).apply(axis)
        axis.set_title(SPLIT_NAMES[split], fontsize="medium")
    if log:
        set_log_ticks(panels[0, 0])
    panels[0, 0].set_ylabel("loss")
    if "acc" in kinds:
        panels[1, 0].set_ylabel("error (%)")
        set_percent_limits(panels[1, 0], shown["acc"])
    for axis in panels[-1]:
        axis.set_xlabel("coordinate along\nthe direction" if is_single_column() else X_LABEL)
    draw_legend_below(
        fig, panels[0], extra=spread_handles(current_look().muted if len(groups) > 1 else next(curve_colours()))
    )
    return fig


def spans_decades(losses: Sequence[np.ndarray]) -> bool:
    """Tell whether the means of repeats are positive and span a factor of more than `LOG_FROM`.

    Args:
        losses: (repeats, n) values of each network.
    """
    means = np.concatenate([each.mean(0) for each in losses])
    means = means[np.isfinite(means)]
    positive = all((each > 0).all() for each in losses)
    return bool(means.size and positive and means.max() > LOG_FROM * means.min())


def spread_handles(color: Any) -> list[Any]:
    """Return handles of a legend for the lines and areas that `draw_mean` draws beside the mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    band = f"{100 * CONFIDENCE:g} % confidence of the mean (Student's t)"
    thin = Line2D([], [], color=color, linewidth=0.5, alpha=0.6, label="each direction")
    return [thin, Patch(color=color, alpha=0.25, linewidth=0, label=band)]


def draw_mean(axis: "Axes", x: np.ndarray, values: np.ndarray, *, color: Any, linestyle: Any, label: str) -> None:
    """Draw repeats as thin lines, and their mean with its confidence interval.

    Args:
        axis: Axis to draw on.
        x: (n,) coordinates.
        values: (repeats, n) values of at least two repeats.
        color: Colour of all.
        linestyle: Line style of the mean.
        label: Name of the mean in the legend.
    """
    mean, half = mean_and_confidence(values)
    axis.plot(x, values.T, color=color, linewidth=0.5, alpha=0.35)
    axis.fill_between(x, mean - half, mean + half, color=color, alpha=0.25, linewidth=0)
    axis.plot(x, mean, linestyle=linestyle, color=color, linewidth=1.5, label=label)
