"""The state of a page, as its address holds it: names, kinds of values, and how a fragment is read."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from urllib.parse import parse_qsl

from lossatlas.errors import BadInput, did_you_mean
from lossatlas.viewer.content import MAPS, OVERLAY_MAPS

TEXT, NUMBER, FLAG, TEXTS, NUMBERS = "a text", "a number", "true or false", "names joined by ~", "numbers joined by ~"
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "nadam", "sam")
WORDS = {  # the values of names whose text is one of a few words, as `repair` in static/model.js accepts them
    "scale": ("linear", "log", "soft"),
    "map": (*MAPS, *OVERLAY_MAPS),
    "objective": ("loss", "log"),
    "theme": ("auto", "light", "dark"),
}
DECIMAL = re.compile(r"[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
STATE = {  # as `usualState` in static/model.js
    **dict.fromkeys(("height", "scale", "colour", "map", "objective", "theme"), TEXT),
    **dict.fromkeys(("azimuth", "elevation", "distance", "panx", "pany", "vmax", "x", "y", "z"), NUMBER),
    **dict.fromkeys(("noise", "seed", "steps", "seconds", "at", "angle", "epoch", "story"), NUMBER),
    **dict.fromkeys(("lines", "wire", "overlay", "cut", "enlarged", "gl"), FLAG),
    "on": TEXTS,
    "rates": NUMBERS,
    "coefficients": NUMBERS,
}
Range = tuple[float, float]
RANGES: dict[str, Range] = {  # as `repairView`, `repairRace` and the controls of the page take them
    "azimuth": (-360, 360),
    "elevation": (-10, 89),
    "distance": (2.5, 12),
    "panx": (-1, 1),
    "pany": (-1, 1),
    "noise": (0, 1e6),
    "seed": (0, 2**32 - 1),
    "steps": (1, 5000),
    "seconds": (0.5, 600),
    "at": (0, 5000),
    "angle": (-90, 90),
    "rates": (0, inf),
    "coefficients": (0, inf),
}
ROUNDED = 1e-6  # of a range of coordinates: an address has seven digits
USUAL_STEPS = 300  # as `usualState` in static/model.js


@dataclass(frozen=True)
class Limits:
    """The numbers that the state of one page can have.

    Attributes:
        ranges: Of the numbers whose range depends on the page, by name.
        lowest: Lowest value of each field, above which the top of its scale lies.
        first: The field that is the height until another one is chosen.
        planes: Values of z: the planes of a volume, 0 alone where there is none; empty to accept all.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    lowest: Mapping[str, float] = field(default_factory=dict)
    first: str = ""
    planes: tuple[float, ...] = ()


def check_numbers(state: Mapping[str, str], limits: Limits) -> None:
    """Check that each number lies within its range.

    Args:
        state: Values by name, of the right kinds; see `read_fragment`.
        limits: Of the page.

    Raises:
        BadInput: A number lies outside, or z is that of no plane.

    Example:
        >>> check_numbers({"elevation": "30"}, Limits())
    """
    ranges = RANGES | dict(limits.ranges)
    for name in (name for name in state if name in ranges):
        low, high = ranges[name]
        slack = ROUNDED * (high - low) if name in limits.ranges else 0
        if not all(low - slack <= float(part) <= high + slack for part in state[name].split("~") if part):
            where = f"lie between {low:.10g} and {high:.10g}" if high < inf else f"be at least {low:g}"
            raise BadInput(f"{name}={state[name]}: this has to {where}")
    if "z" in state and limits.planes:
        check_named_plane(state["z"], limits.planes)


def check_named_plane(text: str, planes: Sequence[float]) -> None:
    """Check that a volume has a plane at a coordinate.

    Raises:
        BadInput: It has none, or there is no volume.
    """
    z = float(text)
    nearest = min(planes, key=lambda plane: abs(plane - z))
    if abs(nearest - z) <= ROUNDED * max(abs(nearest), planes[-1] - planes[0]):
        return
    if len(planes) == 1:
        raise BadInput(f"z={text}: this page shows no volume, and has no z")
    raise BadInput(f"z={text}: the volume has no plane there; the nearest one is z={nearest:.7g}")


