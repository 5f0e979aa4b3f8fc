"""Small perceptron, for quick looks and for tests."""

import math
from collections.abc import Sequence

from torch import nn


def mlp(shape: Sequence[int] = (1, 28, 28), classes: int = 10, hidden: Sequence[int] = (64, 64)) -> nn.Sequential:
    """Build a perceptron with ReLU, from samples (B, *shape) to logits (B, classes).

    Args:
        shape: Shape of one sample.
        classes: Number of classes.
        hidden: Widths of the hidden layers.

    Returns:
        The network.
    """
    widths = [math.prod(shape), *hidden]
    net = nn.Sequential(nn.Flatten())
    for i in range(len(hidden)):
        net.extend([nn.Linear(widths[i], widths[i + 1]), nn.ReLU()])
    return net.append(nn.Linear(widths[-1], classes))
