"""Compare a fast evaluation with the user's own network before anything is computed.

The network itself is moved in place to a corner and to another cell of the grid, and its losses of some samples are
compared with the losses of the evaluator that the plan describes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.choices import DirType, EvaluationPrecision
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData, some_of
from lossatlas.errors import PACKAGE_FOLDER, BadInput, BadUsage, Stop, error_location, first_line, named, note
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.parallel_batches import deep_copy
from lossatlas.evaluation.precision import OWN_PRECISION, PRECISION_TYPES
from lossatlas.evaluation.reference import evaluated_in_place, untouched
from lossatlas.evaluation.sample_storage import copy_samples, fitted
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.landscape.grid import Coordinates, Grid, coordinates_text
from lossatlas.landscape.statistics import PENALTY, STATISTICS
from lossatlas.models.checkpoint import matched_state
from lossatlas.parameter_space.points import movable, real_dtype, tensors

SAMPLES, BATCH = 64, 32  # of each split, spread over it; small batches, so that some are evaluated in parallel
NOISE = 10  # differences of so many times the effect of a tiny step may be rounding
# By type: the allowed relative difference of losses, and the tiny step relative to the coordinate.
ROUNDING = {
    torch.float64: (1e-9, 1e-12),
    torch.float32: (1e-5, 1e-6),
    torch.float16: (5e-3, 1e-3),
    torch.bfloat16: (2e-2, 1e-2),
}
TF32 = 1e-2
SIMPLE = (bool, int, float, complex, str, tuple)


@dataclass(frozen=True)
class ReferenceLosses:
    """Losses of the user's own network at two far cells.

    Attributes:
        points: The two cells.
        data: Some samples of each split.
        losses: (2, splits), mean losses.
        noise: (2, splits), the change of the losses by a tiny step.
        kind: The parameters' type with the fewest digits.
    """

    points: list[Coordinates]
    data: Mapping[str, AnyData]
    losses: np.ndarray
    noise: np.ndarray
    kind: torch.dtype

    @classmethod
    def of(cls, problem: Problem, grid: Grid, batch: int = 0) -> "ReferenceLosses":
        """Evaluate the network itself.

        Args:
            problem: The network, its plane, data and loss.
            grid: The grid.
            batch: Evaluate a single batch of so many samples, as of a large network; 0 for SAMPLES samples.

        Raises:
            BadInput: The network is random, or fails far from its weights.
        """
        net = problem.own()
        data = {split: some_of(samples, batch or SAMPLES) for split, samples in problem.data.items()}
        kind = coarsest(net)
        evaluator = in_place(net, problem, data, batch or BATCH)
        points = far_points(grid)
        near = [(a * (1 + ROUNDING[kind][1]), *rest) for a, *rest in points]
        try:
            first, moved, again = (losses_of(evaluator, where) for where in (points, near, points[:1]))
        except (Stop, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            far = ", ".join(map(coordinates_text, points))
            raise BadInput(
                f"{type(net).__name__} fails far from its weights, at {far}: "
                f"{error_location(error, [PACKAGE_FOLDER])}{first_line(error)}"
            ) from error
        if not np.array_equal(first[:1], again, equal_nan=True):
            raise BadInput(
                "the loss of the network differs when it is computed twice at the same weights: it is random in "
                "evaluation mode, or keeps something from one call to the next"
            )
        with np.errstate(invalid="ignore"):
            return cls(points, data, first, np.abs(moved - first), kind)

    def difference(self, evaluator: Evaluator) -> str:
        """Describe the first cell at which an evaluator's losses differ beyond rounding; '' if there is none."""
        found = losses_of(evaluator.with_data(self.data, BATCH), self.points)
        allowed = self.allowed(evaluator.precision) * np.abs(self.losses) + NOISE * np.nan_to_num(
            self.noise, posinf=0.0
        )
        with np.errstate(invalid="ignore"):
            agree = (np.abs(found - self.losses) <= allowed) | same_kind(found, self.losses)
        if agree.all():
            return ""
        k, s = np.argwhere(~agree)[0]
        own = self.losses[k, s]
        at = coordinates_text(self.points[k])
        return f"at {at} it would give {found[k, s]:.6g} where the network itself gives {own:.6g}"

    def allowed(self, precision: EvaluationPrecision) -> float:
        """Return the relative difference that rounding can cause in a precision."""
        if precision == OWN_PRECISION:
            return ROUNDING[self.kind][0]
        _, forward = PRECISION_TYPES[precision]
        return max(ROUNDING[self.kind][0], ROUNDING[forward][0], TF32 if precision == "tf32" else 0.0)


