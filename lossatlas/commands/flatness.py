"""Measure the flatness of saved surfaces around their centres: a table of numbers, several surfaces side by side.

lossatlas flatness --surf_file FILE.h5
lossatlas flatness --surf_file A.h5 B.h5 --labels shortcuts none --csv table.csv
lossatlas flatness --surf_file SMALL.h5 LARGE.h5 --surf_name train_acc --within 5      how far a score stays within 5 %

'>' marks a number that may be larger, because the grid ends or a cell is not known. '+-' is how far a number may be off
because cells are interpolated; numbers without it are of computed cells. Of lines along several random directions
(--repeat), numbers are means over the directions, with their 95 % confidence after '+-'.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossatlas.commands import options
from lossatlas.commands.open_results import (
    check_label_count,
    check_out,
    note_interpolated,
    note_not_finite,
    note_unfinished,
    read_started,
)
from lossatlas.config.option_fields import above_zero, option
from lossatlas.errors import BadUsage, exit_code, printable, say
from lossatlas.figures import chosen_field
from lossatlas.figures.text_tables import align_columns
from lossatlas.io import read_surface
from lossatlas.io.atomic_write import write_file
from lossatlas.landscape.flatness_measures import Measure, flatness
from lossatlas.landscape.repeats import flatness_of_repeats

ENDS = "", " is a bound", " error", " confidence"  # of the names of the columns for each surface


@dataclass(frozen=True)
class FlatnessOptions:
    """Surface files, the field that is measured, and a file for the table."""

    HEADING: ClassVar[str] = "input"

    surf_file: tuple[str, ...] = option(
        (), "surface files of planes, lines or repeated lines", short="-f", many="+", required=True, metavar="FILE.h5"
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    surf_name: str | None = option(None, "field to measure (default: train_loss, or the first one)", metavar="FIELD")
    within: float | None = option(
        None,
        "measure as well how far from the centre the field stays within this percentage of its value there: until a "
        "loss has risen by it, or a score has fallen by it",
        kind=above_zero,
        metavar="PERCENT",
    )
    csv: str | None = option(None, "write the table with all digits to this file as well", metavar="FILE")


def parser() -> options.Parser[FlatnessOptions]:
    return options.Parser(__doc__, FlatnessOptions)


def write_csv(path: str, names: Sequence[str], measures: Sequence[Mapping[str, Measure]]) -> None:
    """Write measures of several surfaces as a table, with full digits.

    Args:
        path: File to write.
        names: Name of each surface.
        measures: Measures of each surface by name.

    Raises:
        CannotWrite: The file cannot be written.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["measure", *(f"{name}{end}" for name in names for end in ENDS)])
    for each in _measure_names(measures):
        cells = [m.get(each) for m in measures]
        numbers = [[""] * len(ENDS) if c is None else [c.value, int(c.bound), c.error, c.confidence] for c in cells]
        writer.writerow([each, *(number for of_file in numbers for number in of_file)])
    write_file(path, out.getvalue().encode())


def _measure_names(measures: Sequence[Mapping[str, Measure]]) -> list[str]:
    return list(dict.fromkeys(name for each in measures for name in each))


def run(args: FlatnessOptions) -> None:
    """Print the table that the command line asks for."""
    paths = [Path(file) for file in args.surf_file]
    check_label_count(args.labels, paths)
    check_out("csv", args.csv, paths)
    names = args.labels or [path.name.removesuffix(".h5") for path in paths]
    measures: list[dict[str, Measure]] = []
    for path in paths:
        surface = read_started(path, "repeats" if read_surface(path).rows_of == "repeats" else "")
        surface, name = chosen_field(surface, args.surf_name, path)
        try:
            measures.append((flatness_of_repeats if surface.rows_of else flatness)(surface, name, args.within))
        except BadUsage as error:
            raise BadUsage(f"{path}: {error}") from error
        note_unfinished(path, surface)
        note_interpolated(path, surface)
        note_not_finite(path, surface, name)
    rows = [[each, *(str(m.get(each, "")) for m in measures)] for each in _measure_names(measures)]
    for line in align_columns([["", *names], *rows]):
        print(printable(line))
    if args.csv:
        write_csv(args.csv, names, measures)
        say(f"wrote {args.csv}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
