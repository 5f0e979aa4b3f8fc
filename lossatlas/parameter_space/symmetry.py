"""Which units of a network can change places without changing what it computes, found by tracing its operations.

    groups = symmetries(net, inputs)            # what is numbered together: hidden units, channels of a residual stream
    other = permuted(state, groups, orders)     # the same function, its units in another order

Every axis of every tensor starts with units of its own; each operation says which axes have to agree. What an operation
that is not known here takes in stays where it is, which `Traced.report` says, and so do inputs and outputs. Whoever uses a
symmetry checks it on samples, see `computing.alignment`.
"""

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from lossatlas.errors import BadInput

aten = torch.ops.aten
UNLIKE = "axes whose parts do not fit together"
TILED = 4096  # most copies of an axis that are followed one by one


@dataclass(eq=False)
class Units:
    """Units that are numbered together.

    fixed: they stay where they are. why: the operation that does not let them move. outside: they are inputs or outputs.
    made: a layer's weights produce them. split: each stands
    for several numbers, because a view splits their axis. same: what they turned out to be.
    """

    count: int
    fixed: bool = False
    why: str = ""
    outside: bool = False
    made: bool = False
    split: bool = False
    same: "Axis | None" = None


@dataclass(frozen=True)
class UnitBlock:
    """A part of an axis: for each unit `inner` numbers behind each other."""

    units: Units
    inner: int = 1

    @property
    def size(self) -> int:
        return self.units.count * self.inner


Axis = tuple[UnitBlock, ...]
Axes = tuple[Axis, ...]


def fresh(size: int) -> Axis:
    return (UnitBlock(Units(size)),)


def frozen_copy(size: int, why: str = "", outside: bool = False) -> Axis:
    return (UnitBlock(Units(size, fixed=True, why=why, outside=outside)),)


def frozen_like(size: int, axis: Axis) -> Axis:
    """A part of an axis that does not move."""
    units = [block.units for block in resolved(axis)]
    return frozen_copy(size, next((each.why for each in units if each.why), ""), any(each.outside for each in units))


def is_fixed(axis: Axis) -> bool:
    return all(block.units.fixed for block in resolved(axis))


def size_of(axis: Axis) -> int:
    return sum(block.size for block in axis)


def resolved(axis: Axis) -> Axis:
    """What an axis turned out to be."""
    found: list[UnitBlock] = []
    for block in axis:
        if block.units.same is None:
            found.append(block)
        else:
            found += [UnitBlock(b.units, b.inner * block.inner) for b in resolved(block.units.same)]
    return tuple(found)


def pin(*axes: Axis, why: str = "", outside: bool = False) -> None:
    """Let axes stay as they are. why: the operation that asks for it; outside: inputs and outputs."""
    for axis in axes:
        for block in resolved(axis):
            block.units.fixed = True
            block.units.why = block.units.why or why
            block.units.outside |= outside


def agree(a: Axis, b: Axis) -> None:
    """Let two axes be numbered alike; where their parts do not fit together, both stay as they are."""
    a, b = resolved(a), resolved(b)
    for one, other in ((a, b), (b, a)):
        if len(one) == 1 and one[0].inner == 1 and one[0].units.count == sum(block.size for block in other):
            units = one[0].units
            if len(other) == 1 and other[0].units is units:
                return
            if any(block.units is units for block in other):
                pin(a, b, why=UNLIKE)
                return
            if units.fixed:
                pin(other, why=units.why, outside=units.outside)
            for block in other:
                block.units.made |= units.made
            units.same = other
            return
    if [(x.units.count, x.inner) for x in a] != [(x.units.count, x.inner) for x in b]:
        pin(a, b, why=UNLIKE)
        return
    for x, y in zip(a, b, strict=True):
        agree((UnitBlock(x.units),), (UnitBlock(y.units),))  # what the pairs before have joined is known there


@dataclass(frozen=True)
class Group:
    """Units that change places together. places: (tensor, axis, first number, numbers behind each other) where they are."""

    count: int
    places: tuple[tuple[str, int, int, int], ...] = field(repr=False)


