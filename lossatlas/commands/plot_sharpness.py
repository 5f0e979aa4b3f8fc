"""Draw the rise of the loss within a distance, at worst and on average, from saved files of sharpness.py alone.

python plot_sharpness.py --sharpness_file A.h5 B.h5 --labels small large
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from lossatlas.commands import options
from lossatlas.commands.figure_output import FigureKeywords, FigureOutput
from lossatlas.commands.open_results import check_labels, figure_labels
from lossatlas.errors import BadInput, exit_code, printable, say
from lossatlas.figures.sharpness_plots import rises_figure, table
from lossatlas.io import read_findings


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    p.add_argument("--sharpness_file", "-f", nargs="+", required=True, help="files written by sharpness.py")
    p.add_argument("--labels", nargs="+", help="a name for each file")
    p.add_argument("--out", help="beginning of the figure's name (default: the first file's name)")
    options.add_files(p)
    p.add_argument("--show", action="store_true", help="open a window too")
    return p


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    **keywords: Unpack[FigureKeywords],
) -> list[Path]:
    """Draw the rise of the loss over the radius.

    Args:
        files: Files written by sharpness.py.
        labels: Name of each file in the figure; by default the names of the files.
        out: Beginning of the figure's name; by default the first file.
        **keywords: show, title and files_as, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is damaged, of another kind, or holds no radius yet.
        BadUsage: There is not one label for each file.
        CannotWrite: The figure cannot be written.
    """
    paths, output = [Path(file) for file in files], FigureOutput(**keywords)
    check_labels(labels, paths)
    found = [read_findings(path, "sharpness") for path in paths]
    for path, findings in zip(paths, found, strict=True):
        if not any(name.endswith("/rises") for name in findings.arrays):
            raise BadInput(f"{path} holds no radius yet: the same command of sharpness.py continues it")
        if "critical" not in findings.arrays:
            say(f"note: {path} is not complete: the same command of sharpness.py continues it")
    with output.style() as plt:
        fig = rises_figure(plt, found, figure_labels(labels, paths, ending=False))
        return output.save({"rises": fig}, paths, out)


def run(args: argparse.Namespace) -> None:
    """Draw what the command line names, and print it as a table."""
    keywords: FigureKeywords = {"show": args.show, "title": args.title, "files_as": options.files_of(args)}
    draw(args.sharpness_file, labels=args.labels, out=args.out, **keywords)
    names = args.labels or [Path(file).name.removesuffix(".h5") for file in args.sharpness_file]
    for line in table([read_findings(file, "sharpness") for file in args.sharpness_file], names):
        print(printable(line))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
