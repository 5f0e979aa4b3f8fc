"""LoRA: a perceptron learns five kinds of clothes; then it is frozen, and adapters of rank 4 learn the five others.

python examples/todays_networks/lora.py lora.pt [STEPS]          trains both
python plot_surface.py --model examples/todays_networks/lora.py:make --model_file lora.pt --only lora_ ...
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = Path(__file__).resolve().parents[2] / "lossatlas" / "datasets" / "fashion_mnist_mini.npz"


class Adapted(nn.Module):
    """A frozen linear layer plus a trained product of two thin matrices, zero at the start (Hu et al., 2106.09685)."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


def perceptron(width: int = 128) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 5)
    )


def make(rank: int = 4) -> nn.Module:
    return adapt(perceptron(), rank)


def adapt(net: nn.Sequential, rank: int = 4) -> nn.Sequential:
    return nn.Sequential(*(Adapted(layer, rank) if isinstance(layer, nn.Linear) else layer for layer in net))


def data(split: str, first: int = 5) -> tuple[Tensor, Tensor]:
    """Images of the classes first to first + 4, and their labels, counted from 0."""
    with np.load(IMAGES) as file:
        images, labels = torch.from_numpy(file[f"{split}_images"]), torch.from_numpy(file[f"{split}_labels"]).long()
    chosen = (labels >= first) & (labels < first + 5)
    return (images[chosen][:, None].float() / 255 - 0.286) / 0.353, labels[chosen] - first


def train(net: nn.Module, images: Tensor, labels: Tensor, steps: int, lr: float) -> None:
    from fitting import fit

    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr)
    fit(optimizer, lambda n: F.cross_entropy(net(images[n]), labels[n]), len(images), steps=steps, cycle=False)


def main(path: str, steps: int = 600) -> None:
    torch.manual_seed(0)
    net = perceptron()
    train(net, *data("train", first=0), steps, lr=1e-3)
    net = adapt(net)
    train(net, *data("train"), steps, lr=2e-3)
    torch.save({"model_state_dict": net.state_dict()}, path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
