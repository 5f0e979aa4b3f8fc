"""Flat vectors of parameters: concatenation in a fixed order, and back."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def entry_count(names: Sequence[str], shapes: Sequence[torch.Size], chosen: Sequence[str] | None) -> int:
    """Count the entries of the chosen parameters; `chosen` is None for all."""
    return sum(shape.numel() for name, shape in zip(names, shapes, strict=True) if chosen is None or name in chosen)


def size_of_entries(tensor: Tensor) -> float:
    """Return the root mean square of a tensor's entries, for a step relative to it; 0.1 where all are zero."""
    return float(tensor.detach().double().norm()) / math.sqrt(max(1, tensor.numel())) or 0.1


def unflatten(vector: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Split a vector (size,) into views of these shapes."""
    parts = vector.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def flatten(tensors: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors to a detached vector (size,); None stands for zeros in the shape of its parameter."""
    return torch.cat(
        [
            p.new_zeros(p.numel()) if t is None else t.detach().reshape(-1)
            for t, p in zip(tensors, parameters, strict=True)
        ]
    )
