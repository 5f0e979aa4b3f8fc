"""Shaded surfaces on an axis of matplotlib with three dimensions, with hidden parts removed pixel by pixel.

The surfaces are a picture in every format of a file: tens of thousands of faces would make a vector file of megabytes.
Lines on them stay lines.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist, allow_rasterization
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

from lossatlas.figures.depth_buffer import NO_TRIANGLE, DepthBuffer, depth_slopes, nearest_triangles

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

SAMPLES = 2  # of a pixel along each axis
# A point lies on a surface if its depth is that of the face in a pixel nearby, continued to the point, up to a share of
# the depth of the box and to a part of the pixel's change of depth. Both are at most another share.
NEAR, SLOPE_PIXELS, MOST_SLOPE = 0.004, 0.25, 0.02
LINE_STEP = 1.0  # pixels between two points of a line whose visibility is looked up
LOOKUP_SIZE = 700  # pixels of the picture in which `SurfaceScene.seen` looks points up
OUTLINE = 41  # points along a side of a surface that tell how much room it needs
UNDERSIDE = 0.62  # brightness of a surface seen from below


@dataclass(frozen=True)
class SurfaceLine:
    """A line on a surface, drawn where the surface is seen there.

    Attributes:
        points: (n, 3) points in the units of the axes.
        colour: RGBA.
        width: Width in points.
    """

    points: np.ndarray
    colour: tuple[float, float, float, float]
    width: float


@dataclass(frozen=True)
class Sheet:
    """A surface over a rectangle, with its colours and lines.

    Attributes:
        x: (nx,) coordinates, ascending.
        y: (ny,) coordinates, ascending.
        heights: (ny, nx) heights; NaN where there is no surface.
        light: (ny, nx) brightness from 0 to 1.
        colours: Colours of heights, RGBA in [0, 1].
        ends: Heights at which the surface is cut.
        left_out: (ny - 1, nx - 1) mask of faces that are not drawn.
        lines: Lines on it.
    """

    x: np.ndarray
    y: np.ndarray
    heights: np.ndarray
    light: np.ndarray
    colours: Callable[[Any], Any]
    ends: tuple[float, float]
    left_out: np.ndarray
    lines: Sequence[SurfaceLine] = field(default=())

    @property
    def corners(self) -> np.ndarray:
        """(ny nx, 3) corners in the units of the axes."""
        return np.stack([*np.meshgrid(self.x, self.y), self.heights], -1).reshape(-1, 3)

    @property
    def triangles(self) -> np.ndarray:
        """(m, 3) corners of the triangles, counterclockwise seen from above."""
        number = np.arange(self.heights.size).reshape(self.heights.shape)
        a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
        kept = ~self.left_out
        return np.concatenate([np.stack([each[kept] for each in three], 1) for three in ((a, b, c), (a, c, d))])


@dataclass(frozen=True)
class _View:
    """A scene as the camera of its axis sees it: a picture and the visible lines, in pixels of the figure."""

    origin: tuple[float, float]
    picture: np.ndarray  # (height, width, 4) bytes, the lowest row first
    lines: Sequence[tuple[np.ndarray, SurfaceLine]]


class SurfaceScene(Artist):
    """Surfaces with their lines as one artist of an axis with three dimensions.

    Args:
        axis: The axis.
        sheets: The surfaces.
    """

    def __init__(self, axis: "Axes3D", sheets: Sequence[Sheet]) -> None:
        super().__init__()
        self.sheets = list(sheets)
        self.set_zorder(2)
        self.set_in_layout(False)  # the axis is laid out by its box and labels
        self._seen: tuple[Any, _View] | None = None
        axis.add_artist(self)

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        """Draw the scene as the axis shows it; a picture that has not changed is taken again."""
        if not self.get_visible() or not self.sheets:
            return
        axis: Any = self.axes
        factor = renderer.get_image_magnification()
        key = (axis.M.tobytes(), axis.transData.get_matrix().tobytes(), axis.figure.dpi, factor)
        if self._seen is None or self._seen[0] != key:
            self._seen = key, self._view(factor)
        view = self._seen[1]
        context = renderer.new_gc()
        if view.picture.size:
            renderer.draw_image(context, *view.origin, view.picture)
        context.set_joinstyle("round")
        context.set_capstyle("round")
        for points, line in view.lines:
            context.set_linewidth(line.width)
            context.set_foreground(line.colour, isRGBA=True)
            context.set_alpha(line.colour[3])
            renderer.draw_path(context, Path(points), IdentityTransform())
        context.restore()
        self.stale = False

    def relative_outline(self) -> np.ndarray:
        """Return places (n, 3) of drawn points of the surfaces, from 0 to 1 along each side of their axis' box."""
        axis: Any = self.axes
        ends = np.array([axis.get_xlim(), axis.get_ylim(), axis.get_zlim()])
        found = [np.zeros((0, 3))]
        for sheet in self.sheets:
            points = sheet.corners.reshape(*sheet.heights.shape, 3)
            coarse = [np.unique(np.linspace(0, side - 1, OUTLINE).astype(int)) for side in sheet.heights.shape]
            points = points[np.ix_(*coarse)].reshape(-1, 3)
            found.append(points[(points[:, 2] >= sheet.ends[0]) & (points[:, 2] <= sheet.ends[1])])
        return (np.concatenate(found) - ends[:, 0]) / (ends[:, 1] - ends[:, 0])

    def projected(self, points: np.ndarray) -> np.ndarray:
        """Project points.

        Args:
            points: (n, 3) points in the units of the axes.

        Returns:
            (n, 3) place in pixels of the figure, and depth.
        """
        from mpl_toolkits.mplot3d.proj3d import proj_transform

        axis: Any = self.axes
        x, y, depth = proj_transform(*points.T, axis.get_proj())
        place = axis.transData.transform(np.column_stack([x, y]))
        return np.column_stack([place, depth])

    def seen(self, points: np.ndarray, number: int = 0) -> np.ndarray:
        """Tell which points on a surface no surface hides, from where the axis looks now.

        Args:
            points: (n, 3) points in the units of the axes.
            number: Number of the surface on which they lie.

        Returns:
            (n,) mask; False where a point is not finite or the surface is left out.
        """
        corners = [self.projected(each.corners) for each in self.sheets]
        everything = np.concatenate(corners)
        everything = everything[np.isfinite(everything).all(1)]
        if not len(everything):
            return np.zeros(len(points), bool)
        low, sides = everything[:, :2].min(0), np.ptp(everything[:, :2], axis=0)
        factor = LOOKUP_SIZE / max(float(sides.max()), 1e-300)
        shape = int(factor * sides[1]) + 2, int(factor * sides[0]) + 2
        inside = [_scaled(each, low, factor) for each in corners]
        buffer, owner = self.rasterized(inside, shape)
        slopes = depth_slopes(inside[number], self.sheets[number].triangles)
        range_of_depth = float(np.ptp(everything[:, 2]))
        return _seen(_scaled(self.projected(points), low, factor), buffer, owner == number, slopes, range_of_depth)

    def _view(self, factor: float) -> _View:
        corners = [self.projected(each.corners) for each in self.sheets]
        everything = np.concatenate(corners)
        everything = everything[np.isfinite(everything).all(1)]
        frame: Any = self.axes.figure.bbox  # type: ignore[union-attr]  # of an artist on an axis
        if not len(everything):
            return _View((0, 0), np.zeros((0, 0, 4), np.uint8), ())
        low = np.clip(np.floor(everything[:, :2].min(0)) - 1, 0, [frame.width, frame.height])
        high = np.clip(np.ceil(everything[:, :2].max(0)) + 1, 0, [frame.width, frame.height])
        width, height = (int(each) for each in np.ceil(factor * (high - low)))
        if width < 1 or height < 1:
            return _View((0, 0), np.zeros((0, 0, 4), np.uint8), ())
        inside = [_scaled(each, low, SAMPLES * factor) for each in corners]
        buffer, owner = self.rasterized(inside, (SAMPLES * height, SAMPLES * width))
        picture = _reduced(self._painted(inside, buffer, owner))
        lines, range_of_depth = [], float(np.ptp(everything[:, 2]))
        for k, sheet in enumerate(self.sheets):
            slopes = depth_slopes(inside[k], sheet.triangles)
            for line in sheet.lines:
                points = _finer(_scaled(self.projected(line.points), low, SAMPLES * factor))
                seen = _seen(points, buffer, owner == k, slopes, range_of_depth)
                lines += [(low + run / (SAMPLES * factor), line) for run in _runs(points[:, :2], seen)]
        return _View((float(low[0]), float(low[1])), picture, lines)

    def rasterized(self, corners: Sequence[np.ndarray], shape: tuple[int, int]) -> tuple[DepthBuffer, np.ndarray]:
        """Find what each pixel shows.

        Args:
            corners: Projected corners of each sheet, see `nearest_triangles`.
            shape: Height and width, in pixels.

        Returns:
            What each pixel shows, with triangles counted within their own sheet, and (height, width) numbers of the
            sheets, -1 where there is none.
        """
        depth, owner = np.full(shape, np.inf), np.full(shape, NO_TRIANGLE)
        triangle, weights = np.full(shape, NO_TRIANGLE), np.zeros((*shape, 3))
        for k, (sheet, own) in enumerate(zip(self.sheets, corners, strict=True)):
            found = nearest_triangles(own, sheet.triangles, shape, sheet.heights.ravel(), sheet.ends)
            near = found.depth < depth
            depth[near], owner[near] = found.depth[near], k
            triangle[near], weights[near] = found.triangle[near], found.weights[near]
        return DepthBuffer(depth, triangle, weights), owner

    def _painted(self, corners: Sequence[np.ndarray], buffer: DepthBuffer, owner: np.ndarray) -> np.ndarray:
        """Return the colours (height, width, 4) in [0, 1] of the samples."""
        picture = np.zeros((*owner.shape, 4))
        for k, (sheet, own) in enumerate(zip(self.sheets, corners, strict=True)):
            mine = owner == k
            three, weights = sheet.triangles[buffer.triangle[mine]], buffer.weights[mine]
            height, light = (
                (weights * each.ravel()[three]).sum(1) for each in (sheet.heights, np.nan_to_num(sheet.light))
            )
            colours = np.array(sheet.colours(height))
            light = np.where(_seen_from_above(own[three]), light, UNDERSIDE * light)
            colours[:, :3] *= light[:, None]
            picture[mine] = colours
        return picture


