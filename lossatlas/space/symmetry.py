"""Which units of a network can change places without changing what it computes, found by tracing its operations.

    groups = symmetries(net, inputs)            # what is numbered together: hidden units, channels of a residual stream
    other = permuted(state, groups, orders)     # the same function, its units in another order

Every axis of every tensor starts with units of its own; each operation says which axes have to agree. What an operation
that is not known here takes in stays where it is, and so do inputs and outputs. Whoever uses a symmetry checks it on samples,
see `computing.alignment`.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from lossatlas.errors import BadInput

aten = torch.ops.aten


@dataclass(eq=False)
class Units:
    """Units that are numbered together. fixed: they stay where they are. same: what they turned out to be."""

    count: int
    fixed: bool = False
    same: "Axis | None" = None


@dataclass(frozen=True)
class Block:
    """A part of an axis: for each unit `inner` numbers behind each other."""

    units: Units
    inner: int = 1

    @property
    def size(self) -> int:
        return self.units.count * self.inner


Axis = tuple[Block, ...]
Axes = tuple[Axis, ...]


def fresh(size: int) -> Axis:
    return (Block(Units(size)),)


def still(size: int) -> Axis:
    return (Block(Units(size, fixed=True)),)


def resolved(axis: Axis) -> Axis:
    """What an axis turned out to be."""
    found: list[Block] = []
    for block in axis:
        if block.units.same is None:
            found.append(block)
        else:
            found += [Block(b.units, b.inner * block.inner) for b in resolved(block.units.same)]
    return tuple(found)


def pin(*axes: Axis) -> None:
    for axis in axes:
        for block in resolved(axis):
            block.units.fixed = True


def agree(a: Axis, b: Axis) -> None:
    """Let two axes be numbered alike; where their parts do not fit together, both stay as they are."""
    a, b = resolved(a), resolved(b)
    for one, other in ((a, b), (b, a)):
        if len(one) == 1 and one[0].inner == 1 and one[0].units.count == sum(block.size for block in other):
            units = one[0].units
            if len(other) == 1 and other[0].units is units:
                return
            if any(block.units is units for block in other):
                pin(a, b)
                return
            if units.fixed:
                pin(other)
            units.same = other
            return
    if [(x.units.count, x.inner) for x in a] != [(x.units.count, x.inner) for x in b]:
        pin(a, b)
        return
    for x, y in zip(a, b, strict=True):
        agree((Block(x.units),), (Block(y.units),))  # what the pairs before have joined is known there


@dataclass(frozen=True)
class Group:
    """Units that change places together. places: (tensor, axis, first number, numbers behind each other) where they are."""

    count: int
    places: tuple[tuple[str, int, int, int], ...] = field(repr=False)


def symmetries(net: nn.Module, inputs: Any) -> list[Group]:
    """The groups of a network in eval mode. inputs: a batch of at least two, as the network is called with.

    Raises BadInput where its operations cannot be traced.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    names = list(tensors)

    saved = set(net.state_dict())

    def call(values: list[Tensor], batch: Any) -> Any:
        return functional_call(net, dict(zip(names, values, strict=True)), (batch,))

    try:
        with torch.no_grad():
            graph = make_fx(call)([value.detach() for value in tensors.values()], inputs).graph
        own = {name: tuple(fresh(size) for size in value.shape) for name, value in tensors.items()}
        for name in own.keys() - saved:  # a buffer that no checkpoint holds
            pin(*own[name])
        Walk(list(own.values())).over(graph)
    except Exception as error:
        what = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise BadInput(f"the operations of this network cannot be traced: {what}") from error
    found: dict[int, tuple[Units, list[tuple[str, int, int, int]]]] = {}
    for name, axes in own.items():
        for k, axis in enumerate(axes):
            start = 0
            for block in resolved(axis):
                if not block.units.fixed and block.units.count > 1:
                    found.setdefault(id(block.units), (block.units, []))[1].append((name, k, start, block.inner))
                start += block.size
    return [Group(units.count, tuple(places)) for units, places in found.values()]


