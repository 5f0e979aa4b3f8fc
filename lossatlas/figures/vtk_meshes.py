"""Surfaces as polygons, for VTK and pyvista."""

import numpy as np


def quadrilaterals(z: np.ndarray) -> np.ndarray:
    """List the faces of a grid whose four corners have a height.

    Args:
        z: (ny, nx) heights; those that are not finite are missing.

    Returns:
        (n, 4) numbers of the corners in `points`, counter-clockwise.
    """
    ny, nx = z.shape
    first = (np.arange(ny - 1)[:, None] * nx + np.arange(nx - 1)).ravel()
    corners = np.stack([first, first + 1, first + nx + 1, first + nx], 1)
    return corners[np.isfinite(z.ravel()[corners]).all(1)]


def points(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """List the points of a grid.

    Args:
        x: (nx,) axis.
        y: (ny,) axis.
        z: (ny, nx) heights; a point without one gets the lowest height, and belongs to no face.

    Returns:
        (ny * nx, 3) coordinates.
    """
    filled = np.where(np.isfinite(z), z, np.nanmin(np.where(np.isfinite(z), z, np.nan)))
    grid_x, grid_y = np.meshgrid(x, y)
    return np.stack([grid_x, grid_y, filled], -1).reshape(-1, 3)
