"""Baselines: a ResNet-56 in plain torch, bare loops over it, and the original release's way; nothing of the project.

The parameter names are those of the published checkpoints, so that trained weights load: random ones produce
activations whose arithmetic costs differently.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Unit(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.shortcut = nn.Sequential()
        if a != b:
            self.shortcut = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class FoldedUnit(nn.Module):
    """The same without BatchNorm, overwriting what nobody reads again."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.conv1, self.conv2 = fold(unit.conv1, unit.bn1), fold(unit.conv2, unit.bn2)
        self.shortcut = fold(*unit.shortcut) if len(unit.shortcut) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.conv1(x), inplace=True))
        return F.relu(out.add_(self.shortcut(x)), inplace=True)


class PlainResNet56(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        width = 16
        for k, out in enumerate((16, 32, 64)):
            units = [Unit(width if j == 0 else out, out, 2 if j == 0 and k else 1) for j in range(9)]
            setattr(self, f"layer{k + 1}", nn.Sequential(*units))
            width = out
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.shape[-1]).flatten(1))


def plain(state: Mapping[str, Tensor], *, channels_last: bool) -> PlainResNet56:
    net = PlainResNet56(state["conv1.weight"].shape[1])
    net.load_state_dict(state)
    net = net.eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last) if channels_last else net


def fold(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    out = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    out.weight.data = (conv.weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    out.bias.data = bn.bias - bn.running_mean * scale
    return out.requires_grad_(False)


def folded(net: PlainResNet56) -> PlainResNet56:
    """The same network with every BatchNorm folded by hand, once."""
    with torch.no_grad():
        net.conv1, net.bn1 = fold(net.conv1, net.bn1), nn.Identity()
        for name in ("layer1", "layer2", "layer3"):
            setattr(net, name, nn.Sequential(*(FoldedUnit(unit) for unit in getattr(net, name))))
    return net


@torch.inference_mode()
def bare_loop(net: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> float:
    """The least that a point can cost: the forward passes over resident batches and the sum of the loss."""
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        total += F.cross_entropy(net(x), y, reduction="sum")
    return float(total) / len(targets)


class Images(Dataset):
    """Images that are decoded and normalized one by one, as torchvision's data sets and transforms do it."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> None:
        self.images, self.labels, self.mean, self.std = images, labels, mean, std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[k])
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.as_tensor(v, dtype=x.dtype).view(-1, 1, 1) for v in (self.mean, self.std))
        return x.clone().sub_(mean).div_(std), int(self.labels[k])


def original_way(
    net: nn.Module, weights: list[Tensor], directions: list[list[Tensor]], loader: DataLoader, at: tuple[float, float]
) -> float:
    """Weights rebuilt and copied, then a pass over a DataLoader with a synchronization per batch."""
    changes = [x * at[0] + y * at[1] for x, y in zip(*directions, strict=True)]
    for p, w, d in zip(net.parameters(), weights, changes, strict=True):
        p.data = w + torch.Tensor(d).type(w.type())
    total, correct, count = 0.0, 0, 0
    criterion = nn.CrossEntropyLoss()
    with torch.no_grad():
        for x, y in loader:
            outputs = net(x)
            total += criterion(outputs, y).item() * len(y)
            _, predicted = torch.max(outputs.data, 1)
            correct += predicted.eq(y).sum().item()
            count += len(y)
    return total / count


def naive_points(net: nn.Module, directions: list[list[Tensor]], x: Tensor, y: Tensor, points: Sequence) -> list[float]:
    """The loop everybody writes: set the weights, one forward pass over everything, the mean loss and accuracy."""
    weights, losses = [p.detach().clone() for p in net.parameters()], []
    with torch.no_grad():
        for a, b in points:
            for p, w, d, e in zip(net.parameters(), weights, *directions, strict=True):
                p.data = w + a * d + b * e
            outputs = net(x)
            losses.append(F.cross_entropy(outputs, y).item())
            (outputs.argmax(1) == y).float().mean().item()
    for p, w in zip(net.parameters(), weights, strict=True):
        p.data = w
    return losses


def gradient(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The eager gradient of the mean loss over one batch, flat."""
    found = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    return torch.cat([g.reshape(-1) for g in found])


def kept_product(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Products with the Hessian over one batch, whose gradient's graph is kept, as PyHessian does it."""
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(net(x), y), parameters, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        pieces = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)]
        found = torch.autograd.grad(gradients, parameters, grad_outputs=pieces, retain_graph=True)
        return torch.cat([h.reshape(-1) for h in found])

    return product


def rebuilt_product(net: nn.Module, x: Tensor, y: Tensor, vector: Tensor, size: int = 128) -> Tensor:
    """A product with the Hessian batch by batch, each gradient's graph built anew, as in the release of Li et al."""
    parameters, total = list(net.parameters()), torch.zeros_like(vector)
    pieces = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)]
    for a, b in zip(x.split(size), y.split(size), strict=True):
        loss = F.cross_entropy(net(a), b) * (len(b) / len(y))
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        product = sum((g * v).sum() for g, v in zip(gradients, pieces, strict=True))
        total += torch.cat([h.reshape(-1) for h in torch.autograd.grad(product, parameters)])
    return total


def power_iteration(
    product: Callable[[Tensor], Tensor], size: int, top: int, tolerance: float, most: int
) -> tuple[list[float], list[float], int]:
    """The algorithm of PyHessian: one eigenvalue after the other, orthogonal to those before.

    It stops as soon as the residual allows, where PyHessian itself waits for a small change of the value. Returns
    values, relative residuals and the number of products.
    """
    values, residuals, vectors, count = [], [], list[Tensor](), 0
    for k in range(top):
        v = torch.randn(size, generator=torch.Generator().manual_seed(k))
        for _ in range(most):
            for u in vectors:
                v = v - u * torch.dot(u, v)
            v = v / v.norm()
            image = product(v)
            count += 1
            value = float(torch.dot(v, image))
            residual = float((image - value * v).norm()) / abs(value)
            if residual < tolerance:
                break
            before, v = v, image
        else:
            v = before
        values.append(value)
        residuals.append(residual)
        vectors.append(v / v.norm())
    return values, residuals, count


def two_solves(product: Callable[[np.ndarray], np.ndarray], size: int, tolerance: float) -> tuple[float, float, int]:
    """Both ends of the spectrum by two runs of scipy's eigsh, the second on a shifted operator, as in that release."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    count = 0

    def counted(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return product(vector.ravel().astype(np.float32))

    first = LinearOperator((size, size), matvec=counted, dtype=np.float32)
    largest = float(eigsh(first, k=1, tol=tolerance, return_eigenvectors=False)[0])
    shift = 0.51 * largest
    second = LinearOperator((size, size), matvec=lambda v: shift * v.ravel() - counted(v), dtype=np.float32)
    smallest = shift - float(eigsh(second, k=1, tol=tolerance, return_eigenvectors=False)[0])
    return largest, smallest, count


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each way in each round, measured in turn, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if k:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio(slow: np.ndarray, fast: np.ndarray) -> float:
    """The median over the rounds of how many times as long the first one took."""
    return float(np.median(slow / fast))


def result(figure: str, bar: str, measured: str, reached: bool | None) -> None:
    """A row of benchmarks/RESULTS.md. reached: None where nothing could be measured. bar: '' where there is none."""
    mark = "" if not bar else "not measured" if reached is None else "reached" if reached else "not reached"
    print(f"RESULT | {figure} | {bar} | {measured} | {mark} |", flush=True)