def misfit(state: Mapping[str, str], limits: Limits) -> tuple[str, str] | None:
    """Find a number that does not fit to the others of a whole state.

    Args:
        state: Values by name, which `check_numbers` takes.
        limits: Of the page.

    Returns:
        Its name and what is wrong; None if all fit.

    Example:
        >>> misfit({"steps": "100", "at": "200"}, Limits())
        ('at', 'at=200: there are 100 steps')
    """
    height, steps = state.get("height") or limits.first, float(state.get("steps", USUAL_STEPS))
    top, lowest = float(state.get("vmax", "0")), limits.lowest.get(height, -inf)
    if top != 0 and not top > lowest:  # 0 is the usual top
        return "vmax", f"vmax={state['vmax']}: this has to lie above the lowest value of {height}, {lowest:.6g}"
    if float(state.get("at", "0")) > steps:
        return "at", f"at={state['at']}: there are {steps:g} steps"
    return None


def read_fragment(text: str, fields: Collection[str], more: Collection[str] = ()) -> dict[str, str]:
    """Read a fragment, or the address of a page with its fragment.

    Args:
        text: As "azimuth=-60&scale=log"; what stands before a `#` is left out.
        fields: Names of the page's fields, of which one is the height.
        more: Further names that may have a value.

    Returns:
        Values by name, as texts.

    Raises:
        BadInput: A name or a value is unknown.

    Example:
        >>> read_fragment("file:///page.html#azimuth=-60&on=sgd~adam", ["train_loss"])
        {'azimuth': '-60', 'on': 'sgd~adam'}
    """
    found = {}
    for part in filter(None, text.rpartition("#")[2].strip().split("&")):
        pairs = parse_qsl(part, keep_blank_values=True)
        if len(pairs) != 1 or "=" not in part:
            raise BadInput(f"'{part}' is no state: write NAME=VALUE, or what the page's address holds after its #")
        name, value = pairs[0]
        if name not in STATE and name not in more:
            names = [*STATE, *more]
            hint = did_you_mean(name, names) or f": there are {', '.join(names)}"
            raise BadInput(f"a page has no state '{name}'{hint}")
        if name in STATE:
            check_value(name, value, fields)
        found[name] = value
    return found


def check_value(name: str, value: str, fields: Collection[str]) -> None:
    """Check the value of one name.

    Raises:
        BadInput: The name cannot have this value.
    """
    kind = STATE[name]
    parts = value.split("~") if kind in (TEXTS, NUMBERS) and value else [value] if kind == NUMBER else []
    if kind in (NUMBER, NUMBERS) and not all(is_number_text(part) for part in parts):
        raise BadInput(f"{name}={value}: this is not {kind}")
    if kind == FLAG and value not in ("true", "false"):
        raise BadInput(f"{name}={value}: this is not {kind}")
    if name in WORDS and value not in WORDS[name]:
        raise BadInput(f"{name}={value}: this is not one of {', '.join(WORDS[name])}")
    if name in ("height", "colour") and value and value not in fields:
        raise BadInput(f"{name}={value}: the fields of the page are {', '.join(fields)}")
    if name == "on" and (wrong := [part for part in parts if part not in OPTIMIZERS]):
        raise BadInput(f"on={value}: there is no optimizer '{wrong[0]}', but {', '.join(OPTIMIZERS)}")


def is_number_text(text: str) -> bool:
    """Return whether both Python and the page's script read a text as a finite number.

    Python's `float` alone also reads 1_000 and digits of other scripts; JavaScript's `Number` alone also reads 0x10.
    """
    return DECIMAL.fullmatch(text) is not None and isfinite(float(text))
