"""Training of a curve of low loss between two networks, as Garipov et al. (arXiv 1802.10026)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from lossatlas.choices import CurveKind
from lossatlas.data import AnyData, Loss
from lossatlas.parameter_space import Point
from lossatlas.parameter_space.curves import control_weights
from lossatlas.training.loop import TrainingRecipe, train


class CurveNetwork(nn.Module):
    """A network at a random point of a curve, drawn at every call; its parameters are the control points.

    Args:
        net: Network of the architecture, whose own parameters are not trained.
        ends: Tensors of the two ends by name.
        kind: "bezier" or "polygonal".
        count: Number of control points between the ends, which begin on the straight line.
    """

    def __init__(self, net: nn.Module, ends: tuple[Point, Point], kind: CurveKind, count: int) -> None:
        super().__init__()
        self.inner = [net]  # in a list, so that it is no submodule
        self.ends, self.kind, self.names = ends, kind, list(ends[0])
        self.control_points = nn.ModuleList()
        for k in range(count):
            part = (k + 1) / (count + 1)
            start = [(1 - part) * ends[0][name] + part * ends[1][name] for name in self.names]
            self.control_points.append(nn.ParameterList([nn.Parameter(value.clone()) for value in start]))

    def train(self, mode: bool = True) -> "CurveNetwork":
        """Set the mode of the network too."""
        self.inner[0].train(mode)
        return super().train(mode)

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the network at a point of the curve that torch's global generator draws uniformly."""
        parts = control_weights(self.kind, float(torch.rand(())), len(self.control_points) + 2)
        point, between = {}, list[Any](self.control_points)
        for k, name in enumerate(self.names):
            inner: Any = sum(part * each[k] for part, each in zip(parts[1:-1], between, strict=True))
            point[name] = parts[0] * self.ends[0][name] + inner + parts[-1] * self.ends[1][name]
        return functional_call(self.inner[0], point, arguments, keywords)

    def points(self) -> list[Point]:
        """Copy the control points as tensors by name."""
        between: Any = self.control_points
        return [{name: each[k].detach().clone() for k, name in enumerate(self.names)} for each in between]


def train_control_points(
    net: nn.Module,
    ends: tuple[Point, Point],
    kind: CurveKind,
    count: int,
    data: AnyData,
    *,
    recipe: TrainingRecipe,
    loss: Loss,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[Point]:
    """Train the control points of a curve between two networks.

    Every step lowers the loss at a point of the curve that is drawn uniformly (arXiv 1802.10026, equation 2).

    Args:
        net: Network of the architecture, on its device; it is in evaluation mode afterwards.
        ends: Tensors of the two ends by name, on the device.
        kind: "bezier" or "polygonal".
        count: Number of control points between the ends.
        data: Training data.
        recipe: Recipe of the training.
        loss: Loss per sample.
        on_epoch: Called with (epochs done, mean loss of the epoch's batches).

    Returns:
        Tensors of each control point by name.
    """
    losses: list[float] = []

    def report(epoch: int, _: torch.optim.Optimizer) -> None:
        on_epoch(epoch, sum(losses) / max(1, len(losses)))
        losses.clear()

    def record(epoch: int, step: int, value: float) -> None:
        losses.append(value)

    curve = CurveNetwork(net, ends, kind, count)
    train(curve, data, recipe, record, report, loss=loss, channels_last=False)
    net.eval()
    return curve.points()
