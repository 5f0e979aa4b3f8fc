"""Normalize directions by filter, layer, weight or length; the slices of transposed convolutions: see `layout`."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from lossatlas.choices import Ignore, NormOrNone
from lossatlas.io.seeded_directions import blocks
from lossatlas.parameter_space.layout import PLAIN_LAYOUT, Layout, by_input, by_output
from lossatlas.parameter_space.points import Point, real_view, widened
from lossatlas.parameter_space.selection import EVERYTHING, Selection

LARGE_TENSOR = 1 << 24  # numbers of a tensor; larger ones are converted to float64 in blocks
TINY = 1e-10  # keeps a slice of zero norm from dividing by zero, as in the original code


def normalize(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: NormOrNone = "",
    ignore: Ignore = "",
    layout: Layout = PLAIN_LAYOUT,
) -> Point:
    """Scale a direction to the weights (Li et al., arXiv 1712.09913, section 4).

    Tensors with at most one axis (biases, BatchNorm) become zero under ignore='biasbn'; otherwise, as in the original
    code, the direction of these tensors is the tensors themselves, for both axes (except under 'unit', where it is as
    drawn).

    Args:
        direction: The direction, tensors by name.
        at: The weights it belongs to, in the same shapes.
        norm: 'filter': each slice that produces one output channel gets the norm of that slice of the weights, a slice
            along the first axis unless `layout` says otherwise. 'layer': each tensor gets the norm of its weights.
            'weight': elementwise product with the weights. 'dfilter', 'dlayer': unit norm of each slice or tensor.
            'unit': unit norm of the whole. '': unchanged.
        ignore: 'biasbn' or ''.
        layout: Names of tensors that count as BatchNorm whatever their axes, and of weights with their output channels
            along the second axis, see `Layout.of`.

    Returns:
        The scaled direction.
    """
    if norm == "unit":
        return unit(without_biases(direction, ignore, layout.norms))
    return normalized_tensors(direction, at, norm, layout, lambda name, d: of_bias(d, at[name], ignore))


def scale_to(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: NormOrNone = "",
    ignore: Ignore = "",
    layout: Layout = PLAIN_LAYOUT,
    *,
    selection: Selection = EVERYTHING,
) -> Point:
    """Normalize a direction that is meaningful in every tensor, such as a gradient.

    A tensor with one axis counts as one slice, and keeps its direction.

    Args:
        direction: See `normalize`.
        at: See `normalize`.
        norm: See `normalize`.
        ignore: 'biasbn' sets tensors with at most one axis and normalization layers to zero.
        layout: See `normalize`.
        selection: All other tensors become zero.

    Returns:
        The scaled direction.
    """
    direction = selection.within(without_biases(direction, ignore, layout.norms))
    if norm in ("", "unit"):
        return unit(direction) if norm else dict(direction)
    return normalized_tensors(
        direction,
        at,
        norm,
        layout,
        lambda name, d: normalized(d.reshape(1, -1), widened(at[name]).reshape(1, -1), norm).view_as(d),
    )


def normalized_tensors(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: NormOrNone,
    layout: Layout,
    bias: Callable[[str, Tensor], Tensor],
) -> Point:
    """Normalize tensor by tensor.

    Args:
        direction: Tensors by name.
        at: The point, tensors by name, of the same shapes.
        norm: See `normalize`.
        layout: See `normalize`.
        bias: Function of (name, tensor) that normalizes a tensor that counts as a bias.
    """
    return {
        name: bias(name, d)
        if is_bias(name, d, layout.norms)
        else normalized_layer(d, at[name], norm, layout.transposed.get(name, 0))
        for name, d in direction.items()
    }


def is_bias(name: str, d: Tensor, norms: Collection[str]) -> bool:
    """Test whether a tensor counts as bias or normalization layer.

    Args:
        name: The name of the tensor.
        d: The tensor.
        norms: The names of the parameters of normalization layers.
    """
    return d.dim() <= 1 or name in norms


def of_bias(d: Tensor, w: Tensor, ignore: Ignore) -> Tensor:
    return torch.zeros_like(d) if ignore == "biasbn" else widened(w).clone()


def without_biases(direction: Mapping[str, Tensor], ignore: Ignore, norms: Collection[str] = ()) -> Point:
    return {
        name: torch.zeros_like(d) if ignore == "biasbn" and is_bias(name, d, norms) else d
        for name, d in direction.items()
    }


def unit(direction: Mapping[str, Tensor]) -> Point:
    """Scale a direction to unit length."""
    length = unit_length(direction)
    return {name: d / length for name, d in direction.items()}


def unit_length(direction: Mapping[str, Tensor]) -> float:
    """Return the length by which a direction is divided to have unit length; TINY for a zero direction."""
    return max(inner(direction, direction) ** 0.5, TINY)


def normalized_layer(d: Tensor, w: Tensor, norm: NormOrNone, groups: int) -> Tensor:
    """Normalize one tensor.

    Args:
        d: The tensor of the direction.
        w: The weights, of the same shape.
        norm: See `normalize`.
        groups: Groups of a weight whose output channels are along its second axis, as of a transposed convolution;
            otherwise 0.
    """
    w = widened(w)  # whose norms would have the digits of half precision otherwise
    if not groups or norm not in ("filter", "dfilter"):
        return normalized(d, w, norm)
    return by_input(normalized(by_output(d, groups), by_output(w, groups), norm), groups, d.shape)


def normalized(d: Tensor, w: Tensor, norm: NormOrNone) -> Tensor:
    """Normalize one tensor with its output channels along the first axis, see `normalize`."""
    rows = d.flatten(1).norm(dim=1).view(-1, *[1] * (d.dim() - 1))
    if norm == "filter":
        return d * (w.flatten(1).norm(dim=1).view_as(rows) / (rows + TINY))
    if norm == "layer":
        return d * (w.norm() / (d.norm() + TINY))
    if norm == "weight":
        return d * w
    if norm == "dfilter":
        return d / (rows + TINY)
    if norm == "dlayer":
        return d / (d.norm() + TINY)
    return d.clone()


def inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Compute the inner product of two directions in float64."""
    return sum(dot(a[name], b[name]) for name in a)


def dot(a: Tensor, b: Tensor) -> float:
    """Compute the inner product of two tensors in float64; of large ones block by block."""
    if a.numel() <= LARGE_TENSOR or not (a.is_contiguous() and b.is_contiguous()):
        return float(torch.dot(real_coordinates(a), real_coordinates(b)))
    first, second = a.reshape(-1), b.reshape(-1)
    return sum(float(torch.dot(real_coordinates(first[k]), real_coordinates(second[k]))) for k in blocks(len(first)))


def real_coordinates(value: Tensor) -> Tensor:
    """Flatten a tensor to real coordinates in float64; a complex number has two."""
    return real_view(value).double().flatten()
