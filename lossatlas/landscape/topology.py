"""The minima of a saved surface, and how deep each is: the merge tree of its sublevel sets.

As a level rises, each minimum is born as a pool of its own; where two pools meet, the shallower one ends (the elder rule,
Edelsbrunner and Harer, Computational Topology, 2010, section VII). Cells are neighbours along the axes. A cell that is not known
belongs to no pool.
"""

from dataclasses import dataclass

import numpy as np

from lossatlas.landscape.surface import Surface


@dataclass(frozen=True)
class Minimum:
    """A pool: where it begins, and where and into which other it ends.

    cell: its number in the grid (row-major). value: of the cell. end: the level at which it meets a deeper one, infinite for one
    that meets none. saddle: the cell where it does. parent: the number, in the list of all, of the pool that it becomes part of.
    """

    cell: int
    value: float
    end: float
    saddle: int | None
    parent: int | None

    @property
    def depth(self) -> float:
        """Its persistence."""
        return self.end - self.value


def minima(surface: Surface, name: str = "train_loss") -> list[Minimum]:
    """The minima of a field of a plane or a line, the deepest pool first."""
    return pools(np.atleast_2d(np.where(surface.known, surface.fields[name], np.nan)))


def pools(values: np.ndarray) -> list[Minimum]:
    """The same of an array (ny, nx); NaN and infinities are no part of it."""
    ny, nx = values.shape
    flat = values.ravel()
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
        around = sorted({first_of(other) for other in beside}, key=lambda first: (flat[first], first))
        owner[cell] = around[0] if around else cell
        if not around:
            ends[cell] = (np.inf, None, None)
        for younger in around[1:]:
            ends[younger] = (float(flat[cell]), cell, around[0])
            owner[younger] = around[0]
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
