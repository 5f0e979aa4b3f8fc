"""Train curves of low loss between two networks, measure the loss along them, and write their control points."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from lossatlas import config
from lossatlas.choices import CurveKind
from lossatlas.data import AnyData, Loss
from lossatlas.errors import BadInput, named
from lossatlas.evaluation.recalibration import batchnorm_layers
from lossatlas.jobs.inputs.output_files import keep_aside
from lossatlas.jobs.sweep.loss_plan import evaluator_of
from lossatlas.jobs.sweep.loss_quantity import LossQuantity
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.landscape import Grid
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.models import save_state
from lossatlas.parameter_space import CurvePlane, Point
from lossatlas.parameter_space.points import moved
from lossatlas.training.curve_training import train_control_points
from lossatlas.training.loop import TrainingRecipe

CurveLosses = dict[str, list[float]]  # along a curve, by split
CURVE_POINTS = 21  # of a curve, at which the loss is measured


@dataclass(frozen=True, kw_only=True)
class CurveEnds:
    """Two networks, and all that the curve between them needs.

    Attributes:
        net: Network of their architecture, on its device.
        points: Tensors of the two ends by name, on the device.
        names: Hashes of their checkpoints.
        train: Training data.
        data: Data by split, on which losses are measured, the training data among them.
        loss: Loss per sample.
    """

    net: nn.Module
    points: tuple[Point, Point]
    names: tuple[str, ...]
    train: AnyData
    data: dict[str, AnyData]
    loss: Loss


@dataclass(frozen=True, kw_only=True)
class TrainedCurve:
    """A trained curve.

    Attributes:
        recipe: Recipe of the training.
        control_points: Tensors of each control point between the ends by name.
        losses: Mean losses along the curve at `CURVE_POINTS` points by split.
    """

    recipe: TrainingRecipe
    control_points: list[Point]
    losses: CurveLosses


def train_curve(
    ends: CurveEnds, kind: CurveKind, count: int, *, recipe: TrainingRecipe, on_epoch: Callable[[int, float], None]
) -> TrainedCurve:
    """Train a curve between two networks, and measure the loss along it.

    Args:
        ends: The two networks.
        kind: "bezier" or "polygonal".
        count: Number of control points between the ends.
        recipe: Recipe of the training.
        on_epoch: Called with (epochs done, mean loss of the epoch's batches).

    Returns:
        The curve.

    Raises:
        BadInput: The training diverged.
    """
    between = train_control_points(
        ends.net, ends.points, kind, count, ends.train, recipe=recipe, loss=ends.loss, on_epoch=on_epoch
    )
    if not all(bool(value.isfinite().all()) for point in between for value in point.values()):
        rate = f"{named('lr')} {recipe.lr:g}"
        raise BadInput(f"the control points are not finite after training with {rate}: use a smaller rate")
    losses = losses_along(ends, kind, [ends.points[0], *between, ends.points[1]])
    return TrainedCurve(recipe=recipe, control_points=between, losses=losses)


def losses_along(ends: CurveEnds, kind: CurveKind, points: Sequence[Point]) -> CurveLosses:
    """Measure the mean losses along a curve, with BatchNorm statistics that are recomputed at each point.

    Args:
        ends: The two networks.
        kind: "bezier" or "polygonal".
        points: The ends and the control points between them, in their order.

    Returns:
        Losses at `CURVE_POINTS` points by split.
    """
    net, data, loss = ends.net, ends.data, ends.loss
    device = next(net.parameters()).device
    quantity = LossQuantity(batch_size=128, recalibrated=config.BN_SAMPLES if batchnorm_layers(net) else 0)
    grid = Grid(np.linspace(0, 1, CURVE_POINTS))
    surface = quantity.new_surface(net, data, loss, grid, device=str(device), request={}, about={})
    plan: ExecutionPlan = {**surface.plan, "points_per_call": 1, "lanes": 1}
    evaluator = evaluator_of(Problem(net, CurvePlane(kind, points), data, loss, device, data["train"]), plan)
    rows = evaluator([(float(t), 0.0) for t in surface.grid.x])
    fields = surface.with_cells(range(CURVE_POINTS), rows).fields
    return {split: fields[f"{split}_loss"].tolist() for split in data}


def largest_loss(losses: list[float]) -> float:
    """Return the largest loss; NaN counts as larger than all."""
    return max(losses, key=lambda value: math.inf if math.isnan(value) else value)


def control_point_files(out: str, repeat: int, *, repeats: int, count: int) -> list[Path]:
    """Name the files of the control points of one curve.

    Args:
        out: Output that the user names, which ends in .safetensors.
        repeat: Number of the curve, from 0.
        repeats: Curves in all.
        count: Control points of each curve.

    Returns:
        A file for each control point.

    Example:
        >>> [str(file) for file in control_point_files("a.safetensors", 1, repeats=2, count=1)]
        ['a_2.safetensors']
    """
    stem = out.removesuffix(".safetensors") + (f"_{repeat + 1}" if repeats > 1 else "")
    return [Path(f"{stem}{f'_bend{k + 1}' if count > 1 else ''}.safetensors") for k in range(count)]


def write_control_points(net: nn.Module, points: Sequence[Point], files: Sequence[Path]) -> None:
    """Write a checkpoint for each control point, with the last BatchNorm statistics; set previous files aside."""
    for file in (*files, files[0].with_suffix(".json")):
        keep_aside(file)
    for point, file in zip(points, files, strict=True):
        with moved(net, point):
            save_state(file, net)
