"""VGG networks with BatchNorm: 3x3 convolutions in blocks that end in pooling (Simonyan, Zisserman: 1409.1556)."""

from collections.abc import Sequence

from torch import Tensor, nn

VGG9 = ((64, 64), (128, 128), (256, 256, 256))
VGG13 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))


def convolutions(channels_in: int, blocks: Sequence[Sequence[int]]) -> nn.Sequential:
    """Build blocks of 3x3 convolutions with BatchNorm and ReLU, each of which ends in pooling.

    Args:
        channels_in: Channels of the images.
        blocks: Channels of the convolutions of each block.

    Returns:
        The layers.
    """
    layers = nn.Sequential()
    for block in blocks:
        for channels in block:
            layers.extend([nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()])
            channels_in = channels
        layers.append(nn.MaxPool2d(2))
    return layers


def flattened_size(shape: Sequence[int], blocks: Sequence[Sequence[int]]) -> int:
    """Count the numbers of a sample of `shape` behind the blocks, each of which halves the image."""
    halvings = len(blocks)
    return blocks[-1][-1] * (shape[1] >> halvings) * (shape[2] >> halvings)


class Vgg9(nn.Module):
    """Network of seven convolutions, a hidden linear layer with BatchNorm and a classifier, as Li et al. released it.

    Args:
        shape: Shape (C, H, W) of one sample.
        classes: Number of classes.
    """

    def __init__(self, shape: Sequence[int] = (3, 32, 32), classes: int = 10) -> None:
        super().__init__()
        width = VGG9[-1][-1]
        self.features = convolutions(shape[0], VGG9)
        self.fc = nn.Sequential(nn.Linear(flattened_size(shape, VGG9), width), nn.BatchNorm1d(width), nn.ReLU())
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, classes)."""
        return self.classifier(self.fc(self.features(x).flatten(1)))


class Vgg13(nn.Module):
    """Network of ten convolutions and a head of 4096-4096-classes, as in the Julia notebook on FashionMNIST.

    Args:
        shape: Shape (C, H, W) of one sample.
        classes: Number of classes.
    """

    def __init__(self, shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> None:
        super().__init__()
        self.features = convolutions(shape[0], VGG13)
        self.classifier = nn.Sequential(
            nn.Linear(flattened_size(shape, VGG13), 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, classes)."""
        return self.classifier(self.features(x).flatten(1))
