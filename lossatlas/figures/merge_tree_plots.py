"""The merge tree of the minima of a surface: which basins join at which level."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.errors import counted
from lossatlas.figures.matplotlib_style import Looks
from lossatlas.figures.palette import current_look
from lossatlas.landscape.topology import Minimum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LEAVES = 60  # with more of them lines are no longer told apart


def leaf_order(minima: Sequence[Minimum]) -> list[int]:
    """Return the order of minima from left to right in which no two lines of their merge tree cross.

    A minimum stands left of all that join it, those that join it first nearest to it.

    Args:
        minima: Minima; the parent of each is one of them.

    Returns:
        Their positions in `minima`.

    Example:
        >>> deep = Minimum(cell=0, value=0.0, end=float("inf"), saddle=None, parent=None)
        >>> last, first = (Minimum(cell=k, value=1.0, end=5.0 - k, saddle=9, parent=0) for k in (1, 2))
        >>> leaf_order([deep, last, first])
        [0, 2, 1]
    """
    joining: defaultdict[int | None, list[int]] = defaultdict(list)
    for k, each in enumerate(minima):
        joining[each.parent].append(k)
    waiting = sorted(joining[None], key=lambda k: minima[k].value, reverse=True)
    order = []
    while waiting:
        order.append(waiting.pop())
        waiting += sorted(joining[order[-1]], key=lambda k: minima[k].end, reverse=True)
    return order


def draw_merge_tree(axis: "Axes", minima: Sequence[Minimum], depth: float, title: str, *, log: bool) -> None:
    """Draw the merge tree of minima: a line up from each one to the level where its basin joins a deeper one's.

    Args:
        axis: Axis to draw on.
        minima: Minima, the deepest first; only the deepest MOST_LEAVES are drawn.
        depth: A minimum that is deeper counts as deep, and has its number.
        title: Title of the field.
        log: Make the axis of levels logarithmic.
    """
    shown, look = minima[:MOST_LEAVES], current_look()
    place = {k: x for x, k in enumerate(leaf_order(shown))}
    levels = np.array([level for each in shown for level in (each.value, each.end) if np.isfinite(level)])
    low, high = float(levels.min()), float(levels.max())
    log = log and low > 0
    room = max((high / low) ** 0.12, 1.1) if log else 0.12 * (high - low or 1.0)
    bottom, top = (low / room, high * room) if log else (low - room, high + room)
    for k, each in sorted(enumerate(shown), reverse=True):
        is_deep = each.depth > depth
        line: Looks = {"color": look.accent if is_deep else look.muted, "linewidth": 1.3 if is_deep else 0.8}
        end = each.end if np.isfinite(each.end) else top
        axis.plot([place[k], place[k]], [each.value, end], "-", solid_capstyle="butt", **line)
        if each.parent is not None:
            axis.plot([place[k], place[each.parent]], [each.end, each.end], "-", **line)
        if each.error > 0 and np.isfinite(each.end):
            axis.errorbar([place[k]], [each.end], [each.error], color=look.ink, linewidth=0.8, capsize=2)
        dot: Looks = {"color": line["color"], "markersize": 4 if is_deep else 2.2}
        axis.plot([place[k]], [each.value], "o", zorder=3, **dot)
        if is_deep:
            below: Looks = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": "x-small"}
            axis.annotate(str(k + 1), (place[k], each.value), (0, -5), color=look.ink, **below)
    axis.set(xlim=(-0.8, max(len(shown) - 0.2, 0.8)), ylim=(bottom, top), xticks=[], ylabel=title)
    if log:
        axis.set_yscale("log")
    left_out = f"\n({len(minima) - len(shown)} shallower ones left out)" if len(minima) > len(shown) else ""
    axis.set_xlabel(f"{counted(len(shown), 'minimum', 'minima')} and the levels where basins join{left_out}")
