"""Loss, accuracy and eigenvalues along a line."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures.axis_ticks import set_few_ticks, set_log_ticks
from lossatlas.figures.colour_scale import LOG_FROM
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.network_marks import network_marks
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.figures.plotted_fields import (
    RATIO_TITLE,
    eigen_ratio,
    extreme_eigenvalues,
    field_title,
    loss_names,
    mathtext,
)
from lossatlas.landscape.spectrum import matrix_name
from lossatlas.landscape.surface import Surface, unresolved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_CELLS = 40  # a curve through fewer cells gets a dot at each of them
X_LABEL = "coordinate along the direction"
SPLIT_STYLES: dict[str, Any] = {"train": "-", "test": (0, (4, 1.5))}  # with the style of their lines
SPLIT_NAMES = {"train": "training", "test": "test"}
LINE_LABELS = {"loss": "loss", "acc": "accuracy (%)"}
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (3, 1.2, 1, 1.2)),
    (0, (1, 1.2)),
)  # of several curves, for print in grey


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
    """Return the style of dots at computed cells, where there are few of them or others are interpolated."""
    interpolated = surface.interpolated[surface.known]
    dots = surface.known.sum() < FEW_CELLS or interpolated.any()
    return {"marker": "o", "markevery": np.flatnonzero(~interpolated).tolist()} if dots else {}


def _cover_whole_line(axis: "Axes", surface: Surface) -> None:
    """Let the axis cover cells without a value too, so that all figures of a file have the same axis."""
    axis.update_datalim([(surface.grid.x[0], 0.0), (surface.grid.x[-1], 0.0)], updatey=False)


def curve_looks(count: int) -> list[Looks]:
    """Return colour and dashes of each of several curves, which differ in grey too."""
    pairs = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
    return [{"color": colour, "linestyle": dash} for colour, dash in itertools.islice(pairs, count)]


def split_looks(split: str) -> Looks:
    """Colour and style of the lines of training or test data."""
    look = current_look()
    return {"color": look.main if split == "train" else look.accent, "linestyle": SPLIT_STYLES[split]}


def set_percent_limits(axis: "Axes", values: Sequence[np.ndarray]) -> None:
    """Set the limits of an axis of percentages: from 0 to 100, or the half of it in which all values lie."""
    found = np.concatenate([np.ravel(each) for each in values])
    found = found[np.isfinite(found)]
    low = 10 * np.floor(found.min() / 10) if found.size and found.min() >= 50 else 0.0
    high = 10 * np.ceil(found.max() / 10) if found.size and found.max() <= 50 else 100.0
    margin = 0.02 * max(high - low, 10.0)
    axis.set_ylim(low - margin, max(high, low + 10) + margin)


def draw_legend_below(fig: "Figure", axes: "Sequence[Axes]", title: str = "", extra: Sequence[Any] = ()) -> None:
    """Draw one legend below all axes, where nothing else is, with each label once; none for a single unnamed curve.

    Args:
        fig: A figure with a constrained layout.
        axes: Its axes.
        title: Title of the legend.
        extra: Further handles with labels.
    """
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    handles = [*found.values(), *extra]
    if not handles:
        return
    labels = [*found, *(each.get_label() for each in extra)]
    longest, room = max(map(len, labels)), 34 if is_single_column() else 68  # characters of a line
    columns = max(1, min(len(labels), 4, room // (longest + 6)))
    looks: Looks = {"frameon": False, "ncols": columns, "fontsize": "small", "title": title or None}
    fig.legend(handles, labels, loc="outside lower center", title_fontsize="small", **looks)


def mark_networks_on_line(axis: "Axes", surface: Surface) -> None:
    """Mark the networks that a curve goes through."""
    for each in network_marks(surface):
        axis.axvline(each.x, color=current_look().muted, linewidth=0.8, zorder=0)


def name_networks_on_line(axis: "Axes", surface: Surface) -> None:
    """Name the axis of a curve, and the networks that it goes through below it."""
    axis.set_xlabel(X_LABEL)
    networks = network_marks(surface)
    if len(networks) > 1:
        axis.set_xlabel("position between the networks")
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
    """Draw the losses and accuracies of one curve in two panels, one above the other.

    Args:
        plt: Maker of figures, see `style`.
        surface: A curve.
        axes: Limits of the axes.

    Returns:
        The figure.
    """
    kinds = [kind for kind in LINE_LABELS if any(f"{split}_{kind}" in surface.fields for split in SPLIT_STYLES)]
    size = 5.2, 1.4 + 2.0 * len(kinds)
    fig, panels = plt.subplots(len(kinds), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
    for axis, kind in zip(panels[:, 0], kinds, strict=True):
        for split in SPLIT_STYLES:
            if (name := f"{split}_{kind}") in surface.fields:
                draw_curve(axis, surface, name, label=SPLIT_NAMES[split], **split_looks(split))
        axis.set_ylabel(LINE_LABELS[kind])
        mark_networks_on_line(axis, surface)
    axes.apply(panels[0, 0])
    if "acc" in kinds:
        set_percent_limits(
            panels[-1, 0],
            [surface.fields[f"{split}_acc"] for split in SPLIT_STYLES if f"{split}_acc" in surface.fields],
        )
    name_networks_on_line(panels[-1, 0], surface)
    draw_legend_below(fig, panels[:, 0])
    note_incomplete(panels[-1, 0], surface)
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
    both = len({split for surface in curves for split in SPLIT_STYLES if f"{split}_loss" in surface.fields}) > 1
    hidden = any(curves_overlap(*pair) for pair in itertools.combinations(curves, 2))
    looks = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
    for k, (surface, name, (colour, dash)) in enumerate(zip(curves, names, looks, strict=False)):
        width = 1.4 + 0.7 * min(3, len(curves) - 1 - k) * hidden  # each of several equal curves stays visible
        for split, style in SPLIT_STYLES.items():
            for axis, kind in ((top, "loss"), (bottom, "acc")):
                if (field := f"{split}_{kind}") in surface.fields:
                    label = f"{name}, {SPLIT_NAMES[split]}" if both else name
                    line = style if both else dash
                    draw_curve(axis, surface, field, color=colour, linestyle=line, label=label, linewidth=width)
    top.set_ylabel("loss")
    axes.apply(top)
    bottom.set_ylabel("accuracy (%)")
    accuracies = [
        surface.fields[f"{split}_acc"]
        for surface in curves
        for split in SPLIT_STYLES
        if f"{split}_acc" in surface.fields
    ]
    set_percent_limits(bottom, accuracies or [np.zeros(0)])
    networks = [network_marks(surface) for surface in curves]
    between = all(len(each) > 1 and (each[0].x, each[1].x) == (0, 1) for each in networks)
    bottom.set_xlabel("position between the networks at 0 and 1" if between else X_LABEL)
    draw_legend_below(fig, (top, bottom))
    sns.despine(fig)
    return fig


def field_figure(
    plt: FigureFactory, curves: Sequence[Surface], names: Sequence[str], field: str, axes: AxisLimits
) -> "Figure":
    """Draw one field along curves.

    Args:
        plt: Maker of figures, see `style`.
        curves: The curves, which have the field.
        names: Name of each in the legend.
        field: Name of the field.
        axes: Limits of the axes.

    Returns:
        The figure.

    Raises:
        BadUsage: The field has no finite value.
    """
    import seaborn as sns

    if not any(np.isfinite(surface.fields[field]).any() for surface in curves):
        raise BadUsage("there is nothing to draw: no cell of this field is finite")
    fig, axis = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    looks = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
    for surface, name, (colour, dash) in zip(curves, names, looks, strict=False):
        label = name if len(curves) > 1 else None
        draw_curve(axis, surface, field, color=colour, linestyle=dash, label=label)
    axes.apply(axis)
    axis.set_ylabel(mathtext(field_title(field)))
    if len(curves) == 1:
        name_networks_on_line(axis, curves[0])
    else:
        axis.set_xlabel(X_LABEL)
    draw_legend_below(fig, [axis])
    note_incomplete(axis, curves[0])
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
    looks: Looks = {"linewidth": 1.4, "markersize": 2.5}
    looks |= _cell_markers(surface) if surface.interpolated.any() else {}
    drawn = []
    for split in SPLIT_STYLES:
        field = f"{split}_{'loss' if kind == 'loss' else 'acc'}"
        if field in surface.fields:
            values = surface.fields[field] if kind == "loss" else 100 - surface.fields[field]
            _cover_whole_line(axis, surface)
            drawn.append(values[surface.known])
            axis.plot(surface.grid.x[surface.known], drawn[-1], label=SPLIT_NAMES[split], **split_looks(split), **looks)
    if kind == "loss":
        axes.apply(axis)
    else:
        axes.apply_x(axis)
        set_percent_limits(axis, drawn)
    mark_networks_on_line(axis, surface)
    name_networks_on_line(axis, surface)
    axis.set_ylabel("loss" if kind == "loss" else "error (%)")
    draw_legend_below(fig, [axis])
    note_incomplete(axis, surface)
    sns.despine(fig)
    return fig


def eigenvalues_figure(
    plt: FigureFactory, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits
) -> "Figure":
    """Draw the extreme eigenvalues of matrices along curves; a hollow mark is an eigenvalue that is not resolved.

    Args:
        plt: Maker of figures, see `style`.
        curves: The curves, each with the largest eigenvalue of a matrix, and perhaps the smallest one.
        names: Name of each in the legend, where the matrix is added if there are several.
        axes: Limits of the axes.

    Returns:
        The figure.
    """
    import seaborn as sns

    fields = [extreme_eigenvalues(surface) for surface in curves]
    words = [word for word in ("largest", "smallest") if any(word in each for each in fields)]
    size = (5.0, 4.8 if len(words) > 1 else 3.2)
    fig, panels = plt.subplots(len(words), 1, figsize=size, sharex=True, layout="constrained", squeeze=False)
    matrices = [matrix_name(surface.request) for surface in curves]
    for axis, word in zip(panels[:, 0], words, strict=True):
        several = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
        drawn = []
        for surface, own, name, matrix, style in zip(curves, fields, names, matrices, several, strict=False):
            label = f"{name}: {matrix}" if len(set(matrices)) > 1 else name
            if word in own:
                drawn.append(surface.fields[own[word]][surface.known])
                _draw_eigenvalues(axis, surface, own[word], style, label if len(curves) > 1 else None)
        of_matrix = "" if set(matrices) != {matrices[0]} or matrices[0] == "Hessian" else f"\nof the {matrices[0]}"
        axis.set(ylabel=f"{word} eigenvalue{of_matrix}")
        axes.apply_x(axis)
        _set_log_axis_where_wide(axis, np.concatenate(drawn), log=axes.log)
    panels[-1, 0].set_xlabel(X_LABEL)
    draw_legend_below(fig, panels[:, 0])
    note_incomplete(panels[-1, 0], curves[0])
    sns.despine(fig)
    return fig


def _draw_eigenvalues(axis: "Axes", surface: Surface, field: str, style: tuple[Any, Any], label: str | None) -> None:
    """Draw an eigenvalue along a curve, hollow where it is not resolved.

    Args:
        axis: Axis to draw on.
        surface: The curve.
        field: The field of the eigenvalue.
        style: Colour and dashes.
        label: Name in the legend; None for none.
    """
    x, values = surface.grid.x[surface.known], surface.fields[field][surface.known]
    colour, dash = style
    looks: Looks = {"marker": "o" if len(x) < FEW_CELLS else None, "markersize": 2.5, "linestyle": dash}
    axis.plot(x, values, color=colour, label=label, linewidth=1.4, **looks)
    loose = unresolved(surface, field)[surface.known]
    hollow: Looks = {
        "color": colour,
        "markerfacecolor": current_look().ground,
        "markersize": 4,
        "label": "not resolved",
    }
    if loose.any():
        axis.plot(x[loose], values[loose], "o", **hollow)


def _set_log_axis_where_wide(axis: "Axes", values: np.ndarray, *, log: bool) -> None:
    """Set a logarithmic axis where absolute values span a factor of LOG_FROM, or where it is asked for."""
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

    Args:
        plt: Maker of figures, see `style`.
        curves: Surfaces of one dimension with both eigenvalues at each point.
        names: Names of the curves in the legend.
        axes: Limits of the figure, of which the horizontal ones are used.

    Returns:
        The figure.
    """
    import seaborn as sns

    fig, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    several = zip(curve_colours(), itertools.cycle(DASHES), strict=False)
    for surface, name, (colour, dash) in zip(curves, names, several, strict=False):
        looks: Looks = {"color": colour, "linestyle": dash, "label": name if len(curves) > 1 else None}
        axis.plot(surface.grid.x[surface.known], eigen_ratio(surface)[surface.known], **looks)
    axis.set(xlabel=X_LABEL, ylabel=RATIO_TITLE, ylim=(0, None))
    axes.apply_x(axis)
    draw_legend_below(fig, [axis])
    sns.despine(fig)
    return fig
