"""Perspective view of surfaces: the place from which all of them fit into a picture, and where points appear."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossatlas.figures.camera import Camera

ANGLE = 30.0  # between the upper and the lower edge of a picture, in degrees
MARGIN = 1.02  # distance of the camera, relative to the smallest one from which everything is seen
ROUNDS = 12  # in which the focus moves to the middle of the picture


@dataclass(frozen=True)
class View:
    """A camera at a distance.

    Attributes:
        camera: Direction to the camera.
        focus: (3,) point in the middle of the picture.
        distance: Between focus and camera.
        aspect: Width of the picture over its height.
    """

    camera: Camera
    focus: np.ndarray
    distance: float
    aspect: float

    @property
    def up(self) -> np.ndarray:
        """(3,) vector that points upwards in the picture, about."""
        return np.array([0.0, 0.0, 1.0]) if abs(self.camera.elevation) < 89 else np.array([0.0, 1.0, 0.0])

    @property
    def position(self) -> np.ndarray:
        """(3,) place of the camera."""
        return self.focus + self.distance * self.camera.direction

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) unit vectors: to the right and upwards in the picture, and towards the camera."""
        towards = self.camera.direction
        right = np.cross(self.up, towards)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(towards, right), towards])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Compute where points appear.

        Args:
            points: (n, 3) coordinates.

        Returns:
            (n, 2) places in the picture, from -1 at the left and lower edge to 1 at the right and upper edge.
        """
        right, up, towards = self.axes @ (points - self.focus).T
        half = np.tan(np.radians(ANGLE / 2)) * (self.distance - towards)
        return np.stack([right / (half * self.aspect), up / half], 1)

    def needed_distance(self, points: np.ndarray) -> float:
        """Return the smallest distance from which all points (n, 3) are in the picture."""
        right, up, towards = self.axes @ (points - self.focus).T
        slope = np.tan(np.radians(ANGLE / 2))
        return float((np.maximum(np.abs(right) / (slope * self.aspect), np.abs(up) / slope) + towards).max())


def fitted_views(points: np.ndarray, cameras: Sequence[Camera], aspect: float) -> list[View]:
    """Return views from several sides, from the same distance, in each of which all points are seen.

    Args:
        points: (n, 3) coordinates.
        cameras: Directions to the cameras. The focus of several ones is on the vertical axis, so that nothing jumps.
        aspect: Width of the pictures over their height.

    Returns:
        A view for each camera.
    """
    middle = (points.min(0) + points.max(0)) / 2
    views = [View(camera, middle, 1.0, aspect) for camera in cameras]
    for _ in range(ROUNDS):
        distance = MARGIN * max(view.needed_distance(points) for view in views)
        views = [replace(view, distance=distance) for view in views]
        places = np.concatenate([view.project(points) for view in views])
        offset = (places.min(0) + places.max(0)) / 2 * np.tan(np.radians(ANGLE / 2)) * distance
        right, up, _ = views[0].axes
        shift = offset[0] * aspect * right + offset[1] * up if len(views) == 1 else np.array([0, 0, offset[1] / 2])
        views = [replace(view, focus=view.focus + shift) for view in views]
    distance = MARGIN * max(view.needed_distance(points) for view in views)
    return [replace(view, distance=distance) for view in views]
