"""Layout of axes with three dimensions: as large as their labels allow, below titles, with labels that are apart."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

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
LONG_NAME, LONG_FOOT = 8, 0.12  # letters of the name of an axis of a film that needs so many inches more below it
HEAD_GAP = 0.06  # inches between a title, notes and the legend
APART = 2.0  # of tick labels of two axes, relative to their height
LINE = 1.2  # height of a line of text, relative to its letters
SMALLEST = 5.0  # points of letters of labels that are made smaller
MOST_SPARE = 0.4  # share of the height by which a figure is lowered at most
NOTES = "notes of a surface"  # marks their text
LabelState = tuple[str, float, float]  # text, size of the letters and distance from the axis, in points
CHANGED: "WeakKeyDictionary[Any, tuple[LabelState | None, LabelState | None]]" = (
    WeakKeyDictionary()
)  # as given, as made
FOLDED: "WeakKeyDictionary[Text, tuple[str, str]]" = WeakKeyDictionary()  # notes as given, as folded
FEWEST_LETTERS = 12  # of a line of a note
WHOLE_BOX = np.array(list(itertools.product((0, 1), repeat=3)), float)  # corners, see `keep_labels_inside`


class SolidLayout(LayoutEngine):
    """Layout of a figure's axes with three dimensions in rows and columns, made again when the figure's size changes.

    Args:
        rows: Number of rows.
        columns: Number of columns.
    """

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.shape = rows, columns
        self.spare = 0.0  # height that stays empty, as a share of the figure's
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
        spare = np.zeros((rows, columns))
        for k, axis in enumerate(solids):
            row, column = divmod(k, columns)
            ends = top * (1 - (row + 1) / rows), top * (1 - row / rows)
            slot = column / columns, ends[0], (column + 1) / columns, ends[1]
            spare[row, column] = keep_labels_inside(fig, axis, slot, outline)
        self.spare = float(rows * spare.min())


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
    is_long = any(len(each.label.get_text()) > LONG_NAME for axis in solids for each in (axis.xaxis, axis.yaxis))
    foot = FILM_FOOT + LONG_FOOT * is_long
    for k, axis in enumerate(solids):
        row, column = divmod(k, columns)
        bottom, top = (
            1 - (row + 1) / rows + foot / fig.get_figheight(),
            1 - row / rows - FILM_MARGIN / fig.get_figheight(),
        )
        _fold_head(axis, fig.bbox.width / columns)
        head = _head_height(fig, axis) / fig.bbox.height
        axis.set_position((column / columns, bottom, 1 / columns, top - head - bottom))
        _separate_tick_labels(fig, axis, apart=0.1)  # of which others come and go as the axes turn
        _place_head(fig, axis, (column + 0.5) / columns, top)


def keep_labels_inside(
    fig: "Figure",
    axis: "Axes3D",
    slot: tuple[float, float, float, float] = (0, 0, 1, 1),
    outline: np.ndarray | None = None,
) -> float:
    """Place an axis with three dimensions, as large as it can be with all its labels inside a part of the figure.

    Its title, its notes and its legend stand above the box.

    Args:
        fig: The figure, without a layout engine other than `SolidLayout`.
        axis: The axis, with everything drawn.
        slot: Left, bottom, right and top end of the part, as shares of the figure.
        outline: (n, 3) points that need room, from 0 to 1 along each side of the box, such as `WHOLE_BOX`; None for
            the points of its surfaces.

    Returns:
        The height that stays empty because the width limits the size, as a share of the figure's height.
    """
    outline = _outline([axis]) if outline is None else outline
    drawn: list[Any] = [*axis.collections, *(each for each in axis.get_children() if isinstance(each, SurfaceScene))]
    shown = [each for each in drawn if each.get_visible()]
    for each in shown:  # the surface itself is never outside of the box, and takes long to draw
        each.set_visible(False)
    size = np.array([fig.bbox.width, fig.bbox.height])
    margin = LABEL_MARGIN * fig.dpi / size
    low, high = np.array(slot[:2]) + margin, np.array(slot[2:]) - margin
    restore_labels(axis)
    fig.draw_without_rendering()
    _fold_head(axis, float(high[0] - low[0]) * fig.bbox.width)
    top = high[1]
    high[1] -= _head_height(fig, axis) / fig.bbox.height
    axis.set_position((*low, *(high - low)))
    _shorten_height_label(fig, axis, float(high[1] - low[1]))
    spare = _fill(fig, axis, low, high, outline)
    while _shorten_label_that_meets_another(fig, axis):
        spare = _fill(fig, axis, low, high, outline)
    remember_labels(axis)
    _separate_tick_labels(fig, axis)
    _place_head(fig, axis, (low[0] + high[0]) / 2, top)
    for each in shown:
        each.set_visible(True)
    return spare


def remember_labels(axis: "Axes3D") -> None:
    """Remember the labels of the axes as the layout has made them, beside those that the figure was given."""
    for side in (axis.xaxis, axis.yaxis, axis.zaxis):
        given, _ = CHANGED.get(side, (None, None))
        CHANGED[side] = given, (side.label.get_text(), float(side.label.get_fontsize()), float(side.labelpad))


def restore_labels(axis: "Axes3D") -> None:
    """Restore labels that an earlier layout has broken or made smaller, for another size of the figure."""
    for side in (axis.xaxis, axis.yaxis, axis.zaxis):
        now = side.label.get_text(), float(side.label.get_fontsize()), float(side.labelpad)
        given, made = CHANGED.get(side, (None, None))
        if given is None or now != made:  # somebody else has changed it
            CHANGED[side] = now, None
            continue
        side.label.set(text=given[0], fontsize=given[1])
        side.labelpad = given[2]


def _fill(fig: "Figure", axis: "Axes3D", low: np.ndarray, high: np.ndarray, outline: np.ndarray) -> float:
    """Make an axis as large as fits between two corners, shares of the figure; return the height that stays empty."""
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
    return float(high[1] - low[1] - np.ptp(inked[:, 1]))


def _outline(axes: "Sequence[Axes3D]") -> np.ndarray:
    """Return points of surfaces and corners of their floor, (n, 3) from 0 to 1 along each side of the box."""
    scenes = [each for axis in axes for each in axis.get_children() if isinstance(each, SurfaceScene)]
    return np.concatenate([WHOLE_BOX[::2], *(each.relative_outline() for each in scenes)])


def _head(axis: "Axes3D") -> "list[Text | Legend]":
    """Return title, notes and legend above the box, from top to bottom."""
    legend = axis.get_legend()
    return [*([axis.title] if axis.get_title() else []), *_notes(axis), *([] if legend is None else [legend])]


def _notes(axis: "Axes3D") -> "list[Text]":
    """Return the notes above the box."""
    return [text for text in axis.texts if text.get_gid() == NOTES]


def _fold_head(axis: "Axes3D", width: float) -> None:
    """Write the notes and the legend in so many lines that they are no wider than `width` pixels."""
    for text in _notes(axis):
        _fold_note(text, width)
    _fold_legend(axis, width)


def _fold_note(text: "Text", width: float) -> None:
    """Break the lines of a note, as it was given, that are wider than `width` pixels."""
    given, folded = FOLDED.get(text, ("", ""))
    if text.get_text() != folded:  # somebody else has changed it
        given = text.get_text()
    text.set_text(given)
    letters = max(map(len, given.split("\n")))
    while text.get_window_extent().width > width and letters > FEWEST_LETTERS:
        letters -= 1
        text.set_text(wrapped_lines(given, letters))
    FOLDED[text] = given, text.get_text()


def wrapped_lines(text: str, letters: int) -> str:
    """Break each line at blanks into as few lines of at most `letters` as it needs, which are about as long.

    Example:
        >>> wrapped_lines("a note of six short words", 22)
        'a note of six\\nshort words'
    """

    def broken(line: str, most: int) -> list[str]:
        return textwrap.wrap(line, most, break_long_words=False, break_on_hyphens=False) or [""]

    lines: list[str] = []
    for line in text.split("\n"):
        count = len(broken(line, letters))
        lines += next(each for most in range(1, letters + 1) if len(each := broken(line, most)) == count)
    return "\n".join(lines)


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
    """Return the height of title, notes and legend above the box, with a gap below each, in pixels."""
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
    """Break the label of the vertical axis, and shrink its letters, where it is longer than a share of the figure."""
    label, room = axis.zaxis.label, height * fig.bbox.height

    def length() -> float:
        return float(label.get_window_extent().height)

    fig.draw_without_rendering()
    if length() > 0.85 * room and ", " in label.get_text():
        label.set_text(label.get_text().replace(", ", ",\n"))
    if length() > room:
        label.set_fontsize(label.get_fontsize() * room / length())


def _shorten_label_that_meets_another(fig: "Figure", axis: "Axes3D") -> bool:
    """Break the longest label of an axis that lies on another text, or make its letters smaller.

    Returns:
        Whether a label was changed; False where none meets another, or the letters are as small as they may be.
    """
    fig.draw_without_rendering()
    sides = [axis.xaxis, axis.yaxis, axis.zaxis]
    ticks = {each: [tick.label1 for tick in each.get_major_ticks() if tick.label1.get_text()] for each in sides}
    meeting = []
    for side in sides:
        others = [each.label for each in sides if each is not side]
        others += [text for each in sides if each is not side for text in ticks[each]]
        shapes = [corners_of(text) for text in others if text.get_visible() and text.get_text()]
        own = corners_of(side.label)
        if side.label.get_text() and any(meet(own, each) for each in shapes):
            meeting.append((float(np.hypot(*(own[1] - own[0]))), side))
    for _, side in sorted(meeting, key=lambda each: -each[0]):
        broken, size = broken_in_two(side.label.get_text()), float(side.label.get_fontsize())
        if broken != side.label.get_text():
            side.label.set_text(broken)
            side.labelpad += 0.5 * LINE * size  # a label grows to both sides
            return True
        if size > SMALLEST:
            side.label.set_fontsize(max(0.9 * size, SMALLEST))
            return True
    return False


def broken_in_two(text: str) -> str:
    """Break a line at its first comma, or else at the blank nearest to its middle; a text of several lines stays.

    Example:
        >>> broken_in_two("top eigenvector, at a right angle")
        'top eigenvector,\\nat a right angle'
    """
    blanks = [k for k, letter in enumerate(text) if letter == " " and text[:k].count("$") % 2 == 0]
    if "\n" in text or not blanks:
        return text
    commas = [k for k in blanks if text[k - 1] == ","]
    at = commas[0] if commas else min(blanks, key=lambda k: abs(k - len(text) / 2))
    return f"{text[:at]}\n{text[at + 1 :]}"


def corners_of(text: "Text") -> np.ndarray:
    """Return the corners (4, 2) of a text, turned or not, in pixels; the first two are the ends of its lower side."""
    box = text.get_window_extent()
    middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return turned_box(middle, _size_before_turning(text), float(text.get_rotation()))


def turned_box(centre: tuple[float, float], size: tuple[float, float], degrees: float = 0.0) -> np.ndarray:
    """Return the corners (4, 2) of a box of a width and a height that is turned around its centre."""
    angle, middle = np.deg2rad(degrees), np.asarray(centre)
    across, up = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    steps = (-1, -1), (1, -1), (1, 1), (-1, 1)
    return np.array([middle + a * size[0] / 2 * across + b * size[1] / 2 * up for a, b in steps])


def _size_before_turning(text: "Text") -> tuple[float, float]:
    """Return width and height of a text along its own lines, in pixels."""
    before = text.get_rotation()
    text.set_rotation(0)
    box = text.get_window_extent()
    text.set_rotation(before)
    return float(box.width), float(box.height)


def meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two convex shapes with corners (n, 2) meet: no side of either parts them.

    Example:
        >>> square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        >>> meet(square, square + 0.5), meet(square, square + [2, 0])
        (True, False)
    """
    for shape in (a, b):
        for side in np.roll(shape, -1, 0) - shape:
            across = np.array([-side[1], side[0]])
            if (a @ across).max() <= (b @ across).min() or (b @ across).max() <= (a @ across).min():
                return False
    return True


def fit_height(fig: "Figure") -> None:
    """Lower a figure that `SolidLayout` lays out by the height that its width leaves empty.

    Args:
        fig: The figure, which nobody has given another size.
    """
    engine = fig.get_layout_engine()
    fig.draw_without_rendering()
    if isinstance(engine, SolidLayout) and engine.spare > 0:
        fig.set_size_inches(fig.get_figwidth(), fig.get_figheight() * (1 - min(engine.spare, MOST_SPARE)))


def _box_and_labels(fig: "Figure", axis: "Axes3D", outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the extents of the drawn surfaces, and of surfaces with labels, as shares of the figure, (2, 2) each."""
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


def _separate_tick_labels(fig: "Figure", axis: "Axes3D", apart: float = APART) -> None:
    """Leave out tick labels of an axis that are nearer than `apart` of their heights to labels of another axis."""
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
            if any(box.padded(apart * box.height).overlaps(other) for other in taken):
                tick.label1.set_visible(False)
            else:
                own.append(box)
        taken += own