def _seen_from_above(corners: np.ndarray) -> np.ndarray:
    """Tell which projected triangles (n, 3, 3), counterclockwise seen from above, show their upper side."""
    a, b, c = (corners[:, k, :2] for k in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) > 0


def _scaled(points: np.ndarray, origin: np.ndarray, factor: float) -> np.ndarray:
    """Return projected points with places in samples from the corner of the picture."""
    return np.column_stack([(points[:, :2] - origin) * factor, points[:, 2]])


def _reduced(samples: np.ndarray) -> np.ndarray:
    """Return pixels as bytes, each the mean of its samples, of which some are transparent."""
    height, width = (side // SAMPLES for side in samples.shape[:2])
    parts = samples.reshape(height, SAMPLES, width, SAMPLES, 4)
    cover = parts[..., 3].mean((1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        colour = (parts[..., :3] * parts[..., 3:]).mean((1, 3)) / cover[..., None]
    return (255 * np.concatenate([np.nan_to_num(colour), cover[..., None]], -1) + 0.5).astype(np.uint8)


def _finer(points: np.ndarray) -> np.ndarray:
    """Return points along a line at most `LINE_STEP` pixels apart, with the given ones."""
    gaps = np.hypot(*np.diff(points[:, :2], axis=0).T)
    place = np.concatenate([[0.0], np.cumsum(np.nan_to_num(gaps))])
    between = np.arange(0, place[-1], LINE_STEP)
    every = np.unique(np.concatenate([place, between]))
    return np.column_stack([np.interp(every, place, column) for column in points.T])


def _seen(
    points: np.ndarray, buffer: DepthBuffer, own: np.ndarray, slopes: np.ndarray, range_of_depth: float
) -> np.ndarray:
    """Tell where points on a surface are seen: a neighbouring pixel shows it, and its face goes through the point.

    Args:
        points: (n, 3) places in pixels of the buffer, and depth.
        buffer: What each pixel shows.
        own: (height, width) mask of the pixels that show this surface.
        slopes: (m, 2) change of the depth of each of its triangles from pixel to pixel.
        range_of_depth: From the nearest to the farthest point of all surfaces.

    Returns:
        (n,) mask.
    """
    height, width = own.shape
    seen = np.zeros(len(points), bool)
    known = np.isfinite(points).all(1)
    if not len(slopes):
        return seen
    place = np.floor(np.where(known[:, None], points[:, :2], -9)).astype(int)
    most = MOST_SLOPE * range_of_depth
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            pixel = np.column_stack([place[:, 0] + i, place[:, 1] + j])
            x, y = np.clip(pixel, 0, [width - 1, height - 1]).T
            shown = own[y, x] & (pixel == np.column_stack([x, y])).all(1)
            slope = slopes[np.where(shown, buffer.triangle[y, x], 0)]
            with np.errstate(invalid="ignore"):
                continued = ((points[:, :2] - pixel - 0.5) * slope).sum(1).clip(-most, most)
                slack = NEAR * range_of_depth + np.minimum(SLOPE_PIXELS * np.abs(slope).max(1), most)
                seen |= shown & (np.abs(buffer.depth[y, x] + continued - points[:, 2]) <= slack)
    return seen & known


def _runs(points: np.ndarray, seen: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the parts of a line that are seen, of at least two points."""
    for run in np.split(np.arange(len(points)), np.flatnonzero(np.diff(seen)) + 1):
        if len(run) > 1 and seen[run[0]]:
            yield points[run]
