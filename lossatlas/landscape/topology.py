"""The local minima of a saved surface and their persistence: the merge tree of its sublevel sets.

As the level rises, each minimum begins a component of its own; where two components meet at a saddle, the one with the
higher minimum ends (elder rule: Edelsbrunner and Harer, Computational Topology, 2010, section VII). Cells are
neighbours along the axes. An unknown cell belongs to no component. A cell that is interpolated from others is no
minimum, but a component may contain it; the level of a saddle is then known as well as these cells are, since it moves
by no more than the values do (stability, section VIII).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossatlas.landscape.cell_prediction import prediction_errors
from lossatlas.landscape.interpolant import plausible_range
from lossatlas.landscape.surface import Surface


@dataclass(frozen=True)
class Minimum:
    """A local minimum and its component in the merge tree.

    Attributes:
        cell: Its number in the grid (row-major).
        value: Its value.
        end: The level at which its component meets one with a lower minimum; infinite for the global one.
        saddle: The cell where they meet.
        parent: The position, in the list of all minima, of the component that it becomes a part of.
        error: Error bound of `end` due to interpolated cells; NaN where it is not known.
    """

    cell: int
    value: float
    end: float
    saddle: int | None
    parent: int | None
    error: float = 0.0

    @property
    def depth(self) -> float:
        """The persistence: end - value."""
        return self.end - self.value


@dataclass(frozen=True)
class PlacedMinimum(Minimum):
    """A local minimum with its place.

    Attributes:
        x: Coordinate along the first direction.
        y: Coordinate along the second direction, 0 on a line.
        z: Coordinate along the third direction, 0 unless the surface is a volume.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0

    @classmethod
    def of(cls, found: Minimum, surface: Surface) -> "PlacedMinimum":
        """Add the coordinates of a minimum of a surface."""
        at = surface.grid.point(found.cell)
        return cls(found.cell, found.value, found.end, found.saddle, found.parent, found.error, *at)


def minima(surface: Surface, name: str = "train_loss") -> list[Minimum]:
    """Return the local minima of a field among its computed cells, the most persistent first.

    Args:
        surface: A line, a plane or a volume.
        name: The name of the field.
    """
    values, errors = surface.fields[name], prediction_errors(surface, name)
    done, known = surface.done, surface.known
    allowed = plausible_range(values[done & np.isfinite(values)])
    values = np.where(done, values, np.where(known, np.clip(values, *allowed), np.nan))
    found = array_minima(values, done)
    if done.all() or not (known & ~done).any():
        return found
    return [replace(each, error=saddle_error(each, values, errors)) for each in found]


def saddle_error(found: Minimum, values: np.ndarray, errors: np.ndarray) -> float:
    """Return the largest error of the cells that may be the saddle: their value is within their error of its level."""
    if not np.isfinite(found.end):
        return 0.0
    near = np.abs(values - found.end) <= errors
    return float("nan") if np.isnan(errors).any() else float(np.max(errors[near], initial=0.0))


def array_minima(values: np.ndarray, computed: np.ndarray | None = None) -> list[Minimum]:
    """Return the local minima of an array, the most persistent first.

    Args:
        values: (ny, nx), or of any number of axes; NaN and infinities belong to no component.
        computed: Which cells can be minima; all by default.
    """
    tree = MergeTree(values.ravel())
    can_be_minimum = np.ones(values.size, bool) if computed is None else computed.ravel()
    known = np.flatnonzero(np.isfinite(tree.values))
    strides = [(int(np.prod(values.shape[axis + 1 :])), count) for axis, count in enumerate(values.shape)]
    for cell in known[np.argsort(tree.values[known], kind="stable")].tolist():
        neighbours = []
        for stride, count in strides:
            place = cell // stride % count
            neighbours += [cell - stride] * (place > 0) + [cell + stride] * (place < count - 1)
        tree.add(cell, neighbours, can_be_minimum=bool(can_be_minimum[cell]))
    return tree.minima()


@dataclass(frozen=True)
class Merge:
    """The end of a component.

    Attributes:
        level: The level at which it meets another one; infinite for a component that meets none.
        saddle: The cell where they meet.
        root: The minimum of the other component.
    """

    level: float
    saddle: int | None = None
    root: int | None = None


class MergeTree:
    """The merge tree of the sublevel sets of some values, built by adding cells in the order of their values.

    Components are kept in a union-find structure; their roots are their minima. A component without a cell that can be
    a minimum has no entry in `merges`.

    Args:
        values: Values of all cells, (cells,).
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.owner = np.full(values.size, -1)
        self.merges: dict[int, Merge] = {}

    def root_of(self, cell: int) -> int:
        """Return the root of a cell's component, with path compression."""
        owner = self.owner
        while owner[cell] != cell:
            owner[cell] = owner[owner[cell]]
            cell = owner[cell]
        return int(cell)

    def add(self, cell: int, neighbours: Sequence[int], *, can_be_minimum: bool) -> None:
        """Add a cell, which begins a component or merges the components of its neighbours."""
        values, merges = self.values, self.merges
        roots = {self.root_of(other) for other in neighbours if self.owner[other] >= 0}
        components = sorted(roots, key=lambda root: (root not in merges, values[root], root))
        self.owner[cell] = cell
        is_minimum = can_be_minimum and not (components and components[0] in merges)
        if is_minimum:
            merges[cell] = Merge(np.inf)
        root = cell if is_minimum or not components else components[0]
        for other in {cell, *components} - {root}:
            if other in merges:
                merges[other] = Merge(float(values[cell]), cell, root)
            self.owner[other] = root

    def minima(self) -> list[Minimum]:
        """Return all minima with positive persistence, the most persistent first."""
        values = self.values
        found = {root: merge for root, merge in self.merges.items() if merge.level > values[root]}
        order = sorted(found, key=lambda root: (-(found[root].level - values[root]), values[root], root))
        position = {root: k for k, root in enumerate(order)}

        def parent_of(root: int | None) -> int | None:
            while root is not None and root not in position:
                root = self.merges[root].root
            return None if root is None else position[root]

        return [
            Minimum(root, float(values[root]), merge.level, merge.saddle, parent_of(merge.root))
            for root, merge in ((root, found[root]) for root in order)
        ]
