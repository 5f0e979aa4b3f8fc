"""A small vision transformer on the bundled images; the usual cross-entropy.

python examples/todays_networks/vit.py vit.pt [STEPS]          trains it
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = Path(__file__).resolve().parents[2] / "lossatlas" / "datasets" / "fashion_mnist_mini.npz"


class ViT(nn.Module):
    """Patches of 7 x 7 as 16 tokens, a class token, pre-norm encoder layers."""

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=7, stride=7)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 17, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (n, 16, width)
        tokens = torch.cat([self.first.expand(len(images), -1, -1), tokens], dim=1)
        return self.head(self.encoder(tokens + self.places)[:, 0])


def make() -> nn.Module:
    return ViT()


def data(split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) of zero mean, and labels."""
    with np.load(IMAGES) as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    return (torch.from_numpy(images)[:, None].float() / 255 - 0.286) / 0.353, torch.from_numpy(labels).long()


def main(path: str, steps: int = 600) -> None:
    from fitting import fit

    torch.manual_seed(0)
    net, (images, labels) = make(), data("train")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    fit(optimizer, lambda n: F.cross_entropy(net(images[n]), labels[n]), len(images), steps=steps)
    torch.save({"model_state_dict": net.state_dict()}, path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
