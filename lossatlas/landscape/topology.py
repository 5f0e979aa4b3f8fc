"""The local minima of a saved surface and their persistence: the merge tree of its sublevel sets.

As the level rises, each minimum begins a component of its own; where two components meet at a saddle, the one with the higher
minimum ends (elder rule: Edelsbrunner and Harer, Computational Topology, 2010, section VII). Cells are neighbours along the
axes. An unknown cell belongs to no component. A cell that is interpolated from others is no minimum, but a component may
contain it; the level of a saddle is then known as well as these cells are, since it moves by no more than the values do
(stability, section VIII).
"""

from dataclasses import dataclass, replace

import numpy as np

from lossatlas.landscape.cell_prediction import prediction_errors
from lossatlas.landscape.interpolant import limits
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


def minima(surface: Surface, name: str = "train_loss") -> list[Minimum]:
    """Return the local minima of a field among its computed cells, the most persistent first.

    Args:
        surface: A plane or a line.
        name: The name of the field.
    """
    values, errors = (np.atleast_2d(array) for array in (surface.fields[name], prediction_errors(surface, name)))
    done, known = np.atleast_2d(surface.done), np.atleast_2d(surface.known)
    allowed = limits(values[done & np.isfinite(values)])
    values = np.where(done, values, np.where(known, np.clip(values, *allowed), np.nan))
    found = array_minima(values, done)
    if done.all() or not (known & ~done).any():
        return found
    return [replace(each, error=saddle_error(each, values, errors)) for each in found]


def saddle_error(found: Minimum, values: np.ndarray, errors: np.ndarray) -> float:
    """Return the largest error of the cells that may be the saddle: those whose value is within their error of its level."""
    if not np.isfinite(found.end):
        return 0.0
    near = np.abs(values - found.end) <= errors
    return float("nan") if np.isnan(errors).any() else float(np.max(errors[near], initial=0.0))


def array_minima(values: np.ndarray, computed: np.ndarray | None = None) -> list[Minimum]:
    """Return the local minima of an array, the most persistent first.

    Args:
        values: (ny, nx); NaN and infinities belong to no component.
        computed: Which cells can be minima; all by default.
    """
    ny, nx = values.shape
    flat = values.ravel()
    can_be_minimum = np.ones(flat.size, bool) if computed is None else computed.ravel()
    known = np.flatnonzero(np.isfinite(flat))
    owner = np.full(flat.size, -1)  # of each cell that is under water: a cell of its pool, up to the pool's first one
    merges: dict[
        int, tuple[float, int | None, int | None]
    ] = {}  # by first cell: level, saddle, first cell of the other pool

    def root_of(cell: int) -> int:
        while owner[cell] != cell:
            owner[cell] = owner[owner[cell]]
            cell = owner[cell]
        return int(cell)

    for cell in known[np.argsort(flat[known], kind="stable")].tolist():
        j, i = divmod(cell, nx)
        neighbours = [
            cell + step
            for step, there in ((-nx, j > 0), (nx, j < ny - 1), (-1, i > 0), (1, i < nx - 1))
            if there and owner[cell + step] >= 0
        ]
        components = sorted(
            {root_of(other) for other in neighbours}, key=lambda root: (root not in merges, flat[root], root)
        )
        owner[cell] = cell
        is_minimum = can_be_minimum[cell] and not (
            components and components[0] in merges
        )  # others hold no computed cell yet
        if is_minimum:
            merges[cell] = (np.inf, None, None)
        root = cell if is_minimum or not components else components[0]
        for other in {cell, *components} - {root}:
            if other in merges:
                merges[other] = (float(flat[cell]), cell, root)
            owner[other] = root
    found = {root: end for root, end in merges.items() if end[0] > flat[root]}  # on a plateau nothing is born
    order = sorted(found, key=lambda root: (-(found[root][0] - flat[root]), flat[root], root))
    number = {root: k for k, root in enumerate(order)}

    def parent_of(root: int | None) -> int | None:
        while root is not None and root not in number:
            root = merges[root][2]
        return None if root is None else number[root]

    return [
        Minimum(root, float(flat[root]), found[root][0], found[root][1], parent_of(found[root][2])) for root in order
    ]
