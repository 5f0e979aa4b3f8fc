"""Sharpness of mini-batches: the rise of each one's loss after the ascent step of SAM on it, which SAM minimizes.

SAM changes the parameters by rho g / |g|, with the gradient g of a mini-batch S, and lowers the loss of S there (Foret
et al., arXiv 2010.01412, equation 2); its sharpness is the mean of L_S(w + rho g / |g|) - L_S(w) over mini-batches of m
samples (section 4.1, m-sharpness). Adaptive SAM takes rho T^2 g / |T g| with T = |w| (Kwon et al., arXiv 2102.11600,
equation 5). The network is in evaluation mode here.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lossatlas.hessian.langevin import SampledLoss
from lossatlas.hessian.sharpness_measures import scaled, scales, vector_length
from lossatlas.parameter_space.directions import seed_of


def choose_minibatches(parts: int, size: int, number: int, seed: int) -> list[list[int]]:
    """Choose disjoint mini-batches at random.

    Args:
        parts: The number of samples.
        size: Samples of a mini-batch, m.
        number: Of mini-batches; fewer where the samples are too few.
        seed: Of the order of the samples.

    Returns:
        The numbers of the samples of each, increasing; one mini-batch of all samples where these are fewer than m.

    Example:
        >>> [len(each) for each in choose_minibatches(10, 3, 5, 0)]
        [3, 3, 3]
    """
    order = np.random.default_rng(seed_of(seed, 0, 3)).permutation(parts)
    size = min(size, parts)
    return [np.sort(order[k * size : (k + 1) * size]).tolist() for k in range(min(number, parts // size))]


def minibatch_rises(
    loss: SampledLoss, weights: Tensor, numbers: Sequence[int], radii: Sequence[float], adaptive_radii: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Compute the rises of the loss of one mini-batch after ascent steps.

    Args:
        loss: The loss of chosen samples, and its gradient.
        weights: (size,), the parameters.
        numbers: The numbers of the samples.
        radii: Lengths of plain steps.
        adaptive_radii: Lengths of steps relative to each parameter.

    Returns:
        The rises for `radii`, and those for `adaptive_radii`; 0 where the gradient is zero.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> from lossatlas.hessian import Hessian
        >>> _ = torch.manual_seed(0)
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> operator = Hessian(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"])
        >>> (rise,), _ = minibatch_rises(operator, operator.weights(), range(16), [0.05], [])
        >>> rise > 0
        True
    """
    bottom, gradient = loss.gradient_of_parts(None, numbers)

    def rises(scale: Tensor | None, lengths: Sequence[float]) -> list[float]:
        uphill = scaled(gradient, scale)
        length = vector_length(uphill)
        if not length:
            return [0.0] * len(lengths)
        step = scaled(uphill, scale) / length
        return [loss.loss_of_parts(radius * step, numbers) - bottom for radius in lengths]

    return rises(None, radii), rises(scales(weights, adaptive=True), adaptive_radii)
