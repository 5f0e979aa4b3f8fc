"""Layout of axes with three dimensions: as large as their labels allow, below their titles, with labels that are apart."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.layout_engine import LayoutEngine

from lossatlas.figures.surface_scene import SurfaceScene

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text
    from mpl_toolkits.mplot3d import Axes3D

LABEL_MARGIN = 0.06  # inches between the labels of a new figure and its edge
FILM_MARGIN, FILM_FOOT = 0.12, 0.3  # inches above the titles of a film and below its axes
HEAD_GAP = 0.06  # inches between a title, notes and the legend
APART = 2.0  # of tick labels of two axes, relative to their height
NOTES = "notes of a surface"  # marks their text
WHOLE_BOX = np.array(list(itertools.product((0, 1), repeat=3)), float)  # corners, see `keep_labels_inside`


class SolidLayout(LayoutEngine):
    """Lays out the axes with three dimensions of a figure in rows and columns, again whenever the figure's size changes.

    Args:
        rows: Number of rows.
        columns: Number of columns.
    """

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.shape = rows, columns
        self._laid_out: tuple[object, ...] | None = None
        self._busy = False

    def execute(self, fig: "Figure") -> None:
        """Place the axes, unless the figure is as it was."""
        title = fig.get_suptitle()
        state = (*fig.get_size_inches(), title)
        if self._busy or state == self._laid_out:
            return
        self._busy, self._laid_out = True, state
        try:
            self._place(fig, title)
        finally:
            self._busy = False

    def _place(self, fig: "Figure", title: str) -> None:
        own: Any = fig
        top = float(own._suptitle.get_window_extent().y0 / fig.bbox.height) if title else 1.0
        rows, columns = self.shape
        solids: list[Any] = [axis for axis in fig.axes if hasattr(axis, "zaxis")]
        outline = _outline(solids)  # of all, so that they are drawn in the same size
        for k, axis in enumerate(solids):
            row, column = divmod(k, columns)
            ends = top * (1 - (row + 1) / rows), top * (1 - row / rows)
            keep_labels_inside(fig, axis, (column / columns, ends[0], (column + 1) / columns, ends[1]), outline)


def place_for_film(fig: "Figure", rows: int, columns: int) -> None:
    """Give axes with three dimensions places that are the same from each side, so that they turn without moving.

    Args:
        fig: The figure, whose layout engine is removed.
        rows: Number of rows.
        columns: Number of columns.
    """
    fig.set_layout_engine("none")
    fig.draw_without_rendering()
    solids: list[Any] = [axis for axis in fig.axes if hasattr(axis, "zaxis")]
    for k, axis in enumerate(solids):
        row, column = divmod(k, columns)
        bottom, top = (
            1 - (row + 1) / rows + FILM_FOOT / fig.get_figheight(),
            1 - row / rows - FILM_MARGIN / fig.get_figheight(),
        )
        head = _head_height(fig, axis) / fig.bbox.height
        axis.set_position((column / columns, bottom, 1 / columns, top - head - bottom))
        fig.draw_without_rendering()
        _place_head(fig, axis, (column + 0.5) / columns, top)


def keep_labels_inside(
    fig: "Figure",
    axis: "Axes3D",
    slot: tuple[float, float, float, float] = (0, 0, 1, 1),
    outline: np.ndarray | None = None,
) -> None:
    """Place an axis with three dimensions so that all its labels are inside a part of the figure, and as large as it can be.

    Its title, its notes and its legend stand above the box.

    Args:
        fig: The figure, without a layout engine other than `SolidLayout`.
        axis: The axis, with everything drawn.
        slot: Left, bottom, right and top end of the part, as shares of the figure.
        outline: (n, 3) points that need room, from 0 to 1 along each side of the box, such as `WHOLE_BOX`; None for those of
            its surfaces.
    """
    outline = _outline([axis]) if outline is None else outline
    drawn: list[Any] = [*axis.collections, *(each for each in axis.get_children() if isinstance(each, SurfaceScene))]
    shown = [each for each in drawn if each.get_visible()]
    for each in shown:  # the surface itself is never outside of the box, and takes long to draw
        each.set_visible(False)
    size = np.array([fig.bbox.width, fig.bbox.height])
    margin = LABEL_MARGIN * fig.dpi / size
    low, high = np.array(slot[:2]) + margin, np.array(slot[2:]) - margin
    fig.draw_without_rendering()
    _fold_legend(axis, float(high[0] - low[0]) * fig.bbox.width)
    top = high[1]
    high[1] -= _head_height(fig, axis) / fig.bbox.height
    axis.set_position((*low, *(high - low)))
    _shorten_height_label(fig, axis, float(high[1] - low[1]))
    for _ in range(15):
        fig.draw_without_rendering()
        box, inked = _box_and_labels(fig, axis, outline)
        labels = np.ptp(inked, 0) - np.ptp(box, 0)  # they keep their size where the box gets smaller
        factor = np.clip(((high - low - labels) / np.ptp(box, 0)).min(), 0.5, 1.5)
        inside = (inked[0] >= low - 1e-3).all() and (inked[1] <= high + 1e-3).all()
        if inside and abs(factor - 1) < 0.01:
            break
        place = np.array([axis.get_position().min, axis.get_position().max])
        half = np.maximum(np.ptp(place, 0) * factor, 0.2 * (high - low)) / 2
        middle = place.mean(0) + (low + high) / 2 - inked.mean(0)
        axis.set_position((*(middle - half), *(2 * half)))
    _separate_tick_labels(fig, axis)
    _place_head(fig, axis, (low[0] + high[0]) / 2, top)
    for each in shown:
        each.set_visible(True)


def _outline(axes: "Sequence[Axes3D]") -> np.ndarray:
    """Points of the surfaces of axes and corners of their floor, (n, 3) from 0 to 1 along each side of the box."""
    scenes = [each for axis in axes for each in axis.get_children() if isinstance(each, SurfaceScene)]
    return np.concatenate([WHOLE_BOX[::2], *(each.relative_outline() for each in scenes)])


def _head(axis: "Axes3D") -> "list[Text | Legend]":
    """Title, notes and legend above the box, from top to bottom."""
    notes = [text for text in axis.texts if text.get_gid() == NOTES]
    legend = axis.get_legend()
    return [*([axis.title] if axis.get_title() else []), *notes, *([] if legend is None else [legend])]


def _fold_legend(axis: "Axes3D", width: float) -> None:
    """Write the legend in so many columns that it is no wider than `width` pixels."""
    legend = axis.get_legend()
    if legend is None:
        return
    handles, texts = legend.legend_handles, [each.get_text() for each in legend.get_texts()]
    for columns in range(len(texts) - 1, 0, -1):
        if legend.get_window_extent().width <= width:
            return
        legend = axis.legend(handles, texts, fontsize="small", frameon=False, ncols=columns)


def _head_height(fig: "Figure", axis: "Axes3D") -> float:
    """Height of what stands above the box, with a gap below each part, in pixels."""
    return sum(each.get_window_extent().height + HEAD_GAP * fig.dpi for each in _head(axis))


def _place_head(fig: "Figure", axis: "Axes3D", middle: float, top: float) -> None:
    """Place the title, the notes and the legend one below the other.

    Args:
        fig: The figure.
        axis: The axis, at its final place.
        middle: Middle of the parts, as a share of the figure's width.
        top: Upper end, as a share of its height.
    """
    height = fig.bbox.height
    for each in _head(axis):
        part: Any = each
        if part is axis.title:
            place = axis.get_position()
            axis.set_title(axis.get_title(), y=1.0, pad=0)
            part.set_y(1.0)  # an axis with three dimensions has lowered it
            shift = top - part.get_window_extent().y1 / height
            part.set(x=(middle - place.x0) / place.width, y=1.0 + shift / place.height)
        elif part is axis.get_legend():
            part.borderaxespad = 0
            part.set_loc("upper center")
            part.set_bbox_to_anchor((middle, top), transform=fig.transFigure)
        else:
            part.set(transform=fig.transFigure, position=(middle, top), horizontalalignment="center")
        top -= (part.get_window_extent().height + HEAD_GAP * fig.dpi) / height


def _shorten_height_label(fig: "Figure", axis: "Axes3D", height: float) -> None:
    """Break the label of the vertical axis, and make its letters smaller, where it is longer than a share of the figure."""
    label, room = axis.zaxis.label, height * fig.bbox.height

    def length() -> float:
        return float(label.get_window_extent().height)

    fig.draw_without_rendering()
    if length() > 0.85 * room and ", " in label.get_text():
        label.set_text(label.get_text().replace(", ", ",\n"))
    if length() > room:
        label.set_fontsize(label.get_fontsize() * room / length())


def _box_and_labels(fig: "Figure", axis: "Axes3D", outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of what is drawn in the box, and of that with the labels, as shares of the figure, (2, 2) each."""
    from mpl_toolkits.mplot3d.proj3d import proj_transform

    head: list[Artist] = [*_head(axis)]
    texts = [each for each in axis.texts if each not in head]
    texts += [axis.xaxis.label, axis.yaxis.label, axis.zaxis.label]
    boxes = [text.get_window_extent() for text in texts if text.get_visible() and text.get_text()]
    own: Any = fig
    ticks = [each.get_tightbbox(own._get_renderer()) for each in (axis.xaxis, axis.yaxis, axis.zaxis)]
    boxes += [each for each in ticks if each is not None]
    boxes += [each.line.get_window_extent() for each in (axis.xaxis, axis.yaxis, axis.zaxis)]
    ends = np.array([axis.get_xlim(), axis.get_ylim(), axis.get_zlim()])
    drawn = ends[:, 0] + outline * (ends[:, 1] - ends[:, 0])
    corners = axis.transData.transform(np.column_stack(proj_transform(*drawn.T, axis.get_proj())[:2]))
    size = np.array([fig.bbox.width, fig.bbox.height])
    points = np.concatenate([corners, *(box.get_points() for box in boxes)])
    return tuple(np.array([each.min(0), each.max(0)]) / size for each in (corners, points))


def _separate_tick_labels(fig: "Figure", axis: "Axes3D") -> None:
    """Leave out tick labels that lie on those of another axis, as where two axes meet at a corner."""
    ticks = [tick for each in (axis.zaxis, axis.xaxis, axis.yaxis) for tick in each.get_major_ticks()]
    for tick in ticks:
        tick.label1.set_visible(True)
    fig.draw_without_rendering()
    taken: list[Any] = []
    for each in (axis.zaxis, axis.xaxis, axis.yaxis):
        own: list[Any] = []
        low, high = sorted(each.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in each.get_major_ticks():
            if not low - slack <= tick.get_loc() <= high + slack:
                continue
            box = tick.label1.get_window_extent()
            if any(box.padded(APART * box.height).overlaps(other) for other in taken):
                tick.label1.set_visible(False)
            else:
                own.append(box)
        taken += own
