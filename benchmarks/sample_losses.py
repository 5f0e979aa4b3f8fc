"""Save the loss of every sample of Fashion-MNIST at every cell of two surfaces: what `tolerance.py` replays.

    python benchmarks/sample_losses.py --out sample_losses.npz       # about an hour on two cores, continues if interrupted

ResNet-56 with and without shortcuts, 9 x 9 cells, 60,000 images, computed in bfloat16 (only the distribution over the
samples matters here). Writes float32 arrays `resnet56` and `resnet56_noshort` of shape (81, 60000), NaN where a cell
is not computed yet.
"""

import argparse
import os
import sys
import time
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F

from dataloader import load
from folding import Folded
from models import load_network
from net_plotter import Affine, random_direction, tensors
from surface import Grid

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("resnet56", "resnet56_noshort")
GRID = Grid.parse("-1:1:9", "-1:1:9")


def plane_of(name: str) -> tuple[torch.nn.Module, Affine]:
    file = ROOT / "trained_nets" / f"{name}_fashion_mnist.safetensors"
    net = load_network(name, file, (1, 28, 28))
    at = {name: value.clone() for name, value in tensors(net).items()}
    return net, Affine(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    data = load("fashion_mnist", "train")
    batches = list(zip(data.inputs.bfloat16().split(96), data.targets.split(96), strict=True))
    done = dict(np.load(out)) if out.exists() else {}
    losses = {name: done.get(name, np.full((GRID.size, len(data)), np.nan, np.float32)) for name in NETWORKS}
    setups = {}
    for name in NETWORKS:
        net, plane = plane_of(name)
        setups[name] = (net, plane, Folded(net))
    start = time.monotonic()
    for cell in GRID.coarse_first():
        for name, (net, plane, folded) in setups.items():
            if not np.isnan(losses[name][cell, 0]):
                continue
            for key, value in plane.point(*GRID.point(int(cell))).items():
                net.get_parameter(key).copy_(value)
            folded.update()
            fast = deepcopy(folded.net).to(torch.bfloat16, memory_format=torch.channels_last)
            logits = torch.cat([fast(x) for x, _ in batches])
            losses[name][cell] = F.cross_entropy(logits.double(), data.targets, reduction="none").numpy()
            print(
                f"{name} {GRID.point(int(cell))}: {losses[name][cell].mean():.5g}, {time.monotonic() - start:.0f} s",
                flush=True,
            )
        temporary = out.with_suffix(".tmp.npz")
        np.savez(temporary, **losses)
        os.replace(temporary, out)


if __name__ == "__main__":
    main()
