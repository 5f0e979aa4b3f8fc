"""The parameters that move, chosen by their names."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lossatlas.errors import BadUsage, note
from lossatlas.parameter_space.points import Point, named_tensors


def patterns_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return regular expressions as a tuple; a single text is one."""
    return (given,) if isinstance(given, str) else tuple(given)


class Selection:
    """A choice of tensors: those with one of the patterns `only` in their name, and none of `without`.

    Args:
        only: Regular expressions (re.search), or a single one; by default all tensors.
        without: Regular expressions of tensors to leave out.
        net: A network whose tied tensors, which have several names, match under any of them.

    Example:
        >>> selection = Selection(only=["weight"], without="^0")
        >>> [name for name in ("0.weight", "1.weight", "1.bias") if name in selection]
        ['1.weight']
    """

    def __init__(
        self, only: str | Iterable[str] = (), without: str | Iterable[str] = (), net: nn.Module | None = None
    ) -> None:
        self.only, self.without = patterns_of(only), patterns_of(without)
        self.tied = {} if net is None else names_of(net)

    def __contains__(self, name: str) -> bool:
        names = self.tied.get(name, (name,))
        wanted = not self.only or any(re.search(pattern, each) for pattern in self.only for each in names)
        return wanted and not any(re.search(pattern, each) for pattern in self.without for each in names)

    def __bool__(self) -> bool:
        return bool(self.only or self.without)

    def __str__(self) -> str:
        """Describe the selection for records: '' for all tensors."""
        words = ("only", self.only), ("except", self.without)
        return ", ".join(f"{word} {' '.join(patterns)}" for word, patterns in words if patterns)

    def within_net(self, net: nn.Module) -> "Selection":
        """Return the same selection with the further names of a network's tied tensors."""
        return Selection(self.only, self.without, net)

    def of(self, names: Iterable[str]) -> list[str]:
        """Select among names, and note patterns that match none.

        Raises:
            BadUsage: No name is selected.
        """
        every = list(names)
        for pattern in (*self.only, *self.without):
            if not any(re.search(pattern, each) for name in every for each in self.tied.get(name, (name,))):
                note(f"no tensor is called like {pattern}")
        if chosen := [name for name in every if name in self]:
            return chosen
        raise BadUsage(f"no tensor is left by '{self}': there are {', '.join(every[:8])}{', ...' * (len(every) > 8)}")

    def within(self, direction: Mapping[str, Tensor]) -> Point:
        """Set a direction to zero in all tensors that are not selected."""
        return {name: d if name in self else torch.zeros_like(d) for name, d in direction.items()}


def names_of(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """List all names of each parameter and buffer, by each of them."""
    found: dict[int, list[str]] = {}
    every = named_tensors(net, every_name=True)
    for name, value in every.items():
        found.setdefault(id(value), []).append(name)
    return {name: tuple(found[id(value)]) for name, value in every.items()}


EVERYTHING = Selection()
