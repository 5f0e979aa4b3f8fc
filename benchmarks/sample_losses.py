"""Save the loss of every sample at points of six networks' planes: what `tolerance.py` replays.

    python benchmarks/sample_losses.py --out sample_losses.npz       # half an hour on two cores, continues if interrupted

60,000 samples at 15 points of each plane, from the minimum to the far corner: the bundled ResNet-56 with and without
shortcuts and the bundled ResNet-20 of small and of large batches on Fashion-MNIST (in bfloat16: only the distribution
over the samples matters here), a perceptron at initialization on it, and a perceptron trained for a regression with
outliers (squared error, one sample in a hundred with ten times the noise). Writes a float32 array (15, 60000) for each
network, NaN where a point is not computed yet.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataloader import load
from lossatlas.evaluation.folding import Folded
from lossatlas.space import Affine, moved, random_direction, tensors
from models import build, load_network

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = {
    "resnet56": ("resnet56", "resnet56_fashion_mnist"),
    "resnet56_noshort": ("resnet56_noshort", "resnet56_noshort_fashion_mnist"),
    "resnet20_small_batch": ("resnet20", "resnet20_small_batch"),
    "resnet20_large_batch": ("resnet20", "resnet20_large_batch"),
}
NETWORKS = (*BUNDLED, "mlp_init", "regression")
POINTS = (
    (0, 0),
    (0.4, -0.4),
    (0.1, 0),
    (1, 1),
    (0.2, 0.1),
    (-0.25, 0),
    (-0.5, 0.5),
    (0.05, 0),
    (0.6, 0.3),
    (-0.1, 0.05),
    (-0.8, 0),
    (0.15, -0.1),
    (-0.4, 0.1),
    (0.8, -0.8),
    (0.3, 0.2),
)
SAMPLES = 60_000


def plane_through(net: nn.Module) -> Affine:
    at = {name: value.clone() for name, value in tensors(net).items()}
    return Affine(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))


def bundled(name: str) -> tuple[nn.Module, Affine]:
    model, file = BUNDLED[name]
    net = load_network(model, ROOT / "trained_nets" / f"{file}.safetensors", (1, 28, 28))
    return net, plane_through(net)


def of_images(name: str) -> Callable[[float, float], Tensor]:
    """Losses of Fashion-MNIST at a point of a bundled network's plane."""
    data = load("fashion_mnist", "train")
    if name == "mlp_init":
        torch.manual_seed(0)
        net = build("mlp", (1, 28, 28)).eval().requires_grad_(False)
        plane = plane_through(net)

        def plain(a: float, b: float) -> Tensor:
            with moved(net, plane.point(a, b)):
                return F.cross_entropy(net(data.inputs).double(), data.targets, reduction="none")

        return plain
    net, plane = bundled(name)
    folded = Folded(net)
    batches = data.inputs.bfloat16().split(96)

    def fast(a: float, b: float) -> Tensor:
        for key, value in plane.point(a, b).items():
            net.get_parameter(key).copy_(value)
        folded.update()
        own = deepcopy(folded.net).to(torch.bfloat16, memory_format=torch.channels_last)
        return F.cross_entropy(torch.cat([own(x) for x in batches]).double(), data.targets, reduction="none")

    return fast


def of_regression() -> Callable[[float, float], Tensor]:
    torch.manual_seed(0)
    inputs = torch.randn(SAMPLES, 8)
    noise = 0.1 * torch.randn(SAMPLES) * (1 + 9 * (torch.rand(SAMPLES) < 0.01))
    targets = torch.sin(inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2] + noise
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    with torch.inference_mode(False):
        for index in torch.randperm(20 * SAMPLES).remainder(SAMPLES).split(512):
            optimizer.zero_grad()
            F.mse_loss(net(inputs[index])[:, 0], targets[index]).backward()
            optimizer.step()
    net.requires_grad_(False)
    plane = plane_through(net)

    def losses(a: float, b: float) -> Tensor:
        with moved(net, plane.point(a, b)):
            return (net(inputs)[:, 0].double() - targets) ** 2

    return losses


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=NETWORKS)
    args = parser.parse_args()
    done = dict(np.load(args.out)) if args.out.exists() else {}
    start = time.monotonic()
    for name in args.names:
        saved = done.setdefault(name, np.full((len(POINTS), SAMPLES), np.nan, np.float32))
        if not np.isnan(saved[:, 0]).any():
            continue
        losses = of_regression() if name == "regression" else of_images(name)
        for k, (a, b) in enumerate(POINTS):
            if np.isnan(saved[k, 0]):
                with torch.inference_mode():
                    saved[k] = losses(a, b).numpy()
                print(f"{name} ({a}, {b}): {saved[k].mean():.5g}, {time.monotonic() - start:.0f} s", flush=True)
                temporary = args.out.with_suffix(".tmp.npz")
                np.savez(temporary, **done)
                os.replace(temporary, args.out)


if __name__ == "__main__":
    main()
