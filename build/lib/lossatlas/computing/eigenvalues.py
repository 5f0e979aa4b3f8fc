"""The extreme eigenvalues of the Hessian over a grid: the work of a block of cells."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from lossatlas.errors import BadUsage
from lossatlas.hessian.hvp import Hessian
from lossatlas.hessian.lanczos import NotFinite, lanczos
from lossatlas.landscape.grid import Grid
from lossatlas.space.planes import Plane

# The bounds: no eigenvalue is larger, or smaller, but for a probability of 1e-3 at each cell (see hessian.lanczos).
FIELDS = (
    "max_eig",
    "min_eig",
    "max_eig_residual",
    "min_eig_residual",
    "max_eig_bound",
    "min_eig_bound",
    "products",
)


def work_of(
    grid: Grid, operator: Hessian, plane: Plane, *, tolerance: float, most: int = 300, seed: int = 0
) -> Callable[[Sequence[int]], tuple[np.ndarray, str]]:
    """The function from cells to rows in the order of FIELDS, and a note. Each cell starts from nothing: see lanczos."""

    def work(cells: Sequence[int]) -> tuple[np.ndarray, str]:
        rows, notes = [], []
        for cell in cells:
            point = grid.point(cell)
            where = f"({point[0]:.4g}, {point[1]:.4g})"
            if clamped := operator.place(plane.point(*point)):
                notes.append(f"{clamped} BatchNorm variances were negative at {where}, set to zero")
            try:
                found = lanczos(operator, top=1, bottom=1, tolerance=tolerance, most=most, seed=seed)
            except NotFinite:
                rows.append([np.nan] * len(FIELDS))
                notes.append(f"the Hessian is not finite at {where}")
                continue
            except torch.cuda.OutOfMemoryError as error:
                raise BadUsage(f"a batch of {operator.batch_size} does not fit into the memory of {operator.device}: "
                               "use a smaller --batch_size with --force") from error  # fmt: skip
            low, high = found.bounds
            rows.append([found.values[0], found.values[-1], found.residuals[0], found.residuals[-1], high, low,
                         found.products])  # fmt: skip
        return np.array(rows), "; ".join(notes)

    return work
