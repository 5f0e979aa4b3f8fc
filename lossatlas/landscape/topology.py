"""The minima of a saved surface, and how deep each is: the merge tree of its sublevel sets.

As a level rises, each minimum is born as a pool of its own; where two pools meet, the shallower one ends (the elder rule,
Edelsbrunner and Harer, Computational Topology, 2010, section VII). Cells are neighbours along the axes. A cell that is not known
belongs to no pool. A cell that is interpolated from others is no minimum, but a pool may pass through it: where pools meet is then
known as well as these cells are, since levels of merging move by no more than the values do (stability, section VIII).
"""

from dataclasses import dataclass, replace

import numpy as np

from lossatlas.landscape.cell_prediction import prediction_errors
from lossatlas.landscape.interpolant import limits
from lossatlas.landscape.surface import Surface


@dataclass(frozen=True)
class Minimum:
    """A pool: where it begins, and where and into which other it ends.

    cell: its number in the grid (row-major). value: of the cell. end: the level at which it meets a deeper one, infinite for one
    that meets none. saddle: the cell where it does. parent: the number, in the list of all, of the pool that it becomes part of.
    error: how far `end` may be off because cells are interpolated; NaN where that is not known.
    """

    cell: int
    value: float
    end: float
    saddle: int | None
    parent: int | None
    error: float = 0.0

    @property
    def depth(self) -> float:
        """Its persistence."""
        return self.end - self.value


def minima(surface: Surface, name: str = "train_loss") -> list[Minimum]:
    """The minima of a field of a plane or a line among its computed cells, the deepest pool first."""
    values, errors = (np.atleast_2d(array) for array in (surface.fields[name], prediction_errors(surface, name)))
    done, known = np.atleast_2d(surface.done), np.atleast_2d(surface.known)
    allowed = limits(values[done & np.isfinite(values)])
    values = np.where(done, values, np.where(known, np.clip(values, *allowed), np.nan))
    found = array_minima(values, done)
    if done.all() or not (known & ~done).any():
        return found
    return [replace(each, error=saddle_error(each, values, errors)) for each in found]


def saddle_error(found: Minimum, values: np.ndarray, errors: np.ndarray) -> float:
    """The largest error of the cells that may be the pass: those whose value is within their error of its level."""
    if not np.isfinite(found.end):
        return 0.0
    near = np.abs(values - found.end) <= errors
    return float("nan") if np.isnan(errors).any() else float(np.max(errors[near], initial=0.0))


def array_minima(values: np.ndarray, computed: np.ndarray | None = None) -> list[Minimum]:
    """The same of an array (ny, nx); NaN and infinities are no part of it. computed: which cells can be minima."""
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
