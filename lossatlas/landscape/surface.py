"""A loss surface: a grid, statistics and fields at its cells, which cells are done, and where they came from.

Cells are numbered row by row: cell j * nx + i is the point (x[i], y[j]). Arrays have shape (ny, nx), (nx,) for a curve,
or (nz, ny, nx) for a volume, whose planes are numbered one after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from lossatlas.argument_checks import checked_number
from lossatlas.errors import BadUsage
from lossatlas.landscape.control_variates import Samples
from lossatlas.landscape.grid import Grid, refinement
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.landscape.statistics import STATISTICS, estimates, summarize
from lossatlas.landscape.tolerance import Tolerance

SAME_PLANE = 1e-9  # of the range of a volume's z axis
LOW_PRECISION = "draft of "  # prefix of a split in lower precision, a control variate of the split itself


@dataclass(frozen=True)
class Surface:
    """Immutable values and records on a grid; `with_cells` returns a new surface.

    Attributes:
        grid: The grid.
        done: Which cells are computed; NaN and infinity are values.
        statistics: For each split, sums by name, float64 arrays of the grid's shape; see STATISTICS.
        values: Fields that are stored as such: eigenvalues, or the fields of a file that records no statistics.
        foreign: Which cells were imported from a file without provenance, or None.
        populations: The number of samples of each split.
        plan: The execution plan, which decides the last digits.
        request: The configuration that was asked for.
        about: Metadata: where the surface came from.
        provenance: Arrays of the grid's shape: `seconds` of each cell, and `computed_by`, a number in the list of that
            name in `about`, or -1.
        samples: In multilevel sampling, for each split and cell the losses and metrics of the samples that it has
            drawn, (n,) each; see `sample_count`.
        predicted: For each field, predictions for the cells that are not computed, NaN elsewhere; see
            `cell_prediction`.

    Example:
        >>> surface = Surface.of_values(Grid(np.linspace(0, 1, 3)), ["max_eig"])
        >>> surface.with_cells([1], np.array([[4.0]])).fields["max_eig"]
        array([nan,  4., nan])
    """

    grid: Grid
    done: np.ndarray
    statistics: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    foreign: np.ndarray | None = None
    populations: Mapping[str, int] = field(default_factory=dict)
    plan: ExecutionPlan = field(default_factory=ExecutionPlan)
    request: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, np.ndarray] = field(default_factory=dict)
    samples: Mapping[str, Sequence[Samples]] = field(default_factory=dict)
    predicted: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_values(cls, grid: Grid, names: Sequence[str], **attributes: Any) -> "Surface":
        """Return a surface with nothing computed, whose fields are stored as such.

        Args:
            grid: The grid.
            names: Names of the fields.
            **attributes: Further attributes of the surface.
        """
        return cls(
            grid, np.zeros(grid.shape, bool), values={name: np.full(grid.shape, np.nan) for name in names}, **attributes
        )

    @classmethod
    def empty(
        cls,
        grid: Grid,
        populations: Mapping[str, int],
        metrics: Sequence[str],
        *,
        multilevel: bool = False,
        **attributes: Any,
    ) -> "Surface":
        """Return a surface with nothing computed.

        Args:
            grid: The grid.
            populations: The number of samples of each split.
            metrics: Names of the metrics of the loss.
            multilevel: Cells serve each other as control variates, so that their samples are stored.
            **attributes: Further attributes of the surface.
        """
        names = (*STATISTICS, *metrics, *(estimates(metrics) if multilevel else ()))
        statistics = {split: {name: np.full(grid.shape, np.nan) for name in names} for split in populations}
        samples: dict[str, Sequence[Samples]] = {split: [{}] * grid.size for split in populations} if multilevel else {}
        done = np.zeros(grid.shape, bool)
        return cls(grid, done, statistics, populations=dict(populations), samples=samples, **attributes)

    @property
    def splits(self) -> list[str]:
        """The names of the splits, without those in low precision."""
        return [split for split in self.statistics if not split.startswith(LOW_PRECISION)]

    @property
    def interpolated(self) -> np.ndarray:
        """Mask of the cells that are predicted from their neighbours instead of computed."""
        found = [np.isfinite(array) for array in self.predicted.values()]
        return np.logical_or.reduce(found) & ~self.done if found else np.zeros(self.grid.shape, bool)

    @property
    def known(self) -> np.ndarray:
        """Mask of the cells that have values, computed or predicted."""
        return self.done | self.interpolated

    @property
    def hierarchy(self) -> Hierarchy:
        """The levels of the cells."""
        return Hierarchy(self.grid, rows=bool(self.rows_of))

    def pending(self, tolerance: Tolerance | None = None) -> np.ndarray:
        """Return the cells to compute, coarse sub-grids first: not done, or with too large a standard error.

        All cells that the plan puts into one call are returned together. In multilevel sampling, cells of coarse levels
        have to be more accurate.

        Args:
            tolerance: The tolerance; by default all samples are needed.
        """
        unfinished_cells, hierarchy = ~self.known, self.hierarchy if self.samples else None
        limit: float | np.ndarray = 1.0
        if hierarchy is not None:
            limit = hierarchy.shares[hierarchy.level].reshape(self.grid.shape) * (1 + 1e-9)
        for split in self.splits:
            statistics = self.statistics[split]
            unfinished_cells |= self.done & (
                (tolerance or Tolerance()).excess(statistics, self.populations[split], limit) > 1
            )
        if hierarchy is not None:
            return hierarchy.order(np.flatnonzero(unfinished_cells))
        order = self.grid.coarse_first()
        unfinished, call_size = unfinished_cells.ravel()[order], self.plan.get("points_per_call", 0) or 1
        return order[
            np.repeat(np.logical_or.reduceat(unfinished, np.arange(0, len(order), call_size)), call_size)[: len(order)]
        ]

    @property
    def rows_of(self) -> str:
        """'repeats' or 'layers' where rows are curves of their own, named by request['rows']; '' for a plane."""
        return str(self.request.get("rows_of", ""))

    @property
    def is_chart(self) -> bool:
        """True if the cells lie on a chart along a training path instead of a plane, see `chart_cells`."""
        return "chart" in self.request

    def curve(self, k: int) -> "Surface":
        """Return the k-th row as a curve."""
        rows = list(self.request["rows"])
        request = {name: value for name, value in self.request.items() if name not in ("rows", "rows_of")}
        return self._part(k, Grid(self.grid.x), request={**request, "directions": rows[k]})

    def plane_at(self, z: float) -> Self:
        """Return one plane of a volume.

        Args:
            z: The coordinate of the plane, one of those of the grid.

        Returns:
            The surface over x and y. The networks on the plane through the origin stay marked on it alone.

        Raises:
            BadUsage: This is no volume, or it has no plane at this coordinate; the message names the nearest one.
        """
        z = checked_number("z", z)
        if self.grid.z is None:
            raise BadUsage(f"z = {z:g}: this is no volume, and has no third axis")
        k = int(np.abs(self.grid.z - z).argmin())
        found = float(self.grid.z[k])
        if not abs(found - z) <= SAME_PLANE * max(float(np.ptp(self.grid.z)), abs(found)):
            raise BadUsage(f"z = {z:g}: the volume has no plane there; the nearest is at {found:.6g}")
        request = {name: value for name, value in self.request.items() if name != "directions"}
        of_centre = ("networks", "second_derivatives")
        about = {name: value for name, value in self.about.items() if found == 0 or name not in of_centre}
        plane = Grid(self.grid.x, self.grid.y)
        return self._part(k, plane, request={**request, "plane_of_volume": found}, about=about)

    def _part(self, k: int, grid: Grid, **attributes: Any) -> Self:
        """Return the k-th part along the first axis of the arrays, on its own grid and with other attributes."""
        size = grid.size
        return replace(
            self,
            grid=grid,
            done=self.done[k],
            statistics={s: {n: array[k] for n, array in arrays.items()} for s, arrays in self.statistics.items()},
            values={name: array[k] for name, array in self.values.items()},
            samples={s: cells[k * size : (k + 1) * size] for s, cells in self.samples.items()},
            predicted={name: array[k] for name, array in self.predicted.items()},
            foreign=None if self.foreign is None else self.foreign[k],
            provenance={name: array[k] for name, array in self.provenance.items()},
            **attributes,
        )

    def complete_part(self) -> tuple[np.ndarray, ...]:
        """Return the rows and columns of the finest sub-grid whose cells are all known, to draw an unfinished surface.

        All of them when the surface is complete; at least the bounding rows and columns.
        """
        levels = [refinement(n) for n in self.grid.shape]
        for finest in range(max(int(level.max()) for level in levels), -1, -1):
            chosen = [np.flatnonzero(level <= finest) for level in levels]
            if self.known[np.ix_(*chosen)].all():
                return tuple(chosen)
        return tuple(np.flatnonzero(level <= 0) for level in levels)

    @property
    def fields(self) -> dict[str, np.ndarray]:
        """Every field by name, of the grid's shape, NaN where a cell is not known."""
        result = dict(self.values)
        for split in self.splits:
            statistics = self.statistics[split]
            for name, value in summarize(statistics, self.populations[split]).items():
                old = self.values.get(f"{split}_{name}")
                if self.foreign is not None and old is not None:
                    value = np.where(self.foreign, old, value)
                result[f"{split}_{name}"] = value
        nothing, left_out = np.full(self.grid.shape, np.nan), self.interpolated
        return {
            name: np.where(self.done, value, np.where(left_out, self.predicted.get(name, nothing), np.nan))
            for name, value in result.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a field by its name, an array of the grid's shape.

        Raises:
            BadUsage: There is no such field; the message lists the fields.
        """
        fields = self.fields
        if name not in fields:
            raise BadUsage(f"there is no field {name!r}: choose from {', '.join(fields)}")
        return fields[name]

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def with_cells(
        self, cells: Sequence[int], rows: np.ndarray, samples: Sequence[Sequence[Samples]] = ()
    ) -> "Surface":
        """Return the surface with further computed cells.

        Args:
            cells: Numbers of the cells.
            rows: (cells, splits, statistics), in the order of `statistics`; without statistics (cells, fields), in the
                order of `values`.
            samples: For each cell and split the samples, in multilevel sampling.
        """
        done, statistics, values = self.done.copy(), {}, dict(self.values)
        all_samples: dict[str, list[Samples]] = {split: list(of_cells) for split, of_cells in self.samples.items()}
        for k, of_cells in enumerate(all_samples.values()):
            for cell, own in zip(cells, samples, strict=True):
                of_cells[cell] = own[k]
        places = np.asarray(cells, dtype=np.intp)  # numpy 1.26 takes no range as an index of `flat`
        done.flat[places] = True
        if not self.statistics:
            for column, (name, array) in enumerate(self.values.items()):
                values[name] = array.copy()
                values[name].flat[places] = rows[:, column]
        for k, (split, arrays) in enumerate(self.statistics.items()):
            statistics[split] = {name: array.copy() for name, array in arrays.items()}
            for column, array in enumerate(statistics[split].values()):
                array.flat[places] = rows[:, k, column]
        return replace(self, done=done, statistics=statistics, values=values, samples=all_samples)

    def computed(self, blocks: Sequence[tuple[Sequence[int], str, float]]) -> "Surface":
        """Return the surface with provenance of some blocks.

        Args:
            blocks: Cells, the name of the rank that computed them, and the seconds that they took together.
        """
        names = list(self.about.get("computed_by", []))
        new = {"seconds": np.full(self.grid.shape, np.nan), "computed_by": np.full(self.grid.shape, -1, np.int32)}
        new |= {name: array.copy() for name, array in self.provenance.items()}
        for cells, who, seconds in blocks:
            names += [who] * (who not in names)
            places = np.asarray(cells, dtype=np.intp)
            new["seconds"].flat[places] = seconds / max(1, len(places))
            new["computed_by"].flat[places] = names.index(who)
        return replace(self, provenance=new, about={**self.about, "computed_by": names})


def unresolved(surface: Surface, name: str) -> np.ndarray:
    """Return where an eigenvalue is not resolved.

    The larger of its residual and its distance to the recorded bound (beyond which there is no eigenvalue) is compared
    with the tolerance and with rounding errors. A file without bounds does not tell whether a value is the extreme one,
    so that none of its cells is resolved. In a file of the original release, which has no residuals, no cell is marked.

    Args:
        surface: The surface.
        name: The field of the eigenvalue, such as 'max_eig'.

    Returns:
        Bool array of the grid's shape.

    Example:
        >>> from lossatlas.io import read_surface
        >>> bool(unresolved(read_surface("docs/surfaces/eigen.h5"), "max_eig").any())
        False
    """
    fields = surface.fields
    if f"{name}_residual" not in fields:
        return np.zeros(surface.grid.shape, bool)
    if f"{name}_bound" not in fields:
        return surface.done.copy()
    rounding = 1e-14 if surface.plan.get("precision") == "float64" else 2e-6
    largest = np.max([np.abs(fields[each]) for each in fields if each.endswith("_eig")], axis=0)
    tolerance = surface.request.get("tolerance")
    tolerance = tolerance if isinstance(tolerance, int | float) else 0.0  # without a tolerance nothing is resolved
    allowed = np.maximum(tolerance * np.abs(fields[name]), rounding * largest)
    left = np.maximum(fields[f"{name}_residual"], np.abs(fields[f"{name}_bound"] - fields[name]))
    return left > allowed * (1 + 1e-9)
