"""Loss, accuracy and eigenvalues along a line."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossatlas.figures.network_marks import networks_of
from lossatlas.figures.style import LOG_FROM, eigen_ratio, log_levels, plain, title_of, words
from lossatlas.landscape.surface import Surface, unresolved

BLUE, RED = "#1f5fa8", "#c0392b"


@dataclass(frozen=True)
class AxisLimits:
    """Limits and scale of the axes; None is chosen from the data."""

    log: bool = False
    xmin: float | None = None
    xmax: float | None = None
    loss_max: float | None = None

    def apply(self, axis: Any, log: bool | None = None) -> None:
        log = self.log if log is None else log
        axis.set_yscale("log" if log else "linear")
        self.along(axis)
        if self.loss_max is not None:
            axis.set_ylim(None if log else 0, self.loss_max)
        if log:
            plain_log(axis)

    def along(self, axis: Any) -> None:
        """The x axis: few ticks at round places."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axis.set_xlim(self.xmin, self.xmax)
        axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.xaxis.set_major_formatter(FuncFormatter(plain))


def plain_log(axis: Any) -> None:
    """Plain numbers at few round places of a logarithmic y axis, or of one that is logarithmic on both sides of zero."""
    low, high = axis.get_ylim()
    sides = []
    if high > 0:
        sides.append((1, max(low, high / 1e12), high))
    if low < 0:
        sides.append((-1, max(-high, -low / 1e12), -low))
    ticks = []
    for sign, near, far in sides:
        if near <= 0 or axis.get_yscale() != "log":
            near = max(near, axis.yaxis.get_transform().linthresh if axis.get_yscale() == "symlog" else far / 1e6)
        levels = log_levels(near, far) if far > near else np.array([])
        decades = np.log10(far / near) if far > near else 0
        if decades > 1.6:
            levels = np.array([v for v in levels if decades < 4 or f"{v:.0e}"[0] == "1"])
        else:
            round_ones = np.array([v for v in levels if f"{v:.0e}"[0] in "125" and np.isclose(v, float(f"{v:.0e}"))])
            levels = round_ones if len(round_ones) > 1 else levels
        while len(levels) > 7:
            levels = levels[::2]
        ticks += (sign * levels).tolist()
    if len(ticks) > 1:
        axis.set_yticks(ticks, labels=[plain(tick) for tick in ticks], minor=False)
        axis.set_yticks([], minor=True)


def mark_networks(axis: Any, surface: Surface) -> None:
    """Where the networks are between which a curve interpolates."""
    found = networks_of(surface)
    for each in found:
        axis.axvline(each.x, color="0.6", linewidth=0.8, zorder=0)
    if len(found) > 1:
        axis.set_xlabel("place between the networks")
    if found:
        names = ", ".join(f"{each.x:g}: {words(each.name)}" for each in found)
        axis.set_xlabel(f"{axis.get_xlabel()}\n{names}")


def loss_names(surface: Surface) -> list[str]:
    return [name for name in surface.fields if name.endswith("_loss")]


def steep(losses: np.ndarray) -> bool:
    """Whether a linear axis would flatten everything but a few points that diverge."""
    known = losses[np.isfinite(losses)]
    return bool(known.size and known.min() > 0 and known.max() > 100 * np.median(known))


def draw_one(plt: Any, surface: Surface, axes: AxisLimits) -> Any:
    fig, left = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    right = left.twinx()
    styles = {"train": "-", "test": "--"}
    for split, line in styles.items():
        for axis, name, colour in ((left, "loss", BLUE), (right, "acc", RED)):
            if f"{split}_{name}" in surface.fields:
                curve(
                    axis,
                    surface,
                    f"{split}_{name}",
                    color=colour,
                    linestyle=line,
                    label=f"{title_of(f'{split}_{name}').replace(' (%)', '')}",
                )
    left.set_xlabel("coordinate along the direction")
    left.set_ylabel("loss", color=BLUE)
    right.set_ylabel("accuracy (%)", color=RED)
    left.tick_params(axis="y", colors=BLUE, which="both")
    right.tick_params(axis="y", colors=RED)
    right.set_ylim(-2, 102)
    axes.apply(left)
    mark_networks(left, surface)
    right.set_visible(any(name.endswith("_acc") for name in surface.fields))
    handles = [h for axis in (left, right) for h in axis.get_legend_handles_labels()[0]]
    left.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    note_unfinished(left, surface)
    return fig


