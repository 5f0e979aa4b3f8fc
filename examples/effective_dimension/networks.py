"""Families of networks over width and depth."""

from torch import nn


def conv(num_channels: int = 8, depth: int = 3, size: int = 14) -> nn.Module:
    """`depth` convolutions of `num_channels` filters, the first one followed by pooling, and a linear layer."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(num_channels if i else 1, num_channels, 3, padding=1), nn.ReLU()]
        if i == 0:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(num_channels * (size // 2) ** 2, 10))


def mlp(width: int = 16, depth: int = 2, inputs: int = 49) -> nn.Module:
    """`depth` hidden layers of `width` units."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers += [nn.Linear(width if i else inputs, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))
