"""Which networks a line or a plane goes through, as far as a surface file says so."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossatlas.landscape.surface import Surface

PLACES = {"model_file": (0.0, 0.0), "model_file2": (1.0, 0.0), "model_file3": (0.0, 1.0)}


@dataclass(frozen=True)
class Network:
    """A network at a point of a plane; on a line y is 0."""

    name: str
    x: float
    y: float


def networks_of(surface: Surface) -> list[Network]:
    """The two or three networks that the axes point to, and the average of three; none where directions are others."""
    if "networks" in surface.about:
        named = [Network(str(name), float(x), float(y)) for name, x, y in surface.about["networks"]]
        if curve_of(surface):
            return named
        return within(surface, named, alone="scheme" in surface.request)
    command = str(surface.about.get("command", ""))
    found = []
    for option, (x, y) in PLACES.items():
        if option == "model_file3" and "--same_dir" in command:  # which then counts, and not the file
            continue
        if file := re.search(rf"--{option}[= ](\S+)", command):
            found.append(Network(Path(file.group(1)).stem, x, y))
    return within(surface, found)


def curve_of(surface: Surface) -> str:
    """The kind of the curve between the first two networks whose bend the third one is; '' where there is none."""
    kind = surface.about.get("curve", "")
    return str(kind) if kind in ("bezier", "polygonal") and len(surface.about.get("networks", ())) == 3 else ""


def bent(kind: str, networks: Sequence[Network]) -> tuple[np.ndarray, np.ndarray]:
    """x and y along a curve from the first network to the second by the third."""
    (x0, x2, x1), (y0, y2, y1) = ([getattr(each, axis) for each in networks] for axis in "xy")
    if kind == "polygonal":
        return np.array([x0, x1, x2]), np.array([y0, y1, y2])
    t = np.linspace(0, 1, 101)
    shares = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return tuple(sum(s * v for s, v in zip(shares, values, strict=True)) for values in ((x0, x1, x2), (y0, y1, y2)))


def within(surface: Surface, found: list[Network], alone: bool = False) -> list[Network]:
    """Those on the grid, and the average of three. alone: one by itself is worth a mark."""
    if len(found) < 2 and not alone:
        return []
    if len(found) == 3:
        x, y = (sum(getattr(each, axis) for each in found) / 3 for axis in "xy")
        found = [*found, Network("average of the three", x, y)]
    xs, ys = surface.grid.x, [0.0] if surface.grid.y is None else surface.grid.y
    return [each for each in found if xs[0] <= each.x <= xs[-1] and ys[0] <= each.y <= ys[-1]]
