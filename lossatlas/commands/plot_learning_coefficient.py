"""Draw local learning coefficients from files of lossatlas learning-coefficient alone: the chains, or several in order.

lossatlas plot-learning-coefficient --coefficient_file A.h5                       the chains of one
lossatlas plot-learning-coefficient --coefficient_file A.h5 B.h5 --labels 1 2     several, in this order
lossatlas plot-learning-coefficient --coefficient_file RUN.h5                     those of the checkpoints of a run
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Unpack

from lossatlas import config
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import FigureOutput, FileKeywords
from lossatlas.commands.open_results import check_label_count, figure_labels
from lossatlas.config.option_fields import option
from lossatlas.errors import BadInput, BadUsage, exit_code, printable
from lossatlas.figures.coefficient_path_plots import coefficient_paths_figure, estimated, path_table
from lossatlas.figures.kinds import Kind
from lossatlas.figures.learning_coefficient_plots import chains_figure, coefficient_table, coefficients_figure
from lossatlas.io import Findings, read_findings
from lossatlas.io.contents import kind_of
from lossatlas.programs import program


@dataclass(frozen=True)
class CoefficientPlotOptions(config.FigureOptions, config.ShowOptions):
    """Files of learning coefficients, and the name and look of their figure."""

    HEADING: ClassVar[str] = "input"

    coefficient_file: tuple[str, ...] = option(
        (),
        "files written by lossatlas learning-coefficient",
        short="-f",
        many="+",
        required=True,
        metavar="FILE.h5",
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    out: str | None = option(None, "beginning of the name of the figure (default: the name of the first file)")


def parser() -> options.Parser[CoefficientPlotOptions]:
    return options.Parser(__doc__, CoefficientPlotOptions)


def read_chains(path: Path) -> Findings:
    """Read a file with at least one chain.

    Raises:
        BadInput: The file is damaged, of another kind, or holds no chain yet.
    """
    is_run = kind_of(path) == "learning_coefficients"
    findings = read_findings(path, "learning_coefficients" if is_run else "learning_coefficient")
    if not (estimated(findings) if is_run else "differences" in findings.arrays):
        raise BadInput(f"{path} holds no chain yet: the same {program('learning_coefficient')} command continues it")
    return findings


def runs_alone(found: Sequence[Findings], paths: Sequence[Path]) -> bool:
    """Return whether files hold the coefficients of runs, and not of single networks.

    Raises:
        BadUsage: Some do.
    """
    are_runs = [each.kind == "learning_coefficients" for each in found]
    if any(are_runs) and not all(are_runs):
        run, other = paths[are_runs.index(True)], paths[are_runs.index(False)]
        raise BadUsage(f"{run} holds the coefficients of a run, {other} that of one network: draw them one by one")
    return all(are_runs)


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    **keywords: Unpack[FileKeywords],
) -> list[Path]:
    """Draw the chains of one coefficient, or several coefficients with their standard errors.

    Args:
        files: Files written by lossatlas learning-coefficient.
        labels: Name of each file in the figure; by default the names of the files.
        out: Beginning of the figure's name; by default the first file.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is damaged, of another kind, or holds no chain yet.
        BadUsage: There is not one label for each file, or files of runs and of single networks are mixed.
        CannotWrite: The figure cannot be written.
    """
    paths, output = [Path(file) for file in files], FigureOutput(**keywords)
    check_label_count(labels, paths)
    found = [read_chains(path) for path in paths]
    with output.style() as plt:
        if runs_alone(found, paths):
            fig = coefficient_paths_figure(plt, found, figure_labels(labels, paths, ending=False))
            return output.save({Kind.COEFFICIENTS: fig}, paths, out)
        if len(found) == 1:
            return output.save({Kind.CHAINS: chains_figure(plt, found[0])}, paths, out)
        fig = coefficients_figure(plt, found, figure_labels(labels, paths, ending=False))
        return output.save({Kind.COEFFICIENTS: fig}, paths, out)


def run(args: CoefficientPlotOptions) -> None:
    """Draw what the command line names, and print it as a table."""
    draw(args.coefficient_file, labels=args.labels, out=args.out, **figure_keywords.file_keywords(args))
    names = args.labels or [Path(file).name.removesuffix(".h5") for file in args.coefficient_file]
    found = [read_chains(Path(file)) for file in args.coefficient_file]
    if found[0].kind == "learning_coefficients":
        lines = [line for each, name in zip(found, names, strict=True) for line in [f"{name}:", *path_table(each)]]
    else:
        lines = coefficient_table(found, names)
    for line in lines:
        print(printable(line))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
