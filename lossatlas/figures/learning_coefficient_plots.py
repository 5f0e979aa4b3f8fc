"""Local learning coefficients: the chains of one, several in one figure, and a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.line_plots import curve_looks, draw_legend_below
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look
from lossatlas.figures.text_tables import align_columns
from lossatlas.figures.trajectory_plots import halo
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.chain_statistics import LearningCoefficientEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COEFFICIENT = "local learning coefficient"
MOST_NAMED = 8  # chains that the legend names one by one
LETTER = 0.085  # inches, of a tick label


def chains_figure(plt: FigureFactory, findings: Findings) -> "Figure":
    """Draw the draws of each chain, and the estimates from the first draws of each up to all.

    Args:
        plt: Maker of figures, see `style`.
        findings: Content of a file with at least one chain.

    Returns:
        The figure.
    """
    import seaborn as sns

    beta = float(findings.request["inverse_temperature"])
    values, found = beta * findings.arrays["differences"], findings.learning_coefficient()
    rows, size = ((2, 1), (3.4, 5.6)) if is_single_column() else ((1, 2), (8.2, 3.9))
    fig, (left, right) = plt.subplots(*rows, figsize=size, layout="constrained")
    steps_between = int(findings.request["steps_between"])
    step = int(findings.request["burn_in"]) + np.arange(values.shape[1]) * steps_between + 1
    draw_chains(left, step, values)
    draw_running_estimates(right, values, found)
    left.set(xlabel="step of the chain", ylabel="n\u03b2 (loss of the draw\n\u2212 loss of the network)")
    settings = f"n\u03b2 = {beta:.4g}, localization {float(findings.request['localization']):g}"
    left.set_title(f"{settings}; thick: means of {averaged_draws(values.shape[1])} draws", fontsize="small")
    right.set(xlabel="number of draws", ylabel="estimate from the draws so far")
    said = "is doubtful: see the table" if found.doubts else number_with_error(found)
    right.set_title(f"{COEFFICIENT} {said}", fontsize="small")
    draw_legend_below(fig, [right])
    sns.despine(fig)
    return fig


def averaged_draws(count: int) -> int:
    """Return how many consecutive draws of a chain a moving mean is over: a tenth of `count`, rounded down."""
    return max(1, count // 10)


def draw_chains(axis: "Axes", step: np.ndarray, values: np.ndarray) -> None:
    """Draw the draws of each chain, thin and faint, and their moving means above them.

    Args:
        axis: Where to draw.
        step: (draws,) steps of the chains.
        values: (chains, draws) draws.
    """
    looks, width = curve_looks(len(values)), averaged_draws(values.shape[1])
    for chain, look in zip(values, looks, strict=True):
        axis.plot(step, chain, color=look["color"], linewidth=0.4, alpha=0.35)
    weights = np.full(width, 1 / width)
    middle = np.convolve(step, weights, "valid")
    for chain, look in zip(values, looks, strict=True):
        axis.plot(middle, np.convolve(chain, weights, "valid"), linewidth=1.5, path_effects=halo(1.5), **look)


def draw_running_estimates(axis: "Axes", values: np.ndarray, found: LearningCoefficientEstimate) -> None:
    """Draw the estimates from the first draws of each chain up to all, and the mean of the chains.

    Args:
        axis: Where to draw.
        values: (chains, draws) draws, whose means are the estimates.
        found: The estimate from all of them.
    """
    count, number = len(values), np.arange(1, values.shape[1] + 1)
    for k, (chain, look) in enumerate(zip(values, curve_looks(count), strict=True)):
        name = f"chain {k + 1}" if count <= MOST_NAMED else f"{count} chains" if k == 0 else None
        axis.plot(number, np.cumsum(chain) / number, linewidth=1.2, label=name, **look)
    looks: Looks = {"color": current_look().muted, "zorder": 1.5}  # below the chains
    axis.axhline(found.value, linewidth=1.6, label="mean of the chains", **looks)
    if np.isfinite(found.error):
        low, high = found.value - 2 * found.error, found.value + 2 * found.error
        axis.axhspan(low, high, alpha=0.25, linewidth=0, label="\u00b1 2 standard errors", **looks)


def coefficients_figure(plt: FigureFactory, files: Sequence[Findings], names: Sequence[str]) -> "Figure":
    """Draw several coefficients with two standard errors, in the order of the files; doubtful ones are hollow.

    Args:
        plt: Maker of figures, see `style`.
        files: Contents of files with at least one chain.
        names: A name for each.

    Returns:
        The figure.
    """
    import seaborn as sns

    found = [each.learning_coefficient() for each in files]
    width, height = (3.4, 3.0) if is_single_column() else (max(4.8, 1.6 + 0.9 * len(files)), 3.2)
    fig, axis = plt.subplots(figsize=(width, height), layout="constrained")
    numbers = numbers_of(names)
    places = np.arange(len(files)) if numbers is None else numbers
    draw_estimates(axis, places, found, {"color": current_look().main})
    if numbers is None:
        axis.set_xticks(places, labels=names)
        if LETTER * max(map(len, names)) > (width - 1) / len(files):
            axis.tick_params(axis="x", rotation=30)
            for name in axis.get_xticklabels():
                name.set(ha="right", rotation_mode="anchor")
    axis.set_ylabel(f"{COEFFICIENT}\n(\u00b1 2 standard errors)")
    axis.margins(x=0.15, y=0.15)
    if any(each.doubts for each in found):
        axis.set_title("hollow: not to be believed, see the table", fontsize="small")
    sns.despine(fig)
    return fig


def numbers_of(names: Sequence[str]) -> np.ndarray | None:
    """Return names as numbers, at which they are drawn; None where one is no number, or two are the same.

    Example:
        >>> numbers_of(["10", "40"]), numbers_of(["10", "last"])
        (array([10., 40.]), None)
    """
    try:
        numbers = np.array([float(name) for name in names])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() and len(set(numbers)) == len(numbers) else None


def draw_estimates(
    axis: "Axes",
    places: np.ndarray,
    found: Sequence[LearningCoefficientEstimate],
    look: Looks,
    label: str | None = None,
) -> None:
    """Draw estimates with two standard errors, joined by a line in the order of their places; doubtful ones are hollow.

    Args:
        axis: Where to draw.
        places: (n,) where each lies on the x axis.
        found: The estimates.
        look: Colour and dashes of the line.
        label: Its name in a legend; None for none.
    """
    order, values, colour = np.argsort(places), np.array([each.value for each in found]), look["color"]
    axis.plot(places[order], values[order], linewidth=0.8, alpha=0.6, label=label, **look)
    axis.errorbar(places, values, [2 * np.nan_to_num(e.error) for e in found], fmt="none", color=colour, capsize=3)
    for place, each in zip(places, found, strict=True):
        inside = current_look().ground if each.doubts else colour
        axis.plot(place, each.value, "o", color=colour, markerfacecolor=inside, markersize=6)


def number_with_error(found: LearningCoefficientEstimate) -> str:
    """Write an estimate with its standard error."""
    return f"{found.value:.4g}" + (f" \u00b1 {found.error:.2g}" if np.isfinite(found.error) else "")


def first_order_text(found: LearningCoefficientEstimate) -> str:
    """Write the part of an estimate that comes from the gradient at the network."""
    return f"{found.first_order:.2g}" if np.isfinite(found.first_order) else "not recorded"


def coefficient_table(files: Sequence[Findings], names: Sequence[str]) -> list[str]:
    """Format coefficients as a table, and below it what speaks against each.

    Args:
        files: Contents of files with at least one chain.
        names: A name for each; "" for none.

    Returns:
        Lines.
    """
    found = [each.learning_coefficient() for each in files]
    rows = [["", *names]] if any(names) else []
    rows += [
        [COEFFICIENT, *(f"{each.value:.5g} +- {each.error:.2g}" for each in found)],
        ["chains x draws", *("x".join(map(str, each.arrays["differences"].shape)) for each in files)],
        ["scale reduction of the chains", *(f"{each.spread:.3f}" for each in found)],
        ["growth of the loss, power of the distance", *(f"{each.growth:.3g}" for each in found)],
        ["part from the gradient at the network", *map(first_order_text, found)],
        ["drift, in standard errors", *(f"{each.drift:.2g}" for each in found)],
        ["learning rate", *(f"{float(each.arrays['learning_rate']):.3g}" for each in files)],
        ["noise of the mini-batches, at most", *(f"{float(each.arrays['noise']):.1%}" for each in files)],
        ["n beta", *(f"{float(each.request['inverse_temperature']):.4g}" for each in files)],
    ]
    lines = align_columns(rows)
    for name, each in zip(names, found, strict=True):
        lines += [f"not to be believed{f', {name}' if name else ''}: {doubt}" for doubt in each.doubts]
    return lines
