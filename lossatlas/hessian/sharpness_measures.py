"""Sharpness: the rise of the loss within a distance, at worst and on average, and along an update.

    rises = rises_within(operator, [0.05, 0.1], adaptive=False)

Worst case: the largest rise in the ball of radius rho (Foret et al., arXiv 2010.01412, equation 1), or, adaptive, among
relative changes of that length (Kwon et al., arXiv 2102.11600, definition 2). It is the largest of all rises that were
evaluated: random steps, shorter ones, and projected gradient ascent from the best of them. So it is attained, and the
maximum may be larger. Average case: the mean over random directions of that length (Andriushchenko et al., arXiv
2302.07011). Critical sharpness: 2 over the smallest learning rate at which a gradient step does not lower the loss, as
far as a search from below finds it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lossatlas.data.finite_check import NotFiniteLoss
from lossatlas.parameter_space.directions import seed_of

SHRINK, SHORTEST = 0.5, 0.02  # factor of the turn after a step that lowers the loss, and the turn that ends an ascent
RADIUS_FRACTIONS = (0.125, 0.25, 0.5, 1.0)  # at which a direction is evaluated: the loss may fall again beyond
FAR = 60  # doublings or halvings of a rate after which a search gives up
FROM_BELOW = 8  # divisor of the natural rate at which the search for the critical one begins
GROWTH, HALVINGS = 2**0.5, 11  # of the rate from step to step, and of the interval that is found then
DIFFERENCE = 1e-3  # of the length of the parameters: the step of a finite difference along the gradient


class LocalLoss(Protocol):
    """A mean loss around a network, as a function of changes of its parameters (size,)."""

    @property
    def size(self) -> int: ...

    def weights(self) -> Tensor: ...

    def loss_at(self, change: Tensor | None) -> float: ...

    def gradient_at(self, change: Tensor | None) -> tuple[float, Tensor]: ...


@dataclass(frozen=True)
class Rise:
    """The rise of the mean loss within one radius.

    Attributes:
        radius: The radius, in units of the parameters or, adaptive, relative to them.
        worst: The largest rise that was attained.
        steps: Number of gradients that were computed for it.
        change: (size,), the change of the parameters at which it was attained.
        average: Mean rise over random directions.
        average_se: Its standard error, NaN for one direction.
    """

    radius: float
    worst: float
    steps: int
    change: Tensor
    average: float
    average_se: float


def scales(weights: Tensor, *, adaptive: bool) -> Tensor | None:
    """Return the units of a change: None for plain changes, the size of each parameter for relative ones."""
    return weights.abs() if adaptive else None


def scaled(vector: Tensor, scale: Tensor | None) -> Tensor:
    return vector if scale is None else vector * scale


def vector_length(vector: Tensor) -> float:
    return float(vector.double().norm())


def random_unit(size: int, seed: int, like: Tensor) -> Tensor:
    """Draw a unit vector (size,), uniform on the sphere, in the type and on the device of `like`."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    return (vector / vector.norm()).to(like.device, like.dtype)


def rises_within(
    loss: LocalLoss,
    radii: Sequence[float],
    *,
    adaptive: bool = False,
    steps: int = 20,
    directions: int = 10,
    seed: int = 0,
    known: Sequence[Rise] = (),
    each: Callable[[Rise], None] = lambda rise: None,
) -> list[Rise]:
    """Compute the rise of the loss within each radius.

    The same random directions are used at every radius. A rise within a smaller radius counts within a larger one too,
    and the worst rise is at least every rise that was evaluated, so that it is never below the average.

    Args:
        loss: The loss and its gradient at changes of the parameters, such as a `Hessian`.
        radii: Increasing radii.
        adaptive: Measure changes relative to the size of each parameter.
        steps: Largest number of gradients for each radius; each start takes one at least.
        directions: Number of random directions for the average.
        seed: Of the random directions.
        known: Results of the first radii, which are not computed again.
        each: Called with every further result.

    Returns:
        A Rise for every radius.

    Raises:
        BadInput: The loss of the network itself is not finite.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> from lossatlas.hessian import Hessian
        >>> _ = torch.manual_seed(0)
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> operator = Hessian(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"])
        >>> small, large = rises_within(operator, [0.05, 0.1])
        >>> 0 < small.worst < large.worst
        True
    """
    weights = loss.weights()
    scale = scales(weights, adaptive=adaptive)
    found = [replace(rise, change=rise.change.to(weights.device, weights.dtype)) for rise in known]
    bottom, gradient = loss.gradient_at(None)
    if not math.isfinite(bottom):
        raise NotFiniteLoss(f"the loss of this network is {bottom}", "there is no rise above it")
    uphill = scaled(gradient, scale)
    if not vector_length(uphill) > 0:
        uphill = random_unit(loss.size, seed_of(seed, 0, 1), uphill)
    for radius in radii[len(found) :]:
        search = AscentSearch(loss, bottom, scale, radius, weights * 0)
        if found:  # in units of the scale
            change = found[-1].change
            search.record(change if scale is None else change / scale.clamp(min=1e-30), found[-1].worst)
        units = (random_unit(loss.size, seed_of(seed, k, 0), uphill) for k in range(directions))
        found.append(search.run(uphill, units, steps))
        each(found[-1])
    return found