def draw_several(plt: Any, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits) -> Any:
    import seaborn as sns

    fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 5.4), sharex=True, layout="constrained")
    both = len({split for surface in curves for split in ("train", "test") if f"{split}_loss" in surface.fields}) > 1
    inks, hidden = (
        itertools.cycle(sns.color_palette("colorblind")),
        any(alike(*pair) for pair in itertools.combinations(curves, 2)),
    )
    for k, (surface, name, colour) in enumerate(zip(curves, names, inks, strict=False)):
        width = 1.4 + 0.7 * min(3, len(curves) - 1 - k) * hidden  # so that of equal ones each is seen
        for split, line in (("train", "-"), ("test", "--")):
            for axis, field in ((top, "loss"), (bottom, "acc")):
                if f"{split}_{field}" in surface.fields:
                    label = f"{name}, {split}" if both else name
                    curve(axis, surface, f"{split}_{field}", color=colour, linestyle=line, label=label, linewidth=width)
    top.set_ylabel("loss")
    axes.apply(top)
    bottom.set_ylabel("accuracy (%)")
    bottom.set_ylim(-2, 102)
    known = [networks_of(surface) for surface in curves]
    between = all(len(each) > 1 and (each[0].x, each[1].x) == (0, 1) for each in known)
    bottom.set_xlabel("place between the networks at 0 and 1" if between else "coordinate along the direction")
    if top.get_legend_handles_labels()[0]:
        top.legend(frameon=False)
    sns.despine(fig)
    return fig


def alike(one: Surface, other: Surface) -> bool:
    """Whether one curve would hide the other: they differ by less than a hundredth of what they span."""
    names = set(loss_names(one)) & set(loss_names(other))
    if not one.grid.matches(other.grid) or not names:
        return False
    a, b = (np.concatenate([surface.fields[name] for name in sorted(names)]) for surface in (one, other))
    span = np.nanmax(a, initial=-np.inf) - np.nanmin(a, initial=np.inf)
    return bool(np.isfinite(span) and np.nanmax(np.abs(a - b), initial=0.0) <= 0.01 * span)


def curve(axis: Any, surface: Surface, name: str, **style: Any) -> None:
    """A field over the finished cells; cells that are not finite leave a gap."""
    done = surface.known
    x, values = surface.grid.x[done], surface.fields[name][done]
    whole_line(axis, surface)
    style = {"linewidth": 1.4, **style}
    axis.plot(x, values, markersize=1 + 1.1 * style["linewidth"], **marked(surface), **style)
    error = surface.fields.get(f"{name}_se")
    if error is not None and np.nanmax(error) > 0:
        there = np.isfinite(error[done])  # interpolated cells have none of their own
        wide = 2 * np.interp(x, x[there], error[done][there])
        axis.fill_between(x, values - wide, values + wide, color=style["color"], alpha=0.15)


def marked(surface: Surface) -> dict[str, Any]:
    """Dots at computed cells, where there are few of them or others are interpolated."""
    left_out = surface.interpolated[surface.known]
    some = surface.known.sum() < 40 or left_out.any()
    return {"marker": "o", "markevery": np.flatnonzero(~left_out).tolist()} if some else {}


def whole_line(axis: Any, surface: Surface) -> None:
    """The axis covers the whole line, where values are missing too, so that figures of one file have the same axis."""
    axis.update_datalim([(surface.grid.x[0], 0.0), (surface.grid.x[-1], 0.0)], updatey=False)


def note_unfinished(axis: Any, surface: Surface) -> None:
    notes = []
    odd = np.zeros(surface.known.shape, bool)
    for name, values in surface.fields.items():
        odd |= surface.known & ~np.isfinite(values) if name.endswith("_loss") else False
    axis.plot(
        surface.grid.x[odd],
        np.full(odd.sum(), 0.98),
        "x",
        color=RED,
        markersize=4,
        transform=axis.get_xaxis_transform(),
    )
    if not surface.known.all():
        notes.append(f"unfinished: {surface.known.sum()} of {surface.known.size} cells")
    if surface.interpolated.any():
        notes.append(f"{surface.done.sum()} of {surface.known.size} cells computed (dots), the others interpolated")
    if odd.any():
        notes.append(f"{odd.sum()} cells not finite (red crosses)")
    if notes:
        axis.annotate(
            "; ".join(notes),
            (0, 0),
            xytext=(0, -46),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize="small",
            color="0.35",
        )  # under the axis, where no curve is


def draw_kind(plt: Any, surface: Surface, axes: AxisLimits, kind: str) -> Any:
    """Loss or error (100 % minus accuracy) of training and test data by itself."""
    import seaborn as sns

    fig, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for split, line in (("train", "-"), ("test", "--")):
        field = f"{split}_{'loss' if kind == 'loss' else 'acc'}"
        if field in surface.fields:
            values = surface.fields[field] if kind == "loss" else 100 - surface.fields[field]
            whole_line(axis, surface)
            axis.plot(
                surface.grid.x[surface.known],
                values[surface.known],
                line,
                color=BLUE,
                linewidth=1.4,
                markersize=2.5,
                **(marked(surface) if surface.interpolated.any() else {}),
                label={"train": "training", "test": "test"}[split],
            )
    if kind == "loss":
        axes.apply(axis)
    else:
        axes.along(axis)
        axis.set(ylim=(-2, 102))
    axis.set(xlabel="coordinate along the direction", ylabel="loss" if kind == "loss" else "error (%)")
    axis.legend(frameon=False)
    note_unfinished(axis, surface)
    sns.despine(fig)
    return fig


