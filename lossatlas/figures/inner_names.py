"""Names of points that lie within the frame of their axes, at whatever size and resolution they are drawn."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT_CLEAR = "kept clear of names"  # marks the lines at whose points a name does not stand if it can stand elsewhere
FRAME_GAP = 2.0  # points between a name and the frame
MARK_SIZE = 5.0  # points, of the inner part of a mark, whose edge a name may touch
ROUNDING = 1e-3  # pixels
TURNS = (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180)  # degrees, the nearest first
CORNER = 1.4  # by which a turned name is farther from its point: its corner takes more room


class InnerName(Annotation):
    """A name beside a point, which moves as little as needed to lie within the frame whenever it is drawn.

    It also moves away from marks whose `gid` is `KEPT_CLEAR`.

    Args:
        axis: Axes of the point.
        text: The name.
        point: Coordinates of the point.
        offset: From the point to the middle of the name, in points.
        turns: Turn the name about its point; otherwise it is shifted sideways, or below its point.
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
        offsets = self._turned() if self._turns else self._shifted(frame, scale, renderer)
        inside = [each for each in offsets if _lies_within(self._box_at(each, renderer), frame)]
        clear = [each for each in inside if self._is_clear(self._box_at(each, renderer).padded(MARK_SIZE / 2 * scale))]
        self._box_at([*clear, *inside, *offsets][0], renderer)

    def _turned(self) -> list[np.ndarray]:
        """Return offsets around the point, the nearest first."""
        turned = []
        for degrees in TURNS:
            angle, farther = np.deg2rad(degrees), CORNER if degrees else 1.0
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            turned.append(farther * turn @ self._offset)
        return turned

    def _shifted(self, frame: Bbox, scale: float, renderer: Any) -> list[np.ndarray]:
        """Return offsets above and below the point, shifted sideways into the frame."""
        box = self._box_at(self._offset, renderer)
        beyond = max(0.0, frame.x0 - box.x0) - max(0.0, box.x1 - frame.x1)
        above = self._offset + np.array([beyond / scale, 0.0])
        return [above, above - np.array([0.0, 2 * self._offset[1] + box.height / scale])]

    def _is_clear(self, box: Bbox) -> bool:
        """Return whether no mark that is kept clear lies in a box in pixels."""
        axis: Any = self.axes
        marks = [axis.transData.transform(each.get_xydata()) for each in axis.lines if each.get_gid() == KEPT_CLEAR]
        return not any(box.contains(*point) for points in marks for point in points)

    def _box_at(self, offset: np.ndarray, renderer: Any) -> Bbox:
        """Return the ends of the name at an offset from its point, in pixels."""
        self.xyann = float(offset[0]), float(offset[1])
        super().update_positions(renderer)
        return Text.get_window_extent(self, renderer)


def _lies_within(box: Bbox, frame: Bbox) -> bool:
    """Return whether a box lies within another, but for rounding."""
    around = frame.padded(ROUNDING)
    return bool(around.x0 <= box.x0 and box.x1 <= around.x1 and around.y0 <= box.y0 and box.y1 <= around.y1)