@dataclass(frozen=True)
class TracedNetwork:
    """What was found of a network's hidden units.

    Args:
        groups: Units that can change places, group by group.
        moving: How many of the units that layers produce are among these.
        blocked: How many are not, by the operation that does not let them move. Inputs and outputs are not counted.
        together: How many of those that move do so in blocks only, because a view splits their axis.
    """

    groups: list[Group]
    moving: int
    blocked: Mapping[str, int]
    together: int = 0

    def report(self) -> str:
        """Return a line about the hidden units that could not be permuted; '' where all can."""
        count, parts = sum(self.blocked.values()), list[str]()
        if count:
            causes = ", ".join(f"{number} because of {why}" for why, number in sorted(self.blocked.items()))
            parts.append(f"{count} of {count + self.moving} units could not be permuted: {causes}")
        if self.together:
            parts.append(f"{self.together} units change places in blocks only, because a view splits their axis")
        return "; ".join(parts)


def symmetries(net: nn.Module, inputs: Any) -> list[Group]:
    """The groups of a network in eval mode, see `traced`."""
    return traced(net, inputs).groups


def traced(net: nn.Module, inputs: Any) -> TracedNetwork:
    """Trace a network in eval mode, and find which of its hidden units can change places.

    Args:
        net: The network; its tensors are copied.
        inputs: A batch of at least two, as the network is called with.

    Raises:
        BadInput: Its operations cannot be traced.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    names = list(tensors)

    saved = set(net.state_dict())

    def call(values: list[Tensor], batch: Any) -> Any:
        return functional_call(net, dict(zip(names, values, strict=True)), (batch,))

    try:
        with torch.no_grad():
            graph = make_fx(call)([value.detach().clone() for value in tensors.values()], inputs).graph
        own = {name: tuple(fresh(size) for size in value.shape) for name, value in tensors.items()}
        for name in own.keys() - saved:  # a buffer that no checkpoint holds
            pin(*own[name], why="a buffer that no checkpoint holds")
        walk = GraphWalk(list(own.values()))
        walk.over(graph)
    except Exception as error:
        what = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise BadInput(f"the operations of this network cannot be traced: {what}") from error
    return TracedNetwork(groups_in(own), *walk.counted())


def groups_in(own: Mapping[str, Axes]) -> list[Group]:
    """The units that can move, with their places in the tensors."""
    found: dict[int, tuple[Units, list[tuple[str, int, int, int]]]] = {}
    for name, axes in own.items():
        for k, axis in enumerate(axes):
            start = 0
            for block in resolved(axis):
                if not block.units.fixed and block.units.count > 1:
                    found.setdefault(id(block.units), (block.units, []))[1].append((name, k, start, block.inner))
                start += block.size
    return [Group(units.count, tuple(places)) for units, places in found.values()]


class GraphWalk:
    """Through the operations of a traced network, with the axes of every intermediate result."""

    def __init__(self, own: Sequence[Axes]) -> None:
        self.own = list(own)
        self.axes: dict[fx.Node, Axes] = {}
        self.parts: dict[fx.Node, list[Axes]] = {}  # of operations that give several tensors
        self.computed: set[fx.Node] = set()  # what depends on the inputs
        self.learned: set[fx.Node] = set()  # what depends on parameters
        self.made: list[Units] = []

    def over(self, graph: fx.Graph) -> None:
        used = needed(graph)
        for node in graph.nodes:
            for depending in (self.computed, self.learned):
                if any(source in depending for source in node.all_input_nodes):
                    depending.add(node)
            if node.op == "placeholder":
                self.axes[node] = self.weight(node) if self.own else self.entered(node)
                if node not in used:  # a tensor that plays no part
                    pin(*self.axes[node])
            elif node.op == "call_function" and node not in used:
                self.axes[node] = self.quiet(node)  # such as the places of maxima
            elif node.op == "call_function":
                self.axes[node] = self.after(node)
            elif node.op == "output":
                for source in node.all_input_nodes:
                    pin(*self.axes[source], outside=True)
            else:
                self.axes[node] = self.quiet(node, "a constant of the network's own")

    def weight(self, node: Any) -> Axes:
        self.learned.add(node)
        return self.own.pop(0)

    def entered(self, node: Any) -> Axes:
        self.computed.add(node)
        return tuple(frozen_copy(size, outside=True) for size in shape_of(node))

    def after(self, node: Any) -> Axes:
        """The axes of an operation's result."""
        packet = getattr(node.target, "overloadpacket", node.target)
        rule = RULES.get(packet)
        found = rule(self, node) if rule is not None else None
        if found is None and rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            found = pointwise(self, node)
        if found is not None and [size_of(axis) for axis in found] == list(shape_of(node)):
            return found
        return self.unknown(node)

    def quiet(self, node: Any, why: str = "") -> Axes:
        return tuple(frozen_copy(size, why) for size in shape_of(node))

    def unknown(self, node: Any) -> Axes:
        why, counts = cause(node), set[int]()
        for source in node.all_input_nodes:
            axes = self.axes.get(source, ())
            pin(*axes, why=why)
            if (
                node in self.computed
                and source.op == "placeholder"
                and len(axes) > 1
                and size_of(axes[0]) not in counts
            ):
                counts.add(size_of(axes[0]))  # a recurrent layer has two weights for the same gates
                self.make(source, axes[0])  # most weights have what they produce along the first axis
        return self.quiet(node, why)

    def of(self, node: Any) -> Axes:
        return self.axes[node]

    def make(self, weight: Any, axis: Axis) -> None:
        """Count an axis as units of a layer, where a weight (not a result for these inputs) produces it."""
        if weight in self.learned and weight not in self.computed:
            for block in resolved(axis):
                block.units.made = True
                self.made.append(block.units)

    def counted(self) -> tuple[int, dict[str, int], int]:
        """How many of the units that layers produce can move, how many cannot, by cause, and how many only in blocks."""
        roots: dict[int, tuple[Units, int, bool]] = {}
        for units in self.made:
            for block in resolved((UnitBlock(units),)):
                size = max(block.size, roots[id(block.units)][1] if id(block.units) in roots else 0)
                roots[id(block.units)] = block.units, size, size > block.units.count and block.units.split
        moving, blocked, together = 0, Counter[str](), 0
        for units, size, in_blocks in roots.values():
            if units.outside or size == 1:
                continue
            if units.fixed or units.count == 1:
                blocked[units.why or "an operation across them"] += size
            else:
                moving, together = moving + size, together + size * in_blocks
        return moving, dict(blocked), together


