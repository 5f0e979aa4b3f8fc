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
    found = pools(values, done)
    if done.all() or not (known & ~done).any():
        return found
    return [replace(each, error=error_at(each, values, errors)) for each in found]


def error_at(found: Minimum, values: np.ndarray, errors: np.ndarray) -> float:
    """The largest error of the cells that may be the pass: those whose value is within their error of its level."""
    if not np.isfinite(found.end):
        return 0.0
    near = np.abs(values - found.end) <= errors
    return float("nan") if np.isnan(errors).any() else float(np.max(errors[near], initial=0.0))


def pools(values: np.ndarray, computed: np.ndarray | None = None) -> list[Minimum]:
    """The same of an array (ny, nx); NaN and infinities are no part of it. computed: which cells can be minima."""
    ny, nx = values.shape
    flat = values.ravel()
    can_begin = np.ones(flat.size, bool) if computed is None else computed.ravel()
    known = np.flatnonzero(np.isfinite(flat))
    owner = np.full(flat.size, -1)  # of each cell that is under water: a cell of its pool, up to the pool's first one
    ends: dict[
        int, tuple[float, int | None, int | None]
    ] = {}  # by first cell: level, saddle, first cell of the other pool

    def first_of(cell: int) -> int:
        while owner[cell] != cell:
            owner[cell] = owner[owner[cell]]
            cell = owner[cell]
        return int(cell)

    for cell in known[np.argsort(flat[known], kind="stable")].tolist():
        j, i = divmod(cell, nx)
        beside = [
            cell + step
            for step, there in ((-nx, j > 0), (nx, j < ny - 1), (-1, i > 0), (1, i < nx - 1))
            if there and owner[cell + step] >= 0
        ]
        around = sorted(
            {first_of(other) for other in beside}, key=lambda first: (first not in ends, flat[first], first)
        )
        owner[cell] = cell
        begins = can_begin[cell] and not (around and around[0] in ends)  # others hold no computed cell yet
        if begins:
            ends[cell] = (np.inf, None, None)
        first = cell if begins or not around else around[0]
        for other in {cell, *around} - {first}:
            if other in ends:
                ends[other] = (float(flat[cell]), cell, first)
            owner[other] = first
    found = {first: end for first, end in ends.items() if end[0] > flat[first]}  # on a plateau nothing is born
    order = sorted(found, key=lambda first: (-(found[first][0] - flat[first]), flat[first], first))
    number = {first: k for k, first in enumerate(order)}

    def place_of(first: int | None) -> int | None:
        while first is not None and first not in number:
            first = ends[first][2]
        return None if first is None else number[first]

    return [
        Minimum(first, float(flat[first]), found[first][0], found[first][1], place_of(found[first][2]))
        for first in order
    ]
