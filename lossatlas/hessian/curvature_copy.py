"""Copies of a network that can be differentiated twice, and their comparison with the network itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import WeightNorm

from lossatlas.choices import ProductPrecision
from lossatlas.evaluation.parallel_batches import deep_copy, evaluation_copy
from lossatlas.evaluation.precision import PRECISION_TYPES
from lossatlas.parameter_space.points import converted, movable


def curvature_copy(net: nn.Module, device: torch.device | str, precision: ProductPrecision | None = None) -> nn.Module:
    """Copy a network in evaluation mode so that its loss can be differentiated twice.

    Args:
        net: The network, which stays as it is.
        device: The device of the copy.
        precision: A name of `PRECISION_TYPES`; None for float64 where all parameters are float64, otherwise float32.

    Returns:
        The copy, all of whose floating-point tensors have one type.
    """
    kinds = {p.dtype for p in net.parameters() if movable(p)}
    wanted = PRECISION_TYPES[precision][0] if precision in PRECISION_TYPES else None
    dtype = wanted or (torch.float64 if kinds == {torch.float64} else torch.float32)
    change = None if kinds == {dtype} else dtype
    result = evaluation_copy(net)._apply(lambda t: converted(t, device, change)).requires_grad_(False)
    for module in result.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # sparse gradients cannot be differentiated again
    use_plain_weight_norm(result)
    return result


def float64_copy(net: nn.Module) -> nn.Module:
    """Copy a network to float64, on the same device."""
    return deep_copy(net)._apply(lambda t: converted(t, t.device, torch.float64))


def to_float64(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def use_plain_weight_norm(net: nn.Module) -> None:
    """Compute weight norm by plain operations: the second derivative of the fused one is wrong (torch 2.13)."""
    for module in net.modules():
        if isinstance(module, parametrizations._WeightNorm):
            vars(module)["forward"] = partial(normed_weight, module.dim)
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                vars(hook)["compute_weight"] = partial(hooked_weight, hook.name, hook.dim)


def normed_weight(dim: int, length: Tensor, direction: Tensor) -> Tensor:
    return direction * (length / torch.norm_except_dim(direction, 2, dim))


def hooked_weight(name: str, dim: int, module: nn.Module) -> Tensor:
    return normed_weight(dim, getattr(module, f"{name}_g"), getattr(module, f"{name}_v"))


@dataclass(frozen=True)
class LossAndGradient:
    """A loss and its gradient, one tensor for each parameter; None where the loss does not depend on it."""

    loss: float
    gradient: Sequence[Tensor | None]


def gradient_mismatch(
    names: Sequence[str], found: LossAndGradient, expected: LossAndGradient, *, half_precision: bool
) -> str:
    """Compare the gradient of a copy with the gradient of the network itself, tensor by tensor.

    Args:
        names: The names of the parameters.
        found: Loss and gradient of the copy.
        expected: Loss and gradient of the network itself.
        half_precision: The network has parameters in half precision, which allow for larger differences.

    Returns:
        A line about the difference, '' where there is none beyond rounding.
    """
    loss_error, tensor_error, whole_error = (5e-2, math.inf, 0.2) if half_precision else (1e-4, 2e-2, 1e-3)
    value, wanted = found.loss, expected.loss
    if math.isfinite(wanted) and not abs(value - wanted) <= loss_error * abs(wanted):
        return f"its loss would be {value:.6g} where that of the network itself is {wanted:.6g}"
    pairs = [(comparable(f), comparable(w)) for f, w in zip(found.gradient, expected.gradient, strict=True)]
    length = math.sqrt(sum(float(w.norm()) ** 2 for _, w in pairs))
    for name, (f, w) in zip(names, pairs, strict=True):
        error = float((f - w).norm())
        if error > tensor_error * float(w.norm()) + whole_error * length:
            return (
                f"the gradient with respect to '{name}' would be off by {error / max(length, 1e-300):.1e} of its length"
            )
    return ""


def comparable(gradient: Tensor | None) -> Tensor:
    return torch.zeros(()) if gradient is None else gradient.detach().double().cpu()
