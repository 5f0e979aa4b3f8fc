"""Rules of torch's operations: which axes they unify, which they fix, and the axes of their results.

Each rule takes a `GraphWalk`, a node and its arguments, and returns the axes of the result, or None where it does not
apply.
"""

import operator
from functools import partial
from typing import Any

import torch
from torch import fx

from lossatlas.parameter_space.axis_units import (
    Axes,
    AxisUnits,
    UnitBlock,
    Units,
    agree,
    axis_size,
    fixed_axis,
    fixed_axis_like,
    fresh,
    is_fixed,
    pin,
    resolved_axis,
    spread,
)
from lossatlas.parameter_space.graph_walk import GraphWalk, Rule, cause, result_shape

aten = torch.ops.aten
TILED = 4096  # largest number of copies of an axis that are followed one by one
Args = tuple[Any, ...]


def pointwise(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Unify the axes of elementwise operations, except broadcast axes of size 1."""
    shape = result_shape(node)
    sources = [walk.of(source) for source in node.all_input_nodes]
    if not all(len(axes) <= len(shape) for axes in sources):
        return None
    found = [fixed_axis(size) for size in shape]
    for k, size in enumerate(shape):
        over = [axes[k - len(shape)] for axes in sources if len(axes) >= len(shape) - k]
        if any(sum(block.size for block in axis) not in (1, size) for axis in over):
            return None
        over = [axis for axis in over if sum(block.size for block in axis) == size]
        for other in over[1:]:
            agree(over[0], other)
        if over:
            found[k] = over[0]
    return tuple(found)


def convolution(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Apply a convolution, with a weight (out, in / groups, ...), or (in, out / groups, ...) if it is transposed."""
    image, weight, bias, *_, is_transposed, _, groups = args[:9]
    x, w = walk.of(image), walk.of(weight)
    if groups == 1:
        agree(w[0] if is_transposed else w[1], x[1])
        out = w[1] if is_transposed else w[0]
    elif groups == axis_size(x[1]):  # depthwise, with the same number of outputs for each channel
        times = axis_size(w[1]) if is_transposed else axis_size(w[0]) // groups
        agree(w[0], x[1] if is_transposed else spread(x[1], times))
        pin(w[1])
        out = spread(x[1], times)
    else:
        pin(x[1], why=cause(node))
        pin(w[0], w[1], why=cause(node))
        out = fixed_axis(groups * axis_size(w[1]), cause(node)) if is_transposed else w[0]
    pin(*x[2:], *w[2:])
    if bias is not None:
        agree(walk.of(bias)[0], out)
    walk.make(weight, out)
    return (x[0], out, *(fixed_axis(size) for size in result_shape(node)[2:]))


def normalization(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Apply BatchNorm with its own statistics, whose first result counts."""
    x = walk.of(args[0])
    for each in args[1:5]:
        if isinstance(each, fx.Node):
            agree(walk.of(each)[0], x[1])
    return x


def group_norm(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Apply GroupNorm: channels are equivalent in one group, and in as many groups as channels; otherwise fixed."""
    image, weight, bias, _, channels, _, groups = args[:7]
    x = walk.of(image)
    for each in (weight, bias):
        if isinstance(each, fx.Node):
            agree(walk.of(each)[0], x[1])
    if groups not in (1, channels):
        pin(x[1], why=cause(node))
    return x


def layer_norm(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Apply LayerNorm over the last axes, whose numbers are equivalent."""
    image, over, *more = args[:4]
    x = walk.of(image)
    for each in more:
        if isinstance(each, fx.Node):
            for own, axis in zip(walk.of(each), x[-len(over) :], strict=True):
                agree(own, axis)
    return x


def weight_norm(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Apply weight norm: a direction times a length along one axis."""
    v, g = walk.of(args[0]), walk.of(args[1])
    along = args[2] if len(args) > 2 else 0
    agree(g[along], v[along])
    return v


def result_part(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Take one of several results."""
    source, number = args
    if source in walk.parts:
        return walk.parts[source][number]
    return walk.of(source) if number == 0 else None


def product(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Apply a matrix product: mm(a, b), or addmm(c, a, b)."""
    a, b = (walk.of(each) for each in args[-2:])
    agree(a[1], b[0])
    if len(args) == 3:
        c = walk.of(args[0])
        if len(c) != 1:
            return None
        agree(c[0], b[1])
    for each, axis in ((args[-2], a[0]), (args[-1], b[1])):
        walk.make(each, axis)
    return a[0], b[1]


def transposed_matrix(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    return walk.of(args[0])[::-1]


def permuted_axes(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    x = walk.of(args[0])
    return tuple(x[k] for k in args[1])


def transposed(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    x = list(walk.of(args[0]))
    i, j = args[1:3]
    x[i], x[j] = x[j], x[i]
    return tuple(x)


def unchanged(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    return walk.of(args[0])


def over_spatial_axes(walk: GraphWalk, node: fx.Node, args: Args, spatial: int) -> Axes:
    """Apply an operation over the spatial axes of each channel: pooling, resampling, padding.

    Args:
        walk: The walk through the graph.
        node: The operation.
        args: Its arguments, the input first.
        spatial: Number of the spatial axes, which are the last ones and become fixed.
    """
    x, shape = walk.of(args[0]), result_shape(node)
    pin(*x[-spatial:], why=cause(node))
    for other in node.all_input_nodes[1:]:  # such as the coordinates at which an image is sampled
        pin(*walk.of(other), why=cause(node))
    return (*x[:-spatial], *(fixed_axis(size) for size in shape[-spatial:]))


def embedding(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Look rows of a table up by index, whose order is fixed."""
    table = walk.of(args[0])
    pin(table[0], outside=True)
    walk.make(args[0], table[1])
    return (*(fixed_axis(size) for size in result_shape(node)[:-1]), table[1])


def reduced(walk: GraphWalk, node: fx.Node, args: Args, argument: int = 1) -> Axes | None:
    """Reduce some axes, whose numbers are equivalent: mean, sum, maximum, norm.

    Args:
        walk: The walk through the graph.
        node: The operation.
        args: Its arguments, the input first.
        argument: Index of the axes among the arguments; without them all axes are reduced.
    """
    x = walk.of(args[0])
    over: Any = args[argument] if len(args) > argument else node.kwargs.get("dim")
    if isinstance(over, fx.Node):  # elementwise maximum or minimum
        return pointwise(walk, node, args)
    if result_shape(node) == ():
        return ()
    if over is None or over == []:
        over = range(len(x))
    gone = {k % len(x) for k in ([over] if isinstance(over, int) else over)}
    kept = len(result_shape(node)) == len(x)
    return tuple(fixed_axis(1) if k in gone else axis for k, axis in enumerate(x) if kept or k not in gone)


def reshaped(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Reshape a tensor: join, split, add or drop axes; None where units would be split unevenly."""
    x, old = list(walk.of(args[0])), list(result_shape(args[0]))
    found: list[AxisUnits] = []
    i = 0
    for size in result_shape(node):
        if i < len(old) and old[i] == size:
            found.append(x[i])
            i += 1
            continue
        if size == 1:
            found.append(fixed_axis(1))
            continue
        while i < len(old) and old[i] == 1:
            i += 1
        if i == len(old):
            return None
        if old[i] % size == 0 and old[i] > size:
            halves = split(x[i], size)
            if halves is None:
                return None
            found.append(halves[0])
            x[i], old[i] = halves[1], old[i] // size
            continue
        axis, count = x[i], old[i]
        i += 1
        while count < size and i < len(old):
            axis, count = flattened(axis, count, x[i], old[i]), count * old[i]
            i += 1
        if count != size:
            return None
        found.append(axis)
    return tuple(found) if all(each == 1 for each in old[i:]) else None


def flattened(outer: AxisUnits, count: int, inner: AxisUnits, size: int) -> AxisUnits:
    """Join two axes.

    Args:
        outer: The outer axis.
        count: Its size.
        inner: The inner axis.
        size: Size of the inner axis.

    Returns:
        The joined axis: copies of the inner one where the outer one is fixed; otherwise the outer one, with `size`
        numbers for each unit.
    """
    if size == 1:
        return outer
    if is_fixed(outer) and count <= TILED:
        return inner * count
    pin(inner, why="a view that joins them with others")
    return spread(outer, size)


def split(axis: AxisUnits, size: int) -> tuple[AxisUnits, AxisUnits] | None:
    """Split an axis in two, the first of this size: copies of a part, units of several numbers, or fixed units."""
    blocks = resolved_axis(axis)
    part = blocks[: len(blocks) // size]
    if part and part * size == blocks:
        return fixed_axis_like(size, axis) if is_fixed(axis) else fixed_axis(size), part
    rest = axis_size(axis) // size
    if is_fixed(axis):
        return fixed_axis_like(size, axis), fixed_axis_like(rest, axis)
    units = blocks[0].units
    if len(blocks) != 1 or units.count % size:
        return None
    if units.count > size:
        outer = Units(size, made=units.made, split=True)
        units.same = (UnitBlock(outer, units.count // size),)
        units = outer
    return (UnitBlock(units),), fixed_axis(rest, "a view that splits them")


def split_axis(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Split an axis into pieces, such as the two halves of a gated layer."""
    x, along = list(walk.of(args[0])), (args[2] if len(args) > 2 else 0) % len(result_shape(args[0]))
    sizes = [int(each.shape[along]) for each in node.meta["val"]]
    pieces = [fixed_axis_like(size, x[along]) if is_fixed(x[along]) else fresh(size) for size in sizes]
    if not is_fixed(x[along]):
        agree(x[along], tuple(block for piece in pieces for block in piece))
    walk.parts[node] = [(*x[:along], piece, *x[along + 1 :]) for piece in pieces]
    return walk.parts[node][0]


def gated(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Apply a gated linear unit: the first half of an axis times a function of the second."""
    x, along = list(walk.of(args[0])), (args[1] if len(args) > 1 else -1)
    half = fresh(axis_size(x[along]) // 2)
    agree(x[along], half + half)
    x[along] = half
    return tuple(x)


def shuffled(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Shuffle pixels: r x r consecutive channels become one of r x r times the pixels."""
    x, r = list(walk.of(args[0])), args[1]
    channels = fresh(axis_size(x[-3]) // r**2)
    agree(x[-3], spread(channels, r**2))
    pin(*x[-2:])
    return (*x[:-3], channels, *(fixed_axis(size) for size in result_shape(node)[-2:]))


def unshuffled(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Invert a pixel shuffle."""
    x = list(walk.of(args[0]))
    pin(*x[-2:])
    return (*x[:-3], spread(x[-3], args[1] ** 2), *(fixed_axis(size) for size in result_shape(node)[-2:]))


def constant(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Make constant or uninitialized tensors."""
    return tuple(fresh(size) for size in result_shape(node))


def expanded(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Broadcast axes of size 1."""
    x, shape = walk.of(args[0]), result_shape(node)
    own = [None] * (len(shape) - len(x)) + list(x)
    return tuple(
        axis if axis is not None and axis_size(axis) == size else fresh(size)
        for axis, size in zip(own, shape, strict=True)
    )


def repeated(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    x, times = walk.of(args[0]), args[1]
    own = [fixed_axis(1)] * (len(times) - len(x)) + list(x)
    return tuple(axis * number for axis, number in zip(own, times, strict=True))


def selected(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Select one index of an axis."""
    x = list(walk.of(args[0]))
    pin(x.pop(args[1]), why="a part that is taken of them")
    return tuple(x)


def stacked(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Stack tensors along a new axis, which is fixed; their other axes agree."""
    parts = [walk.of(each) for each in args[0]]
    along = (args[1] if len(args) > 1 else 0) % (len(parts[0]) + 1)
    for other in parts[1:]:
        for a, b in zip(parts[0], other, strict=True):
            agree(a, b)
    return (*parts[0][:along], fixed_axis(len(parts)), *parts[0][along:])


def reordered(walk: GraphWalk, node: fx.Node, args: Args, argument: int) -> Axes:
    """Reorder numbers along some axes, as flip and roll do; these axes become fixed.

    Args:
        walk: The walk through the graph.
        node: The operation.
        args: Its arguments, the input first.
        argument: Index of the axes among the arguments; without them all axes are reordered.
    """
    x = list(walk.of(args[0]))
    for k in args[argument] if len(args) > argument else range(len(x)):
        pin(x[k], why=cause(node))
        x[k] = fixed_axis_like(axis_size(x[k]), x[k])
    return tuple(x)


def concatenated(walk: GraphWalk, node: fx.Node, args: Args) -> Axes | None:
    """Concatenate tensors along an axis, which keeps their blocks; their other axes agree."""
    parts = [walk.of(each) for each in args[0] if result_shape(each) != (0,)]  # an empty piece is left out
    along = args[1] % len(parts[0]) if len(args) > 1 else 0
    for other in parts[1:]:
        for k in range(len(other)):
            if k != along:
                agree(parts[0][k], other[k])
    return tuple(
        tuple(block for part in parts for block in part[k]) if k == along else axis for k, axis in enumerate(parts[0])
    )


def padded(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Pad the last axes with fixed numbers; a negative width cuts an axis, which becomes fixed."""
    x, widths = list(walk.of(args[0])), args[1]
    for k, (before, behind) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        axis = x[-1 - k]
        if before < 0 or behind < 0:
            pin(axis, why="a part that is taken of them")
            x[-1 - k] = fixed_axis_like(axis_size(axis) + before + behind, axis)
        else:
            ends = [fixed_axis(size, "padding beside them") if size else () for size in (before, behind)]
            x[-1 - k] = (*ends[0], *axis, *ends[1])
    return tuple(x)


def sliced(walk: GraphWalk, node: fx.Node, args: Args) -> Axes:
    """Slice axes; a proper part of an axis fixes it."""
    x, before, behind = list(walk.of(args[0])), result_shape(args[0]), result_shape(node)
    for k, (old, new) in enumerate(zip(before, behind, strict=True)):
        if old != new:
            pin(x[k], why="a part that is taken of them")
            x[k] = fixed_axis_like(new, x[k])
    return tuple(x)


RULES: dict[Any, Rule] = {
    aten.convolution: convolution,
    aten.native_batch_norm: normalization,
    aten._native_batch_norm_legit_no_training: normalization,
    aten.cudnn_batch_norm: normalization,
    aten.native_layer_norm: layer_norm,
    aten._fused_rms_norm: layer_norm,
    aten.native_group_norm: group_norm,
    aten._weight_norm_interface: weight_norm,
    aten.mm: product,
    aten.addmm: product,
    aten.t: transposed_matrix,
    aten.permute: permuted_axes,
    aten.transpose: transposed,
    aten.detach: unchanged,
    aten.clone: unchanged,
    aten.alias: unchanged,
    aten._to_copy: unchanged,
    aten._softmax: unchanged,
    aten._log_softmax: unchanged,
    aten.embedding: embedding,
    aten._embedding_bag: embedding,
    aten._embedding_bag_forward_only: embedding,
    aten.linalg_vector_norm: partial(reduced, argument=2),
    aten.expand: expanded,
    aten.repeat: repeated,
    aten.select: selected,
    aten.split: split_axis,
    aten.split_with_sizes: split_axis,
    aten.glu: gated,
    aten.stack: stacked,
    aten.flip: partial(reordered, argument=1),
    aten.roll: partial(reordered, argument=2),
    aten.pixel_shuffle: shuffled,
    aten.pixel_unshuffle: unshuffled,
    aten.view: reshaped,
    aten._unsafe_view: reshaped,
    aten.reshape: reshaped,
    aten.squeeze: reshaped,
    aten.unsqueeze: reshaped,
    aten.cat: concatenated,
    aten.constant_pad_nd: padded,
    aten.slice: sliced,
}
RULES[operator.getitem] = result_part
ELEMENTWISE = (
    "hardswish hardswish_ prelu _prelu_kernel log_sigmoid_forward rrelu_with_noise masked_fill rsub copy_ fill_ zero_"
)
CONSTANT = "zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty"
REDUCTIONS = "mean sum amax amin max min var std logsumexp"
OVER_SPATIAL_AXES = {
    1: "upsample_nearest1d upsample_linear1d _upsample_nearest_exact1d reflection_pad1d replication_pad1d",
    2: "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d "
    "upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "reflection_pad2d replication_pad2d grid_sampler_2d",
    3: "max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d upsample_nearest3d "
    "upsample_trilinear3d _upsample_nearest_exact3d reflection_pad3d replication_pad3d grid_sampler_3d",
}
RULES |= {getattr(aten, name): pointwise for name in ELEMENTWISE.split()}  # not tagged as pointwise by torch
RULES |= {getattr(aten, name): constant for name in CONSTANT.split()}
RULES |= {getattr(aten, name): reduced for name in REDUCTIONS.split()}
for spatial, operations in OVER_SPATIAL_AXES.items():
    RULES |= {getattr(aten, name): partial(over_spatial_axes, spatial=spatial) for name in operations.split()}


def rule_for(node: fx.Node) -> Rule | None:
    """Find the rule of an operation, None for an unknown one."""
    rule = RULES.get(getattr(node.target, "overloadpacket", node.target))
    if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        return pointwise
    return rule
