"""Save the loss of every sample at every cell of a grid: what `levels.py` replays.

    python benchmarks/grid_losses.py --out grid_losses        # half an hour on two cores, continues if interrupted
    python benchmarks/grid_losses.py --out grid_losses_51 --cells 51 --samples 512          # an hour

The bundled ResNet-56 with and without shortcuts, on the demo's plane from -1 to 1, for the first images of
Fashion-MNIST, in float32. One process for each network. Writes NETWORK.npz: `loss` (cells, samples) in float32, `right`
of the same shape, whether the largest output was that of the class.
"""

import argparse
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas.datasets.registry import load
from lossatlas.evaluation.folding import Folded
from lossatlas.landscape import Grid
from lossatlas.models import load_network
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("resnet56", "resnet56_noshort")
CELLS, SAMPLES, CHUNK, BATCH = 21, 2048, 128, 128


def bundled(name: str) -> tuple[nn.Module, AffinePlane]:
    """A bundled network, and the demo's plane through it."""
    net = load_network(name, ROOT / "trained_nets" / f"{name}_fashion_mnist.safetensors", (1, 28, 28))
    at = {name: value.clone() for name, value in tensors(net).items()}
    return net, AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))


def grid_of(losses: np.ndarray) -> Grid:
    """The grid of saved losses."""
    axis = f"-1:1:{round(len(losses) ** 0.5)}"
    return Grid.parse(axis, axis)


@torch.no_grad()
def save(name: str, out: Path, cells: int, samples: int) -> None:
    """Chunk after chunk of samples, so that what is there is always there for all cells."""
    torch.set_num_threads(1)
    path, temporary = out / f"{name}.npz", out / f"{name}.tmp.npz"
    found = [dict(np.load(path))] if path.exists() else []
    start = sum(part["loss"].shape[1] for part in found)
    data, grid = load("fashion_mnist", "train"), Grid.parse(f"-1:1:{cells}", f"-1:1:{cells}")
    net, plane = bundled(name)
    folded, began = Folded(net), time.monotonic()
    for first in range(start, samples, CHUNK):
        images = data.inputs[first : first + CHUNK].contiguous(memory_format=torch.channels_last)
        targets, loss, right = data.targets[first : first + CHUNK], [], []
        for cell in range(grid.size):
            for key, value in plane.point(*grid.point(cell)).items():
                net.get_parameter(key).copy_(value)
            folded.update()
            output = torch.cat([folded.net(x) for x in images.split(BATCH)])
            loss.append(F.cross_entropy(output.double(), targets, reduction="none").float().numpy())
            right.append((output.argmax(1) == targets).numpy())
        found.append({"loss": np.stack(loss), "right": np.stack(right)})
        np.savez(temporary, **{key: np.concatenate([part[key] for part in found], axis=1) for key in found[0]})
        os.replace(temporary, path)
        print(f"{name}: {first + CHUNK} samples, {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=CELLS, help="along each axis (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="(default: %(default)s)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    work = [
        get_context("spawn").Process(target=save, args=(name, args.out, args.cells, args.samples)) for name in NETWORKS
    ]
    for process in work:
        process.start()
    for process in work:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in work))


if __name__ == "__main__":
    main()
