"""DenseNet with bottlenecks for small images (Huang et al., arXiv 1608.06993), named as in the release of Li et al."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """Layer that adds channels to its input, through a 1x1 convolution to 4 times as many.

    Args:
        channels: Channels of the input.
        growth: Channels that are added.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, growth + channels, H, W)."""
        out = self.conv2(torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(x))))))
        return torch.cat([out, x], 1)


class Transition(nn.Module):
    """Layer that halves the channels and the image.

    Args:
        channels: Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels / 2, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv(torch.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """Dense blocks with transitions between them.

    Args:
        blocks: Layers of each block.
        growth: Channels that each layer adds.
        shape: Shape (C, H, W) of one sample.
        classes: Number of classes.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        growth: int = 32,
        shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
    ) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = nn.Conv2d(shape[0], channels, 3, padding=1, bias=False)
        self.stages: list[str] = []
        for i, layers in enumerate(blocks):
            dense = nn.Sequential(*(DenseLayer(channels + k * growth, growth) for k in range(layers)))
            channels += layers * growth
            self._add_stage(f"dense{i + 1}", dense)
            if i + 1 < len(blocks):
                self._add_stage(f"trans{i + 1}", Transition(channels))
                channels //= 2
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)

    def _add_stage(self, name: str, stage: nn.Module) -> None:
        self.stages.append(name)
        setattr(self, name, stage)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, classes)."""
        x = self.conv1(x)
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.linear(torch.relu(self.bn(x)).mean(dim=(2, 3)))
