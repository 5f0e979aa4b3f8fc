"""Which networks a line or a plane goes through, as far as a surface file says so."""

import re
from dataclasses import dataclass
from pathlib import Path

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
        return within(surface, named, alone="scheme" in surface.request)
    command = str(surface.about.get("command", ""))
    found = []
    for option, (x, y) in PLACES.items():
        if option == "model_file3" and "--same_dir" in command:  # which then counts, and not the file
            continue
        if file := re.search(rf"--{option}[= ](\S+)", command):
            found.append(Network(Path(file.group(1)).stem, x, y))
    return within(surface, found)


def within(surface: Surface, found: list[Network], alone: bool = False) -> list[Network]:
    """Those on the grid, and the average of three. alone: one by itself is worth a mark."""
    if len(found) < 2 and not alone:
        return []
    if len(found) == 3:
        x, y = (sum(getattr(each, axis) for each in found) / 3 for axis in "xy")
        found = [*found, Network("average of the three", x, y)]
    xs, ys = surface.grid.x, [0.0] if surface.grid.y is None else surface.grid.y
    return [each for each in found if xs[0] <= each.x <= xs[-1] and ys[0] <= each.y <= ys[-1]]
