"""Light on surfaces: diffuse light from one side, and less of it where a surface hides the sky."""

import numpy as np

LIGHT_DIRECTION = np.array([-0.45, -0.25, 0.857])  # towards the light; the interactive page has the same
AMBIENT = 0.45  # share of the light that comes from the whole sky
BRIGHTNESS = 0.95  # of an open horizontal surface: what faces the light is brighter, and none reaches white
DARKEST = 0.5
SKY_SIDES = 12  # sides from which the sky is looked for
SKY_REACH = 0.3  # how far, relative to the side of the plane


def brightness(x: np.ndarray, y: np.ndarray, heights: np.ndarray, box_height: float) -> np.ndarray:
    """Compute the brightness of a surface.

    Args:
        x: (nx,) coordinates, ascending.
        y: (ny,) coordinates, ascending.
        heights: (ny, nx) heights; NaN where there is no surface.
        box_height: Height that is drawn as high as the plane is wide.

    Returns:
        (ny, nx) factors of a colour, from `DARKEST` to 1.

    Example:
        >>> float(brightness(np.arange(3.0), np.arange(3.0), np.ones((3, 3)), 1.0)[1, 1])
        0.95
    """
    across, along = (x - x[0]) / np.ptp(x), (y - y[0]) / np.ptp(y)
    drawn = heights / box_height
    slope_y, slope_x = np.gradient(drawn, along, across)
    normal = np.stack([-slope_x, -slope_y, np.ones(heights.shape)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    diffuse = np.clip(normal @ LIGHT_DIRECTION, 0, None) / LIGHT_DIRECTION[2]
    light = BRIGHTNESS * (AMBIENT * open_sky(across, along, drawn) + (1 - AMBIENT) * diffuse)
    return np.clip(np.nan_to_num(light, nan=BRIGHTNESS), DARKEST, 1.0)


def open_sky(x: np.ndarray, y: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Compute the share of the sky that each point of a height field sees, weighted by the cosine of its direction.

    Args:
        x: (nx,) coordinates, of about equal distances.
        y: (ny,) coordinates, likewise.
        heights: (ny, nx) heights in the same unit; NaN hides nothing.

    Returns:
        (ny, nx) shares from 0 to 1; 1 on a hill, less in a hollow.
    """
    step_x, step_y = (float(np.ptp(each)) / (len(each) - 1) for each in (x, y))
    shares = np.zeros(heights.shape)
    distances = np.unique(np.geomspace(min(step_x, step_y), SKY_REACH, 10))
    for angle in 2 * np.pi * np.arange(SKY_SIDES) / SKY_SIDES:
        steepest = np.zeros(heights.shape)
        for distance in distances:
            i, j = round(distance * np.cos(angle) / step_x), round(distance * np.sin(angle) / step_y)
            if length := np.hypot(i * step_x, j * step_y):
                rise = (_shifted(heights, j, i) - heights) / length
                steepest = np.fmax(steepest, rise)
        shares += 1 / (1 + steepest**2)
    return shares / SKY_SIDES


def _shifted(heights: np.ndarray, j: int, i: int) -> np.ndarray:
    """Return the heights `j` rows and `i` columns farther; beyond the edge, the heights of the edge."""
    rows = np.clip(np.arange(heights.shape[0]) + j, 0, heights.shape[0] - 1)
    columns = np.clip(np.arange(heights.shape[1]) + i, 0, heights.shape[1] - 1)
    return heights[np.ix_(rows, columns)]
