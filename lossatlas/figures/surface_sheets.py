"""Sheets of a scene: surfaces over one plane with their contour lines; of several, their intersections and a cut."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.palette import luminance
from lossatlas.figures.panels import Panel
from lossatlas.figures.surface_light import brightness
from lossatlas.figures.surface_scene import Sheet, SurfaceLine
from lossatlas.landscape.interpolant import Interpolant

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


BOX_HEIGHT = 0.72  # of the box, relative to its width


CONTOUR_WIDTH, EDGE_WIDTH, CROSSING_WIDTH = 0.5, 1.3, 1.0  # points


LINE_OPACITY = 0.75  # of a contour line


DARK = 0.1  # luminance below which a contour line is lighter than its surface


ROUNDING = 1e-6  # relative to the height of a surface, which is cut above its ceiling


def colours_of_heights(scale: ColourScale, colour_map: "Colormap") -> Callable[[Any], Any]:
    """Return the function from heights to RGBA colours of a scale and a colour map."""
    norm = scale.norm
    return lambda heights: colour_map(np.clip(norm(np.nan_to_num(heights)), 0, 1))


def sheet_of(p: Panel, scale: ColourScale, colours: Callable[[Any], Any], ends: tuple[float, float]) -> Sheet:
    """Prepare a surface for a scene; what lies above the box or below the scale is left out.

    Args:
        p: The surface.
        scale: Scale of its heights.
        colours: Colours of heights, RGBA in [0, 1].
        ends: Heights of the floor and of the top of the box.

    Returns:
        The surface, without lines.
    """
    x, y, z = p.refined(scale)
    bottom, ceiling = scale.limits[0], ends[1]
    with np.errstate(invalid="ignore"):
        heights = np.where(np.isfinite(z), scale.height(z), np.nan)
    if not scale.above and ceiling >= scale.limits[1]:  # an interpolant overshoots
        heights = np.minimum(heights, scale.limits[1])
    if not scale.below:
        heights = np.maximum(heights, bottom)
    light = brightness(x, y, np.clip(heights, bottom, ceiling), (ends[1] - ends[0]) / BOX_HEIGHT)
    edge = ROUNDING * (ceiling - bottom)
    left_out = np.zeros((len(y) - 1, len(x) - 1), bool)
    return Sheet(x, y, heights, light, colours, (bottom - edge, ceiling + edge), left_out)


def overlaid_sheets(sheets: Sequence[Sheet], camera: Camera) -> list[Sheet]:
    """Put surfaces over one grid, draw where they intersect, and cut a quarter out of those that hide another one.

    The quarter is the one next to the camera. There only the lowest surface is left (seen from below the highest), with
    the others' edges along the cut.

    Args:
        sheets: Surfaces over the same part of a plane.
        camera: Where they are seen from.

    Returns:
        The surfaces; a single one is unchanged.
    """
    if len(sheets) == 1:
        return list(sheets)
    x, y = (_union([getattr(each, letter) for each in sheets]) for letter in "xy")
    common = [_resampled(each, x, y) for each in sheets]
    i, j = len(x) // 2, len(y) // 2
    near = np.ix_(
        *(
            np.arange(len(a) - 1) >= k if d >= 0 else np.arange(len(a) - 1) < k
            for a, k, d in ((y, j, camera.direction[1]), (x, i, camera.direction[0]))
        )
    )
    quarter = np.zeros((len(y) - 1, len(x) - 1), bool)
    quarter[near] = True
    sign = 1 if camera.elevation >= 0 else -1
    kept = int(np.argmin([_mean_height(each.heights[1:, 1:][quarter], sign) for each in common]))
    found = []
    for k, each in enumerate(common):
        lines = [line for other in common[k + 1 :] for line in _crossing_lines(each, other, quarter)]
        if k != kept:
            lines += _cut_edges(each, quarter, i, j)
        found.append(replace(each, lines=lines, left_out=each.left_out | (quarter if k != kept else False)))
    return found


def _mean_height(heights: np.ndarray, sign: int) -> float:
    """Return the mean of finite heights times a sign; infinite where none is finite, since nothing is seen there."""
    finite = heights[np.isfinite(heights)]
    return sign * float(finite.mean()) if finite.size else np.inf


def _union(axes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the coordinates of all axes, without those that rounding has doubled."""
    every = np.sort(np.concatenate(axes))
    return every[np.append(True, np.diff(every) > 1e-9 * np.ptp(every))]


