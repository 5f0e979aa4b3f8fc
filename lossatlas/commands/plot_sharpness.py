"""Draw the rise of the loss within a distance, at worst and on average, from saved files of lossatlas sharpness alone.

lossatlas plot-sharpness --sharpness_file A.h5 B.h5 --labels small large
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
from lossatlas.errors import BadInput, exit_code, printable, say
from lossatlas.figures.kinds import Kind
from lossatlas.figures.sharpness_plots import rises_figure, table
from lossatlas.io import read_findings
from lossatlas.programs import program


@dataclass(frozen=True)
class SharpnessPlotOptions(config.FigureOptions, config.ShowOptions):
    """Files of sharpness, and the name and look of their figure."""

    HEADING: ClassVar[str] = "input"

    sharpness_file: tuple[str, ...] = option(
        (), "files written by sharpness.py", short="-f", many="+", required=True, metavar="FILE.h5"
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    out: str | None = option(None, "beginning of the name of the figure (default: the name of the first file)")


def parser() -> options.Parser[SharpnessPlotOptions]:
    return options.Parser(__doc__, SharpnessPlotOptions)


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    **keywords: Unpack[FileKeywords],
) -> list[Path]:
    """Draw the rise of the loss over the radius.

    Args:
        files: Files written by sharpness.py.
        labels: Name of each file in the figure; by default the names of the files.
        out: Beginning of the figure's name; by default the first file.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is damaged, of another kind, or holds no radius yet.
        BadUsage: There is not one label for each file.
        CannotWrite: The figure cannot be written.
    """
    paths, output = [Path(file) for file in files], FigureOutput(**keywords)
    check_label_count(labels, paths)
    found = [read_findings(path, "sharpness") for path in paths]
    for path, findings in zip(paths, found, strict=True):
        if not any(name.endswith("/rises") for name in findings.arrays):
            raise BadInput(f"{path} holds no radius yet: the same {program('sharpness')} command continues it")
        if "critical" not in findings.arrays:
            say(f"note: {path} is not complete: the same {program('sharpness')} command continues it")
    with output.style() as plt:
        fig = rises_figure(plt, found, figure_labels(labels, paths, ending=False))
        return output.save({Kind.RISES: fig}, paths, out)


def run(args: SharpnessPlotOptions) -> None:
    """Draw what the command line names, and print it as a table."""
    draw(args.sharpness_file, labels=args.labels, out=args.out, **figure_keywords.file_keywords(args))
    names = args.labels or [Path(file).name.removesuffix(".h5") for file in args.sharpness_file]
    for line in table([read_findings(file, "sharpness") for file in args.sharpness_file], names):
        print(printable(line))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
