"""Residual networks for small images, with and without shortcuts.

Two families of He et al. (arXiv 1512.03385): `cifar_resnet` with three stages of 16-32-64 channels times `width` and
depth 6 n + 2 (section 4.2), and `imagenet_resnet` with four stages of 64 to 512 channels, here behind a 3x3 stem
without pooling. Where the shape changes the shortcut is a 1x1 convolution with BatchNorm, as in the release of Li et al.
(arXiv 1712.09913), whose parameter names are kept so that published checkpoints load strictly. Without shortcuts every
one of them is dropped, the projections included.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """A residual block; without shortcut it is the same stack of layers and nothing is added."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.residual = shortcut
        self.make_layers(channels_in, channels, stride)
        if shortcut:
            channels_out = channels * self.expansion
            self.shortcut = nn.Sequential()
            if stride != 1 or channels_in != channels_out:
                self.shortcut.append(conv(channels_in, channels_out, 1, stride))
                self.shortcut.append(nn.BatchNorm2d(channels_out))

    def make_layers(self, channels_in: int, channels: int, stride: int) -> None:
        self.conv1 = conv(channels_in, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)

    def layers(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        return torch.relu(out + self.shortcut(x) if self.residual else out)


class Bottleneck(Block):
    expansion = 4

    def make_layers(self, channels_in: int, channels: int, stride: int) -> None:
        self.conv1 = conv(channels_in, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)

    def layers(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(x)))))


class ResNet(nn.Module):
    """Stages of blocks behind a 3x3 stem; every stage after the first halves the image.

    `forward` maps images (B, C, H, W) to logits (B, classes).
    """

    def __init__(
        self,
        block: type[Block],
        blocks: Sequence[int],
        channels: Sequence[int],
        shortcut: bool,
        in_channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels[0], 3)
        self.bn1 = nn.BatchNorm2d(channels[0])
        width = channels[0]
        self.stages = [f"layer{i + 1}" for i in range(len(blocks))]
        for i, name in enumerate(self.stages):
            stage = nn.Sequential()
            for j in range(blocks[i]):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(block(width, channels[i], stride, shortcut))
                width = channels[i] * block.expansion
            setattr(self, name, stage)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.linear(x.mean(dim=(2, 3)))


def cifar_resnet(
    depth: int, width: int = 1, shortcut: bool = True, shape: Sequence[int] = (3, 32, 32), classes: int = 10
) -> ResNet:
    """ResNet of `depth` = 6 n + 2 layers with 16, 32 and 64 channels times `width`."""
    blocks = [(depth - 2) // 6] * 3
    return ResNet(Block, blocks, [16 * width, 32 * width, 64 * width], shortcut, shape[0], classes)


def imagenet_resnet(
    block: type[Block],
    blocks: Sequence[int],
    shortcut: bool = True,
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
) -> ResNet:
    """ResNet of four stages with 64 to 512 channels."""
    return ResNet(block, blocks, [64, 128, 256, 512], shortcut, shape[0], classes)
