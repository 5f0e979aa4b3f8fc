"""Checks of a symmetric operator before it is used."""

import torch

from lossatlas.data.finite_check import NotFiniteLoss
from lossatlas.errors import BadInput
from lossatlas.hessian.batch_derivatives import RANDOM_LOSS
from lossatlas.hessian.lanczos import Operator

SYMMETRIC = 2e-3  # of the length of a product: rounding in float32 stays far below


def check_deterministic(operator: Operator, tolerance: float = 1e-5) -> None:
    """Refuse an operator that is random, not finite or not symmetric.

    Products differ where the network is random, as with noise in evaluation mode. They are not symmetric where torch's
    second derivative of a layer is wrong, as for the fused `weight_norm` in torch 2.13.

    Args:
        operator: The operator; three products are taken.
        tolerance: Largest difference of two products with one vector, relative to their length.

    Raises:
        BadInput: Two products with one vector differ, a product is not finite, or u'Hv differs from v'Hu.
    """
    generator = torch.Generator().manual_seed(0)
    probe, other = (
        torch.randn(operator.size, generator=generator).to(operator.device, operator.dtype) for _ in range(2)
    )
    with torch.random.fork_rng():
        first, second = operator(probe), operator(probe)
    if not torch.isfinite(first).all():
        raise NotFiniteLoss(
            "the Hessian of this network's loss is not finite", "a weight is not, or the loss overflows"
        )
    error = float((first - second).norm() / first.norm().clamp(min=1e-30))
    if not error <= tolerance:
        raise BadInput(f"two products with the same vector differ by {error:.1e}: {RANDOM_LOSS}")
    there, back = float(other.double() @ first.double()), float(probe.double() @ operator(other).double())
    if not abs(there - back) <= SYMMETRIC * float(first.double().norm()):
        raise BadInput(
            f"products with this network's Hessian are not symmetric (u'Hv = {there:.6g}, v'Hu = {back:.6g}): torch's "
            "second derivative of one of its layers is wrong (weight_norm is known for it): remove it, for example "
            "with torch.nn.utils.parametrize.remove_parametrizations"
        )
