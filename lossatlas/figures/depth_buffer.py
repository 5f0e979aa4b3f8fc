"""Hidden surfaces: which of many triangles each pixel of a picture shows, exactly, with numpy alone.

Depth over the picture of a triangle is linear, so it is compared at the centre of each pixel. Surfaces that intersect
are told apart along their line of intersection.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FRAGMENTS = 1_000_000  # pairs of a triangle and a pixel that are compared at once
NO_TRIANGLE = -1


@dataclass(frozen=True)
class DepthBuffer:
    """The nearest triangle at each pixel; row 0 is the lowest one.

    Attributes:
        depth: (height, width) depth of the nearest triangle; infinite where there is none.
        triangle: (height, width) its index; `NO_TRIANGLE` where there is none.
        weights: (height, width, 3) barycentric coordinates in it.
    """

    depth: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


def nearest_triangles(
    corners: np.ndarray,
    triangles: np.ndarray,
    shape: tuple[int, int],
    levels: np.ndarray | None = None,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> DepthBuffer:
    """Find the nearest triangle at the centre of each pixel.

    Args:
        corners: (n, 3) columns x and y in pixels, from the lower left corner of the picture, and depth, which grows
            away from the camera. Triangles with a corner that is not finite are left out.
        triangles: (m, 3) indices of corners.
        shape: Height and width of the picture, in pixels.
        levels: (n,) values at the corners; a triangle is cut where its value leaves `within`.
        within: Lowest and highest value.

    Returns:
        The nearest triangle of each pixel.

    Example:
        >>> corners = np.array([[0, 0, 1], [4, 0, 1], [0, 4, 1], [4, 4, 2]], float)
        >>> nearest_triangles(corners, np.array([[0, 1, 2], [1, 3, 2]]), (4, 4)).triangle[[0, 3], [0, 3]]
        array([0, 1])
    """
    depth = np.full(shape[0] * shape[1], np.inf)
    triangle = np.full(depth.size, NO_TRIANGLE)
    weights = np.zeros((depth.size, 3))
    for index, pixel, shares in _fragments(corners, triangles, shape):
        distance = (shares * corners[triangles[index], 2]).sum(1)
        near = distance < depth[pixel]
        if levels is not None:
            level = (shares * levels[triangles[index]]).sum(1)
            near &= (level >= within[0]) & (level <= within[1])
        index, pixel, shares, distance = index[near], pixel[near], shares[near], distance[near]
        np.minimum.at(depth, pixel, distance)
        first = distance == depth[pixel]
        triangle[pixel[first]], weights[pixel[first]] = index[first], shares[first]
    return DepthBuffer(depth.reshape(shape), triangle.reshape(shape), weights.reshape(*shape, 3))


def depth_slopes(corners: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Compute how the depth of triangles changes over the picture.

    Args:
        corners: (n, 3) columns x and y in pixels, and depth.
        triangles: (m, 3) indices of corners.

    Returns:
        (m, 2) change of the depth from a pixel to the next one right, and above; 0 where a triangle has
        no area in the picture.

    Example:
        >>> corners = np.array([[0, 0, 1], [2, 0, 2], [0, 1, 1]], float)
        >>> depth_slopes(corners, np.array([[0, 1, 2]])).tolist()
        [[0.5, 0.0]]
    """
    a, b, c = (corners[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = -normal[:, :2] / normal[:, 2:]
    return np.where(np.isfinite(slopes), slopes, 0.0) + 0.0  # no minus zero


def _fragments(
    corners: np.ndarray, triangles: np.ndarray, shape: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, by pieces, triangles, pixels with the centre in them, and the pixels' barycentric coordinates (k, 3)."""
    limits = np.array([shape[1], shape[0]])
    known = np.flatnonzero(np.isfinite(corners[triangles]).all((1, 2)))
    flat = corners[triangles[known], :2]
    low = np.clip(np.ceil(flat.min(1) - 0.5), 0, limits).astype(int)
    size = np.maximum(np.clip(np.floor(flat.max(1) - 0.5) + 1, 0, limits).astype(int) - low, 0)
    counts = size.prod(1)
    used = np.flatnonzero(counts)
    known, flat, low, size, counts = known[used], flat[used], low[used], size[used], counts[used]
    if not len(used):
        return
    ends = np.cumsum(counts)
    pieces = np.searchsorted(ends, np.arange(0, ends[-1], FRAGMENTS), side="right")
    for start, stop in zip(pieces, [*pieces[1:], len(ends)], strict=True):
        own = np.repeat(np.arange(start, stop), counts[start:stop])
        place = np.arange(len(own)) - np.repeat(ends[start:stop] - counts[start:stop], counts[start:stop])
        place += ends[start - 1] if start else 0
        x, y = low[own, 0] + place % size[own, 0], low[own, 1] + place // size[own, 0]
        shares = _barycentric(flat[own], x + 0.5, y + 0.5)
        inside = (shares >= -1e-9).all(1)
        yield known[own[inside]], (y * shape[1] + x)[inside], shares[inside]


def _barycentric(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return barycentric coordinates (k, 3) of points in triangles (k, 3, 2); NaN where a triangle has no area."""
    (ax, ay), (bx, by), (cx, cy) = np.moveaxis(corners, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        second = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
        third = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
        return np.stack([1 - second - third, second, third], 1)
