"""The operations of a traced network, and the axes of their results."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from lossatlas.parameter_space.axis_units import (
    Axes,
    AxisUnits,
    UnitBlock,
    Units,
    axis_size,
    fixed_axis,
    pin,
    resolved_axis,
)

aten = torch.ops.aten

# From a walk, a node and its arguments to the axes of the result; None where the rule does not apply.
Rule = Callable[["GraphWalk", fx.Node, tuple[Any, ...]], "Axes | None"]


class GraphWalk:
    """The operations of a traced network in their order, with the axes of every intermediate result.

    Args:
        own: The axes of the network's tensors, in the order of the graph's first placeholders.
        rule_for: Finds the rule of an operation, None for an unknown one, see `operation_rules`.
    """

    def __init__(self, own: Sequence[Axes], rule_for: Callable[[fx.Node], Rule | None]) -> None:
        self.own, self.rule_for = list(own), rule_for
        self.axes: dict[fx.Node, Axes] = {}
        self.parts: dict[fx.Node, list[Axes]] = {}  # of operations with several results
        self.computed: set[fx.Node] = set()  # depends on the inputs
        self.learned: set[fx.Node] = set()  # depends on parameters
        self.made: list[Units] = []

    def over(self, graph: fx.Graph) -> None:
        """Unify and fix axes as every operation of a graph demands."""
        used = needed(graph)
        for node in graph.nodes:
            for depending in (self.computed, self.learned):
                if any(source in depending for source in node.all_input_nodes):
                    depending.add(node)
            if node.op == "placeholder":
                self.axes[node] = self.weight(node) if self.own else self.input_axes(node)
                if node not in used:
                    pin(*self.axes[node])
            elif node.op == "call_function" and node not in used:
                self.axes[node] = self.fixed_axes(node)  # such as the indices of maxima
            elif node.op == "call_function":
                self.axes[node] = self.result_axes(node)
            elif node.op == "output":
                for source in node.all_input_nodes:
                    pin(*self.axes[source], outside=True)
            else:
                self.axes[node] = self.fixed_axes(node, "a constant of the network's own")

    def weight(self, node: fx.Node) -> Axes:
        self.learned.add(node)
        return self.own.pop(0)

    def input_axes(self, node: fx.Node) -> Axes:
        self.computed.add(node)
        return tuple(fixed_axis(size, outside=True) for size in result_shape(node))

    def result_axes(self, node: fx.Node) -> Axes:
        """Return the axes of an operation's result."""
        rule = self.rule_for(node)
        found = rule(self, node, node.args) if rule is not None else None
        if found is not None and [axis_size(axis) for axis in found] == list(result_shape(node)):
            return found
        return self.unknown(node)

    def fixed_axes(self, node: fx.Node, why: str = "") -> Axes:
        """Return fixed axes for an operation's result."""
        return tuple(fixed_axis(size, why) for size in result_shape(node))

    def unknown(self, node: fx.Node) -> Axes:
        """Fix the axes of everything that an operation without a rule takes."""
        why, counts = cause(node), set[int]()
        for source in node.all_input_nodes:
            axes = self.axes.get(source, ())
            pin(*axes, why=why)
            if (
                node in self.computed
                and source.op == "placeholder"
                and len(axes) > 1
                and axis_size(axes[0]) not in counts
            ):
                counts.add(axis_size(axes[0]))  # a recurrent layer has two weights for the same gates
                self.make(source, axes[0])  # most weights have what they produce along the first axis
        return self.fixed_axes(node, why)

    def of(self, node: fx.Node) -> Axes:
        return self.axes[node]

    def make(self, weight: fx.Node, axis: AxisUnits) -> None:
        """Count an axis as units of a layer, where a weight (not a result for these inputs) produces it."""
        if weight in self.learned and weight not in self.computed:
            for block in resolved_axis(axis):
                block.units.made = True
                self.made.append(block.units)

    def counted(self) -> tuple[int, dict[str, int], int]:
        """Count the units of layers: permutable ones, others by cause, and those that are permuted in blocks only."""
        roots: dict[int, tuple[Units, int, bool]] = {}
        for units in self.made:
            for block in resolved_axis((UnitBlock(units),)):
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


def cause(node: fx.Node) -> str:
    """Name an operation in the terms of the network's code."""
    packet = getattr(node.target, "overloadpacket", node.target)
    if packet is aten.convolution:
        return f"a convolution in {node.args[8]} groups"
    if packet is aten.native_group_norm:
        return f"GroupNorm in {node.args[6]} groups"
    name = str(getattr(packet, "__name__", packet)).strip("_")
    return "a view that splits or joins them" if name in ("view", "unsafe_view", "reshape") else f"the operation {name}"


def needed(graph: fx.Graph) -> set[fx.Node]:
    """Find the nodes that the result depends on."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or mutates(node) or any(user in found for user in node.users):
            found.add(node)
    return found


def mutates(node: fx.Node) -> bool:
    """Test whether an operation changes one of its arguments."""
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def result_shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of an operation's result, of the first where it has several."""
    value: Any = node.meta.get("val", node.meta.get("tensor_meta"))
    if isinstance(value, list | tuple) and not hasattr(value, "shape") and value:
        value = value[0]
    return tuple(int(size) for size in value.shape) if hasattr(value, "shape") else ()
