"""Loss, accuracy and eigenvalues along a line."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.axis_ticks import set_few_ticks, set_log_ticks
from lossatlas.figures.colour_scale import LOG_FROM
from lossatlas.figures.matplotlib_style import FigureFactory, Looks
from lossatlas.figures.network_marks import network_marks
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.figures.plotted_fields import eigen_ratio, field_title, loss_names, mathtext
from lossatlas.landscape.surface import Surface, unresolved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENCE = 0.95  # of the interval of the mean over repeats
FEW_CELLS = 40  # a curve through fewer cells gets a dot at each of them
X_LABEL = "coordinate along the direction"
PERCENT = (-2, 102)  # limits of an axis of accuracies or errors
SPLITS = (("train", "-"), ("test", "--"))  # with the style of their lines


@dataclass(frozen=True)
class AxisLimits:
    """Limits and scale of the axes of a curve; None is chosen from the data.

    Attributes:
        log: Make the loss axis logarithmic.
        xmin: Left end of the x axis.
        xmax: Right end of the x axis.
        loss_max: Top of the loss axis.
    """

    log: bool = False
    xmin: float | None = None
    xmax: float | None = None
    loss_max: float | None = None

    def apply(self, axis: "Axes") -> None:
        """Set the x axis and the loss axis."""
        axis.set_yscale("log" if self.log else "linear")
        self.apply_x(axis)
        if self.loss_max is not None:
            axis.set_ylim(None if self.log else 0, self.loss_max)
        if self.log:
            set_log_ticks(axis)

    def apply_x(self, axis: "Axes") -> None:
        """Set the x axis alone."""
        if self.xmin is not None or self.xmax is not None:
            axis.set_xlim(self.xmin, self.xmax)
        set_few_ticks(axis.xaxis)


def needs_log_axis(losses: np.ndarray) -> bool:
    """Tell whether a linear axis would flatten all values but a few that diverge.

    Args:
        losses: Values of any shape; those that are not finite do not count.

    Returns:
        True if all are positive and the largest exceeds 100 times the median.
    """
    known = losses[np.isfinite(losses)]
    return bool(known.size and known.min() > 0 and known.max() > 100 * np.median(known))


def draw_curve(axis: "Axes", surface: Surface, name: str, **style: Any) -> None:
    """Draw a field over the finished cells, with a band of two standard errors where they are known.

    Cells that are not finite leave a gap.

    Args:
        axis: Axis to draw on.
        surface: A curve.
        name: Name of the field.
        **style: Keywords of matplotlib's `plot`; `color` is needed where there are standard errors.
    """
    done = surface.known
    x, values = surface.grid.x[done], surface.fields[name][done]
    _cover_whole_line(axis, surface)
    style = {"linewidth": 1.4, **style}
    axis.plot(x, values, markersize=1 + 1.1 * style["linewidth"], **_cell_markers(surface), **style)
    error = surface.fields.get(f"{name}_se")
    if error is not None and np.nanmax(error) > 0:
        there = np.isfinite(error[done])  # interpolated cells have none of their own
        half = 2 * np.interp(x, x[there], error[done][there])
        axis.fill_between(x, values - half, values + half, color=style["color"], alpha=0.15)


def _cell_markers(surface: Surface) -> dict[str, Any]:
    """Dots at computed cells, where there are few of them or others are interpolated."""
    interpolated = surface.interpolated[surface.known]
    dots = surface.known.sum() < FEW_CELLS or interpolated.any()
    return {"marker": "o", "markevery": np.flatnonzero(~interpolated).tolist()} if dots else {}


def _cover_whole_line(axis: "Axes", surface: Surface) -> None:
    """Let the axis cover cells without a value too, so that all figures of a file have the same axis."""
    axis.update_datalim([(surface.grid.x[0], 0.0), (surface.grid.x[-1], 0.0)], updatey=False)


def mark_networks_on_line(axis: "Axes", surface: Surface) -> None:
    """Mark the networks that a curve goes through, and name them below the axis."""
    networks = network_marks(surface)
    for each in networks:
        axis.axvline(each.x, color=current_look().muted, linewidth=0.8, zorder=0)
    if len(networks) > 1:
        axis.set_xlabel("place between the networks")
    if networks:
        names = ", ".join(f"{each.x:g}: {mathtext(each.name)}" for each in networks)
        axis.set_xlabel(f"{axis.get_xlabel()}\n{names}")


def note_incomplete(axis: "Axes", surface: Surface) -> None:
    """Mark losses that are not finite with red crosses, and note unfinished and interpolated cells below the axis."""
    not_finite = np.zeros(surface.known.shape, bool)
    for name in loss_names(surface):
        not_finite |= surface.known & ~np.isfinite(surface.fields[name])
    looks: Looks = {"color": current_look().accent, "markersize": 4, "transform": axis.get_xaxis_transform()}
    axis.plot(surface.grid.x[not_finite], np.full(not_finite.sum(), 0.98), "x", **looks)
    notes = []
    if not surface.known.all():
        notes.append(f"unfinished: {surface.known.sum()} of {surface.known.size} cells")
    if surface.interpolated.any():
        notes.append(f"{surface.done.sum()} of {surface.known.size} cells computed (dots), the others interpolated")
    if not_finite.any():
        notes.append(f"{not_finite.sum()} cells not finite (red crosses)")
    if notes:
        axis.annotate(
            "; ".join(notes),
            (0, 0),
            xytext=(0, -46),  # under the axis, where no curve is
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize="small",
            color=current_look().ink,
        )


def line_figure(plt: FigureFactory, surface: Surface, axes: AxisLimits) -> "Figure":
    """Draw the losses and accuracies of one curve on two axes.

    Args:
        plt: Maker of figures, see `style`.
        surface: A curve.
        axes: Limits of the axes.

    Returns:
        The figure.
    """
    fig, left = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    right = left.twinx()
    for split, line in SPLITS:
        for axis, kind, colour in ((left, "loss", current_look().main), (right, "acc", current_look().accent)):
            if (name := f"{split}_{kind}") in surface.fields:
                label = field_title(name).replace(" (%)", "")
                draw_curve(axis, surface, name, color=colour, linestyle=line, label=label)
    left.set_xlabel(X_LABEL)
    left.set_ylabel("loss", color=current_look().main)
    right.set_ylabel("accuracy (%)", color=current_look().accent)
    left.tick_params(axis="y", colors=current_look().main, which="both")
    right.tick_params(axis="y", colors=current_look().accent)
    right.set_ylim(*PERCENT)
    axes.apply(left)
    mark_networks_on_line(left, surface)
    right.set_visible(any(name.endswith("_acc") for name in surface.fields))
    handles = [h for axis in (left, right) for h in axis.get_legend_handles_labels()[0]]
    left.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    note_incomplete(left, surface)
    return fig


def lines_figure(plt: FigureFactory, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits) -> "Figure":
    """Draw several curves in one figure: losses above, accuracies below.

    Args:
        plt: Maker of figures, see `style`.
        curves: The curves.
        names: Name of each in the legend.
        axes: Limits of the axes.

    Returns:
        The figure.
    """
    import seaborn as sns

    fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 5.4), sharex=True, layout="constrained")
    both = len({split for surface in curves for split, _ in SPLITS if f"{split}_loss" in surface.fields}) > 1
    hidden = any(curves_overlap(*pair) for pair in itertools.combinations(curves, 2))
    for k, (surface, name, colour) in enumerate(zip(curves, names, curve_colours(), strict=False)):
        width = 1.4 + 0.7 * min(3, len(curves) - 1 - k) * hidden  # each of several equal curves stays visible
        for split, line in SPLITS:
            for axis, kind in ((top, "loss"), (bottom, "acc")):
                if (field := f"{split}_{kind}") in surface.fields:
                    label = f"{name}, {split}" if both else name
                    draw_curve(axis, surface, field, color=colour, linestyle=line, label=label, linewidth=width)
    top.set_ylabel("loss")
    axes.apply(top)
    bottom.set_ylabel("accuracy (%)")
    bottom.set_ylim(*PERCENT)
    networks = [network_marks(surface) for surface in curves]
    between = all(len(each) > 1 and (each[0].x, each[1].x) == (0, 1) for each in networks)
    bottom.set_xlabel("place between the networks at 0 and 1" if between else X_LABEL)
    if top.get_legend_handles_labels()[0]:
        top.legend(frameon=False)
    sns.despine(fig)
    return fig


def curves_overlap(one: Surface, other: Surface) -> bool:
    """Tell whether one curve hides the other: their losses differ by at most a hundredth of their range."""
    names = set(loss_names(one)) & set(loss_names(other))
    if not one.grid.matches(other.grid) or not names:
        return False
    a, b = (np.concatenate([surface.fields[name] for name in sorted(names)]) for surface in (one, other))
    span = np.nanmax(a, initial=-np.inf) - np.nanmin(a, initial=np.inf)
    return bool(np.isfinite(span) and np.nanmax(np.abs(a - b), initial=0.0) <= 0.01 * span)


def loss_or_error_figure(plt: FigureFactory, surface: Surface, axes: AxisLimits, kind: str) -> "Figure":
    """Draw the losses of one curve, or its errors in percent.

    Args:
        plt: Maker of figures, see `style`.
        surface: A curve.
        axes: Limits of the axes.
        kind: "loss" or "error", which is 100 % minus the accuracy.

    Returns:
        The figure.
    """
    import seaborn as sns

    fig, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    looks: Looks = {"color": current_look().main, "linewidth": 1.4, "markersize": 2.5}
    looks |= _cell_markers(surface) if surface.interpolated.any() else {}
    for (split, line), label in zip(SPLITS, ("training", "test"), strict=True):
        field = f"{split}_{'loss' if kind == 'loss' else 'acc'}"
        if field in surface.fields:
            values = surface.fields[field] if kind == "loss" else 100 - surface.fields[field]
            _cover_whole_line(axis, surface)
            axis.plot(surface.grid.x[surface.known], values[surface.known], line, label=label, **looks)
    if kind == "loss":
        axes.apply(axis)
    else:
        axes.apply_x(axis)
        axis.set(ylim=PERCENT)
    axis.set(xlabel=X_LABEL, ylabel="loss" if kind == "loss" else "error (%)")
    axis.legend(frameon=False)
    note_incomplete(axis, surface)
    sns.despine(fig)
    return fig


def eigenvalues_figure(
    plt: FigureFactory, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits
) -> "Figure":
    """Draw the extreme eigenvalues of the Hessian along curves; a hollow mark is an eigenvalue that is not resolved.

    Args:
        plt: Maker of figures, see `style`.
        curves: The curves, with max_eig and min_eig.
        names: Name of each in the legend.
        axes: Limits of the axes.

    Returns:
        The figure.
    """
    import seaborn as sns

    fig, panels = plt.subplots(2, 1, figsize=(5.0, 4.8), sharex=True, layout="constrained")
    fields = (("max_eig", "largest"), ("min_eig", "smallest"))
    for surface, label, colour in zip(curves, names, curve_colours(), strict=False):
        x = surface.grid.x[surface.known]
        looks: Looks = {"marker": "o" if len(x) < FEW_CELLS else None, "markersize": 2.5, "linewidth": 1.4}
        for axis, (name, _) in zip(panels, fields, strict=True):
            values = surface.fields[name][surface.known]
            axis.plot(x, values, color=colour, label=label, **looks)
            loose = unresolved(surface, name)[surface.known]
            axis.plot(x[loose], values[loose], "o", color=colour, markerfacecolor=current_look().ground, markersize=4)
    for axis, (name, word) in zip(panels, fields, strict=True):
        axis.set(ylabel=f"{word} eigenvalue")
        axes.apply_x(axis)
        values = np.concatenate([surface.fields[name][surface.known] for surface in curves])
        _set_log_axis_where_wide(axis, values, log=axes.log)
    panels[1].set_xlabel(X_LABEL)
    if len(curves) > 1:
        panels[0].legend(frameon=False)
    note_incomplete(panels[1], curves[0])
    sns.despine(fig)
    return fig


def _set_log_axis_where_wide(axis: "Axes", values: np.ndarray, *, log: bool) -> None:
    """A logarithmic axis where absolute values span a factor of LOG_FROM, or where it is asked for."""
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size or not (log or np.abs(values).max() > LOG_FROM * np.abs(values).min()):
        return
    low, high = float(values.min()), float(values.max())
    if low > 0:
        axis.set_yscale("log")
    else:
        axis.set_yscale("symlog", linthresh=float(np.abs(values).min()))
        axis.set_ylim(1.6 * low, 1.6 * high if high > 0 else high / 1.6)
    set_log_ticks(axis)


def eigen_ratio_figure(
    plt: FigureFactory, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits
) -> "Figure":
    """Draw |smallest / largest| eigenvalue of the Hessian along curves, with gaps where it is not defined.

    Arguments and result are those of `eigenvalues_figure`.
    """
    import seaborn as sns

    fig, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for surface, name, colour in zip(curves, names, curve_colours(), strict=False):
        axis.plot(surface.grid.x[surface.known], eigen_ratio(surface)[surface.known], color=colour, label=name)
    axis.set(xlabel=X_LABEL, ylabel=r"$|\lambda_{\min} / \lambda_{\max}|$", ylim=(0, None))
    axes.apply_x(axis)
    if len(curves) > 1:
        axis.legend(frameon=False)
    sns.despine(fig)
    return fig


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
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.0, 5.2), sharex=True, layout="constrained")
    several = len(groups) > 1
    for curves, name, group_colour in zip(groups, names, curve_colours(), strict=False):
        looks = (("train", "training", current_look().main, "-"), ("test", "test", current_look().accent, "--"))
        for split, label, split_colour, line in looks:
            for axis, kind in ((top, "loss"), (bottom, "acc")):
                if not all(f"{split}_{kind}" in s.fields for s in curves):
                    continue
                values = np.stack([s.fields[f"{split}_{kind}"] for s in curves])
                values = values if kind == "loss" else 100 - values
                x = curves[0].grid.x
                if several:
                    draw_mean(axis, x, values, color=group_colour, linestyle=line, label=f"{name}, {label}")
                else:
                    draw_mean(axis, x, values, color=split_colour, linestyle="-", label=label)
    axes.apply(top)
    top.set_ylabel("loss")
    counts = " and ".join(dict.fromkeys(str(len(curves)) for curves in groups))
    top.set_title(
        f"mean of {counts} directions; shaded: {100 * CONFIDENCE:g} % confidence of the mean\n(Student's t); thin: each direction",
        fontsize="small",
    )
    top.legend(frameon=False)
    bottom.set(ylabel="error (%)", ylim=PERCENT, xlabel=X_LABEL)
    return fig


def mean_and_confidence(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of repeats and the half-width of its confidence interval by Student's t.

    Args:
        values: (repeats, ...) values of at least two repeats.

    Returns:
        The mean (...) and half of the width (...) of the interval of probability `CONFIDENCE`.
    """
    from scipy.special import stdtrit

    n = len(values)
    return values.mean(0), stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(0, ddof=1) / np.sqrt(n)


def draw_mean(axis: "Axes", x: np.ndarray, values: np.ndarray, *, color: Any, linestyle: str, label: str) -> None:
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
    axis.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
    axis.plot(x, mean, linestyle, color=color, linewidth=1.5, label=label)
