"""Draw how far the loss rises within a distance, at worst and on average, from saved files of lossatlas sharpness alone.

lossatlas plot-sharpness --sharpness_file A.h5 B.h5 --labels small large
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lossatlas import config, figures, programs
from lossatlas.commands import options
from lossatlas.commands.open_results import check_labels
from lossatlas.errors import BadInput, exit_code, printable, say
from lossatlas.figures.sharpness_plots import draw_rises, table
from lossatlas.io import read_findings
from lossatlas.option_fields import option


@dataclass(frozen=True)
class SharpnessPlotOptions(config.FigureOptions, config.ShowOptions):
    """The options of this command."""

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
    show: bool = False,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw the figure; returns the paths. Raises BadInput, CannotWrite."""
    paths = [Path(file) for file in files]
    check_labels(labels, paths)
    found = [read_findings(path, "sharpness") for path in paths]
    for path, findings in zip(paths, found, strict=True):
        if not any(name.endswith("/rises") for name in findings.arrays):
            raise BadInput(f"{path} holds no radius yet: the same {programs.program('sharpness')} command continues it")
        if "critical" not in findings.arrays:
            say(f"note: {path} is not complete: the same {programs.program('sharpness')} command continues it")
    names = [figures.words(name) for name in labels or [path.name.removesuffix(".h5") for path in paths]]
    with figures.style(show, files_as) as plt:
        return figures.save(draw_rises(plt, found, names), f"{out or paths[0]}_rises", title)


def run(args: SharpnessPlotOptions) -> None:
    drawn: dict[str, Any] = {"show": args.show, "title": args.title, "files_as": options.files_of(args)}
    draw(args.sharpness_file, labels=args.labels, out=args.out, **drawn)
    names = args.labels or [Path(file).name.removesuffix(".h5") for file in args.sharpness_file]
    for line in table([read_findings(file, "sharpness") for file in args.sharpness_file], names):
        print(printable(line))


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
