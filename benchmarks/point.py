"""What a point costs: folded, unfolded, and the original's way, measured in turn in one run.

    python benchmarks/point.py

The original's way: images normalized one by one in a DataLoader with two workers, batches of 128 in NCHW order, weights
rebuilt for the point, and a synchronization per batch.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dataloader import load
from evaluation import Evaluator
from losses import LOSSES
from models import load_network
from net_plotter import Affine, random_direction, tensors

ROOT = Path(__file__).resolve().parent.parent
IMAGES, ROUNDS = 1000, 5


class OneByOne(Dataset):
    """Bytes that become a normalized tensor when they are asked for."""

    def __init__(self, images: np.ndarray, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        x = torch.from_numpy(self.images[k].transpose(2, 0, 1)).contiguous().float().div(255)
        return x.sub(0.2860).div(0.3530), int(self.labels[k])


def main() -> None:
    data = load("fashion_mnist_mini", limit=IMAGES)
    raw = load("fashion_mnist_mini", limit=IMAGES, raw=True)
    net = load_network("resnet56", ROOT / "trained_nets" / "resnet56_fashion_mnist.safetensors", (1, 28, 28))
    at = tensors(net)
    directions = [random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)]
    plane = Affine(at, *directions)
    folded, unfolded = (
        Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=64, folded=f) for f in (True, False)
    )
    images = (raw.inputs * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    loader = DataLoader(OneByOne(images, raw.targets), batch_size=128, num_workers=2)
    old = load_network("resnet56", ROOT / "trained_nets" / "resnet56_fashion_mnist.safetensors", (1, 28, 28))
    parameters = dict(old.named_parameters())

    def original() -> float:
        for name, w in at.items():
            parameters[name].data = w + 0.1 * directions[0][name] + 0.2 * directions[1][name]
        total = 0.0
        with torch.no_grad():
            for x, y in loader:
                total += F.cross_entropy(old(x), y).item() * len(y)
        return total / IMAGES

    ways: dict[str, Callable[[], float]] = {
        "folded": lambda: float(folded([(0.1, 0.2)])[0, 0, 2] / IMAGES),
        "unfolded": lambda: float(unfolded([(0.1, 0.2)])[0, 0, 2] / IMAGES),
        "original's way": original,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            loss = way()
            if k:
                seconds[name].append(time.perf_counter() - start)
            else:
                print(f"{name}: loss {loss:.7f}")
    print(f"ResNet-56, {IMAGES} images of 28x28, {torch.get_num_threads()} threads, median of {ROUNDS}:")
    for name, times in seconds.items():
        ratio = np.median(np.array(times) / np.array(seconds["folded"]))
        print(f"{name}: {np.median(times):.3f} s a point, {ratio:.2f} times the folded path")


if __name__ == "__main__":
    main()
