"""How much the loss can rise within a distance: at worst, on average, and along an update.

    rises = sharpness(operator, [0.05, 0.1], adaptive=False)

Worst case: the largest rise in the ball of radius rho (Foret et al., arXiv 2010.01412), or, adaptive, among relative changes
of that length (Kwon et al., arXiv 2102.11600); the largest of all that were seen: random steps, shorter ones, and projected
gradient ascent from the best of them. So what is given is reached, and the maximum may be larger. Average case: the mean over
random directions of that length (as compared by Andriushchenko et al., arXiv 2302.07011). Critical sharpness: 2 over the smallest
rate at which a step against the gradient does not lower the loss, as far as a search from below sees.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lossatlas.errors import BadInput
from lossatlas.parameter_space.directions import seed_of

SHRINK, SHORTEST = 0.5, 0.02  # a step that falls is tried again with half of the turn, and an ascent ends below this
PARTS = (0.125, 0.25, 0.5, 1.0)  # of the radius, at which a direction is tried: the loss may fall again beyond
FAR = 60  # doublings or halvings of a rate after which a search gives up
FROM_BELOW = 8  # times as small as its natural scale a rate is where the search for the critical one begins
GROWTH, HALVINGS = 2**0.5, 11  # of the rate from step to step, and of the interval that is found then
DIFFERENCE = 1e-3  # of the length of the parameters: the step of a finite difference along the gradient


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
    """How far the loss rises within each radius.

    The same random directions are used at every radius. What was reached within a smaller radius counts within a larger one,
    and no rise is stated that is below one that was seen, so that the worst is never below the average.

    Args:
        around: the loss and its gradient at changes of the parameters.
        radii: increasing.
        adaptive: whether changes are relative to the size of each parameter.
        steps: gradients for each radius at most, but one from each start.
        directions: random directions for the average.
        seed: of the random directions.
        known: what is there already of the first radii.
        each: is called with every further Rise.

    Returns:
        A Rise for every radius.

    Raises:
        BadInput: where the loss of the network itself is not finite.
    """
    weights = around.weights()
    scale = scales(weights, adaptive)
    found = [replace(rise, change=rise.change.to(weights.device, weights.dtype)) for rise in known]
    bottom, gradient = around.gradient_at(None)
    if not math.isfinite(bottom):
        raise BadInput(f"the loss of this network is {bottom}: there is no rise above it")
    uphill = scaled(gradient, scale)
    if not length(uphill) > 0:
        uphill = random_unit(around.size, seed_of(seed, 0, 1), uphill)
    for radius in radii[len(found) :]:
        search = Search(around, bottom, scale, radius, weights * 0)
        if found:  # in units of the scale
            search.start(
                found[-1].change if scale is None else found[-1].change / scale.clamp(min=1e-30), found[-1].worst
            )
        rises, best = [], uphill
        for k in range(directions):
            unit = random_unit(around.size, seed_of(seed, k, 0), uphill)
            rises.append(search.rise_at(radius * unit))
            best = unit if rises[-1] >= max(rises) else best
        ridge = search.ridge([uphill, best])
        reserve = steps // 3 if ridge is not None else 0
        if length(search.at) > 0:
            search.rise_at(search.edge(search.at))
        best_so_far = search.at if length(search.at) > 0 else search.edge(uphill)
        search.climb(best_so_far, steps - reserve)
        if search.taken < steps - reserve:
            search.climb(search.edge(uphill), steps - reserve)
        if ridge is not None:
            search.climb(ridge, steps, turn=SHRINK**3)
        average = torch.tensor(rises, dtype=torch.float64)
        error = float(average.std() / math.sqrt(directions)) if directions > 1 else math.nan
        found.append(Rise(radius, search.best, search.taken, scaled(search.at, scale), float(average.mean()), error))
        each(found[-1])
    return found


@dataclass
class Search:
    """The largest rise within a radius of all that were seen, and the change there in units of the scale."""

    around: Around
    bottom: float
    scale: Tensor | None
    radius: float
    at: Tensor
    best: float = 0.0  # the network itself is in the ball
    taken: int = 0  # gradients

    def start(self, at: Tensor, rise: float) -> None:
        """Take what was found within a smaller radius."""
        if rise > self.best:
            self.at, self.best = at, rise

    def rise_at(self, here: Tensor) -> float:
        rise = self.around.loss_at(scaled(here, self.scale)) - self.bottom
        self.start(here, rise)
        return rise

    def ridge(self, ways: Sequence[Tensor]) -> Tensor | None:
        """Along these directions the highest place beyond which the loss falls again; None where there is none."""
        found, highest = None, -math.inf
        for way in ways:
            places = [part * self.edge(way) for part in PARTS]
            rises = [self.rise_at(here) for here in places]
            for here, rise, further in zip(places, rises, rises[1:], strict=False):
                if rise > max(further, highest):
                    found, highest = here, rise
        return found

    def edge(self, way: Tensor) -> Tensor:
        return way * (self.radius / max(length(way), 1e-300))

    def climb(self, at: Tensor, steps: int, turn: float = 1.0) -> None:
        """Ascend from a place, with gradients up to this number in all, but one at least.

        turn: from the place towards the gradient; whole ones are power iterations where the loss is quadratic.
        """
        rise, slope = self.slope_at(at)
        while self.taken < steps and turn >= SHORTEST and 0 < length(slope) < math.inf and rise < math.inf:
            there = (1 - turn) * at + slope * (turn * self.radius / length(slope))
            outwards = float(at.double() @ slope.double()) > 0
            if outwards and length(at) > (1 - 1e-6) * self.radius:  # along the edge; otherwise straight inside
                there = self.edge(there)
            higher, new = self.slope_at(there)
            if higher > rise:
                at, rise, slope = there, higher, new
            else:
                turn *= SHRINK

    def slope_at(self, here: Tensor) -> tuple[float, Tensor]:
        value, gradient = self.around.gradient_at(scaled(here, self.scale))
        self.taken += 1
        self.start(here, value - self.bottom)
        return value - self.bottom, scaled(gradient, self.scale)


def critical_sharpness(around: Around) -> tuple[float, int]:
    """2 / (the smallest rate at which a step against the gradient does not lower the loss), and how many losses it took.

    The search begins far below the rates at which a parabola or a straight line would reach that, and goes upwards by GROWTH.
    For a quadratic loss it is the second derivative along the gradient. NaN where no step lowers the loss, 0 where any does.
    """
    bottom, gradient = around.gradient_at(None)
    square = length(gradient) ** 2
    if not square:
        return math.nan, 0
    count = 0

    def lowers(rate: float) -> bool:
        nonlocal count
        count += 1
        return around.loss_at(gradient * -rate) < bottom

    rate = natural_rate(around, bottom, gradient) / FROM_BELOW
    lowest = rate / 2**FAR
    while not lowers(rate):
        rate /= 2
        if rate < lowest:
            return math.nan, count
    low, highest = rate, rate * 2**FAR
    while lowers(high := low * GROWTH):
        low = high
        if low > highest:
            return 0.0, count
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if lowers(middle) else (low, middle)
    return 2 / math.sqrt(low * high), count


def natural_rate(around: Around, bottom: float, gradient: Tensor) -> float:
    """The smaller one of two rates: where a straight line along the gradient reaches zero, and where a parabola reaches its
    first value again.
    """
    square = length(gradient) ** 2
    straight = max(abs(bottom), 1e-12) / square
    step = DIFFERENCE * max(length(around.weights()), DIFFERENCE) / math.sqrt(square)
    slope = float(gradient.double() @ around.gradient_at(gradient * -step)[1].double())
    curvature = abs(square - slope) / (step * square)
    return min(straight, 2 / curvature) if 0 < curvature < math.inf else straight
