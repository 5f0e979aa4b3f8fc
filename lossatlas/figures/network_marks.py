"""Networks that a line or a plane goes through, as far as a surface file records them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossatlas.choices import CURVES, CurveKind, CurveOrNone, is_word
from lossatlas.landscape.recorded_options import recorded_option
from lossatlas.landscape.surface import Surface

POSITIONS = {"model_file": (0.0, 0.0), "model_file2": (1.0, 0.0), "model_file3": (0.0, 1.0)}


@dataclass(frozen=True)
class NetworkMark:
    """A network at a point of a plane, or of a line.

    Attributes:
        name: Its name in the figure.
        x: Coordinate along the first direction.
        y: Coordinate along the second direction; 0 on a line.
    """

    name: str
    x: float
    y: float


def network_marks(surface: Surface) -> list[NetworkMark]:
    """List the networks to mark on a surface.

    Args:
        surface: A curve or a plane.

    Returns:
        The two or three networks that the axes point to, and the average of three. No mark where the directions are
        of another kind, or the network lies outside the grid.
    """
    recorded = networks_of(surface)
    if curve_kind(surface):
        return recorded
    return _marks_in_grid(surface, recorded, mark_single="networks" in surface.about and "scheme" in surface.request)


def networks_of(surface: Surface) -> list[NetworkMark]:
    """List the networks on a line or a plane, also those outside the grid, as its file records them."""
    if "networks" in surface.about:
        return [NetworkMark(str(name), float(x), float(y)) for name, x, y in surface.about["networks"]]
    marks = []  # files of earlier versions record the command alone
    elsewhere = any(recorded_option(surface.about, option) for option in ("same_dir", "orthogonalize"))
    for option, (x, y) in POSITIONS.items():
        if option == "model_file3" and elsewhere:  # the y axis does not lead to that file then
            continue
        if file := recorded_option(surface.about, option):
            marks.append(NetworkMark(Path(file).stem, x, y))
    return marks


def curve_kind(surface: Surface) -> CurveOrNone:
    """Return the kind of the curve between the first two networks, with the third as control point; "" for no curve."""
    kind = surface.about.get("curve", "")
    return kind if is_word(kind, CURVES) and len(surface.about.get("networks", ())) == 3 else ""


def curve_points(kind: CurveKind, networks: Sequence[NetworkMark]) -> tuple[np.ndarray, np.ndarray]:
    """Compute points along a curve of Garipov et al. (arXiv 1802.10026) from the first to the second network.

    Args:
        kind: "bezier" or "polygonal".
        networks: The two ends and the control point.

    Returns:
        x (n,) and y (n,).
    """
    (x0, x2, x1), (y0, y2, y1) = ([getattr(each, axis) for each in networks] for axis in "xy")
    if kind == "polygonal":
        return np.array([x0, x1, x2]), np.array([y0, y1, y2])
    t = np.linspace(0, 1, 101)
    shares = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return tuple(sum(s * v for s, v in zip(shares, values, strict=True)) for values in ((x0, x1, x2), (y0, y1, y2)))


def _marks_in_grid(surface: Surface, marks: list[NetworkMark], *, mark_single: bool = False) -> list[NetworkMark]:
    """Return the marks inside the grid, with the average of three networks."""
    if len(marks) < 2 and not mark_single:
        return []
    if len(marks) == 3:
        x, y = (sum(getattr(each, axis) for each in marks) / 3 for axis in "xy")
        marks = [*marks, NetworkMark("average of the three", x, y)]
    xs, ys = surface.grid.x, [0.0] if surface.grid.y is None else surface.grid.y
    return [each for each in marks if xs[0] <= each.x <= xs[-1] and ys[0] <= each.y <= ys[-1]]
