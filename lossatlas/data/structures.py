"""Structures of tensors: a tensor, or tuples, lists and dicts of structures, as loaders give them for a batch.

A list of texts or other objects counts as a column with one entry for each sample. Other objects are constants.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Structure = Any  # recursive: Tensor | np.ndarray | Mapping[str, Structure] | Sequence[Structure] | column | constant


def mapped(structure: Structure, function: Callable[[Tensor], Tensor]) -> Structure:
    """Apply a function to every tensor of a structure.

    Args:
        structure: A structure; numpy arrays count as tensors.
        function: A function of one tensor.

    Returns:
        A structure of the same form.

    Example:
        >>> mapped({"x": torch.ones(2), "name": ["a", "b"]}, lambda tensor: 2 * tensor)
        {'x': tensor([2., 2.]), 'name': ['a', 'b']}
    """
    if isinstance(structure, np.ndarray):
        structure = torch.from_numpy(structure)
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, Mapping):
        return {name: mapped(value, function) for name, value in structure.items()}
    if is_column(structure):
        return list(structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(mapped(value, function) for value in structure))
    if isinstance(structure, list | tuple):
        return type(structure)(mapped(value, function) for value in structure)
    return structure


def leaves(structure: Structure, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, tensor or column) of each leaf; a path is such as `['labels']` or `[0]`."""
    if isinstance(structure, Tensor | np.ndarray) or is_column(structure):
        yield path, structure
    elif isinstance(structure, Mapping):
        for name, value in structure.items():
            yield from leaves(value, f"{path}[{name!r}]")
    elif isinstance(structure, list | tuple):
        for k, value in enumerate(structure):
            yield from leaves(value, f"{path}[{k}]")


def is_column(value: Any) -> bool:
    """Return whether a value is a list of objects that belong to the samples, such as file names."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and not any(isinstance(item, Tensor | np.ndarray | Mapping | list | tuple) for item in value)
    )


def axis_lengths(structure: Structure) -> dict[str, int]:
    """Return the lengths of the first axes by path; tensors without axes are left out."""
    return {
        path: len(leaf) for path, leaf in leaves(structure) if not isinstance(leaf, Tensor | np.ndarray) or leaf.ndim
    }


def selected_samples(structure: Structure, index: slice | Sequence[int] | Tensor | np.ndarray) -> Structure:
    """Select samples of a structure.

    Args:
        structure: A structure with the samples along the first axis of every tensor.
        index: Which samples.

    Returns:
        A structure of the same form; tensors without axes and constants stay.
    """
    if isinstance(structure, np.ndarray):
        structure = torch.from_numpy(structure)
    if isinstance(structure, Tensor):
        return indexed(structure, index) if structure.dim() else structure
    if isinstance(structure, Mapping):
        return {name: selected_samples(value, index) for name, value in structure.items()}
    if is_column(structure):
        return structure[index] if isinstance(index, slice) else [structure[k] for k in torch.as_tensor(index).tolist()]
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(selected_samples(value, index) for value in structure))
    if isinstance(structure, list | tuple):
        return type(structure)(selected_samples(value, index) for value in structure)
    return structure


def indexed(tensor: Tensor, index: slice | Sequence[int] | Tensor | np.ndarray) -> Tensor:
    """Return a tensor's samples at `index`; images in channels-last order stay in it."""
    if isinstance(index, slice) or tensor.dim() != 4 or not tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor[index]
    return tensor.permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2)


def joined_batches(structures: Sequence[Structure]) -> Structure:
    """Concatenate batches along the first axis.

    Args:
        structures: Batches of one form.

    Raises:
        ValueError: Their shapes or their forms differ.
    """
    first = structures[0]
    if isinstance(first, Tensor | np.ndarray):
        tensors = [torch.as_tensor(value) for value in structures]
        if len({(value.shape[1:], value.dtype) for value in tensors}) > 1 or not tensors[0].dim():
            raise ValueError(f"shapes {', '.join(sorted({str(tuple(value.shape[1:])) for value in tensors}))}")
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    if any(type(value) is not type(first) for value in structures):
        raise ValueError("batches of different forms")
    if isinstance(first, Mapping):
        if any(set(value) != set(first) for value in structures):
            raise ValueError("batches with different names")
        return {name: joined_batches([value[name] for value in structures]) for name in first}
    if all(is_column(value) for value in structures):
        return [item for value in structures for item in value]
    if isinstance(first, list | tuple):
        if any(len(value) != len(first) for value in structures):
            raise ValueError("batches of different lengths")
        items = [joined_batches([value[k] for value in structures]) for k in range(len(first))]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    if any(value != first for value in structures):
        raise ValueError(f"batches with different constants, such as {first!r}")
    return first


def equal_structures(a: Structure, b: Structure) -> bool:
    """Return whether all tensors and columns of two structures are equal, where NaN equals NaN."""
    ours, theirs = list(leaves(a)), list(leaves(b))
    if [path for path, _ in ours] != [path for path, _ in theirs]:
        return False
    return all(equal_leaves(x, y) for (_, x), (_, y) in zip(ours, theirs, strict=True))


def equal_leaves(x: Any, y: Any) -> bool:
    """Return whether two tensors or columns are equal."""
    if not isinstance(x, Tensor | np.ndarray):
        return bool(x == y)
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    return x.shape == y.shape and bool(torch.equal(x, y) or torch.allclose(x, y, rtol=0, atol=0, equal_nan=True))
