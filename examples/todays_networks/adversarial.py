"""Loss at the worst images that three steps of projected ascent find near the given ones; the clean loss as a metric.

python examples/todays_networks/adversarial.py adversarial.pt [STEPS]     trains against them (Madry et al., 1706.06083)

The gradient with respect to the images comes from torch.func; torch.autograd.grad would do as well.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

sys.path.append(str(Path(__file__).resolve().parents[2]))

from lossatlas import Losses

IMAGES = Path(__file__).resolve().parents[2] / "lossatlas" / "datasets" / "fashion_mnist_mini.npz"
RADIUS, ASCENT = 0.05, 3  # of the change of a pixel in 0..1; steps


def make() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def data(split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) in 0..1, and labels."""
    with np.load(IMAGES) as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    return torch.from_numpy(images)[:, None].float() / 255, torch.from_numpy(labels).long()


def attacked(model, images: Tensor, labels: Tensor) -> Tensor:
    """Each image changed within RADIUS so that its own loss rises. The signs are constant almost everywhere."""

    def total(changed: Tensor) -> Tensor:
        return F.cross_entropy(model(changed), labels, reduction="sum")

    changed = images
    for _ in range(ASCENT):
        step = RADIUS / 2 * grad(total)(changed).sign().detach()
        changed = (images + (changed + step - images).clamp(-RADIUS, RADIUS)).clamp(0, 1)
    return changed


def loss(model, batch: tuple[Tensor, Tensor]) -> Losses:
    images, labels = batch
    robust, clean = model(attacked(model, images, labels)), model(images)
    metrics = {
        "accuracy": robust.argmax(1) == labels,
        "clean_loss": F.cross_entropy(clean, labels, reduction="none"),
        "clean_accuracy": clean.argmax(1) == labels,
    }
    return Losses(F.cross_entropy(robust, labels, reduction="none"), metrics=metrics)


def main(path: str, steps: int = 500) -> None:
    from fitting import fit

    torch.manual_seed(0)
    net, (images, labels) = make(), data("train")
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    fit(optimizer, lambda n: loss(net, (images[n], labels[n])).mean(), len(images), steps=steps, cycle=False)
    torch.save({"model_state_dict": net.state_dict()}, path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
