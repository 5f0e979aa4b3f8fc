"""Results in a few lines: as text, and as HTML with a small picture for a notebook."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

import numpy as np

from lossatlas.figures.plotted_fields import default_field, field_title, is_accuracy, loss_names, row_labels
from lossatlas.io import Findings
from lossatlas.landscape import Surface
from lossatlas.landscape.flatness_measures import Measure

Rows = list[tuple[str, str]]  # names and values in words
MOST_VALUES = 8  # eigenvalues that are listed
PICTURE, WIDE_PICTURE = 360, 720  # widths in pixels of the page
DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")  # SHA-256, of which the first digits are enough
CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top"


def number(value: float, error: float | None = None) -> str:
    """Format a number, with its standard error where that is known and not zero."""
    text = f"{value:.5g}"
    return text if not error or not np.isfinite(error) else f"{text} +- {error:.2g}"


def field_standard_errors(surface: Surface, name: str) -> np.ndarray | None:
    """Return the standard errors of a field, in the shape of the grid; None where they are not known.

    Args:
        surface: The surface.
        name: Name of the field; a file may record that all its errors are zero instead of the errors.
    """
    fields, zero = surface.fields, surface.about.get("zero", [])
    if f"{name}_se" in fields:
        return fields[f"{name}_se"]
    if isinstance(zero, list) and f"{name}_se" in zero:
        return np.where(surface.done, 0.0, np.nan)
    return None


def cell_at_origin(surface: Surface) -> tuple[int, ...] | None:
    """Return the index of the cell at the origin; None where there is none."""
    nearest = [np.flatnonzero(np.abs(axis) <= 1e-9 * max(float(np.ptp(axis)), 1e-300)) for axis in surface.grid.axes]
    return tuple(int(each[0]) for each in nearest) if all(len(each) for each in nearest) else None


def centre_of(surface: Surface, name: str) -> str:
    """Return the value at the origin in words, with its standard error; "" where no cell is there."""
    cell = cell_at_origin(surface)
    if cell is None or not surface.known[cell]:
        return ""
    errors = field_standard_errors(surface, name)
    return number(float(surface.fields[name][cell]), None if errors is None else float(errors[cell]))


def best_cell(surface: Surface, name: str) -> tuple[int, ...] | None:
    """Return the index of the best computed cell: the lowest, or the highest accuracy; None where nothing is finite."""
    values = np.where(surface.done, surface.fields[name], np.nan)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    values = np.where(finite, -values if is_accuracy(name) else values, np.inf)
    return tuple(int(k) for k in np.unravel_index(values.argmin(), values.shape))


def place_of(surface: Surface, cell: Sequence[int]) -> str:
    """Return the coordinates of a cell in words."""

    def coordinate(axis: np.ndarray, k: int) -> str:
        rounding = 1e-9 * float(np.ptp(axis))
        return f"{0.0 if abs(axis[k]) <= rounding else axis[k]:.4g}"

    x = coordinate(surface.grid.x, cell[-1])
    if surface.rows_of:
        return f"{x} of {row_labels(surface)[cell[0]]}"
    places = map(coordinate, reversed(surface.grid.axes), reversed(cell))
    return x if surface.grid.y is None else f"({', '.join(places)})"


def shown_fields(surface: Surface) -> list[str]:
    """Return the names of the fields that a summary describes: the losses, otherwise the first field."""
    return loss_names(surface) or [default_field(surface)]


def grid_in_words(surface: Surface) -> str:
    """Return the number of points and the ranges of the coordinates."""
    axes = dict(zip("xyz", reversed(surface.grid.axes), strict=False))
    ends = [f"{name} from {axis[0]:.4g} to {axis[-1]:.4g}" for name, axis in axes.items()]
    if surface.rows_of:
        return f"{len(surface.known)} {surface.rows_of} of {len(axes['x'])} points, {ends[0]}"
    counts = " x ".join(str(len(axis)) for axis in axes.values())
    return f"{counts} points, {', '.join(ends)}"


def surface_rows(surface: Surface, directions: Mapping[str, object] | None = None, names: Sequence[str] = ()) -> Rows:
    """Describe a surface: grid, directions, cells, samples, and of each field the value at the centre and the best one.

    Args:
        surface: The surface.
        directions: Metadata of its directions.
        names: Fields; by default the losses.
    """
    rows = [("grid", grid_in_words(surface))]
    if directions:
        rows.append(("directions", directions_in_words(directions)))
    cells = f"{int(surface.done.sum())} of {surface.grid.size} computed"
    if interpolated := int(surface.interpolated.sum()):
        cells += f", {interpolated} interpolated"
    rows.append(("cells", cells))
    if surface.populations:
        splits = {"train": "training"}
        counts = [
            f"{n:,} {splits.get(split, split)}" if isinstance(n, int) else f"{n} {splits.get(split, split)}"
            for split, n in surface.populations.items()
        ]
        rows.append(("samples", ", ".join(counts)))
    for name in names or shown_fields(surface):
        if not surface.rows_of and (centre := centre_of(surface, name)):
            rows.append((f"{field_title(name)}, centre", centre))
        if (cell := best_cell(surface, name)) is not None:
            value = number(float(surface.fields[name][cell]))
            best = "highest" if is_accuracy(name) else "lowest"
            rows.append((f"{field_title(name)}, {best}", f"{value} at {place_of(surface, cell)}"))
        not_finite = int((surface.done & ~np.isfinite(surface.fields[name])).sum())
        if not_finite:
            rows.append((f"{field_title(name)}, not finite", f"{not_finite} cells"))
    return rows


def has_flatness(surface: Surface, name: str) -> bool:
    """Tell whether measures of flatness have a meaning: of a line or plane with finite values, not of an accuracy."""
    finite = bool(np.isfinite(surface.fields[name][surface.done]).any())
    is_flat = surface.grid.z is None and not surface.rows_of
    return finite and len(surface.grid.x) > 1 and is_flat and not is_accuracy(name)


def directions_in_words(about: Mapping[str, object]) -> str:
    """Return what the directions are, of the metadata of a direction file; '' where it does not say.

    Example:
        >>> directions_in_words({"x": "towards " + "5b8e8d33" * 8})
        'towards 5b8e8d33'
    """
    words = [str(about[letter]).replace(", idx=0", "") for letter in "xyz" if letter in about]
    words = [DIGEST.sub(r"\1", each) for each in words]
    return "; ".join(dict.fromkeys(words))


def findings_rows(findings: Findings) -> Rows:
    """Describe a spectrum: eigenvalues, bounds, trace and effective dimension, as far as they are computed."""
    a = findings.arrays
    size = sum(int(np.prod(shape)) for _, shape in findings.about.get("parameters", []))
    rows = [("parameters", f"{size:,}")] if size else []
    for name, title in (("eigenvalues", "largest eigenvalues"), ("smallest", "smallest eigenvalues")):
        if name in a and len(a[name]):
            more = f", and {len(a[name]) - MOST_VALUES} more" if len(a[name]) > MOST_VALUES else ""
            rows.append((title, ", ".join(f"{value:.5g}" for value in a[name][:MOST_VALUES]) + more))
    if "bounds" in a:
        rows.append(("all eigenvalues", f"between {a['bounds'][0]:.5g} and {a['bounds'][1]:.5g}"))
    if "trace" in a:
        rows.append(("trace", number(float(a["trace"]), float(a["trace_se"]))))
    if "effective_dimension" in a:
        _, low, high = a["effective_dimension"]
        rows.append(("effective dimension", f"between {low:.4g} and {high:.4g}"))
    return rows or [("parts", "none is computed yet")]


def short(measure: Measure) -> str:
    """Format a measure of flatness without its method."""
    error = f" +- {measure.error:.2g}" if measure.error > 0 else ""
    return f"{'> ' * measure.bound}{measure.value:.4g}{error}"


def html_of(
    heading: str, rows: Sequence[Sequence[str]], picture: bytes | None, head: Sequence[str] = (), width: int = PICTURE
) -> str:
    """Return a result as HTML for a notebook.

    Args:
        heading: First line.
        rows: Cells of each row of a table.
        picture: PNG; None for none.
        head: Names of the columns.
        width: Width of the picture, in pixels.

    Returns:
        HTML that needs no other file.
    """
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode()
        image = (
            f'<img src="data:image/png;base64,{data}" width="{width}" alt="{html.escape(heading)}" '
            'style="background:white">'
        )
    top = "".join(f'<th scope="col" style="{CELL}">{html.escape(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row" style="{CELL}">{html.escape(row[0])}</th>'
        + "".join(f'<td style="{CELL}">{html.escape(each).replace("+-", "±")}</td>' for each in row[1:])
        + "</tr>"
        for row in rows
    )
    table = f"<table>{f'<thead><tr>{top}</tr></thead>' if top else ''}<tbody>{body}</tbody></table>"
    return (
        f'<div><p style="margin:4px 0"><b>{html.escape(heading)}</b></p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{image}{table}</div></div>'
    )
