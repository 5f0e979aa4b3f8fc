"""Local learning coefficients along training runs: a figure beside the loss, and a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossatlas.figures.learning_coefficient_plots import COEFFICIENT, draw_estimates
from lossatlas.figures.line_plots import curve_looks, draw_legend_below
from lossatlas.figures.matplotlib_style import FigureFactory, is_single_column
from lossatlas.figures.text_tables import align_columns
from lossatlas.io.spectrum_files import Findings, PathCheckpoint
from lossatlas.landscape.chain_statistics import LearningCoefficientEstimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 20.0  # ratio of losses, above which their axis is logarithmic


class CheckpointEstimate(NamedTuple):
    """A checkpoint of a run whose coefficient is estimated.

    Attributes:
        checkpoint: The checkpoint.
        place: Its epoch or step; its number where these are not known.
        found: The estimate.
        loss: Its loss.
    """

    checkpoint: PathCheckpoint
    place: float
    found: LearningCoefficientEstimate
    loss: float


def estimated(findings: Findings) -> list[CheckpointEstimate]:
    """Return the checkpoints of a run that have all of their chains, in their order.

    Args:
        findings: Content of a file of the coefficients of a run.
    """
    checkpoints = findings.path_checkpoints()
    known = all(each.epoch is not None for each in checkpoints)
    result = []
    for number, each in enumerate(checkpoints, start=1):
        own = findings.of_checkpoint(each)
        if "value" in own.arrays:
            place = float(each.epoch) if known and each.epoch is not None else float(number)
            result.append(CheckpointEstimate(each, place, own.learning_coefficient(), float(own.arrays["loss"])))
    return result


def axis_name(files: Sequence[Findings]) -> str:
    """Return what the places of checkpoints are numbers of: epochs, steps, or checkpoints."""
    known = all(each.epoch is not None for findings in files for each in findings.path_checkpoints())
    counted = {str(findings.about["counted"]) for findings in files}
    return "checkpoint" if not known else counted.pop() if len(counted) == 1 else "epoch or step"


def coefficient_paths_figure(plt: FigureFactory, files: Sequence[Findings], names: Sequence[str]) -> "Figure":
    """Draw the coefficients of the checkpoints of runs with two standard errors, and their losses below.

    Args:
        plt: Maker of figures, see `style`.
        files: Contents of files of runs, each with at least one checkpoint.
        names: A name for each.

    Returns:
        The figure.
    """
    import seaborn as sns

    size = (3.4, 4.2) if is_single_column() else (6.4, 4.8)
    fig, (upper, lower) = plt.subplots(
        2, 1, figsize=size, sharex=True, layout="constrained", gridspec_kw={"height_ratios": (3, 2)}
    )
    losses: list[float] = []
    doubtful = False
    for findings, name, look in zip(files, names, curve_looks(len(files)), strict=True):
        rows = estimated(findings)
        places, found = np.array([row.place for row in rows]), [row.found for row in rows]
        draw_estimates(upper, places, found, look, label=name)
        lower.plot(places, [row.loss for row in rows], marker="o", markersize=3, linewidth=1.2, **look)
        losses += [row.loss for row in rows]
        doubtful = doubtful or any(each.doubts for each in found)
    if min(losses) > 0 and max(losses) > WIDE * min(losses):
        lower.set_yscale("log")
    upper.set_ylabel(f"{COEFFICIENT}\n(\u00b1 2 standard errors)")
    lower.set(xlabel=axis_name(files), ylabel="loss")
    if doubtful:
        upper.set_title("hollow: not to be believed, see the table", fontsize="small")
    if len(files) > 1:
        draw_legend_below(fig, [upper])
    sns.despine(fig)
    return fig


def path_table(findings: Findings) -> list[str]:
    """Format the coefficients of the checkpoints of a run as a table, and below it what speaks against each.

    Args:
        findings: Content of the file.

    Returns:
        Lines.
    """
    rows = [[axis_name([findings]), COEFFICIENT, "loss", "learning rate", "checkpoint"]]
    lines = []
    for row in estimated(findings):
        rate = float(findings.of_checkpoint(row.checkpoint).arrays["learning_rate"])
        value = f"{row.found.value:.5g} +- {row.found.error:.2g}"
        rows.append([f"{row.place:g}", value, f"{row.loss:.5g}", f"{rate:.3g}", row.checkpoint.name])
        lines += [f"not to be believed, {rows[0][0]} {row.place:g}: {doubt}" for doubt in row.found.doubts]
    return [*align_columns(rows), *lines]
