"""Names of points that lie within the frame of their axes, at whatever size and resolution they are drawn."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRAME_GAP = 2.0  # points between a name and the frame
TURNS = (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180)  # degrees, the nearest first
CORNER = 1.4  # by which a turned name is farther from its point: its corner takes more room


class InnerName(Annotation):
    """A name beside a point, which moves as little as needed to lie within the frame whenever it is drawn.

    Args:
        axis: Axes of the point.
        text: The name.
        point: Coordinates of the point.
        offset: From the point to the middle of the name, in points.
        turns: Turn the name about its point; otherwise it is shifted sideways.
        **looks: Keywords of `matplotlib.text.Text`.
    """

    def __init__(
        self,
        axis: "Axes",
        text: str,
        point: tuple[float, float],
        offset: tuple[float, float],
        *,
        turns: bool,
        **looks: Any,
    ) -> None:
        super().__init__(text, point, xytext=offset, textcoords="offset points", horizontalalignment="center", **looks)
        self._offset, self._turns = np.asarray(offset, float), turns
        axis.add_artist(self)

    def update_positions(self, renderer: Any) -> None:
        """Place the name; matplotlib calls this before it draws or measures it."""
        axis: Any = self.axes
        scale = axis.figure.dpi / 72
        frame = axis.get_window_extent().padded(-FRAME_GAP * scale)
        box = self._box_at(self._offset, renderer)
        if self._turns:
            for degrees in TURNS:
                angle, farther = np.deg2rad(degrees), CORNER if degrees else 1.0
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                box = self._box_at(farther * turn @ self._offset, renderer)
                if frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1:
                    return
            self._box_at(self._offset, renderer)
            return
        beyond = max(0.0, frame.x0 - box.x0) - max(0.0, box.x1 - frame.x1)
        self._box_at(self._offset + np.array([beyond / scale, 0.0]), renderer)

    def _box_at(self, offset: np.ndarray, renderer: Any) -> Bbox:
        """Return the ends of the name at an offset from its point, in pixels."""
        self.xyann = float(offset[0]), float(offset[1])
        super().update_positions(renderer)
        return Text.get_window_extent(self, renderer)
