"""Axes of tensors as sequences of units, which are unified step by step (union-find over the parts of axes)."""

from dataclasses import dataclass

UNLIKE = "axes whose parts do not fit together"


@dataclass(eq=False)
class Units:
    """Units that are numbered together: hidden units, channels, features.

    Attributes:
        count: Their number.
        fixed: They cannot be permuted.
        why: The operation that prevents it, '' for none.
        outside: They are inputs or outputs of the network.
        made: A layer's weights produce them.
        split: Each stands for several numbers, because a view splits their axis.
        same: The axis that they were unified with, None for none.
    """

    count: int
    fixed: bool = False
    why: str = ""
    outside: bool = False
    made: bool = False
    split: bool = False
    same: "AxisUnits | None" = None


@dataclass(frozen=True)
class UnitBlock:
    """A part of an axis: for each unit `inner` consecutive numbers."""

    units: Units
    inner: int = 1

    @property
    def size(self) -> int:
        return self.units.count * self.inner


AxisUnits = tuple[UnitBlock, ...]
Axes = tuple[AxisUnits, ...]


def fresh(size: int) -> AxisUnits:
    """Make an axis of new units."""
    return (UnitBlock(Units(size)),)


def fixed_axis(size: int, why: str = "", *, outside: bool = False) -> AxisUnits:
    """Make an axis of fixed units.

    Args:
        size: The number of units.
        why: The operation that fixes them.
        outside: They are inputs or outputs of the network.
    """
    return (UnitBlock(Units(size, fixed=True, why=why, outside=outside)),)


def fixed_axis_like(size: int, axis: AxisUnits) -> AxisUnits:
    """Make an axis of fixed units for a part of a fixed axis, with its cause."""
    units = [block.units for block in resolved_axis(axis)]
    return fixed_axis(
        size, next((each.why for each in units if each.why), ""), outside=any(each.outside for each in units)
    )


def is_fixed(axis: AxisUnits) -> bool:
    return all(block.units.fixed for block in resolved_axis(axis))


def axis_size(axis: AxisUnits) -> int:
    return sum(block.size for block in axis)


def resolved_axis(axis: AxisUnits) -> AxisUnits:
    """Replace units that were unified with an axis by that axis."""
    found: list[UnitBlock] = []
    for block in axis:
        if block.units.same is None:
            found.append(block)
        else:
            found += [UnitBlock(b.units, b.inner * block.inner) for b in resolved_axis(block.units.same)]
    return tuple(found)


def pin(*axes: AxisUnits, why: str = "", outside: bool = False) -> None:
    """Fix the units of axes.

    Args:
        *axes: The axes.
        why: The operation that prevents permutations.
        outside: They are inputs or outputs.
    """
    for axis in axes:
        for block in resolved_axis(axis):
            block.units.fixed = True
            block.units.why = block.units.why or why
            block.units.outside |= outside


def agree(a: AxisUnits, b: AxisUnits) -> None:
    """Unify two axes, so that they are permuted together; where their parts do not match, fix both."""
    a, b = resolved_axis(a), resolved_axis(b)
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
        agree((UnitBlock(x.units),), (UnitBlock(y.units),))  # resolves the units that earlier pairs have unified


def spread(axis: AxisUnits, times: int) -> AxisUnits:
    """Repeat each number of an axis `times` times in place."""
    return tuple(UnitBlock(block.units, block.inner * times) for block in resolved_axis(axis))
