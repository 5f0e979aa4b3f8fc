"""How much the loss can rise within a distance: at worst, on average, and along an update.

    rises = sharpness(operator, [0.05, 0.1], adaptive=False)

Worst case: the largest rise in the ball of radius rho (Foret et al., arXiv 2010.01412), or, adaptive, among relative changes
of that length (Kwon et al., arXiv 2102.11600); found by projected gradient ascent, so what is given is reached, and the
maximum may be larger. Average case: the mean over random directions of that length (as compared by Andriushchenko et al.,
arXiv 2302.07011). Critical sharpness: 2 over the rate at which a step along the gradient stops to lower the loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lossatlas.errors import BadInput
from lossatlas.space.directions import seed_of

SHRINK, SHORTEST = 0.5, 0.02  # a step that falls is tried again with half of the turn, and an ascent ends below this
DOUBLINGS, HALVINGS = 60, 12


class Around(Protocol):
    """A mean loss around a network, as a function of changes of its parameters (size,)."""

    @property
    def size(self) -> int: ...

    def weights(self) -> Tensor: ...

    def loss_at(self, change: Tensor | None) -> float: ...

    def gradient_at(self, change: Tensor | None) -> tuple[float, Tensor]: ...


@dataclass(frozen=True)
class Rise:
    """At one radius. worst: the largest rise that was reached, after so many steps, and the change it was reached by. average:
    the mean over random directions, with its standard error.
    """

    radius: float
    worst: float
    steps: int
    change: Tensor
    average: float
    average_se: float


def scales(weights: Tensor, adaptive: bool) -> Tensor | None:
    """What a change is measured in: None for itself, the size of each parameter for relative changes."""
    return weights.abs() if adaptive else None


def scaled(vector: Tensor, scale: Tensor | None) -> Tensor:
    return vector if scale is None else vector * scale


def length(vector: Tensor) -> float:
    return float(vector.double().norm())


def random_unit(size: int, seed: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    return (vector / vector.norm()).to(like.device, like.dtype)


def sharpness(
    around: Around,
    radii: Sequence[float],
    *,
    adaptive: bool = False,
    steps: int = 20,
    directions: int = 10,
    seed: int = 0,
    known: Sequence[Rise] = (),
    each: Callable[[Rise], None] = lambda rise: None,
) -> list[Rise]:
    """A Rise for every radius, which increase. known: those that are there already; each: hears of every further one.

    The same random directions are used at every radius, and an ascent also begins where the one before ended, so that what
    was reached does not fall with the radius.
    """
    weights = around.weights()
    scale = scales(weights, adaptive)
    found = [replace(rise, change=rise.change.to(weights.device, weights.dtype)) for rise in known]
    bottom, gradient = around.gradient_at(None)
    if not math.isfinite(bottom):
        raise BadInput(f"the loss of this network is {bottom}: there is no rise above it")
    uphill = scaled(gradient, scale)
    for radius in radii[len(found) :]:
        starts = [uphill if length(uphill) > 0 else random_unit(around.size, seed_of(seed, 0, 1), uphill)]
        if found:
            starts.append(found[-1].change if scale is None else found[-1].change / scale.clamp(min=1e-30))
        worst, change, taken = ascent(around, bottom, scale, radius, starts, steps)
        if found and worst < found[-1].worst:
            worst, change = found[-1].worst, found[-1].change
        rises = torch.tensor(
            [
                around.loss_at(scaled(radius * random_unit(around.size, seed_of(seed, k, 0), uphill), scale)) - bottom
                for k in range(directions)
            ],
            dtype=torch.float64,
        )
        error = float(rises.std() / math.sqrt(directions)) if directions > 1 else math.nan
        found.append(Rise(radius, worst, taken, change, float(rises.mean()), error))
        each(found[-1])
    return found


def ascent(
    around: Around, bottom: float, scale: Tensor | None, radius: float, starts: Sequence[Tensor], steps: int
) -> tuple[float, Tensor, int]:
    """The largest rise that was reached, the change there, and how many gradients it took; infinite where the loss is."""
    best, at, slope, taken = 0.0, starts[0] * 0, starts[0], 0  # the network itself is in the ball
    for start in starts:
        here = start * (radius / max(length(start), 1e-300))
        value, gradient = around.gradient_at(scaled(here, scale))
        taken += 1
        if value - bottom > best:
            best, at, slope = value - bottom, here, scaled(gradient, scale)
    turn = 1.0  # from the place towards the gradient; whole ones are power iterations where the loss is quadratic
    while taken < steps and turn >= SHORTEST and 0 < length(slope) < math.inf:
        there = (1 - turn) * at + slope * (turn * radius / length(slope))
        there = there * (radius / max(length(there), 1e-300))
        value, gradient = around.gradient_at(scaled(there, scale))
        taken += 1
        if value - bottom > best:
            best, at, slope = value - bottom, there, scaled(gradient, scale)
        else:
            turn *= SHRINK
    return best, scaled(at, scale), taken


def critical_sharpness(around: Around) -> tuple[float, int]:
    """2 / (the smallest rate at which a step against the gradient does not lower the loss), and how many losses it took.

    For a quadratic loss it is the second derivative along the gradient. NaN where no step lowers the loss, 0 where any does.
    """
    bottom, gradient = around.gradient_at(None)
    square = length(gradient) ** 2
    if not square:
        return math.nan, 0

    def lowers(rate: float) -> bool:
        return around.loss_at(gradient * -rate) < bottom

    rate, count = max(abs(bottom), 1e-12) / square, 1  # where a straight line would reach zero
    if lowers(rate):
        while lowers(rate * 2):
            rate, count = rate * 2, count + 1
            if count > DOUBLINGS:
                return 0.0, count
    else:
        while not lowers(rate / 2):
            rate, count = rate / 2, count + 1
            if count > DOUBLINGS:
                return math.nan, count
        rate /= 2
    low, high = rate, 2 * rate
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if lowers(middle) else (low, middle)
    return 2 / math.sqrt(low * high), count + HALVINGS