def cause(node: Any) -> str:
    """An operation in the words of whoever wrote the network."""
    packet = getattr(node.target, "overloadpacket", node.target)
    if packet is aten.convolution:
        return f"a convolution in {node.args[8]} groups"
    if packet is aten.native_group_norm:
        return f"GroupNorm in {node.args[6]} groups"
    name = str(getattr(packet, "__name__", packet)).strip("_")
    return "a view that splits or joins them" if name in ("view", "unsafe_view", "reshape") else f"the operation {name}"


def needed(graph: fx.Graph) -> set[fx.Node]:
    """What the result depends on."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or mutates(node) or any(user in found for user in node.users):
            found.add(node)
    return found


def mutates(node: Any) -> bool:
    """Whether it changes what it is given."""
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def shape_of(node: Any) -> tuple[int, ...]:
    """Of what an operation gives; where it gives several things, of the first."""
    value = node.meta.get("val", node.meta.get("tensor_meta"))
    if isinstance(value, list | tuple) and not hasattr(value, "shape") and value:
        value = value[0]
    return tuple(int(size) for size in value.shape) if hasattr(value, "shape") else ()


def pointwise(walk: GraphWalk, node: Any) -> Axes | None:
    """Axes that lie over each other agree; one of a single number is spread, and has nothing to say."""
    shape = shape_of(node)
    sources = [walk.of(source) for source in node.all_input_nodes]
    if not all(len(axes) <= len(shape) for axes in sources):
        return None
    found = [frozen_copy(size) for size in shape]
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


def convolution(walk: GraphWalk, node: Any) -> Axes | None:
    """A weight is (out, in / groups, ...), that of a transposed one (in, out / groups, ...)."""
    image, weight, bias, *_, is_transposed, _, groups = node.args[:9]
    x, w = walk.of(image), walk.of(weight)
    if groups == 1:
        agree(w[0] if is_transposed else w[1], x[1])
        out = w[1] if is_transposed else w[0]
    elif groups == size_of(x[1]):  # each channel by itself, with the same number of results for each
        times = size_of(w[1]) if is_transposed else size_of(w[0]) // groups
        agree(w[0], x[1] if is_transposed else spread(x[1], times))
        pin(w[1])
        out = spread(x[1], times)
    else:
        pin(x[1], why=cause(node))
        pin(w[0], w[1], why=cause(node))
        out = frozen_copy(groups * size_of(w[1]), cause(node)) if is_transposed else w[0]
    pin(*x[2:], *w[2:])
    if bias is not None:
        agree(walk.of(bias)[0], out)
    walk.make(weight, out)
    return (x[0], out, *(frozen_copy(size) for size in shape_of(node)[2:]))


def spread(axis: Axis, times: int) -> Axis:
    """Each number of an axis `times` behind each other."""
    return tuple(UnitBlock(block.units, block.inner * times) for block in resolved(axis))


def normalization(walk: GraphWalk, node: Any) -> Axes:
    """BatchNorm with its own statistics: gives a tuple, of which the first counts."""
    x = walk.of(node.args[0])
    for each in node.args[1:5]:
        if isinstance(each, fx.Node):
            agree(walk.of(each)[0], x[1])
    return x


def group_norm(walk: GraphWalk, node: Any) -> Axes | None:
    """All channels alike in one group, each by itself in as many groups as there are; otherwise they stay."""
    image, weight, bias, _, channels, _, groups = node.args[:7]
    x = walk.of(image)
    for each in (weight, bias):
        if isinstance(each, fx.Node):
            agree(walk.of(each)[0], x[1])
    if groups not in (1, channels):
        pin(x[1], why=cause(node))
    return x


def layer_norm(walk: GraphWalk, node: Any) -> Axes:
    """Over the last axes: it treats all numbers alike."""
    image, over, *more = node.args[:4]
    x = walk.of(image)
    for each in more:
        if isinstance(each, fx.Node):
            for own, axis in zip(walk.of(each), x[-len(over) :], strict=True):
                agree(own, axis)
    return x


def weight_norm(walk: GraphWalk, node: Any) -> Axes:
    """A direction times a length, the latter along one axis."""
    v, g = walk.of(node.args[0]), walk.of(node.args[1])
    along = node.args[2] if len(node.args) > 2 else 0
    agree(g[along], v[along])
    return v


def first(walk: GraphWalk, node: Any) -> Axes | None:
    source, number = node.args
    if source in walk.parts:
        return walk.parts[source][number]
    return walk.of(source) if number == 0 else None


def product(walk: GraphWalk, node: Any) -> Axes | None:
    """mm(a, b), and addmm(c, a, b)."""
    a, b = (walk.of(each) for each in node.args[-2:])
    agree(a[1], b[0])
    if len(node.args) == 3:
        c = walk.of(node.args[0])
        if len(c) != 1:
            return None
        agree(c[0], b[1])
    for each, axis in ((node.args[-2], a[0]), (node.args[-1], b[1])):
        walk.make(each, axis)
    return a[0], b[1]


def turned(walk: GraphWalk, node: Any) -> Axes:
    return walk.of(node.args[0])[::-1]


def permuted_axes(walk: GraphWalk, node: Any) -> Axes:
    x = walk.of(node.args[0])
    return tuple(x[k] for k in node.args[1])


def transposed(walk: GraphWalk, node: Any) -> Axes:
    x = list(walk.of(node.args[0]))
    i, j = node.args[1:3]
    x[i], x[j] = x[j], x[i]
    return tuple(x)


def same(walk: GraphWalk, node: Any) -> Axes:
    return walk.of(node.args[0])


def over_places(walk: GraphWalk, node: Any, places: int) -> Axes:
    """Over places of images, the last axes, whatever the channel: pooling, resampling, padding."""
    x, shape = walk.of(node.args[0]), shape_of(node)
    pin(*x[-places:], why=cause(node))
    for other in node.all_input_nodes[1:]:  # such as the places at which samples are taken
        pin(*walk.of(other), why=cause(node))
    return (*x[:-places], *(frozen_copy(size) for size in shape[-places:]))


def looked_up(walk: GraphWalk, node: Any) -> Axes:
    """Rows of a table, by numbers that mean what they mean."""
    table = walk.of(node.args[0])
    pin(table[0], outside=True)
    walk.make(node.args[0], table[1])
    return (*(frozen_copy(size) for size in shape_of(node)[:-1]), table[1])


def reduced(walk: GraphWalk, node: Any, argument: int = 1) -> Axes | None:
    """Over some axes, all numbers alike: a mean, a sum, a maximum, a norm. argument: which axes."""
    x = walk.of(node.args[0])
    over = node.args[argument] if len(node.args) > argument else node.kwargs.get("dim")
    if isinstance(over, fx.Node):  # the larger of two numbers
        return pointwise(walk, node)
    if shape_of(node) == ():
        return ()
    if over is None or over == []:
        over = range(len(x))
    gone = {k % len(x) for k in ([over] if isinstance(over, int) else over)}
    kept = len(shape_of(node)) == len(x)
    return tuple(frozen_copy(1) if k in gone else axis for k, axis in enumerate(x) if kept or k not in gone)


def reshaped(walk: GraphWalk, node: Any) -> Axes | None:
    """Axes are joined, split, or single ones come and go; None where units would be torn apart."""
    x, old = list(walk.of(node.args[0])), list(shape_of(node.args[0]))
    found: list[Axis] = []
    i = 0
    for size in shape_of(node):
        if i < len(old) and old[i] == size:
            found.append(x[i])
            i += 1
            continue
        if size == 1:
            found.append(frozen_copy(1))
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


def flattened(outer: Axis, count: int, inner: Axis, size: int) -> Axis:
    """Two axes as one. Copies of the inner one lie behind each other where the outer one does not move."""
    if size == 1:
        return outer
    if is_fixed(outer) and count <= TILED:
        return inner * count
    pin(inner, why="a view that joins them with others")
    return spread(outer, size)


def split(axis: Axis, size: int) -> tuple[Axis, Axis] | None:
    """An axis as two, the first of this size: copies of a part, units with several numbers each, or what does not move."""
    blocks = resolved(axis)
    part = blocks[: len(blocks) // size]
    if part and part * size == blocks:
        return frozen_like(size, axis) if is_fixed(axis) else frozen_copy(size), part
    rest = size_of(axis) // size
    if is_fixed(axis):
        return frozen_like(size, axis), frozen_like(rest, axis)
    units = blocks[0].units
    if len(blocks) != 1 or units.count % size:
        return None
    if units.count > size:
        outer = Units(size, made=units.made, split=True)
        units.same = (UnitBlock(outer, units.count // size),)
        units = outer
    return (UnitBlock(units),), frozen_copy(rest, "a view that splits them")


def parted(walk: GraphWalk, node: Any) -> Axes | None:
    """Pieces of an axis, such as the two halves of a gated layer."""
    x, along = list(walk.of(node.args[0])), (node.args[2] if len(node.args) > 2 else 0) % len(shape_of(node.args[0]))
    sizes = [int(each.shape[along]) for each in node.meta["val"]]
    pieces = [frozen_like(size, x[along]) if is_fixed(x[along]) else fresh(size) for size in sizes]
    if not is_fixed(x[along]):
        agree(x[along], tuple(block for piece in pieces for block in piece))
    walk.parts[node] = [(*x[:along], piece, *x[along + 1 :]) for piece in pieces]
    return walk.parts[node][0]


def gated(walk: GraphWalk, node: Any) -> Axes:
    """The first half of an axis times a function of the second."""
    x, along = list(walk.of(node.args[0])), (node.args[1] if len(node.args) > 1 else -1)
    half = fresh(size_of(x[along]) // 2)
    agree(x[along], half + half)
    x[along] = half
    return tuple(x)


def shuffled(walk: GraphWalk, node: Any) -> Axes:
    """Pixel shuffle: the places of r x r channels behind each other become those of one."""
    x, r = list(walk.of(node.args[0])), node.args[1]
    channels = fresh(size_of(x[-3]) // r**2)
    agree(x[-3], spread(channels, r**2))
    pin(*x[-2:])
    return (*x[:-3], channels, *(frozen_copy(size) for size in shape_of(node)[-2:]))


def unshuffled(walk: GraphWalk, node: Any) -> Axes:
    """The inverse of a pixel shuffle."""
    x = list(walk.of(node.args[0]))
    pin(*x[-2:])
    return (*x[:-3], spread(x[-3], node.args[1] ** 2), *(frozen_copy(size) for size in shape_of(node)[-2:]))


def constant(walk: GraphWalk, node: Any) -> Axes:
    """The same number everywhere, or memory that is still to be filled."""
    return tuple(fresh(size) for size in shape_of(node))


def expanded(walk: GraphWalk, node: Any) -> Axes:
    """Axes of a single number are spread over any number of units."""
    x, shape = walk.of(node.args[0]), shape_of(node)
    own = [None] * (len(shape) - len(x)) + list(x)
    return tuple(
        axis if axis is not None and size_of(axis) == size else fresh(size)
        for axis, size in zip(own, shape, strict=True)
    )


def repeated(walk: GraphWalk, node: Any) -> Axes:
    x, times = walk.of(node.args[0]), node.args[1]
    own = [frozen_copy(1)] * (len(times) - len(x)) + list(x)
    return tuple(axis * number for axis, number in zip(own, times, strict=True))


def selected(walk: GraphWalk, node: Any) -> Axes:
    """One number of an axis."""
    x = list(walk.of(node.args[0]))
    pin(x.pop(node.args[1]), why="a part that is taken of them")
    return tuple(x)


def stacked(walk: GraphWalk, node: Any) -> Axes:
    parts = [walk.of(each) for each in node.args[0]]
    along = (node.args[1] if len(node.args) > 1 else 0) % (len(parts[0]) + 1)
    for other in parts[1:]:
        for a, b in zip(parts[0], other, strict=True):
            agree(a, b)
    return (*parts[0][:along], frozen_copy(len(parts)), *parts[0][along:])


def turned_over(walk: GraphWalk, node: Any, argument: int) -> Axes:
    """The order along some axes changes."""
    x = list(walk.of(node.args[0]))
    for k in node.args[argument] if len(node.args) > argument else range(len(x)):
        pin(x[k], why=cause(node))
        x[k] = frozen_like(size_of(x[k]), x[k])
    return tuple(x)


def joined(walk: GraphWalk, node: Any) -> Axes | None:
    parts = [walk.of(each) for each in node.args[0] if shape_of(each) != (0,)]  # an empty piece is left out
    along = node.args[1] % len(parts[0]) if len(node.args) > 1 else 0
    for other in parts[1:]:
        for k in range(len(other)):
            if k != along:
                agree(parts[0][k], other[k])
    return tuple(
        tuple(block for part in parts for block in part[k]) if k == along else axis for k, axis in enumerate(parts[0])
    )


def padded(walk: GraphWalk, node: Any) -> Axes:
    x, widths = list(walk.of(node.args[0])), node.args[1]
    for k, (before, behind) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        axis = x[-1 - k]
        if before < 0 or behind < 0:
            pin(axis, why="a part that is taken of them")
            x[-1 - k] = frozen_like(size_of(axis) + before + behind, axis)
        else:
            ends = [frozen_copy(size, "padding beside them") if size else () for size in (before, behind)]
            x[-1 - k] = (*ends[0], *axis, *ends[1])
    return tuple(x)


def cut(walk: GraphWalk, node: Any) -> Axes:
    """A part of an axis has to stay where it is, unless it is all of it."""
    x, before, behind = list(walk.of(node.args[0])), shape_of(node.args[0]), shape_of(node)
    for k, (old, new) in enumerate(zip(before, behind, strict=True)):
        if old != new:
            pin(x[k], why="a part that is taken of them")
            x[k] = frozen_like(new, x[k])
    return tuple(x)


Rule = Callable[[GraphWalk, Any], "Axes | None"]
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
    aten.t: turned,
    aten.permute: permuted_axes,
    aten.transpose: transposed,
    aten.detach: same,
    aten.clone: same,
    aten.alias: same,
    aten._to_copy: same,
    aten._softmax: same,
    aten._log_softmax: same,
    aten.embedding: looked_up,
    aten._embedding_bag: looked_up,
    aten._embedding_bag_forward_only: looked_up,
    aten.linalg_vector_norm: partial(reduced, argument=2),
    aten.expand: expanded,
    aten.repeat: repeated,
    aten.select: selected,
    aten.split: parted,
    aten.split_with_sizes: parted,
    aten.glu: gated,
    aten.stack: stacked,
    aten.flip: partial(turned_over, argument=1),
    aten.roll: partial(turned_over, argument=2),
    aten.pixel_shuffle: shuffled,
    aten.pixel_unshuffle: unshuffled,
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
ELEMENTWISE = (
    "hardswish hardswish_ prelu _prelu_kernel log_sigmoid_forward rrelu_with_noise masked_fill rsub copy_ fill_ zero_"
)
CONSTANT = "zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty"
REDUCTIONS = "mean sum amax amin max min var std logsumexp"
OVER_PLACES = {
    1: "upsample_nearest1d upsample_linear1d _upsample_nearest_exact1d reflection_pad1d replication_pad1d",
    2: "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d "
    "upsample_bicubic2d _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa reflection_pad2d "
    "replication_pad2d grid_sampler_2d",
    3: "max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d upsample_nearest3d upsample_trilinear3d "
    "_upsample_nearest_exact3d reflection_pad3d replication_pad3d grid_sampler_3d",
}
RULES |= {getattr(aten, name): pointwise for name in ELEMENTWISE.split()}  # which torch does not register as such
RULES |= {getattr(aten, name): constant for name in CONSTANT.split()}
RULES |= {getattr(aten, name): reduced for name in REDUCTIONS.split()}
for places, operations in OVER_PLACES.items():
    RULES |= {getattr(aten, name): partial(over_places, places=places) for name in operations.split()}


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
