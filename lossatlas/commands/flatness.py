"""Say how flat saved surfaces are around their centres: a table of numbers, several surfaces side by side.

lossatlas flatness --surf_file FILE.h5
lossatlas flatness --surf_file A.h5 B.h5 --labels shortcuts none --csv table.csv

'>' marks a number that may be larger, because the grid ends or a cell is not known. '+-' is how far a number may be off because
cells are interpolated; numbers without it are of computed cells.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossatlas.commands import options
from lossatlas.commands.open_results import check_labels, check_out, note_interpolated, note_not_finite, read_started
from lossatlas.errors import exit_code, printable, say
from lossatlas.figures.style import pick
from lossatlas.io.atomic_write import write_file
from lossatlas.landscape.flatness_measures import Measure, flatness
from lossatlas.option_fields import option


@dataclass(frozen=True)
class FlatnessOptions:
    """The options of this command."""

    HEADING: ClassVar[str] = "input"

    surf_file: tuple[str, ...] = option(
        (), "surface files of planes or lines", short="-f", many="+", required=True, metavar="FILE.h5"
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    surf_name: str | None = option(None, "field to measure (default: train_loss, or the first one)", metavar="FIELD")
    csv: str | None = option(None, "write the table with all digits to this file as well", metavar="FILE")


def parser() -> options.Parser[FlatnessOptions]:
    return options.Parser(__doc__, FlatnessOptions)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def run(args: FlatnessOptions) -> None:
    paths = [Path(file) for file in args.surf_file]
    check_labels(args.labels, paths)
    check_out("--csv", args.csv, paths)
    names = args.labels or [path.name.removesuffix(".h5") for path in paths]
    found: list[dict[str, Measure]] = []
    for path in paths:
        surface = read_started(path)
        name = pick(surface, args.surf_name, path)
        found.append(flatness(surface, name))
        if not surface.known.all():
            say(f"note: {path} is not complete: {surface.known.sum()} of {surface.known.size} cells")
        note_interpolated(path, surface)
        note_not_finite(path, surface, name)
    what = list(dict.fromkeys(name for measures in found for name in measures))
    for line in table([["", *names], *([each, *(str(m.get(each, "")) for m in found)] for each in what)]):
        print(printable(line))
    if args.csv:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["measure", *(f"{name}{end}" for name in names for end in ("", " is a bound", " error"))])
        for each in what:
            cells = [m.get(each) for m in found]
            numbers = [("", "", "") if c is None else (c.value, int(c.bound), c.error) for c in cells]
            writer.writerow([each, *(number for of_file in numbers for number in of_file)])
        write_file(args.csv, out.getvalue().encode())
        say(f"wrote {args.csv}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
