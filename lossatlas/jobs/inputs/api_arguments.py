"""Checks of the arguments of Python functions, each against the definition of the option of the same name."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np

from lossatlas.choices import DirType
from lossatlas.config.option_fields import definitions
from lossatlas.errors import BadUsage, named, note
from lossatlas.landscape import Grid, Tolerance
from lossatlas.landscape.grid import MAX_CELLS, read_range

AxisLike = str | Sequence[float] | np.ndarray
FEW_COORDINATES = 3  # given one by one, which may be meant as min, max, num


def check_values(options: type, **values: object) -> None:
    """Check arguments by the options of the same names.

    Args:
        options: The dataclass of the options.
        values: The arguments by name; None, and several patterns, are checked one by one.

    Raises:
        BadUsage: An argument has a value that its option does not allow.
    """
    known = {each.field: each for each in definitions(options)}
    for name, value in values.items():
        each = known[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is None:
                continue
            try:
                each.kind(str(one))
            except ValueError as error:
                raise BadUsage(f"{named(name)}: {error}") from error


def numbers_given(name: str, numbers: Sequence[float]) -> tuple[float, ...]:
    """Return a list of numbers, which is not empty by mistake: a single number is refused.

    Raises:
        BadUsage: It is no list.
    """
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise BadUsage(f"{named(name, numbers)}: give a list of numbers, such as [0.1, 0.2]")
    return tuple(numbers)


def check_settings(settings: object) -> None:
    """Check all numbers and patterns of settings that are a dataclass of options.

    Raises:
        BadUsage: As `check_values`.
    """
    numbers = {
        each.name: getattr(settings, each.name)
        for each in fields(settings)  # type: ignore[arg-type]  # it is a dataclass
        if not isinstance(getattr(settings, each.name), str | bool)
    }
    check_values(type(settings), **numbers)


def grid_of(x: AxisLike, y: AxisLike | None, z: AxisLike | None = None) -> Grid:
    """Return the grid of one, two or three axes.

    Args:
        x: The first axis, as 'min:max:num' or as coordinates.
        y: The second axis; None for a line.
        z: The third axis; None for a line or a plane.

    Raises:
        BadUsage: A range is malformed, coordinates are not finite or do not increase, there are too many cells, or
            there is a third axis and no second.
    """
    if z is not None and y is None:
        raise BadUsage(f"{named('z')}: a third axis needs a second one: give {named('y')} too")

    def axis(name: str, coordinates: AxisLike) -> np.ndarray:
        if isinstance(coordinates, str):
            return np.linspace(*read_range(name, coordinates))
        try:
            values = np.asarray(coordinates, np.float64)
        except (TypeError, ValueError) as error:
            raise BadUsage(f"{name}: give 'min:max:num', or increasing finite coordinates") from error
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise BadUsage(f"{name}: give 'min:max:num', or increasing finite coordinates")
        if is_like_range(values):
            low, high, count = values
            note(
                f"{name}={tuple(values.tolist())} are the coordinates {low:g}, {high:g} and {count:g}; "
                f"{name}='{low:g}:{high:g}:{count:g}' means {count:g} points from {low:g} to {high:g}"
            )
        return values

    axes = [axis(name, each) for name, each in (("x", x), ("y", y), ("z", z)) if each is not None]
    if (cells := math.prod(map(len, axes))) > MAX_CELLS:
        raise BadUsage(f"{cells:.3g} cells are more than ten million: give fewer coordinates")
    return Grid(*axes)


def is_like_range(values: np.ndarray) -> bool:
    """Return whether three coordinates look like min, max and a number of points: -1, 1, 21."""
    if len(values) != FEW_COORDINATES:
        return False
    low, high, count = values.tolist()
    even = math.isclose(high - low, count - high)  # as in 0, 5, 10
    return count.is_integer() and count >= FEW_COORDINATES and (low < 0 < high < count or (low == 0 and not even))


def dir_type_of(dir_type: DirType | None, *, states_differ: bool) -> DirType:
    """Return the kind of tensors that move: by default 'states' where BatchNorm statistics differ, which is noted."""
    if dir_type is None and states_differ:
        note(f"the networks differ in BatchNorm statistics, so these are moved too: {named('dir_type', 'states')}")
    return dir_type or ("states" if states_differ else "weights")


def tolerance_of(value: float | tuple[float, float] | None, option: str = "tolerance") -> Tolerance:
    """Return a tolerance.

    Args:
        value: REL or (REL, ABS); None for the tolerance that asks for all samples.
        option: The name of the argument.

    Raises:
        BadUsage: As `Tolerance.parse`.
    """
    if value is None:
        return Tolerance()
    numbers = value if isinstance(value, tuple | list) else (value,)
    return Tolerance.parse(",".join(str(number) for number in numbers), option)
