"""A surface that can be drawn, shown and saved, and how one is read from its file."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, Self, Unpack

import numpy as np

from lossatlas.argument_checks import checked_number
from lossatlas.choices import FilmKind, PlotKind
from lossatlas.errors import BadInput, BadUsage
from lossatlas.figures.film import FilmKeywords
from lossatlas.figures.plot_options import PlotKeywords, with_keywords
from lossatlas.io import Directions, Projection, read_directions, read_surface
from lossatlas.io.surface_files import split_plane
from lossatlas.landscape import Surface
from lossatlas.landscape.derived_fields import Field, resolved_field
from lossatlas.landscape.flatness_measures import Measure, flatness
from lossatlas.landscape.repeats import flatness_of_repeats
from lossatlas.landscape.topology import PlacedMinimum, minima
from lossatlas.results import exports, summaries

if TYPE_CHECKING:
    import pandas
    import xarray

    from lossatlas.figures.matplotlib_style import Axes, Figure
    from lossatlas.parameter_space import Point
    from lossatlas.viewer import Page


class RunInPlane(Protocol):
    """A training run with its plane, as `lossatlas.trajectory` returns it."""

    @property
    def plane(self) -> "tuple[Point, Point] | tuple[()]":
        """The two directions; none on a chart."""

    @property
    def projection(self) -> Projection:
        """The path in the plane."""


def read(file: str | Path) -> "Landscape":
    """Read a surface file of this library, of the commands or of the original release, without torch.

    Args:
        file: The path of the file; 'FILE.h5:z=Z' reads one plane of a volume.

    Returns:
        The surface; its `directions` are None where their file is missing.

    Raises:
        BadInput: The file is missing, damaged, or no surface file.
        BadUsage: It is one of another format, as `Landscape.save` writes them too.

    Example:
        >>> import tempfile, torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> surface = lossatlas.surface(net, data, x="-1:1:3", progress=False)
        >>> file = f"{tempfile.mkdtemp()}/surface.h5"
        >>> surface.save(file)
        >>> lossatlas.read(file).loss.tolist() == surface.loss.tolist()
        True
    """
    if str(file).endswith((".npz", ".nc")):
        other = "numpy.load" if str(file).endswith(".npz") else "xarray.open_dataset"
        raise BadUsage(f"{file}: read() reads .h5 files; {other} reads this one")
    path, z = split_plane(file)
    surface = read_surface(path)
    try:
        directions = read_directions(path)
    except BadInput:  # they are not needed for drawing
        directions = None
    found = Landscape.of(surface, directions)
    return found if z is None else found.plane_at(z)


@dataclass(frozen=True, repr=False)
class Landscape(Surface):
    """A surface that can be drawn and saved.

    `fields` holds values by name, (ny, nx), (nx,) or (nz, ny, nx), on `grid`, and `surface["train_loss"]` is one of
    them; `done` is the mask of the computed cells. A notebook shows a picture and key numbers.

    Attributes:
        directions: Directions of the axes; None where they are not known.

    Example:
        >>> import lossatlas
        >>> s = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
        >>> s["train_loss"].shape, round(float(s.loss.min()), 4)
        ((51, 51), 0.0006)
    """

    directions: Directions | None = None

    @classmethod
    def of(cls, surface: Surface, directions: Directions | None) -> "Landscape":
        """Make a landscape of a surface and its directions."""
        return cls(**{f.name: getattr(surface, f.name) for f in fields(Surface)}, directions=directions)

    @property
    def x(self) -> np.ndarray:
        """(nx,) coordinates along the first direction."""
        return self.grid.x

    @property
    def y(self) -> np.ndarray | None:
        """(ny,) coordinates along the second direction; None of a curve."""
        return self.grid.y

    @property
    def z(self) -> np.ndarray | None:
        """(nz,) coordinates along the third direction; None of a curve or a plane."""
        return self.grid.z

    def plane_at(self, z: float) -> Self:
        """Return one plane of a volume, as `FILE.h5:z=Z` does for the commands.

        Args:
            z: The coordinate of the plane, one of those in `z`.

        Returns:
            The landscape over x and y at this z.

        Raises:
            BadUsage: This is no volume, or it has no plane at this coordinate; the message names the nearest one.

        Example:
            >>> import torch, lossatlas
            >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
            <torch._C.Generator object at ...>
            >>> net = torch.nn.Linear(2, 2)
            >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
            >>> volume = lossatlas.surface(net, data, x="-1:1:3", y="-1:1:3", z="-1:1:3", progress=False)
            >>> volume.loss.shape, volume.plane_at(0).loss.shape
            ((3, 3, 3), (3, 3))
        """
        plane = super().plane_at(z)
        return plane if self.directions is None else replace(plane, directions=self.directions.first(2))

    @property
    def loss(self) -> np.ndarray:
        """Training loss, (ny, nx), (nx,) of a curve, or (nz, ny, nx) of a volume."""
        return self.fields["train_loss"]

    @with_keywords(PlotKeywords)
    def plot(self, ax: "Axes | None" = None, kind: PlotKind | str = "", **keywords: Unpack[PlotKeywords]) -> "Figure":
        """Draw the landscape with matplotlib: a curve, contours, or slices of a volume.

        Args:
            ax: Axes to draw on, of which no text and no font changes; None makes a figure.
            kind: "curve", "contour", "filled", "heat", "solid" or "slices"; by default a curve, contours of a plane, or
                slices of a volume.
            **keywords: name, field, look, cmap, colours, title, levels, vmin, vmax, vlevel, log, colorbar, elev, azim,
                zlim, figsize, columns, and looks of a curve, see `lossatlas.figures.plot`.

        Returns:
            The figure.

        Raises:
            BadUsage: A keyword is unknown, or does not suit the landscape.

        Example:
            >>> import lossatlas
            >>> s = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
            >>> fig = s.plot(kind="filled", field="log10(train_loss)", cmap="magma", vmax=1)
        """
        from lossatlas import figures

        return figures.plot(self, ax, kind, **keywords)

    def __repr__(self) -> str:
        names = ", ".join(self.fields)
        interpolated = f", {self.interpolated.sum()} interpolated" if self.interpolated.any() else ""
        return (
            f"<Landscape on {self.grid}, {int(self.done.sum())} of {self.grid.size} cells done{interpolated}: {names}>"
        )

    def _repr_html_(self) -> str:
        from lossatlas.figures.thumbnails import surface_picture

        return summaries.html_of(
            "Landscape", summaries.surface_rows(self, self.directions_about), surface_picture(self)
        )

    def view(
        self,
        *,
        height: int = 700,
        file: str | Path | None = None,
        title: str = "",
        story: str | Path | None = None,
        vmax: float | None = None,
    ) -> "Page":
        """Make the interactive page: turn the surface, read it off, let optimizers descend on it.

        Args:
            height: Height of its frame in a notebook, in pixels.
            file: File to write as well, which ends in .html.
            title: Title of the page.
            story: Markdown file of steps that explain the page; by default it tells what it shows.
            vmax: Top of the scale of the field that is shown first: what lies above it is drawn as a flat grey lid. By
                default the largest value, but at most 100 times the median.

        Returns:
            The page, which a notebook shows; `.save(file)` writes it, `.open()` opens it in the usual browser.

        Raises:
            BadInput: The story cannot be read.
            BadUsage: A page cannot show the surface, or an argument cannot be used.
            CannotWrite: The file cannot be written.

        Example:
            >>> import lossatlas
            >>> page = lossatlas.read("docs/surfaces/resnet56_cifar10.h5").view(title="ResNet-56")
            >>> page.labels
            ('ResNet-56',)
        """
        from lossatlas.viewer import Page, Shown
        from lossatlas.viewer.notebook import check_showable, flatness_in_words

        label = title or str(self.request.get("model") or "surface")
        check_showable(self, label)
        return Page.of(
            [Shown(self, label, self.directions_about, flatness=flatness_in_words(self))],
            title=title,
            height=height,
            file=file,
            story=story,
            vmax=vmax,
        )

    def table(self, field: Field | None = None) -> str:
        """Describe the landscape in a few lines: grid, cells, samples, centre, minimum and flatness.

        Args:
            field: Field whose flatness is measured, see `plot`; by default train_loss, or the first one.

        Returns:
            Lines of text; flatness is left out where it cannot be measured, as of a single point or of repeats.

        Raises:
            BadUsage: There is no such field.
        """
        from lossatlas.figures.text_tables import align_columns

        surface, name = self._find(field)
        rows = summaries.surface_rows(surface, self.directions_about, [] if field is None else [name])
        measures = flatness(surface, name) if summaries.has_flatness(surface, name) else {}
        rows += [(label, str(each)) for label, each in list(measures.items())[2:]]  # centre and lowest cell are there
        return "\n".join(align_columns(rows))

    def flatness(self, field: Field | None = None, within: float | None = None) -> dict[str, Measure]:
        """Measure how flat a field is around its centre, as the command `flatness` does.

        Args:
            field: Field to measure, see `plot`; by default train_loss, or the first one.
            within: Measure as well how far from the centre the field stays within this percentage of its value there:
                until a loss has risen by it, or a score (any other field) has fallen by it.

        Returns:
            Measures by description: curvature along the axes, radii below levels, shares of the plane, a barrier; each
            with `value`, `error` (of interpolated cells) and `bound` (the value is a lower bound). Of repeated lines
            they are means over the directions, with `confidence`, half of the 95 % confidence interval.

        Raises:
            BadUsage: There is no such field, it has no finite value, or the grid is too small; the value at the centre
                is 0 where `within` is given; or the rows are lines of layers.

        Example:
            >>> import lossatlas
            >>> s = lossatlas.read("docs/surfaces/resnet56_fashion.h5")
            >>> print(s.flatness()["radius below +0.5, mean"])
            0.4542
            >>> print(s.flatness("train_acc", within=5)["radius within -5 %, smallest"])
            0.26
        """
        if self.rows_of == "repeats":
            return flatness_of_repeats(*self._find(field), within)
        self._check_rows("flatness()")
        self._check_plane("flatness()")
        return flatness(*self._find(field), within)

    def minima(self, field: Field | None = None, depth: float = 0.0) -> list[PlacedMinimum]:
        """Find the local minima among the computed cells, the deepest first, as the command `minima` does.

        Args:
            field: Field, see `plot`; by default train_loss, or the first one.
            depth: Leave out minima that are not deeper, in units of the field.

        Returns:
            Minima with `x`, `y`, `z`, `value`, `depth` (the persistence: how far a path to a lower one has to climb)
            and `end` (the level at which it gets there; infinite for the lowest one).

        Raises:
            BadUsage: There is no such field.
        """
        self._check_rows("minima()")
        surface, name = self._find(field)
        checked_number("depth", depth, least=0)
        return [PlacedMinimum.of(each, surface) for each in minima(surface, name) if each.depth > depth]

    def _holds_plane_of(self, trajectory: "RunInPlane") -> bool:
        """Tell whether the directions are the axes of a trajectory's plane, tensor by tensor; True if unknown."""
        if self.is_chart or not trajectory.plane:
            return self.request.get("directions") == trajectory.projection.plane
        if self.directions is None or self.directions.y is None or "tensors" not in self.directions.extra:
            return True
        names = [name.decode() for name in self.directions.extra["tensors"]]
        axes = zip((self.directions.x, self.directions.y), trajectory.plane, strict=True)
        return all(
            len(arrays) == len(names) == len(point)
            and all(
                name in point and np.array_equal(array, point[name].numpy())
                for name, array in zip(names, arrays, strict=True)
            )
            for arrays, point in axes
        )

    @property
    def directions_about(self) -> dict[str, object]:
        """Metadata of the directions; empty where they are not known."""
        return {} if self.directions is None else dict(self.directions.about)

    def __getattr__(self, name: str) -> NoReturn:
        known = self.fields if "values" in self.__dict__ and name != "fields" else ()  # not while it is being made
        hint = f': write surface["{name}"]' if name in known else ""
        raise AttributeError(f"a landscape has no attribute '{name}'{hint}")

    def _find(self, field: Field | None) -> tuple[Surface, str]:
        """Return a surface that holds a field, and the name of the field."""
        from lossatlas.figures.plotted_fields import default_field

        return resolved_field(self, default_field(self) if field is None else field)

    def _check_plane(self, function: str) -> None:
        if self.grid.z is not None:
            raise BadUsage(
                f"{function} needs a line or a plane, and this is a volume: take one of its planes, as in "
                f".plane_at({self.grid.z[len(self.grid.z) // 2]:.6g}).{function}"
            )

    def _check_rows(self, function: str) -> None:
        if self.rows_of:
            raise BadUsage(
                f"{function} needs a line or a plane, and this holds {len(self.done)} curves of {self.rows_of}"
            )

    def to_xarray(self) -> "xarray.Dataset":
        """Convert to a Dataset with a variable for each field over the coordinates z, y and x, as far as there are.

        Returns:
            The Dataset, with `long_name` and `units` in the attributes.

        Raises:
            BadUsage: xarray is not installed.
        """
        return exports.dataset(self)

    def to_dataframe(self) -> "pandas.DataFrame":
        """Convert to a table with one row for each cell: x, y, z (as far as there are), the fields and `done`.

        Returns:
            The table.

        Raises:
            BadUsage: pandas is not installed.
        """
        return exports.dataframe(self)

    def film(
        self,
        path: str | Path,
        kind: FilmKind | str = "turn",
        *,
        field: Field | None = None,
        trajectory: "RunInPlane | None" = None,
        frames: int | None = None,
        fps: float | None = None,
        dpi: int = 90,
        **keywords: Unpack[FilmKeywords],
    ) -> Path:
        """Write a film of a plane as GIF, MP4 or WebM, as the command `animate` does.

        Args:
            path: File that ends in .gif, or in .mp4 or .webm where ffmpeg is installed.
            kind: "turn": the surface turns; "path": a training run moves over it; "refine": its cells appear in the
                order in which they are computed.
            field: Field to show, see `plot`.
            trajectory: The training run of kind="path", or one to draw on a turning surface; both lie in one plane.
            frames: Number of frames; by default 60, 90 or 24.
            fps: Frames per second; by default 15, or 4 for "refine".
            dpi: Dots per inch of each frame.
            **keywords: look, cmap, colours, vmin, vmax, vlevel, levels, log, elev, azim and zlim, see `plot`.

        Returns:
            The file.

        Raises:
            BadUsage: The landscape is no plane, or an argument cannot be used.
            CannotWrite: The file cannot be written.
        """
        from lossatlas.figures.film import write_film

        run = None if trajectory is None else trajectory.projection
        if trajectory is not None and not self._holds_plane_of(trajectory):
            raise BadUsage(
                "the trajectory is in another plane than this surface: give that of lossatlas.trajectory(...).surface"
            )
        return write_film(
            Path(path), self, kind, field=field, run=run, frames=frames, fps=fps, dpi=dpi, keywords=keywords
        )

    def save(self, file: str | Path) -> None:
        """Write the landscape to a file, in the format that its ending says.

        Args:
            file: A name that ends in .h5 or .hdf5 (with the directions; `lossatlas.read` and the commands read it),
                .npz (arrays that `numpy.load` reads), or .nc (netCDF, needs xarray and netCDF4 or h5netcdf).

        Raises:
            BadUsage: The ending is another one, or a package is not installed.
            CannotWrite: The file cannot be written; a previous one is unchanged.
        """
        exports.save_surface(file, self, self.directions)
