"""Precisions of a forward pass, and the settings of the device that belong to them."""

from collections.abc import MutableMapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from lossatlas.choices import EvaluationPrecision, Precision, ProductPrecision
from lossatlas.parameter_space.points import movable, real_dtype

# Types of the point in the plane and of the forward pass. TF32 is a setting of CUDA's matrix units.
PRECISION_TYPES: dict[Precision, tuple[torch.dtype, torch.dtype]] = {
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "tf32": (torch.float32, torch.float32),
    "bfloat16": (torch.float32, torch.bfloat16),
    "float16": (torch.float32, torch.float16),
}


LOW: tuple[Precision, ...] = (
    "bfloat16",
    "float16",
)  # whose error is corrected by some samples in float32, with a tolerance
OWN_PRECISION: Final = "own"  # each tensor in its own type: networks in half precision, or in several types


def resolve_precision(precision: Precision | None, net: nn.Module) -> EvaluationPrecision:
    """Return the precision in which a network is evaluated.

    Args:
        precision: The precision that was asked for, or None for the precision of the parameters.
        net: The network.

    Returns:
        A name of PRECISION_TYPES, or OWN_PRECISION for parameters in half precision or in several types.
    """
    if precision is not None:
        return precision
    dtypes = {real_dtype(p.dtype) for p in net.parameters() if movable(p)}
    if dtypes == {torch.float32}:
        return "float32"
    return "float64" if dtypes == {torch.float64} else OWN_PRECISION


def product_precision(precision: ProductPrecision | None, net: nn.Module) -> ProductPrecision:
    """Return the precision of Hessian-vector products.

    Half precision becomes float32, because second derivatives would be rounding errors.

    Args:
        precision: The precision that was asked for, or None.
        net: The network.
    """
    return precision or ("float64" if resolve_precision(None, net) == "float64" else "float32")


def dtypes_of(precision: EvaluationPrecision, net: nn.Module) -> tuple[torch.dtype | None, torch.dtype]:
    """Return the types of the point and of the forward pass.

    Args:
        precision: A name of PRECISION_TYPES, or OWN_PRECISION.
        net: The network.

    Returns:
        The type of the point in the plane (None: each tensor keeps its own), and the type of the network's inputs.
    """
    dtypes = [real_dtype(p.dtype) for p in net.parameters() if movable(p)]
    if precision == OWN_PRECISION:
        return None, dtypes[0]
    dtype, forward = PRECISION_TYPES[precision]
    return (None if set(dtypes) == {dtype} else dtype), forward


# With these, convolutions on a CUDA device use filters in channels-last order; others take 2.8 times as long so (H200).
TENSOR_CORE_PRECISIONS = ("tf32", *LOW)


def channels_come_last(device: torch.device, precision: EvaluationPrecision) -> bool:
    """Return whether convolutions are faster in channels-last order (measured by benchmarks/point.py and gpu.py)."""
    return device.type != "cuda" or precision in TENSOR_CORE_PRECISIONS


class LowPrecisionCopies:
    """Copies of a network's tensors in a lower precision, which replace them.

    BatchNorm that is not folded keeps its tensors, because rounded statistics would change its output too much.

    Args:
        net: The network, which is changed.
        dtype: The type of the copies.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        copies: dict[int, Tensor] = {}
        self.sources: list[Tensor] = []
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            tables: list[dict[str, Any]] = [module._parameters, module._buffers]
            for table in tables:
                for key, value in table.items():
                    if value is None or not value.is_floating_point():
                        continue
                    if id(value) not in copies:
                        copies[id(value)] = torch.empty_like(value, dtype=dtype)
                        self.sources.append(value.data)
                    copy = copies[id(value)]
                    table[key] = nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy
        self.copies = list(copies.values())

    def update(self) -> None:
        """Copy the current values of the original tensors."""
        for copy, source in zip(self.copies, self.sources, strict=True):
            copy.copy_(source)


def set_numerics(device: torch.device, *, tf32: bool = False) -> None:
    """Select deterministic algorithms, and TF32 only on request.

    These settings belong to the process, so each evaluator sets its own before it computes.

    Args:
        device: The device; nothing is set unless it is CUDA.
        tf32: Use TF32 in matrix products and convolutions.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def in_float64(module: Any, args: Any, output: Any, largest: int | None = None) -> Any:
    """Convert floating-point outputs to float64, in which the loss is computed. A forward hook of a module.

    Args:
        module: The module.
        args: Its inputs.
        output: A tensor, or a structure of tensors, whose type is kept.
        largest: Tensors with more numbers are not converted; None to convert all.
    """
    if isinstance(output, Tensor):
        small = largest is None or output.numel() <= largest
        return output.double() if output.is_floating_point() and small else output
    if isinstance(output, MutableMapping):  # such as those of Hugging Face, whose type is kept
        for name, value in output.items():
            output[name] = in_float64(module, args, value, largest)
        return output
    if isinstance(output, list | tuple):
        values = (in_float64(module, args, value, largest) for value in output)
        return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)
    return output