@dataclass
class AscentSearch:
    """The largest of all rises within a radius that were evaluated.

    Attributes:
        loss: The loss.
        bottom: The loss of the network itself.
        scale: Units of changes, see `scales`.
        radius: The radius, in these units.
        at: (size,), the change at the largest rise, in these units.
        best: The largest rise; the network itself is in the ball.
        taken: Number of gradients.
    """

    loss: LocalLoss
    bottom: float
    scale: Tensor | None
    radius: float
    at: Tensor
    best: float = 0.0
    taken: int = 0

    def run(self, uphill: Tensor, units: Iterable[Tensor], steps: int) -> Rise:
        """Evaluate random directions, and ascend from the best start, the gradient and the highest ridge."""
        rises, best = [], uphill
        for unit in units:
            rises.append(self.rise_at(self.radius * unit))
            best = unit if rises[-1] >= max(rises) else best
        ridge = self.ridge([uphill, best])
        reserve = steps // 3 if ridge is not None else 0
        if vector_length(self.at) > 0:
            self.rise_at(self.edge(self.at))
        best_so_far = self.at if vector_length(self.at) > 0 else self.edge(uphill)
        self.climb(best_so_far, steps - reserve)
        if self.taken < steps - reserve:
            self.climb(self.edge(uphill), steps - reserve)
        if ridge is not None:
            self.climb(ridge, steps, turn=SHRINK**3)
        average = torch.tensor(rises, dtype=torch.float64)
        error = float(average.std() / math.sqrt(len(rises))) if len(rises) > 1 else math.nan
        change = scaled(self.at, self.scale)
        return Rise(self.radius, self.best, self.taken, change, float(average.mean()), error)

    def record(self, at: Tensor, rise: float) -> None:
        """Keep a rise if it is the largest so far."""
        if rise > self.best:
            self.at, self.best = at, rise

    def rise_at(self, here: Tensor) -> float:
        rise = self.loss.loss_at(scaled(here, self.scale)) - self.bottom
        self.record(here, rise)
        return rise

    def ridge(self, directions: Sequence[Tensor]) -> Tensor | None:
        """Find the highest point along these directions beyond which the loss falls again; None where there is none."""
        found, highest = None, -math.inf
        for direction in directions:
            points = [part * self.edge(direction) for part in RADIUS_FRACTIONS]
            rises = [self.rise_at(here) for here in points]
            for here, rise, further in zip(points, rises, rises[1:], strict=False):
                if rise > max(further, highest):
                    found, highest = here, rise
        return found

    def edge(self, direction: Tensor) -> Tensor:
        """Scale a direction to the radius."""
        return direction * (self.radius / max(vector_length(direction), 1e-300))

    def climb(self, at: Tensor, steps: int, turn: float = 1.0) -> None:
        """Ascend from a change by projected gradient steps.

        Args:
            at: (size,), the start.
            steps: Number of gradients at which the ascent ends, all ascents together; the start takes one anyway.
            turn: Fraction of the way towards the gradient; 1 makes power iterations where the loss is quadratic.
        """
        rise, slope = self.slope_at(at)
        while self.taken < steps and turn >= SHORTEST and 0 < vector_length(slope) < math.inf and rise < math.inf:
            there = (1 - turn) * at + slope * (turn * self.radius / vector_length(slope))
            outwards = float(at.double() @ slope.double()) > 0
            if outwards and vector_length(at) > (1 - 1e-6) * self.radius:  # along the edge; otherwise straight inside
                there = self.edge(there)
            higher, new = self.slope_at(there)
            if higher > rise:
                at, rise, slope = there, higher, new
            else:
                turn *= SHRINK

    def slope_at(self, here: Tensor) -> tuple[float, Tensor]:
        value, gradient = self.loss.gradient_at(scaled(here, self.scale))
        self.taken += 1
        self.record(here, value - self.bottom)
        return value - self.bottom, scaled(gradient, self.scale)


def critical_sharpness(loss: LocalLoss) -> tuple[float, int]:
    """Compute 2 / (the smallest learning rate at which a gradient step does not lower the loss).

    The search begins far below the rate at which a parabola or a straight line would reach that, and increases the rate
    by GROWTH. For a quadratic loss the result is the second derivative along the gradient.

    Args:
        loss: The loss and its gradient at changes of the parameters, such as a `Hessian`.

    Returns:
        The critical sharpness, NaN where no step lowers the loss, 0 where every step does; and the number of losses
        that were evaluated.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> from lossatlas.hessian import Hessian
        >>> _ = torch.manual_seed(0)
        >>> inputs = torch.randn(50, 3)
        >>> data = Dataset("random", "train", (inputs, (inputs[:, 0] > 0).long()), 2)
        >>> value, losses = critical_sharpness(Hessian(torch.nn.Linear(3, 2), data, LOSSES["crossentropy"]))
        >>> value > 0
        True
    """
    bottom, gradient = loss.gradient_at(None)
    square = vector_length(gradient) ** 2
    if not square:
        return math.nan, 0
    count = 0

    def lowers(rate: float) -> bool:
        nonlocal count
        count += 1
        return loss.loss_at(gradient * -rate) < bottom

    rate = natural_rate(loss, bottom, gradient) / FROM_BELOW
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


def natural_rate(loss: LocalLoss, bottom: float, gradient: Tensor) -> float:
    """Estimate the critical learning rate.

    It is the smaller one of two rates: where a straight line along the gradient reaches zero, and where a parabola
    reaches its first value again.
    """
    square = vector_length(gradient) ** 2
    straight = max(abs(bottom), 1e-12) / square
    step = DIFFERENCE * max(vector_length(loss.weights()), DIFFERENCE) / math.sqrt(square)
    slope = float(gradient.double() @ loss.gradient_at(gradient * -step)[1].double())
    curvature = abs(square - slope) / (step * square)
    return min(straight, 2 / curvature) if 0 < curvature < math.inf else straight