def _resampled(sheet: Sheet, x: np.ndarray, y: np.ndarray) -> Sheet:
    """Resample a surface on other coordinates, with straight lines between its own."""
    if len(x) == len(sheet.x) and len(y) == len(sheet.y):
        return sheet

    def on_grid(values: np.ndarray) -> np.ndarray:
        rows = np.stack([np.interp(x, sheet.x, row) for row in values])
        return np.stack([np.interp(y, sheet.y, column) for column in rows.T], axis=1)

    none = np.zeros((len(y) - 1, len(x) - 1), bool)
    return replace(sheet, x=x, y=y, heights=on_grid(sheet.heights), light=on_grid(sheet.light), left_out=none)


def _crossing_lines(sheet: Sheet, other: Sheet, quarter: np.ndarray) -> list[SurfaceLine]:
    """Return the lines in which two surfaces over one grid intersect, outside of a quarter (ny - 1, nx - 1) of it."""
    from contourpy import contour_generator

    within = np.zeros(sheet.heights.shape, bool)
    within[1:-1, 1:-1] = quarter[:-1, :-1] & quarter[1:, 1:]
    difference = np.ma.masked_invalid(np.where(within, np.nan, sheet.heights - other.heights))
    colour = (*(0.25 * np.asarray(sheet.colours(sheet.ends[0]))[:3]), 1.0)
    found = contour_generator(x=sheet.x, y=sheet.y, z=difference).lines(0.0)
    return [SurfaceLine(lifted(np.asarray(run), sheet), colour, CROSSING_WIDTH) for run in found]


def lifted(points: np.ndarray, sheet: Sheet) -> np.ndarray:
    """Return points (n, 3) on a surface above points (n, 2) of its plane."""
    from scipy.interpolate import RegularGridInterpolator

    heights = RegularGridInterpolator((sheet.y, sheet.x), sheet.heights, bounds_error=False, fill_value=np.nan)
    return np.column_stack([points, heights(points[:, ::-1])])


def _cut_edges(sheet: Sheet, quarter: np.ndarray, i: int, j: int) -> list[SurfaceLine]:
    """Return the two edges of a surface along a quarter that is cut out at its column `i` and row `j`."""
    points = sheet.corners.reshape(*sheet.heights.shape, 3)
    rows, columns = (np.flatnonzero(quarter.any(axis)) for axis in (1, 0))
    colour = (*(0.45 * np.asarray(sheet.colours(sheet.ends[0]))[:3]), 1.0)
    edges = points[rows[0] : rows[-1] + 2, i], points[j, columns[0] : columns[-1] + 2]
    return [SurfaceLine(edge, colour, EDGE_WIDTH) for edge in edges]


def contour_lines(sheet: Sheet, scale: ColourScale) -> list[SurfaceLine]:
    """Return contour lines on a surface, darker than it, or lighter where it is dark."""
    from contourpy import contour_generator

    lines = contour_generator(x=sheet.x, y=sheet.y, z=np.ma.masked_invalid(sheet.heights))
    found = []
    for level in scale.height(scale.levels):
        if not sheet.ends[0] < level < sheet.ends[1]:
            continue
        colour = np.asarray(sheet.colours(level))[:3]
        dark = luminance(colour.tolist()) < DARK
        ink = tuple(colour + 0.6 * (1 - colour) if dark else 0.3 * colour)
        for run in lines.lines(level):
            points = np.column_stack([np.asarray(run), np.full(len(run), level)])
            found.append(SurfaceLine(points, (*ink, LINE_OPACITY), CONTOUR_WIDTH))
    return found


def height_interpolant(p: Panel, scale: ColourScale) -> Interpolant:
    """Return the interpolant of the drawn heights of a surface."""
    x, y, z = p.refined(scale)
    with np.errstate(invalid="ignore"):
        return Interpolant.for_drawing(x, y, scale.height(z))