def draw_eigenvalues(plt: Any, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits) -> Any:
    """The largest eigenvalue of the Hessian above the smallest one; a hollow mark is one that is not resolved."""
    import seaborn as sns

    fig, panels = plt.subplots(2, 1, figsize=(5.0, 4.8), sharex=True, layout="constrained")
    for surface, label, colour in zip(curves, names, itertools.cycle(sns.color_palette("colorblind")), strict=False):
        x, fields = surface.grid.x[surface.known], surface.fields
        for axis, name in zip(panels, ("max_eig", "min_eig"), strict=True):
            values = fields[name][surface.known]
            axis.plot(
                x, values, marker="o" if len(x) < 40 else None, markersize=2.5, linewidth=1.4, color=colour, label=label
            )
            loose = unresolved(surface, name)[surface.known]
            axis.plot(x[loose], values[loose], "o", color=colour, markerfacecolor="white", markersize=4)
    for axis, name in zip(panels, ("max_eig", "min_eig"), strict=True):
        axis.set(ylabel=f"{'largest' if name == 'max_eig' else 'smallest'} eigenvalue")
        axes.along(axis)
        stretch(axis, np.concatenate([surface.fields[name][surface.known] for surface in curves]), axes.log)
    panels[1].set_xlabel("coordinate along the direction")
    if len(curves) > 1:
        panels[0].legend(frameon=False)
    note_unfinished(panels[1], curves[0])
    sns.despine(fig)
    return fig


def stretch(axis: Any, values: np.ndarray, log: bool) -> None:
    """A logarithmic scale where values of one or both signs span a large factor, or where it is asked for."""
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size or not (log or np.abs(values).max() > LOG_FROM * np.abs(values).min()):
        return
    low, high = float(values.min()), float(values.max())
    if low > 0:
        axis.set_yscale("log")
    else:
        axis.set_yscale("symlog", linthresh=float(np.abs(values).min()))
        axis.set_ylim(1.6 * low, 1.6 * high if high > 0 else high / 1.6)
    plain_log(axis)


def draw_ratio(plt: Any, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits) -> Any:
    """|smallest / largest| eigenvalue of the Hessian; nothing is drawn where the largest one is not positive."""
    import seaborn as sns

    fig, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for surface, name, colour in zip(curves, names, itertools.cycle(sns.color_palette("colorblind")), strict=False):
        axis.plot(surface.grid.x[surface.known], eigen_ratio(surface)[surface.known], color=colour, label=name)
    axis.set(
        xlabel="coordinate along the direction",
        ylabel=r"$|\lambda_{\min} / \lambda_{\max}|$",
        ylim=(0, None),
    )
    axes.along(axis)
    if len(curves) > 1:
        axis.legend(frameon=False)
    sns.despine(fig)
    return fig


CONFIDENCE = 0.95


def draw_repeated(plt: Any, groups: Sequence[Sequence[Surface]], names: Sequence[str], axes: AxisLimits) -> Any:
    """Loss and error over repeats on one grid: the mean with its confidence, and each curve faintly. A group is a network."""
    import seaborn as sns

    fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.0, 5.2), sharex=True, layout="constrained")
    several = len(groups) > 1
    for curves, name, ink in zip(groups, names, itertools.cycle(sns.color_palette("colorblind")), strict=False):
        for split, colour, line in (("train", ink if several else BLUE, "-"), ("test", ink if several else RED, "--")):
            for axis, kind in ((top, "loss"), (bottom, "acc")):
                if all(f"{split}_{kind}" in s.fields for s in curves):
                    values = np.stack([s.fields[f"{split}_{kind}"] for s in curves])
                    label = {"train": "training", "test": "test"}[split]
                    band(
                        axis,
                        curves[0].grid.x,
                        values if kind == "loss" else 100 - values,
                        colour,
                        line if several else "-",
                        f"{name}, {label}" if several else label,
                    )
    axes.apply(top)
    top.set_ylabel("loss")
    counts = " and ".join(dict.fromkeys(str(len(curves)) for curves in groups))
    top.set_title(
        f"mean of {counts} directions; shaded: {100 * CONFIDENCE:g} % confidence of the mean\n(Student's t); thin: each direction",
        fontsize="small",
    )
    top.legend(frameon=False)
    bottom.set(ylabel="error (%)", ylim=(-2, 102), xlabel="coordinate along the direction")
    return fig


def mean_and_confidence(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of repeats (repeats, ...), and half the width of its confidence interval by Student's t."""
    from scipy.special import stdtrit

    n = len(values)
    return values.mean(0), stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(0, ddof=1) / np.sqrt(n)


def band(axis: Any, x: np.ndarray, values: np.ndarray, colour: Any, line: str, label: str) -> None:
    mean, half = mean_and_confidence(values)
    axis.plot(x, values.T, color=colour, linewidth=0.5, alpha=0.35)
    axis.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
    axis.plot(x, mean, line, color=colour, linewidth=1.5, label=label)