class Walk:
    """Through the operations of a traced network, with the axes of every intermediate result."""

    def __init__(self, own: Sequence[Axes]) -> None:
        self.own = list(own)
        self.axes: dict[fx.Node, Axes] = {}

    def over(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.axes[node] = self.own.pop(0) if self.own else self.quiet(node)
            elif node.op == "call_function" and not node.users and not mutates(node):
                self.axes[node] = self.quiet(node)  # such as the places of maxima
            elif node.op == "call_function":
                rule = RULES.get(getattr(node.target, "overloadpacket", node.target))
                found = rule(self, node) if rule is not None else None
                if found is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
                    found = pointwise(self, node)
                good = found is not None and [sum(b.size for b in axis) for axis in found] == list(shape_of(node))
                self.axes[node] = found if good and found is not None else self.unknown(node)
            elif node.op == "output":
                self.unknown(node)
            else:  # a constant of the network's own
                self.axes[node] = self.quiet(node)

    def quiet(self, node: Any) -> Axes:
        return tuple(still(size) for size in shape_of(node))

    def unknown(self, node: Any) -> Axes:
        for source in node.all_input_nodes:
            pin(*self.axes.get(source, ()))
        return self.quiet(node)

    def of(self, node: Any) -> Axes:
        return self.axes[node]


def mutates(node: Any) -> bool:
    """Whether it changes what it is given."""
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def shape_of(node: Any) -> tuple[int, ...]:
    """Of what an operation gives; where it gives several things, of the first."""
    value = node.meta.get("val", node.meta.get("tensor_meta"))
    if isinstance(value, list | tuple) and not hasattr(value, "shape") and value:
        value = value[0]
    return tuple(int(size) for size in value.shape) if hasattr(value, "shape") else ()


def pointwise(walk: Walk, node: Any) -> Axes | None:
    """Axes that lie over each other agree; one of a single number is spread, and has nothing to say."""
    shape = shape_of(node)
    sources = [walk.of(source) for source in node.all_input_nodes]
    if not all(len(axes) <= len(shape) for axes in sources):
        return None
    found = [still(size) for size in shape]
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


def convolution(walk: Walk, node: Any) -> Axes | None:
    image, weight, bias, *_, transposed, _, groups = node.args[:9]
    if transposed:
        return None
    x, w = walk.of(image), walk.of(weight)
    if groups == 1:
        agree(w[1], x[1])
    elif groups == sum(block.size for block in x[1]) == sum(block.size for block in w[0]):  # each channel by itself
        agree(w[0], x[1])
        pin(w[1])
    else:
        return None
    pin(*x[2:], *w[2:])
    if bias is not None:
        agree(walk.of(bias)[0], w[0])
    return (x[0], w[0], *(still(size) for size in shape_of(node)[2:]))


def normalization(walk: Walk, node: Any) -> Axes:
    """BatchNorm with its own statistics: gives a tuple, of which the first counts."""
    x = walk.of(node.args[0])
    for each in node.args[1:5]:
        if isinstance(each, fx.Node):
            agree(walk.of(each)[0], x[1])
    return x


def layer_norm(walk: Walk, node: Any) -> Axes | None:
    """Over the last axis: it treats all numbers alike."""
    image, over, *more = node.args[:4]
    if len(over) != 1:
        return None
    x = walk.of(image)
    for each in more:
        if isinstance(each, fx.Node):
            agree(walk.of(each)[0], x[-1])
    return x


def first(walk: Walk, node: Any) -> Axes | None:
    return walk.of(node.args[0]) if node.args[1] == 0 else None


def product(walk: Walk, node: Any) -> Axes | None:
    """mm(a, b), and addmm(c, a, b)."""
    a, b = (walk.of(each) for each in node.args[-2:])
    agree(a[1], b[0])
    if len(node.args) == 3:
        c = walk.of(node.args[0])
        if len(c) != 1:
            return None
        agree(c[0], b[1])
    return a[0], b[1]


def turned(walk: Walk, node: Any) -> Axes:
    return walk.of(node.args[0])[::-1]


def permuted_axes(walk: Walk, node: Any) -> Axes:
    x = walk.of(node.args[0])
    return tuple(x[k] for k in node.args[1])


def transposed(walk: Walk, node: Any) -> Axes:
    x = list(walk.of(node.args[0]))
    i, j = node.args[1:3]
    x[i], x[j] = x[j], x[i]
    return tuple(x)


def same(walk: Walk, node: Any) -> Axes:
    return walk.of(node.args[0])


def pooled(walk: Walk, node: Any) -> Axes:
    """Over places of images, the last two axes, whatever the channel."""
    x, shape = walk.of(node.args[0]), shape_of(node)
    pin(*x[-2:])
    return (*x[:-2], *(still(size) for size in shape[-2:]))


def looked_up(walk: Walk, node: Any) -> Axes:
    """Rows of a table, by numbers that mean what they mean."""
    table = walk.of(node.args[0])
    pin(table[0])
    return (*(still(size) for size in shape_of(node)[:-1]), table[1])


def reduced(walk: Walk, node: Any) -> Axes | None:
    """A mean or a sum over some axes, each of which has the same weight."""
    x = walk.of(node.args[0])
    over = node.args[1] if len(node.args) > 1 else None
    if over is None or not isinstance(over, list | tuple):
        return None
    gone = {k % len(x) for k in over}
    kept = bool(node.args[2]) if len(node.args) > 2 else False
    return tuple(still(1) if k in gone else axis for k, axis in enumerate(x) if kept or k not in gone)


def reshaped(walk: Walk, node: Any) -> Axes | None:
    """Where axes are joined whose units are in the first of them, such as channels and places of an image; or single ones
    come and go; or one is split that does not move."""
    x, old, new = list(walk.of(node.args[0])), list(shape_of(node.args[0])), list(shape_of(node))
    found: list[Axis] = []
    i = 0
    for size in new:
        if i < len(old) and old[i] == size:
            found.append(x[i])
            i += 1
        elif size == 1:
            found.append(still(1))
        else:
            while i < len(old) and old[i] == 1:
                i += 1
            if i < len(old) and old[i] % size == 0 and all(block.units.fixed for block in resolved(x[i])):
                found.append(still(size))  # a part of what does not move, such as samples and places in a text
                old[i] //= size
                x[i] = still(old[i])
                continue
            if i == len(old) or size % old[i]:
                return None
            joined, inner, head = old[i], 1, x[i]
            i += 1
            while joined < size and i < len(old):
                joined, inner = joined * old[i], inner * old[i]
                pin(x[i])
                i += 1
            if joined != size:
                return None
            found.append(tuple(Block(block.units, block.inner * inner) for block in head))
    return tuple(found) if all(each == 1 for each in old[i:]) else None


def joined(walk: Walk, node: Any) -> Axes | None:
    parts = [walk.of(each) for each in node.args[0] if shape_of(each) != (0,)]  # an empty piece is left out
    along = node.args[1] % len(parts[0]) if len(node.args) > 1 else 0
    for other in parts[1:]:
        for k in range(len(other)):
            if k != along:
                agree(parts[0][k], other[k])
    return tuple(
        tuple(block for part in parts for block in part[k]) if k == along else axis for k, axis in enumerate(parts[0])
    )


def padded(walk: Walk, node: Any) -> Axes:
    x, widths = list(walk.of(node.args[0])), node.args[1]
    for k, (before, behind) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        axis = x[-1 - k]
        if before < 0 or behind < 0:
            pin(axis)
            size = sum(block.size for block in axis) + before + behind
            x[-1 - k] = still(size)
        else:
            ends = [still(size) if size else () for size in (before, behind)]
            x[-1 - k] = (*ends[0], *axis, *ends[1])
    return tuple(x)


def cut(walk: Walk, node: Any) -> Axes:
    """A part of an axis has to stay where it is, unless it is all of it."""
    x, before, behind = list(walk.of(node.args[0])), shape_of(node.args[0]), shape_of(node)
    for k, (old, new) in enumerate(zip(before, behind, strict=True)):
        if old != new:
            pin(x[k])
            x[k] = still(new)
    return tuple(x)


Rule = Callable[[Walk, Any], "Axes | None"]
RULES: dict[Any, Rule] = {
    aten.convolution: convolution,
    aten.native_batch_norm: normalization,
    aten._native_batch_norm_legit_no_training: normalization,
    aten.cudnn_batch_norm: normalization,
    aten.native_layer_norm: layer_norm,
    aten.mm: product,
    aten.addmm: product,
    aten.t: turned,
    aten.permute: permuted_axes,
    aten.transpose: transposed,
    aten.detach: same,
    aten.clone: same,
    aten.alias: same,
    aten._to_copy: same,
    aten.relu: same,
    aten.embedding: looked_up,
    aten.max_pool2d_with_indices: pooled,
    aten.avg_pool2d: pooled,
    aten._adaptive_avg_pool2d: pooled,
    aten.mean: reduced,
    aten.sum: reduced,
    aten.view: reshaped,
    aten._unsafe_view: reshaped,
    aten.reshape: reshaped,
    aten.squeeze: reshaped,
    aten.unsqueeze: reshaped,
    aten.cat: joined,
    aten.constant_pad_nd: padded,
    aten.slice: cut,
}
RULES[operator.getitem] = first


def order_of(group: Group, place: tuple[str, int, int, int], order: Tensor, size: int) -> Tensor:
    """The numbers along an axis of this size, those of the group in another order."""
    _, _, start, inner = place
    index = torch.arange(size)
    index[start : start + group.count * inner] = start + (order[:, None] * inner + torch.arange(inner)).flatten()
    return index


def permuted(state: Mapping[str, Tensor], groups: Sequence[Group], orders: Sequence[Tensor]) -> dict[str, Tensor]:
    """A state whose unit k of a group is the one that was number order[k]."""
    result = dict(state)
    for group, order in zip(groups, orders, strict=True):
        for place in group.places:
            name, axis = place[:2]
            if name in result:
                value = result[name]
                result[name] = value.index_select(axis, order_of(group, place, order, value.shape[axis]))
    return result
