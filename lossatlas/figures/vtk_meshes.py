"""A surface as polygons."""

import numpy as np


def quadrilaterals(z: np.ndarray) -> np.ndarray:
    """Corner numbers (n, 4) of the faces of a grid (ny, nx) whose corners all have a height, counter-clockwise."""
    ny, nx = z.shape
    first = (np.arange(ny - 1)[:, None] * nx + np.arange(nx - 1)).ravel()
    corners = np.stack([first, first + 1, first + nx + 1, first + nx], 1)
    return corners[np.isfinite(z.ravel()[corners]).all(1)]


def points(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(ny * nx, 3); a point without a height lies at the lowest one, and in no face."""
    filled = np.where(np.isfinite(z), z, np.nanmin(np.where(np.isfinite(z), z, np.nan)))
    grid_x, grid_y = np.meshgrid(x, y)
    return np.stack([grid_x, grid_y, filled], -1).reshape(-1, 3)
