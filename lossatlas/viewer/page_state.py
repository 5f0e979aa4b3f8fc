"""The state of a page, as its address holds it: names, kinds of values, and how a fragment is read."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from math import isfinite
from urllib.parse import parse_qsl

from lossatlas.errors import BadInput
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
    **dict.fromkeys(("azimuth", "elevation", "distance", "panx", "pany", "vmax", "x", "y"), NUMBER),
    **dict.fromkeys(("noise", "seed", "steps", "seconds", "at", "angle", "epoch", "story"), NUMBER),
    **dict.fromkeys(("lines", "wire", "overlay", "cut", "enlarged", "gl"), FLAG),
    "on": TEXTS,
    "rates": NUMBERS,
    "coefficients": NUMBERS,
}


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
            near = get_close_matches(name, [*STATE, *more], n=1)
            hint = f": did you mean {near[0]}?" if near else f"; there are {', '.join([*STATE, *more])}"
            raise BadInput(f"a page has no state '{name}'{hint}")
        if name in STATE:
            check_value(name, value, fields)
        found[name] = value
    return found


def check_value(name: str, value: str, fields: Collection[str]) -> None:
    """Check the value of one name. Raises BadInput."""
    kind = STATE[name]
    parts = value.split("~") if kind in (TEXTS, NUMBERS) and value else [value] if kind == NUMBER else []
    if kind in (NUMBER, NUMBERS) and not all(is_number(part) for part in parts):
        raise BadInput(f"{name}={value}: this is not {kind}")
    if kind == FLAG and value not in ("true", "false"):
        raise BadInput(f"{name}={value}: this is not {kind}")
    if name in WORDS and value not in WORDS[name]:
        raise BadInput(f"{name}={value}: this is not one of {', '.join(WORDS[name])}")
    if name in ("height", "colour") and value and value not in fields:
        raise BadInput(f"{name}={value}: the fields of the page are {', '.join(fields)}")
    if name == "on" and (wrong := [part for part in parts if part not in OPTIMIZERS]):
        raise BadInput(f"on={value}: there is no optimizer '{wrong[0]}', but {', '.join(OPTIMIZERS)}")


def is_number(text: str) -> bool:
    """Return whether both Python and the page's script read a text as a finite number.

    Python's `float` alone also reads 1_000 and digits of other scripts; JavaScript's `Number` alone also reads 0x10.
    """
    return DECIMAL.fullmatch(text) is not None and isfinite(float(text))
