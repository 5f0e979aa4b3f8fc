"""Local learning coefficients: the chains of one, several in one figure, and a table."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.matplotlib_style import FigureFactory, is_single_column
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.figures.text_tables import align_columns
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.chain_statistics import LearningCoefficientEstimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COEFFICIENT = "local learning coefficient"


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
    rows, size = ((2, 1), (3.4, 5.0)) if is_single_column() else ((1, 2), (8.2, 3.5))
    fig, (left, right) = plt.subplots(*rows, figsize=size, layout="constrained")
    number = np.arange(1, values.shape[1] + 1)
    step = int(findings.request["burn_in"]) + (number - 1) * int(findings.request["steps_between"]) + 1
    for chain, colour in zip(values, islice(curve_colours(), len(values)), strict=True):
        left.plot(step, chain, color=colour, linewidth=0.6, alpha=0.8)
        right.plot(number, np.cumsum(chain) / number, color=colour, linewidth=1.1)
    right.axhline(found.value, color=current_look().ink, linewidth=1.0, linestyle="--", label="mean of the chains")
    if np.isfinite(found.error):
        low, high = found.value - 2 * found.error, found.value + 2 * found.error
        right.axhspan(low, high, color=current_look().ink, alpha=0.12, linewidth=0, label="\u00b1 2 standard errors")
    right.legend(frameon=False, fontsize="small")
    left.set(xlabel="step of the chain", ylabel="n\u03b2 (loss of the draw \u2212 loss of the network)")
    right.set(xlabel="number of draws", ylabel=f"{COEFFICIENT}, so far")
    left.set_title(f"n\u03b2 = {beta:.4g}, localization {float(findings.request['localization']):g}", fontsize="small")
    right.set_title("doubtful: see the table" if found.doubts else number_with_error(found), fontsize="small")
    sns.despine(fig)
    return fig


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
    fig, axis = plt.subplots(figsize=(3.4 if is_single_column() else 1.6 + 0.9 * len(files), 3.5), layout="constrained")
    places, colour = np.arange(len(files)), current_look().main
    values = np.array([each.value for each in found])
    axis.plot(places, values, color=colour, linewidth=0.8, alpha=0.6)
    axis.errorbar(places, values, [2 * np.nan_to_num(e.error) for e in found], fmt="none", color=colour, capsize=3)
    for place, each in zip(places, found, strict=True):
        inside = current_look().ground if each.doubts else colour
        axis.plot(place, each.value, "o", color=colour, markerfacecolor=inside, markersize=6)
    axis.set_xticks(places, labels=names, rotation=30 if max(map(len, names)) > 8 else 0, ha="center")
    axis.set_ylabel(f"{COEFFICIENT}\n(\u00b1 2 standard errors)")
    axis.margins(x=0.15, y=0.15)
    if any(each.doubts for each in found):
        axis.set_title("hollow: not to be believed, see the table", fontsize="small")
    sns.despine(fig)
    return fig


def number_with_error(found: LearningCoefficientEstimate) -> str:
    """Write an estimate with its standard error."""
    return f"{found.value:.4g}" + (f" \u00b1 {found.error:.2g}" if np.isfinite(found.error) else "")


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
        ["drift, in standard errors", *(f"{each.drift:.2g}" for each in found)],
        ["learning rate", *(f"{float(each.arrays['learning_rate']):.3g}" for each in files)],
        ["noise of the mini-batches, at most", *(f"{float(each.arrays['noise']):.1%}" for each in files)],
        ["n beta", *(f"{float(each.request['inverse_temperature']):.4g}" for each in files)],
    ]
    lines = align_columns(rows)
    for name, each in zip(names, found, strict=True):
        lines += [f"not to be believed{f', {name}' if name else ''}: {doubt}" for doubt in each.doubts]
    return lines
