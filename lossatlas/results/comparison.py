"""Several landscapes side by side: on one scale, on one page, in one table, and the difference of two.

both = lossatlas.compare([a, "b.h5"], labels=["with shortcuts", "without"])
both.plot(kind="filled"); both.view(); print(both.table())
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from lossatlas.choices import PlotKind
from lossatlas.errors import BadUsage, named
from lossatlas.figures.kinds import Kind
from lossatlas.figures.plot_options import ContourKeywords, PlotKeywords, PlotOptions, with_keywords
from lossatlas.figures.plotted_fields import field_title, is_accuracy
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.derived_fields import Field, resolved_field
from lossatlas.landscape.flatness_measures import Measure, flatness
from lossatlas.results import Landscape, read, summaries

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Figure, FigureFactory
    from lossatlas.viewer import Page

COLUMNS = {  # measures of the table, by their beginning in `flatness`
    "curvature along x": "curvature x",
    "curvature along y": "curvature y",
    "radius below +0.1, mean": "radius +0.1",
    "radius below +1, mean": "radius +1",
    "barrier from 0 to 1": "barrier",
}


def compare(
    landscapes: Sequence[Landscape | Surface | str | Path], labels: Sequence[str] | None = None
) -> "Comparison":
    """Put several landscapes side by side.

    Args:
        landscapes: At least two landscapes, or names of their files: all lines, or all planes.
        labels: A name for each; by default the names of the files, or A, B, C and so on.

    Returns:
        The comparison: `.plot()`, `.view()`, `.table()`, and `.difference()` of two landscapes on one grid.

    Raises:
        BadUsage: There are fewer than two, lines and planes are mixed, the number of labels differs, or the landscapes
            have no field in common.
        BadInput: A file is missing, damaged, or no surface file.

    Example:
        >>> import torch, lossatlas
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> nets = [torch.nn.Linear(2, 2) for _ in range(2)]
        >>> a, b = (lossatlas.surface(net, data, x="-1:1:5", y="-1:1:5", progress=False) for net in nets)
        >>> both = lossatlas.compare([a, b], labels=["first", "second"])
        >>> fig = both.plot(kind="filled")
        >>> both.difference().values.shape
        (5, 5)
    """
    if isinstance(landscapes, str | Path | Surface):
        raise BadUsage("compare() takes a list of landscapes: compare([a, b])")
    if not isinstance(landscapes, Iterable):
        raise BadUsage(f"compare() takes a list of landscapes, not {type(landscapes).__name__}")
    if isinstance(landscapes, Mapping):
        raise BadUsage("compare() takes a list of landscapes: compare(list(d.values()), labels=list(d))")
    given = list(landscapes)
    if len(given) < 2:
        raise BadUsage(f"compare() needs at least two landscapes, and there {'is one' if given else 'are none'}")
    if labels is not None and (isinstance(labels, str) or not isinstance(labels, Sequence)):
        raise BadUsage(f"{named('labels', labels)}: give a list with a name for each landscape")
    if labels is not None and len(labels) != len(given):
        raise BadUsage(f"{named('labels')} gives {len(labels)} names for {len(given)} landscapes")
    found = tuple(_landscape_of(each, k) for k, each in enumerate(given, 1))
    names = [_label_of(each, k) for k, each in enumerate(given)] if labels is None else [str(each) for each in labels]
    return Comparison(found, tuple(names))


def _landscape_of(given: object, number: int) -> Landscape:
    if isinstance(given, Landscape):
        return given
    if isinstance(given, Surface):
        return Landscape.of(given, None)
    if isinstance(given, str | Path):
        return read(given)
    raise BadUsage(f"compare() takes landscapes or names of their files: number {number} is a {type(given).__name__}")


def _label_of(given: object, number: int) -> str:
    if isinstance(given, str | Path):
        return Path(given).name.removesuffix(".h5")
    return chr(ord("A") + number) if number < 26 else str(number + 1)


@dataclass(frozen=True, repr=False)
class Comparison:
    """Landscapes of one kind side by side, see `compare`. A notebook shows a figure and a table.

    Attributes:
        landscapes: The landscapes.
        labels: Name of each.

    Example:
        >>> import lossatlas
        >>> names = "resnet56_cifar10", "resnet56_noshort_cifar10"
        >>> both = lossatlas.compare([f"docs/surfaces/{name}.h5" for name in names])
        >>> print(both)
        <Comparison of resnet56_cifar10, resnet56_noshort_cifar10: train_loss, train_acc>
    """

    landscapes: tuple[Landscape, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        kinds = {label: _kind_of(each) for label, each in zip(self.labels, self.landscapes, strict=True)}
        if len(set(kinds.values())) > 1:
            listed = ", ".join(f"{label} is {kind}" for label, kind in kinds.items())
            raise BadUsage(f"landscapes of different kinds cannot be compared: {listed}")
        if not self.fields:
            listed = "; ".join(f"{a}: {', '.join(b.fields)}" for a, b in zip(self.labels, self.landscapes, strict=True))
            raise BadUsage(f"the landscapes have no field in common ({listed})")

    @property
    def fields(self) -> list[str]:
        """Names of the fields that all landscapes have."""
        first, *others = (each.fields for each in self.landscapes)
        return [name for name in first if all(name in other for other in others)]

    def _default_field(self) -> str:
        usable = [name for name in self.fields if not name.endswith(("_se", "_residual", "_bound"))] or self.fields
        return "train_loss" if "train_loss" in usable else usable[0]

    def _find(self, field: Field | None) -> list[tuple[Surface, str]]:
        """Return, for each landscape, a surface with a field, and the name of the field."""
        wanted = self._default_field() if field is None else field
        found = []
        for label, landscape in zip(self.labels, self.landscapes, strict=True):
            try:
                found.append(resolved_field(landscape, wanted))
            except BadUsage as error:
                raise BadUsage(f"{label}: {error}") from None
        return found

    @with_keywords(PlotKeywords)
    def plot(self, kind: PlotKind | str = "", **keywords: Unpack[PlotKeywords]) -> "Figure":
        """Draw the landscapes on one scale: planes side by side, lines over each other.

        Args:
            kind: "contour", "filled", "heat" or "solid" of planes (by default contours), "curve" of lines.
            **keywords: As of `Landscape.plot`.

        Returns:
            The figure.

        Raises:
            BadUsage: The kind or a keyword does not suit the landscapes.
        """
        from lossatlas.figures.matplotlib_style import pyplot

        return self._figure(pyplot(), kind, keywords)

    def _figure(self, plt: "FigureFactory", kind: PlotKind | str, keywords: PlotKeywords) -> "Figure":
        from lossatlas.figures.comparison_plots import comparison_figure
        from lossatlas.figures.plot_functions import checked_kind, usual_kind

        chosen = checked_kind(kind) if kind else usual_kind(self.landscapes[0])
        if (chosen is Kind.CURVE) != (self.landscapes[0].grid.y is None):
            what = _kind_of(self.landscapes[0]).removeprefix("a ")
            if self.landscapes[0].rows_of:
                raise BadUsage(f"{what} are not drawn on one scale: draw each with its own plot()")
            raise BadUsage(f"{named('kind', chosen.word)} does not suit a {what}: leave it out")
        options = PlotOptions.of(chosen, keywords)
        found = self._find(options.field)
        options = PlotOptions.of(chosen, {**keywords, "name": None, "field": found[0][1]})
        return comparison_figure(plt, [surface for surface, _ in found], self.labels, chosen, options)

    def view(
        self,
        *,
        height: int = 700,
        file: str | Path | None = None,
        title: str = "",
        story: str | Path | None = None,
        vmax: float | None = None,
    ) -> "Page":
        """Make one interactive page of all landscapes, see `Landscape.view`.

        Args:
            height: Height of its frame in a notebook, in pixels.
            file: File to write as well, which ends in .html.
            title: Title of the page; by default the labels.
            story: Markdown file of steps that explain the page; by default it tells what it shows.
            vmax: Top of the scale of the field that is shown first: what lies above it is drawn as a flat grey lid. By
                default the largest value, but at most 100 times the median.

        Returns:
            The page.

        Raises:
            BadInput: The story cannot be read.
            BadUsage: A page cannot show a landscape, or an argument cannot be used.
            CannotWrite: The file cannot be written.
        """
        from lossatlas.viewer import Page, Shown
        from lossatlas.viewer.notebook import check_showable, flatness_in_words

        shown = []
        for landscape, label in zip(self.landscapes, self.labels, strict=True):
            check_showable(landscape, label)
            shown.append(Shown(landscape, label, landscape.directions_about, flatness=flatness_in_words(landscape)))
        return Page.of(shown, title=title, height=height, file=file, story=story, vmax=vmax)

    def table(self, field: Field | None = None) -> str:
        """Compare numbers: a line of text for each landscape, with its centre, minimum and flatness.

        '>' marks a number that may be larger, because the grid ends there; '+-' is a standard error, or how far a
        number may be off because cells are interpolated. A number that is not known is missing.

        Args:
            field: Field, see `Landscape.plot`; by default train_loss, or the first one that all have.

        Returns:
            Lines of text.

        Raises:
            BadUsage: A landscape has no such field.
        """
        from lossatlas.figures.text_tables import align_columns

        head, rows = self._rows(field)
        return "\n".join(align_columns([head, *rows]))

    def _rows(self, field: Field | None = None) -> tuple[list[str], list[list[str]]]:
        """Return the names of the columns, and the cells of each row."""
        found = self._find(field)
        measures = [_measures(surface, name) for surface, name in found]
        shown = [name for name in COLUMNS if any(name in each for each in measures)]
        best_name = "highest" if is_accuracy(found[0][1]) else "lowest"
        head = [found[0][1], "centre", best_name, "at", *(COLUMNS[name] for name in shown)]
        rows = []
        for label, (surface, name), own in zip(self.labels, found, measures, strict=True):
            cell = summaries.best_cell(surface, name)
            best = ["", ""]
            if cell is not None:
                best = [summaries.number(float(surface.fields[name][cell])), summaries.place_of(surface, cell)]
            numbers = [summaries.short(own[each]) if each in own else "" for each in shown]
            rows.append([label, summaries.centre_of(surface, name), *best, *numbers])
        return head, rows

    def difference(self, name: Field = "train_loss") -> "Difference":
        """Subtract the second of two landscapes from the first, cell by cell.

        The standard error is sqrt(a_se^2 + b_se^2), as for independent errors. Landscapes that were computed from the
        same samples are not independent: errors of the same samples mostly have the same sign and cancel in the
        difference, and then the band is too wide; it is too narrow where they have opposite signs.

        Args:
            name: Field, an expression of fields, or a function, see `Landscape.plot`. Errors are known of fields alone.

        Returns:
            The difference, which numpy takes as an array, with its standard error where both are known.

        Raises:
            BadUsage: There are more than two landscapes, their grids differ, or one has no such field.

        Example:
            >>> import lossatlas
            >>> same = lossatlas.compare(["docs/surfaces/interpolation.h5"] * 2).difference()
            >>> float(same.values.max()), float(same.standard_error.max())
            (0.0, 0.0)
        """
        if len(self.landscapes) != 2:
            raise BadUsage(f"a difference is of two landscapes, and these are {len(self.landscapes)}: compare two")
        (a, field), (b, other) = self._find(name)
        if not a.grid.matches(b.grid):
            raise BadUsage(
                f"a difference needs two landscapes on one grid: {self.labels[0]} is on {a.grid}, {self.labels[1]} on "
                f"{b.grid}"
            )
        rows = [list(each.request.get("rows", ())) for each in (a, b)]
        if rows[0] != rows[1]:
            raise BadUsage(
                f"a difference needs the same {a.rows_of or 'rows'} in both, in one order: {self.labels[0]} has "
                f"{', '.join(rows[0][:3])}, {self.labels[1]} {', '.join(rows[1][:3])}"
            )
        with np.errstate(invalid="ignore", over="ignore"):
            values = a.fields[field] - b.fields[other]
        of_a, of_b = (summaries.field_standard_errors(*each) for each in ((a, field), (b, other)))
        error = None if of_a is None or of_b is None else np.hypot(of_a, of_b)
        return Difference(a.grid.x, a.grid.y, values, error, field, self.labels)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.labels)}: {', '.join(self.fields)}>"

    def _repr_html_(self) -> str:
        from lossatlas.figures.matplotlib_style import OffscreenFigures
        from lossatlas.figures.thumbnails import png_of

        try:
            picture = png_of(self._figure(OffscreenFigures(), "", {}))
        except BadUsage:  # nothing is finite, or a plane has one row
            picture = None
        head, rows = self._rows()
        return summaries.html_of("Comparison", rows, picture, head, width=summaries.WIDE_PICTURE)


def _kind_of(landscape: Landscape) -> str:
    if landscape.rows_of:
        return f"curves of {landscape.rows_of}"
    return "a line" if landscape.grid.y is None else "a plane"


def _measures(surface: Surface, name: str) -> dict[str, Measure]:
    """Return the measures of flatness, where they can be measured."""
    return flatness(surface, name) if summaries.has_flatness(surface, name) else {}


@dataclass(frozen=True, repr=False)
class Difference:
    """The difference of two landscapes, see `Comparison.difference`. numpy takes it as the array of its values.

    Attributes:
        x: (nx,) coordinates along the first direction.
        y: (ny,) coordinates along the second direction; None of a line.
        values: First minus second, (ny, nx) or (nx,).
        standard_error: In the shape of `values`, if errors were independent; None where errors are not known.
        name: Name of the field.
        labels: Names of the two landscapes.

    Example:
        >>> import lossatlas
        >>> names = "resnet56_cifar10", "resnet56_noshort_cifar10"
        >>> difference = lossatlas.compare([f"docs/surfaces/{name}.h5" for name in names]).difference()
        >>> difference.values.shape
        (51, 51)
    """

    x: np.ndarray
    y: np.ndarray | None
    values: np.ndarray
    standard_error: np.ndarray | None
    name: str
    labels: tuple[str, ...]

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Values minus and plus two standard errors; None where errors are not known."""
        if self.standard_error is None:
            return None
        return self.values - 2 * self.standard_error, self.values + 2 * self.standard_error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        finite = self.values[np.isfinite(self.values)]
        spread = f"from {finite.min():.5g} to {finite.max():.5g}" if finite.size else "nowhere finite"
        errors = self.standard_error
        known = errors is not None and np.isfinite(errors).any()
        error = f", standard error up to {np.nanmax(errors):.2g}" if errors is not None and known else ""
        return f"<Difference of {self.name}, {self.labels[0]} - {self.labels[1]}: {spread}{error}>"

    @with_keywords(ContourKeywords)
    def plot(self, **keywords: Unpack[ContourKeywords]) -> "Figure":
        """Draw the difference: a line with its band of two standard errors, a plane from blue below zero to red above.

        Args:
            **keywords: As of `Landscape.plot` for a heat map, or a curve.

        Returns:
            The figure.

        Raises:
            BadUsage: A keyword does not apply, or nothing is finite.
        """
        from lossatlas.figures.comparison_plots import difference_figure
        from lossatlas.figures.matplotlib_style import pyplot

        options = PlotOptions.of(Kind.CURVE if self.y is None else Kind.HEAT, keywords)
        errors = {} if self.standard_error is None else {f"{self.name}_se": self.standard_error}
        done = ~np.isnan(self.values)
        surface = Surface(Grid(self.x, self.y), done, values={self.name: self.values, **errors})
        label = f"{field_title(self.name)}: {self.labels[0]} - {self.labels[1]}"
        return difference_figure(pyplot(), surface, self.name, label, options)
