"""Residual networks for small images, with and without shortcuts.

Two families of He et al. (arXiv 1512.03385): `cifar_resnet` with three stages of 16-32-64 channels times `width` and
depth 6 n + 2 (section 4.2), and `imagenet_resnet` with four stages of 64 to 512 channels, here behind a 3x3 stem
without pooling. Where the shape changes the shortcut is a 1x1 convolution with BatchNorm, as in the release of Li et
al. (arXiv 1712.09913), whose parameter names are kept so that published checkpoints load strictly. Networks without
shortcuts have none of these convolutions either.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, padded to keep the size of the image at stride 1.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        size: Width and height of the filters, an odd number.
        stride: Step of the filters along both axes.
    """
    return nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions.

    Args:
        channels_in: Channels of the input.
        channels: Channels of the convolutions; the output has `expansion` times as many.
        stride: Factor by which the image shrinks.
        shortcut: Add the input; without it the same layers follow each other.
    """

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int, *, shortcut: bool) -> None:
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
        """Make the layers under the names that checkpoints have."""
        self.conv1 = conv(channels_in, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)

    def layers(self, x: Tensor) -> Tensor:
        """Apply the layers to (B, channels_in, H, W), without shortcut and last ReLU."""
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels * expansion, H / stride, W / stride)."""
        out = self.layers(x)
        return torch.relu(out + self.shortcut(x) if self.residual else out)


class Bottleneck(Block):
    """Residual block of a 1x1, a 3x3 and a 1x1 convolution, with 4 times as many channels at its end."""

    expansion = 4

    def make_layers(self, channels_in: int, channels: int, stride: int) -> None:
        """Make the layers under the names that checkpoints have."""
        self.conv1 = conv(channels_in, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)

    def layers(self, x: Tensor) -> Tensor:
        """Apply the layers to (B, channels_in, H, W), without shortcut and last ReLU."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(x)))))


class ResNet(nn.Module):
    """Stages of residual blocks behind a 3x3 stem; every stage after the first halves the image.

    Args:
        block: Kind of the blocks.
        blocks: Blocks of each stage.
        channels: Channels of each stage.
        shortcut: Give the blocks shortcuts.
        in_channels: Channels of the images.
        classes: Number of classes.
    """

    def __init__(
        self,
        block: type[Block],
        blocks: Sequence[int],
        channels: Sequence[int],
        *,
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
                stage.append(block(width, channels[i], stride, shortcut=shortcut))
                width = channels[i] * block.expansion
            setattr(self, name, stage)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.linear(x.mean(dim=(2, 3)))


def cifar_resnet(
    depth: int, width: int = 1, shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, shortcut: bool = True
) -> ResNet:
    """Build the network of He et al. for CIFAR (arXiv 1512.03385, section 4.2).

    Args:
        depth: Layers, 6 n + 2.
        width: Factor of the 16, 32 and 64 channels of its stages.
        shape: Shape (C, H, W) of one sample.
        classes: Number of classes.
        shortcut: Give the blocks shortcuts.

    Returns:
        The network.
    """
    blocks, channels = [(depth - 2) // 6] * 3, [16 * width, 32 * width, 64 * width]
    return ResNet(Block, blocks, channels, shortcut=shortcut, in_channels=shape[0], classes=classes)


def imagenet_resnet(
    block: type[Block],
    blocks: Sequence[int],
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    shortcut: bool = True,
) -> ResNet:
    """Build the network of He et al. for ImageNet (arXiv 1512.03385, table 1), behind a 3x3 stem without pooling.

    Args:
        block: Kind of the blocks.
        blocks: Blocks of each of the four stages, which have 64 to 512 channels.
        shape: Shape (C, H, W) of one sample.
        classes: Number of classes.
        shortcut: Give the blocks shortcuts.

    Returns:
        The network.
    """
    return ResNet(block, blocks, [64, 128, 256, 512], shortcut=shortcut, in_channels=shape[0], classes=classes)
