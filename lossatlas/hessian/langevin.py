"""Langevin dynamics around a minimum: draws of the loss, from which its local learning coefficient follows.

    chain = langevin_chain(loss, settings, 0, gradient)   # rises of the loss, slopes, first-order parts, (3, draws)

The estimate of the coefficient, see `landscape.chain_statistics`, is

    n beta (E[L(w)] - L(w*)),    w ~ exp(-n beta L(w) - localization/2 |w - w*|^2)

(Lau, Furman, Wang, Murfet and Wei, arXiv 2308.12108, definition 1). The parameters w are drawn by stochastic gradient
Langevin dynamics (Welling and Teh, ICML 2011), several chains of them from w*, each step with the gradient of a random
mini-batch. The loss of a draw is compared with that of w* on the same mini-batch, so that the noise of this comparison
cancels; that of the gradients does not, see `minibatch_noise`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lossatlas.parameter_space.directions import seed_of

BIAS = 0.05  # relative, of the variance along the direction of largest curvature, by which the usual step is chosen
NOISE_SAMPLES = 8  # mini-batches from which the noise of their gradients is estimated


class SampledLoss(Protocol):
    """A mean loss around a network, also of some of its samples, as a function of changes of its parameters (size,)."""

    @property
    def size(self) -> int: ...

    @property
    def part_count(self) -> int: ...

    def moving(self) -> Tensor | None: ...

    def loss_of_parts(self, change: Tensor | None, numbers: Sequence[int]) -> float: ...

    def gradient_of_parts(self, change: Tensor | None, numbers: Sequence[int]) -> tuple[float, Tensor]: ...


@dataclass(frozen=True)
class ChainSettings:
    """The distribution that is drawn from, and how.

    Attributes:
        inverse_temperature: n beta, the factor of the mean loss.
        localization: The factor of half the squared distance from the minimum.
        learning_rate: The length of a step of the dynamics, epsilon of Welling and Teh.
        draws: Losses that are recorded in each chain.
        burn_in: Steps before the first of them.
        steps_between: Steps from one of them to the next.
        minibatch: Samples whose gradient is computed in a step; batches, where the data consists of fixed ones.
        seed: The seed of mini-batches and noise.
    """

    inverse_temperature: float
    localization: float
    learning_rate: float
    draws: int
    burn_in: int
    steps_between: int
    minibatch: int
    seed: int


def usual_learning_rate(curvature: float, noise: float, inverse_temperature: float, localization: float) -> float:
    """Choose the step that makes the variance along the direction of largest curvature and noise 5 % too large.

    For a quadratic loss the variance of the dynamics is (1 + epsilon (n beta)^2 noise / 4) / (a (1 - epsilon a / 4))
    instead of 1 / a, with a = n beta curvature + localization.

    Args:
        curvature: The largest eigenvalue of the Hessian.
        noise: The largest variance of the mini-batches' gradients, see `minibatch_noise`.
        inverse_temperature: n beta.
        localization: See `ChainSettings`.

    Example:
        >>> round(usual_learning_rate(10.0, 0.0, 100.0, 100.0), 6)
        0.000173
    """
    stiffest = inverse_temperature * max(curvature, 0.0) + localization
    return 4 * BIAS / ((1 + BIAS) * stiffest + inverse_temperature**2 * noise)


def minibatch_noise(loss: SampledLoss, minibatch: int, seed: int) -> float:
    """Estimate the largest variance of the gradients of mini-batches along any direction, at the network itself.

    It is the largest eigenvalue of the covariance of a few of them, which is too large rather than too small.

    Args:
        loss: The loss and its gradient.
        minibatch: Samples of a mini-batch.
        seed: Of their choice.
    """
    count, choice = min(minibatch, loss.part_count), np.random.default_rng(seed_of(seed, 0, 2))
    if count == loss.part_count:
        return 0.0
    rows = []
    for _ in range(NOISE_SAMPLES):
        numbers = np.sort(choice.choice(loss.part_count, count, replace=False)).tolist()
        rows.append(loss.gradient_of_parts(None, numbers)[1].cpu())
    deviations = torch.stack(rows)
    deviations -= deviations.mean(0)
    gram = (deviations @ deviations.T).double()
    return float(torch.linalg.eigvalsh(gram)[-1]) / (NOISE_SAMPLES - 1) if gram.isfinite().all() else 0.0


def langevin_chain(
    loss: SampledLoss,
    settings: ChainSettings,
    number: int,
    start_gradient: Tensor,
    each: Callable[[int], None] = lambda step: None,
) -> np.ndarray:
    """Run one chain from the parameters of the network.

    Args:
        loss: The loss and its gradient, such as a `DistributedHessian`.
        settings: The distribution, and the steps.
        number: The number of the chain, which its random numbers depend on.
        start_gradient: (size,) the gradient of the mean loss of all samples at the network itself.
        each: Called with the number of finished steps.

    Returns:
        (3, draws): for each draw w, on its mini-batch, the difference of the loss from that of the network, and the
        derivative of the loss along w - w*; and the derivative at w* along w - w* of the loss of all samples, the part
        of first order of the difference. A chain whose loss is no longer finite ends with NaN.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> from lossatlas.hessian import Hessian
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> operator = Hessian(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"])
        >>> settings = ChainSettings(
        ...     inverse_temperature=10.0,
        ...     localization=1.0,
        ...     learning_rate=1e-3,
        ...     draws=5,
        ...     burn_in=5,
        ...     steps_between=1,
        ...     minibatch=16,
        ...     seed=0,
        ... )
        >>> langevin_chain(operator, settings, 0, operator.gradient_at(None)[1]).shape
        (3, 5)
    """
    noise = torch.Generator().manual_seed(seed_of(settings.seed, number, 0))
    choice = np.random.default_rng(seed_of(settings.seed, number, 1))
    count, epsilon = min(settings.minibatch, loss.part_count), settings.learning_rate
    moving, change = loss.moving(), torch.zeros(loss.size, dtype=torch.float64)
    at_start = start_gradient.cpu().double()
    found = np.full((3, settings.draws), np.nan)
    for step in range(settings.burn_in + (settings.draws - 1) * settings.steps_between + 1):
        numbers = np.sort(choice.choice(loss.part_count, count, replace=False)).tolist()
        value, gradient = loss.gradient_of_parts(change, numbers)
        if not math.isfinite(value):
            break
        after = step - settings.burn_in
        if after >= 0 and after % settings.steps_between == 0:
            rise, slope = value - loss.loss_of_parts(None, numbers), float(gradient.cpu().double() @ change)
            found[:, after // settings.steps_between] = rise, slope, float(at_start @ change)
        drift = settings.inverse_temperature * gradient.cpu().double() + settings.localization * change
        kick = torch.randn(loss.size, generator=noise, dtype=torch.float64)
        change += math.sqrt(epsilon) * (kick if moving is None else kick * moving.cpu()) - epsilon / 2 * drift
        each(step + 1)
    return found
