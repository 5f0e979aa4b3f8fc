"""Checks of tensors that were read from files."""

from pathlib import Path

import torch
from torch import Tensor

from lossatlas.io.archives import SMALL

NUMERIC_TYPES = {
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.bool,
}
NUMERIC_TYPES |= {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def unsupported_kind(value: Tensor, file: Path) -> str:
    """Name the reason why a tensor cannot be computed with.

    Args:
        value: The tensor.
        file: The file that it was read from.

    Returns:
        Such as 'quantized (qint8)'; '' for plain numbers.
    """
    if value.is_quantized:
        return f"quantized ({str(value.dtype).removeprefix('torch.')})"
    if value.is_nested or value.layout != torch.strided:
        return "nested" if value.is_nested else f"sparse ({str(value.layout).removeprefix('torch.')})"
    if value.device.type == "meta":
        return "on the device 'meta', without values"
    if value.dtype not in NUMERIC_TYPES:
        return str(value.dtype).removeprefix("torch.")
    if value.numel() * value.element_size() > max(SMALL, 4 * file.stat().st_size):
        return f"a view of {tuple(value.shape)} on far fewer numbers"
    return ""


def raw_bytes(tensor: Tensor) -> memoryview | bytes:
    """Return the values of a tensor of any kind as bytes; of a quantized tensor, the bytes of its whole numbers."""
    value = tensor.detach()
    if value.is_quantized:
        value = value.int_repr()
    if value.is_meta or not value.numel():
        return b""
    return value.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
