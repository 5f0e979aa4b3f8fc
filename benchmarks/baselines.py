"""Baselines that import nothing of the project: a ResNet-56 in plain torch, the bare loops, and the original's way."""

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Unit(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.short = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b)) if a != b else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (x if self.short is None else self.short(x)))


class PlainResNet(nn.Module):
    def __init__(self, depth: int = 56) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 16
        for channels in (16, 32, 64):
            for k in range((depth - 2) // 6):
                layers.append(Unit(width, channels, 2 if k == 0 and channels > 16 else 1))
                width = channels
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.body, self.head = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


def fold(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    out = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)  # type: ignore[arg-type]
    out.weight.data = conv.weight * scale.view(-1, 1, 1, 1)
    out.bias.data = bn.bias - bn.running_mean * scale  # type: ignore[union-attr]
    return out


def folded(net: PlainResNet) -> PlainResNet:
    """The same network with every BatchNorm folded by hand, once."""
    with torch.no_grad():
        net.stem, net.norm = fold(net.stem, net.norm), nn.Identity()  # type: ignore[assignment]
        for unit in net.body:
            unit.conv1, unit.bn1 = fold(unit.conv1, unit.bn1), nn.Identity()
            unit.conv2, unit.bn2 = fold(unit.conv2, unit.bn2), nn.Identity()
            if unit.short is not None:
                unit.short = fold(unit.short[0], unit.short[1])
    return net


@torch.inference_mode()
def bare_loop(net: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> float:
    """The least that a point can cost: the forward passes and the sum of the loss."""
    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        total += F.cross_entropy(net(x), y, reduction="sum")
    return float(total) / len(targets)


class Images(Dataset):
    """Images that are decoded and normalized one by one, as torchvision's transforms do it."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.mean, self.std = torch.full((3, 1, 1), 0.48), torch.full((3, 1, 1), 0.25)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        x = torch.from_numpy(self.images[k].transpose(2, 0, 1)).contiguous().float().div(255)
        return x.sub(self.mean).div(self.std), int(self.labels[k])


def original_way(net: nn.Module, weights: list[Tensor], direction: list[Tensor], loader: DataLoader, a: float) -> float:
    """Weights rebuilt and copied, then a pass over a DataLoader with a synchronization per batch."""
    for p, w, d in zip(net.parameters(), weights, direction, strict=True):
        p.data = w + torch.Tensor(d * a).type(type(w))
    total, count = 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            total += F.cross_entropy(net(x), y).item() * len(y)
            count += len(y)
    return total / count


def pairs(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of two things measured in turn, after one round that does not count."""
    times: list[tuple[float, float]] = []
    for k in range(rounds + 1):
        both = []
        for work in (first, second):
            start = time.perf_counter()
            work()
            both.append(time.perf_counter() - start)
        if k:
            times.append((both[0], both[1]))
    return float(np.median([a for a, _ in times])), float(np.median([b for _, b in times]))
