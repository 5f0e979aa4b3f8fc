"""A small network on many points: several points in one call, against the loop that sets weights point by point.

    python benchmarks/many_points.py

A perceptron 2-64-64-2 on 1,000 samples and 51 x 51 points.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from baselines import in_turn, naive_points, ratio, result
from torch import nn

from lossatlas.data import LOSSES, Dataset
from lossatlas.evaluation import Evaluator, tune
from lossatlas.landscape import Grid
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

ROUNDS = 5


def main() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    inputs = torch.randn(1000, 2)
    data = Dataset("moons", "train", (inputs, (inputs.prod(1) > 0).long()), 2)
    at = tensors(net)
    plane = AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))
    grid = Grid.parse("-1:1:51", "-1:1:51")
    points = [grid.point(cell) for cell in range(grid.size)]
    evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"])
    tune(evaluator, 200_000)
    print(f"batch size {evaluator.batch_size}, points per call {evaluator.points_per_call}")
    directions = [list(plane.dx.values()), list(plane.dy.values())]
    found = evaluator(points)[:, 0, 2] / 1000
    expected = naive_points(net, directions, data.inputs, data.targets, points)
    print(f"largest difference of the loss: {np.abs(found / expected - 1).max():.1e} relative")
    weights = torch.randn(16, 64, 64)
    hidden = torch.randn(16, 256, 64)
    ways = {
        "naive loop over points": lambda: naive_points(net, directions, data.inputs, data.targets, points),
        "this tool": lambda: evaluator(points),
        # What the machine needs for the hidden layer's multiplications alone, with nothing in the way.
        "bound": lambda: [torch.bmm(hidden, weights) for _ in range(round(2601 * 1000 / (16 * 256)))],
    }
    seconds = in_turn(ways, ROUNDS)
    for name, times in seconds.items():
        print(f"  {name}: {np.median(times):.3f} s for 51 x 51 points")
    value, bound = (ratio(seconds["naive loop over points"], seconds[name]) for name in ("this tool", "bound"))
    result(
        "a perceptron 2-64-64-2, 1,000 samples, 51×51, against the naive loop over points",
        "≥ 4×",
        f"{value:.2f}× (the hidden layer's batched product alone: {bound:.2f}×)",
        value >= 4,
    )


if __name__ == "__main__":
    main()
