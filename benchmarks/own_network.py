"""A network that the project has never seen: `lossatlas.surface` against a plain loop over points and batches.

    python benchmarks/own_network.py

A small vision transformer on 512 bundled images, a convolutional network with BatchNorm on the same, and a perceptron
on 1,000 points: seconds for each point of a line, both in one run, in turn, and how far the losses are from a loop in
float64.
"""

import copy
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
from baselines import in_turn, ratio, result
from torch import Tensor, nn

import lossatlas
from lossatlas.datasets.registry import load
from lossatlas.mpi.rank_resources import cores
from lossatlas.parameter_space import as_point

POINTS, PLANNED, ROUNDS = 9, 2601, 5


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.two(x))


class Vit(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.position = nn.Parameter(0.02 * torch.randn(49, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def convolutional() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((1, 32), (32, 32), (32, 64), (64, 64)):
        layers += [
            nn.Conv2d(before, after, 3, stride=1 + (before != after), padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@torch.no_grad()
def naive(
    net: nn.Module, direction: dict[str, Tensor], points: np.ndarray, inputs: Tensor, labels: Tensor
) -> np.ndarray:
    """What anybody would write: set the parameters, go through the batches, average."""
    own = copy.deepcopy(net).eval()
    at = {name: p.clone() for name, p in own.named_parameters()}
    values = []
    for a in points:
        for name, p in own.named_parameters():
            p.copy_(at[name] + float(a) * direction[name].to(p))
        total = 0.0
        for x, y in zip(inputs.split(64), labels.split(64), strict=True):
            total += F.cross_entropy(own(x), y, reduction="sum").item()
        values.append(total / len(labels))
    return np.array(values)


def main() -> None:
    torch.set_num_threads(len(cores()))
    torch.manual_seed(0)
    images = load("fashion_mnist_mini", "train", limit=512)
    points = torch.randn(1000, 2)
    cases = {
        "a vision transformer, 512 images": (Vit(), images.inputs.contiguous(), images.targets),
        "a convolutional network with BatchNorm, 512 images": (
            convolutional(),
            images.inputs.contiguous(),
            images.targets,
        ),
        "a perceptron 2-64-64-2, 1,000 points": (
            nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)),
            points,
            (points.prod(1) > 0).long(),
        ),
    }
    for name, (net, inputs, labels) in cases.items():
        whole = lossatlas.surface(
            net, (inputs, labels), x=f"-1:1:{PLANNED}" if inputs.dim() == 2 else f"-1:1:{POINTS}", progress=False
        )
        line = lossatlas.surface(net, (inputs, labels), x=f"-1:1:{POINTS}", progress=False)
        line = replace(line, plan=whole.plan)  # as for a grid that is worth a measurement
        direction = as_point(line.directions.x, net, "weights", "it")  # type: ignore[union-attr]
        exact = naive(net.double(), direction, line.x, inputs.double(), labels)
        net.float()
        error = float(np.abs(line.loss / exact - 1).max())
        plan = {key: line.plan[key] for key in ("path", "batch_size", "lanes", "points_per_call")}
        work = as_planned(net, line, inputs, labels)
        seconds = in_turn(
            {
                "ours": lambda: work([(float(a), 0.0) for a in line.x]),  # noqa: B023
                "naive": lambda: naive(net, direction, line.x, inputs, labels),  # noqa: B023
            },
            ROUNDS,
        )
        print(f"  {name}: {plan}, relative error {error:.1e}")
        result(
            f"{name}: a point against a plain loop, speed; relative error",
            "> 1×, ≤ 1e-5",
            f"{ratio(seconds['naive'], seconds['ours']):.2f}×, {error:.1e}",
            ratio(seconds["naive"], seconds["ours"]) > 1 and error <= 1e-5,
        )


def as_planned(net: nn.Module, line: lossatlas.Landscape, inputs: Tensor, labels: Tensor):
    """What `surface` has computed with, without what it does once."""
    from lossatlas.data import LOSSES, Dataset
    from lossatlas.jobs.sweep.loss_plan import evaluator_of
    from lossatlas.jobs.sweep.problem import Problem
    from lossatlas.parameter_space import AffinePlane, tensors

    origin = {key: value.clone() for key, value in tensors(net).items()}
    plane = AffinePlane(origin, as_point(line.directions.x, net, "weights", "it"))  # type: ignore[union-attr]
    scene = Problem(net, plane, {"train": Dataset("it", "train", (inputs, labels))}, LOSSES["crossentropy"])
    return evaluator_of(scene, line.plan)


if __name__ == "__main__":
    main()