def same_kind(losses: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the mask of losses that are equal, or both not finite."""
    return (losses == expected) | (~np.isfinite(losses) & ~np.isfinite(expected))


def check_ends(
    problem: Problem,
    towards: Sequence[nn.Module | Mapping[str, Tensor]],
    dir_type: DirType,
    *,
    states_differ: bool,
    batch: int = 0,
) -> None:
    """Compare the losses at coordinate 1 of each axis with the losses of the network to which the axis leads.

    Args:
        problem: The network and its plane.
        towards: Networks, or their states, for x and then y.
        dir_type: 'weights' or 'states'.
        states_differ: BatchNorm statistics differ, which do not move with 'weights'; losses may then differ, which is
            noted.
        batch: Compare a single batch of so many samples, as of a large network; 0 for SAMPLES samples.

    Raises:
        BadInput: The losses differ, so the networks differ in something that is no tensor of the direction.
    """
    own = problem.own()
    split, samples = next(iter(problem.data.items()))
    few = {split: some_of(samples, batch or SAMPLES)}
    evaluator = in_place(own, problem, few, batch or BATCH)
    for k, (other, point) in enumerate(zip(towards, ((1.0, 0.0), (0.0, 1.0)), strict=False)):
        in_own = batch > 0 and not isinstance(other, nn.Module)
        other_net = other if isinstance(other, nn.Module) else own if in_own else loaded(own, other)
        kind = max((coarsest(own), coarsest(other_net)), key=lambda dtype: ROUNDING[dtype][0])
        rounding, step = ROUNDING[kind]
        here, near = (
            float(losses_of(evaluator, [(a * (1 + e), b * (1 + e))])[0, 0]) for a, b in [point] for e in (0, step)
        )
        if in_own and not isinstance(other, nn.Module):
            with evaluated_in_place(own) as model:  # which restores its state
                model.load_state_dict(matched_state(own, other, "the other network", tensors(own)), strict=False)
                expected = float(mean_loss(model, few[split], problem.loss, batch))
        else:
            with untouched(other_net) as model:
                expected = float(mean_loss(model, few[split], problem.loss, batch or SAMPLES))
        allowed = rounding * abs(expected) + NOISE * abs(near - here)
        if abs(here - expected) <= allowed or same_kind(np.array(here), np.array(expected)):
            continue
        losses = (
            f"at coordinate 1 of {'xy'[k]} the loss of {len(few[split])} samples is {here:.6g}, and that of the "
            f"network given there {expected:.6g}"
        )
        if states_differ and dir_type == "weights":
            weights, states = named("dir_type", "weights"), named("dir_type", "states")
            note(f"{losses}: its BatchNorm statistics are not moved with {weights} (use {states})")
            continue
        raise BadInput(f"{losses}: the two differ in something that a direction does not move{unlike(own, other_net)}")


def loaded(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a network with another state; buffers that the state lacks are kept."""
    try:
        result = deep_copy(net)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"{type(net).__name__} cannot be copied ({reason[:100]}), so the losses of a state dict or checkpoint "
            "cannot be compared: give towards= a network with that state instead"
        ) from error
    result.load_state_dict(matched_state(net, state, "the other network", tensors(net)), strict=False)
    return result


@torch.no_grad()
def mean_loss(net: nn.Module, data: AnyData, loss: Loss, batch_size: int = SAMPLES) -> Tensor:
    """Return the mean loss of a network itself, in evaluation mode.

    Args:
        net: The network; it is not changed.
        data: The samples.
        loss: The loss.
        batch_size: Samples of a batch.

    Returns:
        The mean of the batches' means, a scalar in float64.
    """
    with evaluated_in_place(net) as model:
        batches = [fitted(batch, net) for batch in data.batches(batch_size)]
        return torch.stack([loss(model, copy_samples(batch)).mean().double() for batch in batches]).mean()


def unlike(first: nn.Module, second: nn.Module) -> str:
    """Describe a setting in which two networks differ; '' if none is found."""
    others = dict(second.named_modules())
    for name, module in first.named_modules():
        other, label = others.get(name), name or "the network"
        if other is None or type(other) is not type(module):
            other_type = "is missing in the other" if other is None else f"is {type(other).__name__} in the other"
            return f": {label} is {type(module).__name__} in one and {other_type}"
        for key, value in vars(module).items():
            if isinstance(value, SIMPLE) and key != "training" and vars(other).get(key) != value:
                return f": {label}.{key} is {value!r} in one and {vars(other).get(key)!r} in the other"
    return ""


def in_place(net: nn.Module, problem: Problem, data: Mapping[str, AnyData], batch: int = BATCH) -> Evaluator:
    """Return an evaluator that moves a network in place, on its own device and in its own precision.

    Args:
        net: The network.
        problem: Its plane and its loss.
        data: The samples by split.
        batch: Samples of a batch.
    """
    device = next(net.parameters()).device
    return Evaluator(
        net, problem.plane, data, problem.loss, batch_size=batch, device=device, precision=OWN_PRECISION, in_place=True
    )


def coarsest(net: nn.Module) -> torch.dtype:
    """Return the parameters' type with the fewest digits."""
    kinds = [real_dtype(p.dtype) for p in net.parameters() if movable(p)]
    return max(kinds, key=lambda kind: ROUNDING.get(kind, (0.0, 0.0))[0])


def far_points(grid: Grid) -> list[Coordinates]:
    """Return the corner of the grid farthest from the origin, and another cell; always the same ones for a grid."""
    axes = grid.point_axes
    random = np.random.default_rng(0)
    corner = tuple(float(axis[np.abs(axis).argmax()]) for axis in axes)
    return [corner, tuple(float(random.choice(axis)) for axis in axes)]


def losses_of(evaluator: Evaluator, points: list[Coordinates]) -> np.ndarray:
    """Return mean losses with the term of the parameters, (points, splits), in batches that fit into memory."""
    while True:
        try:
            rows = evaluator(points)
            break
        except torch.cuda.OutOfMemoryError as error:
            if evaluator.batch_size == 1:
                raise BadUsage(f"one sample does not fit into the memory of {evaluator.device}") from error
            evaluator.batch_size //= 2
    weight_loss, weight = (rows[:, :, STATISTICS.index(name)] for name in ("weight_loss", "weight"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return weight_loss / weight + rows[:, :, PENALTY]
