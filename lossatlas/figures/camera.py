"""The direction from which a surface is seen."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Direction from which a surface is seen.

    Attributes:
        elevation: Angle above the plane, in degrees.
        azimuth: Angle around the vertical axis, in degrees.
    """

    elevation: float = 32
    azimuth: float = -60

    @property
    def direction(self) -> np.ndarray:
        """(3,) unit vector from the centre to the camera."""
        elevation, azimuth = np.radians([self.elevation, self.azimuth])
        return np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
