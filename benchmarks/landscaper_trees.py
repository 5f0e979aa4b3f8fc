"""The minima of surfaces and their merge trees against Landscaper's, in number, place and time.

    python benchmarks/landscaper_trees.py

Bundled surfaces of ResNet-56, every second of 51x51 cells, because the time of Landscaper's graph grows with the third
power of their number, and a bundled volume of ResNet-20, 11x11x11 cells. Landscaper 1.3 is needed (pip install
landscaper), whose merge trees are topopy's over the Gabriel graph of the grid, which joins neighbours along the axes as
ours does. Plateaus aside, the leaves of both trees are the same cells.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from baselines import in_turn, ratio, result
from landscaper import LossLandscape

from lossatlas.io import read_surface
from lossatlas.landscape.topology import array_minima

SURFACES = {"resnet56_noshort_cifar10.h5": 2, "resnet56_cifar10.h5": 2, "volume.h5": 1}  # and every which cell


def main() -> None:
    for name, step in SURFACES.items():
        surface = read_surface(ROOT / "docs" / "surfaces" / name)
        every = slice(None, None, step)
        values = surface.fields["train_loss"][(every,) * len(surface.grid.axes)]
        ranges = [axis[every] for axis in reversed(surface.grid.axes)]

        def theirs(values: np.ndarray = values, ranges: list[np.ndarray] = ranges) -> set[int]:
            return set(LossLandscape(values, ranges).get_sublevel_tree().leaves)

        def ours(values: np.ndarray = values) -> set[int]:
            return {each.cell for each in array_minima(values)}

        seconds = in_turn({"ours": ours, "theirs": theirs}, 3)
        found, expected = ours(), theirs()
        shared = len(found & expected)
        what = f"minima of {name}: in both merge trees; in ours; in Landscaper's"
        result(what, "the same", f"{shared}; {len(found)}; {len(expected)}", found == expected)
        speed = ratio(seconds["ours"], seconds["theirs"])
        result(f"merge tree of {name}: time against Landscaper's", "≤ 1", f"{speed:.4f}×", speed <= 1)


if __name__ == "__main__":
    main()
